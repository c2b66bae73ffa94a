//! How a lab session ends when a peer ends late, at another frame, or not at all.

use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bevy::prelude::*;
use bevy::state::app::StatesPlugin;
use bevy_ggrs::{GgrsConfig, GgrsSchedule, RollbackFrameCount, Session};
use bevy_matchbox::matchbox_socket::{CandidatePair, PeerId};
use bevy_rollback_lab::LabNet;
use bevy_rollback_lab::clock::LabClock;
use bevy_rollback_lab::internals::config::link_settings;
use bevy_rollback_lab::internals::sink::{RecordSink, Storage};
use bevy_rollback_lab::internals::transport::network::{NetEvent, Network, Received};
use bevy_rollback_lab::prelude::*;
use bevy_rollback_lab::record::{EpisodeDocument, SyncStatus};
use bevy_rollback_lab::session::SessionError;
use rollback_lab_link::conditions::Conditions;
use rollback_lab_link::link::{IDLE_EPOCH, SendFailed};
use rollback_lab_link::wire::{DatagramKind, Header, Path};
use rollback_lab_record::EndReason;
use rollback_lab_test_kit::lab::{
    LabPeer, TestConfig, VirtualNetwork, frame, lab_peer, play, run_until,
};

fn config() -> LabConfig {
    LabConfig::new("ws://lab", "room")
        .frame_limit(300)
        .episodes(1)
        .no_files()
}

fn pair(network: &VirtualNetwork, config: impl Fn() -> LabConfig) -> Vec<LabPeer> {
    vec![
        lab_peer(network, config(), 1),
        lab_peer(network, config(), 2),
    ]
}

/// Updates at 60 Hz in so many seconds.
fn seconds(seconds: usize) -> usize {
    seconds * 60
}

fn until_frame(peers: &mut [LabPeer], at: i32) {
    let reached = run_until(peers, frame(60), 2_000, |peers| {
        peers.iter().all(|peer| peer.frame() >= at)
    });
    assert!(reached, "all peers play frame {at}");
}

fn failure(peer: &LabPeer) -> Option<SessionError> {
    let session = peer.app.world().resource::<LabSession<TestConfig>>();
    session.failure().cloned()
}

fn end_reason(peer: &LabPeer) -> Option<EndReason> {
    let [session] = &peer.sessions()[..] else {
        panic!("one session document");
    };
    session.end_reason.clone()
}

fn score_at_200(frame: Res<RollbackFrameCount>, mut episode: ResMut<Episode>) {
    if frame.0 >= 200 {
        episode.end("goal");
    }
}

/// The game of the other one stands still, and its network task answers: the second in which this one
/// fails, within `limit`.
fn fails_after(one: &mut LabPeer, other: &LabPeer, limit: usize) -> Option<usize> {
    let net = other.app.world().resource::<LabNet>();
    (0..seconds(limit)).find_map(|update| {
        other.clock.advance(frame(60));
        net.run_network();
        one.step(frame(60));
        (one.phase() == SessionPhase::Failed).then_some(update / 60)
    })
}

#[test]
fn a_peer_that_is_there_and_does_not_reach_the_end_is_named_after_45_seconds() {
    let network = VirtualNetwork::new(2, true);
    let mut peers = pair(&network, || config().episodes(2));
    until_frame(&mut peers, 299);
    let [mut one, other]: [LabPeer; 2] = peers.try_into().ok().unwrap();
    let failed_after = fails_after(&mut one, &other, 60);
    assert_eq!(failed_after, Some(45));
    let Some(SessionError::NoAnswer { waited, .. }) = failure(&one) else {
        panic!("{:?}", failure(&one));
    };
    assert_eq!(waited.as_secs(), 45);
    let [episode] = &one.episodes()[..] else {
        panic!("the file of the episode");
    };
    assert_eq!(episode.sync.status, SyncStatus::ConfirmedOnly);
}

#[test]
fn a_player_whose_game_stands_still_is_waited_for_five_minutes() {
    let network = VirtualNetwork::new(2, true);
    let mut peers = pair(&network, config);
    until_frame(&mut peers, 100);
    let [mut one, other]: [LabPeer; 2] = peers.try_into().ok().unwrap();
    let failed_after = fails_after(&mut one, &other, 330);
    assert_eq!(failed_after, Some(300));
    let error = failure(&one).unwrap();
    assert!(
        matches!(error, SessionError::GameStandsStill { player: 1, .. }),
        "{error}"
    );
    assert_eq!(end_reason(&one), Some(EndReason::PeerLeft));
    let [episode] = &one.episodes()[..] else {
        panic!("the file of the episode");
    };
    assert!(episode.episode.is_partial);
    assert!(!episode.frames.stalls.is_empty(), "with its last stall");
}

