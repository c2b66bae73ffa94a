//! Invariants 4 to 7 and the history of one file: what is listed is confirmed, complete, inside the
//! episode, explained and digested.

use serde_json::Value;

use super::{Correction, Findings, corrections, end};
use crate::digest;
use crate::{ActionRuns, EpisodeDocument, RoutePolicy, RouteState, SyncStatus};
use rollback_lab_link::cause::Cause;

pub(super) fn corrections_are_confirmed(document: &EpisodeDocument, found: &mut Findings) {
    for (index, event) in document.rollbacks.events.iter().enumerate() {
        let path = format!("rollbacks.events[{index}]");
        let both = event.actual_action.is_some() == event.predicted_action.is_some();
        found.holds(
            4,
            format!("{path}.actualAction"),
            &event.actual_action,
            both,
            "null exactly when predictedAction is",
        );
        let disconnect = event.cause == Cause::Disconnect;
        let explained = event.actual_action.is_none() == disconnect;
        found.holds(
            4,
            format!("{path}.cause"),
            event.cause,
            explained,
            "disconnect exactly when there are no actions",
        );
        let lonely = event.actual_action.is_some() || event.also_mispredicted.is_empty();
        found.holds(
            4,
            format!("{path}.alsoMispredicted"),
            &event.also_mispredicted,
            lonely,
            "empty without actions",
        );
        found.holds(
            4,
            format!("{path}.playerId"),
            event.player_id,
            is_remote(document, event.player_id),
            "a remote player",
        );
    }
    for (path, correction) in corrections(document) {
        let Correction {
            frame,
            player_id,
            predicted,
            actual,
        } = correction;
        found.holds(
            4,
            format!("{path}.playerId"),
            player_id,
            is_remote(document, player_id),
            "a remote player",
        );
        found.holds(
            4,
            format!("{path}.actualAction"),
            actual,
            actual != predicted,
            "another than predictedAction",
        );
        let confirmed = runs_of(document, player_id).and_then(|runs| input_at(runs, frame));
        // In a partial file an input may be known for one player and not yet for all.
        if confirmed.is_some() || !document.episode.is_partial {
            found.same(
                4,
                format!("{path}.actualAction"),
                Some(actual),
                confirmed,
                "the confirmed input",
            );
        }
    }
}

pub(super) fn send_paths_add_up(document: &EpisodeDocument, found: &mut Findings) {
    let inputs = &document.inputs;
    let peers = document.timeline.lateness.len() as u64;
    let all = end(document) * peers;
    let sent = [
        inputs.sent_via_p2p,
        inputs.sent_via_relay,
        inputs.sent_via_both,
        inputs.unsent,
    ];
    if sent.iter().any(Option::is_some) {
        let sum = sent.iter().flatten().sum();
        found.same(
            5,
            "inputs.sentVia*",
            sum,
            all,
            "local input frames times remote peers",
        );
    }
    let received = [inputs.received_via_p2p, inputs.received_via_relay]
        .iter()
        .flatten()
        .sum::<u64>();
    found.holds(
        5,
        "inputs.receivedVia*",
        received,
        received <= all,
        "at most one per frame and remote player",
    );
}

pub(super) fn nothing_lies_beyond_the_end(document: &EpisodeDocument, found: &mut Findings) {
    let end = document.episode.end_frame;
    let inside = |frame: i32| (0..end).contains(&frame);
    for (index, event) in document.rollbacks.events.iter().enumerate() {
        found.holds(
            6,
            format!("rollbacks.events[{index}].frame"),
            event.frame,
            inside(event.frame),
            "below endFrame",
        );
    }
    for (path, correction) in corrections(document) {
        found.holds(
            6,
            format!("{path}.frame"),
            correction.frame,
            inside(correction.frame),
            "below endFrame",
        );
    }
    for change in &document.inputs.local_changes {
        found.holds(
            6,
            "inputs.localChanges",
            change.frame,
            inside(change.frame),
            "below endFrame",
        );
    }
    for first in &document.timeline.predicted_first {
        for run in &first.runs {
            let last = run
                .frame
                .saturating_add_unsigned(run.count.saturating_sub(1));
            found.holds(
                6,
                "timeline.predictedFirst",
                run.frame,
                inside(run.frame) && inside(last),
                "below endFrame",
            );
        }
    }
    let confirmed = document
        .sync
        .confirmed_frame
        .map_or(0, |frame| i64::from(frame) + 1);
    for runs in &document.inputs.confirmed {
        let path = format!("inputs.confirmed[{}]", runs.player_id);
        found.same(
            6,
            path.clone(),
            total(&runs.runs),
            confirmed,
            "one input per confirmed frame",
        );
        if !document.episode.is_partial {
            found.same(
                6,
                path,
                total(&runs.runs),
                i64::from(end),
                "every frame below endFrame",
            );
        }
    }
    for lateness in &document.timeline.lateness {
        let path = format!("timeline.lateness[{}]", lateness.player_id);
        found.same(
            6,
            path,
            total(&lateness.runs),
            i64::from(end),
            "one per frame",
        );
    }
    if let Some(drawn) = &document.timeline.drawn_frames {
        found.same(
            6,
            "timeline.drawnFrames",
            total(drawn),
            i64::from(end),
            "one per frame",
        );
    }
}

