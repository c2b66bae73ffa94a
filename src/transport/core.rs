//! Owns what [`LabNet`](super::LabNet) shares between the session and its ggrs sockets: the
//! network, one link per peer, and what came in. It moves packets and never decides a route.

use std::time::Duration;

use bevy_matchbox::matchbox_socket::PeerId;
use ggrs::{Frame, Message as GgrsMessage};

use super::EpisodeBounds;
use super::conditions::{Conditions, Shaper};
use super::ggrs_wire::{self, Limits};
use super::link::{Incoming, Link, LinkSettings, SendFailed};
use super::network::{NetEvent, Network};
use super::route::RouteChange;
use super::wire::{ControlMessage, MAX_DATAGRAM, Path};
use crate::clock::LabClock;

/// By which path(s) the first datagram with each input travelled.
///
/// `via_p2p + via_relay + via_both + unsent` counts every local input frame once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InputShares {
    /// Local inputs first sent on the direct path alone.
    pub sent_p2p: u64,
    /// Local inputs first sent by the relay alone.
    pub sent_relay: u64,
    /// Local inputs first sent on both paths.
    pub sent_both: u64,
    /// Local inputs whose first datagram no path took.
    pub unsent: u64,
    /// Remote inputs whose first copy came on the direct path.
    pub received_p2p: u64,
    /// Remote inputs whose first copy came by the relay.
    pub received_relay: u64,
}

/// Remote inputs that were new when a datagram brought them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputArrival {
    /// Who pressed.
    pub peer: PeerId,
    /// First new input frame.
    pub first: Frame,
    /// Last new input frame.
    pub last: Frame,
    /// The path of the first copy.
    pub via: Path,
    /// The next frame to simulate when they came.
    pub current_frame: Frame,
    /// When they came.
    pub at: Duration,
}

/// One remote peer.
pub(super) struct Peer {
    pub(super) id: PeerId,
    pub(super) link: Link,
    pub(super) shares: InputShares,
    limits: Limits,
    heard_direct: Duration,
    closing: Option<Duration>,
}

/// matchbox reports a peer that only left the server like one whose data channel closed. Silence
/// for this long tells the two apart; doubt has put both paths to use long before.
const CLOSED_SILENCE: Duration = Duration::from_millis(250);

pub(super) struct Core {
    pub(super) network: Box<dyn Network>,
    pub(super) clock: LabClock,
    pub(super) peers: Vec<Peer>,
    pub(super) shaper: Shaper<PeerId>,
    pub(super) events: Vec<NetEvent>,
    pub(super) control: Vec<(PeerId, ControlMessage)>,
    pub(super) route_changes: Vec<(PeerId, RouteChange)>,
    pub(super) arrivals: Vec<InputArrival>,
    pub(super) current_frame: Frame,
    settings: LinkSettings,
    relay_available: Option<bool>,
    open: Vec<PeerId>,
    inbox: Vec<(PeerId, GgrsMessage)>,
    bounds: Option<EpisodeBounds>,
    direct_cut: bool,
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
            shaper: Shaper::new(conditions, seed),
            events: Vec::new(),
            control: Vec::new(),
            route_changes: Vec::new(),
            arrivals: Vec::new(),
            current_frame: 0,
            settings,
            relay_available: None,
            open: Vec::new(),
            inbox: Vec::new(),
            bounds: None,
            direct_cut: false,
            event_start: 0,
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

    pub(super) fn set_peers(&mut self, ids: &[PeerId]) {
        let now = self.clock.now();
        self.peers.retain(|peer| ids.contains(&peer.id));
        for &id in ids {
            if self.peer(id).is_some() {
                continue;
            }
            let mut link = Link::new(self.settings, now);
            link.peer_named(now);
            if let Some(available) = self.relay_available {
                link.relay_usable(now, available);
            }
            if self.open.contains(&id) {
                link.direct_opened(now);
            }
            self.peers.push(Peer {
                id,
                link,
                shares: InputShares::default(),
                limits: Limits::default(),
                heard_direct: now,
                closing: None,
            });
        }
    }

    pub(super) fn set_relay_available(&mut self, available: bool) {
        self.relay_available = Some(available);
        let now = self.clock.now();
        self.for_each_link(|link| link.relay_usable(now, available));
    }

    pub(super) fn start_epoch(&mut self, epoch: u16, bounds: EpisodeBounds) {
        let now = self.clock.now();
        self.bounds = Some(bounds);
        self.current_frame = 0;
        self.inbox.clear();
        for peer in &mut self.peers {
            peer.link.start_epoch(now, epoch);
            peer.shares = InputShares::default();
            peer.limits = Limits::new(
                bounds.players,
                bounds.input_bytes,
                bounds.max_prediction,
                bounds.desync_detection,
            );
        }
    }

    pub(super) fn end_epoch(&mut self) {
        self.bounds = None;
        self.inbox.clear();
        self.for_each_link(Link::end_epoch);
    }

    pub(super) fn set_direct_cut(&mut self, cut: bool) {
        self.direct_cut = cut;
        self.shaper.set_cut(Path::Direct, cut);
    }

