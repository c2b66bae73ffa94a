//! Two links that decide independently end in agreement, and no packet is delivered twice (every
//! world asserts that, see `Game::take`).

use std::time::Duration;

use proptest::{prelude::*, test_runner::RngSeed};
use rollback_lab_link::conditions::Shape;
use rollback_lab_link::route::{RouteCause, RoutePolicy, RouteState};
use rollback_lab_link::wire::Path;

use rollback_lab_test_kit::link_world::{MS, SECOND, Setup, World};

/// Longest suspicion on a link without further trouble, in milliseconds: a step in delay is the new
/// normal after two seconds, then the recovery stretch, then the acknowledgements of the last packets
/// affected and the peer's flag, a round trip and a few intervals each.
const SUSPECT_MAX_MS: u32 = 3_000;

#[test]
fn both_sides_fail_over_from_their_own_evidence() {
    for phase in 0..17 {
        let setup = Setup {
            phase: Duration::ZERO,
            tick_jitter: Duration::ZERO,
            ..Setup::default()
        };
        let mut world = World::playing(setup, 3 * SECOND + phase * MS);
        world.cut_both(Path::Direct);
        world.run_for(SECOND);
        assert_eq!(world.causes_into(RouteState::Relay), [RouteCause::Dead; 2]);
        assert_eq!(world.stalls(), 0);
    }
}

#[test]
fn duplicates_and_reordering_are_delivered_once() {
    let setup = Setup {
        conditions: "jitter=60ms,latency=70ms,loss=5%",
        input_delay: 3,
        ..Setup::default()
    };
    let mut world = World::playing(setup, 20 * SECOND);
    world.cut_both(Path::Direct);
    world.run_for(5 * SECOND);
    let stats = world.peers[0].link.stats();
    assert!(stats.duplicate_data > 0, "copies came over both paths");
    assert!(stats.path(Path::Direct).reordered > 0);
    assert_eq!(world.routes(), [RouteState::Relay; 2]);
}

#[test]
fn the_path_is_not_suspect_between_episodes() {
    let mut world = World::new(Setup::default());
    world.run_to(1_500 * MS);
    for epoch in 1..5 {
        world.start(epoch);
        world.run_for(3 * SECOND);
        world.stop();
        world.run_for(2 * SECOND);
    }
    for peer in &world.peers {
        assert_eq!(peer.changes.len(), 1, "{:?}", peer.changes);
        assert_eq!(peer.link.stats().game_bytes_relay, 0);
    }
}

#[test]
fn a_side_that_ends_its_episode_first_is_not_suspect() {
    let mut world = World::playing(Setup::default(), 3 * SECOND);
    world.peers[1].link.end_epoch();
    world.run_for(SECOND);
    assert_eq!(
        world.peers[0].changes.len(),
        1,
        "{:?}",
        world.peers[0].changes
    );
    // Packets that the other side still sends belong to an episode that ended here.
    assert!(world.peers[1].link.stats().epoch_dropped > 0);
}

/// The direct path is lost between two episodes, so no heartbeat crosses it in the second.
#[test]
fn a_path_lost_between_episodes_fails_over_in_the_next_one() {
    let mut world = World::playing(Setup::default(), 3 * SECOND);
    world.stop();
    world.run_for(SECOND);
    world.cut_both(Path::Direct);
    world.run_for(SECOND);
    world.start(2);
    world.run_for(4 * SECOND);
    assert_eq!(world.routes(), [RouteState::Relay; 2]);
    world.reset_counts();
    world.run_for(5 * SECOND);
    assert_eq!(world.stalls(), 0);
}

/// Two stalled games whose last inputs were lost: ggrs's own retry can starve one of them.
#[test]
fn two_stalled_games_resume_within_a_quarter_second_of_the_path() {
    for phase in 0..25 {
        let setup = Setup {
            fps: 120,
            direct: 31 * MS,
            relay: 31 * MS,
            policy: RoutePolicy::P2pOnly,
            ..Setup::default()
        };
        let mut world = World::playing(setup, SECOND + phase * MS);
        world.cut_both(Path::Direct);
        world.run_for(SECOND + phase * MS);
        world.heal_both(Path::Direct);
        world.run_for(250 * MS);
        let before = world.peers.each_ref().map(|peer| peer.game.current);
        world.run_for(100 * MS);
        let after = world.peers.each_ref().map(|peer| peer.game.current);
        assert!(
            after[0] > before[0] && after[1] > before[1],
            "frames advance: {before:?} {after:?}"
        );
    }
}

