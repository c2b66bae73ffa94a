//! The measurements that decide route changes, by the names they have in exported files.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which measurement crossed its threshold when a route changed. The unit is in the name; flags are
/// 1 when raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "reflect", derive(bevy_reflect::Reflect))]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum RouteMetric {
    /// Milliseconds waited for the direct path to open.
    WaitedMs,
    /// Milliseconds since anything arrived over the direct path.
    SilenceMs,
    /// Age in milliseconds of the oldest direct packet that is not acknowledged.
    OldestUnackedMs,
    /// Flag: the direct path refused a packet.
    SendFailures,
    /// Flag: the peer's headers report a degraded path.
    PeerDoubt,
    /// Flag: the peer's headers report a failover.
    PeerPromoted,
    /// Flag: the data channel ended.
    Closed,
    /// Share of packets on time during recovery, 0 to 1.
    OnTimeShare,
    /// Direct packets of the peer missing since the path became suspect: none, so the peer paused.
    MissingPackets,
    /// Milliseconds in which both paths carried the game without a break.
    BothPathsMs,
    /// Milliseconds in which they did within the last ten seconds.
    BothPathsOf10sMs,
    /// Runs of losses on the direct path within the last ten seconds.
    LossRunsOf10s,
    /// Milliseconds of delay on the direct path above its own minimum.
    DelayAboveMinMs,
    /// Direct packets acknowledged far too late within the last second.
    SlowAcksOf1s,
    /// Packets refused by the direct path within the last second.
    SendFailuresOf1s,
    /// Milliseconds since anything arrived over the relay.
    RelaySilenceMs,
    /// Flag: the server reports that the relay cannot reach the peer.
    RelayDown,
    /// Milliseconds in which a direct path has been good after a failover.
    GoodMs,
    /// Flag: the policy is `relay-only`.
    RelayOnly,
    /// Flag: the policy is `dual-path`.
    DualPath,
}

impl RouteMetric {
    /// Every metric.
    pub const ALL: [Self; 20] = [
        Self::WaitedMs,
        Self::SilenceMs,
        Self::OldestUnackedMs,
        Self::SendFailures,
        Self::PeerDoubt,
        Self::PeerPromoted,
        Self::Closed,
        Self::OnTimeShare,
        Self::MissingPackets,
        Self::BothPathsMs,
        Self::BothPathsOf10sMs,
        Self::LossRunsOf10s,
        Self::DelayAboveMinMs,
        Self::SlowAcksOf1s,
        Self::SendFailuresOf1s,
        Self::RelaySilenceMs,
        Self::RelayDown,
        Self::GoodMs,
        Self::RelayOnly,
        Self::DualPath,
    ];

    /// The name in messages and files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WaitedMs => "waitedMs",
            Self::SilenceMs => "silenceMs",
            Self::OldestUnackedMs => "oldestUnackedMs",
            Self::SendFailures => "sendFailures",
            Self::PeerDoubt => "peerDoubt",
            Self::PeerPromoted => "peerPromoted",
            Self::Closed => "closed",
            Self::OnTimeShare => "onTimeShare",
            Self::MissingPackets => "missingPackets",
            Self::BothPathsMs => "bothPathsMs",
            Self::BothPathsOf10sMs => "bothPathsOf10sMs",
            Self::LossRunsOf10s => "lossRunsOf10s",
            Self::DelayAboveMinMs => "delayAboveMinMs",
            Self::SlowAcksOf1s => "slowAcksOf1s",
            Self::SendFailuresOf1s => "sendFailuresOf1s",
            Self::RelaySilenceMs => "relaySilenceMs",
            Self::RelayDown => "relayDown",
            Self::GoodMs => "goodMs",
            Self::RelayOnly => "relayOnly",
            Self::DualPath => "dualPath",
        }
    }
}

impl fmt::Display for RouteMetric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_serialized_by_the_names_they_are_displayed_with() {
        for metric in RouteMetric::ALL {
            let name = serde_json::to_value(metric).unwrap();
            assert_eq!(name, metric.as_str());
            assert_eq!(metric.to_string(), metric.as_str());
            let read: RouteMetric = serde_json::from_value(name).unwrap();
            assert_eq!(read, metric);
        }
    }
}
