//! Delays and drops the packets that one peer sends, and holds them until they are due.
//!
//! The fate and the delay of a datagram are decided when it is pushed, by seeded generators per path,
//! with the same number of draws for every packet: they depend on the seed and the packet's place in
//! the order alone. Packets on the relay path go through a [`RelayLane`] instead, which behaves like
//! the TCP connections of the real one.

use std::{cmp::Ordering, collections::BinaryHeap, time::Duration};

use rand_core::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::relay::{PacketTag, Parcel, RelayLane};
use super::{Burst, Conditions, QUEUE_LIMIT, Realised, Shape, Transport};
use crate::wire::Path;

/// Packets that may wait at once; more are dropped. Ten seconds at 120 Hz with three datagrams a
/// tick on both paths.
const QUEUE_MAX: usize = 8_192;
/// Spent buffers kept for reuse: a quarter of a second at 60 Hz with two paths and two datagrams.
const SPARE_MAX: usize = 64;

/// Direction of an outage, from the view of this peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Packets that this peer sends.
    Outgoing,
    /// Packets that other peers send to it.
    Incoming,
}

/// A packet that is due: deliver it, then [`recycle`](Shaper::recycle) its buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shaped<T> {
    /// Path on which it was sent.
    pub path: Path,
    /// What the caller attached in [`Shaper::push`], its receiver usually.
    pub tag: T,
    /// When it was due: at or before the time at which it was taken out.
    pub due: Duration,
    /// The datagram.
    pub bytes: Vec<u8>,
}

#[derive(Debug)]
struct Waiting<T> {
    /// Breaks ties between packets that are due at the same time.
    order: u64,
    /// Place in the order of sending.
    number: u64,
    pushed: Duration,
    /// A second copy, which is only counted as such.
    copy: bool,
    shaped: Shaped<T>,
}

// Reversed: the heap yields the earliest first, and equals in the order of sending.
impl<T> Ord for Waiting<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.shaped.due, other.order).cmp(&(self.shaped.due, self.order))
    }
}

impl<T> PartialOrd for Waiting<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Waiting<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Waiting<T> {}

/// The random numbers of one packet, each in [0, 1).
struct Draws {
    lost: f64,
    late: f64,
    turn: f64,
    held: f64,
    copied: f64,
    copy_late: f64,
}

#[derive(Debug)]
struct Lane {
    shape: Shape,
    rng: Xoshiro256PlusPlus,
    /// Draws for everything but loss and jitter, so that the meaning of a seed for those two does not
    /// depend on the others.
    more: Xoshiro256PlusPlus,
    cut: [bool; 2],
    /// In the bad state of a burst.
    bad: bool,
    /// The last packet offered was lost.
    losing: bool,
    /// When the rate limit has sent everything that is queued.
    busy_until: Duration,
    /// The newest packet delivered, by its place in the order.
    newest: u64,
    realised: Realised,
}

impl Lane {
    fn new(shape: Shape, seed: u64) -> Self {
        let rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut more = rng.clone();
        more.jump();
        Self {
            shape,
            rng,
            more,
            cut: [false; 2],
            bad: false,
            losing: false,
            busy_until: Duration::ZERO,
            newest: 0,
            realised: Realised::empty(),
        }
    }

    fn draw(&mut self) -> Draws {
        Draws {
            lost: unit(&mut self.rng),
            late: unit(&mut self.rng),
            turn: unit(&mut self.more),
            held: unit(&mut self.more),
            copied: unit(&mut self.more),
            copy_late: unit(&mut self.more),
        }
    }

    /// Whether the packet is lost, independently or in a burst.
    fn loses(&mut self, draws: &Draws) -> bool {
        self.bad = self.shape.burst.is_some_and(|burst: Burst| {
            let (enter, leave) = burst.chances();
            if self.bad {
                draws.turn >= leave
            } else {
                draws.turn < enter
            }
        });
        self.bad || draws.lost < self.shape.loss
    }

    fn is_cut(&self, since: Option<Duration>) -> bool {
        let outage = self.shape.cut.zip(since);
        self.cut[Direction::Outgoing as usize]
            || outage.is_some_and(|(cut, since)| cut.covers(since))
    }

    /// The wait at the rate limit, or `None` if it is too long.
    fn queue(&mut self, now: Duration, bytes: usize) -> Option<Duration> {
        let Some(rate) = self.shape.rate else {
            return Some(Duration::ZERO);
        };
        let start = self.busy_until.max(now);
        if start - now > QUEUE_LIMIT {
            return None;
        }
        self.busy_until = start + Duration::from_secs_f64(bytes as f64 * 8.0 / rate as f64);
        Some(self.busy_until - now)
    }

    /// Latency and jitter.
    fn delay(&self, late: f64) -> Duration {
        (self.shape.latency + self.shape.jitter.mul_f64(2.0 * late))
            .saturating_sub(self.shape.jitter)
    }

