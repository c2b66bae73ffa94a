//! Before the first frame a room is open: players who leave, sleep or never answer are taken off, the
//! others gather again, and what they wait for is shown.

use std::time::Duration;

use bevy::prelude::*;
use bevy_rollback_lab::prelude::*;
use bevy_rollback_lab::record::SyncStatus;
use bevy_rollback_lab::session::PeerNotice;
use rollback_lab_test_kit::lab::{
    LabPeer, TestConfig, VirtualNetwork, VirtualServer, checked, frame, lab_peer, menu_peer,
    run_until,
};

fn config() -> LabConfig {
    LabConfig::new("ws://lab", "room")
        .frame_limit(60)
        .episodes(1)
        .no_files()
}

/// Notices of peers that were taken off.
#[derive(Resource, Default)]
struct Off(Vec<(usize, &'static str)>);

fn peer(network: &VirtualNetwork, config: LabConfig, seed: u64) -> LabPeer {
    let mut peer = lab_peer(network, config, seed);
    peer.app.init_resource::<Off>().add_systems(
        Update,
        |mut notices: MessageReader<PeerNotice>, mut off: ResMut<Off>| {
            for notice in notices.read() {
                if let PeerNotice::TakenOff { player, reason, .. } = notice {
                    off.0.push((*player, reason));
                }
            }
        },
    );
    peer
}

fn off(peer: &LabPeer) -> &[(usize, &'static str)] {
    &peer.app.world().resource::<Off>().0
}

fn waiting(peer: &LabPeer) -> Option<&WaitingForPlayers> {
    peer.app.world().get_resource::<WaitingForPlayers>()
}

fn failure(peer: &LabPeer) -> Option<String> {
    let session = peer.app.world().resource::<LabSession<TestConfig>>();
    session.failure().map(ToString::to_string)
}

/// Plays to the end; every file is verified.
fn play(peers: &mut [LabPeer]) {
    let done = run_until(peers, frame(60), 6_000, |peers| {
        peers
            .iter()
            .all(|peer| peer.phase() == SessionPhase::Finished)
    });
    let phases: Vec<_> = peers.iter().map(LabPeer::phase).collect();
    let failures: Vec<_> = peers.iter().map(failure).collect();
    assert!(done, "phases are {phases:?}, failures {failures:?}");
    for episode in checked(peers).iter().flatten() {
        assert_eq!(episode.sync.status, SyncStatus::Verified);
        assert_eq!(episode.episode.end_frame, 60);
    }
}

#[test]
fn a_visitor_who_leaves_at_any_moment_before_the_first_frame_ends_no_wait() {
    for updates in 1..40 {
        let server = VirtualServer::default();
        let network = server.room("room", 2);
        let mut peers = vec![peer(&network, config(), 1), menu_peer(&server, 2)];
        run_until(&mut peers, frame(60), 10, |_| false);
        peers[1].trigger(JoinLab(config()));
        run_until(&mut peers, frame(60), updates, |_| false);
        if peers[1].phase() == SessionPhase::Playing || peers[0].phase() == SessionPhase::Playing {
            break;
        }
        peers[1].trigger(LeaveLab);
        let left = run_until(&mut peers, frame(60), 240, |peers| {
            peers[1].phase() == SessionPhase::Idle
        });
        assert!(left, "after {updates} updates: {:?}", peers[1].phase());
        if peers[0].phase() == SessionPhase::Failed {
            let cut = peers[0].episodes();
            assert_eq!(cut.len(), 1, "it had begun to play when the visitor left");
            break;
        }
        assert_eq!(
            peers[0].phase(),
            SessionPhase::Gathering,
            "after {updates} updates"
        );
        peers[1] = peer(&network, config(), 3);
        play(&mut peers);
        assert_eq!(
            peers[0].episodes().len(),
            1,
            "nothing is left of the first try"
        );
        assert_eq!(peers[0].sessions().len(), 1);
    }
}

#[test]
fn a_visitor_who_crashes_is_replaced_when_the_server_lists_it_no_longer() {
    for updates in [1, 3, 10, 30] {
        let network = VirtualNetwork::new(2, true);
        // It does not get ready: no frame is played before it is gone.
        let visitor = peer(&network, config().auto_start(false), 2);
        let mut peers = vec![visitor, peer(&network, config(), 1)];
        run_until(&mut peers, frame(60), updates, |_| false);
        let _crashed = peers.remove(0);
        network.unlist(0);
        run_until(&mut peers, frame(60), 5, |_| false);
        assert_eq!(peers[0].phase(), SessionPhase::Gathering);
        peers.push(peer(&network, config(), 4));
        play(&mut peers);
    }
}

#[test]
fn a_member_that_never_answers_is_taken_off_and_counts_again_when_it_wakes_up() {
    let network = VirtualNetwork::new(2, true);
    let mut peers = vec![peer(&network, config(), 1)];
    let sleeper = peer(&network, config(), 2);
    let again = run_until(&mut peers, frame(60), 31 * 60, |peers| {
        !off(&peers[0]).is_empty()
    });
    assert!(again);
    assert_eq!(off(&peers[0]), [(1, "it did not answer")]);
    assert_eq!(peers[0].phase(), SessionPhase::Gathering);
    run_until(&mut peers, frame(60), 60, |_| false);
    let shown = waiting(&peers[0]).unwrap();
    assert_eq!(
        (shown.present, shown.needed),
        (1, 2),
        "a member that sleeps is not present"
    );
    assert_eq!(
        shown.taken_off.as_deref(),
        Some("player 1 did not answer within 30s")
    );
    assert!(
        shown.waited >= Duration::from_secs(31),
        "{:?}",
        shown.waited
    );
    peers.push(sleeper);
    play(&mut peers);
}

#[test]
fn a_member_that_never_answers_does_not_prolong_the_wait() {
    let network = VirtualNetwork::new(2, true);
    let mut peers = vec![peer(
        &network,
        config().wait_timeout(Duration::from_secs(45)),
        1,
    )];
    let _sleeper = peer(&network, config(), 2);
    run_until(&mut peers, frame(60), 44 * 60, |_| false);
    assert_eq!(peers[0].phase(), SessionPhase::Gathering);
    run_until(&mut peers, frame(60), 2 * 60, |_| false);
    assert_eq!(peers[0].phase(), SessionPhase::Failed);
    assert_eq!(
        failure(&peers[0]).unwrap(),
        "player 1 did not answer within 30s"
    );
}

#[test]
fn three_gather_again_when_one_of_them_leaves_while_they_start() {
    let server = VirtualServer::default();
    let network = server.room("room", 3);
    let config = || config().players(3);
    let mut peers = vec![
        peer(&network, config(), 1),
        peer(&network, config(), 2),
        menu_peer(&server, 3),
    ];
    peers[2].trigger(JoinLab(config().auto_start(false)));
    let starting = run_until(&mut peers, frame(60), 600, |peers| {
        peers[..2]
            .iter()
            .all(|peer| peer.phase() == SessionPhase::Starting)
    });
    assert!(starting);
    run_until(&mut peers, frame(60), 30, |_| false);
    let shown = waiting(&peers[0]).unwrap();
    assert_eq!(shown.what, WaitingFor::Readiness);
    assert_eq!(
        (shown.present, shown.needed, &shown.missing[..]),
        (2, 3, &[2][..])
    );
    peers[2].trigger(LeaveLab);
    run_until(&mut peers, frame(60), 60, |_| false);
    for peer in &peers[..2] {
        assert_eq!(peer.phase(), SessionPhase::Gathering);
        assert_eq!(off(peer), [(2, "it left")]);
    }
    peers[2] = peer(&network, config(), 4);
    play(&mut peers);
}

#[test]
fn the_wait_for_players_is_shown_with_its_limit() {
    let network = VirtualNetwork::new(2, true);
    let mut peers = vec![peer(
        &network,
        config().wait_timeout(Duration::from_secs(20)),
        1,
    )];
    run_until(&mut peers, frame(60), 300, |_| false);
    let shown = waiting(&peers[0]).unwrap().clone();
    assert_eq!(shown.what, WaitingFor::Players);
    assert_eq!(
        (shown.present, shown.needed, &shown.missing[..]),
        (1, 2, &[][..])
    );
    assert_eq!(shown.limit, Some(Duration::from_secs(20)));
    assert_eq!(shown.taken_off, None);
    let waited = shown.waited.as_millis();
    assert!((4_900..=5_050).contains(&waited), "{waited} ms");
    peers.push(peer(&network, config(), 2));
    play(&mut peers);
    assert_eq!(waiting(&peers[0]), None);
}

#[test]
fn a_player_who_is_not_ready_is_named_and_can_be_left() {
    let server = VirtualServer::default();
    let mut peers = vec![menu_peer(&server, 1), menu_peer(&server, 2)];
    for peer in &mut peers {
        peer.trigger(JoinLab(config().auto_start(false)));
    }
    let between = run_until(&mut peers, frame(60), 600, |peers| {
        peers
            .iter()
            .all(|peer| peer.phase() == SessionPhase::Between)
    });
    assert!(between);
    peers[0].trigger(ReadyForEpisode);
    run_until(&mut peers, frame(60), 600, |_| false);
    let ours = waiting(&peers[0]).unwrap();
    assert_eq!(
        (ours.what, &ours.missing[..]),
        (WaitingFor::Readiness, &[1][..])
    );
    assert!(ours.waited >= Duration::from_secs(9), "{:?}", ours.waited);
    assert_eq!(ours.limit, None);
    let theirs = waiting(&peers[1]).unwrap();
    assert_eq!(
        (theirs.present, &theirs.missing[..]),
        (1, &[1][..]),
        "itself"
    );
    peers[0].trigger(LeaveLab);
    run_until(&mut peers, frame(60), 120, |_| false);
    assert_eq!(peers[0].phase(), SessionPhase::Idle);
    assert_eq!(peers[1].phase(), SessionPhase::Gathering);
}

#[test]
fn on_a_stock_server_a_closed_channel_takes_a_player_off() {
    let network = VirtualNetwork::new(2, false);
    let mut peers = vec![
        peer(&network, config(), 1),
        peer(&network, config().auto_start(false), 2),
    ];
    let starting = run_until(&mut peers, frame(60), 600, |peers| {
        peers[0].phase() == SessionPhase::Starting
    });
    assert!(starting);
    peers[1].app.world_mut().write_message(AppExit::Success);
    peers[1].step(frame(60));
    peers.truncate(1);
    run_until(&mut peers, frame(60), 60, |_| false);
    assert_eq!(peers[0].phase(), SessionPhase::Gathering);
    peers.push(peer(&network, config(), 3));
    play(&mut peers);
}
