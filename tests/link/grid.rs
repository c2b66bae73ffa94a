//! Scenario 1: a cut at every phase stalls no frame inside the budget.

use std::time::Duration;

use bevy_rollback_lab::transport::{route::RouteState, wire::Path};

use crate::world::{MS, Setup, World};

/// The reference figure: 60 Hz, 20 ms round trip, window 8, no input delay.
#[test]
fn a_cut_at_60_hz_and_20_ms_stalls_nothing_at_any_phase() {
    let mut longest = Duration::ZERO;
    for phase in 0..17 {
        for other in [0, 3, 8, 13] {
            let setup = Setup {
                phase: other * MS,
                seed: u64::from(phase),
                ..Setup::default()
            };
            let mut world = World::playing(setup, 3_000 * MS + phase * MS);
            assert_eq!(world.stalls(), 0, "nothing stalls before the cut");
            world.reset_counts();
            world.cut_both(Path::Direct);
            world.run_for(3_000 * MS);
            assert_eq!(world.stalls(), 0, "phase {phase} stalls");
            assert_eq!(world.routes(), [RouteState::Relay; 2]);
            longest = longest.max(world.longest_gap());
        }
    }
    println!("longest gap between new inputs around the cut: {longest:?}");
    assert!(
        longest < 117 * MS,
        "the gap stays inside the prediction window"
    );
}

/// One cut: (margin before it in ms, stalled frames).
fn cut_once(setup: Setup, phase: Duration, lose_in_flight: bool) -> (f64, u32) {
    let relay_only_end = [RouteState::Relay; 2];
    let mut world = World::playing(setup, 1_500 * MS + phase);
    let margin = world.margin();
    world.reset_counts();
    world.cut_both(Path::Direct);
    if lose_in_flight {
        for peer in &mut world.peers {
            peer.shaper.lose_in_flight(Path::Direct);
        }
    }
    world.run_for(1_500 * MS);
    assert_eq!(world.routes(), relay_only_end, "{:?}", world.setup);
    (margin, world.stalls())
}

/// The whole grid; `fps` apart, so that the rates run beside each other.
fn grid(fps: u32, other_phase: Duration) {
    let (mut runs, mut inside, mut stalled_runs) = (0, 0, 0);
    // Edge: the highest margin that stalled, the lowest that did not.
    let (mut worst, mut best) = (f64::NEG_INFINITY, f64::INFINITY);
    for rtt in [0_u32, 20, 40, 60, 80] {
        for input_delay in 0..4 {
            for skew in 0..3 {
                for phase in 0..17_u32 {
                    let setup = Setup {
                        fps,
                        input_delay,
                        skew,
                        direct: MS * rtt / 2,
                        relay: MS * rtt / 2,
                        phase: other_phase,
                        seed: u64::from(phase),
                        ..Setup::default()
                    };
                    let described = format!("{setup:?}");
                    let (margin, stalls) = cut_once(setup, phase * MS, phase % 2 == 1);
                    runs += 1;
                    inside += u32::from(margin >= 0.0);
                    if stalls > 0 {
                        stalled_runs += 1;
                        worst = worst.max(margin);
                    } else {
                        best = best.min(margin);
                    }
                    assert!(
                        margin < 0.0 || stalls == 0,
                        "{stalls} frames stalled at a margin of {margin} ms: {described}"
                    );
                }
            }
        }
    }
    println!(
        "{fps} fps: {runs} cuts, {inside} inside the budget, {stalled_runs} stalled; \
         highest margin that stalled {worst:.1} ms, lowest that did not {best:.1} ms"
    );
    assert!(
        inside > 0 && inside < runs,
        "the grid has both sides of the edge"
    );
}

#[test]
fn a_cut_inside_the_budget_stalls_nothing_at_30_fps() {
    grid(30, 3 * MS);
}

#[test]
fn a_cut_inside_the_budget_stalls_nothing_at_60_fps() {
    grid(60, 3 * MS);
    grid(60, 12 * MS);
}

#[test]
fn a_cut_inside_the_budget_stalls_nothing_at_120_fps() {
    grid(120, 3 * MS);
    grid(120, 7 * MS);
}
