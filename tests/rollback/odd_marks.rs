//! Marks that no healthy session makes: the trace counts and reports them and does not panic.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use bevy_rollback_lab::internals::trace::{Fact, Known, Outcome, TooManyPlayers, Trace};

const AT: Duration = Duration::ZERO;

fn advance(trace: &mut Trace<u8>, frame: i32, remote: (u8, Known)) {
    trace.advance_begin(frame, [(1, Known::Confirmed), remote], AT);
    trace.advance_end(AT);
}

fn begun() -> Trace<u8> {
    let mut trace = Trace::default();
    trace.begin(&[true, false], AT).unwrap();
    trace
}

#[test]
fn a_confirmed_input_that_changes_is_counted_and_reported() {
    let mut trace = begun();
    advance(&mut trace, 0, (5, Known::Confirmed));
    trace.settle(0);
    trace.load(0, AT);
    advance(&mut trace, 0, (6, Known::Confirmed));
    trace.settle(0);
    assert_eq!(trace.confirmed_changed(), 1);
    let reported = trace
        .drain()
        .find(|fact| matches!(fact, Fact::ConfirmedChanged { .. }));
    let changed = Fact::ConfirmedChanged {
        frame: 0,
        player: 1,
        before: 5,
        after: 6,
    };
    assert_eq!(reported, Some(changed));
}

#[test]
fn a_correct_prediction_that_changes_after_its_frame_was_confirmed_is_counted() {
    let mut trace = begun();
    advance(&mut trace, 0, (5, Known::Predicted));
    trace.settle(0);
    trace.load(0, AT);
    advance(&mut trace, 0, (6, Known::Confirmed));
    assert_eq!(trace.confirmed_changed(), 1);
}

#[test]
fn a_session_with_too_many_players_is_refused_with_the_limit() {
    let mut trace = Trace::<u8>::default();
    let refused = trace
        .begin(&[true, false, false, false, false], AT)
        .unwrap_err();
    assert_eq!(refused, TooManyPlayers { players: 5 });
    assert_eq!(
        refused.to_string(),
        "a rollback trace holds at most 4 players, not 5"
    );
    advance(&mut trace, 0, (0, Known::Confirmed));
    assert_eq!(
        trace.drain().count(),
        0,
        "a refused session reports nothing"
    );
}

#[test]
fn inputs_for_another_number_of_players_are_ignored_and_counted() {
    let mut trace = begun();
    trace.advance_begin(0, [(1, Known::Confirmed)], AT);
    trace.advance_begin(0, [(1, Known::Confirmed); 7], AT);
    trace.advance_begin(0, [], AT);
    assert_eq!(trace.frames_missed(), 3);
    assert_eq!(trace.newest_frame(), -1);
}

#[test]
fn frames_beyond_the_ring_are_counted_as_missed() {
    let mut trace = begun();
    for frame in 0..600 {
        trace.tick(AT);
        advance(&mut trace, frame, (0, Known::Predicted));
    }
    assert_eq!(trace.frames_missed(), 600 - 256);
    // A reload of an overwritten frame has nothing to compare with.
    trace.load(10, AT);
    advance(&mut trace, 10, (9, Known::Confirmed));
    trace.settle(599);
    let confirmed: Vec<_> = trace
        .drain()
        .filter_map(|fact| match fact {
            Fact::Confirmed { frame, .. } => Some(frame),
            _ => None,
        })
        .collect();
    assert_eq!(confirmed, (344..600).collect::<Vec<_>>());
}

#[test]
fn an_observer_that_starts_late_begins_with_its_first_frame() {
    let mut trace = begun();
    advance(&mut trace, 100, (0, Known::Confirmed));
    trace.settle(100);
    assert_eq!(trace.frames_missed(), 100);
    let confirmed = trace
        .drain()
        .filter(|fact| matches!(fact, Fact::Confirmed { .. }));
    assert_eq!(confirmed.count(), 1);
}

#[test]
fn out_of_range_frame_numbers_are_ignored() {
    let mut trace = begun();
    for frame in [-1, i32::MIN] {
        trace.saved(frame, Some(1));
        trace.load(frame, AT);
        advance(&mut trace, frame, (0, Known::Predicted));
        trace.settle(frame);
    }
    advance(&mut trace, i32::MAX, (0, Known::Predicted));
    trace.saved(i32::MAX, None);
    trace.close(AT);
    let confirmed = trace
        .drain()
        .filter(|fact| matches!(fact, Fact::Confirmed { .. }));
    assert_eq!(confirmed.count(), 0);
}

#[test]
fn marks_between_episodes_are_ignored() {
    let mut trace = begun();
    trace.close(AT);
    trace.close(AT);
    trace.tick(AT);
    advance(&mut trace, 0, (0, Known::Predicted));
    trace.load(0, AT);
    trace.saved(0, Some(3));
    trace.settle(0);
    assert_eq!(trace.drain().count(), 2, "began and closed, each once");
}

#[test]
fn a_prediction_for_a_disconnected_player_is_voided_without_a_correction() {
    let mut trace = begun();
    advance(&mut trace, 0, (0, Known::Predicted));
    advance(&mut trace, 1, (0, Known::Predicted));
    trace.load(0, AT);
    advance(&mut trace, 0, (0, Known::Disconnected));
    trace.settle(1);
    let outcomes: Vec<_> = trace
        .drain()
        .filter_map(|fact| match fact {
            Fact::Judged { frame, outcome, .. } => Some((frame, outcome)),
            _ => None,
        })
        .collect();
    assert_eq!(outcomes, [(0, Outcome::Voided), (1, Outcome::Voided)]);
}
