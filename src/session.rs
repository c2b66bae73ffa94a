//! The lab session: who is in it, which phase it is in, and the ggrs session of the running episode.
//!
//! [`SessionPlugin`] is the session of [`RollbackLabPlugins`](crate::RollbackLabPlugins): rooms,
//! phases, episodes. [`LabSocketPlugin`] is for games that build their own ggrs sessions over a
//! [`LabRoom`].

mod driver;
mod episode;
mod error;
mod evidence;
mod first_step;
mod focus;
mod input;
mod lab_room;
mod lobby;
mod margin;
mod network;
mod room;
mod routes;
mod standstill;

use std::marker::PhantomData;
use std::time::Duration;

use bevy::prelude::*;
use bevy::state::state::StateTransition;
use bevy_ggrs::RunGgrsSystems;
use bevy_matchbox::matchbox_socket::PeerId;
use ggrs::{Config, Frame, PlayerHandle};

pub use self::driver::{LabSession, LeaveLab, WaitingFor, WaitingForPlayers};
pub use self::episode::{Episode, EpisodeApp};
pub(crate) use self::episode::{
    begin as begin_episode, plugin as build_episode, reset as reset_episode,
};
pub use self::error::{SessionError, StartError};
pub use self::focus::SetHidden;
pub(crate) use self::focus::{Focus, FocusChanged};
pub(crate) use self::lab_room::RoomsExpected;
pub use self::lab_room::{LabRoom, LabSocketPlugin};
pub use self::lobby::PlayerSlot;
pub(crate) use self::network::PollNetworkSystems;
use crate::rollback::RollbackLabSystems;
use rollback_lab_link::route::RouteChange;

/// Where a lab session stands: a Bevy state, so that systems can run in one phase only.
///
/// ```
/// use bevy::prelude::*;
/// use bevy_rollback_lab::prelude::*;
///
/// fn hide_menu() {}
///
/// # use bevy::state::app::StatesPlugin;
/// # let mut app = App::new();
/// # app.add_plugins(StatesPlugin).init_state::<SessionPhase>();
/// app.add_systems(OnEnter(SessionPhase::Playing), hide_menu);
/// ```
#[derive(States, Reflect, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SessionPhase {
    /// In no room: a [`JoinLab`](crate::JoinLab) begins a session.
    #[default]
    Idle,
    /// Waiting for the server's answer.
    Connecting,
    /// In the room, waiting for the other players: [`WaitingForPlayers`] has the numbers. It comes again
    /// when a player leaves or does not answer before the first frame.
    Gathering,
    /// All players are known; paths open and settings are compared.
    Meeting,
    /// Between episodes, before the first one too.
    Between,
    /// Ready for the next episode, waiting until all players are.
    Starting,
    /// An episode runs.
    Playing,
    /// The episode is over here; its packets flow until it is over on every peer.
    Ending,
    /// This peer leaves: the others have been notified, and acknowledge it.
    Leaving,
    /// All episodes are done, and the room is left: the app may exit.
    Finished,
    /// The session failed; [`SessionFailed`] holds the error.
    Failed,
}

impl SessionPhase {
    /// The name in the session document.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Connecting => "connecting",
            Self::Gathering => "gathering",
            Self::Meeting => "meeting",
            Self::Between => "between",
            Self::Starting => "starting",
            Self::Playing => "playing",
            Self::Ending => "ending",
            Self::Leaving => "leaving",
            Self::Finished => "finished",
            Self::Failed => "failed",
        }
    }
}

/// What the session needs of a [`LabConfig`](crate::config::LabConfig), which checks it.
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
    /// Frame at which an episode ends at the latest; `None` for no limit.
    pub frame_limit: Option<u32>,
    /// Episodes of the session; `None` for no limit.
    pub episodes: Option<u32>,
    /// Whether episodes start by themselves, or wait for [`ReadyForEpisode`].
    pub auto_start: bool,
    /// Seed of the first episode; `None` derives one from the session's id.
    pub seed: Option<u64>,
    /// How long to wait for the other players.
    pub wait_timeout: Duration,
    /// Settings that are sent to the other peers; theirs must be the same.
    pub hello: rollback_lab_link::wire::Hello,
}

impl SessionSettings {
    /// Those of no session.
    fn none() -> Self {
        Self {
            room: String::new(),
            players: 0,
            fps: 60,
            input_delay: 0,
            max_prediction: 8,
            desync_interval: 10,
            frame_limit: None,
            episodes: None,
            auto_start: true,
            seed: None,
            wait_timeout: Duration::ZERO,
            hello: rollback_lab_link::wire::Hello {
                wire_version: 0,
                schema: String::new(),
                game: String::new(),
                game_version: String::new(),
                players: 0,
                fps: 0,
                input_delay: 0,
                max_prediction: 0,
                desync_interval: 0,
                config_digest: 0,
                settings: Vec::new(),
                route_policy: 0,
            },
        }
    }
}

