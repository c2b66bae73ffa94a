//! When this peer's game ticks: stated in every header, since the link itself is polled beside the
//! game.

use std::time::Duration;

use super::cadence::Cadence;

/// The ticks of this peer's game.
#[derive(Clone, Debug)]
pub(super) struct GameTicks {
    cadence: Cadence,
    last: Option<Duration>,
}

impl GameTicks {
    /// Starts with the interval of the settings.
    pub(super) const fn new(interval: Duration) -> Self {
        Self {
            cadence: Cadence::new(interval),
            last: None,
        }
    }

    /// The game ticked last at `at`.
    pub(super) fn tick(&mut self, at: Duration) {
        if self.last.is_none_or(|last| at > last) {
            self.last = Some(at);
            self.cadence.poll(at);
        }
    }

    /// Usual time between ticks, once there was one.
    pub(super) fn interval(&self) -> Option<Duration> {
        self.last.map(|_| self.cadence.interval())
    }

    /// Time since the last tick.
    pub(super) fn age(&self, now: Duration) -> Option<Duration> {
        self.last.map(|last| now.saturating_sub(last))
    }
}
