//! Time per packet between ggrs and matchbox's channel: the lab's socket (header, route,
//! validation, and its poll once per update) against matchbox's own adapter, over the same recorded
//! packets.
//!
//! Run: `cargo xtask bench` prints the table of BENCHMARKS.md; alone, `cargo bench --bench
//! packet_path`. Prints one line of JSON. Quote `labNsPerPacket` and `adapterNsPerPacket` together:
//! both are medians of 200 replays that alternate within one process, and depend on the machine;
//! `ratio` less so. Allocations per packet are asserted by `tests/allocations.rs`.

use std::process::ExitCode;
use std::time::Instant;

use rollback_lab_test_kit::packets::{AdapterPair, LabPair, SocketPair, Tick, count, record};
use serde_json::json;

/// Ticks of the recording: ten seconds.
const TICKS: usize = 600;
/// Rounds; each replays the recording once by either pair of sockets.
const ROUNDS: usize = 200;

fn main() -> ExitCode {
    let ticks = record(TICKS);
    let packets = count(&ticks);
    let (mut lab, mut adapter) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        if round % 2 == 0 {
            lab.push(replay(LabPair::default(), &ticks));
            adapter.push(replay(AdapterPair::default(), &ticks));
        } else {
            adapter.push(replay(AdapterPair::default(), &ticks));
            lab.push(replay(LabPair::default(), &ticks));
        }
    }
    if lab
        .iter()
        .chain(&adapter)
        .any(|(_, arrived)| *arrived != packets)
    {
        eprintln!("error: not every one of the {packets} packets arrived");
        return ExitCode::FAILURE;
    }
    let (lab, adapter) = (median_ns(lab, packets), median_ns(adapter, packets));
    println!(
        "{}",
        json!({
            "packets": packets,
            "ticks": TICKS,
            "rounds": ROUNDS,
            "labNsPerPacket": lab,
            "adapterNsPerPacket": adapter,
            "ratio": lab / adapter,
        })
    );
    ExitCode::SUCCESS
}

/// Sends a recording again; returns the seconds it took and the number of messages that arrived.
fn replay(mut sockets: impl SocketPair, ticks: &[Tick]) -> (f64, usize) {
    let from = Instant::now();
    let arrived = ticks.iter().map(|tick| sockets.tick(tick)).sum();
    (from.elapsed().as_secs_f64(), arrived)
}

fn median_ns(mut replays: Vec<(f64, usize)>, packets: usize) -> f64 {
    replays.sort_by(|a, b| a.0.total_cmp(&b.0));
    replays[replays.len() / 2].0 * 1e9 / packets as f64
}
