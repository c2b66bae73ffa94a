//! Owns the systems that feed the metrics from the observer's messages, and the two marks that
//! keep the game's events apart by simulation. Never writes anything that the game reads.

use bevy::prelude::*;
use bevy_ggrs::RollbackFrameCount;

use super::{DesyncNote, EpisodeRecord, InputTiming, SessionMetrics};
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
    timing: Option<ResMut<InputTiming>>,
) {
    if let Some(mut timing) = timing.filter(|timing| !timing.is_empty()) {
        metrics.fold_input_timing(&mut timing);
    }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::metrics::EpisodeMeta;
    use crate::rollback::cause::{Cause, Evidence, Via};
    use crate::rollback::trace::{Known, Trace};

    fn app() -> App {
        let mut app = App::new();
        app.add_message::<Fact<u8>>()
            .add_message::<RollbackCompleted<u8>>()
            .add_message::<DesyncDetected>()
            .insert_resource(SessionMetrics::<u8>::closing_with_session(
                EpisodeMeta::default(),
            ))
            .init_resource::<EpisodeRecord>()
            .add_systems(Update, fold_metrics::<u8>);
        app
    }

    /// Player 1 is guessed wrong at frame 0 and corrected at once; an event of each simulation.
    fn play(app: &mut App, rollback: impl Fn(&mut World)) {
        let at = Duration::from_millis(5);
        let mut trace = Trace::<u8>::default();
        trace.begin(&[true, false], at).unwrap();
        for (remote, known) in [(0, Known::Predicted), (9, Known::Confirmed)] {
            trace.tick(at);
            let mut record = app.world_mut().resource_mut::<EpisodeRecord>();
            record.begin_frame(0);
            record.event(0, "pressed", remote);
            record.end_frame();
            trace.advance_begin(0, [(1, Known::Confirmed), (remote, known)], at);
        }
        trace.settle(0);
        trace.close(at);
        for fact in trace.drain() {
            app.world_mut().write_message(fact);
        }
        rollback(app.world_mut());
        app.update();
    }

    #[test]
    fn facts_causes_desyncs_and_events_of_one_update_meet_in_their_episode() {
        let mut app = app();
        play(&mut app, |world| {
            world.write_message(RollbackCompleted::<u8> {
                rollback_id: 0,
                at: Duration::ZERO,
                timestamp: 0,
                frame: 0,
                current_frame: 1,
                rollback_frames: 1,
                player: 1,
                predicted_action: Some(0),
                actual_action: Some(9),
                loaded_frame: 0,
                resimulated_frames: 1,
                resim_time: Duration::ZERO,
                cause: Cause::PacketLoss,
                late_by_frames: 1,
                via: Via::Direct,
                evidence: Evidence::default(),
                also_mispredicted: Vec::new(),
            });
            world.write_message(DesyncDetected {
                at: Duration::ZERO,
                frame: 0,
                local_checksum: 1,
                remote_checksum: 2,
                players: vec![1],
            });
        });
        let metrics = app.world().resource::<SessionMetrics<u8>>();
        let episode = metrics.latest().unwrap();
        assert!(!metrics.is_running());
        assert_eq!(episode.rollbacks[0].cause, Cause::PacketLoss);
        assert_eq!(episode.desyncs[0].player, Some(1));
        let data: Vec<_> = episode.events.iter().map(|event| &event.data).collect();
        assert_eq!(data, [9], "only the corrected simulation's event is kept");
    }
}
