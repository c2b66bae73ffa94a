//! The categories about frames: timeline, rollbacks, frames, the game's own data, and the small ones
//! about interruptions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Hex64;
use rollback_lab_link::cause::{Cause, Evidence, Via};

/// `timeline`: what the participant saw and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Timeline {
    /// First simulation of every frame 0..`endFrame`, each rounded to 100 microseconds.
    pub frame_at_us: TimesUs,
    /// How often each frame was the newest one on screen, as `[times, frames]` runs from frame 0
    /// on; 0 is a frame that was not drawn. `null` when nothing was drawn or it was not measured.
    pub drawn_frames: Option<Vec<(u32, u32)>>,
    /// How late each remote player's inputs came.
    pub lateness: Vec<Lateness>,
    /// Predicted values that were shown first and turned out wrong.
    pub predicted_first: Vec<FirstShown>,
}

/// A series of times, each as the distance to the one before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TimesUs {
    /// The first time. `null` if the series is empty.
    pub first: Option<u64>,
    /// Microseconds from each to the next: one less than there are times.
    pub deltas: Vec<u64>,
}

/// Lateness of one remote player's inputs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Lateness {
    /// The remote player.
    pub player_id: usize,
    /// `[lateFrames, count]` runs from frame 0 on: 0 was there when its frame was first simulated,
    /// n came n ticks later, `null` had not come when the episode closed, or never will.
    pub runs: Vec<(Option<u32>, u32)>,
}

/// Wrong predictions of one remote player, by the value first shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FirstShown {
    /// The remote player.
    pub player_id: usize,
    /// Frames whose first shown input differs from the confirmed one.
    pub runs: Vec<FirstShownRun>,
}

/// Consecutive frames that showed the same wrong input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FirstShownRun {
    /// The first of them.
    pub frame: i32,
    /// How many.
    pub count: u32,
    /// The input shown.
    pub action: Value,
}

/// `rollbacks`: every rollback that ran.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Rollbacks {
    /// One per rollback with `frame` below `endFrame`.
    pub events: Vec<RollbackEvent>,
    /// Number of events.
    pub count: u64,
    /// Largest `rollbackFrames`. Zero when there was none.
    pub max_frames: u32,
    /// Mean `rollbackFrames`. `null` when there was none.
    pub mean_frames: Option<f64>,
    /// Frames simulated again.
    pub resimulated_frames: u64,
    /// Time that took.
    pub resim_time_us: u64,
    /// Events by cause; a cause that never fitted does not stand here.
    pub by_cause: BTreeMap<Cause, u64>,
    /// Reloads that corrected nothing; never part of `count`.
    pub reloads_without_correction: u64,
}

/// One rollback.
///
/// The order is that of the file: what seldom changes stands together, which makes files smaller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RollbackEvent {
    /// First frame that had been simulated with a wrong input.
    pub frame: i32,
    /// The state that was loaded, at most `frame`.
    pub loaded_frame: i32,
    /// The next frame to simulate when the correction came.
    pub current_frame: i32,
    /// When the correction ran, in Unix milliseconds.
    pub timestamp: u64,
    /// When the correction ran.
    pub at_us: u64,
    /// Time that took.
    pub resim_time_us: u64,
    /// Counts up within the episode.
    pub rollback_id: u64,
    /// `currentFrame` - `frame`, at least 1.
    pub rollback_frames: u32,
    /// Frames simulated again, at least `rollbackFrames`.
    pub resimulated_frames: u32,
    /// Frames at the session's rate, stalled ones included, from the first simulation of `frame`
    /// until its input was known.
    pub late_by_frames: u32,
    /// The remote player whose input was wrong.
    pub player_id: usize,
    /// The last prediction used. `null` when a disconnect forced the rollback.
    pub predicted_action: Option<Value>,
    /// The confirmed input. `null` when a disconnect forced the rollback.
    pub actual_action: Option<Value>,
    /// Every other frame and player the same rollback corrected.
    pub also_mispredicted: Vec<AlsoMispredicted>,
    /// Why the input was late.
    pub cause: Cause,
    /// How the first copy of the corrected input came; where none was seen, the route in use when
    /// the rollback ran.
    pub via: Via,
    /// What `cause` was decided from.
    pub evidence: Evidence,
}

/// Another frame and player that a rollback corrected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AlsoMispredicted {
    /// The frame.
    pub frame: i32,
    /// The remote player.
    pub player_id: usize,
    /// The last prediction used.
    pub predicted_action: Value,
    /// The confirmed input.
    pub actual_action: Value,
}

