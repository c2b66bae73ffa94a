//! Owns the identities that every file and every pair of files must satisfy, recomputed from what
//! is listed and never from totals alone. Pure; it judges documents, it never changes them.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use super::{ActionRuns, EpisodeDocument, RollbackEvent, SyncStatus};
use crate::metrics::digest;
use crate::rollback::cause::Cause;

mod pair;

pub use pair::check_pair;

/// A rule that a document breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Number of the identity: 1 to 7 of one file, 8 of its history and of a pair.
    pub identity: u8,
    /// Where, as a path of keys.
    pub path: String,
    /// What stands there.
    pub found: String,
    /// What had to stand there, and by which rule.
    pub expected: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            identity,
            path,
            found,
            expected,
        } = self;
        write!(
            f,
            "identity {identity}: {path} is {found}, expected {expected}"
        )
    }
}

/// Checks identities 1 to 7, and that `historyDigest` is the one of what is listed. An empty list
/// is a file in order.
#[must_use]
pub fn check_episode(document: &EpisodeDocument) -> Vec<Violation> {
    let mut found = Findings::default();
    frames_add_up(document, &mut found);
    rollbacks_add_up(document, &mut found);
    predictions_add_up(document, &mut found);
    corrections_are_confirmed(document, &mut found);
    carriers_add_up(document, &mut found);
    nothing_lies_beyond_the_end(document, &mut found);
    fallback_is_explained(document, &mut found);
    history_is_reproducible(document, &mut found);
    found.0
}

#[derive(Default)]
struct Findings(Vec<Violation>);

impl Findings {
    /// Says so unless both are equal; `rule` explains the expected value.
    fn same<T: PartialEq + fmt::Debug>(
        &mut self,
        identity: u8,
        path: impl Into<String>,
        found: T,
        expected: T,
        rule: &str,
    ) {
        if found != expected {
            self.add(identity, path, &found, format!("{expected:?} ({rule})"));
        }
    }

    /// Says so unless it holds.
    fn holds(
        &mut self,
        identity: u8,
        path: impl Into<String>,
        found: impl fmt::Debug,
        holds: bool,
        rule: &str,
    ) {
        if !holds {
            self.add(identity, path, &found, rule.to_owned());
        }
    }

    fn add(
        &mut self,
        identity: u8,
        path: impl Into<String>,
        found: &dyn fmt::Debug,
        expected: String,
    ) {
        self.0.push(Violation {
            identity,
            path: path.into(),
            found: format!("{found:?}"),
            expected,
        });
    }
}

fn frames_add_up(document: &EpisodeDocument, found: &mut Findings) {
    let frames = &document.frames;
    let end = end(document);
    found.same(
        1,
        "episode.startFrame",
        document.episode.start_frame,
        0,
        "always",
    );
    found.same(1, "frames.total", frames.total, end, "episode.endFrame");
    let gaps = document.completeness.gaps.unwrap_or(0);
    found.same(
        1,
        "frames.advanced",
        frames.advanced + gaps,
        end,
        "episode.endFrame, with completeness.gaps",
    );
    let times = &document.timeline.frame_at_us;
    let stamped = times.deltas.len() as u64 + u64::from(times.first.is_some());
    found.same(1, "timeline.frameAtUs", stamped, end, "one time per frame");
    found.same(
        1,
        "frames.ticks",
        frames.ticks,
        frames.advanced + frames.overrun + frames.stalled + frames.stalled_overrun,
        "advanced + overrun + stalled + stalledOverrun",
    );
    let stalled = frames.stalls.iter().map(|stall| stall.ticks).sum();
    found.same(
        1,
        "frames.stalled",
        frames.stalled,
        stalled,
        "sum of stalls[].ticks",
    );
}

fn rollbacks_add_up(document: &EpisodeDocument, found: &mut Findings) {
    let rollbacks = &document.rollbacks;
    let events = &rollbacks.events;
    found.same(
        2,
        "rollbacks.count",
        rollbacks.count,
        events.len() as u64,
        "number of events",
    );
    let deepest = events.iter().map(|event| event.rollback_frames).max();
    found.same(
        2,
        "rollbacks.maxFrames",
        rollbacks.max_frames,
        deepest.unwrap_or(0),
        "largest rollbackFrames",
    );
    let resimulated = events
        .iter()
        .map(|event| u64::from(event.resimulated_frames))
        .sum();
    found.same(
        2,
        "rollbacks.resimulatedFrames",
        rollbacks.resimulated_frames,
        resimulated,
        "sum over events",
    );
    found.same(
        2,
        "frames.resimulated",
        document.frames.resimulated,
        resimulated,
        "sum over events",
    );
    let time = events.iter().map(|event| event.resim_time_us).sum();
    found.same(
        2,
        "rollbacks.resimTimeUs",
        rollbacks.resim_time_us,
        time,
        "sum over events",
    );
    for cause in Cause::ALL {
        let named = rollbacks.by_cause.get(&cause).copied().unwrap_or(0);
        let listed = events.iter().filter(|event| event.cause == cause).count() as u64;
        found.same(
            2,
            format!("rollbacks.byCause.{}", cause.as_str()),
            named,
            listed,
            "events of that cause",
        );
    }
    for (index, event) in events.iter().enumerate() {
        let path = |field: &str| format!("rollbacks.events[{index}].{field}");
        let depth = i64::from(event.current_frame) - i64::from(event.frame);
        found.same(
            2,
            path("rollbackFrames"),
            i64::from(event.rollback_frames),
            depth,
            "currentFrame - frame",
        );
        found.holds(
            2,
            path("rollbackFrames"),
            event.rollback_frames,
            event.rollback_frames >= 1,
            "at least 1",
        );
        found.holds(
            2,
            path("loadedFrame"),
            event.loaded_frame,
            event.loaded_frame <= event.frame,
            "at most frame",
        );
        let enough = event.resimulated_frames >= event.rollback_frames;
        found.holds(
            2,
            path("resimulatedFrames"),
            event.resimulated_frames,
            enough,
            "at least rollbackFrames",
        );
        if event.loaded_frame == event.frame {
            found.same(
                2,
                path("resimulatedFrames"),
                event.resimulated_frames,
                event.rollback_frames,
                "rollbackFrames, when loadedFrame is frame",
            );
        }
    }
}

