//! The network task: it owns the network, the links, the conditions and their timers, and exchanges
//! packets, reports and snapshots with the game ([`Exchange`]). It answers probes, sends heartbeats
//! and judges routes whatever the frame rate of the game, and while the game stands still.
//!
//! [`NetTask::turn`] does what is due; it is called from a thread or a browser's event loop
//! (`drive.rs`), or by the game itself in virtual time.

mod drive;
mod peer;

use std::sync::Arc;
use std::time::Duration;

use bevy_matchbox::matchbox_socket::PeerId;

pub(super) use self::drive::spawn;
use self::peer::Peer;
use super::exchange::{Exchange, Inbound, InputDeparture, Order, Outgoing, Payload, Report, View};
use super::network::{NetEvent, Network, Received};
use crate::clock::LabClock;
use rollback_lab_link::conditions::{Conditions, Direction, Shaper};
use rollback_lab_link::link::{Incoming, Link, LinkSettings, SendFailed, Transmit};
use rollback_lab_link::wire::{DatagramKind, Path};

/// How often links are polled: a quarter of the interval of heartbeats, so that a lost path is noticed
/// a few milliseconds after its limit. Browsers wake a timer every 4 ms at most.
const POLL_EVERY: Duration = Duration::from_micros(4_167);
/// Packets that conditions hold back for longer are lost with their sender.
const CLOSE_RELEASES: Duration = Duration::from_secs(1);

/// The shaper keeps what a delayed packet needs to be sent.
type PacketShaper = Shaper<(PeerId, DatagramKind)>;

pub(super) struct NetTask {
    network: Box<dyn Network>,
    exchange: Arc<Exchange>,
    clock: LabClock,
    peers: Vec<Peer>,
    shaper: PacketShaper,
    settings: LinkSettings,
    relay_available: Option<bool>,
    /// Peers whose data channel is open.
    open: Vec<PeerId>,
    conditions: Conditions,
    player: usize,
    seed: u64,
    direct_cut: bool,
    hidden: bool,
    epoch: Option<u16>,
    events: Vec<NetEvent>,
    next_poll: Duration,
}

impl NetTask {
    pub(super) fn new(
        network: Box<dyn Network>,
        exchange: Arc<Exchange>,
        clock: LabClock,
        settings: LinkSettings,
        conditions: &Conditions,
        seed: u64,
    ) -> Self {
        Self {
            network,
            exchange,
            clock,
            peers: Vec::new(),
            shaper: Shaper::new(conditions, 0, seed),
            settings,
            relay_available: None,
            open: Vec::new(),
            conditions: conditions.clone(),
            player: 0,
            seed,
            direct_cut: false,
            hidden: false,
            epoch: None,
            events: Vec::new(),
            next_poll: Duration::ZERO,
        }
    }

    /// Does everything that is due: orders, packets out and in, and the links' timers.
    pub(super) fn turn(&mut self) {
        self.send_and_receive();
        let now = self.clock.now();
        if now >= self.next_poll {
            // On the grid of its interval, unless a whole one was missed.
            let next = self.next_poll + POLL_EVERY;
            self.next_poll = if next > now { next } else { now + POLL_EVERY };
            self.poll_links();
        }
    }

    /// The same in virtual time, where every turn polls: the caller decides when.
    pub(super) fn turn_and_poll(&mut self) {
        self.send_and_receive();
        self.poll_links();
    }

    /// Carries out orders, sends what is queued or was held back, and takes in what came.
    pub(super) fn send_and_receive(&mut self) {
        self.carry_out_orders();
        let now = self.clock.now();
        self.release_delayed(now);
        self.take_events(now);
        self.receive(now);
        while let Some(packet) = self.exchange.next_outgoing() {
            self.send(now, &packet);
        }
    }

    pub(super) fn carry_out_orders(&mut self) {
        while let Some(order) = self.exchange.next_order() {
            self.carry_out(order);
        }
    }

    /// Time until the next thing that is due by the clock.
    fn wait(&self) -> Duration {
        let now = self.clock.now();
        let poll = self.next_poll.saturating_sub(now);
        let delayed = self.shaper.next_due();
        delayed.map_or(poll, |due| poll.min(due.saturating_sub(now)))
    }

