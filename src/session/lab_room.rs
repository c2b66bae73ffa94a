//! The room of a game that builds its own ggrs sessions: what such a game does with a `MatchboxSocket`,
//! over two paths, without the episodes and the compared settings of a lab session.

mod attend;
mod checksums;
mod leaving;

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bevy::prelude::*;
use bevy_ggrs::RunGgrsSystems;
use bevy_matchbox::matchbox_socket::{PeerId, RtcIceServerConfig};
use ggrs::{Config, DesyncDetection, Frame, P2PSession, PlayerType, SessionBuilder};

use self::leaving::Leaving;
use super::input::fixed_input_bytes;
use super::margin::MarginWatch;
use super::network::{self, PollNetworkSystems};
use super::room::RoomView;
use super::routes::PendingRoutes;
use super::standstill::Standstill;
use super::{SessionError, SessionPlugin, StartError};
use crate::rollback::RollbackLabSystems;
use crate::transport::network::NetEvent;
use crate::transport::{EpisodeBounds, LabNet, MatchboxSettings};
use rollback_lab_link::ggrs_wire::MAX_INPUT_DELAY;
use rollback_lab_link::link::{IDLE_EPOCH, LinkSettings};
use rollback_lab_link::route::RoutePolicy;
use rollback_lab_link::wire::{ByeReason, ControlMessage};

/// Add it to a game that builds its own ggrs sessions, and insert a [`LabRoom`] to join a room: the
/// plugin opens its network, polls it before ggrs runs, and reports what happens there.
///
/// Add it beside `bevy_ggrs`'s `GgrsPlugin`, which the game has, and, for files,
/// [`RollbackObserverPlugins`](crate::RollbackObserverPlugins). It writes
/// [`RouteChanged`](super::RouteChanged) and [`PeerNotice`](super::PeerNotice) messages, triggers
/// [`SessionFailed`](super::SessionFailed) when the players of a room cannot be met or a rule keeps
/// their packets out of a match, and inserts
/// [`SessionInfo`](super::SessionInfo) once all are there. [`LabRoom`] has an example. A game with
/// [`RollbackLabPlugins`](crate::RollbackLabPlugins) has all of this already.
///
/// # Panics
/// Adding it to a game whose inputs cannot travel: one player's serialized input must fit into a
/// datagram. Adding it beside [`RollbackLabPlugins`](crate::RollbackLabPlugins), which builds the
/// sessions of its room itself.
pub struct LabSocketPlugin<C>(PhantomData<fn() -> C>);

/// What is wrong with an app that has both plugins.
pub(super) const ONE_OF_TWO: &str = "RollbackLabPlugins builds the sessions of its room: \
     LabSocketPlugin is for games that build their own";

/// This app's own sessions may run over a [`LabRoom`]: the record asks for it.
#[derive(Resource, Default)]
pub(crate) struct RoomsExpected;

impl<C> Default for LabSocketPlugin<C> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<C: Config<Address = PeerId>> Plugin for LabSocketPlugin<C> {
    fn build(&self, app: &mut App) {
        assert!(!app.is_plugin_added::<SessionPlugin<C>>(), "{ONE_OF_TWO}");
        app.init_resource::<RoomsExpected>()
            .add_plugins(network::plugin::<C>)
            .add_systems(PreUpdate, attend::open_room.before(PollNetworkSystems))
            .add_systems(
                PreUpdate,
                (
                    attend::follow_session::<C>,
                    attend::attend,
                    checksums::compare_checksums::<C>,
                )
                    .chain()
                    .after(RunGgrsSystems)
                    .in_set(RollbackLabSystems::Session),
            )
            .add_systems(
                Last,
                attend::drop_departures.after(RollbackLabSystems::Record),
            );
    }
}

