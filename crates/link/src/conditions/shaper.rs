//! Delays and drops of the packets that one peer sends.
//!
//! Owns the packets between being sent and being due. Fate and delay are decided when a packet is
//! pushed, by seeded generators per path, with the same number of draws for every packet: a
//! packet's fate depends on the seed and its place in the order alone. Never reads a clock.

use std::{cmp::Ordering, collections::BinaryHeap, time::Duration};

use rand_core::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::{Burst, Conditions, QUEUE_LIMIT, Realised, Shape};
use crate::wire::Path;

/// Packets that may wait at once; more are dropped. Ten seconds at 120 Hz with three datagrams a
/// tick on both paths.
const QUEUE_MAX: usize = 8_192;

/// Direction of a cut, seen from this peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Packets that this peer sends.
    Outgoing,
    /// Packets that this peer would receive.
    Incoming,
}

/// A packet that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shaped<T> {
    /// Path on which it was sent.
    pub path: Path,
    /// What the sender attached, its receiver usually.
    pub tag: T,
    /// The datagram. Hand it back with [`Shaper::recycle`] to spare an allocation.
    pub bytes: Vec<u8>,
}

#[derive(Debug)]
struct Waiting<T> {
    due: Duration,
    order: u64,
    pushed: Duration,
    /// A second copy, which counts as nothing but that.
    copy: bool,
    shaped: Shaped<T>,
}

// Reversed: the heap gives the earliest first, and equals in the order of sending.
impl<T> Ord for Waiting<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.due, other.order).cmp(&(self.due, self.order))
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

/// What one packet drew.
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
    /// Draws for what loss and jitter do not need: with them alone a seed means what it meant
    /// before there was more.
    more: Xoshiro256PlusPlus,
    cut: [bool; 2],
    /// In the bad state of a burst.
    bad: bool,
    /// The last packet offered was lost.
    losing: bool,
    /// When the rate limit has sent everything that waits.
    busy_until: Duration,
    /// The newest packet let through, by its place in the order.
    newest: u64,
    realised: Realised,
}

impl Lane {
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

    /// Whether the packet is lost, by itself or in a burst.
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

    /// The wait for the rate limit, or `None` if it is too long.
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

/// Shapes what one peer sends.
#[derive(Debug)]
pub struct Shaper<T> {
    lanes: [Lane; 2],
    queue: BinaryHeap<Waiting<T>>,
    order: u64,
    spare: Vec<Vec<u8>>,
    /// When the episode began, from which outages count.
    episode: Option<Duration>,
}

impl<T: Clone> Shaper<T> {
    /// The conditions of `player`, drawn from `seed`. Peers may share a seed: players and paths
    /// draw from different streams of it.
    #[must_use]
    pub fn new(conditions: &Conditions, player: usize, seed: u64) -> Self {
        let lane = |path: Path| {
            let stream = (player as u64) * 2 + path.index() as u64 + 1;
            // An odd multiplier (2^64 / golden ratio) keeps streams of neighbouring seeds apart.
            let seed = seed ^ stream.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let rng = Xoshiro256PlusPlus::seed_from_u64(seed);
            let mut more = rng.clone();
            more.jump();
            Lane {
                shape: conditions.shape(player, path),
                rng,
                more,
                cut: [false; 2],
                bad: false,
                losing: false,
                busy_until: Duration::ZERO,
                newest: 0,
                realised: Realised::empty(),
            }
        };
        Self {
            lanes: [lane(Path::Direct), lane(Path::Relay)],
            queue: BinaryHeap::new(),
            order: 0,
            spare: Vec::new(),
            episode: None,
        }
    }

    /// What happens on `path`.
    #[must_use]
    pub const fn shape(&self, path: Path) -> Shape {
        self.lanes[path.index()].shape
    }

    /// Changes what happens on `path` from now on.
    pub fn set_shape(&mut self, path: Path, shape: Shape) {
        self.lanes[path.index()].shape = shape;
    }

    /// An episode begins: outages count from here.
    pub fn begin_episode(&mut self, now: Duration) {
        self.episode = Some(now);
    }

    /// Blackholes one direction of `path` until it is healed. What is on its way still arrives.
    pub fn cut(&mut self, path: Path, direction: Direction) {
        self.lanes[path.index()].cut[direction as usize] = true;
    }

    /// Blackholes the direct path, both ways.
    pub fn cut_direct(&mut self) {
        self.cut(Path::Direct, Direction::Outgoing);
        self.cut(Path::Direct, Direction::Incoming);
    }

    /// Ends a cut.
    pub fn heal(&mut self, path: Path, direction: Direction) {
        self.lanes[path.index()].cut[direction as usize] = false;
    }

    /// Loses what is on its way on `path`, as a cable does when it is pulled.
    pub fn lose_in_flight(&mut self, path: Path) {
        let lost = |waiting: &Waiting<T>| waiting.shaped.path == path;
        let originals = self.queue.iter().filter(|w| lost(w) && !w.copy).count();
        self.queue.retain(|waiting| !lost(waiting));
        self.lanes[path.index()].realised.cut += originals as u64;
    }

    /// Whether a packet that came in on `path` passes; counts it when it does not.
    pub fn admit(&mut self, path: Path) -> bool {
        let lane = &mut self.lanes[path.index()];
        let cut = lane.cut[Direction::Incoming as usize];
        lane.realised.cut_incoming += u64::from(cut);
        !cut
    }

    /// Whether packets pass `path` untouched, so that they need not be handed to the shaper.
    #[must_use]
    pub fn is_clear(&self, path: Path) -> bool {
        let lane = &self.lanes[path.index()];
        lane.shape.is_clear() && !lane.cut[Direction::Outgoing as usize]
    }

    /// Takes a packet that this peer sends.
    pub fn push(&mut self, now: Duration, path: Path, bytes: &[u8], tag: T) {
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
        if let Some(due) = copy_due {
            self.wait(now, due, true, path, bytes, tag.clone());
        }
        self.wait(now, due, false, path, bytes, tag);
    }

    fn wait(
        &mut self,
        pushed: Duration,
        due: Duration,
        copy: bool,
        path: Path,
        bytes: &[u8],
        tag: T,
    ) {
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(bytes);
        self.queue.push(Waiting {
            due,
            order: self.order,
            pushed,
            copy,
            shaped: Shaped {
                path,
                tag,
                bytes: buffer,
            },
        });
    }

    /// The next packet that is due, earliest first.
    pub fn pop_due(&mut self, now: Duration) -> Option<Shaped<T>> {
        if self.queue.peek()?.due > now {
            return None;
        }
        let waiting = self.queue.pop()?;
        let lane = &mut self.lanes[waiting.shaped.path.index()];
        if !waiting.copy {
            lane.realised.reordered += u64::from(waiting.order < lane.newest);
            lane.newest = lane.newest.max(waiting.order);
            // What the packet met, the wait for the tick that took it out included.
            lane.realised.pass(now.saturating_sub(waiting.pushed));
        }
        Some(waiting.shaped)
    }

    /// When the next packet is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        self.queue.peek().map(|waiting| waiting.due)
    }

    /// Takes a spent buffer back.
    pub fn recycle(&mut self, bytes: Vec<u8>) {
        if self.spare.len() < 64 {
            self.spare.push(bytes);
        }
    }

    /// What was realised on `path` so far.
    #[must_use]
    pub fn realised(&self, path: Path) -> Realised {
        self.lanes[path.index()].realised.clone()
    }
}

/// A number in [0, 1) with 53 random bits.
fn unit(rng: &mut Xoshiro256PlusPlus) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}
