//! Losing the direct path at every phase of a tick stalls no frame within the failover margin.

use std::time::Duration;

use rollback_lab_link::route::RouteState;
use rollback_lab_link::wire::Path;

use rollback_lab_test_kit::link_world::{MS, SECOND, Setup, World};
use rollback_lab_test_kit::outages::{self as cuts, Outage as Cut};

/// The reference figure: 60 Hz, 20 ms round trip, window 8, no input delay.
#[test]
fn losing_the_direct_path_at_60_hz_and_20_ms_stalls_nothing_at_any_phase() {
    let mut longest = Duration::ZERO;
    for phase in 0..17 {
        for other in [0, 3, 8, 13] {
            let setup = Setup {
                phase: other * MS,
                seed: u64::from(phase),
                ..Setup::default()
            };
            let mut world = World::playing(setup, 3_000 * MS + phase * MS);
            assert_eq!(world.stalls(), 0, "nothing stalls before the outage");
            world.reset_counts();
            world.cut_both(Path::Direct);
            world.run_for(3_000 * MS);
            assert_eq!(world.stalls(), 0, "phase {phase} stalls");
            assert_eq!(world.routes(), [RouteState::Relay; 2]);
            longest = longest.max(world.longest_gap());
        }
    }
    println!("longest gap between new inputs around the outage: {longest:?}");
    assert!(
        longest < 117 * MS,
        "the gap stays inside the prediction window"
    );
}

/// The whole grid. Each rate is a test, so that they run in parallel.
fn grid(fps: u32, other_phase: Duration, cut: Cut) {
    let grid = cuts::grid(fps, other_phase, cut);
    println!("{fps} fps, {cut:?}: {grid:?}");
    assert_eq!(grid.undecided, 0, "every outage fails over both peers");
    assert_eq!(grid.broken, 0, "{:?}", grid.broken_setup);
    assert!(
        grid.inside > 0 && grid.inside < grid.cuts,
        "the grid has outages on both sides of the margin"
    );
}

#[test]
fn losing_the_direct_path_within_the_margin_stalls_nothing_at_30_fps() {
    grid(30, 3 * MS, Cut::Both);
    grid(30, 20 * MS, Cut::BothAndInFlight);
}

#[test]
fn losing_the_direct_path_within_the_margin_stalls_nothing_at_60_fps() {
    grid(60, 3 * MS, Cut::Both);
    grid(60, 12 * MS, Cut::BothAndInFlight);
}

#[test]
fn losing_the_direct_path_within_the_margin_stalls_nothing_at_120_fps() {
    grid(120, 3 * MS, Cut::Both);
    grid(120, 7 * MS, Cut::BothAndInFlight);
}

#[test]
fn losing_one_direction_within_the_margin_stalls_nothing() {
    grid(30, 20 * MS, Cut::OneWay);
    grid(60, 12 * MS, Cut::OneWay);
    grid(120, 7 * MS, Cut::OneWay);
}

/// Links driven by network tasks, at 60 Hz, window 8, no input delay and no skew: the longest round
/// trip of both paths at which the loss of the direct one stalls no frame, at any phase.
#[test]
fn with_a_network_task_the_budget_reaches_a_round_trip_of_70_ms() {
    let stalled = |rtt: u32| {
        let mut stalled = 0;
        for phase in 0..17_u32 {
            for other in [0, 4, 9, 14] {
                let setup = Setup {
                    direct: MS * rtt / 2,
                    relay: MS * rtt / 2,
                    phase: other * MS,
                    seed: u64::from(phase),
                    network_task: true,
                    ..Setup::default()
                };
                let mut world = World::playing(setup, 3_000 * MS + phase * MS);
                let before = world.stalls();
                world.cut_both(Path::Direct);
                world.run_for(1_500 * MS);
                assert_eq!(world.routes(), [RouteState::Relay; 2], "{rtt} ms, {phase}");
                stalled += u32::from(world.stalls() > before);
            }
        }
        stalled
    };
    for rtt in [0, 20, 40, 50, 60, 70] {
        let count = stalled(rtt);
        println!("{rtt} ms: {count} of 68 outages stalled a frame");
        assert_eq!(count, 0, "{rtt} ms");
    }
    for rtt in [75, 80, 90] {
        println!("{rtt} ms: {} of 68 outages stalled a frame", stalled(rtt));
    }
}

/// From the outage to the first packet of either peer over the relay.
#[test]
fn with_a_network_task_a_lost_path_is_replaced_equally_soon_at_any_frame_rate() {
    for fps in [10, 20, 30, 60, 120] {
        let mut longest = Duration::ZERO;
        for phase in 0..20_u32 {
            let setup = Setup {
                fps,
                input_delay: 3,
                seed: u64::from(phase),
                network_task: true,
                ..Setup::default()
            };
            let mut world = World::playing(setup, 3_000 * MS + phase * 5 * MS);
            let sent = |world: &World| {
                let peers = world.peers.iter();
                peers
                    .map(|peer| peer.relay_kinds[0] + peer.relay_kinds[1])
                    .sum::<u64>()
            };
            let before = sent(&world);
            world.cut_both(Path::Direct);
            let from = world.now;
            while sent(&world) == before && world.now < from + SECOND {
                world.run_for(MS);
            }
            longest = longest.max(world.now - from);
        }
        println!("{fps} fps: first packet over the relay after {longest:?} at most");
        assert!(longest <= 60 * MS, "{fps} fps: {longest:?}");
    }
}
