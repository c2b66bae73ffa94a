//! A healthy match sends no game packet over the relay.

#[path = "common/lab.rs"]
mod lab;

use bevy_rollback_lab::prelude::*;
use bevy_rollback_lab::record::SyncStatus;
use lab::{Hub, frame, lab_peer, play};

#[test]
fn two_peers_play_an_episode_to_its_frame_limit() {
    let hub = Hub::new(2, true);
    let config = || {
        LabConfig::new("ws://lab", "room")
            .frame_limit(300)
            .episodes(1)
            .no_files()
    };
    let mut peers = vec![lab_peer(&hub, config(), 1), lab_peer(&hub, config(), 2)];
    let documents = play(&mut peers, frame(60), 3_000);
    assert_eq!(
        hub.relayed_game(),
        (0, 0),
        "no game packet touches the relay"
    );
    for episodes in &documents {
        let [episode] = episodes.as_slice() else {
            panic!("one episode, one file, not {}", episodes.len());
        };
        assert_eq!(episode.episode.end_frame, 300);
        assert_eq!(episode.episode.end_reason.as_deref(), Some("frameLimit"));
        assert_eq!(episode.frames.stalled, 0);
        assert_eq!(episode.sync.status, SyncStatus::Verified);
        eprintln!("{}", serde_json::to_string_pretty(episode).unwrap());
    }
}
