//! What is known about one path to one peer: fates of sent packets, arrivals, round trips, delay.
//!
//! Everything lives in fixed arrays, so measuring allocates nothing. A header is believed only about
//! packets that were sent. [`Router`](crate::route::Router) decides from these measurements.

use std::time::Duration;

mod delay;
mod received;
mod recurrence;
mod rtt;
mod sent;

pub(crate) use delay::Delay;
pub(crate) use received::ReceivedPackets;
pub(crate) use recurrence::Recurrence;
pub use rtt::Rtt;
pub(crate) use sent::{SLOW_APART, SentPackets};

/// Packets remembered per path and direction: over half a second of everything that ggrs sends at
/// 120 Hz (three datagrams a tick), which is the stretch of the recovery rule.
const RING: usize = 256;

/// Length of the stretch that must be good before a path is no longer suspect. Half a second holds
/// 30 packets at 60 Hz, enough to tell 90 % from luck, and a spike of 150 ms keeps both paths in use
/// for less than a second.
pub(crate) const RECOVERY: Duration = Duration::from_millis(500);

/// Share of packets on time that a recovered path must show: three late packets in the 30 of
/// [`RECOVERY`], about what a healthy path with jitter loses to late polls.
pub(crate) const RECOVERY_SHARE: f64 = 0.9;

/// The packets of a stretch of time on one path, in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct StretchQuality {
    /// Packets judged.
    pub(crate) judged: u32,
    /// Those that arrived on time.
    pub(crate) on_time: u32,
    /// Those that arrived at all.
    pub(crate) arrived: u32,
    /// Those that are known to be lost, because a later one arrived. The rest is in flight.
    pub(crate) lost: u32,
    /// Two neighbours were both lost.
    pub(crate) two_in_a_row: bool,
    /// Packets arrived from the beginning of the stretch to now without a longer silence.
    pub(crate) covered: bool,
}

impl StretchQuality {
    /// Share of the judged packets that arrived on time; zero when none was judged.
    pub(crate) fn share(&self) -> f64 {
        if self.judged == 0 {
            0.0
        } else {
            f64::from(self.on_time) / f64::from(self.judged)
        }
    }

    /// Share of the packets of known fate that are lost; zero when none is known.
    pub(crate) fn loss(&self) -> f64 {
        match self.arrived + self.lost {
            0 => 0.0,
            known => f64::from(self.lost) / f64::from(known),
        }
    }

    /// Whether the stretch shows a healthy path.
    pub(crate) fn good(&self) -> bool {
        self.covered && !self.two_in_a_row && self.share() >= RECOVERY_SHARE
    }
}

/// The measurements of one path.
#[derive(Clone, Debug, Default)]
pub(crate) struct PathHealth {
    /// Packets sent, and their fates.
    pub(crate) sent: SentPackets,
    /// Packets received.
    pub(crate) received: ReceivedPackets,
    /// Round trips.
    pub(crate) rtt: Rtt,
    /// One-way delay, relative to the unknown offset of the peer's clock. That offset is the same on
    /// both paths, so differences between the paths are real.
    pub(crate) delay: Delay,
}

#[cfg(test)]
mod tests;
