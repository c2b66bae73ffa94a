//! Two peers' files become one document on one clock, and the clock's error is the one stated.

use rollback_lab_record::causes;
use rollback_lab_record::merge::{
    ClockMethod, MergeError, MergedEpisode, PeerOffset, RouteLabel, merge,
};
use rollback_lab_record::{Lateness, PeerClock, RouteState, schema};

use rollback_lab_test_kit::files::{AHEAD_US, golden, opponent};

const AHEAD: i64 = AHEAD_US as i64;

fn offset(merged: &MergedEpisode) -> &PeerOffset {
    &merged.clock.peers[1]
}

#[test]
fn the_order_of_inputs_bounds_the_offset_of_the_clocks() {
    let merged = merge(&[opponent(), golden()]).unwrap();
    assert_eq!(merged.clock.reference_player_id, 0);
    assert_eq!(merged.clock.peers[0].method, ClockMethod::Reference);
    let offset = offset(&merged);
    assert_eq!(offset.method, ClockMethod::InputOrder);
    let error = (offset.offset_us + AHEAD).unsigned_abs();
    let uncertainty = offset.uncertainty_us.unwrap();
    assert!(
        error <= uncertainty && uncertainty < 100_000,
        "the truth lies inside what is stated: {error} of {uncertainty} us"
    );
}

#[test]
fn exchanged_timestamps_are_used_when_they_are_less_uncertain() {
    let clock = |player_id, offset_us| PeerClock {
        player_id,
        at_us: Some(1_000_000),
        offset_us: Some(offset_us),
        uncertainty_us: Some(200),
        drift_ppm: Some(100.0),
        samples: vec![(1_000_000, offset_us, 200)],
    };
    let mut ours = golden();
    ours.clock.peers = vec![clock(1, AHEAD)];
    let merged = merge(&[ours, opponent()]).unwrap();
    assert_eq!(offset(&merged).method, ClockMethod::Exchange);
    assert_eq!(offset(&merged).apply(AHEAD_US + 1_000_000), 1_000_000);
    let later = offset(&merged).apply(AHEAD_US + 11_000_000);
    assert_eq!(later, 11_000_000 - 1_000, "ten seconds at 100 ppm");

    let mut theirs = opponent();
    theirs.clock.peers = vec![clock(0, -AHEAD)];
    let merged = merge(&[golden(), theirs]).unwrap();
    assert_eq!(offset(&merged).method, ClockMethod::Exchange);
    assert_eq!(offset(&merged).apply(1_000_000), 1_000_000 - AHEAD);
}

#[test]
fn without_either_the_wall_clock_is_used_and_nothing_is_promised() {
    let mut other = opponent();
    other.timeline.lateness = vec![Lateness {
        player_id: 0,
        runs: vec![(None, 300)],
    }];
    other.clock.origin_unix_ms -= 5_000;
    let merged = merge(&[golden(), other]).unwrap();
    assert_eq!(offset(&merged).method, ClockMethod::WallClock);
    assert_eq!(offset(&merged).offset_us, -AHEAD);
    assert_eq!(offset(&merged).uncertainty_us, None);
}

#[test]
fn every_event_keeps_its_observer_and_the_senders_evidence() {
    let mut other = opponent();
    other.clock.peers = vec![PeerClock {
        player_id: 0,
        at_us: None,
        offset_us: Some(-AHEAD),
        uncertainty_us: Some(1),
        drift_ppm: None,
        samples: Vec::new(),
    }];
    let document = golden();
    let merged = merge(&[document.clone(), other.clone()]).unwrap();
    assert!(merged.agreement.agrees, "{:?}", merged.agreement);
    assert_eq!(merged.rollbacks.len() as u64, document.rollbacks.count);
    let (rollback, event) = (&merged.rollbacks[2], &document.rollbacks.events[2]);
    assert_eq!((&rollback.event, rollback.observer_id), (event, 0));
    let sender = rollback
        .sender
        .as_ref()
        .expect("that player's file is here");
    assert_eq!(sender.read_at_frame, event.frame, "there is no input delay");
    for rollback in &merged.rollbacks {
        let last_word = causes::finalise(&rollback.event, &other);
        assert_eq!(
            rollback.cause, last_word,
            "the other file has the last word"
        );
    }
    let deltas = &other.timeline.frame_at_us.deltas[..sender.read_at_frame as usize];
    let there = other.timeline.frame_at_us.first.unwrap() + deltas.iter().sum::<u64>();
    assert_eq!(sender.read_at_us, there as i64 - AHEAD);
    assert_eq!(
        sender.until_corrected_us,
        event.at_us as i64 - sender.read_at_us
    );
    assert_eq!(
        sender.route,
        Some(RouteLabel::State(RouteState::Direct)),
        "its first change comes later"
    );
    assert_eq!(merged.route_changes.len(), 4);
    assert!(merged.route_changes.is_sorted_by_key(|change| change.at_us));
}

#[test]
fn one_file_alone_is_merged_and_the_missing_player_named() {
    let merged = merge(&[opponent()]).unwrap();
    assert_eq!(merged.session.missing_player_ids, [0]);
    assert_eq!(merged.clock.reference_player_id, 1);
}

#[test]
fn files_that_do_not_belong_together_are_refused() {
    assert_eq!(merge(&[]).unwrap_err(), MergeError::Nothing);
    let twice = merge(&[golden(), golden()]).unwrap_err();
    assert_eq!(twice, MergeError::SamePlayer { player: 0 });
    let mut other = opponent();
    other.episode.episode_num = 1;
    let error = merge(&[golden(), other]).unwrap_err().to_string();
    assert_eq!(
        error,
        "files of 00c0ffee-0 and 00c0ffee-1 are not of one episode"
    );
}

#[test]
fn a_disagreement_stands_in_the_merged_document() {
    let mut other = opponent();
    other.inputs.confirmed[0].runs[0].0 = serde_json::json!({"buttons": 9});
    let merged = merge(&[golden(), other]).unwrap();
    assert!(!merged.agreement.agrees);
    let told = &merged.agreement.violations[0];
    assert!(
        told.contains("players 0 and 1: invariant 8: inputs.confirmed[0]"),
        "{told}"
    );
}

#[test]
fn the_merged_document_validates_against_its_schema_and_reads_back_the_same() {
    let validator = jsonschema::validator_for(&schema::merged_schema()).unwrap();
    let merged = merge(&[golden(), opponent()]).unwrap();
    let value = serde_json::to_value(&merged).unwrap();
    let errors: Vec<_> = validator
        .iter_errors(&value)
        .map(|error| error.to_string())
        .collect();
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(
        serde_json::from_value::<MergedEpisode>(value).unwrap(),
        merged
    );
}
