//! The route rules at every frame rate, and between a fast peer and one that polls at 15 Hz.

use std::time::Duration;

use rollback_lab_link::route::RouteState;
use rollback_lab_link::wire::Path;

use rollback_lab_test_kit::link_world::{MS, SECOND, Setup, World};

const RATES: [u32; 5] = [10, 20, 30, 60, 120];

/// A game at every rate, and one at 60 fps of which one peer, the other or both poll at 15 Hz.
fn setups() -> Vec<Setup> {
    let slow = Some(SECOND / 15);
    let plain = RATES.map(|fps| Setup {
        fps,
        input_delay: 3,
        ..Setup::default()
    });
    let mixed = [[None, slow], [slow, None], [slow, slow]].map(|tick| Setup {
        tick,
        input_delay: 3,
        max_prediction: 12,
        ..Setup::default()
    });
    plain.into_iter().chain(mixed).collect()
}

fn described(setup: &Setup) -> String {
    format!("{} fps, ticks {:?}", setup.fps, setup.tick)
}

#[test]
fn a_lost_direct_path_fails_over_and_stalls_nothing_within_the_margin() {
    for setup in setups() {
        let mut inside = 0;
        for phase in (0..100).step_by(7) {
            let mut world = World::playing(setup.clone(), 4 * SECOND + phase * MS);
            let margin = world.margin();
            world.reset_counts();
            world.cut_both(Path::Direct);
            world.run_for(4 * SECOND);
            assert_eq!(
                world.routes(),
                [RouteState::Relay; 2],
                "{}",
                described(&setup)
            );
            inside += u32::from(margin >= 0.0);
            assert!(
                margin < 0.0 || world.stalls() == 0,
                "{} stalls at a margin of {margin} ms: {}",
                world.stalls(),
                described(&setup)
            );
        }
        println!(
            "{}: {inside} of 15 outages within the margin",
            described(&setup)
        );
    }
}

#[test]
fn a_spike_of_150_ms_does_not_fail_over() {
    for setup in setups() {
        for phase in (0..100).step_by(7) {
            let mut world = World::playing(setup.clone(), 4 * SECOND + phase * MS);
            let before = world.both_paths();
            world.cut_both(Path::Direct);
            world.run_for(150 * MS);
            world.heal_both(Path::Direct);
            world.run_for(5 * SECOND);
            assert_eq!(world.failovers(), 0, "{}", described(&setup));
            assert_eq!(world.routes(), [RouteState::Direct; 2]);
            let both = world.both_paths() - before;
            assert!(both < SECOND, "{both:?}: {}", described(&setup));
        }
    }
}

#[test]
fn stalls_of_either_peer_do_not_fail_over() {
    for setup in setups() {
        for span in [100, 300, 1_500] {
            for peer in 0..2 {
                let mut world = World::playing(setup.clone(), 4 * SECOND);
                for _ in 0..4 {
                    world.suspend(peer, span * MS);
                    world.run_for(span * MS + 2 * SECOND);
                }
                assert_eq!(
                    world.failovers(),
                    0,
                    "{span} ms of {peer}: {} {:?}",
                    described(&setup),
                    world.peers[1 - peer].changes.last()
                );
                world.run_for(3 * SECOND);
                assert_eq!(world.routes(), [RouteState::Direct; 2]);
            }
        }
    }
}

#[test]
fn a_minute_with_two_percent_loss_stays_direct() {
    for setup in setups() {
        let setup = Setup {
            conditions: "direct:loss=2%,jitter=3ms",
            ..setup
        };
        let world = World::playing(setup.clone(), 60 * SECOND);
        assert_eq!(world.failovers(), 0, "{}", described(&setup));
        assert!(
            world.both_paths() < Duration::from_secs(3),
            "{:?}: {}",
            world.both_paths(),
            described(&setup)
        );
    }
}
