//! A player leaves a match, and the others go on.

use super::*;

#[test]
fn a_peer_that_leaves_the_room_is_reported_at_once() {
    let network = VirtualNetwork::new(2, true);
    let mut peers = playing(&network, 2);
    let quitter = peers.pop().unwrap();
    drop(quitter);
    // The notice waits until ggrs can disconnect the player.
    run_until(&mut peers, frame(60), 10, |_| false);
    let [
        PeerNotice::Gone {
            player: 1, reason, ..
        },
    ] = received(&peers[0]).notices[..]
    else {
        panic!("one notice: {:?}", received(&peers[0]).notices);
    };
    assert_eq!(reason, "it left");
    assert!(
        received(&peers[0]).failures.is_empty(),
        "the game decides whether the match goes on"
    );
    assert_eq!(session(&peers[0]).current_state(), SessionState::Running);
    assert!(!room(&peers[0]).ready(), "no next session can start");

    stop(&mut peers[0]);
    let net = peers[0].app.world().resource::<LabNet>().clone();
    peers[0].app.world_mut().remove_resource::<LabRoom>();
    peers[0].step(frame(60));
    let world = peers[0].app.world();
    assert!(
        !world.contains_resource::<LabNet>(),
        "nothing is left of the room"
    );
    assert!(!world.contains_resource::<SessionInfo>());
    assert!(network.closed(0));
    drop(net);
}

/// Disconnects every player whose departure was reported since the last call, as a game does.
fn disconnect_gone(peer: &mut LabPeer, known: &mut usize) {
    let gone: Vec<usize> = received(peer).notices[*known..]
        .iter()
        .filter_map(|notice| match notice {
            PeerNotice::Gone { player, .. } => Some(*player),
            _ => None,
        })
        .collect();
    *known = received(peer).notices.len();
    let mut session = peer.app.world_mut().resource_mut::<Session<TestConfig>>();
    let Session::P2P(session) = &mut *session else {
        unreachable!("the games of this file are P2P");
    };
    for player in gone {
        // An error means that another peer's report came first.
        session.disconnect_player(player).ok();
    }
}

/// The rest of a room after one player is gone: each goes on, and all simulate the same.
fn assert_goes_on(peers: &mut [LabPeer], what: &str) {
    let before = peers.iter().map(LabPeer::frame).max().unwrap();
    let goes_on = run_until(peers, frame(60), 200, |peers| {
        peers.iter().all(|peer| peer.frame() >= before + 100)
    });
    let frames: Vec<_> = peers.iter().map(LabPeer::frame).collect();
    assert!(goes_on, "{what}: {before} to {frames:?}");
    for peer in peers.iter() {
        let desyncs = &received(peer).desyncs;
        assert!(desyncs.is_empty(), "{what}: {desyncs:?}");
        let failures = &received(peer).failures;
        assert!(failures.is_empty(), "{what}: {failures:?}");
    }
}

#[test]
fn survivors_go_on_when_a_player_leaves_whether_their_games_disconnect_it_or_one_does() {
    for players in [2, 3, 4] {
        for phase in 0..6 {
            for who in ["all", "the first"] {
                let what = format!("{players} players, {phase} updates later, {who}");
                let network = VirtualNetwork::new(players, true);
                let mut peers = playing(&network, players);
                run_until(&mut peers, frame(60), phase, |_| false);
                // Some have stepped since the one who leaves, some have not.
                for peer in peers.iter_mut().take(phase % players) {
                    peer.step(frame(60));
                }
                drop(peers.pop());
                let mut known = vec![0; peers.len()];
                for _ in 0..90 {
                    for (number, peer) in peers.iter_mut().enumerate() {
                        peer.step(frame(60));
                        if who == "all" || number == 0 {
                            disconnect_gone(peer, &mut known[number]);
                        }
                    }
                }
                for peer in &peers {
                    let gone = received(peer).notices.iter().filter(|notice| {
                        matches!(notice, PeerNotice::Gone { player, .. } if *player == players - 1)
                    });
                    assert_eq!(gone.count(), 1, "{what}");
                }
                assert_goes_on(&mut peers, &what);
            }
        }
    }
}

/// Inputs of the player who leaves that only one survivor got reach the other one too.
#[test]
fn survivors_agree_on_the_last_inputs_of_a_player_whose_last_packets_were_lost() {
    for lost in [1, 3, 6] {
        let network = VirtualNetwork::new(3, true);
        let mut peers = playing(&network, 3);
        network.faults(|faults| {
            faults.cut_between = Some([1, 2]);
            faults.relay_dead = true;
        });
        run_until(&mut peers, frame(60), lost, |_| false);
        // Its farewell reaches one of them, and the server reports it to the other.
        drop(peers.pop());
        network.faults(|faults| (faults.cut_between, faults.relay_dead) = (None, false));
        network.emit(1, NetEvent::Notice(Notice::PeerGone { slot: 2 }));
        let mut known = [0; 2];
        for _ in 0..150 {
            for (number, peer) in peers.iter_mut().enumerate() {
                peer.step(frame(60));
                disconnect_gone(peer, &mut known[number]);
            }
        }
        assert_goes_on(&mut peers, &format!("{lost} packets lost"));
    }
}

/// ggrs's own time-out runs by the wall clock.
#[test]
fn survivors_go_on_when_ggrs_times_a_silent_player_out() {
    let network = VirtualNetwork::new(3, true);
    let mut peers: Vec<_> = (1..=3).map(|seed| own_peer(&network, 3, seed)).collect();
    meet(&mut peers);
    for peer in &mut peers {
        start_with(peer, |builder| {
            builder.with_disconnect_timeout(Duration::from_millis(400))
        });
    }
    until_frame(&mut peers, 60);
    // It is there and takes no more step.
    let frozen = peers.pop();
    let before = peers[0].frame();
    let limit = Instant::now() + Duration::from_secs(30);
    while peers[0].frame() < before + 60 && Instant::now() < limit {
        run_until(&mut peers, frame(60), 1, |_| false);
    }
    assert_goes_on(&mut peers, "ggrs's time-out");
    drop(frozen);
}
