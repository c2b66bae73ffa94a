//! Direct paths that work, but worse than the relay: the rules `lossy` and `congested`, and the
//! conditions that must not trigger them.

use rollback_lab_link::route::{BOTH_TOGETHER, RouteCause, RoutePolicy, RouteState};
use rollback_lab_link::wire::Path;

use rollback_lab_test_kit::link_world::{MS, SECOND, Setup, World};

fn fallbacks(world: &World) -> Vec<RouteCause> {
    let mut causes = world.causes_into(RouteState::Relay);
    causes.sort_by_key(|cause| cause.as_str());
    causes
}

/// Below 60 fps two lost ticks in a row are rare and one is masked: the path may stay, or need more
/// than a minute.
#[test]
fn a_direct_path_that_loses_a_fifth_fails_over_or_is_masked() {
    for fps in [10, 20, 30, 60, 120] {
        let mut left = 0;
        for seed in 0..10 {
            let setup = Setup {
                fps,
                input_delay: 2,
                conditions: "direct:loss=20%",
                seed,
                ..Setup::default()
            };
            let mut world = World::playing(setup, 60 * SECOND);
            // Until the relay has proven that it is on time, both paths together mask the losses.
            if world.failovers() > 0 {
                left += 1;
                assert_eq!(world.routes(), [RouteState::Relay; 2], "{fps} fps, {seed}");
                let change = world.peers.iter().find_map(|peer| {
                    peer.fallback()
                        .filter(|change| change.cause == RouteCause::Lossy)
                });
                let change = change.expect("one side decided it");
                assert!(change.value >= change.threshold, "{change:?}");
            }
            assert_eq!(world.stalls(), 0, "{fps} fps, seed {seed}");
            world.run_for(10 * SECOND);
        }
        println!("{fps} fps: {left} of 10 matches failed over from a path that loses 20 %");
        assert!(fps != 60 || left >= 8, "{fps} fps: {left} of 10");
    }
}

#[test]
fn when_the_relay_loses_as_much_both_paths_stay_in_use() {
    for fps in [30, 60] {
        let setup = Setup {
            fps,
            input_delay: 2,
            conditions: "loss=20%",
            ..Setup::default()
        };
        let world = World::playing(setup, 60 * SECOND);
        assert!(!fallbacks(&world).contains(&RouteCause::Lossy), "{fps} fps");
        assert!(world.both_paths() > 10 * SECOND);
    }
}

/// Over TCP a relay loses nothing and is late instead: a match that fails over to one stalls where both
/// paths together do not.
#[test]
fn a_relay_that_is_late_now_and_then_does_not_carry_the_match_alone() {
    for (fps, conditions) in [
        (60, "direct:loss=20%;relay:loss=1%"),
        (60, "direct:loss=20%;relay:loss=5%"),
        (60, "burst=5%/4"),
        (60, "direct:burst=10%/4;relay:burst=2%/4"),
        (30, "loss=20%"),
    ] {
        let mut stalls = [0; 2];
        for (policy, stalls) in [RoutePolicy::P2pFirst, RoutePolicy::DualPath]
            .into_iter()
            .zip(&mut stalls)
        {
            for seed in 0..5 {
                let setup = Setup {
                    fps,
                    input_delay: 2,
                    conditions,
                    seed,
                    policy,
                    ..Setup::default()
                };
                *stalls += World::playing(setup, 60 * SECOND).stalls();
            }
        }
        let [first, dual] = stalls;
        println!("{fps} fps, {conditions}: {first} stalls, {dual} on both paths always");
        assert!(
            first <= dual + 20,
            "{fps} fps, {conditions}: {first} stalls, {dual} on both paths"
        );
    }
}

/// A relay too far away to carry the match alone is no better than a direct path with losses.
#[test]
fn a_relay_that_would_stall_every_frame_is_not_preferred() {
    let setup = Setup {
        relay: 150 * MS,
        conditions: "direct:loss=20%",
        ..Setup::default()
    };
    let world = World::playing(setup, 60 * SECOND);
    assert_eq!(world.failovers(), 0, "{:?}", world.peers[0].changes.last());
}

#[test]
fn losses_below_one_in_twenty_do_not_fail_over() {
    for seed in 0..10 {
        let setup = Setup {
            conditions: "direct:loss=3%",
            seed,
            ..Setup::default()
        };
        let world = World::playing(setup, 120 * SECOND);
        assert_eq!(world.failovers(), 0, "seed {seed}");
    }
}

#[test]
fn a_direct_path_that_queues_for_three_seconds_fails_over() {
    for fps in [10, 20, 30, 60, 120] {
        let mut world = World::playing(
            Setup {
                fps,
                input_delay: 3,
                ..Setup::default()
            },
            12 * SECOND,
        );
        // The queue grows over a second, as buffers fill.
        for step in 1..=10 {
            for peer in &mut world.peers {
                let mut shape = peer.shaper.shape(Path::Direct);
                shape.latency = 10 * MS + step * 9 * MS;
                peer.shaper.set_shape(Path::Direct, shape);
            }
            world.run_for(100 * MS);
        }
        world.run_for(6 * SECOND);
        assert_eq!(world.routes(), [RouteState::Relay; 2], "{fps} fps");
        let causes = fallbacks(&world);
        assert!(
            causes.contains(&RouteCause::Congested),
            "{fps} fps: {causes:?}"
        );
    }
}

#[test]
fn a_queue_in_front_of_both_paths_does_not_fail_over() {
    let mut world = World::playing(
        Setup {
            input_delay: 3,
            ..Setup::default()
        },
        12 * SECOND,
    );
    for step in 1..=10 {
        for peer in &mut world.peers {
            for path in Path::ALL {
                let mut shape = peer.shaper.shape(path);
                shape.latency = 10 * MS + step * 9 * MS;
                peer.shaper.set_shape(path, shape);
            }
        }
        world.run_for(100 * MS);
    }
    world.run_for(20 * SECOND);
    assert_eq!(world.failovers(), 0, "{:?}", world.peers[0].changes);
}

#[test]
fn a_path_that_keeps_refusing_packets_fails_over() {
    let mut world = World::playing(Setup::default(), 3 * SECOND);
    world.peers[0].refuse_direct = true;
    world.run_for(5 * SECOND);
    assert_eq!(world.routes(), [RouteState::Relay; 2]);
    assert_eq!(world.stalls(), 0);
    let causes = fallbacks(&world);
    assert!(
        causes.contains(&RouteCause::Congested) || causes.contains(&RouteCause::Dead),
        "{causes:?}"
    );
}

/// Both paths are used until it is known that the relay alone would do.
#[test]
fn a_lossy_path_fails_over_when_the_relay_has_proven_itself() {
    let setup = Setup {
        conditions: "direct:loss=40%",
        ..Setup::default()
    };
    let world = World::playing(setup, 60 * SECOND);
    assert_eq!(world.routes(), [RouteState::Relay; 2]);
    // 20 s of proof, which losses of the direct path interrupt by a recovery now and then.
    let limit = 20 * SECOND + BOTH_TOGETHER * 2;
    assert!(world.both_paths() < limit, "{:?}", world.both_paths());
    assert_eq!(world.stalls(), 0);
}
