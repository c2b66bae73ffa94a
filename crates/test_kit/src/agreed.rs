//! Assertions about the outcomes of a match over real WebRTC: what must be true of every match,
//! and how far a busy machine may explain what a quiet one does not show.

use rollback_lab_record::EndReason;
use std::time::Duration;

use bevy_rollback_lab::prelude::*;
use bevy_rollback_lab::record::{EpisodeDocument, SyncStatus};
use rollback_lab_record::check::{check_episode, check_pair};
use rollback_lab_server::{LabServer, ServerSettings};

use crate::real::Outcome;

/// A process that was paused for longer than this counts as disturbed: at 60 Hz it is the silence
/// after which a path becomes suspect.
const MACHINE_PAUSE: Duration = Duration::from_millis(30);

/// How often a healthy path may become suspect in a match of some seconds on a machine that was not
/// seen to be disturbed. A WebRTC thread that waits for a core delays packets, and neither a gap in
/// a peer's polling nor the pause meter of another thread shows it. In virtual time it is 0.
pub const UNEXPLAINED_SUSPECTS: usize = 2;
/// Stalled frames that a disturbed machine may cost beyond its measured pauses: half a second at
/// 60 Hz. The pauses of one thread are measured, and every peer has several threads. A match that
/// loses its only path stalls for the rest of its time, which is more.
const STALLS_OF_A_BUSY_MACHINE: u64 = 30;

/// A server for one match, on a port that the system chose.
pub fn server() -> LabServer {
    LabServer::start(ServerSettings::loopback()).expect("a server on a free port of loopback")
}

/// Config of a match of two players and one episode at `url`; files stay in memory.
pub fn config(url: &str) -> LabConfig {
    LabConfig::new(url, "room").episodes(1).no_files()
}

/// Asserts that every peer finished, that every file keeps the invariants, and that all files of
/// each episode agree. Returns one list per episode, with the file of each peer.
pub fn agreed(outcomes: &[Outcome], episodes: usize) -> Vec<Vec<&EpisodeDocument>> {
    for outcome in outcomes {
        assert_eq!(
            (outcome.phase, &outcome.failure),
            (SessionPhase::Finished, &None)
        );
        let files: Vec<_> = outcome.episodes.iter().map(|e| &e.episode).collect();
        assert_eq!(files.len(), episodes, "one file per episode: {files:#?}");
        for episode in &outcome.episodes {
            assert_eq!(check_episode(episode), []);
            assert_eq!(episode.sync.status, SyncStatus::Verified);
            assert!(!episode.episode.is_partial);
        }
        let ended: Vec<_> = outcome
            .sessions
            .iter()
            .map(|session| session.end_reason.clone())
            .collect();
        assert_eq!(
            ended,
            [Some(EndReason::Completed)],
            "one session document, completed"
        );
    }
    let files = |episode: usize| outcomes.iter().map(move |peer| &peer.episodes[episode]);
    let all: Vec<Vec<_>> = (0..episodes)
        .map(|number| files(number).collect())
        .collect();
    for files in &all {
        assert_pairs_agree(files);
    }
    all
}

/// Asserts that each two of these files of one episode agree on what both confirmed.
pub fn assert_pairs_agree(files: &[&EpisodeDocument]) {
    for (index, ours) in files.iter().enumerate() {
        for theirs in &files[index + 1..] {
            assert_eq!(check_pair(ours, theirs), []);
        }
    }
}

/// Whether a peer polled with a gap, or the machine paused the process.
pub fn disturbed(outcomes: &[Outcome]) -> bool {
    outcomes
        .iter()
        .any(|outcome| outcome.polling_gaps > 0 || outcome.longest_pause > MACHINE_PAUSE)
}

/// Asserts that no more frames stalled than pauses of the machine explain: none on a machine that
/// did not pause. `what` says what the match must not stall for.
pub fn assert_no_stall(outcomes: &[Outcome], what: &str) {
    let paused = outcomes.iter().map(|outcome| outcome.paused).max();
    let frames = paused.unwrap_or_default().as_millis() as u64 * 60 / 1_000;
    let explained = if disturbed(outcomes) {
        STALLS_OF_A_BUSY_MACHINE + 2 * frames
    } else {
        0
    };
    for episode in outcomes.iter().flat_map(|outcome| &outcome.episodes) {
        let frames = &episode.frames;
        assert!(
            frames.stalled <= explained,
            "{what}; {explained} frames are explained by pauses of {paused:?}, but {:?} stalled",
            frames.stalls
        );
    }
}
