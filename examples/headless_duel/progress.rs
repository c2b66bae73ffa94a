//! The progress of a running match: one line on stderr, made of the statuses that the peers publish.

use std::io::{IsTerminal, Write, stderr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Fast enough to look alive, slow enough to read.
pub(crate) const REDRAW: Duration = Duration::from_millis(200);
/// Where stderr is not a terminal, one line per so many redraws.
const LOG_EVERY: u32 = 25;

/// The status of one peer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Status {
    /// Phase of the lab session.
    pub phase: &'static str,
    /// Number of the running episode, from 0.
    pub episode: u32,
    /// Frames simulated in it.
    pub frame: i32,
    /// Rollbacks in it.
    pub rollbacks: u64,
    /// Routes to the other players, by handle.
    pub routes: Vec<(usize, String)>,
}

/// A peer's status, shared between its thread and the one that draws.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedStatus(Arc<Mutex<Status>>);

impl SharedStatus {
    /// Changes the status.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The status now.
    pub(crate) fn get(&self) -> Status {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// The progress line.
#[derive(Debug)]
pub(crate) struct ProgressLine {
    frames: u32,
    episodes: u32,
    terminal: bool,
    redraws: u32,
    width: usize,
}

impl ProgressLine {
    /// A line for episodes of `frames` frames.
    pub(crate) fn new(frames: u32, episodes: u32) -> Self {
        Self {
            frames,
            episodes,
            terminal: stderr().is_terminal(),
            redraws: 0,
            width: 0,
        }
    }

    /// Shows the peers' statuses.
    pub(crate) fn draw(&mut self, peers: &[Status]) {
        let due = self.terminal || self.redraws.is_multiple_of(LOG_EVERY);
        self.redraws += 1;
        if !due {
            return;
        }
        let line = describe(peers, self.frames, self.episodes);
        if self.terminal {
            // The line before may have been longer.
            eprint!("\r{line:<width$}", width = self.width);
            self.width = line.chars().count();
        } else {
            eprintln!("{line}");
        }
        // A progress line that cannot be shown is no reason to stop a match.
        let _ = stderr().flush();
    }

    /// Ends the line.
    pub(crate) fn finish(&mut self) {
        if self.terminal && self.width > 0 {
            eprintln!();
        }
    }
}

fn describe(peers: &[Status], frames: u32, episodes: u32) -> String {
    let Some(first) = peers.first() else {
        return String::new();
    };
    let phase = if first.phase.is_empty() {
        "starting"
    } else {
        first.phase
    };
    let frame = peers.iter().map(|peer| peer.frame).min().unwrap_or(0);
    let rollbacks: u64 = peers.iter().map(|peer| peer.rollbacks).sum();
    let mut routes: Vec<&str> = peers
        .iter()
        .flat_map(|peer| peer.routes.iter().map(|(_, route)| route.as_str()))
        .collect();
    routes.sort_unstable();
    routes.dedup();
    let route = match routes.as_slice() {
        [] => "none yet".to_owned(),
        routes => routes.join("/"),
    };
    format!(
        "{phase:<10} episode {}/{episodes}  frame {frame:>5}/{frames}  rollbacks {rollbacks:>4}  route {route}",
        first.episode + 1,
    )
}
