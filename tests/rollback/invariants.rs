//! The trace against a naive model of ggrs that keeps its whole history: every fact follows from
//! the history, and the counts of predictions, rollbacks and ticks keep the invariants.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

mod model;

use bevy_rollback_lab::internals::trace::{
    AppliedInputs, Fact, Frame, Known, Misprediction, Outcome, RollbackRecord, Stall, Trace,
};
use model::{Model, Plan, Predictor, TickPlan, plans};
use proptest::prelude::*;
use rollback_lab_link::cause::{Cause, Evidence, Via};

fn check(plan: Plan) {
    let mut model = Model::run(plan);
    assert_eq!(
        model.trace.frames_missed(),
        0,
        "the ring holds every frame in flight"
    );
    assert_eq!(
        model.trace.confirmed_changed(),
        0,
        "a confirmed frame never changes"
    );
    assert_eq!(model.trace.newest_frame(), model.newest());
    assert_eq!(model.trace.confirmed_frame(), model.final_frame());
    let (saved_frame, checksum) = model.trace.confirmed_state().unwrap();
    assert!(saved_frame <= model.final_frame() + 1);
    assert_eq!(
        checksum,
        Some(model.state(saved_frame)),
        "the newest save of a state counts"
    );
    let facts: Vec<Fact<u8>> = model.trace.drain().collect();

    every_fact_is_in_the_history(&model, &facts);
    facts_come_in_order(&facts);
    for end in [0, model.final_frame() / 2, model.final_frame() + 1] {
        invariants_hold(&model, &facts, end);
    }
}

fn every_fact_is_in_the_history(model: &Model, facts: &[Fact<u8>]) {
    let advanced: Vec<_> = facts
        .iter()
        .filter_map(|fact| match fact {
            Fact::FrameAdvanced {
                frame, predicted, ..
            } => Some((*frame, *predicted)),
            _ => None,
        })
        .collect();
    let expected: Vec<_> = model
        .versions
        .iter()
        .enumerate()
        .map(|(frame, versions)| {
            let guesses = versions[0].inputs.iter().enumerate();
            let bits = guesses.map(|(p, (_, how))| u32::from(*how == Known::Predicted) << p);
            (frame as Frame, bits.sum())
        })
        .collect();
    assert_eq!(
        advanced, expected,
        "each frame is first simulated once, in order"
    );

    let mut judged: Vec<_> = facts
        .iter()
        .filter_map(|fact| match *fact {
            Fact::Judged {
                frame,
                player,
                outcome,
                shown,
                last,
                actual,
                late,
            } => Some((frame, player, shown, last, Some((outcome, actual, late)))),
            _ => None,
        })
        .collect();
    judged.sort_by_key(|unit| (unit.0, unit.1));
    let units = model.units();
    let closed: Vec<_> = units
        .iter()
        .copied()
        .filter(|unit| unit.4.is_some())
        .collect();
    assert_eq!(
        judged, closed,
        "every prediction is judged as in the history"
    );

    let shown: Vec<_> = facts
        .iter()
        .filter_map(|fact| match *fact {
            Fact::Predicted {
                frame,
                player,
                value,
            } => Some((frame, player, value)),
            _ => None,
        })
        .collect();
    let expected: Vec<_> = units.iter().map(|unit| (unit.0, unit.1, unit.2)).collect();
    assert_eq!(shown, expected, "every first prediction is reported");

    let revised = facts
        .iter()
        .filter(|fact| matches!(fact, Fact::Revised { .. }))
        .count();
    let expected: usize = model
        .versions
        .iter()
        .flat_map(|versions| {
            versions
                .windows(2)
                .flat_map(|pair| pair[0].inputs.iter().zip(&pair[1].inputs))
        })
        .filter(|(a, b)| a.1 == Known::Predicted && b.1 == Known::Predicted && a.0 != b.0)
        .count();
    assert_eq!(revised, expected, "every replaced prediction is a revision");

    rollbacks_match(model, facts);

    let stalls: Vec<_> = facts
        .iter()
        .filter_map(|fact| match *fact {
            Fact::Stalled { frame, ticks, .. } => Some((frame, ticks)),
            _ => None,
        })
        .collect();
    assert_eq!(
        stalls,
        model.stalls(),
        "one stall per run of ticks without a new frame"
    );

    let mut next = 0;
    for fact in facts {
        let Fact::Confirmed {
            frame,
            inputs,
            disconnected,
            checksum,
        } = fact
        else {
            continue;
        };
        assert_eq!(*frame, next, "confirmed frames come once each, in order");
        next += 1;
        let applied = &model.versions[*frame as usize].last().unwrap().inputs;
        assert_eq!(
            Some(*inputs),
            AppliedInputs::collect(applied.iter().map(|(value, _)| *value)),
            "the inputs applied at frame {frame}"
        );
        for (player, (value, how)) in applied.iter().enumerate() {
            let gone = *how == Known::Disconnected;
            assert_eq!(disconnected & (1 << player) != 0, gone);
            if !gone {
                assert_eq!(
                    *value,
                    model.real(player, *frame),
                    "the real input is applied"
                );
            }
        }
        if model.plan.sparse {
            assert!(checksum.is_none_or(|sum| sum == model.state(*frame)));
        } else {
            assert_eq!(
                *checksum,
                Some(model.state(*frame)),
                "the state before frame {frame}"
            );
        }
    }
    assert_eq!(
        next,
        model.final_frame() + 1,
        "every confirmed frame is reported"
    );
}