/// A room on a signaling server, and both paths to its members: the place of a `MatchboxSocket` in a
/// game that builds its own ggrs sessions. Insert it to join the room, remove it to leave.
///
/// ```no_run
/// use bevy::prelude::*;
/// use bevy_ggrs::ggrs::SessionBuilder;
/// use bevy_ggrs::{GgrsConfig, GgrsPlugin, Session};
/// use bevy_matchbox::prelude::PeerId;
/// use bevy_rollback_lab::prelude::*;
///
/// type Config = GgrsConfig<u8, PeerId>;
///
/// App::new()
///     .add_plugins((MinimalPlugins, GgrsPlugin::<Config>::default()))
///     .add_plugins(LabSocketPlugin::<Config>::default())
///     .insert_resource(LabRoom::new("ws://127.0.0.1:3536/my-room?players=2", 2))
///     .add_systems(Update, start.run_if(not(resource_exists::<Session<Config>>)))
///     .run();
///
/// fn start(mut room: ResMut<LabRoom>, mut commands: Commands) -> Result {
///     if !room.ready() {
///         return Ok(());
///     }
///     let mut builder = SessionBuilder::<Config>::new().with_num_players(2)?;
///     for (handle, player) in room.players().into_iter().enumerate() {
///         builder = builder.add_player(player, handle)?;
///     }
///     commands.insert_resource(Session::P2P(room.start_p2p_session(builder)?));
///     Ok(())
/// }
/// ```
#[derive(Resource)]
pub struct LabRoom {
    url: String,
    ice: RtcIceServerConfig,
    link: LinkSettings,
    room: RoomView,
    /// Set once the plugin has opened this room.
    net: Option<LabNet>,
    opened: bool,
    /// How often [`ready`](Self::ready) was asked before that.
    asked: AtomicU32,
    opened_at: Duration,
    /// All players are there, and were reachable at once at least one time.
    met: bool,
    ready: bool,
    /// A player left before the first session, and others may come in its place.
    reopened: bool,
    failure: Option<SessionError>,
    sessions: u32,
    margin: MarginWatch,
    standstill: Standstill,
    /// Players who leave the running session.
    leaving: Leaving,
    events: Vec<NetEvent>,
    control: Vec<(PeerId, ControlMessage)>,
    changes: PendingRoutes,
}

impl LabRoom {
    /// The room at `url`, as a `MatchboxSocket` takes it (`ws://host:port/room?players=2`, or
    /// `?next=2`, or a stock matchbox server's), for so many players. Peer to peer first.
    #[must_use]
    pub fn new(url: impl Into<String>, players: usize) -> Self {
        let url = url.into();
        Self {
            ice: MatchboxSettings::new("").ice,
            link: LinkSettings::default(),
            room: RoomView::new(name_of(&url).to_owned(), players),
            net: None,
            opened: false,
            asked: AtomicU32::new(0),
            opened_at: Duration::ZERO,
            met: false,
            ready: false,
            reopened: false,
            failure: None,
            sessions: 0,
            margin: MarginWatch::default(),
            standstill: Standstill::default(),
            leaving: Leaving::default(),
            events: Vec::new(),
            control: Vec::new(),
            changes: PendingRoutes::new(),
            url,
        }
    }

    /// A room over a network that the app opened itself: one in memory, or one with conditions.
    #[must_use]
    pub fn over(net: LabNet, name: &str, players: usize) -> Self {
        let mut room = Self::new(name, players);
        room.net = Some(net);
        room
    }

    /// Sets the STUN and TURN servers. Defaults to none, which suits loopback and a local network;
    /// a `MatchboxSocket` asks a public STUN server by default, `RtcIceServerConfig::default()`.
    #[must_use]
    pub fn ice(mut self, ice: RtcIceServerConfig) -> Self {
        self.ice = ice;
        self
    }

    /// Sets the input delay that the game gives its builder, in frames (0 to 32); the failover margin
    /// counts it. Defaults to 2.
    #[must_use]
    pub fn input_delay(mut self, frames: u32) -> Self {
        self.link.input_delay = frames;
        self
    }

    /// Sets which path game packets take. Defaults to [`RoutePolicy::P2pFirst`].
    #[must_use]
    pub fn route_policy(mut self, policy: RoutePolicy) -> Self {
        self.link.policy = policy;
        self
    }

    /// Sets whether a route that failed over may fail back to a direct path that stayed good. Defaults
    /// to false.
    #[must_use]
    pub fn return_to_direct(mut self, return_to_direct: bool) -> Self {
        self.link.return_to_direct = return_to_direct;
        self
    }

    /// This peer's id, once the server gave one.
    #[must_use]
    pub fn id(&self) -> Option<PeerId> {
        self.room.local()
    }

    /// Players who have not come yet. Zero does not mean that they can be reached:
    /// [`ready`](Self::ready) does.
    #[must_use]
    pub fn missing(&self) -> usize {
        let present = match self.room.player_slots() {
            [] => self.room.present().len(),
            player_slots => player_slots.len(),
        };
        self.room.players().saturating_sub(present)
    }

