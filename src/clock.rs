//! Owns the lab clock: monotonic time since the session's origin, and the wall-clock stamp of
//! that origin. Never read by a pure room; edges read it and pass `now` on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bevy::platform::time::Instant;
use bevy::prelude::*;

/// Monotonic time since the lab session's origin on this peer.
///
/// Cheap to clone; every clone shows the same time. Tests use [`LabClock::manual`] to run in
/// virtual time.
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
#[derive(Resource, Clone, Debug)]
pub struct LabClock {
    source: Source,
    origin_unix_us: u64,
}

#[derive(Clone, Debug)]
enum Source {
    Real(Instant),
    Manual(Arc<AtomicU64>),
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
        }
    }

    /// A clock that stands still until [`advance`](Self::advance) is called.
    #[must_use]
    pub fn manual(origin_unix_ms: u64) -> Self {
        Self {
            source: Source::Manual(Arc::default()),
            origin_unix_us: origin_unix_ms.saturating_mul(1_000),
        }
    }

    /// Time since the origin.
    #[must_use]
    pub fn now(&self) -> Duration {
        match &self.source {
            Source::Real(origin) => origin.elapsed(),
            Source::Manual(nanos) => Duration::from_nanos(nanos.load(Ordering::Relaxed)),
        }
    }

    /// Moves a manual clock forward; a real clock ignores it.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(nanos) = &self.source {
            let by = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
            nanos.fetch_add(by, Ordering::Relaxed);
        }
    }

    /// Wall-clock time of the origin, in Unix milliseconds.
    #[must_use]
    pub fn origin_unix_ms(&self) -> u64 {
        self.origin_unix_us / 1_000
    }

    /// The same in microseconds, as finely as the platform tells: a browser in whole milliseconds.
    #[must_use]
    pub fn origin_unix_us(&self) -> u64 {
        self.origin_unix_us
    }

    /// Origin plus monotonic time, in Unix milliseconds: it never steps with the wall clock.
    #[must_use]
    pub fn unix_ms(&self) -> u64 {
        let since = u64::try_from(self.now().as_millis()).unwrap_or(u64::MAX);
        self.origin_unix_ms().saturating_add(since)
    }

    /// Whether time only moves when told to.
    #[must_use]
    pub fn is_manual(&self) -> bool {
        matches!(self.source, Source::Manual(_))
    }
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
