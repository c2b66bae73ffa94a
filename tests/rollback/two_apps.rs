//! Two real `bevy_ggrs` apps in virtual time: the observers report what the oracle recorded of
//! every simulated frame, and observing changes nothing.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test may fail like the test itself"
)]

use std::time::Duration;

use bevy::prelude::*;
use bevy::time::TimeUpdateStrategy;
use bevy_ggrs::Session;
use bevy_ggrs::ggrs::InputStatus;
use bevy_ggrs::prelude::SessionBuilder;
use bevy_rollback_lab::clock::LabClock;
use bevy_rollback_lab::internals::trace::TraceLog;
use bevy_rollback_lab::internals::trace::{Fact, Outcome};
use bevy_rollback_lab::rollback::{Links, RollbackReloaded, SessionKind, StallEnded};
use rollback_lab_link::cause::{Cause, PlayerLink, RouteShift, Via};
use rollback_lab_test_kit::observed::{
    Duel, Oracle, PluginOutput, STEP, Settings, TestConfig, game, p2p, pressed,
};

/// Every corrected prediction in the oracle: frame, player, last prediction, real input.
fn corrections(oracle: &Oracle) -> Vec<(i32, usize, u8, u8)> {
    let mut found = Vec::new();
    for (&frame, versions) in &oracle.frames {
        for player in 0..versions[0].len() {
            for pair in versions.windows(2) {
                let ((guess, was), (real, is)) = (pair[0][player], pair[1][player]);
                let corrected = was == InputStatus::Predicted && is == InputStatus::Confirmed;
                if corrected && guess != real {
                    found.push((frame, player, guess, real));
                }
            }
        }
    }
    found
}

/// The same from the messages of the plugin.
fn reported_corrections(output: &PluginOutput) -> Vec<(i32, usize, u8, u8)> {
    let mut found = Vec::new();
    for rollback in &output.rollbacks {
        if let (Some(guess), Some(real)) = (rollback.predicted_action, rollback.actual_action) {
            found.push((rollback.frame, rollback.player, guess, real));
        }
        let also = rollback.also_mispredicted.iter();
        found.extend(also.map(|pair| (pair.frame, pair.player, pair.predicted, pair.actual)));
    }
    found.sort_unstable();
    found
}

fn count(output: &PluginOutput, wanted: impl Fn(&Fact<u8>) -> bool) -> usize {
    output.facts.iter().filter(|fact| wanted(fact)).count()
}

/// Asserts invariants 1 to 3 of the open episode, whose newest stall may not have ended.
fn assert_invariants(duel: &Duel, app: usize) {
    let output = duel.output(app);
    let log = duel.apps[app].world().resource::<TraceLog<TestConfig>>();
    let ticks = count(output, |fact| matches!(fact, Fact::Tick { .. }));
    let advanced = count(output, |fact| matches!(fact, Fact::FrameAdvanced { .. }));
    let open_stall = log.trace().open_stall().map_or(0, |stall| stall.ticks);
    let stalled = output.stalls.iter().map(|stall| stall.ticks).sum::<u32>() + open_stall;
    assert_eq!(
        ticks,
        advanced + stalled as usize,
        "every tick advances a frame or stalls"
    );
    assert_eq!(ticks, duel.oracle(app).ticks as usize);
    assert_eq!(advanced, duel.oracle(app).frames.len());

    let end = log.trace().confirmed_frame();
    let predicted = count(
        output,
        |fact| matches!(fact, Fact::Predicted { frame, .. } if *frame <= end),
    );
    let judged = count(
        output,
        |fact| matches!(fact, Fact::Judged { frame, .. } if *frame <= end),
    );
    assert_eq!(
        predicted, judged,
        "every prediction of a confirmed frame is judged"
    );
    let misses = |outcome: &Outcome| *outcome == Outcome::Miss;
    let missed = count(
        output,
        |fact| matches!(fact, Fact::Judged { outcome, .. } if misses(outcome)),
    );
    assert_eq!(
        missed,
        reported_corrections(output).len(),
        "every miss is in one rollback"
    );
    assert_eq!(
        log.trace().confirmed_changed(),
        0,
        "a confirmed frame never changes"
    );
    assert_eq!(log.trace().frames_missed(), 0);
}

