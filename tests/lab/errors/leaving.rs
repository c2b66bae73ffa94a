//! A peer that leaves or disappears: the error of the others, and the partial files.

use bevy_rollback_lab::rollback::{SessionEvent, SessionEventKind, SessionKind};
use rollback_lab_link::wire::relay::Notice;
use rollback_lab_test_kit::lab::checked;

use super::*;

/// The one episode file of a peer, which is partial and keeps the invariants.
fn partial(peer: &LabPeer, reason: EndReason) -> EpisodeDocument {
    let episodes = peer.episodes();
    let [episode] = episodes.as_slice() else {
        panic!("one partial file, not {}", episodes.len());
    };
    assert!(episode.episode.is_partial);
    assert_eq!(episode.episode.end_reason, Some(reason));
    assert_eq!(check_episode(episode), []);
    episode.clone()
}

#[test]
fn leaving_mid_episode_is_reported_within_ten_frames_and_both_files_are_partial() {
    let network = VirtualNetwork::new(2, true);
    let mut peers = pair(&network);
    until_frame(&mut peers, 120);
    peers[1].app.world_mut().write_message(AppExit::Success);
    peers[1].step(frame(60));
    let mut staying = peers.remove(0);
    let mut updates = 0;
    while staying.phase() != SessionPhase::Failed {
        updates += 1;
        assert!(
            updates <= 10,
            "reported within ten frames, not after a time-out"
        );
        staying.step(frame(60));
    }
    let error = failure(&staying);
    assert_eq!(error.to_string(), "player 1 is gone: it left");
    staying.step(frame(60));

    let left = partial(&staying, EndReason::PeerLeft);
    let quit = partial(&peers[0], EndReason::LocalQuit);
    assert!(left.episode.end_frame >= 110, "{}", left.episode.end_frame);
    assert!(quit.episode.end_frame >= 110, "{}", quit.episode.end_frame);
    assert_eq!(end_reason(&staying), EndReason::PeerLeft);
    assert_eq!(end_reason(&peers[0]), EndReason::LocalQuit);
    assert_eq!(
        session_document(&peers[0]).episodes,
        ["episode-0.player-1.json"]
    );
    checked(&[staying, peers.remove(0)]);
}

#[test]
fn a_peer_that_leaves_between_meeting_and_playing_is_waited_for_again() {
    let network = VirtualNetwork::new(2, true);
    let mut peers = vec![
        peer(&network, config().wait_timeout(Duration::from_secs(20)), 1),
        peer(&network, config().auto_start(false), 2),
    ];
    let waiting = run_until(&mut peers, frame(60), 200, |peers| {
        peers[0].phase() == SessionPhase::Starting && peers[1].phase() == SessionPhase::Between
    });
    assert!(waiting, "one waits at the start barrier for the other");
    peers[1].app.world_mut().write_message(AppExit::Success);
    peers[1].step(frame(60));
    peers.truncate(1);
    run_until(&mut peers, frame(60), 60, |_| false);
    assert_eq!(peers[0].phase(), SessionPhase::Gathering);
    let errors = until_failed(&mut peers, Duration::from_secs(20));
    assert_eq!(
        errors[0].to_string(),
        "waited 20s in room room: 1 of 2 players came"
    );
    assert_eq!(end_reason(&peers[0]), EndReason::WaitTimeout);
    assert!(peers[0].episodes().is_empty(), "no frame was played");
}

#[test]
fn a_peer_whose_server_connection_is_lost_has_not_left() {
    let network = VirtualNetwork::new(2, true);
    let mut peers = pair(&network);
    until_frame(&mut peers, 60);
    network.emit(0, NetEvent::Notice(Notice::PeerGone { slot: 1 }));
    run_until(&mut peers, frame(60), 120, |_| false);
    assert_eq!(
        peers[0].phase(),
        SessionPhase::Playing,
        "a peer that still sends is not gone"
    );
    network.emit(0, NetEvent::Notice(Notice::PeerGone { slot: 1 }));
    let _crashed = peers.pop();
    run_until(&mut peers, frame(60), 34 * 60, |_| false);
    assert_eq!(peers[0].phase(), SessionPhase::Playing, "it may come back");
    let errors = until_failed(&mut peers, Duration::from_secs(2));
    assert_eq!(
        errors[0].to_string(),
        "player 1 is gone: nothing came from it for 35 s"
    );
    peers[0].step(frame(60));
    partial(&peers[0], EndReason::PeerLeft);
    assert_eq!(end_reason(&peers[0]), EndReason::PeerLeft);
}

#[test]
fn after_35_seconds_without_a_path_both_sides_end_for_the_same_reason() {
    let network = VirtualNetwork::new(2, true);
    let mut peers = pair(&network);
    until_frame(&mut peers, 60);
    let outage = |on| {
        network.faults(|faults| {
            faults.cut_from_first = on;
            faults.cut_from_others = on;
            faults.relay_dead = on;
        });
    };
    outage(true);
    run_until(&mut peers, frame(60), 34 * 60, |_| false);
    for peer in &peers {
        assert_eq!(peer.phase(), SessionPhase::Playing);
    }
    for (player, error) in until_failed(&mut peers, Duration::from_secs(2))
        .iter()
        .enumerate()
    {
        assert_eq!(
            error.to_string(),
            format!(
                "player {} is gone: nothing came from it for 35 s",
                1 - player
            )
        );
    }
    run_until(&mut peers, frame(60), 5, |_| false);
    for peer in &peers {
        assert_eq!(end_reason(peer), EndReason::PeerLeft);
        partial(peer, EndReason::PeerLeft);
    }
    checked(&peers);
}

#[test]
fn a_peer_that_ggrs_disconnects_ends_the_session() {
    let network = VirtualNetwork::new(2, true);
    let mut peers = pair(&network);
    until_frame(&mut peers, 60);
    // ggrs's own time-out is a day; if it disconnects a peer all the same, the session follows.
    let at = peers[0].clock.now();
    peers[0].app.world_mut().write_message(SessionEvent {
        session: SessionKind::P2P,
        at,
        players: vec![1],
        kind: SessionEventKind::Disconnected,
    });
    let mut alone: Vec<_> = peers.drain(..1).collect();
    let errors = until_failed(&mut alone, Duration::from_secs(1));
    assert!(matches!(
        errors[0],
        SessionError::PeerGone { player: 1, .. }
    ));
    alone[0].step(frame(60));
    partial(&alone[0], EndReason::PeerLeft);
}
