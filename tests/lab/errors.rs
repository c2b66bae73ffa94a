//! Failures of a lab session: the error names what went wrong and the way out, and the files record
//! how the session ended.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test may fail like the test itself"
)]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bevy::prelude::*;
use bevy::state::app::StatesPlugin;
use bevy_ggrs::{RollbackFrameCount, Session};
use bevy_rollback_lab::internals::sink::RecordSink;
use bevy_rollback_lab::internals::transport::network::NetEvent;
use bevy_rollback_lab::prelude::*;
use bevy_rollback_lab::record::{EpisodeDocument, SessionDocument, WriteError};
use bevy_rollback_lab::session::{PeerNotice, SessionError};
use rollback_lab_record::EndReason;
use rollback_lab_record::check::check_episode;
use rollback_lab_test_kit::lab::{
    LabPeer, TestConfig, VirtualNetwork, frame, lab_peer, play, run_until,
};

mod leaving;
mod storage;

/// The errors of all `SessionFailed` events.
#[derive(Resource, Clone, Default)]
struct Failures(Arc<Mutex<Vec<SessionError>>>);

fn config() -> LabConfig {
    LabConfig::new("ws://lab", "room")
        .frame_limit(300)
        .episodes(1)
        .no_files()
}

fn peer(network: &VirtualNetwork, config: LabConfig, seed: u64) -> LabPeer {
    let mut peer = lab_peer(network, config, seed);
    peer.app.init_resource::<Failures>().add_observer(
        |failed: On<SessionFailed>, failures: Res<Failures>| {
            failures.0.lock().unwrap().push(failed.error.clone());
        },
    );
    peer
}

fn pair(network: &VirtualNetwork) -> Vec<LabPeer> {
    vec![peer(network, config(), 1), peer(network, config(), 2)]
}

/// Steps until every session has failed; returns the error of each.
fn until_failed(peers: &mut [LabPeer], limit: Duration) -> Vec<SessionError> {
    let step = frame(60);
    let updates = (limit.as_secs_f64() / step.as_secs_f64()).ceil() as usize;
    let failed = run_until(peers, step, updates, |peers| {
        peers
            .iter()
            .all(|peer| peer.phase() == SessionPhase::Failed)
    });
    let phases: Vec<_> = peers.iter().map(LabPeer::phase).collect();
    assert!(
        failed,
        "all sessions fail within {limit:?}, phases are {phases:?}"
    );
    peers.iter().map(failure).collect()
}

