//! Two paths, one socket: [`LabNet`] keeps a link to every peer of a lab session, and a ggrs session
//! plays over its [`LabSocket`].
//!
//! [`RollbackLabPlugins`](crate::RollbackLabPlugins) and
//! [`LabSocketPlugin`](crate::session::LabSocketPlugin) insert the [`LabNet`] resource themselves. An
//! app that brings its own, over another [`Network`] or with links of its own settings, inserts it
//! before start-up, or hands it to [`LabRoom::over`](crate::session::LabRoom::over).

mod exchange;
mod game;
mod matchbox;
pub mod network;
mod signaller;
mod task;
pub mod websocket;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bevy::prelude::*;
use bevy_matchbox::matchbox_socket::{CandidatePair, PeerId};
use ggrs::{Frame, Message as GgrsMessage, NonBlockingSocket};

pub use self::exchange::InputDeparture;
use self::exchange::{Exchange, Order};
use self::game::GameSide;
pub(crate) use self::game::{InputPacket, PacketCursor};
pub use self::matchbox::{MatchboxNetwork, MatchboxSettings};
use self::network::{NetEvent, Network};
use self::task::NetTask;
use crate::clock::LabClock;
use rollback_lab_link::conditions::{Conditions, Realised};
use rollback_lab_link::ggrs_wire::PeerInputs;
use rollback_lab_link::link::{LinkSettings, LinkSnapshot};
use rollback_lab_link::route::RouteChange;
use rollback_lab_link::wire::{ControlMessage, Path};

/// The bounds of one episode that incoming ggrs messages are checked against: what ggrs 0.13 itself
/// takes unchecked from a peer.
#[derive(Clone, Debug)]
pub struct EpisodeBounds {
    /// The peer behind every player handle; `None` is this peer.
    pub player_slots: Vec<Option<PeerId>>,
    /// Serialized size of one player's input, where it is fixed.
    pub input_bytes: Option<usize>,
    /// Prediction window in frames.
    pub max_prediction: Frame,
    /// Largest input delay of any peer in frames.
    pub max_input_delay: Frame,
    /// Frames between compared checksums; `None` if peers compare none.
    pub desync_interval: Option<u32>,
}

/// Every link of the lab session. Clones share the same network.
///
/// A game reads from it how a peer is reached:
///
/// ```
/// use bevy::prelude::*;
/// use bevy_rollback_lab::session::SessionInfo;
/// use bevy_rollback_lab::LabNet;
/// use rollback_lab_link::link::LinkSnapshot;
///
/// fn log_round_trips(net: Res<LabNet>, info: Res<SessionInfo>) {
///     for slot in info.player_slots.iter().filter(|slot| !slot.local) {
///         let rtt = net.link(slot.peer, LinkSnapshot::srtt).flatten();
///         info!("player {}: {rtt:?}, direct: {}", slot.handle, net.p2p_healthy(slot.peer));
///     }
/// }
/// # bevy::ecs::system::assert_is_system(log_round_trips);
/// ```
#[derive(Resource, Clone)]
pub struct LabNet {
    shared: Arc<Shared>,
}

/// What the clones of a [`LabNet`] share.
struct Shared {
    /// Only the game's thread takes this lock; it exists because ggrs owns its socket.
    game: Mutex<GameSide>,
    exchange: Arc<Exchange>,
    clock: LabClock,
    /// The network task, where it runs in the calls of the game and not beside it.
    inline: Option<Mutex<NetTask>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.exchange.abandon();
    }
}

impl LabNet {
    /// Links by `settings` over `network`, with this peer's `conditions` and the `seed` of their
    /// randomness. Everything happens in the calls of the game, above all in [`poll`](Self::poll):
    /// for virtual time.
    #[must_use]
    pub fn new(
        network: impl Network,
        clock: LabClock,
        settings: LinkSettings,
        conditions: &Conditions,
        seed: u64,
    ) -> Self {
        Self::build(network, clock, settings, conditions, seed, true)
    }

    /// As [`new`](Self::new), with a network task of its own beside the game: packets are stamped and
    /// answered when they come, whatever the frame rate.
    #[must_use]
    pub fn spawn(
        network: impl Network,
        clock: LabClock,
        settings: LinkSettings,
        conditions: &Conditions,
        seed: u64,
    ) -> Self {
        Self::build(network, clock, settings, conditions, seed, false)
    }

