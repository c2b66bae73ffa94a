//! Why an input was late: the causes of a rollback in the order in which they are tried, and the
//! evidence that decides between them.
//!
//! [`LinkEvidence`] measures the evidence about one input from the packets that carried it;
//! [`decide`] names the cause from that evidence alone, so that a reader of the exported file can
//! decide again and must find the same.
//!
//! ```
//! use rollback_lab_link::cause::{Cause, Evidence, decide};
//!
//! // 20 ms late, of which 15 ms are above the usual transit time.
//! let evidence = Evidence {
//!     packet_lost: Some(false),
//!     late_ms: Some(20.0),
//!     over_usual_ms: Some(15.0),
//!     ..Evidence::default()
//! };
//! assert_eq!(decide(false, &evidence), Cause::JitterSpike);
//! ```

use serde::{Deserialize, Serialize};

use crate::route::RouteState;

mod arrivals;
mod links;

pub use arrivals::{Arrival, Pause};
pub use links::{LateInput, LinkEvidence, PlayerLink, RouteShift};

/// Why the input that a rollback corrected was late: the first that fits, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "reflect", derive(bevy_reflect::Reflect))]
#[serde(rename_all = "camelCase")]
pub enum Cause {
    /// The player was disconnected; no input of theirs was late.
    Disconnect,
    /// The player's packets changed their path around the late input.
    RouteChange,
    /// The player's tab or window was hidden.
    PeerHidden,
    /// The player's own game stalled.
    PeerStall,
    /// The packet that carried the input first was lost.
    PacketLoss,
    /// The packet was overtaken by a later one.
    Reordering,
    /// The packet took much longer than the ones around it.
    JitterSpike,
    /// This peer runs further ahead of the other than the transit time explains.
    FrameAdvantage,
    /// The transit time is longer than the input delay covers.
    BaseLatency,
    /// Not enough evidence to decide.
    Unknown,
}

impl Cause {
    /// Every cause, in the order in which they are tried.
    pub const ALL: [Self; 10] = [
        Self::Disconnect,
        Self::RouteChange,
        Self::PeerHidden,
        Self::PeerStall,
        Self::PacketLoss,
        Self::Reordering,
        Self::JitterSpike,
        Self::FrameAdvantage,
        Self::BaseLatency,
        Self::Unknown,
    ];

    /// The name in the exported file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disconnect => "disconnect",
            Self::RouteChange => "routeChange",
            Self::PeerHidden => "peerHidden",
            Self::PeerStall => "peerStall",
            Self::PacketLoss => "packetLoss",
            Self::Reordering => "reordering",
            Self::JitterSpike => "jitterSpike",
            Self::FrameAdvantage => "frameAdvantage",
            Self::BaseLatency => "baseLatency",
            Self::Unknown => "unknown",
        }
    }
}

/// The path in use to a player, or the path that a copy of an input took.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "reflect", derive(bevy_reflect::Reflect))]
#[serde(rename_all = "camelCase")]
pub enum Via {
    /// Peer to peer.
    Direct,
    /// Peer to peer through a TURN server.
    Turn,
    /// Through the lab server.
    Relay,
    /// Not observed: a session without the lab's transport.
    #[default]
    Unknown,
}

impl Via {
    /// The path that game packets use in `route`; `turn` says that the direct path goes through a
    /// TURN server. [`Via::Unknown`] while no path is open.
    #[must_use]
    pub const fn of(route: RouteState, turn: bool) -> Self {
        match route {
            RouteState::Connecting => Self::Unknown,
            RouteState::Direct | RouteState::Suspect if turn => Self::Turn,
            RouteState::Direct | RouteState::Suspect => Self::Direct,
            RouteState::Provisional | RouteState::Relay | RouteState::Survival => Self::Relay,
        }
    }

    /// The name in the exported file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Turn => "turn",
            Self::Relay => "relay",
            Self::Unknown => "unknown",
        }
    }
}

