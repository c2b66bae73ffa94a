//! What conditions did to the packets of one path, as counts.

use std::time::Duration;

/// Buckets of a millisecond for the delay's 95th percentile: about a second. Longer delays share the
/// last.
const DELAY_BUCKETS: usize = 1_024;

/// What the conditions did to the packets of one path. Read it with [`Shaper::realised`].
///
/// Every packet offered is lost, cut, dropped at a queue, delivered or still in flight. On a relay path
/// over [TCP](super::Transport::Tcp) packets are neither lost nor cut: `retransmitted` and the delays
/// say what it cost to deliver them.
///
/// [`Shaper::realised`]: super::Shaper::realised
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "reflect", derive(bevy_reflect::Reflect))]
pub struct Realised {
    /// Packets that this peer sent on the path.
    pub offered: u64,
    /// Of these, lost by `loss` or `burst`.
    pub lost: u64,
    /// Runs of packets lost without a delivered one between them: `lost / loss_runs` is the mean
    /// length of a burst.
    pub loss_runs: u64,
    /// Of the packets offered, lost in an outage.
    pub cut: u64,
    /// Of the packets offered, dropped because the queue before them was too long. On the relay path
    /// that is the sender's queue, the server's ring or its limit of packets a second, or a wait at
    /// the server of more than 150 ms.
    pub queue_dropped: u64,
    /// Second copies of duplicated packets. Not in `offered`.
    pub duplicated: u64,
    /// Packets delivered after one that was sent later.
    pub reordered: u64,
    /// Incoming packets that an outage dropped. Not in `offered`.
    pub cut_incoming: u64,
    /// TCP segments sent again on the way to the server and from it. A segment can hold several
    /// packets; some of these had arrived after all.
    pub retransmitted: u64,
    /// Expirations of a TCP connection's retransmission timer. The other retransmissions were noticed
    /// by later segments.
    pub timeouts: u64,
    /// Sum of the delays of the packets delivered.
    delay_sum: Duration,
    /// Packets delivered, by their delay in milliseconds, rounded up. Empty means none.
    delays: Vec<u32>,
}

impl Realised {
    /// Zero counts with room for every delay, so that counting does not allocate.
    pub(super) fn empty() -> Self {
        Self {
            delays: vec![0; DELAY_BUCKETS + 1],
            ..Self::default()
        }
    }

    /// Counts a delivered packet.
    pub(super) fn pass(&mut self, delay: Duration) {
        self.delay_sum += delay;
        let bucket = usize::try_from(delay.as_micros().div_ceil(1_000)).unwrap_or(usize::MAX);
        self.delays[bucket.min(DELAY_BUCKETS)] += 1;
    }

    /// The counts since `before`, an earlier state of the same path.
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
            retransmitted: self.retransmitted.saturating_sub(before.retransmitted),
            timeouts: self.timeouts.saturating_sub(before.timeouts),
            delay_sum: self.delay_sum.saturating_sub(before.delay_sum),
            delays: std::iter::zip(&self.delays, earlier)
                .map(|(now, then)| now.saturating_sub(then))
                .collect(),
        }
    }

    /// Packets delivered, without second copies.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.delays.iter().map(|&count| u64::from(count)).sum()
    }

    /// Mean delay of the packets delivered, in milliseconds. `None` if there were none.
    #[must_use]
    pub fn mean_delay_ms(&self) -> Option<f64> {
        let passed = self.passed();
        (passed > 0).then(|| self.delay_sum.as_secs_f64() * 1e3 / passed as f64)
    }

    /// Their 95th percentile, in milliseconds, rounded up; at most 1,024. `None` if there were none.
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
