//! Two paths, one socket: [`LabNet`] owns every link of a lab session, [`LabSocket`] is the
//! cheap handle that a ggrs session holds.
//!
//! It decides by which path a packet travels, and never what the packet means to the game.

mod core;
mod matchbox;
pub mod network;
pub mod signaller;
pub mod websocket;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bevy::prelude::*;
use bevy_matchbox::matchbox_socket::{CandidatePair, PeerId};
use ggrs::{Frame, Message as GgrsMessage, NonBlockingSocket};

use self::core::Core;
pub use self::core::{InputArrival, InputDeparture, InputPacket, PacketCursor};
pub use self::matchbox::{MatchboxNetwork, MatchboxSettings};
use self::network::{NetEvent, Network};
use crate::clock::LabClock;
use rollback_lab_link::conditions::{Conditions, Realised};
use rollback_lab_link::link::{Link, LinkSettings};
use rollback_lab_link::route::RouteChange;
use rollback_lab_link::wire::{ControlMessage, Path};

/// The bounds of one episode that incoming ggrs messages are checked against.
#[derive(Clone, Debug)]
pub struct EpisodeBounds {
    /// Who plays, by handle; `None` is this peer.
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
#[derive(Resource, Clone)]
pub struct LabNet {
    core: Arc<Mutex<Core>>,
}

impl LabNet {
    /// A network over `network`, with links made by `settings` and this peer's `conditions`.
    #[must_use]
    pub fn new(
        network: impl Network,
        clock: LabClock,
        settings: LinkSettings,
        conditions: &Conditions,
        seed: u64,
    ) -> Self {
        let core = Core::new(Box::new(network), clock, settings, conditions, seed);
        Self {
            core: Arc::new(Mutex::new(core)),
        }
    }

    /// Only the main thread takes this lock; it exists because ggrs owns its socket.
    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Receives, judges the paths and sends what is due. Called once per update, before ggrs runs.
    pub fn poll(&self) {
        self.core().poll();
    }

    /// Moves what happened outside since the last call to `events`.
    pub fn drain_events(&self, events: &mut Vec<NetEvent>) {
        self.core().take_events(events);
    }

    /// Moves the control messages received since the last call to `messages`.
    pub fn drain_control(&self, messages: &mut Vec<(PeerId, ControlMessage)>) {
        messages.append(&mut self.core().control);
    }

    /// Moves the route changes since the last call to `changes`, each with the next frame to
    /// simulate when it happened, if an episode was open.
    pub fn drain_route_changes(&self, changes: &mut Vec<(PeerId, Option<Frame>, RouteChange)>) {
        changes.append(&mut self.core().route_changes);
    }

    /// Moves the arrivals of remote inputs since the last call to `arrivals`.
    pub fn drain_arrivals(&self, arrivals: &mut Vec<InputArrival>) {
        arrivals.append(&mut self.core().arrivals);
    }

    /// Moves the first datagrams of local inputs since the last call to `departures`.
    pub fn drain_departures(&self, departures: &mut Vec<InputDeparture>) {
        departures.append(&mut self.core().departures);
    }

    /// Hands every packet of inputs that came from `peer` since `cursor` to `take`, with whether it
    /// is the first one of another episode. The last 64 are kept.
    pub fn input_packets(
        &self,
        peer: PeerId,
        cursor: &mut PacketCursor,
        take: impl FnMut(bool, &InputPacket),
    ) {
        if let Some(peer) = self.core().peer(peer) {
            peer.packets.read(cursor, take);
        }
    }

    /// Starts a link to every peer of `peers` that has none yet and ends those of all others.
    pub fn set_peers(&self, peers: &[PeerId]) {
        self.core().set_peers(peers);
    }

    /// Tells every link whether the server can relay at all.
    pub fn set_relay_available(&self, available: bool) {
        self.core().set_relay_available(available);
    }

    /// Queues a control message to one peer; it is repeated until acknowledged.
    pub fn send_control(&self, peer: PeerId, message: ControlMessage) {
        self.core().with_link(peer, |link| {
            if let Err(error) = link.send_control(message) {
                error!("control message not sent: {error}");
            }
        });
    }

    /// Tells which player this peer is, and with that which conditions apply to it.
    pub fn set_player(&self, player: usize) {
        self.core().set_player(player);
    }

    /// Changes what happens to the packets that this peer sends from now on.
    pub fn set_conditions(&self, conditions: &Conditions) {
        self.core().set_conditions(conditions);
    }

