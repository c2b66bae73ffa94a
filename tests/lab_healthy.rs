//! A healthy match sends no game packet over the relay.

#[path = "common/lab.rs"]
mod lab;

use bevy_rollback_lab::prelude::*;
use lab::{Hub, frame, lab_peer, run_until};

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
    let done = run_until(&mut peers, frame(60), 3_000, |peers| {
        peers
            .iter()
            .all(|peer| peer.phase() == SessionPhase::Finished)
    });
    let phases: Vec<_> = peers.iter().map(|peer| peer.phase()).collect();
    assert!(done, "both sessions finish, but stand in {phases:?}");
    assert_eq!(
        hub.relayed_game(),
        (0, 0),
        "no game packet touches the relay"
    );
}
