//! Three and four players: every pair has its own route, and all files agree.

use std::time::Duration;

use bevy_rollback_lab::LabNet;
use bevy_rollback_lab::prelude::*;
use bevy_rollback_lab::record::{EpisodeDocument, SyncStatus};
use rollback_lab_record::{EndReason, Via};
use rollback_lab_test_kit::lab::{
    LabPeer, TestConfig, VirtualNetwork, checked, frame, lab_peer, play, run_until,
};

fn room(players: usize) -> (VirtualNetwork, Vec<LabPeer>) {
    let network = VirtualNetwork::new(players, true);
    let config = LabConfig::new("ws://lab", "room")
        .players(players)
        .frame_limit(420)
        .episodes(1)
        .no_files();
    let peers = (1..=players)
        .map(|seed| lab_peer(&network, config.clone(), seed as u64))
        .collect();
    (network, peers)
}

fn until_frame(peers: &mut [LabPeer], at: i32) {
    let reached = run_until(peers, frame(60), 2_000, |peers| {
        peers.iter().all(|peer| peer.frame() >= at)
    });
    assert!(reached, "all peers play frame {at}");
}

/// Peers pass the barrier up to a round trip apart, and the first ones wait for the others.
fn stalls_once_all_play(document: &EpisodeDocument) -> Vec<i32> {
    let frames = document.frames.stalls.iter().map(|stall| stall.frame);
    frames.filter(|frame| *frame >= 20).collect()
}

fn routes(document: &EpisodeDocument) -> Vec<(usize, Via)> {
    let peers = document.connection.peers.iter();
    peers
        .map(|peer| (peer.player_id, peer.route.unwrap_or_default()))
        .collect()
}

#[test]
fn three_and_four_players_on_healthy_paths_send_no_game_byte_over_the_relay() {
    for players in [3, 4] {
        let (network, mut peers) = room(players);
        let documents = play(&mut peers, frame(60), 3_000);
        assert_eq!(network.relayed_game(), (0, 0), "{players} players");
        assert_eq!(documents.len(), players);
        for document in documents.iter().flatten() {
            assert_eq!(document.episode.end_frame, 420);
            assert_eq!(document.sync.status, SyncStatus::Verified);
            assert_eq!(document.quality.route_changes, []);
            assert_eq!(document.connection.peers.len(), players - 1);
            assert_eq!(stalls_once_all_play(document), [0; 0]);
        }
    }
}

#[test]
fn one_pair_that_lost_its_path_is_relayed_and_the_other_pairs_stay_direct() {
    let (network, mut peers) = room(4);
    until_frame(&mut peers, 150);
    network.faults(|faults| faults.cut_between = Some([1, 3]));
    let documents = play(&mut peers, frame(60), 3_000);
    for document in documents.iter().flatten() {
        let local = document.player_id.unwrap();
        let lost = [(1, 3), (3, 1)].into_iter().find(|(own, _)| *own == local);
        let lost = lost.map(|(_, other)| other);
        let expected: Vec<_> = (0..4)
            .filter(|player| *player != local)
            .map(|player| {
                (
                    player,
                    if Some(player) == lost {
                        Via::Relay
                    } else {
                        Via::Direct
                    },
                )
            })
            .collect();
        assert_eq!(routes(document), expected, "player {local}");
        assert_eq!(stalls_once_all_play(document), [0; 0], "player {local}");
        assert_eq!(document.sync.status, SyncStatus::Verified);
        let changes = &document.quality.route_changes;
        assert!(
            changes.iter().all(|change| Some(change.player_id) == lost),
            "only the pair that lost its path changes routes: {changes:?}"
        );
        let worst = document.connection.route_type;
        let relayed = document.inputs.sent_via_relay.unwrap();
        let both = document.inputs.sent_via_both.unwrap();
        if lost.is_some() {
            assert_eq!(worst, Some(Via::Relay), "the worst route in use");
            assert_eq!(document.quality.p2p_fallback_triggered, Some(true));
            // Frames 150 to 419, some of which were sent on both paths while the route was suspect.
            assert!((240..=272).contains(&(relayed + both)), "{relayed} {both}");
        } else {
            assert_eq!(worst, Some(Via::Direct));
            assert_eq!(document.quality.p2p_fallback_triggered, Some(false));
            assert_eq!((relayed, both), (0, 0), "player {local}");
        }
    }
}

#[test]
fn four_players_whose_paths_are_all_cut_play_on_over_the_relay() {
    let (_hub, mut peers) = room(4);
    until_frame(&mut peers, 150);
    for peer in &peers {
        peer.app.world().resource::<LabNet>().cut_direct();
    }
    for document in play(&mut peers, frame(60), 3_000).iter().flatten() {
        assert_eq!(document.episode.end_frame, 420);
        assert_eq!(document.sync.status, SyncStatus::Verified);
        assert_eq!(stalls_once_all_play(document), [0; 0]);
        assert!(
            routes(document)
                .iter()
                .all(|(_, route)| *route == Via::Relay)
        );
    }
}

/// The file and the failure of a peer whose match was left by another player.
fn left_behind(peer: &LabPeer) -> (EpisodeDocument, String) {
    let episodes = peer.episodes();
    let [episode] = episodes.as_slice() else {
        panic!("one partial file, not {}", episodes.len());
    };
    assert!(episode.episode.is_partial);
    assert_eq!(episode.episode.end_reason, Some(EndReason::PeerLeft));
    let session = peer.app.world().resource::<LabSession<TestConfig>>();
    (
        episode.clone(),
        session.failure().expect("it failed").to_string(),
    )
}

fn until_failed(peers: &mut [LabPeer], limit: Duration) {
    let updates = (limit.as_millis() / frame(60).as_millis()) as usize;
    let failed = run_until(peers, frame(60), updates, |peers| {
        let failed = |peer: &LabPeer| peer.phase() == SessionPhase::Failed;
        peers.iter().all(failed)
    });
    assert!(failed, "no peer plays on alone");
    run_until(peers, frame(60), 5, |_| false);
}

#[test]
fn a_player_who_quits_is_named_by_both_remaining_peers() {
    let (_hub, mut peers) = room(3);
    until_frame(&mut peers, 120);
    peers[1]
        .app
        .world_mut()
        .write_message(bevy::app::AppExit::Success);
    peers[1].step(frame(60));
    let quitter = peers.remove(1);
    until_failed(&mut peers, Duration::from_secs(1));
    for peer in &peers {
        let (episode, failure) = left_behind(peer);
        assert_eq!(failure, "player 1 is gone: it left");
        assert_eq!(episode.reconnection.disconnections[0].player_id, Some(1));
    }
    peers.push(quitter);
    checked(&peers);
}

#[test]
fn a_player_who_vanished_is_named_by_peers_that_learn_of_it_from_others() {
    let (_network, mut peers) = room(3);
    until_frame(&mut peers, 120);
    let _crashed = peers.remove(1);
    // One peer notices it first; the other one learns of it from that peer's leave message.
    for _ in 0..60 {
        peers[0].step(frame(60));
    }
    until_failed(&mut peers, Duration::from_secs(36));
    for peer in &peers {
        let (episode, failure) = left_behind(peer);
        assert!(
            failure.starts_with("player 1 is gone: "),
            "the player who left first is named, not the one who reported it: {failure}"
        );
        assert_eq!(episode.reconnection.disconnections[0].player_id, Some(1));
    }
    checked(&peers);
}
