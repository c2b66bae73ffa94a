//! The record of a game that is only observed: what ggrs exposes, and nothing else.
#![expect(clippy::unwrap_used, reason = "helpers of a test fail by panicking")]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use bevy::prelude::*;
use bevy_ggrs::ggrs::{DesyncDetection, Message as GgrsMessage, NonBlockingSocket};
use bevy_ggrs::prelude::{PlayerType, SessionBuilder};
use bevy_ggrs::{ConfirmedFrameCount, RollbackFrameCount, Session};
use bevy_rollback_lab::clock::LabClock;
use bevy_rollback_lab::internals::sink::RecordSink;
use bevy_rollback_lab::metrics::SessionMetrics;
use bevy_rollback_lab::record::{ActionRuns, EpisodeDocument};
use rollback_lab_record::EndReason;
use rollback_lab_record::check::check_episode;
use rollback_lab_test_kit::observed::{
    Duel, Oracle, PluginOutput, STEP, Settings, TestConfig, game_with, spectator,
};

const RECORDED: Settings = Settings {
    delay: std::time::Duration::from_millis(50),
    input_delay: 0,
    sparse: false,
    observed: true,
    read_events: true,
    recorded: true,
    spectated: false,
};

/// The files of an app, each without a broken invariant.
fn files(app: &App) -> Vec<EpisodeDocument> {
    let files = app.world().resource::<RecordSink>().files();
    let documents = files.values().map(|bytes| {
        let document = EpisodeDocument::parse(str::from_utf8(bytes).unwrap()).unwrap();
        assert_eq!(check_episode(&document), []);
        document
    });
    documents.collect()
}

fn remove_session(app: &mut App) {
    app.world_mut().remove_resource::<Session<TestConfig>>();
}

#[test]
fn an_observed_game_records_its_prediction_window_and_no_input_delay() {
    let mut duel = Duel::new(Settings {
        input_delay: 2,
        ..RECORDED
    });
    duel.until_confirmed(200);
    remove_session(&mut duel.apps[0]);
    duel.step();
    let documents = files(&duel.apps[0]);
    let [document] = &documents[..] else {
        panic!("one file, not {}", documents.len());
    };
    assert_eq!(document.episode.end_reason, Some(EndReason::SessionRemoved));
    assert_eq!(document.episode.max_prediction_frames, 8);
    assert!(document.episode.input_delay_frames.is_empty());
    let changes = &document.inputs.local_changes;
    assert!(changes.len() > 10, "the inputs change: {}", changes.len());
    for change in changes {
        assert_eq!(change.sampled_at_us, None, "the input delay is unknown");
    }
}

#[test]
fn a_sync_test_writes_no_file_and_the_match_after_it_is_episode_0() {
    let mut duel = Duel::new(RECORDED);
    let session = SessionBuilder::<TestConfig>::new()
        .with_num_players(2)
        .unwrap()
        .add_player(PlayerType::Local, 0)
        .unwrap()
        .add_player(PlayerType::Local, 1)
        .unwrap()
        .start_synctest_session()
        .unwrap();
    let app = &mut duel.apps[0];
    let play = app.world_mut().remove_resource::<Session<TestConfig>>();
    app.insert_resource(Session::SyncTest(session));
    for _ in 0..100 {
        duel.clock.advance(STEP);
        duel.apps[0].update();
    }
    let simulated = duel.oracle(0).frames.len();
    assert!(simulated > 90, "the sync test ran: {simulated}");
    remove_session(&mut duel.apps[0]);
    duel.suspended[1] = true;
    duel.step();
    assert_eq!(files(&duel.apps[0]), []);

    duel.suspended[1] = false;
    duel.apps[0].insert_resource(play.unwrap());
    duel.until_confirmed(60);
    remove_session(&mut duel.apps[0]);
    duel.step();
    let numbers: Vec<_> = files(&duel.apps[0])
        .iter()
        .map(|document| document.episode.episode_num)
        .collect();
    assert_eq!(numbers, [0]);
}

#[test]
fn a_sync_test_that_replaces_a_match_adds_nothing_to_its_file() {
    let mut duel = Duel::new(RECORDED);
    duel.until_confirmed(60);
    let rollbacks = duel.output(0).rollbacks.len();
    let session = SessionBuilder::<TestConfig>::new()
        .with_num_players(1)
        .unwrap()
        .add_player(PlayerType::Local, 0)
        .unwrap()
        .start_synctest_session()
        .unwrap();
    duel.apps[0]
        .insert_resource(Session::SyncTest(session))
        .insert_resource(RollbackFrameCount(0));
    duel.suspended[1] = true;
    duel.steps(60);
    assert!(duel.output(0).reloads.len() > 30, "the sync test ran");
    let documents = files(&duel.apps[0]);
    let [document] = &documents[..] else {
        panic!("only the match writes a file, not {}", documents.len());
    };
    assert_eq!(document.session.player_ids, [0, 1]);
    assert!(document.rollbacks.count > 0, "the match rolled back");
    assert!(document.rollbacks.count <= rollbacks as u64);
    let live = duel.apps[0].world().resource::<SessionMetrics<u8>>().live();
    assert_eq!(
        live.frames, document.frames.advanced as u32,
        "nothing is counted after the match"
    );
}

