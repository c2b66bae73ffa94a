//! The peer's clock against ours: the bounds of every echo, thinned to a fixed number of samples.
//!
//! An echo (RFC 5905's four timestamps) bounds the offset: it lies between T3 - T4 and T2 - T1,
//! however the two directions differ, because neither packet arrived before it was sent. Each sample
//! is the range that the echoes of one stretch agree on. Adding samples allocates nothing.

use std::time::Duration;

/// Samples kept: one a second for half a minute. When they are full, neighbours are merged and the
/// stretch of each doubles.
const SAMPLES: usize = 32;
/// First length of a stretch: ten echoes at the usual rate of probes and heartbeats, or more.
const STRETCH: Duration = Duration::from_secs(1);
/// How fast two clocks may drift apart: two quartz clocks at the limit of consumer crystals, 100 ppm
/// each.
const DRIFT_MAX_PPM: f64 = 200.0;
/// Resolution of a clock in microseconds until it is known: that of Chromium's `performance.now`
/// without cross-origin isolation, so that the first echoes of most browsers are bounded as well.
const STEP_US: u16 = 100;
/// Resolution of an echo's hold time in the header, in microseconds.
const HOLD_STEP_US: i64 = 16;
/// Span of samples below which no drift is reported, in microseconds: over ten seconds an error of
/// 1 ms of offset is 100 ppm.
const DRIFT_AFTER_US: u64 = 10_000_000;

/// The bounds that the echoes of one stretch agree on: the offset lies between `low_us` and `high_us`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sample {
    at: Duration,
    low_us: i64,
    high_us: i64,
}

/// The offset of the peer's clock at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "reflect", derive(bevy_reflect::Reflect))]
pub struct ClockEstimate {
    /// The moment, by our clock.
    pub at: Duration,
    /// Peer's clock minus ours, in microseconds.
    pub offset_us: i64,
    /// Largest error of the offset, in microseconds, while the clocks drift by at most 200 ppm.
    pub uncertainty_us: u64,
}

/// Estimates the peer's clock from echoes. A link feeds its own; read it with
/// [`Link::peer_clock`](super::Link::peer_clock).
#[derive(Clone, Debug)]
pub struct ClockEstimator {
    samples: [Option<Sample>; SAMPLES],
    count: usize,
    stretch: Duration,
    /// Resolution of our clock, and of theirs.
    steps_us: [u16; 2],
    /// The estimate when an echo last narrowed a sample.
    latest: Option<ClockEstimate>,
}

impl Default for ClockEstimator {
    fn default() -> Self {
        Self {
            samples: [None; SAMPLES],
            count: 0,
            stretch: STRETCH,
            steps_us: [STEP_US; 2],
            latest: None,
        }
    }
}

impl ClockEstimator {
    /// Sets the resolution of our clock.
    pub(super) const fn set_our_step(&mut self, step_us: u16) {
        self.steps_us[0] = step_us;
    }

    /// Sets the resolution of the peer's clock.
    pub(super) const fn set_their_step(&mut self, step_us: u16) {
        self.steps_us[1] = step_us;
    }

    /// Adds the four timestamps of an echo in microseconds: `t1` and `t4` are sent and received by our
    /// clock, `t2` and `t3` received and sent by the peer's.
    pub(super) fn add(&mut self, [t1, t2, t3, t4]: [i64; 4]) {
        // A stamp is older than the moment by at most the resolution of its clock.
        let steps: i64 = self.steps_us.map(i64::from).iter().sum();
        let slack = steps + HOLD_STEP_US;
        let (low_us, high_us) = (t3 - t4 - slack, t2 - t1 + slack);
        if low_us > high_us {
            return;
        }
        let now = Duration::from_micros(u64::try_from(t4).unwrap_or_default());
        let narrowed = self.record(now, low_us, high_us);
        let old = |latest: ClockEstimate| now >= latest.at + STRETCH;
        if narrowed || self.latest.is_none_or(old) {
            self.latest = self.estimate();
        }
    }