    /// Receives, then lets every link judge its paths and send what is due.
    pub(super) fn poll(&mut self) {
        self.pump();
        let now = self.clock.now();
        let Self { peers, shaper, network, route_changes, .. } = self;
        for Peer { id, link, heard_direct, closing, .. } in peers {
            let silent_since = |since: Duration| since.max(*heard_direct) + CLOSED_SILENCE;
            if closing.is_some_and(|since| *heard_direct <= since && now >= silent_since(since)) {
                *closing = None;
                link.direct_closed(now);
            }
            link.poll(now, &mut |path, bytes| {
                hand_over(shaper, network.as_mut(), now, path, *id, bytes)
            });
            route_changes.extend(link.drain_changes().map(|change| (*id, change)));
        }
    }

    /// Sends what the conditions held back and takes in what came.
    fn pump(&mut self) {
        let now = self.clock.now();
        while let Some((path, peer, packet)) = self.shaper.pop_due(now) {
            // A delayed packet that fails is lost, as it would be in the network it stands for.
            let _lost = self.network.send(path, peer, &packet);
        }
        self.network.poll_events(&mut self.events);
        self.note_new_events(now);
        let Self { network, peers, direct_cut, bounds, control, inbox, arrivals, current_frame, .. } = self;
        network.receive(&mut |path, from, bytes| {
            if *direct_cut && path == Path::Direct {
                return;
            }
            let Some(peer) = peers.iter_mut().find(|peer| peer.id == from) else {
                return;
            };
            if path == Path::Direct {
                peer.heard_direct = now;
            }
            match peer.link.receive(now, path, bytes) {
                Ok(Incoming::Data { payload }) => {
                    if bounds.is_none() {
                        return;
                    }
                    peer.limits.current_frame = *current_frame;
                    let expected = peer.limits.last_received_frame;
                    match ggrs_wire::decode(payload, &peer.limits) {
                        Ok((message, checked)) => {
                            if let Some(last) = checked.newest_input_frame.filter(|&last| last > expected) {
                                peer.limits.last_received_frame = last;
                                // With input delay the first packet starts at the delay: the
                                // frames before it hold the default input and never travel.
                                let first = checked.first_input_frame.map_or(last, |first| first.max(expected + 1));
                                let new = u64::from(last.abs_diff(first)) + 1;
                                match path {
                                    Path::Direct => peer.shares.received_p2p += new,
                                    Path::Relay => peer.shares.received_relay += new,
                                }
                                arrivals.push(InputArrival { peer: from, first, last, via: path, current_frame: *current_frame, at: now });
                            }
                            inbox.push((from, message));
                        }
                        Err(error) => peer.link.count_malformed(path, error.reason()),
                    }
                }
                Ok(Incoming::Control(messages)) => {
                    control.extend(messages.into_iter().map(|message| (from, message)));
                }
                Ok(Incoming::Duplicate | Incoming::Nothing) => {}
                // The link has counted it by its reason.
                Err(_counted) => {}
            }
        });
    }

    fn note_new_events(&mut self, now: Duration) {
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
        let Self { peers, shaper, network, .. } = self;
        let Some(peer) = peers.iter_mut().find(|peer| peer.id == to) else {
            return;
        };
        let mut buffer = [0_u8; MAX_DATAGRAM];
        let length = match ggrs_wire::encode(message, &mut buffer) {
            Ok(length) => length,
            Err(error) => {
                peer.link.count_unsendable(error.reason());
                return;
            }
        };
        let payload = &buffer[..length];
        let outgoing = ggrs_wire::inspect_outgoing(payload);
        if let Some(ping) = outgoing.ping {
            peer.limits.sent_pings.push(ping);
        }
        let sent = peer.link.send_data(
            now,
            payload,
            outgoing.newest_input_frame.is_some(),
            &mut |path, bytes| hand_over(shaper, network.as_mut(), now, path, to, bytes),
        );
        let newest = peer.limits.newest_local_frame;
        if let Some(last) = outgoing.newest_input_frame.filter(|&last| last > newest) {
            let first = outgoing.first_input_frame.map_or(last, |first| first.max(newest + 1));
            peer.limits.newest_local_frame = last;
            let new = u64::from(last.abs_diff(first)) + 1;
            match (sent.direct, sent.relay) {
                (true, false) => peer.shares.sent_p2p += new,
                (false, true) => peer.shares.sent_relay += new,
                (true, true) => peer.shares.sent_both += new,
                (false, false) => peer.shares.unsent += new,
            }
        }
    }

    pub(super) fn receive_data(&mut self) -> Vec<(PeerId, GgrsMessage)> {
        self.pump();
        std::mem::take(&mut self.inbox)
    }
}

/// Gives a packet to the conditions, or to the network where none apply.
fn hand_over(
    shaper: &mut Shaper<PeerId>,
    network: &mut dyn Network,
    now: Duration,
    path: Path,
    peer: PeerId,
    bytes: &[u8],
) -> Result<(), SendFailed> {
    if shaper.is_active(path) {
        shaper.push(now, path, bytes, peer);
        return Ok(());
    }
    network.send(path, peer, bytes)
}
