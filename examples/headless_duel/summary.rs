//! The result of a duel: a table to read, JSON for scripts.
//!
//! `--json` prints one object on stdout:
//!
//! | field | meaning |
//! |---|---|
//! | `ok` | whether the duel succeeded, as the exit status |
//! | `failures` | what failed, as sentences |
//! | `sessionId` | id of the lab session, `null` if the players did not meet |
//! | `server`, `room` | server and room of the session |
//! | `cutDirectAtFrame` | frame of episode 0 from which the direct paths were blackholed, or `null` |
//! | `episodes[]` | one entry per episode and peer of this process, with: |
//! | `.episode`, `.player` | number of the episode, handle of the player, both from 0 |
//! | `.frames`, `.endReason` | `frames.total` and `episode.endReason` of the file |
//! | `.stalledFrames` | ticks in which no frame could be simulated |
//! | `.longestFrameMs` | longest time between the first simulations of two frames |
//! | `.rollbacks`, `.maxRollbackFrames` | how many, and the deepest |
//! | `.rollbackCauses` | number of rollbacks by cause |
//! | `.predictionHitRate` | share of correct predictions among the judged ones, 0 to 1, `null` if none |
//! | `.inputChangesPerSecond` | how often the local player changed buttons |
//! | `.routeChanges[]` | `{frame, playerId, from, to, cause}` |
//! | `.fallbackFrame` | frame of the first failover, `null` without one |
//! | `.shareSentP2p` | share of the inputs that were sent peer to peer only, 0 to 1, or `null` |
//! | `.rttMs` | median round trip over the route in use, or `null` |
//! | `.status` | `sync.status` of the file |
//! | `.file` | path of the episode file |
//! | `sessionFiles[]` | paths of the session documents |

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use bevy_rollback_lab::prelude::{Cause, RouteCause, RouteState};
use serde::Serialize;

/// One episode as one peer's file records it.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EpisodeRow {
    pub episode: u32,
    pub player: Option<usize>,
    pub frames: u64,
    pub end_reason: Option<String>,
    pub stalled_frames: u64,
    pub longest_frame_ms: Option<f64>,
    pub rollbacks: u64,
    pub max_rollback_frames: u32,
    pub rollback_causes: BTreeMap<Cause, u64>,
    pub prediction_hit_rate: Option<f64>,
    pub input_changes_per_second: Option<f64>,
    pub route_changes: Vec<RouteRow>,
    pub fallback_frame: Option<i32>,
    pub share_sent_p2p: Option<f64>,
    pub rtt_ms: Option<f64>,
    pub status: Option<String>,
    pub file: String,
}

/// One change of route.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RouteRow {
    pub frame: i32,
    pub player_id: usize,
    pub from: RouteState,
    pub to: RouteState,
    pub cause: RouteCause,
}

/// The whole duel.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Summary {
    pub ok: bool,
    pub failures: Vec<String>,
    pub session_id: Option<String>,
    pub server: String,
    pub room: String,
    pub cut_direct_at_frame: Option<u32>,
    pub episodes: Vec<EpisodeRow>,
    pub session_files: Vec<String>,
    /// Folder of the session's files, once there is one.
    #[serde(skip)]
    pub folder: Option<PathBuf>,
}

impl Summary {
    /// The table; below it causes, route changes, files, failures and the next command.
    pub(crate) fn table(&self) -> String {
        let head = [
            "episode",
            "player",
            "frames",
            "stalls",
            "rollbacks",
            "max depth",
            "pred. hit",
            "sent P2P",
            "RTT",
            "longest",
            "changes/s",
            "status",
        ]
        .map(str::to_owned);
        let rows: Vec<_> = self.episodes.iter().map(cells).collect();
        let widths: Vec<usize> = (0..head.len())
            .map(|column| {
                let cells = rows.iter().map(|row| row[column].len());
                cells.chain([head[column].len()]).max().unwrap_or(0)
            })
            .collect();

        let mut out = String::new();
        for row in [&head].into_iter().chain(&rows) {
            let line: Vec<String> = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:>width$}"))
                .collect();
            push_line(&mut out, &line.join("  "));
        }
        self.push_causes(&mut out);
        self.push_routes(&mut out);
        push_line(&mut out, "");
        for path in self.files() {
            push_line(&mut out, path);
        }
        for failure in &self.failures {
            push_line(&mut out, &format!("FAILED: {failure}"));
        }
        if self.ok {
            push_line(&mut out, "all files written and in agreement");
        }
        if let Some(folder) = &self.folder {
            push_line(&mut out, "");
            push_line(&mut out, "next, draw the episodes as one page:");
            let folder = shell_word(&folder.display().to_string());
            push_line(
                &mut out,
                &format!(
                    "cargo run --release -p rollback-lab -- report {folder} --out report.html"
                ),
            );
        }
        out
    }

    fn files(&self) -> impl Iterator<Item = &String> {
        let episodes = self.episodes.iter().map(|row| &row.file);
        episodes.chain(&self.session_files)
    }

    /// The rollbacks of each row by cause, the most frequent cause first.
    fn push_causes(&self, out: &mut String) {
        push_line(out, "");
        for row in &self.episodes {
            let mut causes: Vec<_> = row.rollback_causes.iter().collect();
            causes.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
            let causes: Vec<String> = causes
                .iter()
                .map(|(cause, count)| format!("{} {count}", cause.as_str()))
                .collect();
            let causes = if causes.is_empty() {
                "no rollbacks".to_owned()
            } else {
                causes.join(", ")
            };
            push_line(
                out,
                &format!(
                    "episode {}  player {}: {causes}",
                    row.episode,
                    player_slot(row)
                ),
            );
        }
    }

    fn push_routes(&self, out: &mut String) {
        push_line(out, "");
        let changes = self
            .episodes
            .iter()
            .flat_map(|row| row.route_changes.iter().map(move |change| (row, change)));
        let mut any = false;
        for (row, change) in changes {
            any = true;
            push_line(
                out,
                &format!(
                    "episode {} frame {:>5}  player {} -> player {}: {} -> {} ({})",
                    row.episode,
                    change.frame,
                    player_slot(row),
                    change.player_id,
                    change.from,
                    change.to,
                    change.cause
                ),
            );
        }
        if !any {
            push_line(out, "no route changes");
        }
    }
}

fn cells(row: &EpisodeRow) -> [String; 12] {
    let percent = |share: Option<f64>| optional(share, |share| format!("{:.1} %", share * 100.0));
    let ms = |time: Option<f64>| optional(time, |time| format!("{time:.1} ms"));
    [
        row.episode.to_string(),
        player_slot(row),
        row.frames.to_string(),
        row.stalled_frames.to_string(),
        row.rollbacks.to_string(),
        row.max_rollback_frames.to_string(),
        percent(row.prediction_hit_rate),
        percent(row.share_sent_p2p),
        ms(row.rtt_ms),
        ms(row.longest_frame_ms),
        optional(row.input_changes_per_second, |rate| format!("{rate:.1}")),
        row.status.clone().unwrap_or_else(|| "-".to_owned()),
    ]
}

fn player_slot(row: &EpisodeRow) -> String {
    optional(row.player, |player| player.to_string())
}

fn optional<T>(value: Option<T>, show: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), show)
}

/// A path as a shell reads it: in quotes unless it is plain.
fn shell_word(path: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/\\._-".contains(c);
    if path.chars().all(plain) {
        path.to_owned()
    } else {
        format!("'{}'", path.replace('\'', "'\\''"))
    }
}

fn push_line(out: &mut String, line: &str) {
    writeln!(out, "{line}").expect("writing to a string does not fail");
}
