//! [`LabClock`]: monotonic time since the session's origin, and the wall-clock time of that origin.
//!
//! Read it at the edges (systems, sockets) and pass `now` on: decisions take the time as an argument.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bevy::platform::time::Instant;
use bevy::prelude::*;

/// The time since the lab session's origin on this peer.
///
/// The lab's plugins insert [`LabClock::real`]; a test inserts [`LabClock::manual`] before it adds
/// them and plays in virtual time. A game reads it for the times that it gives to
/// [`InputTiming`](crate::metrics::InputTiming). Clones are cheap and show the same time.
///
/// ```
/// use bevy_rollback_lab::clock::LabClock;
/// use std::time::Duration;
///
/// let clock = LabClock::manual(1_700_000_000_000);
/// clock.advance(Duration::from_millis(16));
/// assert_eq!(clock.now(), Duration::from_millis(16));
/// assert_eq!(clock.unix_ms(), 1_700_000_000_016);
/// ```
#[derive(Resource, Reflect, Clone, Debug)]
#[reflect(opaque)]
#[reflect(Resource, Clone, Debug, Default)]
pub struct LabClock {
    source: Source,
    origin_unix_us: u64,
    step_us: u16,
}

#[derive(Clone, Debug)]
enum Source {
    Real(Instant),
    Manual {
        nanos: Arc<AtomicU64>,
        /// What `nanos` showed at the origin.
        origin: Duration,
    },
}

impl Default for LabClock {
    fn default() -> Self {
        Self::real()
    }
}

impl LabClock {
    /// A clock that starts now and follows the platform's monotonic clock.
    #[must_use]
    pub fn real() -> Self {
        Self {
            source: Source::Real(Instant::now()),
            origin_unix_us: wall_clock_us(),
            step_us: platform_step_us(),
        }
    }

    /// A clock that moves only when [`advance`](Self::advance) is called.
    #[must_use]
    pub fn manual(origin_unix_ms: u64) -> Self {
        Self {
            source: Source::Manual {
                nanos: Arc::default(),
                origin: Duration::ZERO,
            },
            origin_unix_us: origin_unix_ms.saturating_mul(1_000),
            step_us: 1,
        }
    }

    /// The same clock with its origin now, for the next lab session of an app. A manual clock goes on
    /// with the one that it was made of.
    #[must_use]
    pub(crate) fn restarted(&self) -> Self {
        let Source::Manual { nanos, .. } = &self.source else {
            return Self::real();
        };
        let elapsed_us = u64::try_from(self.now().as_micros()).unwrap_or(u64::MAX);
        Self {
            source: Source::Manual {
                nanos: Arc::clone(nanos),
                origin: Duration::from_nanos(nanos.load(Ordering::Relaxed)),
            },
            origin_unix_us: self.origin_unix_us.saturating_add(elapsed_us),
            step_us: self.step_us,
        }
    }

    /// Time since the origin.
    #[must_use]
    pub fn now(&self) -> Duration {
        match &self.source {
            Source::Real(origin) => origin.elapsed(),
            Source::Manual { nanos, origin } => {
                Duration::from_nanos(nanos.load(Ordering::Relaxed)).saturating_sub(*origin)
            }
        }
    }

    /// Moves a manual clock forward; a real clock ignores it.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual { nanos, .. } = &self.source {
            let by = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
            nanos.fetch_add(by, Ordering::Relaxed);
        }
    }

    /// Wall-clock time of the origin, in Unix milliseconds.
    #[must_use]
    pub fn origin_unix_ms(&self) -> u64 {
        self.origin_unix_us / 1_000
    }

    /// Wall-clock time of the origin, in Unix microseconds. A browser knows whole milliseconds only.
    #[must_use]
    pub fn origin_unix_us(&self) -> u64 {
        self.origin_unix_us
    }

    /// Resolution of the clock in microseconds, at least 1. Browsers reduce it to 5 to 1,000 against
    /// timing attacks ([High Resolution Time, section 7](https://www.w3.org/TR/hr-time-3/#sec-security));
    /// there it is measured once per page.
    #[must_use]
    pub fn step_us(&self) -> u16 {
        self.step_us
    }

    /// Origin plus monotonic time, in Unix milliseconds. Does not follow when the wall clock is set.
    #[must_use]
    pub fn unix_ms(&self) -> u64 {
        let since = u64::try_from(self.now().as_millis()).unwrap_or(u64::MAX);
        self.origin_unix_ms().saturating_add(since)
    }

    /// Whether time moves with [`advance`](Self::advance) only.
    #[must_use]
    pub fn is_manual(&self) -> bool {
        matches!(self.source, Source::Manual { .. })
    }
}

