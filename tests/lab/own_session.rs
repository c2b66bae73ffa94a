//! A game that builds its own ggrs sessions over a `LabRoom`: meeting, playing, failover, and the
//! errors that it gets.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test may fail like the test itself"
)]

use std::time::{Duration, Instant};

use bevy::prelude::*;
use bevy::time::TimeUpdateStrategy;
use bevy_ggrs::ggrs::{
    DesyncDetection, GgrsEvent, P2PSession, PlayerType, SessionBuilder, SessionState,
};
use bevy_ggrs::{GgrsPlugin, GgrsSchedule, Rollback, RollbackFrameCount, Session};
use bevy_matchbox::matchbox_socket::PeerId;
use bevy_rollback_lab::LabNet;
use bevy_rollback_lab::clock::LabClock;
use bevy_rollback_lab::internals::transport::network::NetEvent;
use bevy_rollback_lab::metrics::SessionMetrics;
use bevy_rollback_lab::prelude::*;
use bevy_rollback_lab::record::EpisodeDocument;
use bevy_rollback_lab::session::{PeerNotice, SessionError, StartError};
use rollback_lab_link::conditions::Conditions;
use rollback_lab_link::link::LinkSettings;
use rollback_lab_link::route::{RouteCause, RouteState};
use rollback_lab_link::wire::relay::Notice;
use rollback_lab_record::check::{check_episode, check_pair};

use rollback_lab_record::{EndReason, Via};
use rollback_lab_test_kit::lab::{
    Keys, LabPeer, TestConfig, VirtualNetwork, Walker, add_walkers, frame, lab_peer, run_until,
    spawn_walkers, walk,
};

mod before_the_match;
mod departures;
mod rematches;

/// Messages and errors that the game received.
#[derive(Resource, Default)]
struct Received {
    routes: Vec<RouteChanged>,
    notices: Vec<PeerNotice>,
    failures: Vec<SessionError>,
    desyncs: Vec<DesyncDetected>,
    /// What the game read from `session.events()`.
    events: Vec<GgrsEvent<TestConfig>>,
}

fn own_peer(network: &VirtualNetwork, players: usize, seed: u64) -> LabPeer {
    let clock = LabClock::manual(1_700_000_000_000 + seed);
    let net = network.net(&clock, LinkSettings::default(), seed);
    let mut app = App::new();
    app.insert_resource(clock.clone())
        .insert_resource(TimeUpdateStrategy::ManualDuration(Duration::ZERO))
        .insert_resource(LabRoom::over(net, "room", players))
        .init_resource::<Received>()
        .add_plugins((MinimalPlugins, GgrsPlugin::<TestConfig>::default()))
        .add_plugins(LabSocketPlugin::<TestConfig>::default())
        .add_plugins(RollbackObserverPlugins::<TestConfig>::in_memory())
        .add_observer(
            |failed: On<SessionFailed>, mut received: ResMut<Received>| {
                received.failures.push(failed.error.clone());
            },
        )
        .add_systems(Update, (receive, read_events));
    add_walkers(&mut app, seed);
    app.finish();
    app.cleanup();
    LabPeer { app, clock }
}

fn receive(
    mut received: ResMut<Received>,
    mut routes: MessageReader<RouteChanged>,
    mut notices: MessageReader<PeerNotice>,
    mut desyncs: MessageReader<DesyncDetected>,
) {
    received.routes.extend(routes.read().cloned());
    received.notices.extend(notices.read().cloned());
    received.desyncs.extend(desyncs.read().cloned());
}

/// As a game does that knows nothing of the observers.
fn read_events(session: Option<ResMut<Session<TestConfig>>>, mut received: ResMut<Received>) {
    if let Some(mut session) = session
        && let Session::P2P(session) = &mut *session
    {
        received.events.extend(session.events());
    }
}

fn received(peer: &LabPeer) -> &Received {
    peer.app.world().resource()
}

fn room(peer: &LabPeer) -> &LabRoom {
    peer.app.world().resource()
}

