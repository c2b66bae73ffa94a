//! Recurring trouble: the times of the last three occurrences.

use std::time::Duration;

/// The last three occurrences of one kind of trouble.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recurrence {
    apart: Duration,
    times: [Option<Duration>; 3],
}

impl Recurrence {
    /// Occurrences less than `apart` after the last counted one belong to it.
    pub(crate) const fn new(apart: Duration) -> Self {
        Self {
            apart,
            times: [None; 3],
        }
    }

    /// Records an occurrence.
    pub(crate) fn record(&mut self, now: Duration) {
        if self.times[0].is_some_and(|last| now < last + self.apart) {
            return;
        }
        self.times.rotate_right(1);
        self.times[0] = Some(now);
    }

    /// Occurrences since `since`, counted up to three.
    pub(crate) fn since(&self, since: Duration) -> usize {
        self.times
            .iter()
            .filter(|at| at.is_some_and(|at| at >= since))
            .count()
    }
}
