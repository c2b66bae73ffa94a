//! The game's side of the network: what is kept of every remote peer to validate and bundle ggrs's
//! messages, and what came in and waits to be read. It exchanges packets with the network task and
//! never waits for it.

mod leaving;
mod packets;
mod peer;

use std::sync::Arc;

use bevy::log::{error, warn_once};
use bevy_matchbox::matchbox_socket::PeerId;
use ggrs::{Frame, Message as GgrsMessage};

pub(crate) use self::packets::{InputPacket, PacketCursor};
pub(super) use self::peer::GamePeer;
use super::EpisodeBounds;
use super::exchange::{Exchange, Inbound, InputDeparture, Order, PeerView, Report, View};
use super::network::NetEvent;
use crate::clock::LabClock;
use rollback_lab_link::ggrs_wire;
use rollback_lab_link::link::IDLE_EPOCH;
use rollback_lab_link::route::RouteChange;
use rollback_lab_link::wire::{ControlMessage, MAX_DATAGRAM, Path};

/// Messages kept while no caller takes them: some ten seconds of one peer, of which the newest matter.
const UNREAD_MAX: usize = 1_024;
/// Departures kept while no record takes them: above a minute of one peer.
const DEPARTURES_MAX: usize = 8_192;

/// Drops the oldest `what` beyond `max`, which no caller takes.
fn bound<T>(kept: &mut Vec<T>, max: usize, what: &str) {
    let excess = kept.len().saturating_sub(max);
    if excess > 0 {
        kept.drain(..excess);
        warn_once!("dropped {excess} {what}: more than {max} waited to be read");
    }
}

pub(super) struct GameSide {
    pub(super) exchange: Arc<Exchange>,
    clock: LabClock,
    peers: Vec<GamePeer>,
    view: View,
    pub(super) events: Vec<NetEvent>,
    pub(super) control: Vec<(PeerId, ControlMessage)>,
    pub(super) route_changes: Vec<(PeerId, Option<Frame>, RouteChange)>,
    pub(super) departures: Vec<InputDeparture>,
    /// Epochs opened so far, which distinguishes a socket of the newest one from those before.
    pub(super) epochs_opened: u64,
    epoch: u16,
    current_frame: Frame,
    skew: i32,
    bounds: Option<EpisodeBounds>,
    /// The running session goes on when a player leaves.
    players_may_leave: bool,
    inbox: Vec<(PeerId, GgrsMessage)>,
    /// A message that cannot be sent was logged.
    unsendable_logged: bool,
}

impl GameSide {
    pub(super) fn new(exchange: Arc<Exchange>, clock: LabClock) -> Self {
        Self {
            exchange,
            clock,
            players_may_leave: false,
            peers: Vec::new(),
            view: View::default(),
            events: Vec::new(),
            control: Vec::new(),
            route_changes: Vec::new(),
            departures: Vec::new(),
            epochs_opened: 0,
            epoch: IDLE_EPOCH,
            current_frame: 0,
            skew: 0,
            bounds: None,
            inbox: Vec::new(),
            unsendable_logged: false,
        }
    }

    pub(super) fn order(&self, order: Order) {
        self.exchange.order(order);
    }

    pub(super) fn peer(&self, id: PeerId) -> Option<&GamePeer> {
        self.peers.iter().find(|peer| peer.id == id)
    }

    /// The newest snapshot of the link to a peer of the session.
    pub(super) fn view(&self, id: PeerId) -> Option<&PeerView> {
        self.view.peers.iter().find(|peer| peer.id == id)
    }

    /// Whether the link to every peer of the session satisfies `condition`.
    pub(super) fn all_links(&self, condition: impl Fn(&PeerView) -> bool) -> bool {
        let mut peers = self.peers.iter();
        peers.all(|peer| self.view(peer.id).is_some_and(&condition))
    }

    pub(super) const fn whole_view(&self) -> &View {
        &self.view
    }

    pub(super) fn set_peers(&mut self, ids: &[PeerId]) {
        let known = |id: &PeerId| self.peers.iter().any(|peer| peer.id == *id);
        if ids.len() == self.peers.len() && ids.iter().all(known) {
            return;
        }
        self.peers.retain(|peer| ids.contains(&peer.id));
        for &id in ids {
            if self.peer(id).is_none() {
                self.peers.push(GamePeer::new(id));
            }
        }
        self.order(Order::SetPeers(ids.to_vec()));
    }

    pub(super) fn start_epoch(&mut self, epoch: u16, bounds: EpisodeBounds) {
        let now = self.clock.now();
        self.current_frame = 0;
        self.epoch = epoch;
        self.epochs_opened += 1;
        self.inbox.clear();
        self.departures.clear();
        for peer in &mut self.peers {
            peer.start_epoch(now, &bounds);
        }
        self.bounds = Some(bounds);
        self.players_may_leave = false;
        self.exchange.set_frame(Some(0));
        self.order(Order::StartEpoch(epoch));
    }

    pub(super) fn end_epoch(&mut self) {
        self.bounds = None;
        self.epoch = IDLE_EPOCH;
        self.inbox.clear();
        for peer in &mut self.peers {
            peer.bundle.clear();
        }
        self.exchange.set_frame(None);
        self.order(Order::EndEpoch);
    }

    /// Takes what the peers reported of their states.
    pub(super) fn drain_checksums(&mut self, into: &mut Vec<(PeerId, Frame, u128)>) {
        for peer in &mut self.peers {
            let id = peer.id;
            let reports = peer.checksums.drain(..);
            into.extend(reports.map(|(frame, checksum)| (id, frame, checksum)));
        }
    }

