//! What a packet of a ggrs match costs between ggrs and matchbox's channel: the lab's socket
//! (header, route, validation, with its poll once per update) against matchbox's own adapter.
//!
//! It prints one JSON object. How often either of them allocates is a test (`tests/allocations.rs`).

use std::process::ExitCode;
use std::time::Instant;

use rollback_lab_test_kit::packets::{Adapter, Carrier, Lab, Tick, count, record};
use serde_json::json;

/// Ticks of the recording: ten seconds.
const TICKS: usize = 600;
/// Replays of either kind, in turn.
const ROUNDS: usize = 200;

fn main() -> ExitCode {
    let ticks = record(TICKS);
    let packets = count(&ticks);
    let (mut lab, mut adapter) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        if round % 2 == 0 {
            lab.push(replay(Lab::new(), &ticks));
            adapter.push(replay(Adapter::new(), &ticks));
        } else {
            adapter.push(replay(Adapter::new(), &ticks));
            lab.push(replay(Lab::new(), &ticks));
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

/// Seconds that the replay took, and the messages that arrived.
fn replay(mut carrier: impl Carrier, ticks: &[Tick]) -> (f64, usize) {
    let from = Instant::now();
    let arrived = ticks.iter().map(|tick| carrier.tick(tick)).sum();
    (from.elapsed().as_secs_f64(), arrived)
}

fn median_ns(mut replays: Vec<(f64, usize)>, packets: usize) -> f64 {
    replays.sort_by(|a, b| a.0.total_cmp(&b.0));
    replays[replays.len() / 2].0 * 1e9 / packets as f64
}
