//! The categories about paths and what travelled on them: connection, inputs, quality, latency. No IP
//! address stands in any of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use rollback_lab_link::cause::Via;
use rollback_lab_link::route::{RouteCause, RouteState};
use rollback_lab_link::wire::Path;

use super::Hex64;

/// `connection`: the routes to the other peers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Connection {
    /// Worst route in use during the episode: `direct` before `turn` before `relay`.
    #[serde(rename = "type")]
    pub route_type: Option<Via>,
    /// The peer that `type` speaks of.
    pub connection_details: Option<ConnectionDetails>,
    /// One entry per remote player.
    pub peers: Vec<ConnectionPeer>,
}

/// What kind of ICE candidate one side of a direct path uses (RFC 8445, section 5.1.1). No address
/// stands in any file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "reflect", derive(bevy_reflect::Reflect))]
pub enum CandidateType {
    /// An address of the machine itself.
    Host,
    /// An address that a STUN server reported. Written as `srflx`.
    #[serde(rename = "srflx")]
    ServerReflexive,
    /// An address that the other peer reported. Written as `prflx`.
    #[serde(rename = "prflx")]
    PeerReflexive,
    /// An address of a TURN server.
    Relay,
}

/// The connection behind `connection.type`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ConnectionDetails {
    /// The remote player.
    pub player_id: usize,
    /// ICE candidate type on this side. `null` without a direct path.
    pub local_candidate_type: Option<CandidateType>,
    /// ICE candidate type on the other side. `null` without a direct path.
    pub remote_candidate_type: Option<CandidateType>,
}

/// The route to one remote player.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ConnectionPeer {
    /// The remote player.
    pub player_id: usize,
    /// Route at the end of the episode: `direct`, `turn` or `relay`.
    pub route: Option<Via>,
    /// ICE candidate types, ours then theirs. Empty when there is no direct path.
    pub candidate_types: Vec<CandidateType>,
    /// From being named by the server to a usable path.
    pub connect_ms: Option<f64>,
    /// Whether the episode began on the relay.
    pub started_on_relay: Option<bool>,
}

impl ConnectionPeer {
    /// Whether the direct path leads through a TURN server on either side.
    #[must_use]
    pub fn has_turn(&self) -> bool {
        self.candidate_types.contains(&CandidateType::Relay)
    }
}

/// `inputs`: what was pressed, and how it travelled. Counts are `null` without the lab's transport.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Inputs {
    /// Local input frames times remote peers whose first datagram went by direct or TURN alone.
    #[serde(rename = "sentViaP2P")]
    pub sent_via_p2p: Option<u64>,
    /// The same, by the relay alone.
    pub sent_via_relay: Option<u64>,
    /// The same, on both paths at once.
    pub sent_via_both: Option<u64>,
    /// Local input frames that no datagram carried, e.g. the first ones under an input delay.
    pub unsent: Option<u64>,
    /// Remote input frames whose first copy came by direct or TURN.
    #[serde(rename = "receivedViaP2P")]
    pub received_via_p2p: Option<u64>,
    /// Remote input frames whose first copy came by the relay.
    pub received_via_relay: Option<u64>,
    /// The game's names for its actions.
    pub action_labels: Option<BTreeMap<String, String>>,
    /// Frames at which a local player's input changed.
    pub local_changes: Vec<LocalChange>,
    /// The input applied at every frame, by player, as runs.
    pub confirmed: Vec<ActionRuns>,
}

/// A change of a local player's input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LocalChange {
    /// The local player.
    pub player_id: usize,
    /// First frame the new input is applied at.
    pub frame: i32,
    /// When the game read it, input delay before that frame.
    pub sampled_at_us: Option<u64>,
    /// When the device says it happened.
    pub device_at_us: Option<u64>,
    /// Which device.
    pub device: Option<String>,
}

/// One player's applied inputs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ActionRuns {
    /// The player.
    pub player_id: usize,
    /// `[input, count]` from frame 0 on.
    pub runs: Vec<(Value, u32)>,
}

