//! The system that feeds the metrics from the observer's messages.

use bevy::prelude::*;

use super::{DesyncNote, EpisodeRecord, InputTiming, SessionMetrics};
use crate::rollback::DesyncDetected;
use crate::rollback::trace::Fact;

/// Folds the trace's facts, desyncs and the game's own events.
///
/// Runs in [`PreUpdate`] after the trace is drained, so that a system that closes an episode later
/// in the update closes it on complete numbers, and once more in [`Last`] when the app exits.
pub(crate) fn fold_metrics<I: Copy + PartialEq + Send + Sync + 'static>(
    facts: Res<Messages<Fact<I>>>,
    desyncs: Res<Messages<DesyncDetected>>,
    mut metrics: ResMut<SessionMetrics<I>>,
    mut record: ResMut<EpisodeRecord>,
    timing: Option<ResMut<InputTiming>>,
) {
    if let Some(mut timing) = timing.filter(|timing| !timing.is_empty()) {
        metrics.fold_input_timing(&mut timing);
    }
    let metrics = &mut *metrics;
    let mut cursors = std::mem::take(&mut metrics.cursors);
    for fact in cursors.facts.read(&facts) {
        if matches!(fact, Fact::Closed { .. }) {
            // The metrics may close the episode here, and these belong to it.
            metrics.fold_record(&mut record);
        }
        metrics.fold(fact);
    }
    for desync in cursors.desyncs.read(&desyncs) {
        metrics.record_desync(DesyncNote {
            frame: desync.frame,
            player: desync.players.first().copied(),
            local: desync.local_checksum,
            remote: desync.remote_checksum,
            at: desync.at,
        });
    }
    metrics.cursors = cursors;
    metrics.fold_record(&mut record);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::metrics::EpisodeMeta;
    use crate::rollback::trace::{Known, Trace};
    use rollback_lab_link::cause::{Cause, Evidence};

    fn app() -> App {
        let mut app = App::new();
        app.add_message::<Fact<u8>>()
            .add_message::<DesyncDetected>()
            .insert_resource(SessionMetrics::<u8>::closing_with_session(
                EpisodeMeta::default(),
            ))
            .init_resource::<EpisodeRecord>()
            .add_systems(Update, fold_metrics::<u8>);
        app
    }

    /// Player 1 is guessed wrong at frame 0 and corrected at once; an event of each simulation.
    fn play(app: &mut App, cause: Cause, desync: DesyncDetected) {
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
        app.world_mut().write_message(Fact::<u8>::CauseRevised {
            id: 0,
            cause,
            evidence: Evidence::default(),
        });
        app.world_mut().write_message(desync);
        app.update();
    }

    #[test]
    fn facts_causes_desyncs_and_events_of_one_update_meet_in_their_episode() {
        let mut app = app();
        play(
            &mut app,
            Cause::PacketLoss,
            DesyncDetected {
                at: Duration::ZERO,
                frame: 0,
                local_checksum: 1,
                remote_checksum: 2,
                players: vec![1],
            },
        );
        let metrics = app.world().resource::<SessionMetrics<u8>>();
        let episode = metrics.latest().unwrap();
        assert!(!metrics.is_running());
        assert_eq!(episode.rollbacks[0].record.cause, Cause::PacketLoss);
        assert_eq!(episode.desyncs[0].player, Some(1));
        let data: Vec<_> = episode.events.iter().map(|event| &event.data).collect();
        assert_eq!(data, [9], "only the corrected simulation's event is kept");
    }
}