#[test]
fn an_end_on_one_peer_only_is_a_desync_and_both_sessions_fail() {
    let network = VirtualNetwork::new(2, true);
    let mut peers = pair(&network, || config().episodes(2));
    peers[0].app.add_systems(GgrsSchedule, score_at_200);
    let over = run_until(&mut peers, frame(60), seconds(15), |peers| {
        peers
            .iter()
            .all(|peer| peer.phase() == SessionPhase::Failed)
    });
    let phases: Vec<_> = peers.iter().map(LabPeer::phase).collect();
    assert!(over, "both sessions fail, phases are {phases:?}");
    run_until(&mut peers, frame(60), 5, |_| false);
    let end = peers[0].episodes()[0].episode.end_frame;
    assert_eq!(
        failure(&peers[1]),
        Some(SessionError::Desync { frame: end })
    );
    assert_eq!(end_reason(&peers[1]), Some(EndReason::Desync));
    let cut = &peers[1].episodes()[0].episode;
    assert_eq!(cut.end_reason, Some(EndReason::Desync));
    assert_eq!((cut.end_frame, cut.is_partial), (end, true));
    assert!(matches!(
        failure(&peers[0]),
        Some(SessionError::PeerGone { player: 1, .. })
    ));
}

#[test]
fn a_peer_that_stalled_just_before_the_end_still_reaches_it() {
    let network = VirtualNetwork::new(2, true);
    let mut peers = pair(&network, config);
    until_frame(&mut peers, 292);
    // From now on the second peer receives nothing, and the first one everything.
    network.faults(|faults| {
        faults.cut_from_first = true;
        faults.relay_dead = true;
    });
    let ended = run_until(&mut peers, frame(60), 60, |peers| {
        peers[0].phase() == SessionPhase::Ending
    });
    assert!(ended, "the first peer has all inputs");
    run_until(&mut peers, frame(60), seconds(12), |_| false);
    assert_eq!(
        peers[0].episodes().len(),
        1,
        "its file waits for ten seconds, and no longer"
    );
    assert_eq!(peers[0].phase(), SessionPhase::Ending);
    assert_eq!(peers[1].phase(), SessionPhase::Playing);
    network.faults(|faults| {
        faults.cut_from_first = false;
        faults.relay_dead = false;
    });
    let documents = play(&mut peers, frame(60), seconds(5));
    assert_eq!(documents[0][0].sync.status, SyncStatus::ConfirmedOnly);
    assert_eq!(documents[1][0].sync.status, SyncStatus::Verified);
    assert_eq!(documents[1][0].episode.end_frame, 300);
}

/// Every version of a file that was stored, oldest first.
#[derive(Clone, Default)]
struct Versions(Arc<Mutex<Vec<EpisodeDocument>>>);

impl Storage for Versions {
    fn store(&mut self, path: &FilePath, bytes: &[u8]) -> std::io::Result<PathBuf> {
        let text = std::str::from_utf8(bytes).expect("files are text");
        if let Ok(document) = EpisodeDocument::parse(text) {
            self.0.lock().expect("no thread panicked").push(document);
        }
        Ok(path.to_owned())
    }
}

