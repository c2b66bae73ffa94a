//! The observation of a `bevy_ggrs` session from outside: systems in the rollback schedules that mark
//! what ggrs makes the world do, and systems after them that turn the marks into messages. The former
//! write [`TraceLog`], name the simulated frame to the game's [`EpisodeRecord`], and change nothing
//! else; nothing here runs in `GgrsSchedule`, and no message is written inside a rollback schedule.

use std::marker::PhantomData;

use bevy::prelude::*;
use bevy_ggrs::ggrs::Config;
use bevy_ggrs::{
    AdvanceWorld, AdvanceWorldSystems, LoadWorld, LoadWorldSystems, ReadInputs, RunGgrsSystems,
    SaveWorld, SaveWorldSystems,
};

use rollback_lab_link::cause;

use crate::clock::LabClock;

mod drain;
mod episode_record;
pub(crate) mod log;
mod messages;
mod observe;
pub(crate) mod trace;

pub use episode_record::EpisodeRecord;
pub(crate) use episode_record::EventNote;
pub(crate) use log::TraceLog;
pub use messages::{
    CauseRevised, DesyncDetected, RollbackCompleted, RollbackReloaded, SessionEvent,
    SessionEventKind, StallEnded,
};
pub use trace::{Misprediction, SessionKind};

/// Order your own systems against the lab's: they run in this order in [`PreUpdate`] after ggrs's
/// steps, and once more in [`Last`] of the update in which the app exits.
#[derive(SystemSet, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RollbackLabSystems {
    /// Turns what ggrs did into messages. Runs in [`PreUpdate`] and [`Last`].
    Observe,
    /// Starts and ends sessions and episodes. Runs in [`PreUpdate`] and [`Last`].
    Session,
    /// Folds the messages into metrics. Runs in [`PreUpdate`] and [`Last`].
    Measure,
    /// Writes what is finished. Runs in [`PreUpdate`] and [`Last`].
    Record,
}

/// What is known of each player's link, by handle: the evidence behind the causes of rollbacks. Empty
/// for a session without the lab's transport.
#[derive(Resource, Clone, Debug, Default, Deref, DerefMut)]
pub struct Links(pub cause::LinkEvidence);

/// Observes any `bevy_ggrs` session of this config, and changes nothing about it.
///
/// Sessions of every kind are observed, and every message says which kind it is about
/// ([`SessionKind`]): a sync test reloads in every frame and a spectator never does, and neither
/// has a rollback. An episode is the life of the `Session` resource, unless a lab session delimits it.
/// `session.events()` is left to the game, unless [`read_events`](Self::read_events) says otherwise.
pub struct ObservePlugin<C: Config> {
    read_events: bool,
    config: PhantomData<C>,
}

impl<C: Config> Default for ObservePlugin<C> {
    fn default() -> Self {
        Self {
            read_events: false,
            config: PhantomData,
        }
    }
}

impl<C: Config> ObservePlugin<C> {
    /// Drains `session.events()` in every update and writes them as [`SessionEvent`] messages, for an
    /// app in which nothing else reads them.
    #[must_use]
    pub fn read_events(mut self) -> Self {
        self.read_events = true;
        self
    }
}

impl<C: Config> Plugin for ObservePlugin<C> {
    /// A second one is refused by [`build`](Self::build), which says what to remove.
    fn is_unique(&self) -> bool {
        false
    }

    fn build(&self, app: &mut App) {
        assert!(
            !app.is_plugin_added::<Self>(),
            "this app has the observers already: RollbackLabPlugins brings them, and \
             RollbackObserverPlugins is for a game without it; add one of the two, once"
        );
        app.init_resource::<LabClock>()
            .init_resource::<Links>()
            .init_resource::<TraceLog<C>>()
            .add_message::<trace::Fact<C::Input>>()
            .add_message::<RollbackCompleted<C::Input>>()
            .add_message::<CauseRevised>()
            .add_message::<RollbackReloaded>()
            .add_message::<StallEnded>()
            .add_message::<DesyncDetected>()
            .add_message::<SessionEvent>();

        let clock = app.world().resource::<LabClock>().clone();
        let mut log = app.world_mut().resource_mut::<TraceLog<C>>();
        log.follow(&clock);
        if self.read_events {
            log.read_events();
        }
        // The app may bring another one until it starts.
        app.add_systems(PreStartup, observe::follow_clock::<C>)
            .add_systems(ReadInputs, observe::tick::<C>)
            .add_systems(
                LoadWorld,
                observe::load::<C>.before(LoadWorldSystems::EntityResurrect),
            )
            .add_systems(
                AdvanceWorld,
                (
                    observe::advance_begin::<C>.in_set(AdvanceWorldSystems::First),
                    observe::advance_end::<C>.in_set(AdvanceWorldSystems::Last),
                ),
            )
            .add_systems(
                SaveWorld,
                observe::saved::<C>.after(SaveWorldSystems::Snapshot),
            );

        let order = (
            RollbackLabSystems::Observe,
            RollbackLabSystems::Session,
            RollbackLabSystems::Measure,
            RollbackLabSystems::Record,
        );
        app.configure_sets(PreUpdate, order.chain().after(RunGgrsSystems))
            // One condition for all: it is looked at in every update.
            .configure_sets(Last, order.chain().run_if(on_message::<AppExit>))
            .add_systems(
                PreUpdate,
                drain::report_steps::<C>.in_set(RollbackLabSystems::Observe),
            )
            .add_systems(
                Last,
                drain::report_exit::<C>.in_set(RollbackLabSystems::Observe),
            );
    }
}