    fn hold(&self, held: f64) -> Duration {
        self.shape
            .reorder
            .filter(|reorder| held < reorder.share)
            .map_or(Duration::ZERO, |reorder| reorder.hold)
    }
}

/// Applies conditions to what one peer sends: [`push`](Self::push) each packet, and deliver what
/// [`pop_due`](Self::pop_due) returns. `T` is attached to every packet, its receiver and kind usually:
/// see [`PacketTag`].
#[derive(Debug)]
pub struct Shaper<T> {
    lanes: [Lane; 2],
    pub(super) relay: RelayLane<T>,
    queue: BinaryHeap<Waiting<T>>,
    order: u64,
    spare: Vec<Vec<u8>>,
    /// Start of the episode, from which outages count.
    episode: Option<Duration>,
}

impl<T: PacketTag> Shaper<T> {
    /// Creates a shaper with the conditions of `player`, drawn from `seed`. Peers may share a seed:
    /// players and paths draw from different streams of it.
    #[must_use]
    pub fn new(conditions: &Conditions, player: usize, seed: u64) -> Self {
        let lane = |path: Path| {
            let stream = (player as u64) * 2 + path.index() as u64 + 1;
            // An odd multiplier (2^64 / golden ratio) keeps streams of neighbouring seeds apart.
            let seed = seed ^ stream.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            Lane::new(conditions.shape(player, path), seed)
        };
        let lanes = [lane(Path::Direct), lane(Path::Relay)];
        let relayed = &lanes[Path::Relay.index()];
        let mut segments = relayed.more.clone();
        segments.jump();
        Self {
            relay: RelayLane::new(&relayed.shape, segments),
            lanes,
            queue: BinaryHeap::new(),
            order: 0,
            spare: Vec::new(),
            episode: None,
        }
    }

    /// The conditions of `path`.
    #[must_use]
    pub const fn shape(&self, path: Path) -> Shape {
        self.lanes[path.index()].shape
    }

    /// Sets the conditions of `path` from now on.
    pub fn set_shape(&mut self, path: Path, shape: Shape) {
        self.lanes[path.index()].shape = shape;
        if path == Path::Relay {
            self.relay.set_shape(&shape);
        }
    }

    /// Starts an episode at `now`, from which outages count.
    pub fn begin_episode(&mut self, now: Duration) {
        self.episode = Some(now);
        self.relay.begin_episode(now);
    }

    /// Blackholes one direction of `path` until [`heal`](Self::heal). Packets in flight still arrive.
    /// What is sent on a relay path over [TCP](Transport::Tcp) meanwhile arrives after the end.
    pub fn cut(&mut self, path: Path, direction: Direction) {
        self.set_cut(path, direction, true);
    }

    /// Blackholes the direct path, both ways.
    pub fn cut_direct(&mut self) {
        self.cut(Path::Direct, Direction::Outgoing);
        self.cut(Path::Direct, Direction::Incoming);
    }

    /// Ends a [`cut`](Self::cut).
    pub fn heal(&mut self, path: Path, direction: Direction) {
        self.set_cut(path, direction, false);
    }

    fn set_cut(&mut self, path: Path, direction: Direction, cut: bool) {
        self.lanes[path.index()].cut[direction as usize] = cut;
        if (path, direction) == (Path::Relay, Direction::Outgoing) {
            self.relay.set_blackhole(cut);
        }
    }

    /// Loses the packets in flight on `path`, as an unplugged cable does. On a relay path over
    /// [TCP](Transport::Tcp) they are sent again.
    pub fn lose_in_flight(&mut self, path: Path) {
        if self.is_tcp(path) {
            self.relay.lose_in_flight();
            return;
        }
        let lost = |waiting: &Waiting<T>| waiting.shaped.path == path;
        let originals = self.queue.iter().filter(|w| lost(w) && !w.copy).count();
        self.queue.retain(|waiting| !lost(waiting));
        self.lanes[path.index()].realised.cut += originals as u64;
    }

    /// Whether packets of `path` go through the lane of the relay.
    fn is_tcp(&self, path: Path) -> bool {
        path == Path::Relay && self.lanes[path.index()].shape.transport == Transport::Tcp
    }

    /// Whether an incoming packet of `path` passes; counts it when it does not.
    pub fn admit(&mut self, path: Path) -> bool {
        let lane = &mut self.lanes[path.index()];
        let cut = lane.cut[Direction::Incoming as usize];
        lane.realised.cut_incoming += u64::from(cut);
        !cut
    }

    /// Whether packets of `path` pass unchanged, so that they need not be pushed.
    #[must_use]
    pub fn is_clear(&self, path: Path) -> bool {
        let lane = &self.lanes[path.index()];
        // A packet does not overtake those that an outage held back on a TCP connection.
        let idle = path == Path::Direct || self.relay.is_idle();
        idle && lane.shape.is_clear() && !lane.cut[Direction::Outgoing as usize]
    }