#[test]
fn every_misprediction_is_emitted_with_predicted_and_actual_input() {
    for input_delay in [0, 2] {
        let mut duel = Duel::new(Settings {
            input_delay,
            ..default()
        });
        duel.until_confirmed(600);
        for app in 0..2 {
            let (output, oracle) = (duel.output(app), duel.oracle(app));
            let seen = corrections(oracle);
            assert!(seen.len() > 25, "inputs are mispredicted: {}", seen.len());
            assert_eq!(reported_corrections(output), seen);
            for rollback in &output.rollbacks {
                assert_eq!(rollback.session, SessionKind::P2P);
                assert_eq!(rollback.player, 1 - app, "only remote inputs are predicted");
                let pressed_at = rollback.frame - input_delay as i32;
                let actual = rollback.actual_action.unwrap();
                assert_eq!(actual, pressed(1 - app, pressed_at), "the real input");
                let depth = rollback.current_frame - rollback.frame;
                assert_eq!(rollback.rollback_frames, depth as u32);
                assert_eq!(rollback.loaded_frame, rollback.frame);
                assert_eq!(rollback.resimulated_frames, rollback.rollback_frames);
                assert_eq!(
                    (rollback.cause, rollback.via),
                    (Cause::Unknown, Via::Unknown)
                );
                assert!(
                    rollback.evidence.frames_ahead.is_some(),
                    "ggrs reports the frames ahead"
                );
                assert_eq!(
                    rollback.timestamp,
                    1_700_000_000_000 + rollback.at.as_millis() as u64
                );
            }
            assert!(output.reloads.is_empty());
            assert_invariants(&duel, app);
        }
    }
}

#[test]
fn confirmed_frames_carry_every_players_input_and_equal_checksums_on_both_peers() {
    let mut duel = Duel::new(Settings::default());
    duel.until_confirmed(300);
    let confirmed: Vec<Vec<_>> = (0..2)
        .map(|app| {
            duel.output(app)
                .facts
                .iter()
                .filter_map(|fact| match fact {
                    Fact::Confirmed {
                        frame,
                        inputs,
                        checksum,
                        ..
                    } => Some((*frame, inputs.to_vec(), *checksum)),
                    _ => None,
                })
                .collect()
        })
        .collect();
    for (frame, (a, b)) in confirmed[0].iter().zip(&confirmed[1]).enumerate() {
        assert_eq!(a.0, frame as i32, "every frame once, in order");
        assert_eq!(a.1, [pressed(0, a.0), pressed(1, a.0)]);
        assert!(a.2.is_some(), "every state is saved without sparse saving");
        assert_eq!(a, b, "both peers confirm the same");
    }
    assert!(confirmed[0].len() > 300);
}

#[test]
fn a_suspended_peer_stalls_the_other_for_as_long_as_it_is_suspended() {
    let mut duel = Duel::new(Settings {
        delay: Duration::from_millis(20),
        ..default()
    });
    duel.until_confirmed(100);
    let before = duel.output(0).stalls.len();
    duel.suspended[1] = true;
    duel.steps(40);
    let stall = duel.apps[0]
        .world()
        .resource::<TraceLog<TestConfig>>()
        .trace()
        .open_stall();
    let stall = stall.expect("the prediction window of 8 frames is exhausted");
    assert!((20..40).contains(&stall.ticks), "{stall:?}");
    assert_eq!(
        duel.output(0).stalls.len(),
        before,
        "a stall is output when it ends"
    );

    duel.suspended[1] = false;
    duel.until_confirmed(200);
    let ended: Vec<StallEnded> = duel.output(0).stalls[before..].to_vec();
    assert_eq!(ended[0].frame, stall.frame);
    assert_eq!(ended[0].at, stall.at);
    assert!(ended[0].ticks >= stall.ticks);
    assert_invariants(&duel, 0);
    assert_invariants(&duel, 1);
    let deepest = duel
        .output(0)
        .rollbacks
        .iter()
        .max_by_key(|r| r.late_by_frames)
        .unwrap();
    assert!(
        deepest.rollback_frames < 8,
        "a window of 8 predicts 7 frames"
    );
    assert!(
        deepest.late_by_frames > 20,
        "stalled ticks count as lateness: {deepest:?}"
    );
}

