//! Cuts of the direct path over a grid of delays and phases, and what they cost.
//!
//! Owns the grid and its counts. Never asserts: tests and the table of scenarios do.

use std::time::Duration;

use rollback_lab_link::route::RouteState;
use rollback_lab_link::wire::Path;

use crate::link_world::{MS, Setup, World};

/// What is cut.
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    /// Both directions.
    Both,
    /// Both directions, with what was on its way.
    BothAndInFlight,
    /// Only what peer 0 sends.
    OneWay,
}

/// What a grid of cuts came to.
#[derive(Clone, Debug)]
pub struct Grid {
    /// Cuts played.
    pub cuts: u32,
    /// Cuts whose margin was sufficient.
    pub inside: u32,
    /// Cuts inside the budget that stalled a frame, and one of them.
    pub broken: u32,
    /// The first setup in which a promise did not hold.
    pub broken_setup: Option<String>,
    /// Cuts that did not end with both peers on the relay.
    pub undecided: u32,
    /// Cuts after which a frame stalled.
    pub stalled: u32,
    /// The highest margin at which a frame stalled, and the lowest at which none did.
    pub worst_stalled_ms: f64,
    /// Smallest margin without a stall, in milliseconds.
    pub best_free_ms: f64,
}

/// One cut: margin before it in milliseconds, stalled frames, whether both were promoted.
fn cut_once(setup: Setup, phase: Duration, cut: Cut) -> (f64, u32, bool) {
    let mut world = World::playing(setup, 1_500 * MS + phase);
    let margin = world.margin();
    world.reset_counts();
    match cut {
        Cut::Both => world.cut_both(Path::Direct),
        Cut::OneWay => world.cut(0, Path::Direct),
        Cut::BothAndInFlight => {
            world.cut_both(Path::Direct);
            for peer in &mut world.peers {
                peer.shaper.lose_in_flight(Path::Direct);
            }
        }
    }
    world.run_for(1_500 * MS);
    let failed_over = world.routes() == [RouteState::Relay; 2];
    (margin, world.stalls(), failed_over)
}

/// Round trips of 0 to 80 ms, input delays of 0 to 3 frames, skews of 0 to 2 frames, and 17 phases
/// one millisecond apart.
pub fn grid(fps: u32, other_phase: Duration, cut: Cut) -> Grid {
    let mut grid = Grid {
        cuts: 0,
        inside: 0,
        broken: 0,
        broken_setup: None,
        undecided: 0,
        stalled: 0,
        worst_stalled_ms: f64::NEG_INFINITY,
        best_free_ms: f64::INFINITY,
    };
    for rtt in [0_u32, 20, 40, 60, 80] {
        // The side that still hears must be told: one more delay and one more tick.
        let needed = match cut {
            Cut::OneWay => f64::from(rtt) / 2.0 + 1e3 / f64::from(fps),
            Cut::Both | Cut::BothAndInFlight => 0.0,
        };
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
                    let (margin, stalls, failed_over) = cut_once(setup.clone(), phase * MS, cut);
                    grid.cuts += 1;
                    grid.undecided += u32::from(!failed_over);
                    let inside = margin >= needed;
                    grid.inside += u32::from(inside);
                    if stalls == 0 {
                        grid.best_free_ms = grid.best_free_ms.min(margin);
                        continue;
                    }
                    grid.stalled += 1;
                    grid.worst_stalled_ms = grid.worst_stalled_ms.max(margin);
                    if inside {
                        grid.broken += 1;
                        grid.broken_setup = Some(format!("margin {margin} ms: {setup:?}"));
                    }
                }
            }
        }
    }
    grid
}
