//! Invariant 8 for two files: what two peers wrote about the same episode must agree.

use serde_json::Value;

use super::{Findings, Violation, end};
use crate::{EpisodeDocument, SyncStatus};

/// Checks invariant 8: two peers' files about one episode agree on every frame that both confirmed.
///
/// Hashes and digests may differ only if one of the files says `disputed`; inputs never.
#[must_use]
pub fn check_pair(a: &EpisodeDocument, b: &EpisodeDocument) -> Vec<Violation> {
    let mut found = Findings::default();
    found.same(
        8,
        "session.sessionId",
        &a.session.session_id,
        &b.session.session_id,
        "the same lab session",
    );
    found.same(
        8,
        "episode.episodeNum",
        a.episode.episode_num,
        b.episode.episode_num,
        "the same episode",
    );
    found.same(
        8,
        "episode.seed",
        a.episode.seed,
        b.episode.seed,
        "the same on every peer",
    );
    found.holds(
        8,
        "session.localPlayerId",
        a.session.local_player_id,
        a.session.local_player_id != b.session.local_player_id,
        "files of two peers",
    );
    let both_whole = !a.episode.is_partial && !b.episode.is_partial;
    if both_whole {
        found.same(
            8,
            "episode.endFrame",
            end(a),
            end(b),
            "decided by confirmed state alone",
        );
    }
    inputs_agree(a, b, &mut found);
    let disputed = [a, b]
        .iter()
        .any(|file| file.sync.status == SyncStatus::Disputed);
    if !disputed {
        hashes_agree(a, b, &mut found);
        if a.sync.confirmed_frame == b.sync.confirmed_frame {
            found.same(
                8,
                "sync.historyDigest",
                a.sync.history_digest,
                b.sync.history_digest,
                "equal, or the status says otherwise",
            );
        }
    }
    for (mine, other) in [(a, b), (b, a)] {
        reported_digest_is_the_real_one(mine, other, &mut found);
        if mine.sync.status == SyncStatus::Verified && both_whole {
            found.same(
                8,
                "sync.historyDigest",
                mine.sync.history_digest,
                other.sync.history_digest,
                "equal, when a file says verified",
            );
        }
    }
    found.0
}

fn inputs_agree(a: &EpisodeDocument, b: &EpisodeDocument, found: &mut Findings) {
    found.same(
        8,
        "inputs.confirmed",
        a.inputs.confirmed.len(),
        b.inputs.confirmed.len(),
        "the same players",
    );
    for (mine, other) in a.inputs.confirmed.iter().zip(&b.inputs.confirmed) {
        if let Some((frame, ours, theirs)) = first_difference(&mine.runs, &other.runs) {
            let path = format!("inputs.confirmed[{}] at frame {frame}", mine.player_id);
            found.same(8, path, ours, theirs, "the other file's input");
        }
    }
}

/// The first frame at which two players' runs differ, as far as both reach.
fn first_difference<'a>(
    a: &'a [(Value, u32)],
    b: &'a [(Value, u32)],
) -> Option<(u64, &'a Value, &'a Value)> {
    let (mut a, mut b) = (a.iter(), b.iter());
    let mut frame = 0;
    let (mut left, mut right) = (a.next().map(run)?, b.next().map(run)?);
    loop {
        let step = left.1.min(right.1);
        if step > 0 && left.0 != right.0 {
            return Some((frame, left.0, right.0));
        }
        frame += u64::from(step);
        left.1 -= step;
        right.1 -= step;
        if left.1 == 0 {
            left = a.next().map(run)?;
        }
        if right.1 == 0 {
            right = b.next().map(run)?;
        }
    }
}

fn run((value, count): &(Value, u32)) -> (&Value, u32) {
    (value, *count)
}

fn hashes_agree(a: &EpisodeDocument, b: &EpisodeDocument, found: &mut Findings) {
    let (mine, other) = (&a.sync.hashes, &b.sync.hashes);
    found.same(
        8,
        "sync.hashes.everyFrames",
        mine.every_frames,
        other.every_frames,
        "the same on every peer",
    );
    if mine.every_frames != other.every_frames {
        return;
    }
    for (index, (ours, theirs)) in mine.values.iter().zip(&other.values).enumerate() {
        if let (Some(ours), Some(theirs)) = (ours, theirs) {
            found.same(
                8,
                format!("sync.hashes.values[{index}]"),
                ours,
                theirs,
                "the other file's hash",
            );
        }
    }
}

/// What `other` reported over the wire must be what it wrote into its own file.
fn reported_digest_is_the_real_one(
    mine: &EpisodeDocument,
    other: &EpisodeDocument,
    found: &mut Findings,
) {
    let Some(player) = other.session.local_player_id else {
        return;
    };
    let reported = mine
        .sync
        .peer_history_digest
        .get(&player)
        .copied()
        .flatten();
    if let Some(reported) = reported
        && !other.episode.is_partial
        && end(mine) == end(other)
    {
        let path = format!("sync.peerHistoryDigest.{player}");
        found.same(
            8,
            path,
            reported,
            other.sync.history_digest,
            "the digest in that peer's file",
        );
    }
}
