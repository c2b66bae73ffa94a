//! Counts what a match or a replay of packets allocates in steady state, per thread.
//!
//! It owns the counting, never what is expected of it.

use allocation_counter::{AllocationInfo, measure, opt_out};

use crate::duel::{Duel, Observers, Script};
use crate::packets::{Carrier, Tick};

/// Frames of a match before anything counts: ten seconds.
pub const WARM_UP: i32 = 600;
/// Frames that count.
pub const FRAMES: i32 = 3_000;

/// Allocations of the app in every one of [`FRAMES`] frames, and the match they belong to.
pub fn match_allocations(script: Script, observers: &Observers) -> (Vec<u64>, Duel) {
    let mut duel = Duel::new(script, observers, None);
    duel.steps(WARM_UP);
    let frames = (0..FRAMES).map(|_| {
        duel.step_peer();
        measure(|| duel.step_app()).count_total
    });
    let frames = frames.collect();
    (frames, duel)
}

/// Allocations while the later half of a recording is carried, and how many messages arrived.
pub fn packet_allocations(carrier: &mut impl Carrier, ticks: &[Tick]) -> (AllocationInfo, usize) {
    let (first, second) = ticks.split_at(ticks.len() / 2);
    for tick in first {
        carrier.tick(tick);
    }
    let mut arrived = 0;
    let info = measure(|| {
        for tick in second {
            arrived += carrier.tick(tick);
        }
    });
    (info, arrived)
}

/// Runs the peer's half of a tick without counting it.
pub fn uncounted_peer(duel: &mut Duel) {
    opt_out(|| duel.step_peer());
}