fn rollbacks_match(model: &Model, facts: &[Fact<u8>]) {
    let mut expected = model.rollbacks.iter();
    let mut id = 0;
    for fact in facts {
        match fact {
            Fact::RollbackRan(record) => {
                let ran = expected.next().expect("a rollback that ran");
                let first = ran.corrected.first();
                let (frame, player) = first
                    .map(|pair| (pair.frame, pair.player))
                    .or(ran.voided.first().copied())
                    .expect("a rollback corrects something");
                let late = ran.tick - model.first_tick(frame);
                assert_eq!(
                    *record,
                    RollbackRecord {
                        id,
                        at: record.at,
                        frame,
                        current_frame: ran.current,
                        player,
                        predicted: first.map(|pair| pair.predicted),
                        actual: first.map(|pair| pair.actual),
                        loaded_frame: ran.loaded,
                        resimulated: (ran.current - ran.loaded) as u32,
                        resim_time: ran.elapsed,
                        also: ran.corrected.get(1..).unwrap_or_default().to_vec(),
                        disconnect: first.is_none(),
                        first_simulated_at: record.first_simulated_at,
                        late_by_frames: late as u32,
                        cause: if first.is_none() {
                            Cause::Disconnect
                        } else {
                            Cause::Unknown
                        },
                        via: Via::Unknown,
                        evidence: Evidence::default(),
                    }
                );
                id += 1;
            }
            Fact::Reloaded {
                loaded_frame,
                resimulated,
                ..
            } => {
                let ran = expected.next().expect("a reload that ran");
                assert!(ran.corrected.is_empty() && ran.voided.is_empty());
                assert_eq!(*loaded_frame, ran.loaded);
                assert_eq!(*resimulated, (ran.current - ran.loaded) as u32);
            }
            _ => {}
        }
    }
    assert_eq!(
        expected.next(),
        None,
        "every load is reported as a rollback or a reload"
    );
}

fn facts_come_in_order(facts: &[Fact<u8>]) {
    assert!(matches!(facts[0], Fact::Began { .. }));
    assert!(matches!(facts[facts.len() - 1], Fact::Closed { .. }));
    let mut confirmed = -1;
    let mut newest = -1;
    let mut misses = Vec::new();
    for fact in facts {
        match fact {
            Fact::Confirmed { frame, .. } => confirmed = *frame,
            Fact::FrameAdvanced { frame, .. } => newest = *frame,
            Fact::Stalled { frame, .. } => assert_eq!(*frame, newest + 1),
            Fact::Judged {
                frame,
                player,
                outcome,
                ..
            } => {
                assert!(
                    *frame > confirmed,
                    "frame {frame} is judged before it is confirmed"
                );
                if *outcome == Outcome::Miss {
                    misses.push((*frame, *player));
                }
            }
            Fact::RollbackRan(record) => {
                let own = record.actual.map(|_| (record.frame, record.player));
                let pairs: Vec<_> = own
                    .into_iter()
                    .chain(record.also.iter().map(|pair| (pair.frame, pair.player)))
                    .collect();
                assert_eq!(
                    misses, pairs,
                    "the misses of a rollback come just before it"
                );
                misses.clear();
            }
            _ => {}
        }
    }
}

