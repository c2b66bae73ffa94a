//! Causes of stalls and rollbacks, and clock offsets, in the file of a whole session.

use std::time::Duration;

use bevy_rollback_lab::prelude::*;
use rollback_lab_record::causes::finalise;

use rollback_lab_record::Cause;
use rollback_lab_test_kit::lab::{
    VirtualNetwork, checked, frame, lab_peer, play, play_under, run_until,
};

fn config() -> LabConfig {
    LabConfig::new("ws://lab", "room")
        .frame_limit(900)
        .episodes(1)
        .no_files()
}

#[test]
fn a_stall_while_the_peer_does_not_advance_has_the_cause_peer_stall() {
    let network = VirtualNetwork::new(2, true);
    let mut peers = [1, 2].map(|seed| lab_peer(&network, config(), seed));
    let playing = run_until(&mut peers, frame(60), 4_000, |peers| {
        peers.iter().all(|peer| peer.frame() > 200)
    });
    assert!(playing, "the match runs");
    for _ in 0..24 {
        peers[0].step(frame(60));
    }
    let ran = frame(60) * 24;
    peers[1].step(ran);
    let documents = play(&mut peers, frame(60), 4_000);
    let waiting = &documents[0][0].frames;
    assert!(waiting.stalled > 5, "{:?}", waiting.stalls);
    let longest = waiting.stalls.iter().max_by_key(|stall| stall.ticks);
    assert_eq!(longest.map(|stall| stall.cause), Some(Cause::PeerStall));
}

#[test]
fn losses_on_a_lossy_path_are_confirmed_by_the_other_file() {
    let files = play_under("latency=10ms,loss=5%", 1_800, 2);
    let (mut losses, mut kept) = (0, 0);
    for (ours, theirs) in [(0, 1), (1, 0)] {
        for event in &files[ours].rollbacks.events {
            assert_ne!(event.cause, Cause::Unknown, "{event:?}");
            if event.cause == Cause::PacketLoss {
                losses += 1;
                kept += u32::from(finalise(event, &files[theirs]) == Cause::PacketLoss);
            }
        }
    }
    assert!(losses >= 5, "{losses} losses");
    assert_eq!(losses, kept);
}

#[test]
fn the_clock_offset_is_right_within_its_uncertainty() {
    // Drift of the second clock, and its offset at the start.
    for (ppm, apart_ms) in [(0, 0), (120, 40), (-150, 2_500)] {
        let network = VirtualNetwork::new(2, true);
        let mut peers = [1, 2].map(|seed| lab_peer(&network, config(), seed));
        peers[1].clock.advance(Duration::from_millis(apart_ms));
        let by = frame(60);
        let drift = i64::from(ppm) * i64::try_from(by.as_nanos()).unwrap() / 1_000_000;
        let shift = Duration::from_nanos(drift.unsigned_abs());
        let own = if drift < 0 { by - shift } else { by + shift };
        for _ in 0..4_000 {
            peers[0].step(by);
            peers[1].clock.advance(own - by.min(own));
            peers[1].step(by.min(own));
            if peers
                .iter()
                .all(|peer| peer.phase() == SessionPhase::Finished)
            {
                break;
            }
        }
        for (of, documents) in checked(&peers).iter().enumerate() {
            let clock = &documents[0].clock.peers[0];
            let at = clock.at_us.unwrap() as f64;
            let rate = f64::from(ppm) / 1e6;
            let apart = apart_ms as f64 * 1e3;
            let expected = if of == 0 {
                apart + at * rate
            } else {
                -(apart + (at - apart) * rate / (1.0 + rate))
            };
            let error = (clock.offset_us.unwrap() as f64 - expected).abs();
            assert!(
                error <= clock.uncertainty_us.unwrap() as f64 + 1.0,
                "{ppm} ppm, {apart_ms} ms: off by {error} us from {expected} in {clock:?}"
            );
            assert!((10..=64).contains(&clock.samples.len()));
            let drift = clock.drift_ppm.unwrap();
            let signed = if of == 0 {
                f64::from(ppm)
            } else {
                -f64::from(ppm)
            };
            assert!(
                (drift - signed).abs() < 20.0,
                "{drift} ppm instead of {signed}"
            );
        }
    }
}
