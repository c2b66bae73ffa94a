//! The static facts of an episode, as plain data that the code which starts it fills in. The parts
//! with a category of their own in the file are written unchanged.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use rollback_lab_link::route::RoutePolicy;

/// Everything about an episode that is known when it begins.
///
/// The default is an episode of which nothing is known: what stays empty is empty in the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EpisodeMeta {
    /// What runs.
    pub software: Software,
    /// Who plays, and under which agreement.
    pub session: SessionMeta,
    /// Counts from 0 within the lab session.
    pub episode_num: u32,
    /// Seed of the episode; the same on every peer.
    pub seed: Option<u64>,
    /// The study's name for this trial.
    pub trial_label: Option<String>,
    /// The experimental condition, as the study names it.
    pub condition: BTreeMap<String, Value>,
    /// Frames per second the session was built for.
    pub fps: u32,
    /// Input delay in frames, by player.
    pub input_delay_frames: BTreeMap<usize, u32>,
    /// ggrs's prediction window.
    pub max_prediction_frames: u32,
    /// How missing inputs are predicted, e.g. `repeatLast`.
    pub predictor: Option<String>,
    /// The game's settings.
    pub config: BTreeMap<String, Value>,
    /// Digest of those settings.
    pub config_digest: Option<u64>,
    /// Unix milliseconds of the clock's origin.
    pub origin_unix_ms: u64,
    /// The same moment in microseconds, where it is known that finely.
    pub origin_unix_us: Option<u64>,
    /// Smallest step of the clock in microseconds.
    pub clock_resolution_us: Option<u64>,
    /// The screen.
    pub display: Display,
    /// The game's names for its actions.
    pub action_labels: Option<BTreeMap<String, String>>,
    /// Network conditions as written in the settings, and the seed of their randomness.
    pub conditions: Option<(String, u64)>,
    /// Whether the session runs over the lab's transport. Without it, what only a transport can
    /// count is `null` in the file.
    pub has_transport: bool,
    /// Length of a time in the background after which the session ends, in milliseconds.
    pub focus_timeout_ms: Option<f64>,
}

impl EpisodeMeta {
    /// `sessionId` and number, as files name the episode.
    #[must_use]
    pub fn episode_id(&self) -> String {
        format!("{}-{}", self.session.session_id, self.episode_num)
    }
}

/// `software`: what ran.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Software {
    /// Name and version of this crate.
    pub library: String,
    /// The game's name.
    pub game: String,
    /// The game's version.
    pub version: String,
    /// Digest of the build, when the game states one.
    pub build_digest: Option<String>,
    /// Commit the game was built from.
    pub git_commit: Option<String>,
    /// Whether uncommitted changes were in that build.
    pub git_dirty: Option<bool>,
    /// Version of Bevy.
    pub bevy: Option<String>,
    /// Version of ggrs.
    pub ggrs: Option<String>,
    /// Target triple, or architecture and operating system.
    pub target: String,
    /// Browser family and major version only, so that no participant is recognised by it.
    pub browser: Option<String>,
}

/// `session`: who played, and under which agreement.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionMeta {
    /// The lab session; the same on every peer.
    pub session_id: String,
    /// The room's name, when there is one.
    pub room: Option<String>,
    /// Every player's handle, in order.
    pub player_ids: Vec<usize>,
    /// This peer's handle. `null` if no player is local; the lowest if several are.
    pub local_player_id: Option<usize>,
    /// Study this session belongs to.
    pub study_id: Option<String>,
    /// Group of participants.
    pub group_id: Option<String>,
    /// The agreement given before play.
    pub consent: Option<Consent>,
    /// `p2p-first`, `p2p-only`, `relay-only` or `dual-path`.
    pub route_policy: Option<RoutePolicy>,
    /// Who sat behind each handle.
    pub players: Vec<Player>,
}

/// The agreement a participant gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Consent {
    /// Version of the text agreed to.
    pub version: String,
    /// When, in Unix milliseconds.
    pub at_unix_ms: u64,
}

/// Who sits behind a handle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum PlayerKind {
    /// A person.
    #[default]
    Human,
    /// A program; see the policy fields.
    Bot,
    /// Inputs of an earlier file.
    Replay,
}

impl PlayerKind {
    /// The name in the exported file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Human => "human",
            Self::Bot => "bot",
            Self::Replay => "replay",
        }
    }
}

/// One player.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Player {
    /// The ggrs player handle.
    pub player_id: usize,
    /// Human, bot or replay. `null` when it is not known.
    pub kind: Option<PlayerKind>,
    /// Name of a bot's policy.
    pub policy_name: Option<String>,
    /// Version of a bot's policy.
    pub policy_version: Option<String>,
    /// Digest of a bot's policy.
    pub policy_digest: Option<String>,
    /// Pseudonym; a participant's own id stands in no file.
    pub pseudonym: Option<String>,
}

/// This peer's clock against one other's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PeerClock {
    /// The other player.
    pub player_id: usize,
    /// When the offset below held: at the last sample. `null` in files of version 1.0.
    #[serde(default)]
    pub at_us: Option<u64>,
    /// Their `atUs` minus ours at the same instant: the middle of what all samples agree on, each
    /// widened by a drift of 200 ppm up to `atUs`.
    pub offset_us: Option<i64>,
    /// Half the width of the interval the offset lies in.
    pub uncertainty_us: Option<u64>,
    /// How fast the offset grows, in parts per million. `null` below ten seconds of samples.
    pub drift_ppm: Option<f64>,
    /// Measurements, as `[atUs, offsetUs, uncertaintyUs]`: at most 32, those of the link's whole
    /// life.
    pub samples: Vec<(u64, i64, u64)>,
}

/// `display`: the screen. Its own latency is not measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Display {
    /// Refreshes per second.
    pub refresh_hz: Option<f64>,
    /// Width of the drawing area in physical pixels.
    pub width: Option<u32>,
    /// Height of the drawing area in physical pixels.
    pub height: Option<u32>,
}
