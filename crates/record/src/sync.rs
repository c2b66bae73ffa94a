//! The category `sync`: whether the peers simulated the same.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Desync, Hex64};

/// `sync`: whether the peers simulated the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SyncReport {
    /// Hashes of confirmed states.
    pub hashes: Hashes,
    /// Comparisons with another peer's hash. `null` when the session does not report each one.
    pub hash_verifications: Option<u64>,
    /// Those that were equal.
    pub hash_matches: Option<u64>,
    /// Those that were not.
    #[serde(rename = "p2pHashMismatches")]
    pub p2p_hash_mismatches: u64,
    /// Last frame below `endFrame` whose inputs are all known. `null` if there is none.
    pub confirmed_frame: Option<i32>,
    /// Last frame whose state another peer's hash agreed with. `null` if there is none.
    pub verified_frame: Option<i32>,
    /// What this file can claim.
    pub status: SyncStatus,
    /// Chained over all confirmed frames; see [`digest`](crate::digest).
    pub history_digest: Hex64,
    /// The digest that each remote player reported for the same `endFrame`; `null` if none came.
    pub peer_history_digest: BTreeMap<usize, Option<Hex64>>,
    /// Last frame through which every peer agrees. `null` if nothing was compared.
    pub agreed_through_frame: Option<i32>,
    /// Confirmed inputs that changed afterwards. Zero unless ggrs or the game's setup is at fault.
    pub confirmed_changed: u64,
    /// Every desync that was seen.
    pub desyncs: Vec<Desync>,
}

/// Hashes of confirmed states.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Hashes {
    /// Distance in frames between two values.
    pub every_frames: u32,
    /// Hash of state 0, of state `everyFrames`, and so on below `endFrame`. `null` where the game
    /// computed none, empty if it never did.
    pub values: Vec<Option<Hex64>>,
}

/// What a file can claim about agreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum SyncStatus {
    /// Every remote peer reported the same `historyDigest`.
    Verified,
    /// Every frame is confirmed, but not every peer's digest came.
    ConfirmedOnly,
    /// A hash or a digest differs.
    Disputed,
    /// The episode was not closed on a confirmed end.
    Partial,
}

impl SyncStatus {
    /// The name in the exported file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::ConfirmedOnly => "confirmed-only",
            Self::Disputed => "disputed",
            Self::Partial => "partial",
        }
    }
}