    fn carry_out(&mut self, order: Order) {
        let now = self.clock.now();
        match order {
            Order::SetPeers(ids) => self.set_peers(now, &ids),
            Order::SetRelayAvailable(available) => self.set_relay_available(now, available),
            Order::SetPlayer(player) => {
                self.player = player;
                self.shaper = Shaper::new(&self.conditions, player, self.seed);
                self.set_direct_cut(self.direct_cut);
            }
            Order::SetConditions(conditions) => {
                self.conditions = *conditions;
                for path in Path::ALL {
                    let shape = self.conditions.shape(self.player, path);
                    self.shaper.set_shape(path, shape);
                }
            }
            Order::SetHidden(hidden) => {
                // Links that come later know it too.
                self.hidden = hidden;
                self.for_each_link(|link| link.set_hidden(hidden));
            }
            Order::SetRunning(running) => self.network.set_running(running),
            Order::SetSkew(frames) => self.for_each_link(|link| link.set_skew(frames)),
            Order::SetDirectCut(cut) => self.set_direct_cut(cut),
            Order::StartEpoch(epoch) => {
                self.shaper.begin_episode(now);
                self.epoch = Some(epoch);
                for peer in &mut self.peers {
                    peer.start_epoch(now, epoch);
                }
            }
            Order::FrameZero => self.shaper.begin_episode(now),
            Order::EndEpoch => {
                self.epoch = None;
                self.for_each_link(Link::end_epoch);
            }
            Order::Control(to, message) => {
                if let Some(peer) = self.peers.iter_mut().find(|peer| peer.id == to) {
                    peer.control_taken += 1;
                    if let Err(error) = peer.link.send_control(message) {
                        bevy::log::error!("control message not sent: {error}");
                    }
                }
            }
            Order::CountMalformed(from, path, reason) => {
                self.with_link(from, |link| link.count_malformed(path, reason));
            }
            Order::CountUnsendable(to) => self.with_link(to, Link::count_unsendable),
            Order::Close => {
                // The last control messages are due now. What is in flight arrives although its sender
                // closes, be it early.
                self.poll_links();
                self.release_delayed(now + CLOSE_RELEASES);
                self.network.close();
            }
        }
    }

