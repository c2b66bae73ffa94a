//! The script read from a file against what ggrs simulated. Two apps play over a slow network while
//! the oracle records the inputs of every simulation of every frame; the script must be the same,
//! rollbacks included.
#![expect(clippy::unwrap_used, reason = "helpers of a test fail by panicking")]

use std::collections::BTreeMap;

use bevy::prelude::*;
use bevy_ggrs::Session;
use bevy_ggrs::ggrs::InputStatus;
use bevy_rollback_lab::internals::replay::{Script, Step, script_of};
use bevy_rollback_lab::internals::sink::RecordSink;
use bevy_rollback_lab::internals::trace::Known;
use bevy_rollback_lab::record::EpisodeDocument;
use rollback_lab_test_kit::observed::{Duel, Settings, TestConfig, p2p};

fn settings(delay_ms: u64) -> Settings {
    Settings {
        delay: std::time::Duration::from_millis(delay_ms),
        input_delay: 0,
        sparse: false,
        observed: true,
        read_events: true,
        recorded: true,
        spectated: false,
    }
}

/// The file of the first app of a match, and what its session simulated.
fn played(settings: Settings, frames: i32) -> (EpisodeDocument, Simulated) {
    let mut duel = Duel::new(settings);
    duel.until_confirmed(frames);
    duel.apps[0]
        .world_mut()
        .remove_resource::<Session<TestConfig>>();
    duel.step();
    let files = duel.apps[0].world().resource::<RecordSink>().files();
    let bytes = files.values().next().unwrap();
    let document = EpisodeDocument::parse(str::from_utf8(bytes).unwrap()).unwrap();
    (document, duel.oracle(0).frames.clone())
}

/// Per frame the inputs of every simulation, in order.
type Simulated = BTreeMap<i32, Vec<Vec<(u8, InputStatus)>>>;

fn simulated(script: &Script<u8>) -> BTreeMap<i32, Vec<Vec<(u8, Known)>>> {
    let mut frames: BTreeMap<i32, Vec<Vec<(u8, Known)>>> = BTreeMap::new();
    for step in script.as_seen() {
        match step {
            Step::Advance { frame, inputs } => {
                frames.entry(*frame).or_default().push(inputs.clone());
            }
            Step::Rollback { load, inputs, .. } => {
                for (frame, inputs) in (*load..).zip(inputs) {
                    frames.entry(frame).or_default().push(inputs.clone());
                }
            }
        }
    }
    frames
}

fn values<S>(simulations: &[Vec<(u8, S)>]) -> Vec<Vec<u8>> {
    let of = |inputs: &Vec<(u8, S)>| inputs.iter().map(|(input, _)| *input).collect();
    simulations.iter().map(of).collect()
}

#[test]
fn the_script_equals_what_ggrs_simulated_in_every_frame() {
    for delay_ms in [20, 50, 90] {
        let (document, oracle) = played(settings(delay_ms), 300);
        let script = script_of::<TestConfig>(&document).unwrap();
        let read = simulated(&script);
        assert!(script.frames() > 290, "{} frames", script.frames());
        assert!(document.rollbacks.count > 20, "the match rolled back");
        // The last frames may still have been uncorrected when the file was closed.
        for frame in 0..280 {
            let (replayed, seen) = (&read[&frame], &oracle[&frame]);
            assert_eq!(
                values(replayed),
                values(seen),
                "delay {delay_ms} ms, frame {frame}: {replayed:?} instead of {seen:?}"
            );
        }
        let canonical = script.canonical().iter().map(|step| match step {
            Step::Advance { inputs, .. } => inputs,
            Step::Rollback { .. } => panic!("the canonical history rolls nothing back"),
        });
        for (frame, inputs) in (0..280).zip(canonical) {
            let last = oracle[&frame].last().unwrap();
            assert_eq!(
                values(std::slice::from_ref(inputs)),
                values(std::slice::from_ref(last)),
                "the last simulation of frame {frame} is the canonical one"
            );
        }
    }
}

