//! Ten minutes on a healthy path send no game byte over the relay, at any frame rate.

use bevy_rollback_lab::prelude::*;
use bevy_rollback_lab::record::SyncStatus;
use rollback_lab_record::EndReason;
use rollback_lab_test_kit::lab::{VirtualNetwork, frame, lab_peer, play};

fn ten_healthy_minutes(fps: u32) {
    let frames = fps * 600;
    let config = || {
        LabConfig::new("ws://lab", "room")
            .fps(fps)
            .frame_limit(frames)
            .episodes(1)
            .conditions("latency=15ms,jitter=3ms")
            .no_files()
    };
    let network = VirtualNetwork::new(2, true);
    let mut peers = vec![
        lab_peer(&network, config(), 1),
        lab_peer(&network, config(), 2),
    ];
    let documents = play(&mut peers, frame(fps), frames as usize + 3_000);
    assert_eq!(
        network.relayed_game(),
        (0, 0),
        "no game packet touches the relay at {fps} fps"
    );
    for episodes in &documents {
        let [episode] = episodes.as_slice() else {
            panic!("one episode, one file, not {}", episodes.len());
        };
        assert_eq!(episode.episode.end_frame, frames as i32);
        assert_eq!(episode.episode.end_reason, Some(EndReason::FrameLimit));
        // Peers pass the barrier up to a round trip apart, and the first one waits for the other.
        let stalled: Vec<_> = episode
            .frames
            .stalls
            .iter()
            .map(|stall| stall.frame)
            .collect();
        assert!(
            stalled.iter().all(|frame| *frame < 20),
            "nothing stalls once both peers play: {stalled:?}"
        );
        assert_eq!(episode.sync.status, SyncStatus::Verified);
        assert_eq!(episode.quality.route_changes, [], "no path became suspect");
    }
}

#[test]
fn ten_healthy_minutes_at_10_fps_send_no_game_byte_over_the_relay() {
    ten_healthy_minutes(10);
}

#[test]
fn ten_healthy_minutes_at_20_fps_send_no_game_byte_over_the_relay() {
    ten_healthy_minutes(20);
}

#[test]
fn ten_healthy_minutes_at_30_fps_send_no_game_byte_over_the_relay() {
    ten_healthy_minutes(30);
}

#[test]
fn ten_healthy_minutes_at_60_fps_send_no_game_byte_over_the_relay() {
    ten_healthy_minutes(60);
}

#[test]
fn ten_healthy_minutes_at_120_fps_send_no_game_byte_over_the_relay() {
    ten_healthy_minutes(120);
}
