//! The relay path as it is: websocket queues, a TCP connection to the server, the server's rings, and
//! a TCP connection to each receiver.
//!
//! Nothing is lost on the way but what a queue drops: a lost segment delays its packets and all that
//! were sent after it. The bounds are those of the queues in front of the client's websocket
//! (`src/transport/websocket/queues.rs`) and of the server (`crates/server/src`: `ring.rs`,
//! `send_queue.rs`, `limits.rs`). Not modelled: connections that the server or a client gives up and
//! opens anew, and what other members of the room send to the same receiver.

use std::collections::VecDeque;
use std::time::Duration;

use rand_xoshiro::Xoshiro256PlusPlus;

use super::tcp::{Hop, Outages, Stream};
use super::{Realised, Shape};
use crate::wire::DatagramKind;

/// Game packets that wait for the sender's websocket; beyond it the oldest is dropped.
const GAME_MAX: usize = 64;
/// Control packets that wait for the sender's websocket, before all others; beyond it the oldest is
/// dropped.
const CONTROL_MAX: usize = 96;
/// Send buffer of the sender's kernel in bytes, as Linux sizes it for an Ethernet path
/// (`tcp_sndbuf_expand`). Measured on a blackholed path of Linux 6.18: it takes 52 packets of 800
/// bytes or 654 of 100.
const SENDER_BUFFER: usize = 46_080;
/// Send buffer of the server's kernel in bytes: Linux doubles the 16 KiB that the server asks for.
/// Measured as above: it takes 338 packets of 100 bytes.
const SERVER_BUFFER: usize = 32_768;
/// Packets that wait at the server for one receiver; beyond it the oldest is dropped.
const RING_LEN: usize = 16;
/// The server does not send a packet that waited for longer.
const STALE_AFTER: Duration = Duration::from_millis(150);
/// Packets a second that the server forwards for every other member of the room.
const RATE_PER_MEMBER: f64 = 600.0;
/// Seconds of that rate at once. A burst after an outage can exceed it.
const BURST_SECONDS: f64 = 0.25;

/// What a [`Shaper`](super::Shaper) must know of the tag of a packet, for queues that treat control
/// and each receiver apart.
///
/// `()` stands for game packets to one receiver, a [`DatagramKind`] for packets of that kind to one
/// receiver, and a pair for packets to the receiver that it names.
pub trait PacketTag: Clone {
    /// Whether the packet waits with those of the game, where the oldest one gives way.
    fn is_game(&self) -> bool {
        true
    }

    /// Whether the packet goes to the same receiver as `other`.
    fn same_receiver(&self, other: &Self) -> bool {
        let _ = other;
        true
    }
}

impl PacketTag for () {}

impl PacketTag for DatagramKind {
    fn is_game(&self) -> bool {
        *self != Self::Control
    }
}

impl<Receiver: Clone + PartialEq> PacketTag for (Receiver, DatagramKind) {
    fn is_game(&self) -> bool {
        self.1.is_game()
    }

