//! How often this peer polls, when it did not, and the clock that pauses meanwhile.
//!
//! Owns the poll interval, hitches and the awake clock. Never reads a clock: `now` is passed in.

use std::time::Duration;

/// Gaps remembered. Half a second at 60 Hz: a browser that falls to 15 Hz is believed after a second.
const GAPS: usize = 32;

/// Most that one gap weighs when time is shared out among gaps: the longest interval that a header
/// can tell. A single long pause is a hitch and no cadence.
const WEIGHT_MAX: u32 = 126_000;

/// Shortest hitch: two frames at 60 Hz.
pub(super) const OWN_STALL_MIN: Duration = Duration::from_millis(33);

/// Own poll cadence and the awake clock.
#[derive(Clone, Debug)]
pub(super) struct Cadence {
    gaps: [u32; GAPS],
    filled: usize,
    next: usize,
    usual: Duration,
    last_poll: Option<Duration>,
    last_seen: Option<Duration>,
    paused: Duration,
    own_stalls: u64,
    own_stall_at: Option<Duration>,
    /// The newest gap, and what ended it.
    gap: (Duration, Duration),
}

impl Cadence {
    /// Starts with the interval that the settings promise.
    #[must_use]
    pub(super) const fn new(interval: Duration) -> Self {
        Self {
            gaps: [0; GAPS],
            filled: 0,
            next: 0,
            usual: interval,
            last_poll: None,
            last_seen: None,
            paused: Duration::ZERO,
            own_stalls: 0,
            own_stall_at: None,
            gap: (Duration::ZERO, Duration::ZERO),
        }
    }

    /// Notices a hitch: a gap longer than 33 ms and two and a half intervals in which this peer
    /// did nothing. The awake clock advances by one interval over it. Called at every entry, so
    /// that packets drained after a hitch are stamped with the corrected clock.
    pub(super) fn touch(&mut self, now: Duration, interval: Duration) {
        let Some(last) = self.last_seen.replace(now) else {
            return;
        };
        let gap = now.saturating_sub(last);
        if !gap.is_zero() {
            self.gap = (gap, now);
        }
        if gap > OWN_STALL_MIN.max(interval * 5 / 2) {
            self.paused += gap - interval;
            self.own_stalls += 1;
            self.own_stall_at = Some(now);
        }
    }

    /// Counts one poll.
    pub(super) fn poll(&mut self, now: Duration) {
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
            let mut gaps = self.gaps;
            self.usual = usual(&mut gaps[..self.filled]);
        }
    }

    /// Usual time between polls.
    #[must_use]
    pub(super) const fn interval(&self) -> Duration {
        self.usual
    }

    /// Time since the origin without the hitches.
    #[must_use]
    pub(super) fn awake(&self, now: Duration) -> Duration {
        now.saturating_sub(self.paused)
    }

    /// Whether a hitch ended at this very moment: what is drained now waited here.
    #[must_use]
    pub(super) fn stalling(&self, now: Duration) -> bool {
        self.own_stall_at == Some(now)
    }

    /// By how much longer than a `frame` this peer did not poll, for what is drained at this very
    /// moment: it may have waited here for that long.
    #[must_use]
    pub(super) fn late(&self, now: Duration, frame: Duration) -> Duration {
        let (gap, ended) = self.gap;
        if ended == now {
            gap.saturating_sub(frame)
        } else {
            Duration::ZERO
        }
    }

    /// Hitches so far.
    #[must_use]
    pub(super) const fn own_stalls(&self) -> u64 {
        self.own_stalls
    }
}

/// The median gap, unless half of the time lies in gaps more than twice as long: a browser that waits
/// for its renderer draws in bursts, some pictures at once and then none for a while, and whoever
/// expects its packets by the median doubts its path at every wait.
fn usual(gaps: &mut [u32]) -> Duration {
    gaps.sort_unstable();
    let median = gaps[gaps.len() / 2];
    let weight = |gap: u32| u64::from(gap.min(WEIGHT_MAX));
    let half = gaps.iter().copied().map(weight).sum::<u64>() / 2;
    let mut passed = 0;
    let holds_half = gaps.iter().copied().find(|&gap| {
        passed += weight(gap);
        passed > half
    });
    let by_time = holds_half.unwrap_or(median);
    let usual = if by_time > median.saturating_mul(2) {
        by_time
    } else {
        median
    };
    Duration::from_micros(u64::from(usual))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cadence(gaps_ms: impl IntoIterator<Item = u64>) -> Cadence {
        let mut cadence = Cadence::new(Duration::from_micros(16_667));
        let mut now = Duration::ZERO;
        cadence.poll(now);
        for gap in gaps_ms {
            now += Duration::from_millis(gap);
            cadence.poll(now);
        }
        cadence
    }

    #[test]
    fn a_pause_among_regular_polls_changes_nothing() {
        let gaps = [17; 31].into_iter().chain([2_000]);
        assert_eq!(cadence(gaps).interval(), Duration::from_millis(17));
    }

    #[test]
    fn polls_in_bursts_are_as_slow_as_the_waits_between_them() {
        let burst = [4, 4, 4, 90];
        let gaps = std::iter::repeat_n(burst, 8).flatten();
        assert_eq!(cadence(gaps).interval(), Duration::from_millis(90));
    }

    #[test]
    fn polls_that_jitter_are_taken_by_their_median() {
        let gaps = std::iter::repeat_n([11, 17, 22, 17], 8).flatten();
        assert_eq!(cadence(gaps).interval(), Duration::from_millis(17));
    }

    #[test]
    fn what_a_late_poll_drains_waited_for_it_and_what_the_next_one_drains_did_not() {
        let ms = Duration::from_millis;
        let mut cadence = Cadence::new(ms(17));
        for now in [0, 17, 57] {
            cadence.touch(ms(now), ms(17));
        }
        assert_eq!(cadence.late(ms(57), ms(17)), ms(23));
        cadence.touch(ms(57), ms(17));
        assert_eq!(cadence.late(ms(57), ms(17)), ms(23), "the same poll");
        cadence.touch(ms(58), ms(17));
        assert_eq!(cadence.late(ms(58), ms(17)), ms(0));
    }
}
