//! What one link counts, for exports and for the causes of late inputs.
//!
//! Owns plain numbers. Never decides anything.

use std::{collections::BTreeMap, time::Duration};

use crate::{health::Rtt, wire::Path};

/// Counters of one path to one peer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PathStats {
    /// Datagrams handed to the path, headers of every kind included.
    pub sent: u64,
    /// Datagrams that the path refused. Not in `sent`.
    pub send_failures: u64,
    /// Datagrams received whose header could be read, duplicates included.
    pub received: u64,
    /// Datagrams sent that the peer did not acknowledge although it acknowledged later ones.
    pub lost: u64,
    /// Numbers of the peer's datagrams that never came: its `lost`, seen from here.
    pub missed: u64,
    /// Datagrams received after a newer one.
    pub reordered: u64,
    /// Datagrams received twice on this same path. Copies over the other path are not counted.
    pub duplicate: u64,
    /// Datagrams dropped unread, by reason.
    pub malformed: BTreeMap<&'static str, u64>,
    /// Bytes sent, headers included.
    pub bytes_sent: u64,
    /// Bytes received, headers included.
    pub bytes_received: u64,
    /// Round trips.
    pub rtt: Rtt,
    /// Interarrival jitter (RFC 3550).
    pub jitter: Duration,
}

/// Counters of one link.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LinkStats {
    /// Per path, by [`Path::index`].
    pub paths: [PathStats; 2],
    /// Time in which game packets went on both paths while an episode ran.
    pub both_paths: Duration,
    /// Packets that the direct path refused.
    pub direct_send_failures: u64,
    /// Gaps in this peer's own polling.
    pub own_stalls: u64,
    /// Data packets dropped because they belong to another episode, or none runs.
    pub epoch_dropped: u64,
    /// Copies of data packets that came when the first had come already, over either path.
    pub duplicate_data: u64,
    /// Game packets handed to the relay.
    pub game_packets_relay: u64,
    /// Their bytes, headers included.
    pub game_bytes_relay: u64,
    /// Game packets handed to the direct path.
    pub game_packets_direct: u64,
    /// Their bytes, headers included.
    pub game_bytes_direct: u64,
    /// Data packets of which the first copy came directly.
    pub first_by_direct: u64,
    /// Data packets of which the first copy came by relay.
    pub first_by_relay: u64,
    /// Input packets sent again: when a path was added, or when a stalled game's newest one was
    /// not acknowledged.
    pub resent_inputs: u64,
    /// Game packets that no path took.
    pub unsent: u64,
}

impl LinkStats {
    /// The counters of `path`.
    #[must_use]
    pub const fn path(&self, path: Path) -> &PathStats {
        &self.paths[path.index()]
    }
}

/// What explains a late input, for the causes of rollbacks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LateEvidence {
    /// Round trip of the route in use.
    pub rtt: Option<Duration>,
    /// Jitter of the route in use.
    pub jitter: Duration,
    /// Datagrams of the peer missing among those of the last second, on the route in use.
    pub lost_packets: u32,
    /// A datagram came after a newer one within the last second.
    pub reordered: bool,
    /// Time since anything of the peer came, on any path.
    pub peer_silence: Duration,
    /// The peer says that it is hidden.
    pub peer_hidden: bool,
    /// When the route last went over to another path.
    pub route_shift: Option<RouteShift>,
}

/// A route went over from one path to the other; a doubt alone is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteShift {
    /// When it was decided, by our clock.
    pub at: Duration,
    /// When the last packet that came by the path left behind was sent, by the peer's clock: what
    /// was sent later did not come that way.
    pub left: Duration,
}