    fn same_receiver(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

/// A packet on the relay path.
#[derive(Debug)]
pub(super) struct Parcel<T> {
    pub tag: T,
    pub bytes: Vec<u8>,
    pub pushed: Duration,
    /// Its place in the order of sending.
    pub number: u64,
}

/// What left the lane since it was last asked.
#[derive(Debug)]
pub(super) struct Emitted<T> {
    /// Packets that arrived, with the time, in order.
    pub arrived: VecDeque<(Duration, Parcel<T>)>,
    /// Buffers of packets that were dropped.
    pub dropped: Vec<Vec<u8>>,
}

/// The server's allowance of packets for one client.
#[derive(Clone, Copy, Debug, Default)]
struct Allowance {
    tokens: f64,
    last: Option<Duration>,
}

impl Allowance {
    fn take(&mut self, now: Duration, receivers: usize) -> bool {
        let rate = RATE_PER_MEMBER * receivers as f64;
        let most = rate * BURST_SECONDS;
        self.tokens = self.last.map_or(most, |last| {
            let earned = now.saturating_sub(last).as_secs_f64() * rate;
            (self.tokens + earned).min(most)
        });
        self.last = Some(now);
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

/// The server's ring and connection for one receiver.
#[derive(Debug)]
struct Downlink<T> {
    receiver: T,
    ring: VecDeque<(Duration, Parcel<T>)>,
    stream: Stream<Parcel<T>>,
}

/// The relay path from one peer to all others.
#[derive(Debug)]
pub(super) struct RelayLane<T> {
    hops: [Hop; 2],
    outages: Outages,
    control: VecDeque<Parcel<T>>,
    game: VecDeque<Parcel<T>>,
    up: Stream<Parcel<T>>,
    allowance: Allowance,
    down: Vec<Downlink<T>>,
    /// The generator of the next receiver's connection.
    rng: Xoshiro256PlusPlus,
    /// Packets that a receiving end has just read.
    read: VecDeque<Parcel<T>>,
    /// The next event of all connections.
    next: Option<Duration>,
    pub emitted: Emitted<T>,
}

impl<T: PacketTag> RelayLane<T> {
    pub(super) fn new(shape: &Shape, rng: Xoshiro256PlusPlus) -> Self {
        let mut next = rng.clone();
        next.jump();
        let mut lane = Self {
            hops: [Hop::default(); 2],
            outages: Outages::default(),
            control: VecDeque::new(),
            game: VecDeque::new(),
            up: Stream::new(SENDER_BUFFER, rng),
            allowance: Allowance::default(),
            down: Vec::new(),
            rng: next,
            read: VecDeque::new(),
            next: None,
            emitted: Emitted {
                arrived: VecDeque::new(),
                dropped: Vec::new(),
            },
        };
        lane.set_shape(shape);
        lane
    }

    pub(super) fn set_shape(&mut self, shape: &Shape) {
        self.hops = Hop::halves(shape);
        self.outages.cut = shape.cut;
    }

    pub(super) fn set_blackhole(&mut self, blackhole: bool) {
        self.outages.blackhole = blackhole;
    }

    pub(super) fn begin_episode(&mut self, now: Duration) {
        self.outages.episode = Some(now);
    }

    /// Loses the segments under way; they are sent again.
    pub(super) fn lose_in_flight(&mut self) {
        self.up.lose_in_flight();
        for down in &mut self.down {
            down.stream.lose_in_flight();
        }
        self.next = self.earliest();
    }

    /// Whether nothing waits and nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.control.is_empty()
            && self.game.is_empty()
            && self.up.is_idle()
            && self.down.iter().all(|down| down.stream.is_idle())
    }

    /// When something happens next.
    pub(super) const fn next_event(&self) -> Option<Duration> {
        self.next
    }

    /// Puts a packet into the sender's queue. Call [`advance`](Self::advance) to `now` first.
    pub(super) fn push(&mut self, now: Duration, parcel: Parcel<T>, realised: &mut Realised) {
        let (queue, max) = if parcel.tag.is_game() {
            (&mut self.game, GAME_MAX)
        } else {
            (&mut self.control, CONTROL_MAX)
        };
        if queue.len() >= max
            && let Some(oldest) = queue.pop_front()
        {
            self.emitted.drop(oldest, realised);
        }
        queue.push_back(parcel);
        self.pump(now, realised);
        self.next = self.earliest();
    }

    /// Lets everything happen that is due by `now`, each thing at its own time: the outcome does not
    /// depend on how often this is called.
    pub(super) fn advance(&mut self, now: Duration, realised: &mut Realised) {
        while let Some(at) = self.next.filter(|&at| at <= now) {
            let due = |down: &&mut Downlink<T>| down.stream.next_event() == Some(at);
            // The server's connections first: at the same moment they make room for what comes.
            if let Some(down) = self.down.iter_mut().find(due) {
                down.stream
                    .step(&self.hops[1], &self.outages, &mut self.read);
                let arrived = self.read.drain(..).map(|parcel| (at, parcel));
                self.emitted.arrived.extend(arrived);
            } else {
                self.up.step(&self.hops[0], &self.outages, &mut self.read);
                self.forward(at, realised);
            }
            self.pump(at, realised);
            self.next = self.earliest();
        }
        let down = self.down.iter().map(|down| &down.stream);
        let streams = std::iter::once(&self.up).chain(down);
        (realised.retransmitted, realised.timeouts) = streams
            .fold((0, 0), |(again, timeouts), stream| {
                (again + stream.retransmitted, timeouts + stream.timeouts)
            });
    }

    fn earliest(&self) -> Option<Duration> {
        let down = self.down.iter().map(|down| down.stream.next_event());
        down.chain([self.up.next_event()]).flatten().min()
    }

    /// The server puts what it has read into the rings.
    fn forward(&mut self, now: Duration, realised: &mut Realised) {
        while let Some(parcel) = self.read.pop_front() {
            let known = self
                .down
                .iter()
                .position(|down| down.receiver.same_receiver(&parcel.tag));
            let index = known.unwrap_or_else(|| {
                let stream = Stream::new(SERVER_BUFFER, self.rng.clone());
                self.rng.jump();
                self.down.push(Downlink {
                    receiver: parcel.tag.clone(),
                    ring: VecDeque::with_capacity(RING_LEN),
                    stream,
                });
                self.down.len() - 1
            });
            if !self.allowance.take(now, self.down.len()) {
                self.emitted.drop(parcel, realised);
                continue;
            }
            let ring = &mut self.down[index].ring;
            if ring.len() == RING_LEN
                && let Some((_, oldest)) = ring.pop_front()
            {
                self.emitted.drop(oldest, realised);
            }
            ring.push_back((now, parcel));
            // The connection's writer runs beside its readers.
            self.write(now, index, realised);
        }
    }

    /// The server writes to one receiver what the send buffer takes.
    fn write(&mut self, now: Duration, index: usize, realised: &mut Realised) {
        let Downlink { ring, stream, .. } = &mut self.down[index];
        while stream.has_room()
            && let Some((received, parcel)) = ring.pop_front()
        {
            if now - received > STALE_AFTER {
                self.emitted.drop(parcel, realised);
                continue;
            }
            let bytes = parcel.bytes.len();
            stream.send(now, &self.hops[1], &self.outages, parcel, bytes);
        }
    }

    /// Moves packets from the queues into the send buffers behind them.
    fn pump(&mut self, now: Duration, realised: &mut Realised) {
        while self.up.has_room()
            && let Some(parcel) = self.control.pop_front().or_else(|| self.game.pop_front())
        {
            let bytes = parcel.bytes.len();
            self.up
                .send(now, &self.hops[0], &self.outages, parcel, bytes);
        }
        for index in 0..self.down.len() {
            self.write(now, index, realised);
        }
    }
}

impl<T> Emitted<T> {
    fn drop(&mut self, parcel: Parcel<T>, realised: &mut Realised) {
        realised.queue_dropped += 1;
        self.dropped.push(parcel.bytes);
    }
}

#[cfg(test)]
mod tests;
