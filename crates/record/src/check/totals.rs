//! Invariants 1 to 3: frames, rollbacks and predictions add up.

use std::collections::BTreeSet;

use super::{Findings, corrections, end};
use crate::EpisodeDocument;
use rollback_lab_link::cause::Cause;

pub(super) fn frames_add_up(document: &EpisodeDocument, found: &mut Findings) {
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

pub(super) fn rollbacks_add_up(document: &EpisodeDocument, found: &mut Findings) {
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

pub(super) fn predictions_add_up(document: &EpisodeDocument, found: &mut Findings) {
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