    /// Adds the bounds of an echo to the samples; returns whether it narrowed them.
    fn record(&mut self, mut now: Duration, low_us: i64, high_us: i64) -> bool {
        let stretch = self.stretch;
        let place = |at: Duration| at.as_micros() / stretch.as_micros();
        let newest = self.count.checked_sub(1);
        if let Some(Some(sample)) = newest.map(|newest| &mut self.samples[newest]) {
            // An answer that arrived between two ticks is read after the tick that followed it.
            now = now.max(sample.at);
            if place(sample.at) == place(now) {
                let before = sample.width();
                if !sample.agree(low_us, high_us, now) {
                    *sample = sample.narrower(Sample {
                        at: now,
                        low_us,
                        high_us,
                    });
                }
                return sample.width() < before;
            }
        }
        if self.count == SAMPLES {
            self.thin();
        }
        self.samples[self.count] = Some(Sample {
            at: now,
            low_us,
            high_us,
        });
        self.count += 1;
        true
    }

    /// Merges every two samples.
    fn thin(&mut self) {
        for index in 0..SAMPLES / 2 {
            let (first, second) = (self.samples[index * 2], self.samples[index * 2 + 1]);
            self.samples[index] = first.zip(second).map(|(first, second)| {
                let mut both = first;
                if both.agree(second.low_us, second.high_us, second.at) {
                    both
                } else {
                    first.narrower(second)
                }
            });
        }
        self.count = SAMPLES / 2;
        self.samples[self.count..].fill(None);
        self.stretch *= 2;
    }

    /// The offset at the newest sample: the range that all samples agree on, each widened by the drift
    /// since it was taken. `None` before the first echo.
    #[must_use]
    pub fn estimate(&self) -> Option<ClockEstimate> {
        estimate_at(self.samples())
    }

    /// The cached offset as of the last echo that narrowed it, at most a second before the last echo.
    /// `None` before the first echo.
    pub(super) const fn latest(&self) -> Option<ClockEstimate> {
        self.latest
    }

    /// The samples as `(at, offset, uncertainty)`, oldest first, all in microseconds.
    pub fn samples(&self) -> impl Iterator<Item = (u64, i64, u64)> + Clone + '_ {
        self.samples.iter().flatten().map(|sample| {
            let at = u64::try_from(sample.at.as_micros()).unwrap_or(u64::MAX);
            let half = (sample.high_us - sample.low_us).unsigned_abs().div_ceil(2);
            (at, (sample.low_us + sample.high_us).div_euclid(2), half)
        })
    }
}

impl Sample {
    /// Intersects the sample with the bounds of a later one, after widening by the drift in between;
    /// returns false, and leaves it alone, if both cannot be true.
    fn agree(&mut self, low_us: i64, high_us: i64, at: Duration) -> bool {
        let slack = drift_us(at.abs_diff(self.at));
        let low = low_us.max(self.low_us - slack);
        let high = high_us.min(self.high_us + slack);
        if low > high {
            return false;
        }
        *self = Self {
            at,
            low_us: low,
            high_us: high,
        };
        true
    }

    fn width(&self) -> i64 {
        self.high_us - self.low_us
    }

    fn narrower(self, other: Self) -> Self {
        if other.width() < self.width() {
            other
        } else {
            self
        }
    }
}

/// The offset at the last of `samples` of `(at, offset, uncertainty)`.
///
/// Of samples that contradict each other, as after a step of a clock, the narrowest one counts.
fn estimate_at(samples: impl Iterator<Item = (u64, i64, u64)> + Clone) -> Option<ClockEstimate> {
    let (at, ..) = samples.clone().last()?;
    let widened = samples.map(|(then, offset, uncertainty)| {
        let slack = drift_us(Duration::from_micros(at.abs_diff(then)));
        let half = i64::try_from(uncertainty).unwrap_or(i64::MAX / 4) + slack;
        (offset - half, offset + half)
    });
    let low = widened.clone().map(|(low, _)| low).max()?;
    let high = widened.clone().map(|(_, high)| high).min()?;
    let (low, high) = if low <= high {
        (low, high)
    } else {
        widened.min_by_key(|(low, high)| high - low)?
    };
    Some(ClockEstimate {
        at: Duration::from_micros(at),
        offset_us: (low + high).div_euclid(2),
        uncertainty_us: (high - low).unsigned_abs().div_ceil(2),
    })
}

