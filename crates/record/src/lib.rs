//! The exported files of `bevy_rollback_lab`: types, checks, merged documents, tables.
//!
//! An [`EpisodeDocument`] is one episode as one peer saw it, a [`SessionDocument`] the trail of one
//! lab session. Names are camelCase with units in them, hashes are fixed-width hex strings
//! ([`Hex64`]), and what was not measured is `null` or empty. The order of fields is the order of
//! the structs, so two runs over equal data write equal bytes.

use serde::{Deserialize, Serialize};

pub mod causes;
pub mod check;
pub mod desync;
pub mod digest;
mod end_reason;
mod file_name;
mod head;
mod hex;
pub mod merge;
mod meta;
mod network;
mod play;
pub mod schema;
mod session_document;
mod sync;
#[cfg(feature = "tables")]
pub mod tables;

pub use desync::{DESYNC_SCHEMA, DesyncBundle};
pub use end_reason::EndReason;
pub use head::{Clock, EpisodeInfo, Schema};
pub use hex::Hex64;
pub use meta::{
    Consent, Display, EpisodeMeta, PeerClock, Player, PlayerKind, SessionMeta, Software,
};
pub use network::{
    ActionRuns, CandidateType, ConditionRealised, ConditionsRecord, Connection, ConnectionDetails,
    ConnectionPeer, Datagrams, FailoverMargin, FallbackTrigger, Inputs, Latency, LatencySample,
    LocalChange, PathRecord, Quality, RouteChangeRecord, Summary,
};
pub use play::{
    AlsoMispredicted, Completeness, Custom, CustomEvent, Desync, Disconnection, FirstShown,
    FirstShownRun, FocusLoss, FrameTimes, Frames, Lateness, PeerPeriod, Period, Reconnection,
    RollbackEvent, Rollbacks, StallRecord, Timeline, TimesUs,
};
pub use session_document::{Phase, SessionDocument};
pub use sync::{Hashes, SyncReport, SyncStatus};

pub use rollback_lab_link::cause::{Cause, Evidence, Via};
pub use rollback_lab_link::route::{RouteCause, RoutePolicy, RouteState};
pub use rollback_lab_link::wire::Path;

/// `schema.name` of an episode file.
pub const EPISODE_SCHEMA: &str = "bevy_rollback_lab.episode";
/// `schema.name` of a session file.
pub const SESSION_SCHEMA: &str = "bevy_rollback_lab.session";
/// Version of both files. An added field raises the minor number, a changed one the major.
pub const SCHEMA_VERSION: &str = "1.1";

/// One episode as one peer saw it: the content of `episode-<n>.player-<k>.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EpisodeDocument {
    /// Name and version of the format.
    pub schema: Schema,
    /// `sessionId` again, under the name that existing analysis scripts read.
    pub game_id: String,
    /// `localPlayerId` again, under the name that existing analysis scripts read.
    pub player_id: Option<usize>,
    /// What ran.
    pub software: Software,
    /// Who played, and under which agreement.
    pub session: SessionMeta,
    /// Which episode this is and how it was set up.
    pub episode: EpisodeInfo,
    /// What the times in this file mean.
    pub clock: Clock,
    /// The screen. All `null` when headless.
    pub display: Display,
    /// The routes to the other peers.
    pub connection: Connection,
    /// What was pressed, and how it travelled.
    pub inputs: Inputs,
    /// What the participant saw and when.
    pub timeline: Timeline,
    /// Every rollback that ran.
    pub rollbacks: Rollbacks,
    /// Whether the peers simulated the same.
    pub sync: SyncReport,
    /// Health of the paths, and the fallback if there was one.
    pub quality: Quality,
    /// Round trips over the route in use.
    pub latency: Latency,
    /// The ledger of frames and predictions.
    pub frames: Frames,
    /// Losses of connection and how they ended.
    pub reconnection: Reconnection,
    /// Times the game was in the background.
    pub focus_loss: FocusLoss,
    /// The game's own data.
    pub custom: Custom,
    /// What a crash may have cost.
    pub completeness: Completeness,
}

/// Why a text is no document of a version this build reads.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// The text is not JSON, or has no `schema` with a name and a version.
    #[error("not a document of this crate: {0}")]
    NotADocument(#[source] serde_json::Error),
    /// Another kind of document.
    #[error("schema is {found}, expected {expected}")]
    WrongSchema {
        /// `schema.name` of the text.
        found: String,
        /// The name that was asked for.
        expected: &'static str,
    },
    /// A version whose fields mean something else.
    #[error("schema version {found} is not supported, this build reads version {supported}")]
    UnsupportedVersion {
        /// `schema.version` of the text.
        found: String,
        /// What this build writes; it reads every minor version of the same major.
        supported: &'static str,
    },
    /// The version fits, but a field does not.
    #[error("schema version {version} fits, but the content does not: {source}")]
    Content {
        /// `schema.version` of the text.
        version: String,
        /// Where and why.
        source: serde_json::Error,
    },
}

impl EpisodeDocument {
    /// Reads an episode file of any minor version of [`SCHEMA_VERSION`]'s major.
    ///
    /// # Errors
    /// [`DocumentError`] when the text is no episode document, or one of another major version.
    pub fn parse(text: &str) -> Result<Self, DocumentError> {
        parse(text, EPISODE_SCHEMA)
    }
}

impl SessionDocument {
    /// Reads a session file of any minor version of [`SCHEMA_VERSION`]'s major.
    ///
    /// # Errors
    /// [`DocumentError`] when the text is no session document, or one of another major version.
    pub fn parse(text: &str) -> Result<Self, DocumentError> {
        parse(text, SESSION_SCHEMA)
    }
}

/// Reads the version first, so that a file of another major version is refused by its version and
/// not by the first field that changed.
fn parse<T: for<'a> Deserialize<'a>>(
    text: &str,
    expected: &'static str,
) -> Result<T, DocumentError> {
    #[derive(Deserialize)]
    struct Probe {
        schema: Schema,
    }

    let Probe { schema } = serde_json::from_str(text).map_err(DocumentError::NotADocument)?;
    if schema.name != expected {
        return Err(DocumentError::WrongSchema {
            found: schema.name,
            expected,
        });
    }
    let major = |version: &str| version.split('.').next().map(str::to_owned);
    if major(&schema.version) != major(SCHEMA_VERSION) {
        return Err(DocumentError::UnsupportedVersion {
            found: schema.version,
            supported: SCHEMA_VERSION,
        });
    }
    serde_json::from_str(text).map_err(|source| DocumentError::Content {
        version: schema.version,
        source,
    })
}
