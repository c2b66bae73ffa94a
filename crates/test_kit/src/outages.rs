//! Outages of the direct path over a grid of delays and phases, and how many frames they stall.
//!
//! The tests of the link crate and the table of the scenarios assert on the counts.

use std::time::Duration;

use rollback_lab_link::route::RouteState;
use rollback_lab_link::wire::Path;

use crate::link_world::{MS, Setup, World};

/// Which packets on the direct path are dropped from the outage on.
#[derive(Clone, Copy, Debug)]
pub enum Outage {
    /// Both directions.
    Both,
    /// Both directions, and the packets in flight.
    BothAndInFlight,
    /// Only what peer 0 sends.
    OneWay,
}

/// Counts of a grid of outages.
#[derive(Clone, Debug)]
pub struct Grid {
    /// Outages played.
    pub cuts: u32,
    /// Outages whose failover margin was sufficient.
    pub inside: u32,
    /// Outages that stalled a frame although their margin was sufficient.
    pub broken: u32,
    /// One of the setups counted in `broken`, with its margin.
    pub broken_setup: Option<String>,
    /// Outages that did not end with both peers on the relay.
    pub undecided: u32,
    /// Outages after which a frame stalled.
    pub stalled: u32,
    /// Largest margin with a stall, in milliseconds.
    pub worst_stalled_ms: f64,
    /// Smallest margin without a stall, in milliseconds.
    pub best_free_ms: f64,
}

/// Plays one outage: the margin before it in milliseconds, the stalled frames, and whether both
/// peers failed over.
fn play(setup: Setup, phase: Duration, outage: Outage) -> (f64, u32, bool) {
    let mut world = World::playing(setup, 1_500 * MS + phase);
    let margin = world.margin();
    world.reset_counts();
    match outage {
        Outage::Both => world.cut_both(Path::Direct),
        Outage::OneWay => world.cut(0, Path::Direct),
        Outage::BothAndInFlight => {
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

/// Plays outages at `fps` over round trips of 0 to 80 ms, input delays of 0 to 3 frames, skews of 0
/// to 2 frames, and 17 phases one millisecond apart. The ticks of peer 1 follow those of peer 0
/// after `other_phase`.
pub fn grid(fps: u32, other_phase: Duration, outage: Outage) -> Grid {
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
        // The side that still receives learns of the outage from its peer: one more delay, one more
        // tick.
        let needed = match outage {
            Outage::OneWay => f64::from(rtt) / 2.0 + 1e3 / f64::from(fps),
            Outage::Both | Outage::BothAndInFlight => 0.0,
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
                    let (margin, stalls, failed_over) = play(setup.clone(), phase * MS, outage);
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
