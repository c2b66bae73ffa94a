//! Delays and drops of the packets that one peer sends.
//!
//! Owns the packets between being sent and being due, and what was realised of the conditions.
//! Fate and delay are decided when a packet is pushed, by a seeded generator per path, with the
//! same number of draws for every packet: a packet's fate depends on the seed and its place in
//! the order alone. Never reads a clock.

use std::{cmp::Ordering, collections::BinaryHeap, time::Duration};

use rand_core::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::{Conditions, Shape};
use crate::transport::wire::Path;

/// Packets that may wait at once; more are dropped. Ten seconds at 120 Hz with three datagrams a
/// tick on both paths.
const QUEUE_MAX: usize = 8_192;
/// Buckets of a millisecond for the delay's 95th percentile; longer delays share the last.
const DELAY_BUCKETS: usize = 1_024;

/// Direction of a cut, seen from this peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Packets that this peer sends.
    Outgoing,
    /// Packets that this peer would receive.
    Incoming,
}

/// What the conditions did to one path.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Realised {
    /// Packets that this peer sent on the path.
    pub offered: u64,
    /// Of these, lost by `loss`.
    pub lost: u64,
    /// Of these, lost by a cut, or because too many waited.
    pub cut: u64,
    /// Packets that a cut kept from coming in. Not in `offered`.
    pub cut_incoming: u64,
    /// Sum of the delays of the packets let through.
    delay_sum: Duration,
    /// Packets let through by their delay in milliseconds, rounded up. Empty is none.
    delays: Vec<u32>,
}

impl Realised {
    /// What was realised since `before`, an earlier state of the same path.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let earlier = before.delays.iter().copied().chain(std::iter::repeat(0));
        Self {
            offered: self.offered.saturating_sub(before.offered),
            lost: self.lost.saturating_sub(before.lost),
            cut: self.cut.saturating_sub(before.cut),
            cut_incoming: self.cut_incoming.saturating_sub(before.cut_incoming),
            delay_sum: self.delay_sum.saturating_sub(before.delay_sum),
            delays: std::iter::zip(&self.delays, earlier)
                .map(|(now, then)| now.saturating_sub(then))
                .collect(),
        }
    }

    /// Packets let through.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.delays.iter().map(|&count| u64::from(count)).sum()
    }

    /// Mean delay of the packets let through, in milliseconds. `None` of none.
    #[must_use]
    pub fn mean_delay_ms(&self) -> Option<f64> {
        let passed = self.passed();
        (passed > 0).then(|| self.delay_sum.as_secs_f64() * 1e3 / passed as f64)
    }

    /// Their 95th percentile, in milliseconds, rounded up; 1,024 or more is 1,024. `None` of none.
    #[must_use]
    pub fn p95_delay_ms(&self) -> Option<f64> {
        let rank = (self.passed() * 95).div_ceil(100);
        let mut seen = 0;
        let bucket = self.delays.iter().position(|&count| {
            seen += u64::from(count);
            count > 0 && seen >= rank
        });
        bucket.map(|bucket| bucket as f64)
    }
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

#[derive(Debug)]
struct Lane {
    shape: Shape,
    rng: Xoshiro256PlusPlus,
    cut: [bool; 2],
    realised: Realised,
}

/// Shapes what one peer sends.
#[derive(Debug)]
pub struct Shaper<T> {
    lanes: [Lane; 2],
    queue: BinaryHeap<Waiting<T>>,
    order: u64,
    spare: Vec<Vec<u8>>,
}

impl<T> Shaper<T> {
    /// The conditions of `player`, drawn from `seed`. Peers may share a seed: players and paths
    /// draw from different streams of it.
    #[must_use]
    pub fn new(conditions: &Conditions, player: usize, seed: u64) -> Self {
        let lane = |path: Path| {
            let stream = (player as u64) * 2 + path.index() as u64 + 1;
            // An odd multiplier (2^64 / golden ratio) keeps streams of neighbouring seeds apart.
            let seed = seed ^ stream.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            Lane {
                shape: conditions.shape(player, path),
                rng: Xoshiro256PlusPlus::seed_from_u64(seed),
                cut: [false; 2],
                realised: Realised {
                    delays: vec![0; DELAY_BUCKETS + 1],
                    ..Realised::default()
                },
            }
        };
        Self {
            lanes: [lane(Path::Direct), lane(Path::Relay)],
            queue: BinaryHeap::new(),
            order: 0,
            spare: Vec::new(),
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
        let before = self.queue.len();
        self.queue.retain(|waiting| waiting.shaped.path != path);
        self.lanes[path.index()].realised.cut += (before - self.queue.len()) as u64;
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
        let lane = &mut self.lanes[path.index()];
        lane.realised.offered += 1;
        let (fate, late) = (unit(&mut lane.rng), unit(&mut lane.rng));
        if lane.cut[Direction::Outgoing as usize] || self.queue.len() >= QUEUE_MAX {
            lane.realised.cut += 1;
            return;
        }
        if fate < lane.shape.loss {
            lane.realised.lost += 1;
            return;
        }
        let delay = (lane.shape.latency + lane.shape.jitter.mul_f64(2.0 * late))
            .saturating_sub(lane.shape.jitter);
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(bytes);
        self.order += 1;
        self.queue.push(Waiting {
            due: now + delay,
            order: self.order,
            pushed: now,
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
        let realised = &mut self.lanes[waiting.shaped.path.index()].realised;
        // What the packet met, the wait for the tick that took it out included.
        let delay = now.saturating_sub(waiting.pushed);
        realised.delay_sum += delay;
        let bucket = usize::try_from(delay.as_micros().div_ceil(1_000)).unwrap_or(usize::MAX);
        realised.delays[bucket.min(DELAY_BUCKETS)] += 1;
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