#[derive(Clone, Debug)]
enum Trouble {
    Cut(usize, Path),
    Heal(usize, Path),
    Freeze(usize, u32),
    Loss(usize, Path, f64),
    Latency(Path, u32),
}

fn trouble() -> impl Strategy<Value = (u32, Trouble)> {
    let path = || prop_oneof![Just(Path::Direct), Just(Path::Direct), Just(Path::Relay)];
    let kind = prop_oneof![
        (0..2_usize, path()).prop_map(|(from, path)| Trouble::Cut(from, path)),
        (0..2_usize, path()).prop_map(|(from, path)| Trouble::Heal(from, path)),
        (0..2_usize, 20..600_u32).prop_map(|(peer, span)| Trouble::Freeze(peer, span)),
        (0..2_usize, path(), 0.0..0.4)
            .prop_map(|(peer, path, loss)| Trouble::Loss(peer, path, loss)),
        (path(), 0..60_u32).prop_map(|(path, ms)| Trouble::Latency(path, ms)),
    ];
    (1..700_u32, kind)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, rng_seed: RngSeed::Fixed(8), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn failover_is_final_and_every_suspicion_ends_without_further_trouble(
        schedule in prop::collection::vec(trouble(), 1..14),
        fps in prop::sample::select(vec![20_u32, 30, 60, 120]),
        delay in (0..50_u32, 0..50_u32),
        seed in 0..1_000_u64,
    ) {
        let setup = Setup {
            fps,
            input_delay: 2,
            direct: delay.0 * MS,
            relay: delay.1 * MS,
            seed,
            ..Setup::default()
        };
        let mut world = World::playing(setup, SECOND);
        let mut relay_trouble = Duration::ZERO;
        for (wait, trouble) in schedule {
            if !relay_trouble.is_zero() || matches!(trouble, Trouble::Cut(_, Path::Relay) | Trouble::Loss(_, Path::Relay, _)) {
                relay_trouble += wait * MS;
            }
            match trouble {
                Trouble::Cut(from, path) => world.cut(from, path),
                Trouble::Heal(from, path) => world.heal(from, path),
                Trouble::Freeze(peer, span) => world.suspend(peer, span * MS),
                Trouble::Loss(peer, path, loss) => {
                    let shaper = &mut world.peers[peer].shaper;
                    let shape = shaper.shape(path);
                    shaper.set_shape(path, Shape { loss, ..shape });
                }
                Trouble::Latency(path, ms) => {
                    for peer in &mut world.peers {
                        let shape = peer.shaper.shape(path);
                        peer.shaper.set_shape(path, Shape { latency: ms * MS, ..shape });
                    }
                }
            }
            world.run_for(wait * MS);
        }
        // No trouble from here on.
        for path in Path::ALL {
            world.heal_both(path);
            for peer in &mut world.peers {
                let shape = peer.shaper.shape(path);
                peer.shaper.set_shape(path, Shape { loss: 0.0, ..shape });
            }
        }
        // TCP's timer has doubled while the relay was in trouble: what it held back comes up to as long
        // after that.
        world.run_for(relay_trouble);
        // A stall may last for another 600 ms.
        world.run_for(SUSPECT_MAX_MS * MS + 600 * MS);
        let routes = world.routes();
        prop_assert_eq!(routes[0], routes[1], "the sides agree: {:#?} {:#?}", &world.peers[0].changes, &world.peers[1].changes);
        prop_assert!(matches!(routes[0], RouteState::Direct | RouteState::Relay), "{:?}", routes);
        for peer in &world.peers {
            let mut failed_over = false;
            for change in &peer.changes {
                prop_assert!(!failed_over || change.to.failed_over(), "a failover was undone");
                failed_over |= change.to.failed_over();
            }
        }
        world.run_for(SECOND);
        world.reset_counts();
        let before = world.peers.each_ref().map(|peer| peer.changes.len());
        world.run_for(2 * SECOND);
        prop_assert_eq!(world.stalls(), 0, "the match continues");
        prop_assert_eq!(before, world.peers.each_ref().map(|peer| peer.changes.len()), "without further changes");
    }
}