/// `frames`: how many frames were simulated, predicted and waited for. The numbers add up:
/// [`check`](crate::check) recomputes them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Frames {
    /// E.
    pub total: u64,
    /// Frames below E simulated for the first time.
    pub advanced: u64,
    /// Frames at or after E simulated before the end was confirmed.
    pub overrun: u64,
    /// Runs of `ReadInputs`.
    pub ticks: u64,
    /// Ticks without a new frame, waiting for a frame below E, or in the standstill in which a partial
    /// episode ended.
    pub stalled: u64,
    /// Other ticks without a new frame, waiting for a frame at or after E.
    pub stalled_overrun: u64,
    /// Every stall below E, and the standstill in which a partial episode ended.
    pub stalls: Vec<StallRecord>,
    /// Frames simulated again by rollbacks.
    pub resimulated: u64,
    /// Frames and remote players first simulated on a prediction.
    pub predicted: u64,
    /// Those whose last prediction was right.
    pub prediction_hits: u64,
    /// Those whose last prediction was wrong.
    pub prediction_misses: u64,
    /// Those that a disconnect made meaningless.
    pub voided: u64,
    /// Those not judged yet. Zero unless partial.
    pub open: u64,
    /// Predictions replaced by another prediction.
    pub revisions: u64,
    /// Most frames simulated beyond the last confirmed one.
    pub max_frames_ahead: u32,
    /// Time between the first simulations of consecutive frames.
    pub frame_time_us: FrameTimes,
}

/// Ticks in a row in which no new frame could be simulated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StallRecord {
    /// The frame that had to wait.
    pub frame: i32,
    /// How many ticks.
    pub ticks: u64,
    /// When it began.
    pub at_us: u64,
    /// Why, or `unknown`.
    pub cause: Cause,
}

/// Quantiles of the time between frames. `null` with fewer than two frames.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FrameTimes {
    /// Median.
    pub p50: Option<u64>,
    /// 99th percentile.
    pub p99: Option<u64>,
    /// Largest.
    pub max: Option<u64>,
}

/// A hash that differs from another peer's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Desync {
    /// The frame of the state.
    pub frame: i32,
    /// Whose hash it was compared with.
    pub player_id: Option<usize>,
    /// This peer's hash.
    pub local_hash: Hex64,
    /// The other's hash.
    pub remote_hash: Hex64,
    /// When it was seen.
    pub at_us: u64,
}

/// `reconnection`: losses of connection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Reconnection {
    /// Every loss, in order.
    pub disconnections: Vec<Disconnection>,
    /// Attempts to come back.
    pub attempts: u64,
    /// Time the game stood still for them.
    pub total_pause_duration_ms: f64,
    /// Every return, in order.
    pub resumes: Vec<Disconnection>,
}

/// A connection lost, or come back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Disconnection {
    /// The remote player. `null` for the server.
    pub player_id: Option<usize>,
    /// The next frame to simulate at that moment.
    pub frame: i32,
    /// When.
    pub at_us: u64,
    /// Why, as far as it is known.
    pub reason: Option<String>,
}

/// `focusLoss`: times the game was in the background. Empty and `null` where it was not measured,
/// as in a game without a window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FocusLoss {
    /// Every period, in order.
    pub background_periods: Vec<Period>,
    /// Every period in which another player's game was in the background, as its peer reported.
    #[serde(default)]
    pub peer_background_periods: Vec<PeerPeriod>,
    /// Sum of `backgroundPeriods`.
    pub total_background_ms: Option<f64>,
    /// Number of `backgroundPeriods`.
    pub period_count: Option<u64>,
    /// Length after which the session ends. `null` when there is no such rule.
    pub timeout_ms: Option<f64>,
    /// Whether it did.
    pub was_timeout_triggered: Option<bool>,
}

/// A period in which another player's game was in the background.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PeerPeriod {
    /// The player.
    pub player_id: usize,
    /// When the report of its start arrived, in Unix milliseconds.
    pub start: u64,
    /// When the report of its end arrived. `null` if it lasted beyond the episode.
    pub end: Option<u64>,
    /// Length, up to the end of the episode.
    pub duration_ms: f64,
}

/// A period in the background.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Period {
    /// Start in Unix milliseconds.
    pub start: u64,
    /// End in Unix milliseconds. `null` if it lasted beyond the episode.
    pub end: Option<u64>,
    /// Length, up to the end of the episode.
    pub duration_ms: f64,
}

/// `custom`: the game's own data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Custom {
    /// Facts about the episode.
    pub annotations: BTreeMap<String, Value>,
    /// Events of confirmed frames, in order.
    pub events: Vec<CustomEvent>,
}

/// One of the game's events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CustomEvent {
    /// The frame the game gave it.
    pub frame: i32,
    /// First simulation of the frame that raised it. `null` if that is not known.
    pub at_us: Option<u64>,
    /// Its name.
    pub name: String,
    /// Its content.
    pub data: Value,
}

/// `completeness`: what a crash may have cost. `null` while no journal is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Completeness {
    /// Rows the journal held.
    pub journal_rows: Option<u64>,
    /// Rows that are missing.
    pub gaps: Option<u64>,
    /// Whether this file was put together from a journal.
    pub recovered: Option<bool>,
}