/// The real socket of one of two peers; ggrs's own `UdpNonBlockingSocket` binds fixed ports.
struct Udp {
    socket: UdpSocket,
    peers: [SocketAddr; 2],
}

impl NonBlockingSocket<usize> for Udp {
    fn send_to(&mut self, message: &GgrsMessage, to: &usize) {
        let bytes = bincode::serialize(message).unwrap();
        self.socket.send_to(&bytes, self.peers[*to]).unwrap();
    }

    fn receive_all_messages(&mut self) -> Vec<(usize, GgrsMessage)> {
        let mut buffer = [0; 4096];
        let mut messages = Vec::new();
        while let Ok((length, from)) = self.socket.recv_from(&mut buffer) {
            let from = self.peers.iter().position(|peer| *peer == from).unwrap();
            messages.push((from, bincode::deserialize(&buffer[..length]).unwrap()));
        }
        messages
    }
}

#[test]
fn two_files_of_a_match_over_real_udp_have_the_same_history() {
    const END: i32 = 300;
    let sockets = [(), ()].map(|()| {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    });
    let peers = [0, 1].map(|me: usize| sockets[me].local_addr().unwrap());
    let clock = LabClock::manual(1_700_000_000_000);
    let mut me = 0;
    let mut apps = sockets.map(|socket| {
        let mut app = game_with(&clock, RECORDED);
        let session = SessionBuilder::<TestConfig>::new()
            .with_num_players(2)
            .unwrap()
            .with_input_delay(0)
            .with_desync_detection_mode(DesyncDetection::On { interval: 10 })
            .add_player(PlayerType::Local, me)
            .unwrap()
            .add_player(PlayerType::Remote(1 - me), 1 - me)
            .unwrap()
            .start_p2p_session(Udp { socket, peers })
            .unwrap();
        app.insert_resource(Session::P2P(session));
        me += 1;
        app
    });
    let mut updates = 0;
    let mut ended = [false; 2];
    while ended != [true; 2] {
        updates += 1;
        assert!(updates < 100_000, "the match ends: {ended:?}");
        clock.advance(STEP);
        for (app, ended) in apps.iter_mut().zip(&mut ended) {
            app.update();
            let confirmed = app.world().resource::<ConfirmedFrameCount>().0;
            let frame = app.world().resource::<RollbackFrameCount>().0;
            if !*ended && confirmed > END && frame > END + 1 {
                let mut metrics = app.world_mut().resource_mut::<SessionMetrics<u8>>();
                *ended = metrics.close(Some(END), Some(EndReason::FrameLimit), false);
            }
        }
    }
    let documents = apps.each_mut().map(|app| {
        app.update();
        let [document] = &files(app)[..] else {
            panic!("one file per peer");
        };
        assert!(!document.episode.is_partial);
        assert_eq!(document.frames.total, END as u64);
        assert_eq!(document.sync.desyncs, []);
        assert_eq!(
            document.quality.p2p_fallback_triggered, None,
            "not measured over UDP"
        );
        document.clone()
    });
    let [ours, theirs] = &documents;
    let history = |of: &EpisodeDocument| -> Vec<ActionRuns> { of.inputs.confirmed.clone() };
    assert_eq!(history(ours), history(theirs));
    assert_eq!(ours.sync.history_digest, theirs.sync.history_digest);
    let rollbacks = apps
        .each_ref()
        .map(|app| app.world().resource::<PluginOutput>().rollbacks.len());
    assert!(
        rollbacks[0] + rollbacks[1] > 0,
        "the peer that steps first predicts: {rollbacks:?}"
    );
}

#[test]
fn a_spectator_writes_no_file() {
    let mut duel = Duel::new(Settings {
        spectated: true,
        ..RECORDED
    });
    let mut watching = game_with(&duel.clock, RECORDED);
    watching.insert_resource(spectator(&duel.clock, &duel.net));
    for _ in 0..300 {
        duel.step();
        watching.update();
    }
    let seen = watching.world().resource::<Oracle>().frames.len();
    assert!(seen > 100, "the spectator follows: {seen}");
    remove_session(&mut watching);
    watching.update();
    assert_eq!(files(&watching), []);
    remove_session(&mut duel.apps[0]);
    duel.step();
    assert_eq!(files(&duel.apps[0]).len(), 1, "its host is a player");
}

#[test]
fn the_end_reason_of_an_app_that_exits_is_app_exit() {
    let mut duel = Duel::new(RECORDED);
    duel.until_confirmed(60);
    let app = &mut duel.apps[0];
    app.world_mut().write_message(AppExit::Success);
    duel.step();
    let documents = files(&duel.apps[0]);
    let reasons: Vec<_> = documents
        .iter()
        .map(|document| document.episode.end_reason.clone())
        .collect();
    assert_eq!(reasons, [Some(EndReason::AppExit)]);
}
