//! What goes wrong in a lab session is told in words for the person who must act, and leaves its
//! trail.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test may fail like the test itself"
)]

use std::io;
use std::path::{Path as FilePath, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bevy::prelude::*;
use bevy::state::app::StatesPlugin;
use bevy_ggrs::{RollbackFrameCount, Session};
use bevy_rollback_lab::internals::sink::{RecordSink, Storage};
use bevy_rollback_lab::internals::transport::network::NetEvent;
use bevy_rollback_lab::prelude::*;
use bevy_rollback_lab::record::{EpisodeDocument, SessionDocument, WriteError};
use bevy_rollback_lab::rollback::{SessionEvent, SessionEventKind, SessionKind};
use bevy_rollback_lab::session::{PeerNotice, SessionError};
use rollback_lab_link::wire::relay::Notice;
use rollback_lab_record::EndReason;
use rollback_lab_record::check::check_episode;
use rollback_lab_test_kit::lab::{
    Hub, LabPeer, TestConfig, checked, frame, lab_peer, play, run_until,
};

/// Why the session failed, as its event told it.
#[derive(Resource, Clone, Default)]
struct Told(Arc<Mutex<Vec<SessionError>>>);

fn config() -> LabConfig {
    LabConfig::new("ws://lab", "room")
        .frame_limit(300)
        .episodes(1)
        .no_files()
}

fn peer(hub: &Hub, config: LabConfig, seed: u64) -> LabPeer {
    let mut peer = lab_peer(hub, config, seed);
    peer.app
        .init_resource::<Told>()
        .add_observer(|failed: On<SessionFailed>, told: Res<Told>| {
            told.0.lock().unwrap().push(failed.error.clone());
        });
    peer
}

fn pair(hub: &Hub) -> Vec<LabPeer> {
    vec![peer(hub, config(), 1), peer(hub, config(), 2)]
}

/// Steps until every session has failed; tells each one's error.
fn until_failed(peers: &mut [LabPeer], limit: Duration) -> Vec<SessionError> {
    let step = frame(60);
    let updates = (limit.as_secs_f64() / step.as_secs_f64()).ceil() as usize;
    let failed = run_until(peers, step, updates, |peers| {
        peers
            .iter()
            .all(|peer| peer.phase() == SessionPhase::Failed)
    });
    let phases: Vec<_> = peers.iter().map(LabPeer::phase).collect();
    assert!(failed, "failed within {limit:?}, but stand in {phases:?}");
    peers.iter().map(told).collect()
}

/// The one error that `SessionFailed` told.
fn told(peer: &LabPeer) -> SessionError {
    let told = peer.app.world().resource::<Told>().0.lock().unwrap();
    let [error] = told.as_slice() else {
        panic!("a failure is told once, not {}: {told:?}", told.len());
    };
    error.clone()
}

fn until_frame(peers: &mut [LabPeer], at: i32) {
    let reached = run_until(peers, frame(60), 2_000, |peers| {
        peers.iter().all(|peer| {
            let current = peer.app.world().resource::<RollbackFrameCount>().0;
            peer.phase() == SessionPhase::Playing && current >= at
        })
    });
    assert!(reached, "everybody plays frame {at}");
}

/// The trail that the peer left: one, whatever the session was called at first.
fn trail(peer: &LabPeer) -> SessionDocument {
    let mut trails: Vec<_> = peer.sessions();
    assert_eq!(trails.len(), 1, "one trail: {trails:#?}");
    trails.remove(0)
}

fn end_reason(peer: &LabPeer) -> EndReason {
    trail(peer).end_reason.unwrap()
}

#[test]
fn a_mismatch_names_the_field_and_both_values() {
    let table: [(&str, LabConfig, &str, &str); 8] = [
        ("game", config().game("chess", "1"), "duel", "chess"),
        ("game_version", config().game("duel", "2"), "1", "2"),
        ("fps", config().game("duel", "1").fps(30), "60", "30"),
        (
            "input_delay",
            config().game("duel", "1").input_delay(5),
            "2",
            "5",
        ),
        (
            "max_prediction",
            config().game("duel", "1").max_prediction(6),
            "8",
            "6",
        ),
        (
            "desync_interval",
            config().game("duel", "1").desync_interval(20),
            "10",
            "20",
        ),
        (
            "route_policy",
            config()
                .game("duel", "1")
                .route_policy("dual-path".parse().unwrap()),
            "0",
            "3",
        ),
        (
            "config_digest",
            config().game("duel", "1").frame_limit(200),
            "",
            "",
        ),
    ];
    for (field, other, here, there) in table {
        let hub = Hub::new(2, true);
        let ours = config().game("duel", "1");
        let digests = [ours.config_digest(), other.config_digest()].map(|d| format!("{d:016x}"));
        let mut peers = vec![peer(&hub, ours, 1), peer(&hub, other, 2)];
        let errors = until_failed(&mut peers, Duration::from_secs(5));
        let values = match field {
            "config_digest" => digests,
            _ => [here.to_owned(), there.to_owned()],
        };
        for (own, error) in errors.iter().enumerate() {
            let SessionError::Mismatch {
                field: named,
                ours,
                theirs,
                player,
            } = error
            else {
                panic!("{field}: a mismatch is told as one, not as {error}");
            };
            assert_eq!(*named, field);
            assert_eq!((ours, theirs), (&values[own], &values[1 - own]), "{field}");
            assert_eq!(*player, 1 - own);
            let text = error.to_string();
            for word in [field, ours, theirs] {
                assert!(text.contains(word), "{text:?} names {word:?}");
            }
        }
        for peer in &peers {
            assert_eq!(end_reason(peer), EndReason::Refused, "{field}");
            assert!(peer.episodes().is_empty(), "{field}: nothing was played");
        }
    }
}

#[test]
fn a_peer_that_waits_for_more_players_is_not_waited_for_for_ever() {
    // Our server refuses another number of players; a stock one knows of none.
    let hub = Hub::new(2, false);
    let config = || config().wait_timeout(Duration::from_secs(20));
    let mut peers = vec![peer(&hub, config(), 1), peer(&hub, config().players(3), 2)];
    let errors = until_failed(&mut peers, Duration::from_secs(35));
    assert_eq!(errors[0].to_string(), "player 1 did not answer within 30s");
    assert!(matches!(
        errors[1],
        SessionError::WaitTimeout {
            present: 2,
            players: 3,
            ..
        }
    ));
    assert_eq!(end_reason(&peers[0]), EndReason::NeverConnected);
    assert_eq!(end_reason(&peers[1]), EndReason::WaitTimeout);
}

#[test]
fn the_wait_for_players_ends_and_tells_how_many_came() {
    let hub = Hub::new(3, true);
    let config = || config().players(3).wait_timeout(Duration::from_secs(20));
    let mut peers = vec![peer(&hub, config(), 1), peer(&hub, config(), 2)];
    for error in until_failed(&mut peers, Duration::from_secs(25)) {
        assert_eq!(
            error.to_string(),
            "waited 20s in room room: 2 of 3 players came"
        );
    }
    for peer in &peers {
        assert_eq!(end_reason(peer), EndReason::WaitTimeout);
    }
}

#[test]
fn without_any_path_a_peer_is_given_up_after_15_seconds() {
    let hub = Hub::new(2, true);
    hub.faults(|faults| {
        faults.no_direct = true;
        faults.relay_dead = true;
    });
    let mut peers = pair(&hub);
    for error in until_failed(&mut peers, Duration::from_millis(15_100)) {
        assert!(matches!(error, SessionError::NoPath { .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.contains("neither a direct connection nor a relay"),
            "{text}"
        );
    }
    for peer in &peers {
        assert_eq!(end_reason(peer), EndReason::NeverConnected);
    }
}

#[test]
fn the_servers_refusal_reaches_the_game_in_its_own_words() {
    let hub = Hub::new(2, true);
    let mut peers = vec![peer(&hub, config(), 1)];
    hub.tell(
        0,
        NetEvent::Refused {
            code: 4001,
            reason: String::from("room room is full: 2 of 2 players"),
        },
    );
    let errors = until_failed(&mut peers, Duration::from_secs(1));
    assert_eq!(
        errors[0].to_string(),
        "server refused room room: room room is full: 2 of 2 players"
    );
    assert!(
        matches!(errors[0], SessionError::RoomRefused { code: 4001, .. }),
        "the code is there for programs"
    );
    assert_eq!(end_reason(&peers[0]), EndReason::Refused);
}

#[test]
fn a_server_lost_before_everybody_met_ends_the_session() {
    let hub = Hub::new(2, true);
    let mut peers = vec![peer(&hub, config(), 1)];
    run_until(&mut peers, frame(60), 10, |_| false);
    assert_eq!(peers[0].phase(), SessionPhase::Gathering);
    let reason = String::from("the server closed the connection");
    hub.tell(0, NetEvent::ServerLost { reason });
    let errors = until_failed(&mut peers, Duration::from_secs(1));
    let text = errors[0].to_string();
    assert!(
        text.contains("before all players of room room had met"),
        "{text}"
    );
    assert!(text.contains("the server closed the connection"), "{text}");
    assert_eq!(end_reason(&peers[0]), EndReason::ServerLost);
}

#[test]
fn an_unreachable_server_is_named_with_the_way_out() {
    // A port that was free a moment ago, on a real socket: nobody listens there.
    let port = {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.local_addr().unwrap().port()
    };
    let url = format!("ws://127.0.0.1:{port}");
    let mut app = App::new();
    app.add_plugins((MinimalPlugins, StatesPlugin)).add_plugins(
        RollbackLabPlugins::<TestConfig>::new(LabConfig::new(url.clone(), "room").no_files()),
    );
    app.finish();
    app.cleanup();
    let start = Instant::now();
    let failed = |app: &App| {
        let session = app.world().resource::<LabSession<TestConfig>>();
        session.failure().cloned()
    };
    let error = loop {
        app.update();
        if let Some(error) = failed(&app) {
            break error;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "it is told");
        std::thread::sleep(Duration::from_millis(10));
    };
    assert!(matches!(error, SessionError::ServerUnreachable { .. }));
    let text = error.to_string();
    for word in [url.as_str(), "room", "3 attempts", "rollback-lab serve"] {
        assert!(text.contains(word), "{text:?} names {word:?}");
    }
    app.update();
    let files = app.world().resource::<RecordSink>().files();
    let documents: Vec<_> = files
        .values()
        .map(|bytes| SessionDocument::parse(std::str::from_utf8(bytes).unwrap()).unwrap())
        .collect();
    let [document] = documents.as_slice() else {
        panic!("one trail, not {}", documents.len());
    };
    assert_eq!(document.end_reason, Some(EndReason::ServerLost));
}

/// The one episode of a peer, cut short, in order.
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
fn leaving_mid_episode_is_told_at_once_and_leaves_a_partial_file_on_both_sides() {
    let hub = Hub::new(2, true);
    let mut peers = pair(&hub);
    until_frame(&mut peers, 120);
    peers[1].app.world_mut().write_message(AppExit::Success);
    peers[1].step(frame(60));
    let mut staying = peers.remove(0);
    let mut updates = 0;
    while staying.phase() != SessionPhase::Failed {
        updates += 1;
        assert!(
            updates <= 10,
            "told within ten frames, not after a time-out"
        );
        staying.step(frame(60));
    }
    let error = told(&staying);
    assert_eq!(error.to_string(), "player 1 is gone: it left");
    staying.step(frame(60));

    let left = partial(&staying, EndReason::PeerLeft);
    let quit = partial(&peers[0], EndReason::LocalQuit);
    assert!(left.episode.end_frame >= 110, "{}", left.episode.end_frame);
    assert!(quit.episode.end_frame >= 110, "{}", quit.episode.end_frame);
    assert_eq!(end_reason(&staying), EndReason::PeerLeft);
    assert_eq!(end_reason(&peers[0]), EndReason::LocalQuit);
    assert_eq!(trail(&peers[0]).episodes, ["episode-0.player-1.json"]);
    checked(&[staying, peers.remove(0)]);
}

#[test]
fn an_app_that_exits_mid_episode_leaves_its_file_on_disk() {
    let folder = Folder::new("exit");
    let hub = Hub::new(2, true);
    let mut peers = vec![
        peer(&hub, config().export_dir(&folder.0), 1),
        peer(&hub, config(), 2),
    ];
    until_frame(&mut peers, 60);
    peers[0].app.world_mut().write_message(AppExit::Success);
    peers[0].step(frame(60));
    drop(peers);
    let written: Vec<_> = folder.files();
    let episode = written
        .iter()
        .find(|path| path.ends_with("episode-0.player-0.json"))
        .expect("the episode is on disk when the last update is over");
    let document = EpisodeDocument::parse(&std::fs::read_to_string(episode).unwrap()).unwrap();
    assert!(document.episode.is_partial);
    assert_eq!(document.episode.end_reason, Some(EndReason::LocalQuit));
    assert_eq!(check_episode(&document), []);
}

#[test]
fn a_peer_that_leaves_between_meeting_and_playing_ends_the_session() {
    let hub = Hub::new(2, true);
    let mut peers = vec![
        peer(&hub, config(), 1),
        peer(&hub, config().auto_start(false), 2),
    ];
    let waiting = run_until(&mut peers, frame(60), 200, |peers| {
        peers[0].phase() == SessionPhase::Starting && peers[1].phase() == SessionPhase::Between
    });
    assert!(waiting, "one waits at the start barrier for the other");
    peers[1].app.world_mut().write_message(AppExit::Success);
    peers[1].step(frame(60));
    peers.truncate(1);
    let errors = until_failed(&mut peers, Duration::from_secs(1));
    assert_eq!(errors[0].to_string(), "player 1 is gone: it left");
    assert_eq!(end_reason(&peers[0]), EndReason::PeerLeft);
    assert!(peers[0].episodes().is_empty(), "no frame was played");
}

#[test]
fn the_servers_word_that_a_peer_is_gone_counts_once_both_paths_are_silent() {
    let hub = Hub::new(2, true);
    let mut peers = pair(&hub);
    until_frame(&mut peers, 60);
    hub.tell(0, NetEvent::Notice(Notice::PeerGone { slot: 1 }));
    run_until(&mut peers, frame(60), 120, |_| false);
    assert_eq!(
        peers[0].phase(),
        SessionPhase::Playing,
        "a peer that still sends is not gone, whatever the server says"
    );
    hub.tell(0, NetEvent::Notice(Notice::PeerGone { slot: 1 }));
    let _crashed = peers.pop();
    let errors = until_failed(&mut peers, Duration::from_secs(2));
    assert!(matches!(
        errors[0],
        SessionError::PeerGone { player: 1, .. }
    ));
    peers[0].step(frame(60));
    partial(&peers[0], EndReason::PeerLeft);
    assert_eq!(end_reason(&peers[0]), EndReason::PeerLeft);
}

#[test]
fn a_peer_that_ggrs_gave_up_ends_the_session() {
    let hub = Hub::new(2, true);
    let mut peers = pair(&hub);
    until_frame(&mut peers, 60);
    // ggrs's own time-out is out of reach; if it gives a peer up all the same, its word counts.
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

#[test]
fn a_handshake_that_never_ends_is_given_up_and_begins_nothing_later() {
    let hub = Hub::new(2, true);
    hub.faults(|faults| faults.game_dead = true);
    let mut peers = pair(&hub);
    for error in until_failed(&mut peers, Duration::from_secs(11)) {
        assert_eq!(
            error.to_string(),
            "handshake of episode 0 did not finish within 10s"
        );
    }
    hub.faults(|faults| faults.game_dead = false);
    run_until(&mut peers, frame(60), 60, |_| false);
    for peer in &peers {
        assert_eq!(end_reason(peer), EndReason::NeverConnected);
        assert!(peer.episodes().is_empty(), "no frame was played");
        let world = peer.app.world();
        assert!(!world.contains_resource::<Session<TestConfig>>());
        assert_eq!(world.resource::<RollbackFrameCount>().0, 0);
    }
}

#[test]
fn a_greeting_that_comes_before_the_roster_is_kept() {
    let hub = Hub::new(3, true);
    let config = || config().players(3).frame_limit(60);
    let mut peers: Vec<_> = (1..=2).map(|seed| peer(&hub, config(), seed)).collect();
    // Two know of each other; when the third has come, one of them is a second ahead.
    run_until(&mut peers, frame(60), 30, |_| false);
    peers.push(peer(&hub, config(), 3));
    for _ in 0..60 {
        peers[0].step(frame(60));
    }
    play(&mut peers, frame(60), 3_000);
    for peer in &peers {
        assert_eq!(end_reason(peer), EndReason::Completed);
    }
}

#[test]
fn an_unwritable_folder_is_refused_before_the_match() {
    // A file where the folder should be: nobody can write below it, root included.
    let folder = Folder::new("unwritable");
    let in_the_way = folder.0.join("taken");
    std::fs::write(&in_the_way, b"not a folder").unwrap();
    let export_dir = in_the_way.join("exports");
    let lab = LabConfig::new("ws://127.0.0.1:1", "room").export_dir(&export_dir);
    let refused = std::panic::catch_unwind(|| {
        let mut app = App::new();
        app.add_plugins((MinimalPlugins, StatesPlugin))
            .add_plugins(RollbackLabPlugins::<TestConfig>::new(lab));
    })
    .expect_err("the plugin refuses the folder");
    let text = refused.downcast_ref::<String>().expect("a message");
    assert!(text.contains(&export_dir.display().to_string()), "{text}");
    assert!(text.contains("cannot be written"), "{text}");
}

/// Where it is, and what stands in it.
type StoredFile = (PathBuf, Vec<u8>);

/// A disk that is full until told otherwise.
#[derive(Clone, Default)]
struct Disk {
    has_room: Arc<AtomicBool>,
    files: Arc<Mutex<Vec<StoredFile>>>,
}

impl Storage for Disk {
    fn store(&mut self, path: &FilePath, bytes: &[u8]) -> io::Result<PathBuf> {
        if !self.has_room.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut files = self.files.lock().unwrap();
        files.push((path.to_owned(), bytes.to_vec()));
        Ok(path.to_owned())
    }

    fn remove(&mut self, path: &FilePath) {
        self.files
            .lock()
            .unwrap()
            .retain(|(known, _)| known != path);
    }
}

#[test]
fn a_full_disk_keeps_the_episode_in_memory_until_retried() {
    let disk = Disk::default();
    let hub = Hub::new(2, true);
    let short = || config().frame_limit(60);
    let mut peers = vec![peer(&hub, short(), 1), peer(&hub, short(), 2)];
    let sink = RecordSink::with_storage(Box::new(disk.clone())).unwrap();
    let outcomes: Arc<Mutex<Vec<Result<PathBuf, WriteError>>>> = Arc::default();
    let kept = outcomes.clone();
    peers[0]
        .app
        .insert_resource(sink)
        .add_observer(move |ended: On<EpisodeEnded>| {
            kept.lock().unwrap().push(ended.file.clone());
        });
    let told = run_until(&mut peers, frame(60), 5_000, |_| {
        std::thread::yield_now();
        !outcomes.lock().unwrap().is_empty()
    });
    assert!(
        told,
        "the end of the episode is told although its file is not there"
    );
    let error = outcomes.lock().unwrap()[0].clone().unwrap_err().to_string();
    assert!(error.contains("kept in memory"), "{error}");
    assert!(error.contains("RecordSink::retry"), "{error}");
    assert!(disk.files.lock().unwrap().is_empty());

    disk.has_room.store(true, Ordering::Relaxed);
    let mut sink = peers[0].app.world_mut().resource_mut::<RecordSink>();
    sink.retry();
    sink.flush(Duration::from_secs(10));
    assert_eq!(sink.kept(), 0);
    let files = disk.files.lock().unwrap();
    let (_, bytes) = files
        .iter()
        .find(|(path, _)| path.ends_with("episode-0.player-0.json"))
        .expect("the episode is written after all");
    let document = EpisodeDocument::parse(std::str::from_utf8(bytes).unwrap()).unwrap();
    assert_eq!(document.episode.end_frame, 60);
    assert_eq!(check_episode(&document), []);
}

#[test]
fn a_lost_server_is_told_and_the_match_goes_on_directly() {
    let hub = Hub::new(2, true);
    let mut peers = pair(&hub);
    let notices: Arc<Mutex<Vec<PeerNotice>>> = Arc::default();
    let kept = notices.clone();
    peers[0]
        .app
        .add_systems(Update, move |mut told: MessageReader<PeerNotice>| {
            kept.lock().unwrap().extend(told.read().cloned());
        });
    until_frame(&mut peers, 60);
    let reason = String::from("the server closed the connection");
    hub.tell(0, NetEvent::ServerLost { reason });
    let documents = play(&mut peers, frame(60), 3_000);
    assert!(matches!(
        notices.lock().unwrap()[0],
        PeerNotice::ServerLost { .. }
    ));
    for episodes in &documents {
        assert_eq!(episodes[0].episode.end_frame, 300);
        assert_eq!(episodes[0].frames.stalled, 0);
    }
    assert_eq!(end_reason(&peers[0]), EndReason::Completed);
}

/// A folder of its own below the system's temporary one, gone with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("rollback-lab-errors-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Every file in it and below.
    fn files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.0.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.push(path);
                }
            }
        }
        found
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left behind harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
