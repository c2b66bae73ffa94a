//! What conditions did to the packets of one path, as counts. Never decides a packet's fate.

use std::time::Duration;

/// Buckets of a millisecond for the delay's 95th percentile; longer delays share the last.
const DELAY_BUCKETS: usize = 1_024;

/// What the conditions did to one path.
///
/// Every packet offered is lost, cut, dropped at the queue, let through or still on its way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Realised {
    /// Packets that this peer sent on the path.
    pub offered: u64,
    /// Of these, lost by `loss` or `burst`.
    pub lost: u64,
    /// Stretches of packets lost without one let through between them: `lost / loss_runs` is the
    /// mean length of a burst.
    pub loss_runs: u64,
    /// Of the packets offered, lost by a cut.
    pub cut: u64,
    /// Of the packets offered, dropped because too much waited before them.
    pub queue_dropped: u64,
    /// Second copies of packets that came twice. Not in `offered`.
    pub duplicated: u64,
    /// Packets let through after one that was sent later.
    pub reordered: u64,
    /// Packets that a cut kept from coming in. Not in `offered`.
    pub cut_incoming: u64,
    /// Sum of the delays of the packets let through.
    delay_sum: Duration,
    /// Packets let through by their delay in milliseconds, rounded up. Empty is none.
    delays: Vec<u32>,
}

impl Realised {
    /// Counts that have room for every delay, so that counting never allocates.
    pub(super) fn empty() -> Self {
        Self {
            delays: vec![0; DELAY_BUCKETS + 1],
            ..Self::default()
        }
    }

    /// Counts a packet let through.
    pub(super) fn pass(&mut self, delay: Duration) {
        self.delay_sum += delay;
        let bucket = usize::try_from(delay.as_micros().div_ceil(1_000)).unwrap_or(usize::MAX);
        self.delays[bucket.min(DELAY_BUCKETS)] += 1;
    }

    /// What was realised since `before`, an earlier state of the same path.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let earlier = before.delays.iter().copied().chain(std::iter::repeat(0));
        Self {
            offered: self.offered.saturating_sub(before.offered),
            lost: self.lost.saturating_sub(before.lost),
            loss_runs: self.loss_runs.saturating_sub(before.loss_runs),
            cut: self.cut.saturating_sub(before.cut),
            queue_dropped: self.queue_dropped.saturating_sub(before.queue_dropped),
            duplicated: self.duplicated.saturating_sub(before.duplicated),
            reordered: self.reordered.saturating_sub(before.reordered),
            cut_incoming: self.cut_incoming.saturating_sub(before.cut_incoming),
            delay_sum: self.delay_sum.saturating_sub(before.delay_sum),
            delays: std::iter::zip(&self.delays, earlier)
                .map(|(now, then)| now.saturating_sub(then))
                .collect(),
        }
    }

    /// Packets let through, second copies left out.
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
