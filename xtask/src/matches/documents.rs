//! What the files of one player report about a match, as far as a verdict needs it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// A wait for the other players' inputs.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub(crate) struct Stall {
    pub ticks: u64,
    pub cause: Option<String>,
}

/// One player's session document and the document of its first episode.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// Why the session ended; none while it runs, as after a SIGKILL.
    pub end: Option<String>,
    /// When the session entered its last phase, in Unix microseconds.
    pub ended_at_us: Option<u64>,
    /// What the first episode's file says, if there is one.
    pub episode: Option<Played>,
}

/// What an episode's file says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Played {
    pub end: Option<String>,
    pub partial: bool,
    /// `verified`, `confirmed-only`, `disputed` or `partial`.
    pub status: String,
    pub fps: u64,
    /// When each frame was simulated first, in Unix microseconds.
    pub frames_at_us: Vec<u64>,
    /// Ticks without a new frame, those beyond the end included.
    pub stalled: u64,
    pub stalls: Vec<Stall>,
    /// Rollbacks by cause.
    pub rollbacks: BTreeMap<String, u64>,
    pub failover_feasible: Option<bool>,
    /// Ticks by which the inputs of others came late, and how many did; `None`: not at all.
    pub lateness: Vec<(Option<u64>, u64)>,
    /// Smallest, median and largest round trip by path, in milliseconds.
    pub round_trips: Vec<RoundTrip>,
}

/// The round trips of one path.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RoundTrip {
    pub path: String,
    pub min: Option<f64>,
    pub median: Option<f64>,
    pub max: Option<f64>,
}

impl Played {
    /// Longest time between two frames, in milliseconds.
    pub(crate) fn longest_gap_ms(&self) -> u64 {
        let gaps = self.frames_at_us.windows(2);
        gaps.map(|pair| pair[1].saturating_sub(pair[0]) / 1000)
            .max()
            .unwrap_or(0)
    }
}

impl Report {
    /// Reads the files of the one session below a player's export folder.
    pub(crate) fn read(exports: &Path) -> Result<Self, String> {
        let Some(session) = find(exports, "session.player-")? else {
            return Ok(Self::default());
        };
        let document: SessionDocument = parse(&session)?;
        let origin = document.origin_unix_ms * 1000;
        let episode = find(exports, "episode-0.player-")?
            .map(|file| parse::<EpisodeDocument>(&file).map(Played::from))
            .transpose()?;
        Ok(Self {
            end: document.end_reason,
            ended_at_us: document.phases.last().map(|phase| origin + phase.at_us),
            episode,
        })
    }
}

/// The phases that a session entered so far; none before it wrote its document.
pub(crate) fn session_phases(exports: &Path) -> Vec<String> {
    let Ok(Some(file)) = find(exports, "session.player-") else {
        return Vec::new();
    };
    // The document moves once, when all players are known: then the next look finds it.
    parse::<SessionDocument>(&file).map_or_else(
        |_| Vec::new(),
        |document| {
            let phases = document.phases.into_iter();
            phases.map(|phase| phase.phase).collect()
        },
    )
}

/// The first file in a subfolder of `exports` whose name begins so.
fn find(exports: &Path, begins: &str) -> Result<Option<PathBuf>, String> {
    let Ok(sessions) = fs::read_dir(exports) else {
        return Ok(None);
    };
    for session in sessions {
        let folder = session.map_err(|error| error.to_string())?.path();
        let Ok(files) = fs::read_dir(&folder) else {
            continue;
        };
        for file in files {
            let path = file.map_err(|error| error.to_string())?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with(begins) && name.ends_with(".json") {
                return Ok(Some(path));
            }
        }
    }
    Ok(None)
}

fn parse<T: DeserializeOwned>(file: &Path) -> Result<T, String> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let text = fs::read_to_string(file).map_err(|error| format!("{name}: {error}"))?;
    serde_json::from_str(&text).map_err(|error| format!("{name}: {error}"))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SessionDocument {
    origin_unix_ms: u64,
    phases: Vec<Phase>,
    end_reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Phase {
    phase: String,
    at_us: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EpisodeDocument {
    episode: Episode,
    clock: Clock,
    timeline: Timeline,
    frames: Frames,
    rollbacks: Rollbacks,
    sync: SyncFigures,
    quality: Quality,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Episode {
    fps: u64,
    end_reason: Option<String>,
    is_partial: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Clock {
    origin_unix_ms: u64,
    origin_unix_us: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Timeline {
    frame_at_us: FrameTimes,
    lateness: Vec<Lateness>,
}

#[derive(Deserialize)]
struct FrameTimes {
    first: Option<u64>,
    deltas: Vec<u64>,
}

#[derive(Deserialize)]
struct Lateness {
    runs: Vec<(Option<u64>, u64)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Frames {
    stalled: u64,
    stalled_overrun: u64,
    stalls: Vec<Stall>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rollbacks {
    by_cause: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
struct SyncFigures {
    status: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Quality {
    failover_feasible: Option<bool>,
    paths: Option<Vec<PathFigures>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PathFigures {
    path: String,
    rtt_ms: RttFigures,
}

#[derive(Deserialize)]
struct RttFigures {
    min: Option<f64>,
    median: Option<f64>,
    max: Option<f64>,
}

impl From<EpisodeDocument> for Played {
    fn from(document: EpisodeDocument) -> Self {
        let clock = &document.clock;
        let origin = clock.origin_unix_us.unwrap_or(clock.origin_unix_ms * 1000);
        let times = &document.timeline.frame_at_us;
        let mut at = times.first.map(|first| origin + first);
        let mut frames_at_us: Vec<u64> = at.into_iter().collect();
        for delta in &times.deltas {
            at = at.map(|at| at + delta);
            frames_at_us.extend(at);
        }
        let lateness = document.timeline.lateness.into_iter();
        let paths = document.quality.paths.unwrap_or_default().into_iter();
        Self {
            end: document.episode.end_reason,
            partial: document.episode.is_partial,
            status: document.sync.status,
            fps: document.episode.fps,
            frames_at_us,
            stalled: document.frames.stalled + document.frames.stalled_overrun,
            stalls: document.frames.stalls,
            rollbacks: document.rollbacks.by_cause,
            failover_feasible: document.quality.failover_feasible,
            lateness: lateness.flat_map(|of| of.runs).collect(),
            round_trips: paths
                .map(|of| RoundTrip {
                    path: of.path,
                    min: of.rtt_ms.min,
                    median: of.rtt_ms.median,
                    max: of.rtt_ms.max,
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The committed example of the format, which the library's tests hold to its types.
    const GOLDEN: &str = include_str!("../../../crates/record/tests/golden/episode.json");

    #[test]
    fn the_golden_file_is_read() {
        let played = Played::from(serde_json::from_str::<EpisodeDocument>(GOLDEN).unwrap());
        assert!(played.fps > 0 && !played.status.is_empty());
        assert!(played.frames_at_us.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn the_longest_gap_is_between_two_frames() {
        let played = Played {
            frames_at_us: vec![1_000_000, 1_016_000, 3_016_500, 3_033_000],
            ..Played::default()
        };
        assert_eq!(played.longest_gap_ms(), 2000);
        assert_eq!(Played::default().longest_gap_ms(), 0);
    }

    #[test]
    fn a_player_that_wrote_nothing_has_an_empty_report() {
        let nowhere = Path::new("no such folder");
        let report = Report::read(nowhere).unwrap();
        assert!(report.end.is_none() && report.episode.is_none());
        assert!(session_phases(nowhere).is_empty());
    }
}
