//! How often this peer polls, when it did not, and the clock that pauses meanwhile.
//!
//! Owns the poll interval, hitches and the awake clock. Never reads a clock: `now` is passed in.

use std::time::Duration;

/// Gaps remembered. Half a second at 60 Hz: a browser that falls to 15 Hz is believed after a second.
const GAPS: usize = 32;

/// Shortest hitch: two frames at 60 Hz.
pub const HITCH_MIN: Duration = Duration::from_millis(33);

/// Own poll cadence and the awake clock.
#[derive(Clone, Debug)]
pub struct Cadence {
    gaps: [u32; GAPS],
    filled: usize,
    next: usize,
    median: Duration,
    last_poll: Option<Duration>,
    last_seen: Option<Duration>,
    paused: Duration,
    hitches: u64,
    hitch_at: Option<Duration>,
}

impl Cadence {
    /// Starts with the interval that the settings promise.
    #[must_use]
    pub const fn new(interval: Duration) -> Self {
        Self {
            gaps: [0; GAPS],
            filled: 0,
            next: 0,
            median: interval,
            last_poll: None,
            last_seen: None,
            paused: Duration::ZERO,
            hitches: 0,
            hitch_at: None,
        }
    }

    /// Notices a hitch: a gap longer than 33 ms and two and a half intervals in which this peer
    /// did nothing. The awake clock advances by one interval over it. Called at every entry, so
    /// that packets drained after a hitch are stamped with the corrected clock.
    pub fn touch(&mut self, now: Duration, interval: Duration) {
        let Some(last) = self.last_seen.replace(now) else {
            return;
        };
        let gap = now.saturating_sub(last);
        if gap > HITCH_MIN.max(interval * 5 / 2) {
            self.paused += gap - interval;
            self.hitches += 1;
            self.hitch_at = Some(now);
        }
    }

    /// Counts one poll.
    pub fn poll(&mut self, now: Duration) {
        let Some(last) = self.last_poll.replace(now) else {
            return;
        };
        let gap = now.saturating_sub(last);
        // Two polls in one tick say nothing about the cadence.
        if gap < Duration::from_millis(1) {
            return;
        }
        self.gaps[self.next] = u32::try_from(gap.as_micros()).unwrap_or(u32::MAX);
        self.next = (self.next + 1) % GAPS;
        self.filled = (self.filled + 1).min(GAPS);
        // Below eight gaps the settings know better.
        if self.filled >= 8 && self.next.is_multiple_of(4) {
            let mut sorted = self.gaps;
            let sorted = &mut sorted[..self.filled];
            let middle = self.filled / 2;
            let (_, median, _) = sorted.select_nth_unstable(middle);
            self.median = Duration::from_micros(u64::from(*median));
        }
    }

    /// Median time between polls.
    #[must_use]
    pub const fn interval(&self) -> Duration {
        self.median
    }

    /// Time since the origin without the hitches.
    #[must_use]
    pub fn awake(&self, now: Duration) -> Duration {
        now.saturating_sub(self.paused)
    }

    /// Whether a hitch ended at this very moment: what is drained now waited here.
    #[must_use]
    pub fn hitching(&self, now: Duration) -> bool {
        self.hitch_at == Some(now)
    }

    /// Hitches so far.
    #[must_use]
    pub const fn hitches(&self) -> u64 {
        self.hitches
    }
}
