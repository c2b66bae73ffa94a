//! Allocations: the same match without and with the observers, the same packets by the lab's
//! sockets and by matchbox's adapter for ggrs, and the memory and file size of an hour of play.
//!
//! Run: `cargo xtask bench` prints the table of BENCHMARKS.md; alone, `cargo bench --bench
//! allocations -- [--quick] [--out DIR]`. `--quick` skips the hour, `--out` keeps its episode file.
//!
//! Prints three lines of JSON: frames, packets, hour. All numbers are counts in virtual time; every
//! machine gives the same, except for the version of the compiler. Quote `observedAllocations -
//! bareAllocations` of the first line, both numbers per packet of the second, and `growthBytes`,
//! `peakAtEndBytes` and `fileBytes` of the third. `tests/allocations.rs` asserts the first two.

#![expect(
    clippy::unwrap_used,
    reason = "an hour that cannot be played is no measurement"
)]

use std::path::PathBuf;
use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use bevy_ggrs::Session;
use bevy_rollback_lab::clock::LabClock;
use bevy_rollback_lab::internals::sink::RecordSink;
use bevy_rollback_lab::record::EpisodeDocument;
use rollback_lab_test_kit::duel::{BenchConfig, Duel, Observers, STEP, Workload};
use rollback_lab_test_kit::packets::{AdapterPair, LabPair, record};
use rollback_lab_test_kit::steady::{match_allocations, packet_allocations, uncounted_peer};
use serde_json::json;

/// An hour at 60 Hz.
const FRAMES: i32 = 216_000;
/// Frames before counting begins, after which queues and message buffers have their size.
const WARM_UP: i32 = 600;
const ENTITIES: i32 = 20;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let after = |name: &str| arguments.iter().skip_while(|word| *word != name).nth(1);
    frames();
    packets_each();
    if !arguments.iter().any(|word| word == "--quick") {
        memory(after("--out").map(PathBuf::from));
    }
}

fn frames() {
    let workload = Workload::steady(ENTITIES);
    let sum = |observers| match_allocations(workload, observers).0.iter().sum::<u64>();
    println!(
        "{}",
        json!({
            "frames": rollback_lab_test_kit::steady::FRAMES,
            "bareAllocations": sum(&Observers::None),
            "observedAllocations": sum(&Observers::InMemory),
        })
    );
}

fn packets_each() {
    let ticks = record(1_200);
    let (ours, packets) = packet_allocations(&mut LabPair::default(), &ticks);
    let (theirs, _) = packet_allocations(&mut AdapterPair::default(), &ticks);
    let each = |sum: u64| sum as f64 / packets as f64;
    println!(
        "{}",
        json!({
            "packets": packets,
            "labAllocationsPerPacket": each(ours.count_total),
            "labBytesPerPacket": each(ours.bytes_total),
            "adapterAllocationsPerPacket": each(theirs.count_total),
            "adapterBytesPerPacket": each(theirs.bytes_total),
        })
    );
}

fn memory(out: Option<PathBuf>) {
    let (_, bare) = hour(&Observers::None);
    let (mut duel, observed) = hour(&Observers::InMemory);
    let before = duel.frames();
    let ending = measure(|| {
        duel.app
            .world_mut()
            .remove_resource::<Session<BenchConfig>>();
        duel.app.update();
    });
    let files = duel.app.world().resource::<RecordSink>().files();
    let (path, bytes) = files.iter().next().unwrap();
    let document = EpisodeDocument::parse(std::str::from_utf8(bytes).unwrap()).unwrap();
    assert!(
        document.episode.end_frame > before - 10,
        "the file holds the hour"
    );
    if let Some(out) = out {
        std::fs::create_dir_all(&out).unwrap();
        std::fs::write(out.join("hour.json"), bytes).unwrap();
    }
    println!(
        "{}",
        json!({
            "frames": FRAMES,
            "file": path,
            "rollbacks": document.rollbacks.count,
            "localChanges": document.inputs.local_changes.len(),
            "bareGrowthBytes": bare.bytes_current,
            "growthBytes": observed.bytes_current - bare.bytes_current,
            "peakAtEndBytes": ending.bytes_max,
            "fileBytes": bytes.len(),
        })
    );
}

/// Plays an hour; returns the match and what the app allocated during it.
fn hour(observers: &Observers) -> (Duel, AllocationInfo) {
    let clock = LabClock::manual(1_700_000_000_000);
    let mut duel = Duel::new(Workload::played(ENTITIES), observers, Some(clock.clone()));
    let mut random = 1_u64;
    let mut tick = |duel: &mut Duel| {
        // Frames are up to 1 ms early or late, as on a display. Knuth's linear congruential
        // generator.
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let late = Duration::from_micros((random >> 33) % 2_000);
        clock.advance(STEP - Duration::from_millis(1) + late);
        uncounted_peer(duel);
        duel.step_app();
    };
    for _ in 0..WARM_UP {
        tick(&mut duel);
    }
    let info = measure(|| {
        for _ in 0..FRAMES {
            tick(&mut duel);
        }
    });
    (duel, info)
}
