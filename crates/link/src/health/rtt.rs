//! Round-trip times of one path, smoothed as in RFC 6298. The link checks samples before it adds
//! them.

use std::time::Duration;

/// Longest round trip believed. A longer sample says more about a stalled peer than about a path.
const SAMPLE_MAX: Duration = Duration::from_secs(5);

/// Round-trip statistics of one path since the link was made. Zero until the first sample.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "reflect", derive(bevy_reflect::Reflect))]
pub struct Rtt {
    /// Newest sample.
    pub latest: Duration,
    /// Smoothed with a gain of 1/8 (RFC 6298).
    pub smoothed: Duration,
    /// Mean deviation, smoothed with a gain of 1/4 (RFC 6298).
    pub variation: Duration,
    /// Smallest sample so far.
    pub min: Duration,
    /// Largest sample so far.
    pub max: Duration,
    /// Sum of all samples; divided by `samples` it is the mean.
    pub sum: Duration,
    /// Number of samples.
    pub samples: u64,
}

impl Rtt {
    /// Adds a sample; one above five seconds is ignored.
    pub(crate) fn add(&mut self, sample: Duration) {
        if sample > SAMPLE_MAX {
            return;
        }
        if self.samples == 0 {
            self.smoothed = sample;
            self.variation = sample / 2;
            self.min = sample;
        } else {
            let deviation = self.smoothed.abs_diff(sample);
            self.variation = (self.variation * 3 + deviation) / 4;
            self.smoothed = (self.smoothed * 7 + sample) / 8;
            self.min = self.min.min(sample);
        }
        self.max = self.max.max(sample);
        self.latest = sample;
        self.sum = self.sum.saturating_add(sample);
        self.samples += 1;
    }

    /// The smoothed round trip, once there is one.
    #[must_use]
    pub fn get(&self) -> Option<Duration> {
        (self.samples > 0).then_some(self.smoothed)
    }
}
