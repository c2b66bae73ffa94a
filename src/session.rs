//! Owns the lab session: who is in it, which phase it is in, and the ggrs session of the running
//! episode. It knows peers and episodes, and never a path or a pixel.

mod depth;
mod driver;
mod episode;
mod error;
mod evidence;
mod focus;
mod input;
mod lab_room;
mod lobby;
mod margin;
mod room;
mod routes;

use std::marker::PhantomData;
use std::time::Duration;

use bevy::prelude::*;
use bevy_ggrs::RunGgrsSystems;
use bevy_matchbox::matchbox_socket::PeerId;
use ggrs::{Config, Frame, PlayerHandle};

pub use self::driver::LabSession;
pub use self::episode::{Episode, EpisodeApp, FRAME_LIMIT};
pub(crate) use self::episode::{
    begin as begin_episode, plugin as build_episode, reset as reset_episode,
};
pub use self::error::{SessionError, StartError};
pub use self::focus::{Focus, FocusChanged, SetHidden};
pub(crate) use self::lab_room::RoomsExpected;
pub use self::lab_room::{LabRoom, LabSocketPlugin};
pub use self::lobby::PlayerSlot;
use crate::clock::LabClock;
use crate::rollback::RollbackLabSystems;
use crate::transport::LabNet;
use rollback_lab_link::route::RouteChange;

/// Where a lab session stands.
#[derive(States, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SessionPhase {
    /// Waiting for the server's answer.
    #[default]
    Connecting,
    /// In the room, waiting for the other players.
    Gathering,
    /// Everybody is named; paths open and settings are compared.
    Meeting,
    /// Between episodes, before the first one too.
    Between,
    /// Ready for the next episode, waiting until everybody is.
    Starting,
    /// An episode runs.
    Playing,
    /// The episode is over here; its packets flow until it is over everywhere.
    Ending,
    /// All episodes are done.
    Finished,
    /// The session failed; [`SessionFailed`] says why.
    Failed,
}

impl SessionPhase {
    /// The name in the session document.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Gathering => "gathering",
            Self::Meeting => "meeting",
            Self::Between => "between",
            Self::Starting => "starting",
            Self::Playing => "playing",
            Self::Ending => "ending",
            Self::Finished => "finished",
            Self::Failed => "failed",
        }
    }
}

/// What the session needs of the configuration.
#[derive(Resource, Clone, Debug)]
pub struct SessionSettings {
    /// Name of the room.
    pub room: String,
    /// Number of players.
    pub players: usize,
    /// Game frames per second.
    pub fps: u32,
    /// Input delay in frames.
    pub input_delay: u32,
    /// Prediction window in frames.
    pub max_prediction: u32,
    /// Frames between compared checksums.
    pub desync_interval: u32,
    /// Frame at which an episode ends at the latest.
    pub frame_limit: Option<u32>,
    /// Episodes of the session.
    pub episodes: Option<u32>,
    /// Whether episodes start by themselves.
    pub auto_start: bool,
    /// Seed of the first episode.
    pub seed: Option<u64>,
    /// How long to wait for the other players.
    pub wait_timeout: Duration,
    /// What this peer says to the others; they must say the same.
    pub hello: rollback_lab_link::wire::Hello,
}

/// Who plays this lab session. Present from [`SessionPhase::Meeting`] on.
#[derive(Resource, Clone, Debug)]
pub struct SessionInfo {
    /// Id of the lab session, the same on every peer.
    pub session_id: String,
    /// Handle of the local player.
    pub local_player: PlayerHandle,
    /// All players by handle.
    pub player_slots: Vec<PlayerSlot>,
    /// Whether the server can relay.
    pub relay: bool,
}

/// The game may spawn its world: everything rolled back is gone, frame counts are 0.
#[derive(Event, Clone, Debug)]
pub struct EpisodeStarting {
    /// Number of the episode, from 0.
    pub number: u32,
    /// Seed of the episode, the same on every peer.
    pub seed: u64,
    /// Number of players.
    pub players: usize,
    /// Handle of the local player.
    pub local_player: PlayerHandle,
}

/// Everybody is synchronized and the episode runs; its first frames may have been simulated.
#[derive(Event, Clone, Debug)]
pub struct EpisodeStarted {
    /// Number of the episode, from 0.
    pub number: u32,
}

