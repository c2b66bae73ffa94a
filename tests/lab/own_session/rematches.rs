//! Several matches of one app: in one room, and in another one against a newcomer.

use super::*;

/// A player whose match is over goes to another room, and plays there against a newcomer.
fn with_a_newcomer(mut veteran: LabPeer) -> Vec<LabPeer> {
    stop(&mut veteran);
    veteran.app.world_mut().remove_resource::<LabRoom>();
    run_until(std::slice::from_mut(&mut veteran), frame(60), 60, |_| false);
    let network = VirtualNetwork::new(2, true);
    let net = network.net(&veteran.clock, LinkSettings::default(), 11);
    veteran.app.insert_resource(LabRoom::over(net, "other", 2));
    let mut peers = vec![veteran, own_peer(&network, 2, 12)];
    meet(&mut peers);
    peers.iter_mut().for_each(start);
    peers
}

#[test]
fn the_next_session_of_a_room_starts_with_fresh_counters() {
    let network = VirtualNetwork::new(2, true);
    let mut peers = playing(&network, 2);
    peers.iter_mut().for_each(stop);
    run_until(&mut peers, frame(60), 30, |_| false);
    assert!(peers.iter().all(|peer| room(peer).ready()));
    peers.iter_mut().for_each(start);
    let documents = files(&mut peers, 100);
    for (document, peer) in documents.iter().zip(&peers) {
        assert_eq!(document.episode.episode_num, 1);
        assert_eq!(document.quality.p2p_fallback_triggered, Some(false));
        assert_eq!(document.inputs.sent_via_relay, Some(0));
        assert!(
            document.inputs.sent_via_p2p > Some(80),
            "{:?}",
            document.inputs
        );
        assert_eq!(
            received(peer).routes.len(),
            1,
            "{:?}",
            received(peer).routes
        );
    }
}

#[test]
fn a_veteran_and_a_newcomer_compute_the_same_checksums() {
    let first = VirtualNetwork::new(2, true);
    let mut veterans = playing(&first, 2);
    let veteran = veterans.remove(0);
    drop(veterans);
    let mut peers = with_a_newcomer(veteran);
    until_frame(&mut peers, 200);
    for peer in &peers {
        let Received {
            desyncs, events, ..
        } = received(peer);
        assert!(desyncs.is_empty(), "{desyncs:?}");
        let desync =
            |event: &GgrsEvent<TestConfig>| matches!(event, GgrsEvent::DesyncDetected { .. });
        assert!(!events.iter().any(desync), "ggrs sees none either");
    }
}

#[test]
fn a_match_that_is_quit_leaves_files_that_pair() {
    let network = VirtualNetwork::new(2, true);
    let mut peers = playing(&network, 2);
    until_frame(&mut peers, 200);
    stop(&mut peers[0]);
    peers[0].app.world_mut().remove_resource::<LabRoom>();
    run_until(&mut peers, frame(60), 30, |_| false);
    stop(&mut peers[1]);
    run_until(&mut peers, frame(60), 2, |_| false);
    let files: Vec<_> = peers.iter().map(|peer| peer.episodes().remove(0)).collect();
    for file in &files {
        assert!(file.episode.is_partial);
        assert_eq!(file.episode.end_reason, Some(EndReason::SessionRemoved));
        assert_eq!(check_episode(file), []);
    }
    assert_ne!(files[0].episode.end_frame, files[1].episode.end_frame);
    assert_eq!(check_pair(&files[0], &files[1]), []);
}

#[test]
fn a_veteran_and_a_newcomer_number_their_matches_alike() {
    let first = VirtualNetwork::new(2, true);
    let mut veterans = playing(&first, 2);
    // A rematch in the same room is its second match on both sides.
    veterans.iter_mut().for_each(stop);
    run_until(&mut veterans, frame(60), 10, |_| false);
    veterans.iter_mut().for_each(start);
    until_frame(&mut veterans, 60);
    let veteran = veterans.remove(0);
    drop(veterans);
    let mut peers = with_a_newcomer(veteran);
    until_frame(&mut peers, 60);
    peers.iter_mut().for_each(stop);
    run_until(&mut peers, frame(60), 2, |_| false);
    let numbers = |peer: &LabPeer| -> Vec<u32> {
        let files = peer.episodes();
        files.iter().map(|file| file.episode.episode_num).collect()
    };
    assert_eq!(
        numbers(&peers[0]),
        [0, 1, 0],
        "two matches, then one in another room"
    );
    assert_eq!(numbers(&peers[1]), [0]);
}
