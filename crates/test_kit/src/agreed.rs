//! What the outcomes of a real match must have in common, whatever happened in it.

#![allow(
    dead_code,
    reason = "shared by several test binaries, none of which uses all of it"
)]

use rollback_lab_record::EndReason;
use std::time::Duration;

use bevy_rollback_lab::prelude::*;
use bevy_rollback_lab::record::{EpisodeDocument, SyncStatus};
use rollback_lab_record::check::{check_episode, check_pair};
use rollback_lab_server::{LabServer, ServerSettings};

use crate::real::Outcome;

/// Pauses of the machine beyond this explain what a healthy one never shows: it is `S`, the
/// silence that raises doubt, at 60 Hz.
const MACHINE_PAUSE: Duration = Duration::from_millis(30);

/// Doubts of one healthy path in a match of some seconds that a busy machine may cause without
/// leaving a trace: a thread of WebRTC that waits for a core delays packets, and neither a hitch
/// of a peer nor the pulse of another thread shows it. In virtual time there is none at all.
pub const UNSEEN_SUSPECTS: usize = 2;
/// Stalled frames that a disturbed machine may cost beyond its measured pauses, half a second at
/// 60 Hz: one thread's pauses are measured, and every peer has several. A match that lost its path
/// and has no other one stalls for the rest of its time, which is more.
const STALLS_OF_A_BUSY_MACHINE: u64 = 30;

/// A server of this match alone, on a port that the system chose.
pub fn server() -> LabServer {
    LabServer::start(ServerSettings::loopback()).expect("a server on a free port of loopback")
}

/// One episode of two players at `url`, kept in memory.
pub fn config(url: &str) -> LabConfig {
    LabConfig::new(url, "room").episodes(1).no_files()
}

/// Every peer finished, every file is in order, and all files of each episode agree: one list per
/// episode, with the file of each peer.
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
            .trails
            .iter()
            .map(|trail| trail.end_reason.clone())
            .collect();
        assert_eq!(
            ended,
            [Some(EndReason::Completed)],
            "one trail, with its end"
        );
    }
    let files = |episode: usize| outcomes.iter().map(move |peer| &peer.episodes[episode]);
    let all: Vec<Vec<_>> = (0..episodes)
        .map(|number| files(number).collect())
        .collect();
    for files in &all {
        every_pair_agrees(files);
    }
    all
}

/// Whatever two of these files of one episode both confirmed is the same in both.
pub fn every_pair_agrees(files: &[&EpisodeDocument]) {
    for (index, ours) in files.iter().enumerate() {
        for theirs in &files[index + 1..] {
            assert_eq!(check_pair(ours, theirs), []);
        }
    }
}

/// Whether a peer hitched, or the machine kept the process from running.
pub fn disturbed(outcomes: &[Outcome]) -> bool {
    outcomes
        .iter()
        .any(|outcome| outcome.own_stalls > 0 || outcome.longest_pause > MACHINE_PAUSE)
}

/// Nothing stalled but what the machine itself held up: no frame on one that did not pause.
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
