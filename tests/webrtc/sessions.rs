//! Lab sessions over real WebRTC on loopback: healthy, cut, several episodes, and on a stock
//! signaling server.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test may fail like the test itself"
)]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bevy_rollback_lab::prelude::*;
use rollback_lab_record::check::check_episode;
use rollback_lab_record::{EndReason, EpisodeDocument, RouteCause, RouteState, Via};
use rollback_lab_test_kit::agreed::{
    UNEXPLAINED_SUSPECTS, agreed, assert_no_stall, assert_pairs_agree, config, disturbed, server,
};
use rollback_lab_test_kit::real::{RealPeer, play_real};

#[test]
fn a_healthy_match_goes_peer_to_peer() {
    let server = server();
    let config = config(&server.url()).frame_limit(240);
    let outcomes = play_real(&config, vec![RealPeer::default(); 2]);
    server.shutdown();
    for file in agreed(&outcomes, 1).concat() {
        assert_eq!(file.episode.end_frame, 240);
        assert_eq!(file.episode.end_reason, Some(EndReason::FrameLimit));
    }
    for outcome in &outcomes {
        assert_eq!(outcome.relay, Some(true));
        assert_eq!(outcome.no_relay_events, 0);
        let [episode] = outcome.episodes.as_slice() else {
            panic!("one episode");
        };
        let suspects = outcome.changes_to(RouteState::Suspect);
        if suspects.is_empty() {
            assert_eq!(
                outcome.relayed_game_packets, 0,
                "no game packet touches the relay in state Direct"
            );
            assert_eq!(episode.inputs.sent_via_relay, Some(0));
            assert_eq!(episode.inputs.sent_via_both, Some(0));
        } else {
            assert!(
                disturbed(&outcomes) || suspects.len() <= UNEXPLAINED_SUSPECTS,
                "suspects of a healthy match are explained by a busy machine: {suspects:?}"
            );
        }
        assert_eq!(episode.quality.p2p_fallback_triggered, Some(false));
        assert_eq!(episode.connection.route_type, Some(Via::Direct));
    }
    assert_no_stall(&outcomes, "a healthy match does not stall");
}

#[test]
fn a_cut_direct_path_stalls_no_frame_and_both_peers_fail_over() {
    let server = server();
    let config = config(&server.url()).frame_limit(300);
    let peer = RealPeer {
        cut_at: Some(150),
        ..RealPeer::default()
    };
    let outcomes = play_real(&config, vec![peer; 2]);
    server.shutdown();
    for file in agreed(&outcomes, 1).concat() {
        assert_eq!(file.episode.end_frame, 300);
    }
    let mut causes = Vec::new();
    for outcome in &outcomes {
        let [episode] = outcome.episodes.as_slice() else {
            panic!("one episode");
        };
        let quality = &episode.quality;
        assert_eq!(quality.p2p_fallback_triggered, Some(true));
        let at = quality.p2p_fallback_frame.unwrap();
        assert!((150..240).contains(&at), "failover at {at}, cut at 150");
        causes.push(quality.fallback_cause.unwrap());
        assert_eq!(
            outcome.changes_to(RouteState::Relay).len(),
            1,
            "fallback is final"
        );
        assert!(
            !quality
                .route_changes
                .iter()
                .any(|change| change.from == RouteState::Relay && change.to == RouteState::Direct),
            "no peer fails back"
        );
        assert_eq!(episode.connection.route_type, Some(Via::Relay));
        assert!(episode.inputs.sent_via_relay > Some(0));
        assert!(outcome.relayed_game_packets > 0);
    }
    assert_no_stall(&outcomes, "the cut stalls no frame");
    let count = |cause: RouteCause| causes.iter().filter(|c| **c == cause).count();
    assert!(
        count(RouteCause::Dead) >= 1,
        "one peer fails over by its own evidence: {causes:?}"
    );
    assert_eq!(
        count(RouteCause::Dead) + count(RouteCause::PeerPromoted),
        2,
        "{causes:?}"
    );
}

#[test]
fn three_episodes_follow_each_other_in_one_session() {
    let server = server();
    let config = config(&server.url()).episodes(3).frame_limit(200).seed(7);
    let peer = RealPeer {
        goal: Some((1, 120)),
        ..RealPeer::default()
    };
    let outcomes = play_real(&config, vec![peer; 2]);
    server.shutdown();
    let ends: Vec<_> = agreed(&outcomes, 3)
        .into_iter()
        .map(|files| {
            let [ours, theirs] = files.as_slice() else {
                panic!("two peers");
            };
            assert_eq!(ours.session.session_id, theirs.session.session_id);
            assert_eq!(ours.episode.seed, theirs.episode.seed);
            assert_eq!(ours.episode.end_reason, theirs.episode.end_reason);
            assert_eq!(ours.episode.end_frame, theirs.episode.end_frame);
            let reason = ours.episode.end_reason.clone().unwrap();
            (ours.episode.episode_num, ours.episode.end_frame, reason)
        })
        .collect();
    let end = |number, frame, reason: &str| (number, frame, EndReason::from(reason));
    assert_eq!(
        ends,
        [
            end(0, 200, "frameLimit"),
            end(1, 120, "goal"),
            end(2, 200, "frameLimit"),
        ]
    );
    let seeds: Vec<_> = outcomes[0]
        .episodes
        .iter()
        .map(|e| e.episode.seed)
        .collect();
    assert!(seeds[0] != seeds[1] && seeds[1] != seeds[2], "{seeds:?}");
    assert_eq!(outcomes[0].sessions[0].episodes.len(), 3);
}