    fn with_link(&mut self, id: PeerId, act: impl FnOnce(&mut Link)) {
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.id == id) {
            act(&mut peer.link);
        }
    }

    fn for_each_link(&mut self, mut act: impl FnMut(&mut Link)) {
        for peer in &mut self.peers {
            act(&mut peer.link);
        }
    }

    fn set_peers(&mut self, now: Duration, ids: &[PeerId]) {
        self.peers.retain(|peer| ids.contains(&peer.id));
        for &id in ids {
            if self.peers.iter().any(|peer| peer.id == id) {
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

    fn set_relay_available(&mut self, now: Duration, available: bool) {
        self.relay_available = Some(available);
        self.for_each_link(|link| link.relay_usable(now, available));
    }

    fn set_direct_cut(&mut self, cut: bool) {
        self.direct_cut = cut;
        for direction in [Direction::Outgoing, Direction::Incoming] {
            if cut {
                self.shaper.cut(Path::Direct, direction);
            } else {
                self.shaper.heal(Path::Direct, direction);
            }
        }
    }

    /// Sends what the conditions held back.
    fn release_delayed(&mut self, now: Duration) {
        while let Some(due) = self.shaper.pop_due(now) {
            // A delayed packet that fails is lost, as it would be in the network it stands for.
            let (peer, kind) = due.tag;
            let _lost = self.network.send(due.path, peer, kind, &due.bytes);
            self.shaper.recycle(due.bytes);
        }
    }

    fn take_events(&mut self, now: Duration) {
        let mut events = std::mem::take(&mut self.events);
        self.network.poll_events(&mut events);
        for event in events.drain(..) {
            self.apply_event(now, &event);
            self.exchange.report(Report::Event(event));
        }
        self.events = events;
    }

    fn apply_event(&mut self, now: Duration, event: &NetEvent) {
        match *event {
            NetEvent::DirectOpened(id) => {
                if !self.open.contains(&id) {
                    self.open.push(id);
                }
                if let Some(peer) = self.peers.iter_mut().find(|peer| peer.id == id) {
                    peer.closing = None;
                    peer.link.direct_opened(now);
                }
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
            NetEvent::NoRelay
            | NetEvent::ServerLost { .. }
            | NetEvent::ServerReconnecting { .. } => self.set_relay_available(now, false),
            NetEvent::ServerResumed { .. } => self.set_relay_available(now, true),
            NetEvent::Roster(_) if self.relay_available.is_none() => {
                self.set_relay_available(now, true);
            }
            _ => {}
        }
    }

    /// Passes every datagram that came to its link, and what is of the game on to the game.
    fn receive(&mut self, now: Duration) {
        let Self {
            network,
            peers,
            shaper,
            exchange,
            epoch,
            ..
        } = self;
        network.receive(now, &mut |received| {
            let Received { path, from, .. } = received;
            if !shaper.admit(path) {
                return;
            }
            let Some(peer) = peers.iter_mut().find(|peer| peer.id == from) else {
                return;
            };
            let at = received.at;
            let payload = match peer.receive(now, received) {
                Ok(Incoming::Data { payload, .. }) => Payload::new(payload),
                Ok(Incoming::Duplicate) if path == Path::Direct => Some(Payload::EMPTY),
                Ok(Incoming::Control(messages)) => {
                    for message in messages {
                        exchange.report(Report::Control(from, message));
                    }
                    None
                }
                Ok(Incoming::Duplicate | Incoming::OtherEpoch | Incoming::Nothing) => None,
                // The link has counted it by its reason.
                Err(_counted) => None,
            };
            if let (Some(payload), Some(epoch)) = (payload, *epoch) {
                exchange.deliver(Inbound {
                    from,
                    epoch,
                    at,
                    path,
                    packet: *peer.link.last_packet(),
                    route_is_direct: peer.route_is_direct(),
                    payload,
                });
            }
        });
    }

    /// Sends one packet of the game on the path or paths of its route.
    fn send(&mut self, now: Duration, packet: &Outgoing) {
        let Outgoing {
            to, epoch, inputs, ..
        } = *packet;
        let Self {
            peers,
            shaper,
            network,
            exchange,
            ..
        } = self;
        if self.epoch != Some(epoch) {
            return;
        }
        let Some(peer) = peers.iter_mut().find(|peer| peer.id == to) else {
            return;
        };
        let by = peer
            .link
            .send_data(now, packet.payload.bytes(), inputs.is_some(), &mut |sent| {
                hand_over(shaper, network.as_mut(), now, to, sent)
            });
        // What the refusal of a packet decided.
        report_changes(exchange, peer);
        // What no path took is carried by a later datagram: each holds all unacknowledged inputs.
        let Some((first, last)) = inputs.filter(|(_, last)| *last > peer.carried) else {
            return;
        };
        if by.direct || by.relay {
            let first = first.max(peer.carried + 1);
            peer.carried = last;
            let departure = InputDeparture {
                peer: to,
                first,
                last,
                by,
            };
            exchange.report_departure(epoch, departure);
        }
    }

    /// Lets every link judge its paths and send what is due, and publishes its state.
    fn poll_links(&mut self) {
        let now = self.clock.now();
        let Self {
            peers,
            shaper,
            network,
            exchange,
            ..
        } = self;
        let ticked = exchange.ticked();
        for peer in peers.iter_mut() {
            peer.notice_closed(now);
            let id = peer.id;
            if let Some(at) = ticked {
                peer.link.set_game_tick(at);
            }
            peer.link.poll(now, &mut |sent| {
                hand_over(shaper, network.as_mut(), now, id, sent)
            });
            if peer.link.renegotiation_due(now) {
                network.renegotiate(id);
            }
            if peer.usable_at.is_none() && peer.link.usable() {
                peer.usable_at = Some(now);
            }
            report_changes(exchange, peer);
        }
        self.publish(now);
    }

    fn publish(&self, now: Duration) {
        let Self {
            peers,
            shaper,
            network,
            exchange,
            ..
        } = self;
        exchange.publish(|view| {
            let View {
                peers: views,
                realised,
                direct_only,
            } = view;
            views.clear();
            views.extend(peers.iter().map(|peer| {
                let pair = network.candidate_pair(peer.id);
                peer.view(now, pair)
            }));
            for path in Path::ALL {
                let newest = shaper.realised(path);
                let known = &mut realised[path.index()];
                if known.offered != newest.offered || known.cut_incoming != newest.cut_incoming {
                    known.clone_from(newest);
                }
            }
            let direct = shaper.shape(Path::Direct);
            *direct_only = !direct.is_clear() && direct != shaper.shape(Path::Relay);
        });
    }
}

fn report_changes(exchange: &Exchange, peer: &mut Peer) {
    for change in peer.link.drain_changes() {
        exchange.report(Report::Route(peer.id, exchange.frame(), change));
    }
}

/// Gives a packet to the conditions, or to the network where none apply.
fn hand_over(
    shaper: &mut PacketShaper,
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