fn builder(players: Vec<PlayerType<PeerId>>) -> SessionBuilder<TestConfig> {
    let builder = SessionBuilder::<TestConfig>::new()
        .with_num_players(players.len())
        .unwrap()
        .with_input_delay(2)
        .with_desync_detection_mode(DesyncDetection::On { interval: 10 });
    players
        .into_iter()
        .enumerate()
        .fold(builder, |builder, (handle, player)| {
            builder.add_player(player, handle).unwrap()
        })
}

fn start(peer: &mut LabPeer) {
    start_with(peer, |builder| builder);
}

fn start_with(
    peer: &mut LabPeer,
    change: impl FnOnce(SessionBuilder<TestConfig>) -> SessionBuilder<TestConfig>,
) {
    let world = peer.app.world_mut();
    let mut room = world.resource_mut::<LabRoom>();
    let players = room.players();
    let count = players.len();
    let session = room.start_p2p_session(change(builder(players))).unwrap();
    world.insert_resource(Session::P2P(session));
    spawn_walkers(&mut world.commands(), count, 7);
    world.flush();
}

/// Ends a match as a game does: removes the session and despawns the entities.
fn stop(peer: &mut LabPeer) {
    let world = peer.app.world_mut();
    world.remove_resource::<Session<TestConfig>>();
    let mut rolled_back = world.query_filtered::<Entity, With<Rollback>>();
    let all: Vec<_> = rolled_back.iter(world).collect();
    for entity in all {
        world.despawn(entity);
    }
}

fn meet(peers: &mut [LabPeer]) {
    let ready = run_until(peers, frame(60), 600, |peers| {
        peers.iter().all(|peer| room(peer).ready())
    });
    assert!(ready, "all peers can be reached");
}

/// A room in which all peers have met and play.
fn playing(network: &VirtualNetwork, players: usize) -> Vec<LabPeer> {
    let mut peers: Vec<_> = (0..players)
        .map(|number| own_peer(network, players, number as u64 + 1))
        .collect();
    meet(&mut peers);
    peers.iter_mut().for_each(start);
    until_frame(&mut peers, 60);
    peers
}

fn session(peer: &LabPeer) -> &P2PSession<TestConfig> {
    match peer.app.world().resource::<Session<TestConfig>>() {
        Session::P2P(session) => session,
        _ => unreachable!("the games of this file are P2P"),
    }
}

fn until_frame(peers: &mut [LabPeer], at: i32) {
    let reached = run_until(peers, frame(60), 4_000, |peers| {
        peers.iter().all(|peer| peer.frame() >= at)
    });
    let frames: Vec<_> = peers.iter().map(LabPeer::frame).collect();
    assert!(reached, "all peers reach frame {at}, frames are {frames:?}");
}

/// Ends the recorded episode at the same frame on every peer; returns the files, which agree.
fn files(peers: &mut [LabPeer], end: i32) -> Vec<EpisodeDocument> {
    until_frame(peers, end + 20);
    for peer in peers.iter_mut() {
        let world = peer.app.world_mut();
        let mut metrics = world.resource_mut::<SessionMetrics<Keys>>();
        assert!(metrics.close(Some(end), Some(EndReason::FrameLimit), false));
        peer.step(frame(60));
    }
    let documents: Vec<_> = peers
        .iter()
        .map(|peer| peer.episodes().pop().expect("an ended episode has a file"))
        .collect();
    for (number, document) in documents.iter().enumerate() {
        assert_eq!(check_episode(document), []);
        assert!(!document.episode.is_partial);
        assert_eq!(document.sync.desyncs, []);
        for other in &documents[number + 1..] {
            assert_eq!(check_pair(document, other), []);
        }
    }
    documents
}

