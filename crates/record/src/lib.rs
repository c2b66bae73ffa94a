//! Read, check, compare, merge and tabulate the files of a `bevy_rollback_lab` match, without Bevy.
//!
//! Every peer of a match writes one JSON file per episode, an [`EpisodeDocument`]: each input, each
//! prediction, each rollback with its cause, each stall, each route change. It also keeps one
//! [`SessionDocument`] per lab session, the trail from joining a room to its end. This crate has the
//! types of these files and what can be computed from them.
//!
//! | you have | you want | use |
//! |---|---|---|
//! | the text of a file | its content | [`EpisodeDocument::parse`], [`SessionDocument::parse`] |
//! | a file | whether its numbers are consistent | [`check::check_episode`] |
//! | two peers' files of one episode | whether they agree | [`check::check_pair`] |
//! | two peers' files of one episode | the causes of late inputs, decided from both | [`causes::finalise`] |
//! | all peers' files of one episode | one document on one clock | [`merge::merge`] |
//! | two halves of a desync | what differed first | [`DesyncBundle::compare`] |
//! | many files | CSV or Parquet tables | the module `tables` (feature `tables`) |
//! | another language | JSON Schema | [`schema`] |
//!
//! The command line `rollback-lab` does all of this without a line of Rust.
//!
//! # Parse a file
//!
//! ```
//! use rollback_lab_record::{Cause, EpisodeDocument};
//!
//! # let text = include_str!("../tests/golden/episode.json");
//! // let text = std::fs::read_to_string("exports/…/episode-0.player-0.json")?;
//! let episode = EpisodeDocument::parse(&text)?;
//! println!("{} frames, {} rollbacks", episode.frames.total, episode.rollbacks.count);
//! for rollback in &episode.rollbacks.events {
//!     if rollback.cause == Cause::PacketLoss {
//!         println!("frame {}: player {} lost a packet", rollback.frame, rollback.player_id);
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Check it
//!
//! Every total in a file follows from what the file lists. [`check::check_episode`] recomputes all of
//! them and returns the [`Violation`](check::Violation)s; an empty list is a consistent file.
//!
//! ```
//! use rollback_lab_record::{EpisodeDocument, check};
//!
//! # let text = include_str!("../tests/golden/episode.json");
//! let mut episode = EpisodeDocument::parse(&text)?;
//! assert_eq!(check::check_episode(&episode), []);
//!
//! episode.frames.ticks += 1; // as a faulty script might
//! let violations = check::check_episode(&episode);
//! assert_eq!(violations[0].path, "frames.ticks");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Check a pair
//!
//! Two peers simulate the same episode, so their files agree on every input and every state hash that
//! both confirmed.
//!
//! ```
//! use rollback_lab_record::{EpisodeDocument, check};
//!
//! # let text = include_str!("../tests/golden/episode.json");
//! # let (one, other) = (text, text);
//! let (one, other) = (EpisodeDocument::parse(&one)?, EpisodeDocument::parse(&other)?);
//! for violation in check::check_pair(&one, &other) {
//!     println!("{violation}"); // here: the same file twice is no pair
//! }
//! # assert_eq!(check::check_pair(&one, &other)[0].path, "session.localPlayerId");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Merge all peers
//!
//! Each file has a clock of its own. [`merge::merge`] puts every event on the clock of the lowest
//! player handle and states how uncertain each offset is.
//!
//! ```
//! use rollback_lab_record::{EpisodeDocument, merge::merge};
//!
//! # let text = include_str!("../tests/golden/episode.json");
//! # let files = [EpisodeDocument::parse(&text)?];
//! let merged = merge(&files)?; // one file per peer
//! for rollback in &merged.rollbacks {
//!     println!("player {} at {} us: {:?}", rollback.observer_id, rollback.at_us, rollback.cause);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Make tables
//!
//! With the feature `tables`, one folder holds a table each of sessions, episodes, rollbacks, frames,
//! stalls, hashes, inputs, lateness, routes and latency, with a data dictionary.
//!
#![cfg_attr(feature = "tables", doc = "```no_run")]
#![cfg_attr(not(feature = "tables"), doc = "```ignore")]
//! use rollback_lab_record::EpisodeDocument;
//! use rollback_lab_record::tables::{Formats, Source, TableFiles};
//!
//! # let text = include_str!("../tests/golden/episode.json");
//! let formats = Formats { csv: true, parquet: true };
//! let mut tables = TableFiles::create("tables".as_ref(), formats)?;
//! let episode = EpisodeDocument::parse(&text)?;
//! tables.add(Source::Episode(&episode))?;
//! for table in tables.finish()? {
//!     println!("{}: {} rows", table.table, table.rows);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The format
//!
//! - Names are camelCase and carry their unit: `atUs` is microseconds since `clock.originUnixMs`,
//!   `rttMs` milliseconds, `rollbackFrames` frames. Players are ggrs handles, frames count from 0.
//! - What was not measured is `null` or empty, not zero.
//! - Hashes, digests and seeds are sixteen hex digits ([`Hex64`]), because JavaScript and R lose
//!   integers beyond 53 bits.
//! - Runs are `[value, count]` pairs, times are distances to the time before.
//! - The order of fields is that of the structs, so that equal data gives equal bytes.
//!
//! # Versions
//!
//! [`SCHEMA_VERSION`] is `major.minor`. An added field raises the minor number, a changed meaning the
//! major one. `parse` reads every minor version of its own major: fields that it does not know are
//! skipped. Words are enums: a route cause of a later version reads as [`RouteCause::Unknown`] and an
//! end reason as [`EndReason::Game`]; any other unknown word is a [`DocumentError::Content`] that names
//! line, column and the known words, because what it means for the rest of the file is not known.
//!
//! # Features
//!
//! | feature | what |
//! |---|---|
//! | `tables` | the module `tables`: CSV and Parquet |
//! | `schema` | generates the JSON Schemas; the committed ones are always in [`schema`] |
//! | `reflect` | `bevy_reflect::Reflect` for the types that a Bevy app keeps in resources and messages |

#![cfg_attr(docsrs, feature(doc_cfg))]

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

/// One episode as one peer saw it: the content of `episode-<n>.player-<k>.json`. Read one with
/// [`parse`](Self::parse) and check it with [`check::check_episode`].
///
/// A file is written when its episode ends, and while it runs by `SessionMetrics::export` of the
/// plugin; `episode.isPartial` tells the two apart.
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
    /// How many frames were simulated, predicted and waited for.
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

/// Why a text is no document that this build reads.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// The text is not JSON, or has no `schema` with a name and a version.
    #[error("no document of a rollback match: {0}")]
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
