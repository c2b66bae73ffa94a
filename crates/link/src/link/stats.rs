//! The counters of one link.

use std::{collections::BTreeMap, time::Duration};

use super::{Link, Rtt};
use crate::wire::{DatagramKind, Path};

/// Counters of one path to one peer, since the link was made.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "reflect", derive(bevy_reflect::Reflect))]
pub struct PathStats {
    /// Datagrams that the path took, of every kind.
    pub sent: u64,
    /// Datagrams that the path refused. Not in `sent`.
    pub send_failures: u64,
    /// Datagrams received with a valid header, copies included.
    pub received: u64,
    /// Datagrams sent that the peer did not acknowledge although it acknowledged later ones.
    pub lost: u64,
    /// Datagrams of the peer that did not arrive: its `lost`, seen from here.
    pub missed: u64,
    /// Datagrams received after a newer one.
    pub reordered: u64,
    /// Datagrams received twice on this path. Copies over the other path are not counted.
    pub duplicate: u64,
    /// Datagrams dropped, by [`LinkError::reason`](super::LinkError::reason) or
    /// [`GgrsWireError::reason`](crate::ggrs_wire::GgrsWireError::reason).
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

/// Counters of one link since it was made: subtract an earlier clone for those of an episode.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "reflect", derive(bevy_reflect::Reflect))]
pub struct LinkStats {
    /// Per path, by [`Path::index`].
    pub paths: [PathStats; 2],
    /// Time in which game packets used both paths while an episode ran.
    pub both_paths: Duration,
    /// Datagrams that the direct path refused.
    pub direct_send_failures: u64,
    /// Own stalls: gaps in this peer's polling.
    pub own_stalls: u64,
    /// Data packets dropped because they belong to another episode, or no episode runs.
    pub epoch_dropped: u64,
    /// Copies of data packets that arrived after the first one, over either path.
    pub duplicate_data: u64,
    /// Game packets that the relay took.
    pub game_packets_relay: u64,
    /// Their bytes, headers included.
    pub game_bytes_relay: u64,
    /// Game packets that the direct path took.
    pub game_packets_direct: u64,
    /// Their bytes, headers included.
    pub game_bytes_direct: u64,
    /// Data packets whose first copy arrived directly.
    pub first_by_direct: u64,
    /// Data packets whose first copy arrived by relay.
    pub first_by_relay: u64,
    /// Input packets sent again: when a path was added, or when the newest one of a stalled game was
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

    pub(super) fn count_refused(&mut self, path: Path) {
        self.paths[path.index()].send_failures += 1;
        if path == Path::Direct {
            self.direct_send_failures += 1;
        }
    }

    pub(super) fn count_sent(&mut self, path: Path, kind: DatagramKind, len: usize) {
        let len = len as u64;
        let stats = &mut self.paths[path.index()];
        stats.sent += 1;
        stats.bytes_sent += len;
        if kind != DatagramKind::Data {
            return;
        }
        match path {
            Path::Direct => {
                self.game_packets_direct += 1;
                self.game_bytes_direct += len;
            }
            Path::Relay => {
                self.game_packets_relay += 1;
                self.game_bytes_relay += len;
            }
        }
    }
}

impl Link {
    /// Counts a datagram whose payload was refused after [`receive`](Self::receive) accepted its
    /// header, in [`PathStats::malformed`].
    pub fn count_malformed(&mut self, path: Path, reason: &'static str) {
        let malformed = &mut self.stats.paths[path.index()].malformed;
        *malformed.entry(reason).or_default() += 1;
    }

    /// Counts a game packet that could not be encoded, in [`LinkStats::unsent`].
    pub fn count_unsendable(&mut self) {
        self.stats.unsent += 1;
    }

    /// Copies the measurements of both paths into the counters.
    pub(super) fn refresh_stats(&mut self) {
        for (stats, health) in self.stats.paths.iter_mut().zip(&self.paths) {
            stats.lost = health.sent.lost();
            stats.missed = health.received.missed();
            stats.reordered = health.received.reordered();
            stats.duplicate = health.received.duplicate();
            stats.rtt = health.rtt;
            stats.jitter = health.delay.jitter();
        }
        self.stats.own_stalls = self.cadence.own_stalls();
    }
}