/// What was known of a player's link when a rollback ran. `None` is "not measured", not zero.
///
/// The order is that of the file: fields that seldom change are neighbours, which makes files
/// smaller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "reflect", derive(bevy_reflect::Reflect))]
#[serde(rename_all = "camelCase", default)]
pub struct Evidence {
    /// Whether the route moved to another path while the input was in flight.
    pub route_changed: Option<bool>,
    /// Whether the player was hidden when the input was sent, or during the pause before it.
    pub peer_hidden: Option<bool>,
    /// How long the player's game stalled before it sent the input late, in milliseconds; zero when
    /// it did not, or waited for the inputs of others.
    pub peer_pause_ms: Option<f64>,
    /// Whether the packet that carried the input first did not arrive.
    pub packet_lost: Option<bool>,
    /// Whether a packet sent later brought the input first.
    pub overtaken: Option<bool>,
    /// Frames that this peer is ahead of the others, as ggrs estimates it. Negative when behind.
    pub frames_ahead: Option<i32>,
    /// From the first simulation on the prediction to the arrival of the input, in milliseconds. A
    /// packet that arrived while this peer itself stalled counts as if it had taken the usual time.
    pub late_ms: Option<f64>,
    /// How much longer the packet was in flight than the median of the packets before it, in
    /// milliseconds.
    pub over_usual_ms: Option<f64>,
    /// How much earlier than the player this peer simulates a frame, by the estimate of the other's
    /// clock, in milliseconds. Negative when it is behind. The rest is the usual transit time, the
    /// wait for this peer's poll included: `lateMs` - `overUsualMs` - `aheadMs` + what the player's
    /// input delay covers.
    pub ahead_ms: Option<f64>,
    /// Smoothed round-trip time over the route in use, in milliseconds.
    pub rtt_ms: Option<f64>,
    /// Smoothed deviation of the round-trip time, in milliseconds.
    pub jitter_ms: Option<f64>,
    /// Time since the last packet of that player, in milliseconds.
    pub peer_silence_ms: Option<f64>,
    /// Packets of that player missing among those of the last second.
    pub lost_packets: Option<u32>,
}

impl Evidence {
    /// The evidence in the precision of the file: the state of the link in half milliseconds, the
    /// measurements of the packet in tenths. The cause is decided from these, so that a reader of
    /// the file decides the same.
    #[must_use]
    pub fn rounded(self) -> Self {
        let halves = |ms: Option<f64>| ms.map(|ms| (ms * 2.0).round() / 2.0);
        let tenths = |ms: Option<f64>| ms.map(|ms| (ms * 10.0).round() / 10.0);
        Self {
            rtt_ms: halves(self.rtt_ms),
            jitter_ms: halves(self.jitter_ms),
            peer_silence_ms: halves(self.peer_silence_ms),
            peer_pause_ms: tenths(self.peer_pause_ms),
            late_ms: tenths(self.late_ms),
            over_usual_ms: tenths(self.over_usual_ms),
            ahead_ms: tenths(self.ahead_ms),
            ..self
        }
    }
}

/// Decides the cause of a late input: the first one that fits. `disconnect` says that the player is
/// gone, and no input of theirs was late.
///
/// The first six are facts about the packet. The lateness of any other packet has three parts that
/// add up: the lead of this peer, the usual transit time beyond what the input delay covers, and
/// what this packet took above the usual. The one that is more than half of the lateness is the
/// cause, and the usual transit time if none is.
#[must_use]
pub fn decide(disconnect: bool, evidence: &Evidence) -> Cause {
    if disconnect {
        return Cause::Disconnect;
    }
    let is = |fact: Option<bool>| fact == Some(true);
    if is(evidence.route_changed) {
        return Cause::RouteChange;
    }
    if is(evidence.peer_hidden) {
        return Cause::PeerHidden;
    }
    if evidence.peer_pause_ms.is_some_and(|pause| pause > 0.0) {
        return Cause::PeerStall;
    }
    if is(evidence.packet_lost) {
        return Cause::PacketLoss;
    }
    if is(evidence.overtaken) {
        return Cause::Reordering;
    }
    let (Some(late), Some(over)) = (evidence.late_ms, evidence.over_usual_ms) else {
        return Cause::Unknown;
    };
    if over > late / 2.0 {
        return Cause::JitterSpike;
    }
    let Some(ahead) = evidence.ahead_ms else {
        return Cause::Unknown;
    };
    // The excess delays the packet for any receiver, so only the rest is shared out.
    if ahead > (late - over) / 2.0 {
        Cause::FrameAdvantage
    } else {
        Cause::BaseLatency
    }
}
