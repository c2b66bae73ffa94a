//! What the clones of a [`LabNet`](super::LabNet) share: the network, one link per peer, and what came
//! in. It moves packets; the links decide the routes.

mod leaving;
mod peer;

use std::time::Duration;

use bevy::log::{error, warn_once};
use bevy_matchbox::matchbox_socket::PeerId;
use ggrs::{Frame, Message as GgrsMessage};

pub use self::peer::InputDeparture;
pub(super) use self::peer::Peer;
pub(crate) use self::peer::{InputPacket, PacketCursor};
use super::EpisodeBounds;
use super::network::{NetEvent, Network, Received};
use crate::clock::LabClock;
use rollback_lab_link::conditions::{Conditions, Direction, Shaper};
use rollback_lab_link::ggrs_wire::{self, Owner};
use rollback_lab_link::link::{Incoming, Link, LinkSettings, SendFailed, Transmit};
use rollback_lab_link::route::RouteChange;
use rollback_lab_link::wire::{ControlMessage, DatagramKind, MAX_DATAGRAM, Path};

/// matchbox reports a peer that only left the server like one whose data channel closed. Silence
/// for this long distinguishes the two; a suspect route uses both paths long before. Between episodes
/// there is one probe a second, of which two may get lost.
const CLOSED_SILENCE: Duration = Duration::from_millis(2_500);

/// Messages kept while no caller takes them: some ten seconds of one peer, of which the newest matter.
const UNREAD_MAX: usize = 1_024;
/// Departures kept while no record takes them: above a minute of one peer, so that a long stall of
/// this peer costs the record nothing.
const DEPARTURES_MAX: usize = 8_192;

/// Drops the oldest `what` beyond `max`, which no caller takes.
fn bound<T>(kept: &mut Vec<T>, max: usize, what: &str) {
    let excess = kept.len().saturating_sub(max);
    if excess > 0 {
        kept.drain(..excess);
        warn_once!("dropped {excess} {what}: more than {max} waited to be read");
    }
}

pub(super) struct Core {
    pub(super) network: Box<dyn Network>,
    pub(super) clock: LabClock,
    pub(super) peers: Vec<Peer>,
    pub(super) shaper: Shaper<(PeerId, DatagramKind)>,
    pub(super) events: Vec<NetEvent>,
    pub(super) control: Vec<(PeerId, ControlMessage)>,
    pub(super) route_changes: Vec<(PeerId, Option<Frame>, RouteChange)>,
    pub(super) departures: Vec<InputDeparture>,
    pub(super) current_frame: Frame,
    /// Epochs opened so far, which distinguishes a socket of the newest one from those before.
    pub(super) epochs_opened: u64,
    /// A message that cannot be sent was logged.
    unsendable_logged: bool,
    settings: LinkSettings,
    relay_available: Option<bool>,
    open: Vec<PeerId>,
    inbox: Vec<(PeerId, GgrsMessage)>,
    bounds: Option<EpisodeBounds>,
    /// The running session goes on when a player leaves.
    players_may_leave: bool,
    conditions: Conditions,
    player: usize,
    seed: u64,
    direct_cut: bool,
    hidden: bool,
    event_start: usize,
}

impl Core {
    pub(super) fn new(
        network: Box<dyn Network>,
        clock: LabClock,
        settings: LinkSettings,
        conditions: &Conditions,
        seed: u64,
    ) -> Self {
        Self {
            network,
            clock,
            peers: Vec::new(),
            shaper: Shaper::new(conditions, 0, seed),
            events: Vec::new(),
            control: Vec::new(),
            route_changes: Vec::new(),
            departures: Vec::new(),
            current_frame: 0,
            epochs_opened: 0,
            unsendable_logged: false,
            settings,
            relay_available: None,
            open: Vec::new(),
            inbox: Vec::new(),
            bounds: None,
            players_may_leave: false,
            conditions: conditions.clone(),
            player: 0,
            seed,
            direct_cut: false,
            hidden: false,
            event_start: 0,
        }
    }

    /// Applies the conditions of `player`, once it is known which player this peer is.
    pub(super) fn set_player(&mut self, player: usize) {
        self.player = player;
        self.shaper = Shaper::new(&self.conditions, player, self.seed);
        self.set_direct_cut(self.direct_cut);
    }

    pub(super) fn set_conditions(&mut self, conditions: &Conditions) {
        self.conditions = conditions.clone();
        for path in Path::ALL {
            let shape = conditions.shape(self.player, path);
            self.shaper.set_shape(path, shape);
        }
    }

