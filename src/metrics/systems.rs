//! Owns the systems that feed the metrics from the observer's messages, and the two marks that
//! keep the game's events apart by simulation. Never writes anything that the game reads.

use bevy::prelude::*;
use bevy_ggrs::RollbackFrameCount;

use super::{DesyncNote, EpisodeRecord, SessionMetrics};
use crate::rollback::trace::Fact;
use crate::rollback::{DesyncDetected, RollbackCompleted};

/// Folds the trace's facts, the causes of rollbacks, desyncs and the game's own events.
///
/// Runs in [`PreUpdate`] after the trace is drained, so that whoever closes an episode later in
/// the update closes it on complete numbers.
pub fn fold_metrics<I: Copy + PartialEq + Send + Sync + 'static>(
    mut facts: MessageReader<Fact<I>>,
    mut rollbacks: MessageReader<RollbackCompleted<I>>,
    mut desyncs: MessageReader<DesyncDetected>,
    mut metrics: ResMut<SessionMetrics<I>>,
    mut record: ResMut<EpisodeRecord>,
) {
    for fact in facts.read() {
        if matches!(fact, Fact::Closed { .. }) {
            // The metrics may close the episode here, and these belong to it.
            metrics.fold_record(&mut record);
        }
        metrics.fold(fact);
    }
    for rollback in rollbacks.read() {
        metrics.note_cause(
            rollback.rollback_id,
            rollback.cause,
            rollback.via,
            rollback.evidence,
        );
    }
    for desync in desyncs.read() {
        metrics.note_desync(DesyncNote {
            frame: desync.frame,
            player: desync.players.first().copied(),
            local: desync.local_checksum,
            remote: desync.remote_checksum,
            at: desync.at,
        });
    }
    metrics.fold_record(&mut record);
}

/// Tells the game's record which frame is simulated now. Runs in `AdvanceWorld`, in
/// `AdvanceWorldSystems::First`.
pub fn track_simulated_frame(
    mut record: ResMut<EpisodeRecord>,
    frame: Option<Res<RollbackFrameCount>>,
) {
    if let Some(frame) = frame {
        // The count is one further already when AdvanceWorld runs.
        record.begin_frame(frame.0 - 1);
    }
}

/// Tells the game's record that the simulation is over. Runs in `AdvanceWorld`, in
/// `AdvanceWorldSystems::Last`.
pub fn track_simulation_end(mut record: ResMut<EpisodeRecord>) {
    record.end_frame();
}
