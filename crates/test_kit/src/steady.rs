//! Counts the allocations of a match, or of packets that are sent again, in steady state. Counters
//! are per thread.

use allocation_counter::{AllocationInfo, measure, opt_out};

use crate::duel::{Duel, Observers, Workload};
use crate::packets::{SocketPair, Tick};

/// Frames of a match before counting begins: ten seconds, after which buffers have their size.
pub const WARM_UP: i32 = 600;
/// Frames that are counted.
pub const FRAMES: i32 = 3_000;

/// Allocations of the app in each of [`FRAMES`] frames, and the match itself.
pub fn match_allocations(workload: Workload, observers: &Observers) -> (Vec<u64>, Duel) {
    let mut duel = Duel::new(workload, observers, None);
    duel.steps(WARM_UP);
    let frames = (0..FRAMES).map(|_| {
        duel.step_peer();
        measure(|| duel.step_app()).count_total
    });
    let frames = frames.collect();
    (frames, duel)
}

/// Allocations while the second half of a recording is sent and received, and how many messages
/// arrived.
pub fn packet_allocations(
    sockets: &mut impl SocketPair,
    ticks: &[Tick],
) -> (AllocationInfo, usize) {
    let (first, second) = ticks.split_at(ticks.len() / 2);
    for tick in first {
        sockets.tick(tick);
    }
    let mut arrived = 0;
    let info = measure(|| {
        for tick in second {
            arrived += sockets.tick(tick);
        }
    });
    (info, arrived)
}

/// Runs the peer's half of a tick without counting its allocations.
pub fn uncounted_peer(duel: &mut Duel) {
    opt_out(|| duel.step_peer());
}
