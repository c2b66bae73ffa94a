//! Owns the neutral numbers about one remote player's link, as plain data that the owner of the
//! transport fills in. Knows no packet and no route machine.

use std::time::Duration;

use rollback_lab_record::{Datagrams, Summary};

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