/// `quality`: health of the paths.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Quality {
    /// Whether a route became relay during the episode. `null` without the lab's transport.
    #[serde(rename = "p2pFallbackTriggered")]
    pub p2p_fallback_triggered: Option<bool>,
    /// The next frame to simulate when it did.
    #[serde(rename = "p2pFallbackFrame")]
    pub p2p_fallback_frame: Option<i32>,
    /// Why.
    pub fallback_cause: Option<RouteCause>,
    /// The measurement that decided it.
    pub fallback_trigger: Option<FallbackTrigger>,
    /// Every transition of every route, in order.
    pub route_changes: Vec<RouteChangeRecord>,
    /// Whether a lost path could be replaced without a stall all the time. `false` also where there was
    /// no second path at some time: the server was lost, or cannot relay.
    pub failover_feasible: Option<bool>,
    /// Time left over when a lost path is replaced; negative means a stall.
    pub failover_margin_ms: FailoverMargin,
    /// Network conditions asked for, and what came of them.
    pub conditions: ConditionsRecord,
    /// Whether a failover ended a condition of the direct path. `null` without the lab's transport.
    pub condition_interrupted: Option<bool>,
    /// Counters, one entry per remote player and path.
    pub paths: Vec<PathRecord>,
    /// Single packets the direct channel refused.
    pub direct_send_failures: Option<u64>,
    /// Time during which packets went on both paths.
    pub both_paths_ms: Option<f64>,
}

/// What a threshold was compared with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FallbackTrigger {
    /// Name with unit, e.g. `silenceMs`.
    pub metric: String,
    /// The measured value.
    pub value: Option<f64>,
    /// The value it crossed.
    pub threshold: Option<f64>,
}

/// One transition of one route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RouteChangeRecord {
    /// The remote player.
    pub player_id: usize,
    /// The next frame to simulate at that moment.
    pub frame: i32,
    /// When.
    pub at_us: u64,
    /// State before.
    pub from: RouteState,
    /// State after.
    pub to: RouteState,
    /// Why.
    pub cause: RouteCause,
    /// Name of the measurement, with unit.
    pub metric: String,
    /// The measured value.
    pub value: Option<f64>,
    /// The value it crossed.
    pub threshold: Option<f64>,
}

impl RouteChangeRecord {
    /// Whether this is a fallback: see [`RouteState::falls_back_to`].
    #[must_use]
    pub const fn is_fallback(&self) -> bool {
        self.from.falls_back_to(self.to)
    }
}

/// Time left over when a lost path is replaced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FailoverMargin {
    /// Smallest over the episode and the peers.
    pub min: Option<f64>,
    /// Median over the episode, of the peer that has the smallest.
    pub median: Option<f64>,
}

/// Network conditions of this peer's own packets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ConditionsRecord {
    /// As written in the settings. `null` when none were asked for.
    pub spec: Option<String>,
    /// Seed of their randomness.
    pub seed: Option<Hex64>,
    /// What came of them, by path.
    pub realised: BTreeMap<Path, ConditionRealised>,
}

/// Counters of one path to one remote player, over the episode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PathRecord {
    /// The remote player.
    pub player_id: usize,
    /// `direct` or `relay`.
    pub path: Path,
    /// Datagrams of every kind.
    pub datagrams: Datagrams,
    /// Bytes sent, headers included.
    pub bytes_sent: u64,
    /// Bytes received, headers included.
    pub bytes_received: u64,
    /// Round trips on this path.
    pub rtt_ms: Summary,
    /// Deviation of the delay on this path.
    pub jitter_ms: Summary,
}

/// `latency`: round trips over the route in use, as the network has them, and what players feel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Latency {
    /// Length of `samples`.
    pub sample_count: u64,
    /// Smallest.
    pub min_ms: Option<f64>,
    /// Largest.
    pub max_ms: Option<f64>,
    /// Mean.
    pub mean_ms: Option<f64>,
    /// Median.
    pub median_ms: Option<f64>,
    /// Every sample. The figures above are of its round trips.
    pub samples: Vec<LatencySample>,
}

/// One round trip.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LatencySample {
    /// The remote player.
    pub player_id: usize,
    /// When, in Unix milliseconds.
    pub timestamp: u64,
    /// The smoothed round trip at that moment.
    pub rtt_ms: f64,
    /// What a player feels: from the tick in which the remote game read an input to the tick in
    /// which this peer simulated with it, input delay, waits for ticks and losses included. The
    /// median of the inputs since the sample before; `null` where none came, or the remote clock is
    /// not known.
    #[serde(default)]
    pub input_ms: Option<f64>,
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