#[test]
fn the_file_is_written_before_the_others_report_their_end_and_completed_afterwards() {
    let network = VirtualNetwork::new(2, true);
    let mut peers = pair(&network, config);
    let versions = Versions::default();
    let emitted = Arc::new(Mutex::new(Vec::new()));
    let sink = RecordSink::with_storage(Box::new(versions.clone())).unwrap();
    peers[0].app.insert_resource(sink).add_observer({
        let emitted = emitted.clone();
        move |ended: On<EpisodeEnded>| emitted.lock().unwrap().push(ended.document.sync.status)
    });
    until_frame(&mut peers, 292);
    network.faults(|faults| {
        faults.cut_from_first = true;
        faults.relay_dead = true;
    });
    run_until(&mut peers, frame(60), seconds(3), |_| false);
    assert_eq!(peers[0].phase(), SessionPhase::Ending);
    let flush = |peer: &mut LabPeer| {
        let mut sink = peer.app.world_mut().resource_mut::<RecordSink>();
        assert!(sink.flush(Duration::from_secs(20)).is_empty());
    };
    flush(&mut peers[0]);
    let stored = versions.0.lock().unwrap().clone();
    let [early] = &stored[..] else {
        panic!("one file while the other peer has not reported its end");
    };
    assert_eq!(early.sync.status, SyncStatus::ConfirmedOnly);
    assert_eq!(
        (early.episode.end_frame, early.episode.is_partial),
        (300, false)
    );
    assert_eq!(
        emitted.lock().unwrap()[..],
        [],
        "the event is not emitted before the file is complete"
    );
    network.faults(|faults| {
        faults.cut_from_first = false;
        faults.relay_dead = false;
    });
    let complete = run_until(&mut peers, frame(60), seconds(5), |_| {
        !emitted.lock().unwrap().is_empty()
    });
    assert!(complete);
    assert_eq!(emitted.lock().unwrap()[..], [SyncStatus::Verified]);
    let last = versions.0.lock().unwrap().pop().unwrap();
    assert_eq!(last.sync.status, SyncStatus::Verified);
}

#[test]
fn a_peer_that_vanishes_is_given_up_after_35_seconds_of_silence() {
    let network = VirtualNetwork::new(2, true);
    let mut peers = pair(&network, config);
    until_frame(&mut peers, 100);
    peers.truncate(1);
    run_until(&mut peers, frame(60), seconds(34), |_| false);
    assert_eq!(peers[0].phase(), SessionPhase::Playing, "it may come back");
    run_until(&mut peers, frame(60), seconds(2), |_| false);
    assert_eq!(peers[0].phase(), SessionPhase::Failed);
    assert_eq!(
        failure(&peers[0]).unwrap().to_string(),
        "player 1 is gone: nothing came from it for 35 s"
    );
    assert_eq!(end_reason(&peers[0]), Some(EndReason::PeerLeft));
}

#[test]
fn a_peer_that_vanishes_at_the_start_barrier_is_taken_off() {
    let network = VirtualNetwork::new(2, true);
    let mut peers = vec![
        lab_peer(&network, config(), 1),
        lab_peer(&network, config().auto_start(false), 2),
    ];
    let waiting = run_until(&mut peers, frame(60), 300, |peers| {
        peers[0].phase() == SessionPhase::Starting && peers[1].phase() == SessionPhase::Between
    });
    assert!(waiting);
    peers.truncate(1);
    let off = run_until(&mut peers, frame(60), seconds(36), |peers| {
        peers[0].phase() == SessionPhase::Gathering
    });
    assert!(off, "silence counts without a ggrs session too");
    network.captured();
    run_until(&mut peers, frame(60), seconds(1), |_| false);
    let epochs: Vec<_> = network
        .captured()
        .iter()
        .map(|datagram| Header::decode(&datagram.bytes).unwrap().0.epoch)
        .collect();
    assert!(!epochs.is_empty(), "the link lives on");
    assert!(
        epochs.iter().all(|epoch| *epoch == IDLE_EPOCH),
        "no episode is open any longer: {epochs:?}"
    );
    assert!(
        !peers[0]
            .app
            .world()
            .contains_resource::<Session<TestConfig>>()
    );
}

#[test]
fn a_peer_that_joins_and_sends_no_hello_is_named_when_the_wait_is_over() {
    let network = VirtualNetwork::new(2, true);
    let mut peers = pair(&network, config);
    // The second one is in the room and does not run.
    let silent = peers.pop();
    run_until(&mut peers, frame(60), seconds(31), |_| false);
    assert_eq!(peers[0].phase(), SessionPhase::Gathering);
    let failed = run_until(&mut peers, frame(60), seconds(90), |peers| {
        peers[0].phase() == SessionPhase::Failed
    });
    assert!(failed);
    drop(silent);
    assert_eq!(
        failure(&peers[0]).unwrap().to_string(),
        "player 1 did not answer within 30s"
    );
    run_until(&mut peers, frame(60), 5, |_| false);
    assert_eq!(end_reason(&peers[0]), Some(EndReason::NeverConnected));
}

/// A server that accepts the connection and sends nothing.
pub(crate) struct SilentServer;

impl Network for SilentServer {
    fn poll_events(&mut self, _: &mut Vec<NetEvent>) {}