/// Who plays this lab session. Present from [`SessionPhase::Meeting`] on, until the session ends in
/// [`SessionPhase::Idle`] or its players gather again.
///
/// ```
/// use bevy::prelude::*;
/// use bevy_rollback_lab::prelude::*;
///
/// fn log_players(info: Res<SessionInfo>) {
///     let players = info.player_slots.len();
///     info!("session {}: player {} of {players}", info.session_id, info.local_player);
/// }
/// # bevy::ecs::system::assert_is_system(log_players);
/// ```
#[derive(Resource, Reflect, Clone, Debug)]
#[reflect(Resource)]
pub struct SessionInfo {
    /// Id of the lab session, the same on every peer: 32 hex digits.
    pub session_id: String,
    /// Handle of the local player.
    pub local_player: PlayerHandle,
    /// All players by handle.
    pub player_slots: Vec<PlayerSlot>,
    /// Whether the server can relay.
    pub relay: bool,
}

/// Observe it to spawn the game's world for an episode: all that is rolled back is gone, and frame
/// counts are 0.
///
/// ```
/// use bevy::prelude::*;
/// use bevy_ggrs::Rollback;
/// use bevy_rollback_lab::prelude::*;
///
/// #[derive(Component)]
/// struct Paddle(usize);
///
/// fn spawn_world(starting: On<EpisodeStarting>, mut commands: Commands) {
///     for player in 0..starting.players {
///         commands.spawn((Paddle(player), Rollback));
///     }
/// }
/// # App::new().add_observer(spawn_world);
/// ```
#[derive(Event, Reflect, Clone, Debug)]
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

/// All peers are synchronized and the episode runs; its first frames may have been simulated.
///
/// ```
/// use bevy::prelude::*;
/// use bevy_rollback_lab::prelude::*;
///
/// # let mut app = App::new();
/// app.add_observer(|started: On<EpisodeStarted>| info!("episode {} runs", started.number));
/// ```
#[derive(Event, Reflect, Clone, Debug)]
pub struct EpisodeStarted {
    /// Number of the episode, from 0.
    pub number: u32,
}

/// The simulation of an episode stopped on this peer.
#[derive(Message, Clone, Debug)]
pub(crate) struct EpisodeStopped {
    /// First frame at which the end holds: frames 0 to this one, excluded, count.
    pub(crate) end_frame: Frame,
    /// Why it ended.
    pub(crate) reason: &'static str,
    /// Whether it was cut short.
    pub(crate) partial: bool,
}

/// The reports of the other peers about an episode's end: its record is complete.
#[derive(Message, Clone, Debug)]
pub(crate) struct EpisodeFinalized {
    /// End frame and history digest of every peer that reported them.
    pub(crate) digests: Vec<(PlayerHandle, Frame, u64)>,
}

/// An episode that was starting does not begin.
#[derive(Message, Clone, Copy, Debug)]
pub(crate) struct EpisodeAbandoned;

/// Trigger it to start the next episode, where [`auto_start`](SessionSettings::auto_start) is off.
///
/// ```
/// use bevy::prelude::*;
/// use bevy_rollback_lab::prelude::*;
///
/// fn ready_button_pressed(mut commands: Commands) {
///     commands.trigger(ReadyForEpisode);
/// }
/// # bevy::ecs::system::assert_is_system(ready_button_pressed);
/// ```
#[derive(Event, Reflect, Clone, Debug, Default)]
pub struct ReadyForEpisode;

/// The lab session failed: observe it to show the participant why.
///
/// ```
/// use bevy::prelude::*;
/// use bevy_rollback_lab::prelude::*;
///
/// # let mut app = App::new();
/// app.add_observer(|failed: On<SessionFailed>| error!("{}", failed.error));
/// ```
#[derive(Event, Clone, Debug)]
pub struct SessionFailed {
    /// Why, with what can be done about it.
    pub error: SessionError,
}

/// The route to a peer changed: read it to show when a match fails over to the relay.
///
/// ```
/// use bevy::prelude::*;
/// use bevy_rollback_lab::prelude::*;
///
/// fn show_failover(mut changes: MessageReader<RouteChanged>) {
///     for changed in changes.read().filter(|changed| changed.change.to.failed_over()) {
///         info!("player {} is reached through the relay now", changed.player);
///     }
/// }
/// # bevy::ecs::system::assert_is_system(show_failover);
/// ```
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