    /// Opens the packets of episode `epoch`; packets of any other are dropped and counted.
    pub fn start_epoch(&self, epoch: u16, bounds: EpisodeBounds) {
        self.core().start_epoch(epoch, bounds);
    }

    /// Closes the packets of the running episode.
    pub fn end_epoch(&self) {
        self.core().end_epoch();
    }

    /// Tells where the simulation stands: the next frame to simulate.
    pub fn set_current_frame(&self, frame: Frame) {
        self.core().current_frame = frame;
    }

    /// Tells by how many frames this peer runs ahead of the others (negative: behind).
    pub fn set_skew(&self, frames: i32) {
        self.core().for_each_link(|link| link.set_skew(frames));
    }

    /// What came in and was thrown away, oldest first, because nobody took it.
    #[must_use]
    pub fn overflowed(&self) -> u64 {
        self.core().overflowed
    }

    /// Tells whether this peer's tab or window is hidden.
    pub fn set_hidden(&self, hidden: bool) {
        self.core().set_hidden(hidden);
    }

    /// Reads the link to `peer`.
    pub fn link<R>(&self, peer: PeerId, read: impl FnOnce(&Link) -> R) -> Option<R> {
        self.core().peer(peer).map(|peer| read(&peer.link))
    }

    /// Whether every peer of the session can be reached by some path.
    #[must_use]
    pub fn all_usable(&self) -> bool {
        self.core().peers.iter().all(|peer| peer.link.usable())
    }

    /// A healthy direct path: open, not in doubt, and no fallback triggered.
    #[must_use]
    pub fn p2p_healthy(&self, peer: PeerId) -> bool {
        self.link(peer, Link::p2p_healthy).unwrap_or(false)
    }

    /// The ICE candidates of the data channel to `peer`, once known.
    #[must_use]
    pub fn candidate_pair(&self, peer: PeerId) -> Option<CandidatePair> {
        self.core().network.candidate_pair(peer)
    }

    /// How long it took from being named until a path to `peer` was usable.
    #[must_use]
    pub fn connect_time(&self, peer: PeerId) -> Option<Duration> {
        self.core().peer(peer)?.connect_time()
    }

    /// What the conditions did to the packets of `path` so far.
    #[must_use]
    pub fn realised(&self, path: Path) -> Realised {
        self.core().shaper.realised(path)
    }

    /// Whether this peer's conditions treat the direct path in a way of its own, so that a
    /// promotion ends them.
    #[must_use]
    pub fn conditions_are_direct_only(&self) -> bool {
        let core = self.core();
        let direct = core.shaper.shape(Path::Direct);
        !direct.is_clear() && direct != core.shaper.shape(Path::Relay)
    }

    /// Blackholes every direct path from now on, both ways, as a pulled cable would.
    pub fn cut_direct(&self) {
        self.core().set_direct_cut(true);
    }

    /// Ends what [`cut_direct`](Self::cut_direct) began.
    pub fn heal_direct(&self) {
        self.core().set_direct_cut(false);
    }

    /// Leaves the room.
    pub fn close(&self) {
        self.core().network.close();
    }

    /// A handle for one ggrs session.
    #[must_use]
    pub fn socket(&self) -> LabSocket {
        LabSocket {
            net: self.clone(),
            ends: None,
        }
    }

    /// A handle for the ggrs session of the next epoch, which ends when that session is dropped:
    /// for sessions that nobody watches over.
    #[must_use]
    pub fn next_socket(&self) -> LabSocket {
        LabSocket {
            net: self.clone(),
            ends: Some(self.core().epochs_opened + 1),
        }
    }

    /// Time since the origin of the lab session.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.core().clock.now()
    }
}

/// What a ggrs session holds: it knows peers by id, and never by path.
pub struct LabSocket {
    net: LabNet,
    /// The epoch that ends with this socket, counted from 1, if one does.
    ends: Option<u64>,
}

impl Drop for LabSocket {
    /// Without a session there is no match: heartbeats end, and the peers are told that they do.
    fn drop(&mut self) {
        let mut core = self.net.core();
        if self.ends == Some(core.epochs_opened) {
            core.end_epoch();
        }
    }
}

impl NonBlockingSocket<PeerId> for LabSocket {
    fn send_to(&mut self, message: &GgrsMessage, peer: &PeerId) {
        self.net.core().send_data(*peer, message);
    }

    fn receive_all_messages(&mut self) -> Vec<(PeerId, GgrsMessage)> {
        self.net.core().receive_data()
    }
}
