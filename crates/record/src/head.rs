//! The categories of an episode file that name it: schema, episode, clock.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{EndReason, Hex64, PeerClock};

/// `schema`: the format of this file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Schema {
    /// [`EPISODE_SCHEMA`](super::EPISODE_SCHEMA) or [`SESSION_SCHEMA`](super::SESSION_SCHEMA).
    pub name: String,
    /// `major.minor`.
    pub version: String,
}

/// `episode`: which one this is, and how it was set up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EpisodeInfo {
    /// `sessionId` and number.
    pub episode_id: String,
    /// Counts from 0 within the lab session.
    pub episode_num: u32,
    /// Seed of the episode; the same on every peer.
    pub seed: Option<Hex64>,
    /// Always 0.
    pub start_frame: i32,
    /// E: the first frame at which the end holds in confirmed state. In a partial file the number
    /// of frames simulated so far.
    pub end_frame: i32,
    /// Why it ended. `null` while it runs.
    pub end_reason: Option<EndReason>,
    /// Whether the episode was still running, or was cut off, when this was written.
    pub is_partial: bool,
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
    /// How missing inputs were predicted, e.g. `repeatLast`.
    pub predictor: Option<String>,
    /// Hash of state 0.
    pub initial_state_hash: Option<Hex64>,
    /// The game's settings.
    pub config: BTreeMap<String, Value>,
    /// Digest of those settings, compared between peers before play.
    pub config_digest: Option<Hex64>,
}

/// `clock`: what `atUs` and `timestamp` mean in this file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Clock {
    /// Unix milliseconds at which `atUs` is 0.
    pub origin_unix_ms: u64,
    /// The same moment in microseconds. `null` where it is not known that finely: in a browser, and
    /// in files of version 1.0.
    #[serde(default)]
    pub origin_unix_us: Option<u64>,
    /// Smallest step of this clock; a browser's may be coarse.
    pub resolution_us: Option<u64>,
    /// This peer's clock against the others'.
    pub peers: Vec<PeerClock>,
}