/// The error of the one `SessionFailed` event.
fn failure(peer: &LabPeer) -> SessionError {
    let failures = peer.app.world().resource::<Failures>().0.lock().unwrap();
    let [error] = failures.as_slice() else {
        panic!(
            "one event per failure, not {}: {failures:?}",
            failures.len()
        );
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
    assert!(reached, "all peers play frame {at}");
}

/// The one session document of the peer.
fn session_document(peer: &LabPeer) -> SessionDocument {
    let mut documents: Vec<_> = peer.sessions();
    assert_eq!(documents.len(), 1, "one session document: {documents:#?}");
    documents.remove(0)
}

fn end_reason(peer: &LabPeer) -> EndReason {
    session_document(peer).end_reason.unwrap()
}

#[test]
fn a_config_mismatch_names_the_field_and_both_values() {
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
            "p2p-first",
            "dual-path",
        ),
        (
            "frame_limit",
            config().game("duel", "1").frame_limit(200),
            "300",
            "200",
        ),
    ];
    for (field, other, here, there) in table {
        let network = VirtualNetwork::new(2, true);
        let ours = config().game("duel", "1");
        let digests = [ours.config_digest(), other.config_digest()].map(|d| format!("{d:016x}"));
        let mut peers = vec![peer(&network, ours, 1), peer(&network, other, 2)];
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
                panic!("{field}: the error is a mismatch, not {error}");
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
fn a_peer_that_waits_for_more_players_does_not_prolong_the_wait() {
    // A lab server refuses a different number of players; a stock server does not know the number.
    let network = VirtualNetwork::new(2, false);
    let config = || config().wait_timeout(Duration::from_secs(20));
    let mut peers = vec![
        peer(&network, config(), 1),
        peer(&network, config().players(3), 2),
    ];
    let errors = until_failed(&mut peers, Duration::from_secs(35));
    // The other one is taken off, and does not prolong the wait.
    assert_eq!(
        errors[0].to_string(),
        "waited 20s in room room: 1 of 2 players came"
    );
    assert!(matches!(
        errors[1],
        SessionError::WaitTimeout {
            present: 2,
            players: 3,
            ..
        }
    ));
    for peer in &peers {
        assert_eq!(end_reason(peer), EndReason::WaitTimeout);
    }
}

#[test]
fn the_wait_for_players_times_out_with_the_number_that_came() {
    let network = VirtualNetwork::new(3, true);
    let config = || config().players(3).wait_timeout(Duration::from_secs(20));
    let mut peers = vec![peer(&network, config(), 1), peer(&network, config(), 2)];
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
fn without_any_path_a_peer_is_taken_off_after_15_seconds_and_named_at_last() {
    let network = VirtualNetwork::new(2, true);
    network.faults(|faults| {
        faults.no_direct = true;
        faults.relay_dead = true;
    });
    let mut peers = pair(&network);
    run_until(&mut peers, frame(60), 15 * 60 + 6, |_| false);
    for peer in &peers {
        assert_eq!(
            peer.phase(),
            SessionPhase::Gathering,
            "one may open, or another player come"
        );
        let waiting = peer.app.world().resource::<WaitingForPlayers>();
        let text = waiting.taken_off.as_deref().unwrap();
        assert!(
            text.contains("neither a direct connection nor a relay"),
            "{text}"
        );
    }
    for error in until_failed(&mut peers, Duration::from_secs(106)) {
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
fn a_refusal_reaches_the_game_with_the_code_and_reason_of_the_server() {
    let network = VirtualNetwork::new(2, true);
    let mut peers = vec![peer(&network, config(), 1)];
    network.emit(
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
        "the code is a field of the error"
    );
    assert_eq!(end_reason(&peers[0]), EndReason::Refused);
}

#[test]
fn a_server_lost_before_all_players_met_ends_the_session() {
    let network = VirtualNetwork::new(2, true);
    let mut peers = vec![peer(&network, config(), 1)];
    run_until(&mut peers, frame(60), 10, |_| false);
    assert_eq!(peers[0].phase(), SessionPhase::Gathering);
    let reason = String::from("the server closed the connection");
    network.emit(0, NetEvent::ServerLost { reason });
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
fn an_unreachable_server_is_named_with_the_command_that_starts_one() {
    // A real port that was just free: nothing listens on it.
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
        assert!(start.elapsed() < Duration::from_secs(20), "it fails");
        // Real connection attempts take real time.
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
        panic!("one session document, not {}", documents.len());
    };
    assert_eq!(document.end_reason, Some(EndReason::ServerLost));
}

#[test]
fn a_handshake_without_an_end_times_out_and_starts_nothing_later() {
    let network = VirtualNetwork::new(2, true);
    network.faults(|faults| faults.game_dead = true);
    let mut peers = pair(&network);
    // The players gather again twice: an outage may be over. Who fails first leaves the other one waiting.
    let failed = |peer: &LabPeer| peer.phase() == SessionPhase::Failed;
    let over = run_until(&mut peers, frame(60), 40 * 60, |peers| {
        peers.iter().any(failed)
    });
    assert!(over);
    run_until(&mut peers, frame(60), 60, |_| false);
    let (over, waiting): (Vec<_>, Vec<_>) = peers.iter().partition(|peer| failed(peer));
    for peer in &over {
        let text = failure(peer).to_string();
        let named = [0, 1].map(|player| {
            format!("handshake of episode 0 with player {player} did not finish within 10s")
        });
        assert!(named.contains(&text), "{text}");
        assert_eq!(end_reason(peer), EndReason::NeverConnected);
    }
    for peer in &waiting {
        assert_eq!(peer.phase(), SessionPhase::Gathering);
    }
    network.faults(|faults| faults.game_dead = false);
    run_until(&mut peers, frame(60), 60, |_| false);
    for peer in &peers {
        assert!(peer.episodes().is_empty(), "no frame was played");
        let world = peer.app.world();
        assert!(!world.contains_resource::<Session<TestConfig>>());
        assert_eq!(world.resource::<RollbackFrameCount>().0, 0);
    }
}

#[test]
fn a_hello_that_arrives_before_the_roster_is_kept() {
    let network = VirtualNetwork::new(3, true);
    let config = || config().players(3).frame_limit(60);
    let mut peers: Vec<_> = (1..=2).map(|seed| peer(&network, config(), seed)).collect();
    // Two have met; when the third has come, one of them runs a second ahead.
    run_until(&mut peers, frame(60), 30, |_| false);
    peers.push(peer(&network, config(), 3));
    for _ in 0..60 {
        peers[0].step(frame(60));
    }
    play(&mut peers, frame(60), 3_000);
    for peer in &peers {
        assert_eq!(end_reason(peer), EndReason::Completed);
    }
}

#[test]
fn a_lost_server_is_reported_and_the_match_goes_on_directly() {
    let network = VirtualNetwork::new(2, true);
    let mut peers = pair(&network);
    let notices: Arc<Mutex<Vec<PeerNotice>>> = Arc::default();
    let kept = notices.clone();
    peers[0]
        .app
        .add_systems(Update, move |mut read: MessageReader<PeerNotice>| {
            kept.lock().unwrap().extend(read.read().cloned());
        });
    until_frame(&mut peers, 60);
    let reason = String::from("the server closed the connection");
    network.emit(0, NetEvent::ServerLost { reason });
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

/// The standstill is one of virtual time; ggrs repeats its packets by the wall clock.
#[test]
fn a_match_that_a_rule_keeps_still_ends_with_the_rule_and_its_numbers() {
    let network = VirtualNetwork::new(2, true);
    let mut peers = pair(&network);
    until_frame(&mut peers, 60);
    let mut session = peers[1]
        .app
        .world_mut()
        .resource_mut::<Session<TestConfig>>();
    let Session::P2P(session) = &mut *session else {
        unreachable!("a lab session is P2P");
    };
    session.set_input_delay(1, 24).unwrap();
    let limit = Instant::now() + Duration::from_secs(30);
    while peers[0].phase() != SessionPhase::Failed && Instant::now() < limit {
        run_until(&mut peers, frame(60), 1, |_| false);
    }
    let error = failure(&peers[0]);
    let SessionError::PacketsRefused {
        player: 1,
        rule,
        waited,
        ..
    } = &error
    else {
        panic!("the rule is named: {error}");
    };
    assert!(*waited >= Duration::from_secs(2));
    assert!(
        rule.contains("frame ") && rule.contains(|digit: char| digit.is_ascii_digit()),
        "{rule}"
    );
    assert_eq!(end_reason(&peers[0]), EndReason::Refused);
}
