//! What is known about one path to one peer: fates of what was sent, arrivals, round trips, delay.
//!
//! Owns the evidence and its arithmetic, in fixed arrays. Never decides a route (that is
//! [`super::route`]), never reads a clock, never allocates, and believes nothing a header says
//! about packets that were not sent.

use std::time::Duration;

mod delay;
mod received;
mod recurrence;
mod rtt;
mod sent;

pub use delay::Delay;
pub use received::ReceivedPackets;
pub use recurrence::Recurrence;
pub use rtt::Rtt;
pub use sent::{AckBeyondSent, SLOW_APART, SentPackets};

/// Packets remembered per path and direction: over half a second of everything that
/// ggrs sends at 120 Hz (three datagrams a tick), which is what the recovery rule looks at.
pub const RING: usize = 256;

/// Length of the stretch that must be good before a doubt ends. Half a second holds 30 packets
/// at 60 Hz, enough to tell 90 % from luck, and keeps a 150 ms spike under one second of doubt.
pub const RECOVERY: Duration = Duration::from_millis(500);

/// Share of packets on time that a recovered path must show.
pub const RECOVERY_SHARE: f64 = 0.9;

/// What the packets of a stretch of time say about a path, in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StretchQuality {
    /// Packets judged.
    pub judged: u32,
    /// Those that arrived, and in time.
    pub on_time: u32,
    /// Those that arrived at all.
    pub arrived: u32,
    /// Those that are lost for sure: a later one arrived. The rest is still under way.
    pub lost: u32,
    /// Two neighbours were both lost.
    pub two_in_a_row: bool,
    /// The stretch is covered from its beginning to now.
    pub covered: bool,
}

impl StretchQuality {
    /// Share of the judged packets that came in time; zero when none was judged.
    #[must_use]
    pub fn share(&self) -> f64 {
        if self.judged == 0 {
            0.0
        } else {
            f64::from(self.on_time) / f64::from(self.judged)
        }
    }

    /// Share of the packets of known fate that are lost; zero when none is known.
    #[must_use]
    pub fn loss(&self) -> f64 {
        match self.arrived + self.lost {
            0 => 0.0,
            known => f64::from(self.lost) / f64::from(known),
        }
    }

    /// Whether the stretch shows a healthy path.
    #[must_use]
    pub fn good(&self) -> bool {
        self.covered && !self.two_in_a_row && self.share() >= RECOVERY_SHARE
    }
}

/// Everything known about one path.
#[derive(Clone, Debug, Default)]
pub struct PathHealth {
    /// Packets sent, and what became of them.
    pub sent: SentPackets,
    /// Packets received.
    pub received: ReceivedPackets,
    /// Round trips.
    pub rtt: Rtt,
    /// One-way delay, relative to the unknown offset of the peer's clock. That offset is
    /// the same on both paths, so differences between the paths are real.
    pub delay: Delay,
}

#[cfg(test)]
mod tests;