/// The simulation of an episode stopped on this peer.
#[derive(Message, Clone, Debug)]
pub struct EpisodeStopped {
    /// Number of the episode, from 0.
    pub number: u32,
    /// First frame at which the end holds: frames 0 to this one, excluded, count.
    pub end_frame: Frame,
    /// Why it ended.
    pub reason: &'static str,
    /// Whether it was cut short.
    pub partial: bool,
}

/// What the other peers said about an episode's end; its record is complete.
#[derive(Message, Clone, Debug)]
pub struct EpisodeSettled {
    /// Number of the episode, from 0.
    pub number: u32,
    /// End frame and history digest of every peer that told it.
    pub digests: Vec<(PlayerHandle, Frame, u64)>,
}

/// Digest of the local history of the episode that just stopped; written by the record.
#[derive(Resource, Clone, Copy, Debug, Default)]
pub struct HistoryDigest(pub Option<u64>);

/// Tells the session to start the next episode, where
/// [`auto_start`](SessionSettings::auto_start) is off.
#[derive(Event, Clone, Debug, Default)]
pub struct ReadyForEpisode;

/// The lab session failed.
#[derive(Event, Clone, Debug)]
pub struct SessionFailed {
    /// Why, in words for the person who must act.
    pub error: SessionError,
}

/// The route to a peer changed.
#[derive(Message, Clone, Debug)]
pub struct RouteChanged {
    /// The remote player.
    pub player: PlayerHandle,
    /// The remote peer.
    pub peer: PeerId,
    /// The next frame to simulate when it changed; 0 before the first one, none outside an
    /// episode.
    pub frame: Option<Frame>,
    /// From, to, cause, metric, value, threshold.
    pub change: RouteChange,
}

/// A peer left, or came back into sight of its players.
#[derive(Message, Clone, Debug, PartialEq, Eq)]
pub enum PeerNotice {
    /// The peer hid its tab or window.
    Hidden {
        /// The remote player.
        player: PlayerHandle,
        /// When it was told.
        at: Duration,
    },
    /// The peer showed its tab or window again.
    Visible {
        /// The remote player.
        player: PlayerHandle,
        /// When it was told.
        at: Duration,
    },
    /// The peer is gone for good.
    Gone {
        /// The remote player.
        player: PlayerHandle,
        /// When it was noticed.
        at: Duration,
        /// How it was noticed.
        reason: &'static str,
    },
    /// The connection to the server was lost; the match goes on by its direct paths.
    ServerLost {
        /// When.
        at: Duration,
    },
}

/// Runs the lab session of `C` over the [`LabNet`] resource.
///
/// Part of [`RollbackLabPlugins`](crate::RollbackLabPlugins), which also inserts the network.
///
/// # Panics
/// Adding it to a game whose inputs cannot travel: one player's serialized input must fit into a
/// datagram.
pub struct SessionPlugin<C> {
    settings: SessionSettings,
    config: PhantomData<fn() -> C>,
}

impl<C> SessionPlugin<C> {
    /// A session by `settings`.
    #[must_use]
    pub fn new(settings: SessionSettings) -> Self {
        Self {
            settings,
            config: PhantomData,
        }
    }
}

impl<C: Config<Address = PeerId>> Plugin for SessionPlugin<C> {
    fn build(&self, app: &mut App) {
        if let Err(error) = input::check_input::<C>() {
            panic!("input of the game: {error}");
        }
        app.insert_resource(self.settings.clone())
            .insert_resource(LabSession::<C>::new(self.settings.clone()))
            .init_resource::<LabClock>()
            .init_resource::<HistoryDigest>()
            .init_state::<SessionPhase>()
            .add_message::<EpisodeStopped>()
            .add_message::<EpisodeSettled>()
            .add_message::<RouteChanged>()
            .add_message::<PeerNotice>()
            .add_plugins((
                episode::plugin,
                focus::FocusPlugin::<C>(PhantomData),
                depth::DepthPlugin::<C>(PhantomData),
            ))
            .add_observer(driver::record_ready::<C>)
            .add_systems(PreUpdate, poll_network.before(RunGgrsSystems))
            .add_systems(
                PreUpdate,
                evidence::gather
                    .after(RunGgrsSystems)
                    .before(RollbackLabSystems::Observe),
            )
            .add_systems(
                PreUpdate,
                driver::drive::<C>.in_set(RollbackLabSystems::Session),
            )
            .add_systems(
                Last,
                driver::leave_on_exit::<C>.in_set(RollbackLabSystems::Session),
            );
    }
}

fn poll_network(net: Option<Res<LabNet>>) {
    if let Some(net) = net {
        net.poll();
    }
}