    /// Whether all players are there and can be reached by some path now, as of the last update.
    ///
    /// Never in an app without [`LabSocketPlugin`], which is logged.
    #[must_use]
    pub fn ready(&self) -> bool {
        // The plugin opens a room in the update after its insertion.
        const UPDATES: u32 = 60;
        if !self.opened && self.asked.fetch_add(1, Ordering::Relaxed) == UPDATES {
            error!(
                "nothing opens the room {}: add LabSocketPlugin::<Config>::default() to the app",
                self.room.name()
            );
        }
        self.ready
    }

    /// All players as ggrs addresses them, by player handle: the same order on every peer. Empty
    /// until all are there.
    #[must_use]
    pub fn players(&self) -> Vec<PlayerType<PeerId>> {
        let player = |owner: Option<PeerId>| owner.map_or(PlayerType::Local, PlayerType::Remote);
        self.room.owners().into_iter().map(player).collect()
    }

    /// Why no match can begin here, if that is so.
    #[must_use]
    pub fn failure(&self) -> Option<&SessionError> {
        self.failure.as_ref()
    }

    /// Starts the session of `builder` over both paths, as `builder.start_p2p_session` does over a
    /// channel. Its packets end when the session is dropped.
    ///
    /// The n-th session of every peer of a room is the same match: packets of another one are
    /// dropped and counted.
    ///
    /// # Errors
    /// The room is not [`ready`](Self::ready), the builder has other players than
    /// [`players`](Self::players), or ggrs refuses it.
    pub fn start_p2p_session<C: Config<Address = PeerId>>(
        &mut self,
        builder: SessionBuilder<C>,
    ) -> Result<P2PSession<C>, StartError> {
        let room = self.room.name().to_owned();
        if let Some(error) = self.failure.clone().or_else(|| self.room.first_gone()) {
            return Err(StartError::Room(error));
        }
        let Some(net) = self.net.as_ref().filter(|_| self.ready) else {
            let players = self.room.players();
            return Err(StartError::NotReady {
                room,
                present: players - self.missing(),
                players,
            });
        };
        let session = builder
            .start_p2p_session(net.next_socket())
            .map_err(StartError::Ggrs)?;
        if !self.player_slots_match(&session) {
            return Err(StartError::Players { room });
        }
        let desync_interval = match session.desync_detection() {
            DesyncDetection::On { interval } => Some(interval),
            DesyncDetection::Off => None,
        };
        net.start_epoch(
            epoch_of(self.sessions),
            EpisodeBounds {
                player_slots: self.room.owners(),
                input_bytes: fixed_input_bytes::<C>(),
                max_prediction: Frame::try_from(session.max_prediction()).unwrap_or(Frame::MAX),
                // A session has no getter for its delay, and peers may choose different ones.
                max_input_delay: MAX_INPUT_DELAY,
                desync_interval,
            },
        );
        net.let_players_leave();
        net.set_running(true);
        self.sessions += 1;
        self.margin = MarginWatch::default();
        self.standstill = Standstill::default();
        self.leaving = Leaving::default();
        Ok(session)
    }

    /// Messages are checked by who may send what, so the handles must be those of the player slots.
    fn player_slots_match<C: Config<Address = PeerId>>(&self, session: &P2PSession<C>) -> bool {
        let player_slots = self.room.player_slots();
        let placed = player_slots.iter().all(|player_slot| {
            let handles = if player_slot.local {
                session.local_player_handles()
            } else {
                session.handles_by_address(player_slot.peer)
            };
            handles == [player_slot.handle]
        });
        placed && session.num_players() == player_slots.len() && session.num_spectators() == 0
    }
}

impl Drop for LabRoom {
    /// Leaves; where the message about it is lost, the server reports it to the others.
    fn drop(&mut self) {
        let Some(net) = &self.net else {
            return;
        };
        for player_slot in self.room.remotes() {
            let reason = ByeReason::Left;
            net.send_control(player_slot.peer, ControlMessage::Bye { reason });
        }
        net.close();
    }
}

/// The epoch of the n-th session, from 0. A remainder fits. The last value stands for no episode.
fn epoch_of(session: u32) -> u16 {
    (session % u32::from(IDLE_EPOCH)) as u16
}

/// The room in the address of a room: its path.
fn name_of(url: &str) -> &str {
    let address = url.split_once("://").map_or(url, |(_, address)| address);
    let path = address.split_once('/').map_or(address, |(_, path)| path);
    path.split('?').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_is_named_by_the_path_of_its_address() {
        for (url, name) in [
            ("ws://127.0.0.1:3536/bevy_ggrs?next=2", "bevy_ggrs"),
            ("wss://example.org/duel", "duel"),
            ("room", "room"),
        ] {
            assert_eq!(name_of(url), name, "{url}");
        }
    }
}