#[test]
fn a_games_own_session_fails_over_without_a_stall() {
    let network = VirtualNetwork::new(2, true);
    let mut peers = playing(&network, 2);
    for peer in &peers {
        let net = peer.app.world().resource::<LabNet>();
        let info = peer.app.world().resource::<SessionInfo>();
        let other = info.player_slots[1 - info.local_player].peer;
        assert!(net.p2p_healthy(other), "the match begins peer to peer");
    }
    assert_eq!(
        network.relayed_game().0,
        0,
        "the relay forwards nothing while the path is healthy"
    );
    let cut_at = peers[0].frame();
    network.faults(|faults| (faults.cut_from_first, faults.cut_from_others) = (true, true));
    let documents = files(&mut peers, 400);
    for document in &documents {
        assert_eq!(
            document.frames.stalled, 0,
            "no frame stalls: {:?}",
            document.frames
        );
        assert_eq!(document.frames.total, 400);
        let (quality, inputs) = (&document.quality, &document.inputs);
        assert_eq!(quality.p2p_fallback_triggered, Some(true));
        let states: Vec<_> = quality.route_changes.iter().map(|of| of.to).collect();
        assert_eq!(
            states,
            [RouteState::Suspect, RouteState::Relay],
            "the file records the failover"
        );
        assert!(inputs.sent_via_p2p > Some(0) && inputs.sent_via_relay > Some(0));
        assert_eq!(document.connection.route_type, Some(Via::Relay));
    }
    for peer in &peers {
        let to: Vec<_> = received(peer)
            .routes
            .iter()
            .map(|changed| changed.change.to)
            .collect();
        assert_eq!(
            to,
            [RouteState::Direct, RouteState::Suspect, RouteState::Relay],
            "the same route changes as in a lab session"
        );
        let at = received(peer).routes[2].frame.unwrap();
        assert!(
            (cut_at..cut_at + 60).contains(&at),
            "cut at {cut_at}, reported at {at}"
        );
    }
    let dead = peers.iter().filter(|peer| {
        let last = received(peer).routes.last().unwrap();
        last.change.cause == RouteCause::Dead
    });
    assert!(
        dead.count() >= 1,
        "one peer failed over by its own evidence"
    );
}

#[test]
fn every_peer_lists_the_players_in_the_same_order() {
    let network = VirtualNetwork::new(3, true);
    let mut peers: Vec<_> = (1..=3).map(|seed| own_peer(&network, 3, seed)).collect();
    assert_eq!(
        room(&peers[0]).players(),
        [],
        "no players until all are there"
    );
    meet(&mut peers);
    let named: Vec<Vec<PeerId>> = peers
        .iter()
        .map(|peer| {
            let own = room(peer).id().unwrap();
            let players = room(peer).players().into_iter();
            let named = players.map(|player| match player {
                PlayerType::Local => own,
                PlayerType::Remote(peer) => peer,
                PlayerType::Spectator(_) => unreachable!("there is no spectator"),
            });
            named.collect()
        })
        .collect();
    assert_eq!(named[0].len(), 3);
    assert!(named.iter().all(|names| *names == named[0]), "{named:?}");
    let ids: Vec<_> = peers
        .iter()
        .map(|peer| &peer.app.world().resource::<SessionInfo>().session_id)
        .collect();
    assert!(
        ids.iter().all(|id| *id == ids[0]),
        "one session id: {ids:?}"
    );
}

#[test]
fn three_players_agree_while_one_pair_has_no_direct_path() {
    let network = VirtualNetwork::new(3, true);
    let mut peers = playing(&network, 3);
    network.faults(|faults| faults.cut_from_first = true);
    let documents = files(&mut peers, 300);
    assert_eq!(documents.len(), 3);
}

#[test]
fn a_dropped_session_sends_no_game_packets_and_no_path_becomes_suspect() {
    let network = VirtualNetwork::new(2, true);
    let mut peers = playing(&network, 2);
    stop(&mut peers[1]);
    let before = peers[0].frame();
    run_until(&mut peers, frame(60), 300, |_| false);
    assert!(
        peers[0].frame() < before + 10,
        "the other peer waits for inputs"
    );
    network.captured();
    run_until(&mut peers, frame(60), 300, |_| false);
    let sent = network.captured();
    let from = |slot| sent.iter().filter(|packet| packet.from == slot).count();
    let (playing, done) = (from(0), from(1));
    assert!(
        playing >= 300,
        "a heartbeat in every tick of a running match: {playing}"
    );
    assert!(
        done < 150,
        "only probes and answers without a match: {done}"
    );
    for peer in &peers {
        let to: Vec<_> = received(peer)
            .routes
            .iter()
            .map(|changed| changed.change.to)
            .collect();
        assert_eq!(to, [RouteState::Direct], "no path becomes suspect");
    }
}