/// Invariants 1 to 4 of an episode file, by a fold over the facts.
fn invariants_hold(model: &Model, facts: &[Fact<u8>], end: Frame) {
    let (mut ticks, mut advanced, mut overrun) = (0, 0, 0);
    let (mut stalled, mut stalled_overrun) = (0, 0);
    let (mut predicted, mut hits, mut misses, mut voided) = (0, 0, 0, 0);
    let mut event_misses = 0;
    let mut confirmed = Vec::new();
    for fact in facts {
        match fact {
            Fact::Tick { .. } => ticks += 1,
            Fact::FrameAdvanced { frame, .. } if *frame < end => advanced += 1,
            Fact::FrameAdvanced { .. } => overrun += 1,
            Fact::Stalled { frame, ticks, .. } if *frame < end => stalled += ticks,
            Fact::Stalled { ticks, .. } => stalled_overrun += ticks,
            Fact::Predicted { frame, .. } if *frame < end => predicted += 1,
            Fact::Judged { frame, outcome, .. } if *frame < end => match outcome {
                Outcome::Hit => hits += 1,
                Outcome::Miss => misses += 1,
                Outcome::Voided => voided += 1,
            },
            Fact::Confirmed { inputs, .. } => confirmed.push(*inputs),
            _ => {}
        }
    }
    for fact in facts {
        let Fact::RollbackRan(record) = fact else {
            continue;
        };
        assert!(record.rollback_frames() >= 1);
        assert!(record.loaded_frame <= record.frame);
        assert!(record.resimulated >= record.rollback_frames());
        assert_eq!(
            record.resimulated == record.rollback_frames(),
            record.loaded_frame == record.frame
        );
        assert!(record.late_by_frames >= record.rollback_frames());
        if record.disconnect {
            assert_eq!((record.predicted, record.actual), (None, None));
            assert!(record.also.is_empty());
            continue;
        }
        let own = Misprediction {
            frame: record.frame,
            player: record.player,
            predicted: record.predicted.unwrap(),
            actual: record.actual.unwrap(),
        };
        for pair in std::iter::once(&own).chain(&record.also) {
            assert_ne!(
                pair.player, model.plan.local,
                "only remote inputs are predicted"
            );
            assert_ne!(pair.predicted, pair.actual);
            if let Some(inputs) = confirmed.get(pair.frame as usize) {
                assert_eq!(
                    inputs[pair.player], pair.actual,
                    "actual is the confirmed input"
                );
            }
            event_misses += u32::from(pair.frame < end);
        }
    }
    assert_eq!(
        advanced, end,
        "invariant 1: every frame below the end advanced once"
    );
    assert_eq!(
        ticks,
        advanced as u32 + overrun + stalled + stalled_overrun,
        "invariant 1: every tick advanced a frame or stalled"
    );
    assert_eq!(
        predicted,
        hits + misses + voided,
        "invariant 3: nothing stays open"
    );
    assert_eq!(
        misses, event_misses,
        "invariant 3: every miss is in one event"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn facts_follow_from_the_history_and_keep_the_invariants(plan in plans()) {
        check(plan);
    }
}

#[test]
fn the_model_produces_every_kind_of_fact() {
    let plan = Plan {
        seed: 5,
        players: 3,
        local: 1,
        window: 8,
        delay: 0,
        sparse: true,
        predictor: Predictor::Erratic,
        ticks: (0..300u32)
            .map(|tick| TickPlan {
                arrivals: [u8::from(tick % 2 == 0) * 2, u8::from(tick % 3 == 0) * 2, 0],
                disconnect: (tick == 200).then_some(1),
                update_ends: tick % 3 != 0,
            })
            .collect(),
    };
    let mut model = Model::run(plan);
    let facts: Vec<_> = model.trace.drain().collect();
    let seen = |wanted: fn(&Fact<u8>) -> bool| facts.iter().filter(|fact| wanted(fact)).count();
    assert!(seen(|fact| matches!(fact, Fact::Stalled { .. })) > 5);
    assert!(seen(|fact| matches!(fact, Fact::Revised { .. })) > 5);
    assert!(seen(|fact| matches!(fact, Fact::Reloaded { .. })) > 5);
    assert!(seen(|fact| matches!(fact, Fact::RollbackRan(record) if !record.also.is_empty())) > 5);
    assert!(seen(|fact| matches!(fact, Fact::RollbackRan(record) if record.disconnect)) == 1);
    assert!(
        seen(|fact| matches!(
            fact,
            Fact::Judged {
                outcome: Outcome::Voided,
                ..
            }
        )) > 0,
        "a disconnect voids predictions"
    );
}

#[test]
fn an_open_stall_is_visible_before_it_ends() {
    let mut trace = Trace::<u8>::default();
    trace.begin(&[true, false], Duration::ZERO).unwrap();
    for ms in 1..=3 {
        trace.tick(Duration::from_millis(ms));
        trace.settle(-1);
    }
    let stall = Stall {
        frame: 0,
        at: Duration::from_millis(1),
        ticks: 3,
    };
    assert_eq!(trace.open_stall(), Some(stall));
}

#[test]
fn a_stall_that_ends_because_its_player_is_given_up_has_that_cause() {
    let stalls = |gone_before: Known, gone_after: Known| {
        let mut trace = Trace::<u8>::default();
        trace.begin(&[true, false], Duration::ZERO).unwrap();
        let mut ms = 0;
        for frame in 0..4 {
            // Frame 2 waits for three ticks.
            for _ in 0..if frame == 2 { 3 } else { 0 } {
                ms += 1;
                trace.tick(Duration::from_millis(ms));
                trace.settle(-1);
            }
            ms += 1;
            trace.tick(Duration::from_millis(ms));
            let known = if frame < 2 { gone_before } else { gone_after };
            trace.advance_begin(
                frame,
                [(0, Known::Confirmed), (0, known)],
                Duration::from_millis(ms),
            );
            trace.settle(-1);
        }
        let causes = trace.drain().filter_map(|fact| match fact {
            Fact::Stalled { cause, .. } => Some(cause),
            _ => None,
        });
        causes.collect::<Vec<_>>()
    };
    let (there, gone) = (Known::Predicted, Known::Disconnected);
    assert_eq!(stalls(there, gone), [Cause::Disconnect]);
    assert_eq!(
        stalls(there, there),
        [Cause::Unknown],
        "the packets say why"
    );
    assert_eq!(stalls(gone, gone), [Cause::Unknown], "it was gone before");
}