    pub(super) fn peer(&self, id: PeerId) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.id == id)
    }

    pub(super) fn with_link(&mut self, id: PeerId, act: impl FnOnce(&mut Link)) {
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.id == id) {
            act(&mut peer.link);
        }
    }

    pub(super) fn for_each_link(&mut self, mut act: impl FnMut(&mut Link)) {
        for peer in &mut self.peers {
            act(&mut peer.link);
        }
    }

    /// Links that come later know it too.
    pub(super) fn set_hidden(&mut self, hidden: bool) {
        self.hidden = hidden;
        self.for_each_link(|link| link.set_hidden(hidden));
    }

    pub(super) fn set_peers(&mut self, ids: &[PeerId]) {
        let now = self.clock.now();
        self.peers.retain(|peer| ids.contains(&peer.id));
        for &id in ids {
            if self.peer(id).is_some() {
                continue;
            }
            let mut link = Link::new(self.settings, now);
            link.peer_named(now);
            link.set_hidden(self.hidden);
            link.set_clock_step(self.clock.step_us());
            if let Some(available) = self.relay_available {
                link.relay_usable(now, available);
            }
            if self.open.contains(&id) {
                link.direct_opened(now);
            }
            self.peers.push(Peer::new(id, link, now));
        }
    }

    pub(super) fn set_relay_available(&mut self, available: bool) {
        self.relay_available = Some(available);
        let now = self.clock.now();
        self.for_each_link(|link| link.relay_usable(now, available));
    }

    pub(super) fn start_epoch(&mut self, epoch: u16, bounds: EpisodeBounds) {
        let now = self.clock.now();
        self.shaper.begin_episode(now);
        self.current_frame = 0;
        self.epochs_opened += 1;
        self.inbox.clear();
        self.departures.clear();
        for peer in &mut self.peers {
            peer.start_epoch(now, epoch, &bounds);
        }
        self.bounds = Some(bounds);
        self.players_may_leave = false;
    }

    pub(super) fn end_epoch(&mut self) {
        self.bounds = None;
        self.inbox.clear();
        self.for_each_link(Link::end_epoch);
    }

    pub(super) fn set_direct_cut(&mut self, cut: bool) {
        self.direct_cut = cut;
        for direction in [Direction::Outgoing, Direction::Incoming] {
            if cut {
                self.shaper.cut(Path::Direct, direction);
            } else {
                self.shaper.heal(Path::Direct, direction);
            }
        }
    }

    /// Receives, then lets every link judge its paths and send what is due.
    pub(super) fn poll(&mut self) {
        self.pump();
        let now = self.clock.now();
        let Self {
            peers,
            shaper,
            network,
            route_changes,
            bounds,
            current_frame,
            ..
        } = self;
        let frame = bounds.is_some().then_some(*current_frame);
        for Peer {
            id,
            link,
            direct_at,
            closing,
            usable_at,
            ..
        } in peers
        {
            let silent_since = |since: Duration| since.max(*direct_at) + CLOSED_SILENCE;
            if closing.is_some_and(|since| *direct_at <= since && now >= silent_since(since)) {
                *closing = None;
                link.direct_closed();
            }
            link.poll(now, &mut |sent| {
                hand_over(shaper, network.as_mut(), now, *id, sent)
            });
            if usable_at.is_none() && link.usable() {
                *usable_at = Some(now);
            }
            route_changes.extend(link.drain_changes().map(|change| (*id, frame, change)));
        }
        bound(route_changes, UNREAD_MAX, "route changes");
    }

    /// Sends what the conditions held back and takes in what came.
    fn pump(&mut self) {
        let now = self.clock.now();
        while let Some(due) = self.shaper.pop_due(now) {
            // A delayed packet that fails is lost, as it would be in the network it stands for.
            let (peer, kind) = due.tag;
            let _lost = self.network.send(due.path, peer, kind, &due.bytes);
            self.shaper.recycle(due.bytes);
        }
        self.network.poll_events(&mut self.events);
        self.record_new_events(now);
        let Self {
            network,
            peers,
            shaper,
            bounds,
            control,
            inbox,
            current_frame,
            ..
        } = self;
        let current_frame = *current_frame;
        network.receive(now, &mut |received| {
            let Received { path, from, .. } = received;
            if !shaper.admit(path) {
                return;
            }
            let Some(index) = peers.iter().position(|peer| peer.id == from) else {
                return;
            };
            let peer = &mut peers[index];
            match peer.receive(now, received) {
                Ok(Incoming::Data { payload, via }) => {
                    let Some(bounds) = bounds.as_ref() else {
                        return;
                    };
                    let Some(data) = peer.decode(payload, via, bounds, current_frame, now) else {
                        return;
                    };
                    if let Some(newest) = data.newest_input {
                        for other in peers.iter_mut().filter(|other| other.id != from) {
                            other.record_other(bounds, from, newest);
                        }
                    }
                    inbox.push((from, data.message));
                }
                Ok(Incoming::Control(messages)) => {
                    control.extend(messages.into_iter().map(|message| (from, message)));
                }
                Ok(Incoming::Duplicate) if path == Path::Direct => peer.record_copy(),
                Ok(Incoming::Duplicate | Incoming::OtherEpoch | Incoming::Nothing) => {}
                // The link has counted it by its reason.
                Err(_counted) => {}
            }
        });
        bound(inbox, UNREAD_MAX, "messages of the game");
        bound(control, UNREAD_MAX, "control messages");
    }

    fn record_new_events(&mut self, now: Duration) {
        let start = self.event_start.min(self.events.len());
        for index in start..self.events.len() {
            match self.events[index] {
                NetEvent::DirectOpened(id) => {
                    self.open.push(id);
                    self.with_link(id, |link| link.direct_opened(now));
                }
                NetEvent::DirectClosed(id) => {
                    self.open.retain(|open| *open != id);
                    if let Some(peer) = self.peers.iter_mut().find(|peer| peer.id == id) {
                        peer.closing = Some(now);
                    }
                }
                NetEvent::ClockAnswered {
                    peer,
                    answer,
                    received_at,
                } => self.with_link(peer, |link| link.record_clock(answer, received_at)),
                NetEvent::NoRelay => self.set_relay_available(false),
                NetEvent::Roster(_) if self.relay_available.is_none() => {
                    self.set_relay_available(true);
                }
                NetEvent::ServerLost { .. } => self.set_relay_available(false),
                _ => {}
            }
        }
        self.event_start = self.events.len();
    }

    pub(super) fn take_events(&mut self, into: &mut Vec<NetEvent>) {
        into.append(&mut self.events);
        self.event_start = 0;
    }

    pub(super) fn send_data(&mut self, to: PeerId, message: &GgrsMessage) {
        let now = self.clock.now();
        let Self {
            peers,
            shaper,
            network,
            route_changes,
            bounds,
            current_frame,
            departures,
            unsendable_logged,
            ..
        } = self;
        let Some(peer) = peers.iter_mut().find(|peer| peer.id == to) else {
            return;
        };
        let mut unsendable = |link: &mut Link, reason| {
            if !std::mem::replace(unsendable_logged, true) {
                error!(
                    "a message of the game cannot be sent ({reason}): are its inputs too large? \
                     One message holds all inputs that are not acknowledged"
                );
            }
            link.count_unsendable();
        };
        let mut buffer = [0_u8; MAX_DATAGRAM];
        let length = match ggrs_wire::encode(message, &mut buffer) {
            Ok(length) => length,
            Err(error) => {
                unsendable(&mut peer.link, error.reason());
                let needed = ggrs_wire::encoded_len(message).unwrap_or_default();
                peer.handover.record_unsendable(needed);
                return;
            }
        };
        let payload = &buffer[..length];
        let outgoing = match ggrs_wire::inspect_outgoing(payload) {
            Ok(outgoing) => outgoing,
            Err(error) => {
                unsendable(&mut peer.link, error.reason());
                return;
            }
        };
        if let Some(ping) = outgoing.ping {
            peer.sent_pings.record(ping);
        }
        let sent = peer.link.send_data(
            now,
            payload,
            outgoing.newest_input_frame.is_some(),
            &mut |sent| hand_over(shaper, network.as_mut(), now, to, sent),
        );
        // What the refusal of a packet decided: the frame has not been simulated yet.
        let frame = bounds.is_some().then_some(*current_frame);
        let changes = peer.link.drain_changes();
        route_changes.extend(changes.map(|change| (to, frame, change)));
        let Some(last) = outgoing.newest_input_frame else {
            return;
        };
        if last > peer.newest(Owner::Local) {
            peer.set_newest(Owner::Local, last);
        }
        // What no path took is carried by a later datagram: each holds all unacknowledged inputs.
        if last > peer.carried && (sent.direct || sent.relay) {
            let first = outgoing
                .first_input_frame
                .map_or(last, |first| first.max(peer.carried + 1));
            peer.carried = last;
            departures.push(InputDeparture {
                peer: to,
                first,
                last,
                by: sent,
            });
            bound(departures, DEPARTURES_MAX, "departures of inputs");
        }
    }

    pub(super) fn receive_data(&mut self) -> Vec<(PeerId, GgrsMessage)> {
        self.pump();
        self.hold_time_outs();
        std::mem::take(&mut self.inbox)
    }
}

/// Gives a packet to the conditions, or to the network where none apply.
fn hand_over(
    shaper: &mut Shaper<(PeerId, DatagramKind)>,
    network: &mut dyn Network,
    now: Duration,
    peer: PeerId,
    sent: Transmit<'_>,
) -> Result<(), SendFailed> {
    let Transmit { path, kind, bytes } = sent;
    if shaper.is_clear(path) {
        return network.send(path, peer, kind, bytes);
    }
    shaper.push(now, path, bytes, (peer, kind));
    Ok(())
}
