//! Owns the neutral numbers about one remote player's link, as plain data that the owner of the
//! transport fills in. Knows no packet and no route machine.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::rollback::trace::Frame;

/// What is known of the link to one remote player at the end of the episode. The default is a link
/// of which nothing was measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LinkReport {
    /// Route in use: `direct`, `turn` or `relay`.
    pub route: Option<&'static str>,
    /// ICE candidate types, ours and theirs.
    pub candidate_types: Option<(String, String)>,
    /// From being named by the server to a usable path.
    pub connect_time: Option<Duration>,
    /// Whether the route was not direct when the episode began.
    pub started_on_relay: Option<bool>,
    /// Counters of the direct path over the episode.
    pub direct: Option<PathReport>,
    /// Counters of the relay path over the episode.
    pub relay: Option<PathReport>,
    /// Single packets the direct channel refused.
    pub direct_send_failures: u64,
    /// Time during which packets went on both paths.
    pub both_paths: Duration,
}

/// Counters of one path over the episode.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PathReport {
    /// Datagrams of every kind.
    pub datagrams: Datagrams,
    /// Bytes sent, headers included.
    pub bytes_sent: u64,
    /// Bytes received, headers included.
    pub bytes_received: u64,
    /// Round trips in milliseconds.
    pub rtt_ms: Summary,
    /// Deviation of the delay in milliseconds.
    pub jitter_ms: Summary,
}

/// The path or paths that carried an input frame first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// No datagram.
    Nothing,
    /// Direct or TURN alone.
    P2p,
    /// The relay alone.
    Relay,
    /// Both at once. Never of a received frame: its first copy came by one of them.
    Both,
}

/// One transition of one route.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RouteNote {
    /// When.
    pub at: Duration,
    /// State before, e.g. `direct`.
    pub from: &'static str,
    /// State after, e.g. `suspect`.
    pub to: &'static str,
    /// Why.
    pub cause: &'static str,
    /// Name of the measurement, with unit.
    pub metric: &'static str,
    /// The measured value.
    pub value: f64,
    /// The value it crossed.
    pub threshold: f64,
}

impl RouteNote {
    /// Whether this is a promotion: the route becomes relay although it was peer to peer. A route
    /// that began on the relay and stays there is none.
    #[must_use]
    pub fn is_fallback(&self) -> bool {
        self.to == "relay" && matches!(self.from, "direct" | "turn" | "suspect")
    }
}

/// A hash that differs from another peer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DesyncNote {
    /// The frame of the state.
    pub frame: Frame,
    /// Whose hash it was compared with.
    pub player: Option<usize>,
    /// This peer's checksum.
    pub local: u128,
    /// The other's checksum.
    pub remote: u128,
    /// When it was seen.
    pub at: Duration,
}

/// Datagrams on one path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Datagrams {
    /// Handed to the path.
    pub sent: u64,
    /// Came out of the path, well formed.
    pub received: u64,
    /// Sent and never acknowledged while later ones were.
    pub lost: u64,
    /// Came after a later one.
    pub reordered: u64,
    /// Of the received ones, copies of a datagram that had come on this path before.
    pub duplicate: u64,
    /// Refused, by reason.
    pub malformed: BTreeMap<String, u64>,
}

/// A series in five numbers. All `null` when nothing was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Summary {
    /// Number of measurements.
    pub count: u64,
    /// Smallest.
    pub min: Option<f64>,
    /// Largest.
    pub max: Option<f64>,
    /// Mean.
    pub mean: Option<f64>,
    /// Median.
    pub median: Option<f64>,
}

/// What conditions did on one path.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ConditionRealised {
    /// Packets that came to the shaper.
    pub offered: u64,
    /// Packets it dropped: `lost`, `cut` and `queueDropped` together.
    pub dropped: u64,
    /// Lost one by one or in bursts.
    #[serde(default)]
    pub lost: u64,
    /// Stretches of packets lost without one let through between them: `lost / lossRuns` is the
    /// mean length of a burst.
    #[serde(default)]
    pub loss_runs: u64,
    /// Sent while the path was cut.
    #[serde(default)]
    pub cut: u64,
    /// Sent when too much waited for the rate limit already.
    #[serde(default)]
    pub queue_dropped: u64,
    /// Second copies of packets that came twice; not in `offered`.
    #[serde(default)]
    pub duplicated: u64,
    /// Let through after a packet that was sent later.
    #[serde(default)]
    pub reordered: u64,
    /// Mean added delay.
    pub mean_delay_ms: Option<f64>,
    /// 95th percentile of the added delay.
    pub p95_delay_ms: Option<f64>,
}

impl Summary {
    /// Sums up a series; values that are not finite are left out.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().filter(|v| v.is_finite()).collect();
        if values.is_empty() {
            return Self::default();
        }
        values.sort_by(f64::total_cmp);
        let count = values.len();
        let middle = count / 2;
        let median = if count % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Self {
            count: count as u64,
            min: values.first().copied(),
            max: values.last().copied(),
            mean: Some(values.iter().sum::<f64>() / count as f64),
            median: Some(median),
        }
    }
}