#[test]
fn predicted_inputs_are_marked_as_ggrs_marked_them() {
    let (document, oracle) = played(settings(50), 300);
    let script = script_of::<TestConfig>(&document).unwrap();
    let read = simulated(&script);
    let mut guesses = 0;
    for frame in 0..280 {
        let first = |status: bool| usize::from(status);
        let replayed = &read[&frame][0];
        let seen = &oracle[&frame][0];
        for (replayed, seen) in replayed.iter().zip(seen) {
            let predicted = replayed.1 == Known::Predicted;
            guesses += first(predicted);
            assert_eq!(
                predicted,
                seen.1 == InputStatus::Predicted,
                "first simulation of frame {frame}"
            );
        }
    }
    assert!(guesses > 200, "most inputs came late: {guesses}");
}

#[test]
fn no_rollback_loads_a_frame_before_a_settled_one() {
    let (document, _) = played(settings(50), 300);
    let script = script_of::<TestConfig>(&document).unwrap();
    let mut settled = 0;
    for frame in 0..=script.frames() as i32 {
        if !script.is_final(frame) {
            continue;
        }
        settled += 1;
        let simulates =
            |step: &Step<u8>| matches!(step, Step::Advance { frame: of, .. } if *of == frame);
        let from = script.as_seen().iter().position(simulates);
        let later = &script.as_seen()[from.unwrap_or(script.as_seen().len())..];
        for step in later {
            if let Step::Rollback { id, load, .. } = step {
                assert!(*load >= frame, "rollback {id} loads {load} after {frame}");
            }
        }
    }
    assert!(settled > 10, "{settled} frames");
}

#[test]
fn inputs_of_another_game_are_refused_with_the_player() {
    let (document, _) = played(settings(20), 60);
    let error = Script::<bool>::read(&document, |last| last).unwrap_err();
    assert!(error.to_string().contains("of player 0"), "{error}");
}

#[test]
fn a_file_without_a_players_inputs_is_refused() {
    let (mut document, _) = played(settings(20), 60);
    document.inputs.confirmed.pop();
    let error = script_of::<TestConfig>(&document).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the file has no inputs of player 1: `rollback-lab verify` checks files"
    );
}

#[test]
fn a_rollback_that_cannot_have_run_is_refused() {
    let (mut document, _) = played(settings(50), 120);
    let event = &mut document.rollbacks.events[0];
    event.loaded_frame = event.current_frame + 1;
    let error = script_of::<TestConfig>(&document).unwrap_err();
    assert!(error.to_string().contains("loads frame"), "{error}");
}

/// The other peer stops sending: this one stalls at the end of its prediction window, disconnects
/// the other, and goes on alone.
#[test]
fn a_stall_and_the_disconnect_after_it_are_replayed() {
    let mut duel = Duel::new(settings(50));
    duel.until_confirmed(100);
    duel.suspended[1] = true;
    duel.steps(80);
    p2p(&mut duel.apps[0]).disconnect_player(1).unwrap();
    duel.steps(100);
    duel.apps[0]
        .world_mut()
        .remove_resource::<Session<TestConfig>>();
    duel.step();
    let files = duel.apps[0].world().resource::<RecordSink>().files();
    let bytes = files.values().next().unwrap();
    let document = EpisodeDocument::parse(str::from_utf8(bytes).unwrap()).unwrap();
    assert!(document.frames.stalled > 60, "it waited");
    let leaves = |event: &&bevy_rollback_lab::record::RollbackEvent| event.actual_action.is_none();
    assert_eq!(document.rollbacks.events.iter().filter(leaves).count(), 1);

    let script = script_of::<TestConfig>(&document).unwrap();
    let read = simulated(&script);
    let oracle = &duel.oracle(0).frames;
    let frames = script.frames() as i32;
    assert!(frames > 150, "it went on alone: {frames}");
    for frame in 0..frames {
        let (replayed, seen) = (&read[&frame], &oracle[&frame]);
        assert_eq!(values(replayed), values(seen), "frame {frame}");
        let gone = |(_, status): &(u8, InputStatus)| *status == InputStatus::Disconnected;
        let replayed_gone: Vec<bool> = replayed
            .iter()
            .map(|inputs| inputs[1].1 == Known::Disconnected)
            .collect();
        let seen_gone: Vec<bool> = seen.iter().map(|inputs| gone(&inputs[1])).collect();
        assert_eq!(replayed_gone, seen_gone, "frame {frame}");
    }
}