#[test]
fn a_disconnect_voids_predictions_and_rolls_back_without_actions() {
    let mut duel = Duel::new(Settings::default());
    duel.until_confirmed(100);
    p2p(&mut duel.apps[0]).disconnect_player(1).unwrap();
    duel.suspended[1] = true;
    duel.steps(60);

    let output = duel.output(0);
    let by_disconnect: Vec<_> = output
        .rollbacks
        .iter()
        .filter(|r| r.cause == Cause::Disconnect)
        .collect();
    let [rollback] = by_disconnect[..] else {
        panic!("one rollback by disconnect, not {}", by_disconnect.len());
    };
    assert_eq!(
        (rollback.predicted_action, rollback.actual_action),
        (None, None)
    );
    assert_eq!(rollback.player, 1);
    assert!(rollback.also_mispredicted.is_empty());
    let versions = &duel.oracle(0).frames[&rollback.frame];
    assert_eq!(versions[versions.len() - 2][1].1, InputStatus::Predicted);
    assert_eq!(versions[versions.len() - 1][1].1, InputStatus::Disconnected);
    let voided = count(output, |fact| {
        matches!(
            fact,
            Fact::Judged {
                outcome: Outcome::Voided,
                ..
            }
        )
    });
    assert_eq!(
        voided as u32, rollback.rollback_frames,
        "each frame in flight is void"
    );
    let gone = count(output, |fact| {
        matches!(
            fact,
            Fact::Confirmed {
                disconnected: 0b10,
                ..
            }
        )
    });
    assert!(
        gone > 30,
        "frames without the player are confirmed as such: {gone}"
    );
    assert_invariants(&duel, 0);
}

#[test]
fn reloads_of_sparse_saving_are_not_reported_as_rollbacks() {
    let mut duel = Duel::new(Settings {
        sparse: true,
        ..default()
    });
    duel.until_confirmed(600);
    for app in 0..2 {
        let output = duel.output(app);
        assert_eq!(reported_corrections(output), corrections(duel.oracle(app)));
        assert!(
            !output.reloads.is_empty(),
            "sparse saving reloads without a miss"
        );
        let deeper = output
            .rollbacks
            .iter()
            .filter(|r| r.loaded_frame < r.frame)
            .count();
        assert!(deeper > 5, "some rollbacks load an earlier state: {deeper}");
        for rollback in &output.rollbacks {
            let loaded = rollback.current_frame - rollback.loaded_frame;
            assert_eq!(rollback.resimulated_frames, loaded as u32);
        }
        assert_invariants(&duel, app);
    }
}

/// A hundred updates of a sync test.
fn sync_test(observed: bool) -> App {
    let clock = LabClock::manual(0);
    let mut app = game(&clock, observed);
    let session = SessionBuilder::<TestConfig>::new()
        .with_num_players(2)
        .unwrap()
        .with_check_distance(4)
        .add_player(bevy_ggrs::prelude::PlayerType::Local, 0)
        .unwrap()
        .add_player(bevy_ggrs::prelude::PlayerType::Local, 1)
        .unwrap()
        .start_synctest_session()
        .unwrap();
    app.insert_resource(Session::SyncTest(session));
    for _ in 0..100 {
        clock.advance(STEP);
        app.update();
    }
    app
}

#[test]
fn a_sync_test_simulates_the_same_with_and_without_observers() {
    let [with, without] = [true, false].map(|observed| {
        let app = sync_test(observed);
        let oracle = app.world().resource::<Oracle>();
        assert!(oracle.frames.len() > 90, "{}", oracle.frames.len());
        (oracle.frames.clone(), oracle.checksums.clone())
    });
    assert_eq!(with, without);
}