    pub(super) fn set_current_frame(&mut self, frame: Frame) {
        self.current_frame = frame;
        self.exchange
            .set_frame(self.bounds.is_some().then_some(frame));
    }

    pub(super) const fn current_frame(&self) -> Frame {
        self.current_frame
    }

    pub(super) fn set_skew(&mut self, frames: i32) {
        if std::mem::replace(&mut self.skew, frames) != frames {
            self.order(Order::SetSkew(frames));
        }
    }

    /// A control message goes to `to`.
    pub(super) fn count_control(&mut self, to: PeerId) {
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.id == to) {
            peer.control_sent += 1;
        }
    }

    /// Control messages to `to` that are not acknowledged.
    pub(super) fn unacked_control(&self, to: PeerId) -> usize {
        let Some(peer) = self.peer(to) else {
            return 0;
        };
        let view = self.view(to);
        let taken = view.map_or(0, |view| view.control_taken);
        let queued = peer.control_sent.saturating_sub(taken);
        let unacked = view.map_or(0, |view| view.link.unacked_control());
        unacked + usize::try_from(queued).unwrap_or(usize::MAX)
    }

    /// Adds a message of ggrs to the next packet to `to`.
    pub(super) fn send(&mut self, to: PeerId, message: &GgrsMessage) {
        let Self {
            peers,
            exchange,
            epoch,
            unsendable_logged,
            ..
        } = self;
        let Some(peer) = peers.iter_mut().find(|peer| peer.id == to) else {
            return;
        };
        let mut buffer = [0_u8; MAX_DATAGRAM];
        let sent = ggrs_wire::encode(message, &mut buffer).and_then(|length| {
            let message = &buffer[..length];
            let outgoing = ggrs_wire::inspect_outgoing(message)?;
            if let Some(ping) = outgoing.ping {
                peer.sent_pings.record(ping);
            }
            Ok((message, outgoing))
        });
        match sent {
            Ok((message, outgoing)) => peer.send(message, &outgoing, *epoch, exchange),
            Err(error) => {
                if !std::mem::replace(unsendable_logged, true) {
                    error!(
                        "a message of the game cannot be sent ({}): are its inputs too large? One \
                         message holds all inputs that are not acknowledged",
                        error.reason()
                    );
                }
                let needed = ggrs_wire::encoded_len(message).unwrap_or_default();
                peer.inputs.record_unsendable(needed);
                exchange.order(Order::CountUnsendable(to));
            }
        }
    }

    /// Hands the packets of this tick to the network task and wakes it.
    pub(super) fn flush(&mut self) {
        for peer in &mut self.peers {
            peer.flush(self.epoch, &self.exchange);
        }
        self.exchange.wake();
    }

    /// Takes in what the network task has for the game.
    pub(super) fn take_in(&mut self) {
        self.exchange.refresh(&mut self.view);
        while let Some(report) = self.exchange.next_report() {
            match report {
                Report::Event(event) => self.events.push(event),
                Report::Control(from, message) => self.control.push((from, message)),
                Report::Route(peer, frame, change) => {
                    self.route_changes.push((peer, frame, change));
                }
            }
        }
        while let Some((epoch, departure)) = self.exchange.next_departure() {
            if epoch == self.epoch {
                self.departures.push(departure);
            }
        }
        while let Some(packet) = self.exchange.next_incoming() {
            self.receive(&packet);
        }
        bound(&mut self.inbox, UNREAD_MAX, "messages of the game");
        bound(&mut self.control, UNREAD_MAX, "control messages");
        bound(&mut self.route_changes, UNREAD_MAX, "route changes");
        bound(&mut self.departures, DEPARTURES_MAX, "departures of inputs");
    }

    /// Takes the validated messages for ggrs.
    pub(super) fn take_messages(&mut self) -> Vec<(PeerId, GgrsMessage)> {
        self.take_in();
        self.hold_time_outs();
        std::mem::take(&mut self.inbox)
    }

    /// Validates the messages of one packet, each on its own.
    fn receive(&mut self, packet: &Inbound) {
        let Self {
            peers,
            bounds,
            inbox,
            current_frame,
            exchange,
            epoch,
            clock,
            ..
        } = self;
        let Some(bounds) = bounds.as_ref().filter(|_| packet.epoch == *epoch) else {
            return;
        };
        let from = packet.from;
        let Some(index) = peers.iter().position(|peer| peer.id == from) else {
            return;
        };
        if peers[index].inputs.is_closed() {
            return;
        }
        if packet.is_copy() {
            peers[index].record_copy(packet.packet.seq);
            return;
        }
        let mut newest = None;
        for message in ggrs_wire::messages(packet.payload.bytes()) {
            let decoded = message.and_then(|message| {
                peers[index].decode(message, packet, bounds, *current_frame, clock.now())
            });
            match decoded {
                Ok(data) => {
                    newest = newest.max(data.newest_input);
                    inbox.push((from, data.message));
                }
                Err(error) => {
                    // What follows a message that is refused is not trusted either.
                    count_malformed(exchange, from, packet.path, error.reason());
                    break;
                }
            }
        }
        if let Some(newest) = newest {
            for other in peers.iter_mut().filter(|other| other.id != from) {
                other.record_other(bounds, from, newest);
            }
        }
    }
}

fn count_malformed(exchange: &Exchange, from: PeerId, path: Path, reason: &'static str) {
    exchange.order(Order::CountMalformed(from, path, reason));
}
