//! Reads the exported files back and checks them: the table shows what an analysis will find in
//! them, not what the match has in memory.

use std::fs;
use std::path::{Path, PathBuf};

use bevy_rollback_lab::record::{EpisodeDocument, RouteChangeRecord};
use rollback_lab_record::check::{check_episode, check_pair};

use crate::summary::{EpisodeRow, RouteRow};

/// One episode file.
#[derive(Debug)]
pub(crate) struct EpisodeFile {
    path: PathBuf,
    document: EpisodeDocument,
}

impl EpisodeFile {
    /// Reads one file.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let text =
            fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let document = EpisodeDocument::parse(&text)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            document,
        })
    }

    /// The folder that the file lies in.
    pub(crate) fn folder(&self) -> Option<&Path> {
        self.path.parent()
    }

    /// The row of the table.
    pub(crate) fn row(&self) -> EpisodeRow {
        let EpisodeDocument {
            episode,
            frames,
            inputs,
            quality,
            ..
        } = &self.document;
        let judged = frames.prediction_hits + frames.prediction_misses;
        let changes = inputs.local_changes.len() as u64 * u64::from(episode.fps);
        let by_any: u64 = [
            inputs.sent_via_p2p,
            inputs.sent_via_relay,
            inputs.sent_via_both,
        ]
        .into_iter()
        .flatten()
        .sum();
        EpisodeRow {
            episode: episode.episode_num,
            player: self.document.player_id,
            frames: frames.total,
            end_reason: episode.end_reason.as_ref().map(ToString::to_string),
            stalled_frames: frames.stalled,
            longest_frame_ms: frames.frame_time_us.max.map(|us| us as f64 / 1e3),
            rollbacks: self.document.rollbacks.count,
            max_rollback_frames: self.document.rollbacks.max_frames,
            rollback_causes: self.document.rollbacks.by_cause.clone(),
            prediction_hit_rate: share(frames.prediction_hits, judged),
            input_changes_per_second: share(changes, frames.total),
            route_changes: quality.route_changes.iter().map(route).collect(),
            fallback_frame: quality.p2p_fallback_frame,
            share_sent_p2p: inputs.sent_via_p2p.and_then(|p2p| share(p2p, by_any)),
            rtt_ms: self.document.latency.median_ms,
            status: serde_json::to_value(self.document.sync.status)
                .ok()
                .and_then(|status| status.as_str().map(str::to_owned)),
            file: self.path.display().to_string(),
        }
    }

    /// The failures that this file records, and every invariant that it breaks.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults: Vec<String> = check_episode(&self.document)
            .iter()
            .map(ToString::to_string)
            .collect();
        let mismatches = self.document.sync.p2p_hash_mismatches;
        if mismatches > 0 {
            faults.push(format!("{mismatches} desyncs"));
        }
        if self.document.episode.is_partial {
            faults.push("the episode is partial".to_owned());
        }
        for fault in &mut faults {
            *fault = format!("{}: {fault}", self.path.display());
        }
        faults
    }

    /// Where this file contradicts another peer's file of the same episode.
    pub(crate) fn disagreements(&self, other: &Self) -> Vec<String> {
        check_pair(&self.document, &other.document)
            .iter()
            .map(|violation| {
                let (ours, theirs) = (self.path.display(), other.path.display());
                format!("{ours} and {theirs}: {violation}")
            })
            .collect()
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn route(change: &RouteChangeRecord) -> RouteRow {
    RouteRow {
        frame: change.frame,
        player_id: change.player_id,
        from: change.from,
        to: change.to,
        cause: change.cause,
    }
}
