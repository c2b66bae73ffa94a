//! A game's world without a session, for replays and proofs: [`OfflinePlugin`] brings the resources and
//! schedules that a game's systems expect, and a driver runs `bevy_ggrs`'s schedules by hand.

use std::marker::PhantomData;

use bevy::prelude::*;
use bevy_ggrs::{GgrsPlugin, RollbackFrameRate};
use ggrs::{Config, PlayerHandle};

use crate::clock::LabClock;
use crate::metrics::InputTiming;
use crate::rollback::EpisodeRecord;

pub(crate) mod driver;

pub(crate) use driver::Driver;

/// Provides what a game's systems expect of a lab session, without a network and without files:
/// ggrs's schedules, the rolled-back `Episode`, [`EpisodeRecord`], [`InputTiming`].
///
/// [`ReplayPlugin`](crate::replay::ReplayPlugin), [`replay::check`](crate::replay::check) and
/// [`ForcedRollbacks`](crate::proof::ForcedRollbacks) add it. Add it yourself, before the game's own
/// plugins, if those need these resources while they are built.
///
/// ```
/// use bevy::prelude::*;
/// use bevy_rollback_lab::bevy_ggrs::GgrsConfig;
/// use bevy_rollback_lab::offline::OfflinePlugin;
///
/// let mut app = App::new();
/// app.add_plugins((MinimalPlugins, OfflinePlugin::<GgrsConfig<u8>>::default()));
/// ```
pub struct OfflinePlugin<C>(PhantomData<fn() -> C>);

impl<C> Default for OfflinePlugin<C> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<C: Config> Plugin for OfflinePlugin<C> {
    fn build(&self, app: &mut App) {
        if !app.is_plugin_added::<GgrsPlugin<C>>() {
            app.add_plugins(GgrsPlugin::<C>::default());
        }
        app.init_resource::<LabClock>()
            .init_resource::<EpisodeRecord>()
            .init_resource::<InputTiming>();
        #[cfg(feature = "matchbox")]
        lab::build(app);
    }
}

/// How an episode without a session begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EpisodeSetup {
    /// Id of the lab session that it belonged to.
    pub(crate) session_id: String,
    /// Number of the episode, from 0.
    pub(crate) number: u32,
    /// Its seed. `None` for a game that spawns its world when the app starts, as an observed game
    /// does: then no event is triggered.
    pub(crate) seed: Option<u64>,
    /// Number of players.
    pub(crate) players: usize,
    /// Handle of the local player.
    pub(crate) local_player: PlayerHandle,
    /// Game frames per second.
    pub(crate) fps: u32,
    /// Whether existing rolled-back entities are despawned first, as between two episodes.
    pub(crate) clear: bool,
}

/// Prepares an app that has not run: completes its plugins and runs its start-up systems.
pub(crate) fn start_app<C: Config>(app: &mut App) {
    if !app.is_plugin_added::<OfflinePlugin<C>>() {
        app.add_plugins(OfflinePlugin::<C>::default());
    }
    app.finish();
    app.cleanup();
    app.update();
}

/// Sets the world up for an episode as a match does, and triggers `EpisodeStarting`.
pub(crate) fn start_episode(world: &mut World, setup: &EpisodeSetup) {
    // ggrs refuses a session with 0 frames per second.
    world.insert_resource(RollbackFrameRate(setup.fps.max(1) as usize));
    #[cfg(feature = "matchbox")]
    lab::start(world, setup);
    world.flush();
}

#[cfg(feature = "matchbox")]
mod lab {
    use bevy::prelude::*;
    use bevy::state::app::StatesPlugin;
    use bevy_matchbox::matchbox_socket::PeerId;
    use ggrs::PlayerHandle;
    use uuid::Uuid;

    use super::EpisodeSetup;
    use crate::session::{
        self, Episode, EpisodeStarting, EpisodeStopped, PeerNotice, PlayerSlot, RouteChanged,
        SessionInfo, SessionPhase,
    };

    pub(super) fn build(app: &mut App) {
        if app.world().contains_resource::<Episode>() {
            return;
        }
        session::build_episode(app);
        app.add_message::<EpisodeStopped>()
            .add_message::<RouteChanged>()
            .add_message::<PeerNotice>();
        if app.is_plugin_added::<StatesPlugin>() {
            app.insert_state(SessionPhase::Playing);
        }
    }

    pub(super) fn start(world: &mut World, setup: &EpisodeSetup) {
        let Some(seed) = setup.seed else {
            return;
        };
        if setup.clear {
            session::reset_episode(world, setup.number, seed);
        } else {
            session::begin_episode(world, setup.number, seed);
        }
        let player_slot = |handle: PlayerHandle| PlayerSlot {
            handle,
            // There is no peer behind the handle: any distinct id will do.
            peer: PeerId(Uuid::from_u128(handle as u128)),
            local: handle == setup.local_player,
        };
        world.insert_resource(SessionInfo {
            session_id: setup.session_id.clone(),
            local_player: setup.local_player,
            player_slots: (0..setup.players).map(player_slot).collect(),
            relay: false,
        });
        world.trigger(EpisodeStarting {
            number: setup.number,
            seed,
            players: setup.players,
            local_player: setup.local_player,
        });
    }
}