    fn send(&mut self, _: Path, _: PeerId, _: DatagramKind, _: &[u8]) -> Result<(), SendFailed> {
        Err(SendFailed)
    }

    fn receive(&mut self, _: Duration, _: &mut dyn FnMut(Received<'_>)) {}

    fn candidate_pair(&self, _: PeerId) -> Option<CandidatePair> {
        None
    }

    fn close(&mut self) {}
}

#[test]
fn a_server_that_sends_nothing_is_given_up_after_20_seconds() {
    let clock = LabClock::manual(1_700_000_000_000);
    // An app that takes a minute to start has not waited for the server yet.
    clock.advance(Duration::from_secs(60));
    let settings = link_settings(&config());
    let net = LabNet::new(
        SilentServer,
        clock.clone(),
        settings,
        &Conditions::default(),
        1,
    );
    let mut app = App::new();
    app.insert_resource(clock.clone()).insert_resource(net);
    rollback_lab_test_kit::lab::add_game(&mut app, config(), 1);
    app.finish();
    app.cleanup();
    let mut peers = vec![LabPeer { app, clock }];
    run_until(&mut peers, frame(60), seconds(19), |_| false);
    assert_eq!(peers[0].phase(), SessionPhase::Connecting);
    run_until(&mut peers, frame(60), seconds(2), |_| false);
    let error = failure(&peers[0]).unwrap();
    assert!(matches!(error, SessionError::ServerUnreachable { .. }));
    assert_eq!(
        error.to_string(),
        "the server of room room did not assign an id within 20s; \
         is `rollback-lab serve` running there?"
    );
    assert_eq!(end_reason(&peers[0]), Some(EndReason::ServerLost));
}

/// The phases of the session in which observers ran.
#[derive(Resource, Default)]
struct Seen(Vec<(&'static str, SessionPhase)>);

#[test]
fn observers_of_the_session_may_read_it_and_trigger_readiness() {
    let network = VirtualNetwork::new(2, true);
    let mut peers = pair(&network, || config().frame_limit(60));
    type Session = LabSession<TestConfig>;
    peers[0]
        .app
        .init_resource::<Seen>()
        .add_observer(
            |_: On<EpisodeStarting>,
             session: Res<Session>,
             mut seen: ResMut<Seen>,
             mut commands: Commands| {
                seen.0.push(("starting", session.phase()));
                commands.trigger(ReadyForEpisode);
            },
        )
        .add_observer(
            |_: On<EpisodeStarted>, session: Res<Session>, mut seen: ResMut<Seen>| {
                seen.0.push(("started", session.phase()));
            },
        )
        .add_observer(
            |failed: On<SessionFailed>, session: Res<Session>, mut seen: ResMut<Seen>| {
                assert_eq!(session.failure(), Some(&failed.error));
                seen.0.push(("failed", session.phase()));
            },
        );
    until_frame(&mut peers, 30);
    peers[1].app.world_mut().write_message(AppExit::Success);
    peers[1].step(frame(60));
    peers.truncate(1);
    let failed = run_until(&mut peers, frame(60), 30, |peers| {
        peers[0].phase() == SessionPhase::Failed
    });
    assert!(failed);
    assert_eq!(
        peers[0].app.world().resource::<Seen>().0,
        [
            ("starting", SessionPhase::Starting),
            ("started", SessionPhase::Playing),
            ("failed", SessionPhase::Failed),
        ]
    );
}

#[test]
fn leaving_waits_until_the_leave_message_is_acknowledged() {
    let network = VirtualNetwork::new(2, true);
    let mut peers = pair(&network, || config().frame_limit(60));
    let done = |peers: &[LabPeer]| {
        let leaving = |peer: &LabPeer| peer.phase() == SessionPhase::Leaving;
        peers.iter().position(leaving)
    };
    let finished = run_until(&mut peers, frame(60), 2_000, |peers| done(peers).is_some());
    assert!(finished);
    let first = done(&peers).unwrap();
    // The leave message is lost for a second.
    let blackhole = |network: &VirtualNetwork, on| {
        network.faults(|faults| {
            faults.cut_from_first = on;
            faults.cut_from_others = on;
            faults.relay_dead = on;
        });
    };
    blackhole(&network, true);
    run_until(&mut peers, frame(60), seconds(1), |_| false);
    assert!(
        !network.closed(first),
        "its leave message is not acknowledged"
    );
    assert_eq!(peers[first].phase(), SessionPhase::Leaving);
    blackhole(&network, false);
    run_until(&mut peers, frame(60), seconds(3), |_| false);
    assert!(network.closed(0) && network.closed(1));
    for peer in &peers {
        assert_eq!(peer.phase(), SessionPhase::Finished);
    }
}

/// The updates in which both peers are over, from the first one that leaves.
fn updates_of_leaving(peers: &mut [LabPeer]) -> usize {
    let is_leaving = |peer: &LabPeer| peer.phase() == SessionPhase::Leaving;
    let leaves = run_until(peers, frame(60), 2_000, |peers| {
        peers.iter().any(is_leaving)
    });
    assert!(leaves);
    let mut updates = 0;
    while peers
        .iter()
        .any(|peer| peer.phase() != SessionPhase::Finished)
    {
        updates += 1;
        assert!(updates < seconds(60), "both finish");
        run_until(peers, frame(60), 1, |_| false);
    }
    updates
}

#[test]
fn both_peers_of_a_delayed_network_leave_at_once() {
    for (seed, latency) in (0..12).flat_map(|seed| [(seed, 20), (seed, 60)]) {
        let network = VirtualNetwork::new(2, true);
        let conditions = format!("latency={latency}ms,jitter={latency}ms");
        let conditions = Conditions::parse(&conditions).unwrap();
        let config = || config().frame_limit(60).input_delay(2);
        let mut peers = vec![
            lab_peer(&network, config(), seed),
            lab_peer(&network, config(), seed + 100),
        ];
        for peer in &peers {
            let net = peer.app.world().resource::<LabNet>();
            net.set_conditions(&conditions);
        }
        let updates = updates_of_leaving(&mut peers);
        assert!(updates < seconds(1), "{latency} ms: {updates} updates");
    }
}

#[test]
fn who_has_left_the_room_is_not_waited_for() {
    let network = VirtualNetwork::new(2, true);
    let mut peers = pair(&network, || config().frame_limit(60));
    until_frame(&mut peers, 1);
    let is_between = |peer: &LabPeer| peer.phase() == SessionPhase::Between;
    let first = run_until(&mut peers, frame(60), 2_000, |peers| is_between(&peers[0]));
    assert!(first, "it has the end of the episode and has not left yet");
    // Everything that is still sent is lost, and the second one leaves the room.
    network.faults(|faults| {
        faults.cut_from_first = true;
        faults.cut_from_others = true;
        faults.relay_dead = true;
    });
    let [mut first, second]: [LabPeer; 2] = peers.try_into().ok().unwrap();
    drop(second);
    network.unlist(1);
    let mut updates = 0;
    while first.phase() != SessionPhase::Finished {
        updates += 1;
        assert!(updates < seconds(60), "it finishes");
        run_until(std::slice::from_mut(&mut first), frame(60), 1, |_| false);
    }
    assert!(updates < seconds(2), "{updates} updates");
}

/// An input that is larger than a datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
struct LargeInput([[u64; 16]; 16]);

#[test]
fn an_input_larger_than_a_datagram_is_refused_when_the_plugin_is_added() {
    let refused = std::panic::catch_unwind(|| {
        App::new()
            .add_plugins((MinimalPlugins, StatesPlugin))
            .add_plugins(RollbackLabPlugins::<GgrsConfig<LargeInput, PeerId>>::new(
                config(),
            ));
    })
    .expect_err("the plugin refuses the input");
    let text = refused.downcast_ref::<String>().unwrap();
    assert!(
        text.contains("one serialized input has 2048 bytes"),
        "{text}"
    );
    assert!(text.contains("fit into a datagram"), "{text}");
}

#[test]
fn a_route_change_is_stamped_with_the_next_frame_to_simulate() {
    let network = VirtualNetwork::new(2, true);
    let mut peers = pair(&network, config);
    until_frame(&mut peers, 100);
    peers[0].app.world().resource::<LabNet>().cut_direct();
    let mut checked = 0;
    for _ in 0..120 {
        let next = peers[0].frame();
        for peer in &mut peers {
            peer.step(frame(60));
        }
        let routes = peers[0].app.world().resource::<Messages<RouteChanged>>();
        for changed in routes.iter_current_update_messages() {
            assert_eq!(changed.frame, Some(next), "{:?}", changed.change);
            checked += 1;
        }
    }
    assert!(checked >= 2, "suspect and relay at least, not {checked}");
}