fn predictions_add_up(document: &EpisodeDocument, found: &mut Findings) {
    let frames = &document.frames;
    let judged = frames.prediction_hits + frames.prediction_misses + frames.voided;
    found.same(
        3,
        "frames.predicted",
        frames.predicted,
        judged + frames.open,
        "hits + misses + voided + open",
    );
    let may_be_open = document.episode.is_partial || frames.open == 0;
    found.holds(
        3,
        "frames.open",
        frames.open,
        may_be_open,
        "0 unless partial",
    );
    let with_actions = document
        .rollbacks
        .events
        .iter()
        .filter(|event| event.actual_action.is_some());
    let misses = with_actions
        .map(|event| 1 + event.also_mispredicted.len() as u64)
        .sum();
    found.same(
        3,
        "frames.predictionMisses",
        frames.prediction_misses,
        misses,
        "sum over events with actions of 1 + alsoMispredicted",
    );
    let mut seen = BTreeSet::new();
    for (path, correction) in corrections(document) {
        let first = seen.insert((correction.frame, correction.player_id));
        found.holds(
            3,
            path,
            correction.frame,
            first,
            "a frame and player corrected once only",
        );
    }
}

fn corrections_are_confirmed(document: &EpisodeDocument, found: &mut Findings) {
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

fn carriers_add_up(document: &EpisodeDocument, found: &mut Findings) {
    let inputs = &document.inputs;
    let peers = remote_count(document);
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

fn nothing_lies_beyond_the_end(document: &EpisodeDocument, found: &mut Findings) {
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

fn fallback_is_explained(document: &EpisodeDocument, found: &mut Findings) {
    let quality = &document.quality;
    let triggered = quality.p2p_fallback_triggered == Some(true);
    found.same(
        7,
        "quality.p2pFallbackFrame",
        quality.p2p_fallback_frame.is_some(),
        triggered,
        "there exactly with p2pFallbackTriggered",
    );
    let promoted = quality
        .route_changes
        .iter()
        .any(|change| change.to == "relay");
    found.holds(
        7,
        "quality.p2pFallbackTriggered",
        triggered,
        promoted || !triggered,
        "a route change to relay",
    );
    let inputs = &document.inputs;
    let relayed = inputs.sent_via_relay.unwrap_or(0) + inputs.sent_via_both.unwrap_or(0);
    let doubted = quality
        .route_changes
        .iter()
        .any(|change| change.to != "direct" && change.to != "connecting");
    let began = document
        .connection
        .peers
        .iter()
        .any(|peer| peer.started_on_relay == Some(true));
    let policy = document.session.route_policy.as_deref();
    let wanted = matches!(policy, Some("relay-only" | "dual-path"));
    found.holds(
        7,
        "inputs.sentViaRelay + sentViaBoth",
        relayed,
        relayed == 0 || doubted || began || wanted,
        "0 unless routeChanges tells of a suspect",
    );
}

fn history_is_reproducible(document: &EpisodeDocument, found: &mut Findings) {
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

/// A frame and player that a rollback corrected, the event's own or one of the others.
#[derive(Clone, Copy)]
struct Correction<'a> {
    frame: i32,
    player_id: usize,
    predicted: &'a Value,
    actual: &'a Value,
}

fn corrections(document: &EpisodeDocument) -> impl Iterator<Item = (String, Correction<'_>)> {
    let events = document.rollbacks.events.iter().enumerate();
    events.flat_map(|(index, event)| {
        let path = format!("rollbacks.events[{index}]");
        let also = event.also_mispredicted.iter().enumerate().map({
            let path = path.clone();
            move |(also, pair)| {
                let correction = Correction {
                    frame: pair.frame,
                    player_id: pair.player_id,
                    predicted: &pair.predicted_action,
                    actual: &pair.actual_action,
                };
                (format!("{path}.alsoMispredicted[{also}]"), correction)
            }
        });
        own_correction(event)
            .map(|own| (path, own))
            .into_iter()
            .chain(also)
    })
}

fn own_correction(event: &RollbackEvent) -> Option<Correction<'_>> {
    Some(Correction {
        frame: event.frame,
        player_id: event.player_id,
        predicted: event.predicted_action.as_ref()?,
        actual: event.actual_action.as_ref()?,
    })
}

fn is_remote(document: &EpisodeDocument, player: usize) -> bool {
    document
        .timeline
        .lateness
        .iter()
        .any(|lateness| lateness.player_id == player)
        && document.session.local_player_id != Some(player)
}

fn remote_count(document: &EpisodeDocument) -> u64 {
    document.timeline.lateness.len() as u64
}

fn end(document: &EpisodeDocument) -> u64 {
    u64::try_from(document.episode.end_frame).unwrap_or(0)
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
