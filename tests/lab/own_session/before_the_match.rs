//! Rooms in which no match can begin, and players who leave before it does.

use super::*;

#[test]
fn a_session_with_other_players_is_refused_without_side_effects() {
    let network = VirtualNetwork::new(2, true);
    let mut peers = vec![own_peer(&network, 2, 1), own_peer(&network, 2, 2)];
    let world = peers[0].app.world_mut();
    let early = world
        .resource_mut::<LabRoom>()
        .start_p2p_session(builder(vec![PlayerType::Local]));
    let Err(error) = early else {
        panic!("no peer is there yet");
    };
    assert_eq!(
        error.to_string(),
        "room room is not ready: 0 of 2 players came, and all must be reachable"
    );
    meet(&mut peers);
    let mut players = room(&peers[0]).players();
    players.reverse();
    let spectated = room(&peers[0]).players().into_iter().enumerate().fold(
        SessionBuilder::<TestConfig>::new()
            .with_num_players(2)
            .unwrap(),
        |builder, (handle, player)| builder.add_player(player, handle).unwrap(),
    );
    let spectator = PlayerType::Spectator(rollback_lab_test_kit::lab::peer_id(9));
    let spectated = spectated.add_player(spectator, 2).unwrap();
    for wrong in [builder(players), spectated] {
        let world = peers[0].app.world_mut();
        let refused = world.resource_mut::<LabRoom>().start_p2p_session(wrong);
        let room = String::from("room");
        assert_eq!(refused.err(), Some(StartError::Players { room }));
    }
    peers.iter_mut().for_each(start);
    until_frame(&mut peers, 60);
}

#[test]
fn a_room_that_fails_gives_the_reason_and_starts_no_session() {
    let lost = NetEvent::ServerLost {
        reason: String::from("reset"),
    };
    let unreachable = NetEvent::Unreachable {
        error: String::from("server ws://lab cannot be reached after 3 attempts: refused"),
    };
    let full = NetEvent::Refused {
        code: 4001,
        reason: String::from("room is full"),
    };
    for (event, words) in [
        (
            lost,
            "connection to the server was lost before all players of room room had met",
        ),
        (unreachable, "is `rollback-lab serve` running there?"),
        (full, "server refused room room: room is full"),
    ] {
        let network = VirtualNetwork::new(2, true);
        let mut peer = own_peer(&network, 2, 1);
        peer.step(frame(60));
        network.emit(0, event);
        peer.step(frame(60));
        peer.step(frame(60));
        let failures = received(&peer).failures.clone();
        let [error] = &failures[..] else {
            panic!("one failure: {failures:?}");
        };
        assert!(error.to_string().contains(words), "{error}");
        let world = peer.app.world_mut();
        let mut room = world.resource_mut::<LabRoom>();
        assert_eq!(room.failure(), Some(error));
        assert!(!room.ready());
        let started = room.start_p2p_session(builder(vec![PlayerType::Local]));
        assert_eq!(started.err(), Some(StartError::Room(error.clone())));
    }
}

#[test]
fn a_peer_without_any_path_fails_the_room_before_the_match() {
    let network = VirtualNetwork::new(2, true);
    network.faults(|faults| (faults.no_direct, faults.relay_dead) = (true, true));
    let mut peers = vec![own_peer(&network, 2, 1), own_peer(&network, 2, 2)];
    let both_failed = run_until(&mut peers, frame(60), 60 * 20, |peers| {
        peers.iter().all(|peer| !received(peer).failures.is_empty())
    });
    assert!(both_failed);
    for peer in &peers {
        assert!(matches!(
            received(peer).failures[..],
            [SessionError::NoPath { .. }]
        ));
        assert!(!room(peer).ready());
    }
}

#[test]
fn who_leaves_before_the_first_session_makes_room_for_another_one() {
    // From the first update on to long after both are ready.
    for updates in [1, 2, 3, 5, 10, 30, 120] {
        let network = VirtualNetwork::new(2, true);
        let mut peers = vec![own_peer(&network, 2, 1), own_peer(&network, 2, 2)];
        run_until(&mut peers, frame(60), updates, |_| false);
        let had_met = !room(&peers[0]).players().is_empty();
        drop(peers.pop());
        run_until(&mut peers, frame(60), 30, |_| false);
        let Received {
            notices, failures, ..
        } = received(&peers[0]);
        assert!(failures.is_empty(), "{updates}: {failures:?}");
        let off = matches!(notices[..], [PeerNotice::TakenOff { player: 1, .. }]);
        assert_eq!(off, had_met, "{updates}: {notices:?}");
        assert!(!room(&peers[0]).ready());
        assert_eq!(room(&peers[0]).missing(), 1, "{updates}");

        peers.push(own_peer(&network, 2, 3));
        meet(&mut peers);
        peers.iter_mut().for_each(start);
        until_frame(&mut peers, 100);
        for peer in &peers {
            assert!(received(peer).failures.is_empty());
            assert!(received(peer).desyncs.is_empty());
        }
    }
}

#[test]
fn of_three_players_one_leaves_before_the_first_session() {
    for updates in [3, 30] {
        let network = VirtualNetwork::new(3, true);
        let mut peers: Vec<_> = (1..=3).map(|seed| own_peer(&network, 3, seed)).collect();
        run_until(&mut peers, frame(60), updates, |_| false);
        drop(peers.remove(1));
        run_until(&mut peers, frame(60), 30, |_| false);
        peers.push(own_peer(&network, 3, 4));
        meet(&mut peers);
        peers.iter_mut().for_each(start);
        until_frame(&mut peers, 100);
        for peer in &peers {
            assert!(received(peer).failures.is_empty());
        }
    }
}

#[test]
fn leaving_a_match_that_has_begun_fails_the_room_of_who_has_not_started() {
    let network = VirtualNetwork::new(3, true);
    let mut peers: Vec<_> = (1..=3).map(|seed| own_peer(&network, 3, seed)).collect();
    meet(&mut peers);
    // The first two start; the second one leaves before the third has started.
    peers[..2].iter_mut().for_each(start);
    run_until(&mut peers, frame(60), 30, |_| false);
    drop(peers.remove(1));
    run_until(&mut peers, frame(60), 30, |_| false);
    let failures = &received(&peers[1]).failures;
    assert!(
        matches!(failures[..], [SessionError::PeerGone { player: 1, .. }]),
        "{failures:?}"
    );
}

#[test]
fn a_lab_session_in_the_same_room_is_a_mismatch_of_the_plugin() {
    let network = VirtualNetwork::new(2, true);
    let config = LabConfig::new("ws://lab", "room").no_files();
    let mut peers = vec![own_peer(&network, 2, 1), lab_peer(&network, config, 2)];
    run_until(&mut peers, frame(60), 60, |_| false);
    let [error] = &received(&peers[0]).failures[..] else {
        panic!("one failure: {:?}", received(&peers[0]).failures);
    };
    assert_eq!(
        error.to_string(),
        "plugin differs: LabSocketPlugin here, RollbackLabPlugins at player 1; all peers must \
         agree on it"
    );
}