/// The network task of a peer answers while its game stands still.
#[test]
fn a_game_that_stands_still_for_400_ms_and_3_s_is_no_fault_of_its_path() {
    let server = server();
    let config = config(&server.url()).frame_limit(480);
    let stands_still = RealPeer {
        hitches: vec![
            (60, Duration::from_millis(400)),
            (240, Duration::from_secs(3)),
        ],
        ..RealPeer::default()
    };
    let outcomes = play_real(&config, vec![RealPeer::default(), stands_still]);
    server.shutdown();
    for file in agreed(&outcomes, 1).concat() {
        let quality = &file.quality;
        assert_eq!(quality.p2p_fallback_triggered, Some(false));
        assert_eq!(file.connection.route_type, Some(Via::Direct));
        // Of 11.4 s.
        let both = quality.both_paths_ms.unwrap();
        assert!(
            both <= 570.0 || disturbed(&outcomes),
            "{both} ms on both paths"
        );
    }
    let stalls = &outcomes[0].episodes[0].frames.stalls;
    let longest = stalls.iter().max_by_key(|stall| stall.ticks).unwrap();
    assert!(longest.ticks > 120, "it waited: {longest:?}");
    assert_eq!(longest.cause, Cause::PeerStall);
}

#[test]
fn a_player_who_quits_is_reported_within_5_seconds() {
    let server = server();
    let config = config(&server.url()).frame_limit(2_000);
    let quitter = RealPeer {
        quit_at: Some(60),
        ..RealPeer::default()
    };
    let outcomes = play_real(&config, vec![RealPeer::default(), quitter]);
    server.shutdown();
    let [stays, left] = outcomes.as_slice() else {
        panic!("two peers");
    };
    assert_eq!(stays.phase, SessionPhase::Failed);
    let failure = stays.failure.as_deref().unwrap();
    assert!(failure.contains("is gone"), "{failure}");
    let after = stays.stopped.saturating_duration_since(left.stopped);
    assert!(after < Duration::from_secs(5), "noticed after {after:?}");
    for (outcome, reason) in [(stays, EndReason::PeerLeft), (left, EndReason::LocalQuit)] {
        let [episode] = outcome.episodes.as_slice() else {
            panic!("one partial file, not {}", outcome.episodes.len());
        };
        assert!(episode.episode.is_partial);
        assert_eq!(episode.episode.end_reason, Some(reason));
        assert_eq!(check_episode(episode), []);
    }
    assert_pairs_agree(&[&stays.episodes[0], &left.episodes[0]]);
}

/// Starts an unmodified `matchbox_signaling` server, which runs until the test process ends.
fn stock_server() -> SocketAddr {
    let mut server =
        matchbox_signaling::SignalingServer::full_mesh_builder((Ipv4Addr::LOCALHOST, 0)).build();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(async move {
                sender.send(server.bind().unwrap()).unwrap();
                server.serve().await
            })
    });
    receiver.recv_timeout(Duration::from_secs(10)).unwrap()
}

#[test]
fn on_a_stock_server_the_match_is_played_without_a_relay() {
    let url = format!("ws://{}", stock_server());
    let config = config(&url).frame_limit(200);
    let outcomes = play_real(&config, vec![RealPeer::default(); 2]);
    let files = agreed(&outcomes, 1).concat();
    for file in &files {
        assert_eq!(file.episode.end_frame, 200);
    }
    clocks_are_known(&files);
    for outcome in &outcomes {
        assert_eq!(
            outcome.no_relay_events, 1,
            "one event reports that there is no relay"
        );
        assert_eq!(outcome.relay, Some(false));
        assert_eq!(outcome.relayed_game_packets, 0);
        for state in [
            RouteState::Provisional,
            RouteState::Relay,
            RouteState::Survival,
        ] {
            assert_eq!(outcome.changes_to(state), [], "no route fails over");
        }
        let episode = &outcome.episodes[0];
        assert_eq!(episode.quality.p2p_fallback_triggered, Some(false));
        assert_eq!(episode.inputs.sent_via_relay, Some(0));
        assert_eq!(episode.inputs.sent_via_both, Some(0));
    }
}

/// Both peers read the machine's clock, so what they measured of each other's can be judged. A stock
/// server answers no clock requests: the packets between them are all there is.
fn clocks_are_known(files: &[&EpisodeDocument]) {
    let &[first, second] = files else {
        panic!("two files");
    };
    for (own, other) in [(first, second), (second, first)] {
        let [clock] = own.clock.peers.as_slice() else {
            panic!("one other peer");
        };
        let origin = |file: &EpisodeDocument| file.clock.origin_unix_us.unwrap().cast_signed();
        let actual = origin(own) - origin(other);
        let off = clock.offset_us.unwrap().abs_diff(actual);
        let stated = clock.uncertainty_us.unwrap();
        println!("{off} us off, stated within {stated} us");
        assert!(off <= stated, "{off} us off, stated within {stated} us");
    }
}