/// Estimates how fast the offset grows, in parts per million, from
/// [`samples`](ClockEstimator::samples): the median slope between samples at least half of their span
/// apart, among the narrower half of them (Theil 1950, Sen 1968). `None` for less than ten seconds.
#[must_use]
pub fn drift_ppm(samples: &[(u64, i64, u64)]) -> Option<f64> {
    let (first, last) = (samples.first()?.0, samples.last()?.0);
    let span = last
        .checked_sub(first)
        .filter(|&span| span >= DRIFT_AFTER_US)?;
    let mut widths: Vec<u64> = samples.iter().map(|&(_, _, width)| width).collect();
    widths.sort_unstable();
    let limit = widths[widths.len() / 2];
    let narrow = || samples.iter().filter(|&&(_, _, width)| width <= limit);
    let mut slopes: Vec<f64> = narrow()
        .flat_map(|&(then, before, _)| {
            narrow()
                .filter(move |&&(now, _, _)| now >= then + span / 2)
                .map(move |&(now, after, _)| (after - before) as f64 / (now - then) as f64 * 1e6)
        })
        .collect();
    slopes.sort_by(f64::total_cmp);
    slopes.get(slopes.len() / 2).copied()
}

/// How far two clocks may drift apart in `time`, in microseconds, rounded up.
fn drift_us(time: Duration) -> i64 {
    (time.as_secs_f64() * DRIFT_MAX_PPM).ceil() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An LCG with Knuth's constants; a number in 0..bound.
    fn dice(state: &mut u64, bound: u64) -> i64 {
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        i64::try_from((*state >> 33) % bound).unwrap()
    }

    /// Ten echoes a second for `seconds`, over `ways` (there and back) and a poll on either side.
    fn echoes(
        offset: i64,
        ppm: f64,
        ways: [i64; 2],
        jitter: u64,
        seconds: i64,
        seed: u64,
    ) -> ClockEstimator {
        let mut clock = ClockEstimator::default();
        let mut dice_state = seed;
        let theirs = |ours: i64| ours + offset + (ours as f64 * ppm / 1e6).round() as i64;
        for tick in 0..seconds * 10 {
            let t1 = tick * 100_000 + dice(&mut dice_state, 16_667);
            let there = t1 + ways[0] + dice(&mut dice_state, jitter.max(1));
            let back = there + dice(&mut dice_state, 16_667);
            let t4 = back + ways[1] + dice(&mut dice_state, jitter.max(1));
            // As on the wire: whole microseconds, a hold time in steps of sixteen.
            let hold = (theirs(back) - theirs(there)) / 16 * 16;
            clock.add([t1, theirs(back) - hold, theirs(back), t4]);
        }
        clock
    }

    #[test]
    fn the_true_offset_lies_inside_the_uncertainty_for_all_delays_and_clocks() {
        let mut runs = 0;
        for offset in [-3_600_000_000_i64, -40_000, 0, 7, 5_000_000] {
            for ppm in [-150.0, -30.0, 0.0, 10.0, 190.0] {
                for ways in [[0, 0], [5_000, 5_000], [1_000, 80_000], [120_000, 20_000]] {
                    for jitter in [0, 16_667, 60_000] {
                        for seconds in [1, 20, 200] {
                            for seed in 0..3 {
                                let clock = echoes(offset, ppm, ways, jitter, seconds, seed);
                                let estimate = clock.estimate().unwrap();
                                let at = estimate.at.as_micros() as f64;
                                let expected = offset as f64 + at * ppm / 1e6;
                                let error = (estimate.offset_us as f64 - expected).abs();
                                assert!(
                                    error <= estimate.uncertainty_us as f64 + 1.0,
                                    "{offset} us, {ppm} ppm, {ways:?}, jitter {jitter}, \
                                     {seconds} s, seed {seed}: off by {error} us of {estimate:?}"
                                );
                                runs += 1;
                            }
                        }
                    }
                }
            }
        }
        assert_eq!(runs, 5 * 5 * 4 * 3 * 3 * 3);
    }

    #[test]
    fn a_coarse_clock_widens_the_bounds_and_a_fine_one_narrows_them() {
        for (steps, within) in [([1_000, 1_000], 2_500), ([1, 1_000], 1_500), ([1, 1], 500)] {
            for offset in [-77_777, 0, 333, 1_000_999] {
                let mut clock = ClockEstimator::default();
                clock.set_our_step(steps[0]);
                clock.set_their_step(steps[1]);
                let mut dice_state = 7;
                let read = |at: i64, step: u16| at.div_euclid(step.into()) * i64::from(step);
                for second in 0..30 {
                    let asked = second * 1_000_000 + dice(&mut dice_state, 16_667);
                    let there = asked + 200 + dice(&mut dice_state, 100);
                    let back = there + dice(&mut dice_state, 100);
                    let received = back + 200 + dice(&mut dice_state, 100);
                    clock.add([
                        read(asked, steps[0]),
                        read(there + offset, steps[1]),
                        read(back + offset, steps[1]),
                        read(received, steps[0]),
                    ]);
                }
                let estimate = clock.estimate().unwrap();
                let error = (estimate.offset_us - offset).unsigned_abs();
                assert!(error <= estimate.uncertainty_us, "{offset}: {estimate:?}");
                assert!(estimate.uncertainty_us < within, "{offset}: {estimate:?}");
            }
        }
    }

    #[test]
    fn a_long_match_keeps_few_samples_and_finds_the_drift() {
        for ppm in [-100.0, 0.0, 40.0] {
            for seed in 0..5 {
                let clock = echoes(1_000, ppm, [10_000, 10_000], 16_667, 900, seed);
                let samples: Vec<_> = clock.samples().collect();
                assert!(
                    (SAMPLES / 2..=SAMPLES).contains(&samples.len()),
                    "{}",
                    samples.len()
                );
                let drift = drift_ppm(&samples).unwrap();
                assert!((drift - ppm).abs() < 5.0, "{drift} ppm instead of {ppm}");
            }
        }
    }

    #[test]
    fn many_echoes_are_more_accurate_than_the_poll_interval_of_either_side() {
        // Each direction waits 0 to 16.7 ms for a poll; one echo alone is accurate to 8 ms.
        for seed in 0..20 {
            let estimate = echoes(77, 0.0, [100, 100], 16_667, 30, seed)
                .estimate()
                .unwrap();
            assert!((estimate.offset_us - 77).abs() < 1_000, "{estimate:?}");
        }
    }

    #[test]
    fn a_short_match_has_no_drift_and_no_echo_means_no_offset() {
        let clock = echoes(0, 50.0, [1_000, 1_000], 100, 5, 1);
        assert_eq!(drift_ppm(&clock.samples().collect::<Vec<_>>()), None);
        assert_eq!(ClockEstimator::default().estimate(), None);
        assert_eq!(drift_ppm(&[]), None);
    }

    #[test]
    fn after_a_clock_step_the_narrowest_sample_counts() {
        let mut clock = ClockEstimator::default();
        clock.add([0, 1_000, 1_000, 2_000]);
        clock.add([5_000_000, 9_000_500, 9_000_500, 5_000_600]);
        let estimate = clock.estimate().unwrap();
        assert_eq!(estimate.offset_us, 4_000_200);
    }
}
