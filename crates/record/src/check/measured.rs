//! Invariant 9: what follows from measurements in the same file. The cause of a rollback follows from
//! its evidence, the offset of a clock from its samples.

use super::Findings;
use crate::EpisodeDocument;
use rollback_lab_link::cause::{Cause, decide};

/// How fast two clocks may drift apart: by this every sample is widened.
const DRIFT_MAX_PPM: f64 = 200.0;

pub(super) fn causes_follow_from_the_evidence(document: &EpisodeDocument, found: &mut Findings) {
    for (index, event) in document.rollbacks.events.iter().enumerate() {
        let evidence = &event.evidence;
        // Without a packet there is no evidence, and a file of version 1.0 has none of it.
        if event.cause == Cause::Disconnect || evidence.packet_lost.is_none() {
            continue;
        }
        found.same(
            9,
            format!("rollbacks.events[{index}].cause"),
            event.cause,
            decide(false, evidence),
            "the first that fits the evidence",
        );
    }
}

pub(super) fn clocks_follow_from_the_samples(document: &EpisodeDocument, found: &mut Findings) {
    for clock in &document.clock.peers {
        let (Some(at), Some(offset), Some(uncertainty)) =
            (clock.at_us, clock.offset_us, clock.uncertainty_us)
        else {
            continue;
        };
        let path = format!("clock.peers[{}]", clock.player_id);
        let last = clock.samples.last().map(|&(at, ..)| at);
        found.same(9, format!("{path}.atUs"), Some(at), last, "the last sample");
        let widened: Vec<(i64, i64)> = clock
            .samples
            .iter()
            .map(|&(then, offset, half)| {
                let apart = at.abs_diff(then) as f64 / 1e6 * DRIFT_MAX_PPM;
                let half = i64::try_from(half).unwrap_or(i64::MAX / 4) + apart.ceil() as i64;
                (offset - half, offset + half)
            })
            .collect();
        let low = widened.iter().map(|&(low, _)| low).max();
        let high = widened.iter().map(|&(_, high)| high).min();
        let agreed = low.zip(high).filter(|(low, high)| low <= high);
        let narrowest = widened.iter().copied().min_by_key(|(low, high)| high - low);
        let Some((low, high)) = agreed.or(narrowest) else {
            continue;
        };
        found.same(
            9,
            format!("{path}.offsetUs"),
            offset,
            (low + high).div_euclid(2),
            "the middle of what the samples agree on",
        );
        found.same(
            9,
            format!("{path}.uncertaintyUs"),
            uncertainty,
            (high - low).unsigned_abs().div_ceil(2),
            "half of what the samples leave open",
        );
    }
}