#[cfg(not(target_arch = "wasm32"))]
fn platform_step_us() -> u16 {
    1
}

#[cfg(target_arch = "wasm32")]
fn platform_step_us() -> u16 {
    static STEP: std::sync::OnceLock<u16> = std::sync::OnceLock::new();
    *STEP.get_or_init(|| {
        let origin = Instant::now();
        smallest_step_us(|| origin.elapsed())
    })
}

/// The smallest of the first steps of a clock, in whole microseconds.
#[cfg(any(target_arch = "wasm32", test))]
fn smallest_step_us(mut now: impl FnMut() -> Duration) -> u16 {
    /// Several, because browsers may stretch a step at random.
    const STEPS: u32 = 8;
    /// About ten milliseconds of reading a clock that does not move.
    const MAX_READS: u32 = 200_000;
    let (mut last, mut smallest, mut steps) = (now(), Duration::MAX, 0);
    for _ in 0..MAX_READS {
        let next = now();
        if next > last {
            smallest = smallest.min(next - last);
            last = next;
            steps += 1;
        }
        if steps == STEPS {
            break;
        }
    }
    let micros = smallest.as_nanos().div_ceil(1_000).max(1);
    // A clock that did not move is too coarse for any measurement: report the largest step.
    u16::try_from(micros).unwrap_or(u16::MAX)
}

#[cfg(not(target_arch = "wasm32"))]
fn wall_clock_us() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
        })
}

/// Browsers have no `SystemTime`; `Date.now()` is whole milliseconds, far inside the integers
/// that an `f64` holds exactly.
#[cfg(target_arch = "wasm32")]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, and a clock before 1970 reads as 1970"
)]
fn wall_clock_us() -> u64 {
    js_sys::Date::now() as u64 * 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restarted_clock_has_a_later_origin_and_follows_the_first_one() {
        let first = LabClock::manual(1_000);
        first.advance(Duration::from_millis(40));
        let second = first.restarted();
        assert_eq!(
            (second.now(), second.origin_unix_ms()),
            (Duration::ZERO, 1_040)
        );
        first.advance(Duration::from_millis(5));
        assert_eq!(second.now(), Duration::from_millis(5));
        assert_eq!(second.unix_ms(), first.unix_ms());
        let third = second.restarted();
        assert_eq!(
            (third.now(), third.origin_unix_ms()),
            (Duration::ZERO, 1_045)
        );
    }

    #[test]
    fn the_resolution_of_a_clock_is_its_smallest_step() {
        // A browser that stretches every third step.
        let mut reads = 0_u64;
        let steps = [100, 100, 200];
        let coarse = || {
            reads += 1;
            let whole = reads / 7;
            let us: u64 = (0..whole).map(|step| steps[step as usize % 3]).sum();
            Duration::from_micros(us)
        };
        assert_eq!(smallest_step_us(coarse), 100);
        let mut nanos = 0;
        let fine = || {
            nanos += 40;
            Duration::from_nanos(nanos)
        };
        assert_eq!(smallest_step_us(fine), 1);
        assert_eq!(smallest_step_us(|| Duration::ZERO), u16::MAX);
        assert_eq!(
            LabClock::real().step_us(),
            1,
            "native clocks count in nanoseconds"
        );
    }
}