    /// Decides the fate of a packet that this peer sends, and queues it unless it is lost. `now` does
    /// not decrease from call to call.
    pub fn push(&mut self, now: Duration, path: Path, bytes: &[u8], tag: T) {
        if self.is_tcp(path) {
            self.push_relayed(now, bytes, tag);
            return;
        }
        let full = self.queue.len() >= QUEUE_MAX;
        let since = self.episode.map(|begun| now.saturating_sub(begun));
        let lane = &mut self.lanes[path.index()];
        lane.realised.offered += 1;
        let draws = lane.draw();
        let lost = lane.loses(&draws);
        if lane.is_cut(since) {
            lane.realised.cut += 1;
            return;
        }
        if lost {
            lane.realised.lost += 1;
            lane.realised.loss_runs += u64::from(!lane.losing);
            lane.losing = true;
            return;
        }
        lane.losing = false;
        let Some(wait) = lane.queue(now, bytes.len()).filter(|_| !full) else {
            lane.realised.queue_dropped += 1;
            return;
        };
        let due = now + wait + lane.delay(draws.late) + lane.hold(draws.held);
        let copied = draws.copied < lane.shape.duplicate;
        // The second copy is made behind the rate limit.
        let copy_due = copied.then(|| now + wait + lane.delay(draws.copy_late));
        lane.realised.duplicated += u64::from(copied);
        self.order += 1;
        let order = self.order;
        if let Some(due) = copy_due {
            let shaped = self.shaped(due, path, bytes, tag.clone());
            self.queue.push(Waiting {
                order,
                number: order,
                pushed: now,
                copy: true,
                shaped,
            });
        }
        let shaped = self.shaped(due, path, bytes, tag);
        self.queue.push(Waiting {
            order,
            number: order,
            pushed: now,
            copy: false,
            shaped,
        });
    }

    fn shaped(&mut self, due: Duration, path: Path, bytes: &[u8], tag: T) -> Shaped<T> {
        Shaped {
            path,
            tag,
            due,
            bytes: self.copied(bytes),
        }
    }

    /// A copy in a buffer that was used before.
    fn copied(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(bytes);
        buffer
    }

    fn push_relayed(&mut self, now: Duration, bytes: &[u8], tag: T) {
        self.advance(now);
        self.order += 1;
        let number = self.order;
        let bytes = self.copied(bytes);
        let realised = &mut self.lanes[Path::Relay.index()].realised;
        realised.offered += 1;
        let parcel = Parcel {
            tag,
            bytes,
            pushed: now,
            number,
        };
        self.relay.push(now, parcel, realised);
        self.collect();
    }

    /// Lets everything happen on the relay path that is due by `now`.
    fn advance(&mut self, now: Duration) {
        if self.relay.next_event().is_some_and(|at| at <= now) {
            let realised = &mut self.lanes[Path::Relay.index()].realised;
            self.relay.advance(now, realised);
            self.collect();
        }
    }

    /// Takes over what left the relay path.
    fn collect(&mut self) {
        while let Some((due, parcel)) = self.relay.emitted.arrived.pop_front() {
            let Parcel {
                tag,
                bytes,
                pushed,
                number,
            } = parcel;
            if self.queue.len() >= QUEUE_MAX {
                self.lanes[Path::Relay.index()].realised.queue_dropped += 1;
                self.recycle(bytes);
                continue;
            }
            self.order += 1;
            self.queue.push(Waiting {
                order: self.order,
                number,
                pushed,
                copy: false,
                shaped: Shaped {
                    path: Path::Relay,
                    tag,
                    due,
                    bytes,
                },
            });
        }
        while let Some(bytes) = self.relay.emitted.dropped.pop() {
            self.recycle(bytes);
        }
    }

    /// When [`pop_due`](Self::pop_due) is worth a call next; `None` while nothing is under way.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        let waiting = self.queue.peek().map(|waiting| waiting.shaped.due);
        waiting.into_iter().chain(self.relay.next_event()).min()
    }

    /// The next packet that is due, earliest first.
    pub fn pop_due(&mut self, now: Duration) -> Option<Shaped<T>> {
        self.advance(now);
        if self.queue.peek()?.shaped.due > now {
            return None;
        }
        let waiting = self.queue.pop()?;
        let lane = &mut self.lanes[waiting.shaped.path.index()];
        if !waiting.copy {
            lane.realised.reordered += u64::from(waiting.number < lane.newest);
            lane.newest = lane.newest.max(waiting.number);
            // The delay of the packet, the wait for the tick that took it out included.
            lane.realised.pass(now.saturating_sub(waiting.pushed));
        }
        Some(waiting.shaped)
    }

    /// Reuses the buffer of a delivered packet.
    pub fn recycle(&mut self, bytes: Vec<u8>) {
        if self.spare.len() < SPARE_MAX {
            self.spare.push(bytes);
        }
    }

    /// What was done to the packets of `path` so far.
    #[must_use]
    pub const fn realised(&self, path: Path) -> &Realised {
        &self.lanes[path.index()].realised
    }
}

/// A number in [0, 1) with 53 random bits.
pub(super) fn unit(rng: &mut Xoshiro256PlusPlus) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}
