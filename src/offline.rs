//! Owns a game's world without a match: the plugin that stands in for a session's, the set-up of an
//! episode, and the [`Driver`] that runs `bevy_ggrs`'s schedules by hand. Never reads a file, and
//! never decides which inputs are played.

use std::marker::PhantomData;

use bevy::prelude::*;
use bevy_ggrs::{GgrsPlugin, RollbackFrameRate};
use ggrs::{Config, PlayerHandle};

use crate::clock::LabClock;
use crate::metrics::InputTiming;
use crate::rollback::EpisodeRecord;

mod driver;

pub use driver::Driver;

/// What a game's systems expect of a lab session, without one: ggrs's schedules, the rolled-back
/// `Episode`, [`EpisodeRecord`], [`InputTiming`]. It opens no network and writes no file.
///
/// Replays and forced rollbacks add it by themselves. Add it by hand, before the game's own
/// plugins, where these read the world while they are built.
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

/// How an episode begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpisodeSetup {
    /// Id of the lab session that it belonged to.
    pub session_id: String,
    /// Number of the episode, from 0.
    pub number: u32,
    /// Its seed. Without one the game sets its world up itself when the app starts, as an observed
    /// game does, and no event is triggered.
    pub seed: Option<u64>,
    /// Number of players.
    pub players: usize,
    /// Handle of the local player.
    pub local_player: PlayerHandle,
    /// Game frames per second.
    pub fps: u32,
    /// Whether rolled-back entities that are there are despawned first, as between two episodes.
    pub clear: bool,
}

/// Prepares an app that never ran: its plugins are completed and its start-up systems run.
pub(crate) fn start_app<C: Config>(app: &mut App) {
    if !app.is_plugin_added::<OfflinePlugin<C>>() {
        app.add_plugins(OfflinePlugin::<C>::default());
    }
    app.finish();
    app.cleanup();
    app.update();
}

/// Sets the world up for an episode as a match does, and triggers `EpisodeStarting`.
pub fn start_episode(world: &mut World, setup: &EpisodeSetup) {
    // ggrs takes no session without frames per second.
    world.insert_resource(RollbackFrameRate(setup.fps.max(1) as usize));
    #[cfg(feature = "matchbox")]
    lab::start(world, setup);
    world.flush();
}

#[cfg(feature = "matchbox")]
mod lab {
    use super::*;

    use bevy::state::app::StatesPlugin;
    use bevy_matchbox::matchbox_socket::PeerId;
    use uuid::Uuid;

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
            // Nobody is there; the handles are.
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
