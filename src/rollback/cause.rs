//! Owns why an input came late: the causes of a rollback in the order in which they are tried,
//! and the evidence about each player's link. Pure: never reads a clock, a packet or Bevy.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::trace::{MAX_PLAYERS, RollbackRecord};

/// Why the input that a rollback corrected was late: the first that fits, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Cause {
    /// The player was disconnected; nothing of theirs was late.
    Disconnect,
    /// The player's packets changed their route around the late input.
    RouteChange,
    /// The player's tab or window was hidden.
    PeerHidden,
    /// The player's own game stood still.
    PeerStall,
    /// The packet that carried the input first was lost.
    PacketLoss,
    /// The packet was overtaken by a later one.
    Reordering,
    /// The packet took much longer than the ones around it.
    JitterSpike,
    /// This peer runs ahead of the other by more than the way explains.
    FrameAdvantage,
    /// The way is simply longer than the input delay covers.
    BaseLatency,
    /// Not enough evidence to tell.
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

/// A route to a player, or the path that a copy of an input took.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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

/// What was known of a player's link when a rollback ran. `None` is "not measured", never zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Evidence {
    /// Smoothed round-trip time over the route in use, in milliseconds.
    pub rtt_ms: Option<f64>,
    /// Smoothed deviation of the round-trip time, in milliseconds.
    pub jitter_ms: Option<f64>,
    /// Packets of that player found lost recently.
    pub lost_packets: Option<u32>,
    /// Frames this peer runs ahead of the others, as ggrs estimates it. Negative when behind.
    pub frames_ahead: Option<i32>,
    /// Time since the last packet of that player, in milliseconds.
    pub peer_silence_ms: Option<f64>,
}

/// One player's link, as its owner last described it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PlayerLink {
    /// The route in use.
    pub via: Via,
    /// The measurements that go into a rollback event.
    pub evidence: Evidence,
    /// When the route last changed, in time since the lab session's origin.
    pub route_changed_at: Option<Duration>,
}

/// What is known of every player's link; empty for a session without the lab's transport.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LinkEvidence {
    players: [Option<PlayerLink>; MAX_PLAYERS],
}

impl LinkEvidence {
    /// Describes the link of one player; a handle beyond [`MAX_PLAYERS`] is ignored.
    pub fn set(&mut self, player: usize, link: PlayerLink) {
        if let Some(slot) = self.players.get_mut(player) {
            *slot = Some(link);
        }
    }

    /// The link of one player, if anybody described it.
    #[must_use]
    pub fn get(&self, player: usize) -> Option<&PlayerLink> {
        self.players.get(player)?.as_ref()
    }

    /// Forgets every link, for the next episode or lab session.
    pub fn clear(&mut self) {
        self.players = Default::default();
    }
}

/// How long before its frame was simulated an input may have been sent, when the round-trip time
/// is not known: half of a slow intercontinental round trip, rounded up.
const UNKNOWN_WAY: Duration = Duration::from_millis(150);

/// The first cause that fits a rollback, from what is known of the player's link.
#[must_use]
pub fn decide<I>(record: &RollbackRecord<I>, link: Option<&PlayerLink>) -> Cause {
    if record.disconnect {
        return Cause::Disconnect;
    }
    let Some(link) = link else {
        return Cause::Unknown;
    };
    if route_changed_around(record, link) {
        return Cause::RouteChange;
    }
    Cause::Unknown
}

/// Whether the route changed between the moment in which the input should have been under way and
/// the moment in which it was corrected.
fn route_changed_around<I>(record: &RollbackRecord<I>, link: &PlayerLink) -> bool {
    let Some(changed_at) = link.route_changed_at else {
        return false;
    };
    let way = link
        .evidence
        .rtt_ms
        .filter(|rtt| rtt.is_finite() && (0.0..=60_000.0).contains(rtt))
        .map_or(UNKNOWN_WAY, |rtt| Duration::from_secs_f64(rtt / 1000.0));
    let from = record.first_simulated_at.saturating_sub(way);
    (from..=record.at).contains(&changed_at)
}
