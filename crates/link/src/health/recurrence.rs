//! Trouble that comes again: the times of the last three occurrences.
//!
//! Owns the counting. Never knows what recurs.

use std::time::Duration;

/// The last three occurrences of something, counted apart only when they lie apart.
#[derive(Clone, Copy, Debug)]
pub struct Recurrence {
    apart: Duration,
    times: [Option<Duration>; 3],
}

impl Recurrence {
    /// Occurrences less than `apart` after the last counted one are the same trouble.
    #[must_use]
    pub const fn new(apart: Duration) -> Self {
        Self {
            apart,
            times: [None; 3],
        }
    }

    /// It happened at `now`.
    pub fn note(&mut self, now: Duration) {
        if self.times[0].is_some_and(|last| now < last + self.apart) {
            return;
        }
        self.times.rotate_right(1);
        self.times[0] = Some(now);
    }

    /// Occurrences since `since`, counted up to three.
    #[must_use]
    pub fn since(&self, since: Duration) -> usize {
        self.times
            .iter()
            .filter(|at| at.is_some_and(|at| at >= since))
            .count()
    }
}
