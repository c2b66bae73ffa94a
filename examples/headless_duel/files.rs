//! Reads the exported files back: the table says what an analysis will find, not what the match
//! remembers.
//!
//! Owns the way from files to rows and the comparison of peers. Never talks to a session.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::summary::{EpisodeRow, RouteRow};

/// One episode file.
#[derive(Debug)]
pub struct EpisodeFile {
    path: PathBuf,
    document: Value,
}

impl EpisodeFile {
    /// Where `player` of session `id` writes episode `number`.
    pub fn path(out: &Path, id: &str, number: u32, player: usize) -> PathBuf {
        out.join(id)
            .join(format!("episode-{number}.player-{player}.json"))
    }

    /// Where `player` of session `id` writes the session document.
    pub fn session_path(out: &Path, id: &str, player: usize) -> PathBuf {
        out.join(id).join(format!("session.player-{player}.json"))
    }

    /// Reads one file.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn read(path: PathBuf) -> Result<Self, String> {
        let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = fs::read_to_string(&path).map_err(|error| named(&error))?;
        let document = serde_json::from_str(&text).map_err(|error| named(&error))?;
        Ok(Self { path, document })
    }

    /// The row of the table.
    pub fn row(&self) -> EpisodeRow {
        let hits = self.count("/frames/predictionHits");
        let misses = self.count("/frames/predictionMisses");
        let frames = self.count("/frames/total");
        let fps = self.count("/episode/fps");
        let changes = self.list("/inputs/localChanges").len();
        let sent = |name: &str| self.at(&format!("/inputs/{name}")).as_u64();
        let by_any: u64 = ["sentViaP2P", "sentViaRelay", "sentViaBoth"]
            .into_iter()
            .filter_map(sent)
            .sum();
        EpisodeRow {
            episode: self.count("/episode/episodeNum") as u32,
            player: self.count("/playerId") as usize,
            frames,
            end_reason: self.text("/episode/endReason"),
            stalled_frames: self.count("/frames/stalled"),
            longest_frame_ms: self
                .at("/frames/frameTimeUs/max")
                .as_f64()
                .map(|us| us / 1e3),
            rollbacks: self.count("/rollbacks/count"),
            max_rollback_frames: self.count("/rollbacks/maxFrames"),
            prediction_hit_rate: share(hits, hits + misses),
            input_changes_per_second: share(changes as u64 * fps, frames),
            route_changes: self
                .list("/quality/routeChanges")
                .iter()
                .map(route)
                .collect(),
            fallback_frame: self.at("/quality/p2pFallbackFrame").as_i64(),
            share_sent_p2p: sent("sentViaP2P").and_then(|p2p| share(p2p, by_any)),
            rtt_ms: self.at("/latency/medianMs").as_f64(),
            status: self.text("/sync/status"),
            file: self.path.display().to_string(),
        }
    }

    /// What this file itself says went wrong.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut fault = |what: String| faults.push(format!("{}: {what}", self.path.display()));
        let mismatches = self.count("/sync/p2pHashMismatches");
        if mismatches > 0 {
            fault(format!("{mismatches} desyncs"));
        }
        if self.at("/episode/isPartial").as_bool() != Some(false) {
            fault("the episode is partial".to_owned());
        }
        faults
    }

    /// Where this file and the same episode's file of another peer contradict each other.
    pub fn disagreements(&self, other: &Self) -> Vec<String> {
        [
            "/gameId",
            "/episode/endFrame",
            "/inputs/confirmed",
            "/sync/historyDigest",
        ]
        .into_iter()
        .filter(|pointer| self.at(pointer) != other.at(pointer))
        .map(|pointer| {
            format!(
                "{} and {} differ in {}",
                self.path.display(),
                other.path.display(),
                pointer.trim_start_matches('/').replace('/', ".")
            )
        })
        .collect()
    }

    fn at(&self, pointer: &str) -> &Value {
        self.document.pointer(pointer).unwrap_or(&Value::Null)
    }

    fn count(&self, pointer: &str) -> u64 {
        self.at(pointer).as_u64().unwrap_or(0)
    }

    fn text(&self, pointer: &str) -> Option<String> {
        self.at(pointer).as_str().map(str::to_owned)
    }

    fn list(&self, pointer: &str) -> &[Value] {
        self.at(pointer).as_array().map_or(&[], Vec::as_slice)
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn route(change: &Value) -> RouteRow {
    let text = |name: &str| change[name].as_str().unwrap_or("?").to_owned();
    RouteRow {
        frame: change["frame"].as_i64().unwrap_or(-1),
        player_id: change["playerId"].as_u64().unwrap_or(0) as usize,
        from: text("from"),
        to: text("to"),
        cause: text("cause"),
    }
}
