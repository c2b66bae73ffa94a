//! One-way delay of one path in buckets of a second, and its jitter.
//!
//! A transit time includes the offset between the two clocks, so only comparisons mean something:
//! with the same path earlier, or with the other path now.

use std::time::Duration;

/// Buckets kept: the ten seconds over which a path's own minimum is taken.
const BUCKETS: usize = 10;

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// Second of the receiver's clock, plus one: zero is an unused bucket.
    second: u64,
    min: i64,
    sum: i64,
    count: i64,
}

/// Transit times of the packets of one path, in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Delay {
    buckets: [Bucket; BUCKETS],
    last: Option<i64>,
    /// RFC 3550's interarrival jitter, in microseconds times 16.
    jitter_16: u64,
}

impl Delay {
    /// Adds the transit time of a packet that arrived at `now`.
    pub(crate) fn add(&mut self, now: Duration, transit: i64) {
        let second = now.as_secs() + 1;
        let bucket = &mut self.buckets[Self::slot(second)];
        if bucket.second == second {
            bucket.min = bucket.min.min(transit);
            bucket.sum = bucket.sum.saturating_add(transit);
            bucket.count += 1;
        } else {
            *bucket = Bucket {
                second,
                min: transit,
                sum: transit,
                count: 1,
            };
        }
        if let Some(last) = self.last.replace(transit) {
            let change = last.abs_diff(transit);
            // RFC 3550, appendix A.8: J += (|D| - J) / 16, in sixteenths.
            self.jitter_16 = (self.jitter_16 - (self.jitter_16 + 8) / 16).saturating_add(change);
        }
    }

    /// Interarrival jitter (RFC 3550, section 6.4.1).
    pub(crate) fn jitter(&self) -> Duration {
        Duration::from_micros(self.jitter_16 / 16)
    }

    /// Smallest transit of this second and the `seconds` before it, at most nine.
    pub(crate) fn min_over(&self, now: Duration, seconds: u64) -> Option<i64> {
        self.recent(now, seconds).map(|bucket| bucket.min).min()
    }

    /// Mean transit of this second and the `seconds` before it, at most nine.
    pub(crate) fn mean_over(&self, now: Duration, seconds: u64) -> Option<i64> {
        let (sum, count) = self
            .recent(now, seconds)
            .fold((0_i64, 0), |(sum, count), bucket| {
                (sum.saturating_add(bucket.sum), count + bucket.count)
            });
        (count > 0).then(|| sum / count)
    }

    /// Mean transit of the second that ended `seconds` full seconds before this one began, zero for
    /// the last full one, at most eight.
    pub(crate) fn mean_of_full_second(&self, now: Duration, seconds: u64) -> Option<i64> {
        let second = now.as_secs().checked_sub(seconds)?;
        let bucket = &self.buckets[Self::slot(second)];
        (bucket.second == second && bucket.count > 0).then(|| bucket.sum / bucket.count)
    }

    fn recent(&self, now: Duration, seconds: u64) -> impl Iterator<Item = &Bucket> {
        let newest = now.as_secs() + 1;
        let oldest = newest
            .saturating_sub(seconds.min(BUCKETS as u64 - 1))
            .max(1);
        self.buckets
            .iter()
            .filter(move |bucket| (oldest..=newest).contains(&bucket.second))
    }

    fn slot(second: u64) -> usize {
        usize::try_from(second % BUCKETS as u64).expect("a remainder of ten fits")
    }
}