    /// Connects to a lab server or a stock matchbox server, as [`spawn`](Self::spawn) over a
    /// [`MatchboxNetwork`].
    #[must_use]
    pub fn open(
        server: MatchboxSettings,
        clock: LabClock,
        settings: LinkSettings,
        conditions: &Conditions,
        seed: u64,
    ) -> Self {
        let network = MatchboxNetwork::open(server, clock.clone());
        Self::spawn(network, clock, settings, conditions, seed)
    }

    fn build(
        network: impl Network,
        clock: LabClock,
        settings: LinkSettings,
        conditions: &Conditions,
        seed: u64,
        inline: bool,
    ) -> Self {
        let exchange = Arc::new(Exchange::default());
        let task = NetTask::new(
            Box::new(network),
            Arc::clone(&exchange),
            clock.clone(),
            settings,
            conditions,
            seed,
        );
        let inline = if inline {
            Some(Mutex::new(task))
        } else {
            task::spawn(task);
            None
        };
        Self {
            shared: Arc::new(Shared {
                game: Mutex::new(GameSide::new(Arc::clone(&exchange), clock.clone())),
                exchange,
                clock,
                inline,
            }),
        }
    }

    fn game(&self) -> MutexGuard<'_, GameSide> {
        let game = &self.shared.game;
        game.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the network task, where it has no thread of its own.
    fn run_inline(&self, turn: impl FnOnce(&mut NetTask)) {
        if let Some(task) = &self.shared.inline {
            turn(&mut task.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Takes in what the network task received and decided. Call it once per update, before ggrs
    /// runs.
    pub fn poll(&self) {
        self.shared.exchange.set_ticked(self.now());
        self.game().flush();
        self.run_inline(NetTask::turn_and_poll);
        self.game().take_in();
    }

    /// Lets the network task do what is due now, between two updates: for virtual time. With a network
    /// task of its own this does nothing.
    #[doc(hidden)]
    pub fn run_network(&self) {
        self.run_inline(NetTask::turn_and_poll);
    }

    /// Sends what ggrs sent since the last call: all messages to one peer in one packet. Call it once
    /// per update, after ggrs ran.
    pub fn flush(&self) {
        self.game().flush();
        self.run_inline(NetTask::send_and_receive);
    }

    /// Moves what happened outside since the last call to `events`.
    pub(crate) fn drain_events(&self, events: &mut Vec<NetEvent>) {
        events.append(&mut self.game().events);
    }

    /// Moves the control messages received since the last call to `messages`.
    pub(crate) fn drain_control(&self, messages: &mut Vec<(PeerId, ControlMessage)>) {
        messages.append(&mut self.game().control);
    }

    /// Moves the route changes since the last call to `changes`, each with the next frame to
    /// simulate when it happened, if an episode was open.
    pub(crate) fn drain_route_changes(
        &self,
        changes: &mut Vec<(PeerId, Option<Frame>, RouteChange)>,
    ) {
        changes.append(&mut self.game().route_changes);
    }

    /// Moves the first datagrams of local inputs since the last call to `departures`.
    pub fn drain_departures(&self, departures: &mut Vec<InputDeparture>) {
        departures.append(&mut self.game().departures);
    }

    /// Moves what the peers reported of their states since the last call to `into`: a frame, and the
    /// checksum of the state before it. The newest 32 of each peer and epoch are kept.
    pub(crate) fn drain_checksums(&self, into: &mut Vec<(PeerId, Frame, u128)>) {
        self.game().drain_checksums(into);
    }

    /// Hands every packet of inputs that came from `peer` since `cursor` to `take`, with whether it
    /// is the first one of another episode. The last 512 are kept.
    pub(crate) fn input_packets(
        &self,
        peer: PeerId,
        cursor: &mut PacketCursor,
        take: impl FnMut(bool, &InputPacket),
    ) {
        if let Some(peer) = self.game().peer(peer) {
            peer.packets.read(cursor, take);
        }
    }

    /// Starts a link to every peer of `peers` that has none yet and ends those of all others.
    pub fn set_peers(&self, peers: &[PeerId]) {
        self.game().set_peers(peers);
        self.run_inline(NetTask::carry_out_orders);
        self.game().take_in();
    }

    /// Sets whether the server can relay at all, for every link.
    pub fn set_relay_available(&self, available: bool) {
        self.order(Order::SetRelayAvailable(available));
    }

    /// Queues a control message to one peer; it is repeated until acknowledged.
    pub(crate) fn send_control(&self, peer: PeerId, message: ControlMessage) {
        self.game().count_control(peer);
        self.order(Order::Control(peer, message));
    }

    /// Sets which player this peer is, and with that which conditions apply to it.
    pub(crate) fn set_player(&self, player: usize) {
        self.order(Order::SetPlayer(player));
    }

    /// Changes what happens to the packets that this peer sends from now on.
    pub fn set_conditions(&self, conditions: &Conditions) {
        self.order(Order::SetConditions(Box::new(conditions.clone())));
    }

    /// Opens the packets of episode `epoch`; packets of any other are dropped and counted.
    pub fn start_epoch(&self, epoch: u16, bounds: EpisodeBounds) {
        self.game().start_epoch(epoch, bounds);
        self.run_inline(NetTask::carry_out_orders);
    }

    /// The first frame of the episode is simulated now: outages of the conditions count from here.
    pub(crate) fn frame_zero(&self) {
        self.order(Order::FrameZero);
    }

    /// Closes the packets of the running episode.
    pub(crate) fn end_epoch(&self) {
        self.game().end_epoch();
        self.run_inline(NetTask::carry_out_orders);
    }

    /// Lets the session of the running epoch go on when a player leaves.
    pub(crate) fn let_players_leave(&self) {
        self.game().let_players_leave();
    }

    /// Where the running session stands, if players may leave it: its current frame and its window.
    pub(crate) fn leavable(&self) -> Option<(Frame, Frame)> {
        self.game().leavable()
    }

    /// From now on no input of `peer` reaches ggrs.
    pub(crate) fn close_inputs(&self, peer: PeerId) {
        self.game().close_inputs(peer);
    }

    /// Hands over inputs of `peer` that another peer got from it.
    pub(crate) fn take_in(&self, peer: PeerId, start_frame: Frame, inputs: &[u8]) {
        self.game().take_in_for(peer, start_frame, inputs);
    }

    /// Lets ggrs read that other peers report `peer` as disconnected.
    pub(crate) fn release(&self, peer: PeerId) {
        self.game().release(peer);
    }

    /// Reads the input packets of `peer` in the running epoch.
    pub(crate) fn peer_inputs<R>(
        &self,
        peer: PeerId,
        read: impl FnOnce(&PeerInputs) -> R,
    ) -> Option<R> {
        self.game().peer(peer).map(|peer| read(&peer.inputs))
    }

    /// Sets the next frame to simulate, which bounds the frames that peers may send.
    pub fn set_current_frame(&self, frame: Frame) {
        self.game().set_current_frame(frame);
    }

    /// The next frame to simulate.
    pub(crate) fn current_frame(&self) -> Frame {
        self.game().current_frame()
    }

    /// Sets by how many frames this peer runs ahead of the others (negative: behind).
    pub(crate) fn set_skew(&self, frames: i32) {
        self.game().set_skew(frames);
    }

    /// Reports to the server whether the match has begun: from then on it keeps the slot of a member that it
    /// lost.
    pub(crate) fn set_running(&self, running: bool) {
        self.order(Order::SetRunning(running));
    }

    /// Sets whether this peer's tab or window is hidden, in the headers of its packets.
    /// [`SetHidden`](crate::session::SetHidden) does it for a lab session.
    pub fn set_hidden(&self, hidden: bool) {
        self.order(Order::SetHidden(hidden));
    }

    /// Reads the link to `peer`, as of the network task's last report: a few milliseconds ago.
    pub fn link<R>(&self, peer: PeerId, read: impl FnOnce(&LinkSnapshot) -> R) -> Option<R> {
        self.game().view(peer).map(|view| read(&view.link))
    }

    /// Control messages that `peer` has not acknowledged, those included that the network task has not
    /// taken yet.
    pub(crate) fn unacked_control(&self, peer: PeerId) -> usize {
        self.game().unacked_control(peer)
    }

    /// Whether every peer of the session can be reached by some path.
    pub(crate) fn all_usable(&self) -> bool {
        self.game().all_links(|view| view.link.usable())
    }

    /// Whether the direct path to `peer` is healthy: open, not suspect, and not failed over.
    #[must_use]
    pub fn p2p_healthy(&self, peer: PeerId) -> bool {
        self.link(peer, LinkSnapshot::p2p_healthy).unwrap_or(false)
    }

    /// The ICE candidates of the data channel to `peer`, once known.
    pub(crate) fn candidate_pair(&self, peer: PeerId) -> Option<CandidatePair> {
        self.game().view(peer)?.pair
    }

    /// How long it took from being named until a path to `peer` was usable.
    pub(crate) fn connect_time(&self, peer: PeerId) -> Option<Duration> {
        self.game().view(peer)?.connect_time
    }

    /// What the conditions did to the packets of `path` so far.
    pub(crate) fn realised(&self, path: Path) -> Realised {
        self.game().whole_view().realised[path.index()].clone()
    }

    /// Whether this peer's conditions treat the direct path in a way of its own, so that a
    /// failover ends them.
    pub(crate) fn conditions_are_direct_only(&self) -> bool {
        self.game().whole_view().direct_only
    }

    /// Blackholes every direct path from now on, both ways, as a pulled cable would: for demonstrations
    /// and tests of the failover.
    pub fn cut_direct(&self) {
        self.order(Order::SetDirectCut(true));
    }

    /// Ends what [`cut_direct`](Self::cut_direct) began.
    pub fn heal_direct(&self) {
        self.order(Order::SetDirectCut(false));
    }

    /// Leaves the room.
    pub(crate) fn close(&self) {
        self.order(Order::Close);
    }

    fn order(&self, order: Order) {
        self.shared.exchange.order(order);
        self.shared.exchange.wake();
        self.run_inline(NetTask::carry_out_orders);
    }

    /// A handle for one ggrs session, to be given to `SessionBuilder::start_p2p_session`.
    #[must_use]
    pub fn socket(&self) -> LabSocket {
        LabSocket {
            net: self.clone(),
            ends: None,
        }
    }

    /// A handle for the ggrs session of the next epoch, which ends when that session is dropped:
    /// for sessions that the game itself builds and drops.
    pub(crate) fn next_socket(&self) -> LabSocket {
        LabSocket {
            net: self.clone(),
            ends: Some(self.game().epochs_opened + 1),
        }
    }

    /// Time since the origin of the lab session.
    pub(crate) fn now(&self) -> Duration {
        self.shared.clock.now()
    }
}

/// The socket of a ggrs session over a [`LabNet`]: ggrs addresses peers by id, and the links choose the
/// path.
///
/// ```no_run
/// use bevy_ggrs::GgrsConfig;
/// use bevy_ggrs::ggrs::{GgrsError, P2PSession, PlayerType, SessionBuilder};
/// use bevy_matchbox::matchbox_socket::PeerId;
/// use bevy_rollback_lab::LabNet;
///
/// type Config = GgrsConfig<u8, PeerId>;
///
/// fn start(net: &LabNet, other: PeerId) -> Result<P2PSession<Config>, GgrsError> {
///     SessionBuilder::<Config>::new()
///         .with_num_players(2)?
///         .add_player(PlayerType::Local, 0)?
///         .add_player(PlayerType::Remote(other), 1)?
///         .start_p2p_session(net.socket())
/// }
/// ```
pub struct LabSocket {
    net: LabNet,
    /// The epoch that ends with this socket, counted from 1, if one does.
    ends: Option<u64>,
}

impl Drop for LabSocket {
    /// Without a session there is no match: heartbeats end, and the headers carry the idle epoch.
    fn drop(&mut self) {
        let opened = self.net.game().epochs_opened;
        if self.ends == Some(opened) {
            self.net.end_epoch();
        }
    }
}

impl NonBlockingSocket<PeerId> for LabSocket {
    fn send_to(&mut self, message: &GgrsMessage, peer: &PeerId) {
        self.net.game().send(*peer, message);
    }

    fn receive_all_messages(&mut self) -> Vec<(PeerId, GgrsMessage)> {
        self.net.run_inline(NetTask::send_and_receive);
        self.net.game().take_messages()
    }
}
