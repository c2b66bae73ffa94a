//! Three and four players: every pair has its own route, and all files agree.

use std::time::Duration;

use bevy_rollback_lab::LabNet;
use bevy_rollback_lab::prelude::*;
use bevy_rollback_lab::record::{EpisodeDocument, SyncStatus};
use rollback_lab_link::cause::Cause;
use rollback_lab_record::merge::merge;
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

/// Plays 180 frames with a peer per entry of `conditions`, whose updates come at different phases of a
/// frame; returns the files.
fn play_staggered(conditions: &[&str]) -> Vec<EpisodeDocument> {
    let network = VirtualNetwork::new(conditions.len(), true);
    let mut peers: Vec<_> = conditions
        .iter()
        .enumerate()
        .map(|(slot, spec)| {
            let config = LabConfig::new("ws://lab", "room")
                .players(conditions.len())
                .frame_limit(180)
                .episodes(1)
                .conditions(*spec)
                .no_files();
            lab_peer(&network, config, slot as u64 + 1)
        })
        .collect();
    // From here on the clocks stand at the times of the updates.
    let count = peers.len() as u32;
    for (slot, peer) in peers.iter_mut().enumerate() {
        peer.step(frame(60) * slot as u32 / count);
    }
    play(&mut peers, frame(60), 3_000)
        .into_iter()
        .flatten()
        .collect()
}

/// The times of frame 0 of every peer, by the clock of the merged files, in microseconds.
fn first_frames(files: &[EpisodeDocument]) -> Vec<i64> {
    let merged = merge(files).expect("the files are of one episode");
    let times = merged
        .peers
        .iter()
        .map(|peer| peer.frame_at_us.first.expect("frame 0 has a time"));
    times.collect()
}

fn assert_started_together(files: &[EpisodeDocument], what: &str) {
    let times = first_frames(files);
    let spread = times.iter().max().expect("players") - times.iter().min().expect("players");
    assert!(spread <= 16_667, "{what}: frame 0 at {times:?}");
    for file in files {
        let early = file
            .quality
            .route_changes
            .iter()
            .filter(|change| change.frame < 60);
        assert_eq!(early.count(), 0, "{what}: {:?}", file.quality.route_changes);
        let unknown: Vec<_> = file
            .rollbacks
            .events
            .iter()
            .filter(|event| event.frame < 60 && event.cause == Cause::Unknown)
            .collect();
        assert!(unknown.is_empty(), "{what}: {unknown:?}");
    }
}

#[test]
fn frame_0_of_all_peers_comes_within_a_frame() {
    for players in 2..=4 {
        for spec in ["latency=50ms", "latency=50ms; jitter=10ms"] {
            let files = play_staggered(&vec![spec; players]);
            assert_started_together(&files, &format!("{players} players, {spec}"));
        }
    }
    let unequal = [
        "latency=10ms",
        "latency=80ms",
        "latency=30ms",
        "latency=60ms",
    ];
    assert_started_together(&play_staggered(&unequal), "unequal latencies");
    let first_is_far = ["latency=90ms", "latency=10ms", "latency=20ms"];
    assert_started_together(&play_staggered(&first_is_far), "the proposer is far");
}

/// A peer that stands still when the instant comes begins in its next update, with one step.
#[test]
fn a_peer_whose_update_comes_late_begins_at_its_next_one() {
    let (_hub, mut peers) = room(2);
    let started = run_until(&mut peers, frame(60), 600, |peers| {
        peers
            .iter()
            .all(|peer| peer.phase() == SessionPhase::Starting)
    });
    assert!(started);
    // The handshake takes some updates, and the instant comes a quarter of a second later.
    run_until(&mut peers, frame(60), 15, |_| false);
    assert_eq!(peers[1].frame(), 0);
    let late = Duration::from_millis(400);
    peers[1].step(late);
    for _ in 0..24 {
        peers[0].step(frame(60));
    }
    let ahead = peers[0].frame();
    assert!(
        (1..=10).contains(&ahead),
        "the other one waits for inputs: {ahead}"
    );
    peers[1].step(frame(60));
    assert_eq!(peers[1].frame(), 1, "one step, no burst");
    until_frame(&mut peers, 60);
}

#[test]
fn a_peer_that_finishes_no_handshake_is_named() {
    let (network, mut peers) = room(3);
    let started = run_until(&mut peers, frame(60), 600, |peers| {
        peers
            .iter()
            .any(|peer| peer.phase() == SessionPhase::Starting)
    });
    assert!(started);
    network.faults(|faults| faults.game_dead = true);
    // Three handshakes of ten seconds, and the players gather again in between.
    let failed = run_until(&mut peers, frame(60), 60 * 45, |peers| {
        peers
            .iter()
            .all(|peer| peer.phase() == SessionPhase::Failed)
    });
    assert!(failed);
    let texts: Vec<_> = peers
        .iter()
        .map(|peer| {
            let session = peer.app.world().resource::<LabSession<TestConfig>>();
            session.failure().unwrap().to_string()
        })
        .collect();
    let named = texts.iter().any(|text| {
        text.contains("handshake of episode 0 with player ") && text.contains("within 10s")
    });
    assert!(named, "{texts:?}");
}
