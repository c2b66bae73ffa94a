//! How often this peer polls, its own stalls, and the awake clock, which pauses during them.

use std::time::Duration;

/// Gaps remembered. Half a second at 60 Hz: a browser that drops to 15 Hz counts as slow after a
/// second.
const GAPS: usize = 32;

/// Most that one gap weighs when time is shared out among gaps, in microseconds: the longest interval
/// that a header can carry. A single long pause is a stall, not a cadence.
const WEIGHT_MAX: u32 = 126_000;

/// Gaps before the measured interval replaces that of the settings: an eighth of a second at 60 Hz.
const GAPS_MIN: usize = 8;
/// Two polls closer than this belong to one tick.
const TICK_MIN: Duration = Duration::from_millis(1);

/// Shortest stall: two frames at 60 Hz.
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
    /// Starts with the interval of the settings.
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

    /// Detects an own stall: a gap longer than 33 ms and two and a half intervals without a call. The
    /// awake clock advances by one interval over it. Called at every entry, so that packets drained
    /// after a stall are stamped with the corrected clock.
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
        if gap < TICK_MIN {
            return;
        }
        self.gaps[self.next] = u32::try_from(gap.as_micros()).unwrap_or(u32::MAX);
        self.next = (self.next + 1) % GAPS;
        self.filled = (self.filled + 1).min(GAPS);
        if self.filled >= GAPS_MIN && self.next.is_multiple_of(4) {
            let mut gaps = self.gaps;
            self.usual = usual(&mut gaps[..self.filled]);
        }
    }

    /// Usual time between polls.
    pub(super) const fn interval(&self) -> Duration {
        self.usual
    }

    /// Time since the origin without own stalls.
    pub(super) fn awake(&self, now: Duration) -> Duration {
        now.saturating_sub(self.paused)
    }

    /// Whether an own stall ended at `now`: packets drained now waited here.
    pub(super) fn stalling(&self, now: Duration) -> bool {
        self.own_stall_at == Some(now)
    }

    /// By how much the gap that ended at `now` was longer than a `frame`: packets drained now may
    /// have waited here for that long.
    pub(super) fn late(&self, now: Duration, frame: Duration) -> Duration {
        let (gap, ended) = self.gap;
        if ended == now {
            gap.saturating_sub(frame)
        } else {
            Duration::ZERO
        }
    }

    /// Own stalls so far.
    pub(super) const fn own_stalls(&self) -> u64 {
        self.own_stalls
    }
}

/// The median gap, unless half of the time lies in gaps more than twice as long: a browser that waits
/// for its renderer runs several rendered frames at once and then none for a while, and by the median
/// alone its path would be suspect at every wait.
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
    fn a_single_pause_does_not_change_the_interval() {
        let gaps = [17; 31].into_iter().chain([2_000]);
        assert_eq!(cadence(gaps).interval(), Duration::from_millis(17));
    }

    #[test]
    fn polls_in_bursts_count_as_slow_as_the_waits_between_them() {
        let burst = [4, 4, 4, 90];
        let gaps = std::iter::repeat_n(burst, 8).flatten();
        assert_eq!(cadence(gaps).interval(), Duration::from_millis(90));
    }

    #[test]
    fn the_interval_of_jittering_polls_is_their_median() {
        let gaps = std::iter::repeat_n([11, 17, 22, 17], 8).flatten();
        assert_eq!(cadence(gaps).interval(), Duration::from_millis(17));
    }

    #[test]
    fn packets_drained_by_a_late_poll_may_have_waited_for_it() {
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