/// A peer left, or hid its tab or window or showed it again, or the server was lost.
///
/// ```
/// use bevy::prelude::*;
/// use bevy_rollback_lab::session::PeerNotice;
///
/// fn show_notices(mut notices: MessageReader<PeerNotice>) {
///     for notice in notices.read() {
///         if let PeerNotice::Hidden { player, .. } = notice {
///             info!("player {player} looks at another tab");
///         }
///     }
/// }
/// # bevy::ecs::system::assert_is_system(show_notices);
/// ```
#[derive(Message, Reflect, Clone, Debug, PartialEq, Eq)]
pub enum PeerNotice {
    /// The peer hid its tab or window.
    Hidden {
        /// The remote player.
        player: PlayerHandle,
        /// When its message came.
        at: Duration,
    },
    /// The peer showed its tab or window again.
    Visible {
        /// The remote player.
        player: PlayerHandle,
        /// When its message came.
        at: Duration,
    },
    /// The player left or did not answer before the first frame: the others gather again.
    TakenOff {
        /// The player's handle among those who had gathered.
        player: PlayerHandle,
        /// When it was noticed.
        at: Duration,
        /// How it was noticed.
        reason: &'static str,
    },
    /// The peer is gone for good: it left, or nothing came from it for 35 s by any path. A game with
    /// sessions of its own, of three players or more, goes on without it: from this message on, not
    /// before, `disconnect_player` is safe. ggrs 0.13 panics when it disconnects a player one frame
    /// after its last input, so the message waits until that is past, and until the survivors have the
    /// same last inputs.
    Gone {
        /// The remote player.
        player: PlayerHandle,
        /// When it was noticed.
        at: Duration,
        /// How it was noticed.
        reason: &'static str,
    },
    /// The connection to the server was lost; the match goes on by its direct paths. It is taken up
    /// again as long as the session lives, unless the server cannot resume it.
    ServerLost {
        /// When.
        at: Duration,
    },
    /// The connection to the server is back, with the same slot.
    ServerBack {
        /// When.
        at: Duration,
        /// Attempts to connect that it took.
        attempts: u32,
        /// Time since it was noticed to be lost.
        away: Duration,
    },
}

/// Runs the lab session of `C` over the [`LabNet`](crate::transport::LabNet) resource: joins the room,
/// meets the other players, and plays episodes.
///
/// Part of [`RollbackLabPlugins`](crate::RollbackLabPlugins), which also inserts the network. Its default
/// begins in [`SessionPhase::Idle`].
///
/// ```no_run
/// use bevy::prelude::*;
/// use bevy_ggrs::GgrsConfig;
/// use bevy_matchbox::matchbox_socket::PeerId;
/// use bevy_rollback_lab::prelude::*;
///
/// type Config = GgrsConfig<u8, PeerId>;
///
/// let config = LabConfig::new("ws://127.0.0.1:3536", "duel").players(2);
/// App::new()
///     .add_plugins((MinimalPlugins, bevy::state::app::StatesPlugin))
///     .add_plugins(RollbackLabPlugins::<Config>::new(config))
///     .run();
/// ```
///
/// # Panics
/// Adding it to a game whose inputs cannot travel: one player's serialized input must fit into a
/// datagram.
pub struct SessionPlugin<C> {
    settings: Option<SessionSettings>,
    config: PhantomData<fn() -> C>,
}

impl<C> Default for SessionPlugin<C> {
    /// No session yet.
    fn default() -> Self {
        Self {
            settings: None,
            config: PhantomData,
        }
    }
}

impl<C> SessionPlugin<C> {
    /// A session by `settings`, over the network that is in the world when the app starts.
    #[must_use]
    pub fn new(settings: SessionSettings) -> Self {
        Self {
            settings: Some(settings),
            config: PhantomData,
        }
    }
}

impl<C: Config<Address = PeerId>> Plugin for SessionPlugin<C> {
    fn build(&self, app: &mut App) {
        assert!(
            !app.is_plugin_added::<LabSocketPlugin<C>>(),
            "{}",
            lab_room::ONE_OF_TWO
        );
        assert!(
            app.get_schedule(StateTransition).is_some(),
            "RollbackLabPlugins shows its phase as a state: add Bevy's StatesPlugin, or \
             DefaultPlugins, before it"
        );
        let session = match &self.settings {
            Some(settings) => {
                app.insert_resource(settings.clone());
                LabSession::<C>::new(settings.clone())
            }
            None => LabSession::<C>::idle(SessionSettings::none()),
        };
        app.insert_state(session.phase())
            .insert_resource(session)
            .register_type::<WaitingFor>()
            .register_type::<WaitingForPlayers>()
            .register_type::<LeaveLab>()
            .register_type::<SessionPhase>()
            .register_type::<EpisodeStarting>()
            .register_type::<EpisodeStarted>()
            .register_type::<ReadyForEpisode>()
            .add_message::<EpisodeStopped>()
            .add_message::<EpisodeFinalized>()
            .add_message::<EpisodeAbandoned>()
            .add_plugins((
                network::plugin::<C>,
                episode::plugin,
                focus::FocusPlugin::<C>(PhantomData),
            ))
            .add_observer(driver::record_ready::<C>)
            .add_observer(driver::request_leave::<C>)
            .add_systems(
                PreUpdate,
                (
                    driver::begin_when_due::<C>
                        .after(network::PollNetworkSystems)
                        .before(RunGgrsSystems),
                    driver::drive::<C>.in_set(RollbackLabSystems::Session),
                ),
            )
            .add_systems(
                Last,
                driver::leave_on_exit::<C>.in_set(RollbackLabSystems::Session),
            );
    }
}
