//! The invariants of one file and of two files of an episode: kept by every written file, violated
//! by every change.

use bevy_rollback_lab::record::SyncStatus;
use proptest::prelude::*;
use rollback_lab_record::check::check_pair;
use rollback_lab_test_kit::recorded::finished;

use super::*;

/// Changes one number of a document.
type Falsify = fn(&mut EpisodeDocument);

#[test]
fn a_falsified_number_is_found_by_the_invariant_it_breaks() {
    let falsified: [(u8, Falsify); 17] = [
        (1, |d| d.frames.ticks += 1),
        (1, |d| d.frames.advanced -= 1),
        (1, |d| d.frames.stalled += 1),
        (2, |d| d.rollbacks.count += 1),
        (2, |d| d.rollbacks.max_frames += 1),
        (2, |d| d.rollbacks.events[0].loaded_frame += 1),
        (2, |d| d.frames.resimulated += 1),
        (3, |d| d.frames.prediction_hits += 1),
        (3, |d| drop(d.rollbacks.events.pop())),
        (4, |d| {
            d.rollbacks.events[0].actual_action = d.rollbacks.events[0].predicted_action.clone();
        }),
        (4, |d| d.rollbacks.events[0].player_id = 0),
        (5, |d| d.inputs.unsent = Some(17)),
        (6, |d| d.rollbacks.events[0].frame = 300),
        (6, |d| d.inputs.confirmed[0].runs[0].1 += 1),
        (7, |d| d.quality.p2p_fallback_frame = None),
        (8, |d| d.sync.history_digest.0 ^= 1),
        (8, |d| d.sync.status = SyncStatus::Verified),
    ];
    let original = eventful().export().unwrap();
    assert_eq!(check_episode(&original), []);
    for (index, (invariant, falsify)) in falsified.into_iter().enumerate() {
        let mut document = original.clone();
        falsify(&mut document);
        let found = check_episode(&document);
        assert!(
            found
                .iter()
                .any(|violation| violation.invariant == invariant),
            "change {index} has to violate invariant {invariant}, found {found:?}",
        );
    }
}

#[test]
fn relayed_inputs_on_a_direct_route_violate_invariant_7() {
    let plan = Plan::default();
    let mut metrics = SessionMetrics::default();
    metrics.begin(recorded::meta(&plan));
    let both = SentBy {
        direct: true,
        relay: true,
    };
    metrics.record_sent(1, 0, 10, both);
    recorded::play(&plan, &mut metrics);
    metrics.close(Some(300), None, false);
    let mut document = metrics.export().unwrap();
    let broken = |document: &EpisodeDocument| {
        let found = check_episode(document);
        found
            .iter()
            .map(|violation| violation.invariant)
            .collect::<Vec<_>>()
    };
    assert_eq!(broken(&document), [7]);
    // A route may be suspect from before the episode until after it.
    let frames = &document.timeline.frame_at_us.deltas;
    let duration_ms = frames.iter().sum::<u64>() as f64 / 1e3;
    document.quality.both_paths_ms = Some(duration_ms);
    assert_eq!(broken(&document), [0_u8; 0]);
    document.quality.both_paths_ms = Some(duration_ms / 2.0);
    assert_eq!(broken(&document), [7]);
}

#[test]
fn files_that_disagree_violate_invariant_8() {
    let document = |local: usize| {
        let plan = Plan {
            local,
            net_seed: local as u64,
            ..Plan::default()
        };
        finished(&plan).export().unwrap()
    };
    let (a, b) = (document(0), document(1));
    assert_eq!(check_pair(&a, &b), []);
    let mut other_input = b.clone();
    other_input.inputs.confirmed[0].runs[3].0 = json!({"buttons": 99});
    let mut other_hash = b.clone();
    other_hash.sync.hashes.values[2] = Some(Hex64(1));
    let mut other_digest = b.clone();
    other_digest.sync.history_digest = Hex64(1);
    for changed in [other_input, other_hash, other_digest] {
        assert!(!check_pair(&a, &changed).is_empty());
        assert!(!check_pair(&changed, &a).is_empty());
    }
    assert!(!check_pair(&a, &a).is_empty(), "one peer's file is no pair");
}

fn plans() -> impl Strategy<Value = Plan> {
    let who = (2..=4_usize, 0..4_usize, 1..250_u32, 0..20_u32);
    let net = (any::<u64>(), any::<u64>(), 0..10_u32, 0..12_u32, 1..30_u32);
    (who, net, proptest::option::of((1..4_usize, 0..250_u32))).prop_map(
        |(
            (players, local, frames, overrun),
            (input_seed, net_seed, late, spread, change_every),
            disconnect,
        )| Plan {
            players,
            local: local % players,
            frames,
            overrun,
            input_seed,
            net_seed,
            late,
            spread,
            change_every,
            path: Some(Path::Direct),
            disconnect: disconnect
                .map(|(by, at)| ((local + by) % players, at))
                .filter(|&(player, _)| player != local % players),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_episode_satisfies_the_invariants(plan in plans(), cut in 0..300_i32) {
        let mut metrics = SessionMetrics::<Pad>::default();
        metrics.begin(recorded::meta(&plan));
        recorded::play(&plan, &mut metrics);
        prop_assert_eq!(check_episode(&metrics.export().unwrap()), []);
        metrics.close(Some(cut), Some("goal".into()), false);
        let document = metrics.export().unwrap();
        prop_assert_eq!(check_episode(&document), []);
        let live = metrics.live();
        prop_assert_eq!(u64::from(live.frames), document.frames.total);
        prop_assert_eq!(live.rollbacks, document.rollbacks.count);
        prop_assert_eq!(live.max_rollback_frames, document.rollbacks.max_frames);
        prop_assert_eq!(live.resimulated_frames, document.frames.resimulated);
        prop_assert_eq!(live.stalled_ticks, document.frames.stalled);
        prop_assert_eq!(EpisodeDocument::parse(&written(&document)).unwrap(), document);
    }

    #[test]
    fn two_peers_files_of_one_episode_agree(plan in plans(), other_net in any::<u64>()) {
        let a = Plan { disconnect: None, overrun: plan.overrun + 8, ..plan };
        let b = Plan { local: (a.local + 1) % a.players, net_seed: other_net, ..a.clone() };
        let (a, b) = (finished(&a).export().unwrap(), finished(&b).export().unwrap());
        prop_assert_eq!(check_pair(&a, &b), []);
        if !a.episode.is_partial && !b.episode.is_partial {
            prop_assert_eq!(a.sync.history_digest, b.sync.history_digest);
        }
    }
}
