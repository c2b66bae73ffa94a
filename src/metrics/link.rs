//! What session and transport report about one remote player's link, as plain data: this module
//! knows no packet and no route machine.

use std::time::Duration;

use rollback_lab_record::{ConnectionPeer, PathRecord};

use crate::rollback::trace::Frame;

/// The link to one remote player over the episode so far.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkReport {
    /// Its entry in `connection.peers`.
    pub connection: ConnectionPeer,
    /// Its entries in `quality.paths`: one per path that was measured.
    pub paths: Vec<PathRecord>,
    /// Single packets that the direct channel refused.
    pub direct_send_failures: u64,
    /// Time during which packets went on both paths.
    pub both_paths: Duration,
}

impl LinkReport {
    /// The report of a link of which nothing was measured.
    #[must_use]
    pub fn unmeasured(player_id: usize) -> Self {
        Self {
            connection: ConnectionPeer {
                player_id,
                route: None,
                candidate_types: Vec::new(),
                connect_ms: None,
                started_on_relay: None,
            },
            paths: Vec::new(),
            direct_send_failures: 0,
            both_paths: Duration::ZERO,
        }
    }
}

/// A hash that differs from another peer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DesyncNote {
    /// The frame of the state.
    pub frame: Frame,
    /// The player whose hash it was compared with.
    pub player: Option<usize>,
    /// This peer's checksum.
    pub local: u128,
    /// The other peer's checksum.
    pub remote: u128,
    /// When it was detected.
    pub at: Duration,
}