#[test]
fn on_a_stock_server_a_match_is_played_and_does_not_fail_over() {
    let network = VirtualNetwork::new(2, false);
    let mut peers = playing(&network, 2);
    for peer in &peers {
        assert!(!peer.app.world().resource::<SessionInfo>().relay);
    }
    network.faults(|faults| faults.cut_from_first = true);
    run_until(&mut peers, frame(60), 120, |_| false);
    assert_eq!(network.relayed_game().0, 0);
    for peer in &peers {
        let failed_over = received(peer)
            .routes
            .iter()
            .any(|changed| changed.change.to.failed_over());
        assert!(!failed_over, "there is no relay to fail over to");
    }
}

/// A planted fault: in one frame the state of one player is changed.
fn corrupt_state(frame: Res<RollbackFrameCount>, mut walkers: Query<&mut Walker>) {
    for mut walker in &mut walkers {
        if frame.0 == 124 && walker.player == 1 {
            walker.state ^= 1;
        }
    }
}

#[test]
fn a_desync_is_emitted_over_the_room_and_left_to_the_game_too() {
    for conditions in ["", "latency=40ms,jitter=20ms,loss=5%"] {
        let network = VirtualNetwork::new(2, true);
        let mut peers: Vec<_> = (1..=2).map(|seed| own_peer(&network, 2, seed)).collect();
        peers[1]
            .app
            .add_systems(GgrsSchedule, corrupt_state.after(walk));
        meet(&mut peers);
        let conditions = Conditions::parse(conditions).unwrap();
        peers.iter_mut().for_each(start);
        // The handshake repeats what is lost by the wall clock.
        until_frame(&mut peers, 60);
        for peer in &peers {
            let net = peer.app.world().resource::<LabNet>();
            net.set_conditions(&conditions);
        }
        until_frame(&mut peers, 300);
        for (number, peer) in peers.iter().enumerate() {
            let Received {
                desyncs, events, ..
            } = received(peer);
            let other = 1 - number;
            let seen: Vec<_> = desyncs
                .iter()
                .map(|desync| {
                    assert_eq!(desync.players, [other]);
                    (desync.frame, desync.local_checksum, desync.remote_checksum)
                })
                .collect();
            assert_eq!(seen[0].0, 130, "the first compared frame after the fault");
            let read: Vec<_> = events
                .iter()
                .filter_map(|event| match *event {
                    GgrsEvent::DesyncDetected {
                        frame,
                        local_checksum,
                        remote_checksum,
                        ..
                    } => Some((frame, local_checksum, remote_checksum)),
                    _ => None,
                })
                .collect();
            assert!(read.len() > 5, "{read:?}");
            // ggrs compares in batches; the newest ones may be still to come on either side.
            let both = seen.len().min(read.len());
            assert_eq!(seen[..both - 2], read[..both - 2]);
        }
    }
}

#[test]
fn a_room_whose_peer_has_a_longer_input_delay_than_the_rules_allow_says_so() {
    let text = refused_match(|builder| builder.with_max_prediction_window(60).with_input_delay(40));
    assert!(
        text.contains("inputs start at frame 40") && text.contains("at most 32"),
        "{text}"
    );
}

/// Starts a match of which the second peer's session differs; returns the error that the first gets.
fn refused_match(
    other: impl Fn(SessionBuilder<TestConfig>) -> SessionBuilder<TestConfig>,
) -> String {
    let network = VirtualNetwork::new(2, true);
    let mut peers = vec![own_peer(&network, 2, 1), own_peer(&network, 2, 2)];
    meet(&mut peers);
    start(&mut peers[0]);
    start_with(&mut peers[1], other);
    // ggrs repeats its packets by the wall clock.
    let limit = Instant::now() + Duration::from_secs(30);
    while received(&peers[0]).failures.is_empty() && Instant::now() < limit {
        run_until(&mut peers, frame(60), 1, |_| false);
    }
    let failures = &received(&peers[0]).failures;
    let [error] = &failures[..] else {
        panic!("one failure: {failures:?}");
    };
    assert!(matches!(
        error,
        SessionError::PacketsRefused { player: 1, .. }
    ));
    error.to_string()
}