#[test]
fn a_sync_test_is_reported_as_such_and_has_no_rollbacks() {
    let app = sync_test(true);
    let output = app.world().resource::<PluginOutput>();
    let log = app.world().resource::<TraceLog<TestConfig>>();
    assert_eq!(log.kind(), SessionKind::SyncTest);
    assert!(
        output.rollbacks.is_empty(),
        "reloads of a sync test correct nothing"
    );
    assert!(
        output.reloads.len() > 80,
        "they are reported as reloads: {}",
        output.reloads.len()
    );
    let untagged = |reload: &&RollbackReloaded| reload.session != SessionKind::SyncTest;
    assert_eq!(
        output.reloads.iter().find(untagged),
        None,
        "every reload is marked as of a sync test"
    );
    let began = output.facts.iter().find_map(|fact| match fact {
        Fact::Began { session, .. } => Some(*session),
        _ => None,
    });
    assert_eq!(began, Some(SessionKind::SyncTest));
    assert_eq!(
        count(output, |fact| matches!(fact, Fact::Predicted { .. })),
        0
    );
    assert_eq!(log.trace().confirmed_changed(), 0);
    assert_eq!(log.trace().frames_missed(), 0);
}

#[test]
fn confirmed_states_are_the_same_with_and_without_observers() {
    for sparse in [false, true] {
        let run = |observed| {
            let mut duel = Duel::new(Settings {
                observed,
                sparse,
                ..default()
            });
            duel.until_confirmed(400);
            (0..2)
                .map(|app| {
                    let end = duel.confirmed(app).min(400);
                    let checksums = duel.oracle(app).checksums.range(..=end);
                    checksums
                        .map(|(&frame, &sum)| (frame, sum))
                        .collect::<Vec<_>>()
                })
                .collect::<Vec<_>>()
        };
        let (with, without) = (run(true), run(false));
        for app in 0..2 {
            let shared: Vec<_> = with[app]
                .iter()
                .filter(|save| without[app].contains(save))
                .collect();
            let both = with[app]
                .iter()
                .filter(|(frame, _)| without[app].iter().any(|(other, _)| other == frame));
            assert_eq!(
                shared.len(),
                both.count(),
                "equal states with and without the plugin"
            );
            assert!(
                shared.len() > if sparse { 40 } else { 380 },
                "{}",
                shared.len()
            );
        }
    }
}

#[test]
fn a_route_change_near_the_late_input_is_its_cause() {
    let mut duel = Duel::new(Settings::default());
    duel.until_confirmed(103);
    let before = duel.output(0).rollbacks.len();
    let link = PlayerLink {
        via: Via::Relay,
        shift: Some(RouteShift {
            at: duel.clock.now(),
            ..default()
        }),
        ..default()
    };
    duel.apps[0]
        .world_mut()
        .resource_mut::<Links>()
        .set(1, link);
    duel.steps(60);
    let rollbacks = &duel.output(0).rollbacks[before..];
    assert!(rollbacks.iter().all(|rollback| rollback.via == Via::Relay));
    assert_eq!(rollbacks.first().unwrap().cause, Cause::RouteChange);
    assert_eq!(
        rollbacks.last().unwrap().cause,
        Cause::Unknown,
        "an older route change is not its cause"
    );
}

#[test]
fn several_steps_in_one_update_are_reported_like_single_steps() {
    let mut duel = Duel::new(Settings::default());
    duel.until_confirmed(20);
    duel.apps[0].insert_resource(TimeUpdateStrategy::ManualDuration(STEP * 4));
    for _ in 0..60 {
        duel.suspended = [true, false];
        duel.steps(3);
        duel.suspended = [false, false];
        duel.step();
    }
    assert!(duel.confirmed(0) > 150);
    for app in 0..2 {
        assert_eq!(
            reported_corrections(duel.output(app)),
            corrections(duel.oracle(app))
        );
        assert_invariants(&duel, app);
    }
}