pub(super) fn fallback_is_explained(document: &EpisodeDocument, found: &mut Findings) {
    let quality = &document.quality;
    let triggered = quality.p2p_fallback_triggered == Some(true);
    found.same(
        7,
        "quality.p2pFallbackFrame",
        quality.p2p_fallback_frame.is_some(),
        triggered,
        "there exactly with p2pFallbackTriggered",
    );
    let failed_over = quality
        .route_changes
        .iter()
        .any(|change| change.to == RouteState::Relay);
    found.holds(
        7,
        "quality.p2pFallbackTriggered",
        triggered,
        failed_over || !triggered,
        "a route change to relay",
    );
    let inputs = &document.inputs;
    let relayed = inputs.sent_via_relay.unwrap_or(0) + inputs.sent_via_both.unwrap_or(0);
    let suspected = quality
        .route_changes
        .iter()
        // A route that was suspect when the episode began shows in the change that ends it.
        .flat_map(|change| [change.from, change.to])
        .any(RouteState::uses_relay);
    let began = document
        .connection
        .peers
        .iter()
        .any(|peer| peer.started_on_relay == Some(true));
    // A route that is suspect from before the episode until after it does not change in between.
    let frames = &document.timeline.frame_at_us.deltas;
    let duration_ms = frames.iter().copied().fold(0, u64::saturating_add) as f64 / 1e3;
    let throughout = quality.route_changes.is_empty()
        && inputs.sent_via_relay == Some(0)
        && quality
            .both_paths_ms
            .is_some_and(|ms| ms >= duration_ms * 0.9);
    let policy = document.session.route_policy;
    let wanted = policy.is_some_and(RoutePolicy::prefers_relay);
    found.holds(
        7,
        "inputs.sentViaRelay + sentViaBoth",
        relayed,
        relayed == 0 || suspected || began || wanted || throughout,
        "0 unless routeChanges lists a suspect, or bothPathsMs covers the episode",
    );
}

/// Files of version 1.0 hold the sum alone.
pub(super) fn realised_conditions_add_up(document: &EpisodeDocument, found: &mut Findings) {
    if document.schema.version == "1.0" {
        return;
    }
    for (path, realised) in &document.quality.conditions.realised {
        found.same(
            7,
            format!("quality.conditions.realised.{path}.dropped"),
            realised.dropped,
            realised.lost + realised.cut + realised.queue_dropped,
            "lost + cut + queueDropped",
        );
    }
}

pub(super) fn history_is_reproducible(document: &EpisodeDocument, found: &mut Findings) {
    let sync = &document.sync;
    found.same(
        8,
        "sync.historyDigest",
        sync.history_digest.0,
        digest_of(document),
        "chained over confirmed frames",
    );
    found.same(
        8,
        "sync.p2pHashMismatches",
        sync.p2p_hash_mismatches,
        sync.desyncs.len() as u64,
        "number of desyncs",
    );
    if let (Some(verifications), Some(matches)) = (sync.hash_verifications, sync.hash_matches) {
        found.same(
            8,
            "sync.hashVerifications",
            verifications,
            matches + sync.p2p_hash_mismatches,
            "matches + mismatches",
        );
    }
    let peers = &sync.peer_history_digest;
    let all_equal = !peers.is_empty()
        && peers
            .values()
            .all(|peer| *peer == Some(sync.history_digest));
    match sync.status {
        SyncStatus::Verified => {
            let earned = all_equal && !document.episode.is_partial && sync.desyncs.is_empty();
            found.holds(
                8,
                "sync.status",
                sync.status,
                earned,
                "verified only with every peer's equal digest",
            );
        }
        SyncStatus::ConfirmedOnly => {
            found.holds(
                8,
                "sync.status",
                sync.status,
                sync.desyncs.is_empty(),
                "disputed, with desyncs",
            );
            let missing = peers
                .values()
                .all(|peer| peer.is_none_or(|peer| peer == sync.history_digest));
            found.holds(
                8,
                "sync.status",
                sync.status,
                missing,
                "disputed, with another digest",
            );
            found.holds(
                8,
                "sync.status",
                sync.status,
                !document.episode.is_partial,
                "partial",
            );
        }
        SyncStatus::Partial => {
            found.holds(
                8,
                "sync.status",
                sync.status,
                document.episode.is_partial,
                "partial only in a partial file",
            );
        }
        SyncStatus::Disputed => {}
    }
}

fn is_remote(document: &EpisodeDocument, player: usize) -> bool {
    document
        .timeline
        .lateness
        .iter()
        .any(|lateness| lateness.player_id == player)
        && document.session.local_player_id != Some(player)
}

fn runs_of(document: &EpisodeDocument, player: usize) -> Option<&ActionRuns> {
    document
        .inputs
        .confirmed
        .iter()
        .find(|runs| runs.player_id == player)
}

fn input_at(runs: &ActionRuns, frame: i32) -> Option<&Value> {
    let mut left = u64::try_from(frame).ok()?;
    for (value, count) in &runs.runs {
        match left.checked_sub(u64::from(*count)) {
            Some(rest) => left = rest,
            None => return Some(value),
        }
    }
    None
}

fn total<T>(runs: &[(T, u32)]) -> i64 {
    runs.iter().map(|(_, count)| i64::from(*count)).sum()
}

/// The history digest of what the file lists.
fn digest_of(document: &EpisodeDocument) -> u64 {
    let runs: Vec<_> = document
        .inputs
        .confirmed
        .iter()
        .map(|player| player.runs.clone())
        .collect();
    let hashes = &document.sync.hashes;
    let confirmed = document
        .sync
        .confirmed_frame
        .map_or(0, |frame| frame.saturating_add(1));
    digest::of_runs(&runs, u32::try_from(confirmed).unwrap_or(0), |frame| {
        let on_grid = hashes.every_frames > 0 && frame.is_multiple_of(hashes.every_frames);
        let index = on_grid.then(|| (frame / hashes.every_frames) as usize)?;
        hashes.values.get(index)?.map(|hash| hash.0)
    })
}
