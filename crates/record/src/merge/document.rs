//! The shape of a merged document, and why files make none.

use serde::{Deserialize, Serialize};

use super::{PeerOffset, SenderView};
use crate::{
    ActionRuns, Cause, ConditionsRecord, ConnectionPeer, CustomEvent, Desync, EpisodeInfo, Frames,
    Hex64, LatencySample, Lateness, Player, RollbackEvent, RouteChangeRecord, RoutePolicy, Schema,
    Software, StallRecord, SyncStatus,
};

/// `schema.name` of a merged document.
pub const MERGED_SCHEMA: &str = "bevy_rollback_lab.merged";
/// Version of the merged document; it counts on its own.
pub const MERGED_VERSION: &str = "1.0";

/// One episode from all its peers: every `atUs` beside an `observerId` is on the clock of
/// `clock.referencePlayerId`, every `atUs` inside an `event` on the observer's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MergedEpisode {
    /// Name and version of the format.
    pub schema: Schema,
    /// Who played, and whose file is missing.
    pub session: MergedSession,
    /// How it was set up and how it ended, by the file of the reference player.
    pub episode: EpisodeInfo,
    /// The one clock, and how far each peer's is from it.
    pub clock: MergedClock,
    /// Whether the files agree on one history.
    pub agreement: Agreement,
    /// The input applied at every frame, by the file that confirmed most.
    pub confirmed: Vec<ActionRuns>,
    /// What each peer's file says about itself, in the order of handles.
    pub peers: Vec<MergedPeer>,
    /// Every rollback of every peer, in order of time.
    pub rollbacks: Vec<MergedRollback>,
    /// Every stall.
    pub stalls: Vec<Observed<StallRecord>>,
    /// Every route change, as the peer at each end saw it.
    pub route_changes: Vec<Observed<RouteChangeRecord>>,
    /// Every sample of the round trip.
    pub latency: Vec<Observed<LatencySample>>,
    /// Every desync.
    pub desyncs: Vec<Observed<Desync>>,
    /// Every period in which a peer's own game was in the background.
    pub background: Vec<Background>,
    /// The game's own events with a time, as each peer wrote them.
    pub custom: Vec<Observed<CustomEvent>>,
}

/// Who played.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MergedSession {
    /// The lab session.
    pub session_id: String,
    /// The room's name, when there is one.
    pub room: Option<String>,
    /// Study this session belongs to.
    pub study_id: Option<String>,
    /// Group of participants.
    pub group_id: Option<String>,
    /// How packets chose their path.
    pub route_policy: Option<RoutePolicy>,
    /// Every player, by what each one's own file says.
    pub players: Vec<Player>,
    /// Players whose file was not given.
    pub missing_player_ids: Vec<usize>,
}

/// The one clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MergedClock {
    /// The player on whose clock everything stands: the lowest handle with a file.
    pub reference_player_id: usize,
    /// Unix milliseconds at which `atUs` is 0, by that player's wall clock.
    pub origin_unix_ms: u64,
    /// Every peer with a file.
    pub peers: Vec<PeerOffset>,
}

/// Whether the files agree on one history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Agreement {
    /// Whether every pair of files agrees on all that both confirmed.
    pub agrees: bool,
    /// What does not, in words.
    pub violations: Vec<String>,
    /// What each file claims.
    pub claims: Vec<Claim>,
}

/// What one file claims about agreement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Claim {
    /// Whose file.
    pub player_id: usize,
    /// Its `sync.status`.
    pub status: SyncStatus,
    /// Last frame whose inputs are all known there.
    pub confirmed_frame: Option<i32>,
    /// Its digest of the confirmed history.
    pub history_digest: Hex64,
}

/// One peer's own numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MergedPeer {
    /// The player.
    pub player_id: usize,
    /// What ran there.
    pub software: Software,
    /// Whether its file was closed by a confirmed end.
    pub is_partial: bool,
    /// Its frames, predictions and stalls.
    pub frames: Frames,
    /// Artificial network conditions of its own packets.
    pub conditions: ConditionsRecord,
    /// Routes to the others at the end.
    pub routes: Vec<ConnectionPeer>,
    /// First simulation of every frame, on the one clock: the first time, then the distances.
    pub frame_at_us: MergedTimes,
    /// How late each remote player's inputs came.
    pub lateness: Vec<Lateness>,
}

/// A series of times on the one clock. It may begin before the reference peer's zero.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MergedTimes {
    /// The first time. `null` if the series is empty.
    pub first: Option<i64>,
    /// Microseconds from each to the next.
    pub deltas: Vec<u64>,
}

/// Something that one peer saw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Observed<T> {
    /// The player whose file holds it.
    pub observer_id: usize,
    /// When, on the one clock.
    pub at_us: i64,
    /// As that file has it.
    pub event: T,
}

/// A rollback with what the other peer's file says about the late input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MergedRollback {
    /// The player who rolled back.
    pub observer_id: usize,
    /// When the correction ran, on the one clock.
    pub at_us: i64,
    /// Why the input was late, with the sender's file at hand: what the observer decided is
    /// `event.cause`, see `record::causes::finalise`.
    pub cause: Cause,
    /// As the observer's file has it, its evidence included.
    pub event: RollbackEvent,
    /// The same input where it came from. `null` without that player's file.
    pub sender: Option<SenderView>,
}

/// A time in the background.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Background {
    /// The player whose game it was.
    pub observer_id: usize,
    /// When it began, on the one clock.
    pub at_us: i64,
    /// How long it lasted, up to the end of the episode.
    pub duration_ms: f64,
}

/// Why files make no merged document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    /// No file.
    #[error("no episode file to merge")]
    Nothing,
    /// A file that does not say whose it is.
    #[error("a file without a local player cannot be merged")]
    NoPlayer,
    /// Files of different episodes.
    #[error("files of {one} and {other} are not of one episode")]
    DifferentEpisodes {
        /// The first file's episode.
        one: String,
        /// Another one's.
        other: String,
    },
    /// Two files of one player.
    #[error("two files of player {player}")]
    SamePlayer {
        /// The player.
        player: usize,
    },
}
