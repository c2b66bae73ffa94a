//! Joining and leaving at run time: from a menu, several rooms after one another, again after a failure,
//! and leaving in every phase.

use std::time::Duration;

use bevy::prelude::*;
use bevy_ggrs::{RollbackFrameCount, Session};
use bevy_rollback_lab::LabNet;
use bevy_rollback_lab::clock::LabClock;
use bevy_rollback_lab::internals::config::link_settings;
use bevy_rollback_lab::internals::life_cycle::OpenNetwork;
use bevy_rollback_lab::prelude::*;
use bevy_rollback_lab::record::{EpisodeDocument, SessionDocument, SyncStatus};
use bevy_rollback_lab::session::{PeerNotice, SessionError};
use rollback_lab_link::conditions::Conditions;
use rollback_lab_record::EndReason;
use rollback_lab_record::check::{check_episode, check_pair};
use rollback_lab_test_kit::lab::{
    LabPeer, TestConfig, VirtualNetwork, VirtualServer, frame, lab_peer, menu_peer, run_until,
};

use crate::end::SilentServer;

fn config(room: &str) -> LabConfig {
    LabConfig::new("ws://lab", room)
        .frame_limit(120)
        .episodes(1)
        .no_files()
}

/// Updates at 60 Hz in so many seconds.
fn seconds(seconds: usize) -> usize {
    seconds * 60
}

/// Peers in a menu that count what is refused and what fails.
fn menus(server: &VirtualServer, count: u64) -> Vec<LabPeer> {
    (1..=count)
        .map(|seed| {
            let mut peer = menu_peer(server, seed);
            peer.app
                .init_resource::<Seen>()
                .add_observer(|refused: On<JoinRefused>, mut seen: ResMut<Seen>| {
                    seen.refused.push(refused.event().to_string());
                })
                .add_observer(|failed: On<SessionFailed>, mut seen: ResMut<Seen>| {
                    seen.failed.push(failed.error.clone());
                })
                .add_systems(
                    Update,
                    |mut notices: MessageReader<PeerNotice>, mut seen: ResMut<Seen>| {
                        seen.notices.extend(notices.read().cloned());
                    },
                );
            peer
        })
        .collect()
}

#[derive(Resource, Default)]
struct Seen {
    refused: Vec<String>,
    failed: Vec<SessionError>,
    notices: Vec<PeerNotice>,
}

fn seen(peer: &LabPeer) -> &Seen {
    peer.app.world().resource::<Seen>()
}

fn until(peers: &mut [LabPeer], limit: usize, done: impl Fn(&LabPeer) -> bool) {
    let reached = run_until(peers, frame(60), limit, |peers| peers.iter().all(&done));
    let phases: Vec<_> = peers.iter().map(LabPeer::phase).collect();
    assert!(reached, "not within {limit} updates, phases are {phases:?}");
}

fn until_phase(peers: &mut [LabPeer], limit: usize, phase: SessionPhase) {
    until(peers, limit, |peer| peer.phase() == phase);
}

fn join(peers: &mut [LabPeer], config: &LabConfig) {
    for peer in peers {
        peer.trigger(JoinLab(config.clone()));
    }
}

/// The session document of the session that has `id`, and its episodes.
fn files_of(peer: &LabPeer, id: &str) -> (SessionDocument, Vec<EpisodeDocument>) {
    let mut sessions = peer.sessions();
    sessions.retain(|document| document.session.session_id == id);
    assert_eq!(sessions.len(), 1, "one session document of session {id}");
    let mut episodes = peer.episodes();
    episodes.retain(|document| document.session.session_id == id);
    for episode in &episodes {
        assert_eq!(check_episode(episode), []);
    }
    (sessions.remove(0), episodes)
}

fn session_id(peer: &LabPeer) -> String {
    peer.app
        .world()
        .resource::<SessionInfo>()
        .session_id
        .clone()
}

/// Plays one session of all `peers` from their menus to its end, and returns its id.
fn play_session(peers: &mut [LabPeer], config: &LabConfig) -> String {
    join(peers, config);
    until_phase(peers, 2_000, SessionPhase::Finished);
    let id = session_id(&peers[0]);
    let episodes: Vec<_> = peers.iter().map(|peer| files_of(peer, &id).1).collect();
    for (peer, of) in episodes.iter().enumerate() {
        let [episode] = &of[..] else {
            panic!("one episode, not {}", of.len());
        };
        assert_eq!(episode.sync.status, SyncStatus::Verified);
        assert_eq!(
            (episode.episode.episode_num, episode.episode.end_frame),
            (0, 120)
        );
        if peer > 0 {
            assert_eq!(check_pair(&episodes[0][0], episode), []);
        }
    }
    id
}

#[test]
fn an_app_in_its_menu_is_idle_until_it_joins_and_again_when_it_left() {
    let server = VirtualServer::default();
    let mut peers = menus(&server, 2);
    run_until(&mut peers, frame(60), 30, |_| false);
    for peer in &peers {
        let world = peer.app.world();
        assert_eq!(
            *world.resource::<State<SessionPhase>>().get(),
            SessionPhase::Idle
        );
        assert!(!world.contains_resource::<LabNet>());
        assert_eq!(peer.sessions(), [], "no file of no session");
    }
    let id = play_session(&mut peers, &config("room"));
    for peer in &mut peers {
        peer.trigger(LeaveLab);
    }
    until_phase(&mut peers, seconds(1), SessionPhase::Idle);
    run_until(&mut peers, frame(60), 5, |_| false);
    for peer in &peers {
        let world = peer.app.world();
        assert!(!world.contains_resource::<LabNet>());
        assert!(!world.contains_resource::<SessionInfo>());
        assert!(!world.contains_resource::<Session<TestConfig>>());
        let (session, _) = files_of(peer, &id);
        assert_eq!(session.end_reason, Some(EndReason::Completed));
        let phases: Vec<_> = session
            .phases
            .iter()
            .map(|entry| entry.phase.as_str())
            .collect();
        let ending = [
            "starting", "playing", "ending", "between", "leaving", "finished",
        ];
        assert!(phases.ends_with(&ending), "{phases:?}");
    }
}

#[test]
fn a_veteran_meets_newcomers_and_has_a_rematch_in_the_same_room() {
    let server = VirtualServer::default();
    let mut peers = menus(&server, 3);
    let newcomer = peers.pop().unwrap();
    let mut ids = vec![play_session(&mut peers, &config("one"))];
    let _other = std::mem::replace(&mut peers[1], newcomer);
    // An hour in the menu.
    for _ in 0..60 {
        peers[0].step(Duration::from_secs(60));
    }
    ids.push(play_session(&mut peers, &config("two").fps(30)));
    ids.push(play_session(&mut peers, &config("two").fps(30)));
    ids.push(play_session(&mut peers, &config("two").input_delay(0)));
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 4, "every session has its own id");
    let mut documents = peers[0].sessions();
    assert_eq!(documents.len(), 4, "and one document");
    documents.sort_by_key(|document| document.origin_unix_ms);
    let origins: Vec<_> = documents.iter().map(|d| d.origin_unix_ms).collect();
    assert!(origins[1] >= origins[0] + 3_600_000, "{origins:?}");
    assert!(
        origins[2] > origins[1] && origins[3] > origins[2],
        "{origins:?}"
    );
    for document in &documents[1..] {
        let first = document.phases[0].at_us;
        assert!(first < 50_000, "times count from the join, not {first} us");
        assert_eq!(document.end_reason, Some(EndReason::Completed));
    }
}

#[test]
fn each_session_document_keeps_the_local_player_as_configured() {
    let server = VirtualServer::default();
    let mut peers = menus(&server, 2);
    let study = bevy_rollback_lab::config::StudyConfig {
        pseudonym: Some("P14".into()),
        ..default()
    };
    play_session(&mut peers, &config("room").study(study));
    for (own, peer) in peers.iter().enumerate() {
        let players = &peer.sessions()[0].session.players;
        let names: Vec<_> = players
            .iter()
            .map(|player| player.pseudonym.is_some())
            .collect();
        assert!(names[own], "player {own}: {players:?}");
        assert!(!names[1 - own]);
    }
}

#[test]
fn leaving_ends_in_idle_from_every_phase_and_the_other_learns_of_it() {
    let phases = [
        SessionPhase::Gathering,
        SessionPhase::Meeting,
        SessionPhase::Between,
        SessionPhase::Starting,
        SessionPhase::Playing,
        SessionPhase::Ending,
    ];
    for phase in phases {
        let server = VirtualServer::default();
        let mut peers = menus(&server, 2);
        let waits = matches!(phase, SessionPhase::Between);
        peers[0].trigger(JoinLab(config("room").auto_start(!waits)));
        if phase != SessionPhase::Gathering {
            peers[1].trigger(JoinLab(config("room")));
        }
        let reached = run_until(&mut peers, frame(60), 2_000, |peers| match phase {
            // The first frame is played on both peers.
            SessionPhase::Playing => peers.iter().all(|peer| peer.frame() > 30),
            _ => peers[0].phase() == phase,
        });
        assert!(reached, "{phase:?}");
        peers[0].trigger(LeaveLab);
        // A second request changes nothing.
        peers[0].trigger(LeaveLab);
        let left = run_until(&mut peers, frame(60), seconds(4), |peers| {
            peers[0].phase() == SessionPhase::Idle
        });
        assert!(left, "{phase:?}: left, not {:?}", peers[0].phase());
        run_until(&mut peers, frame(60), 10, |_| false);
        assert_eq!(
            seen(&peers[0]).failed,
            [],
            "{phase:?}: leaving is no failure"
        );
        let other = peers[1].phase();
        match phase {
            SessionPhase::Gathering => {
                assert_eq!(other, SessionPhase::Idle);
            }
            // Nothing was played: the other waits for a player in this one's place.
            SessionPhase::Meeting | SessionPhase::Between | SessionPhase::Starting => {
                assert_eq!(other, SessionPhase::Gathering, "{phase:?}");
            }
            SessionPhase::Playing => {
                assert_eq!(other, SessionPhase::Failed);
                let [SessionError::PeerGone { player: 0, reason }] = seen(&peers[1]).failed[..]
                else {
                    panic!("{:?}", seen(&peers[1]).failed);
                };
                assert_eq!(reason, "it left");
                let cut = peers[0].episodes();
                assert_eq!(cut[0].episode.end_reason, Some(EndReason::LocalQuit));
                assert!(cut[0].episode.is_partial);
            }
            _ => {
                assert_eq!(other, SessionPhase::Finished);
                for peer in &peers {
                    assert_eq!(peer.episodes()[0].sync.status, SyncStatus::Verified);
                }
            }
        }
        for document in peers[0].sessions() {
            let reason = document.end_reason.clone();
            assert_eq!(
                reason,
                Some(EndReason::LocalQuit),
                "{phase:?}: {document:?}"
            );
        }
        // The next session is like the first one.
        if other != SessionPhase::Gathering {
            play_session(&mut peers, &config("next"));
        }
    }
}

#[test]
fn a_second_join_in_a_room_is_refused_and_the_match_goes_on() {
    let server = VirtualServer::default();
    let mut peers = menus(&server, 2);
    join(&mut peers, &config("room"));
    until(&mut peers, 2_000, |peer| peer.frame() > 30);
    peers[0].trigger(JoinLab(config("elsewhere")));
    until_phase(&mut peers, 2_000, SessionPhase::Finished);
    assert_eq!(
        seen(&peers[0]).refused,
        [
            "room elsewhere is not joined: this peer is in room room (playing); trigger `LeaveLab` first"
        ]
    );
    assert_eq!(peers[0].episodes()[0].sync.status, SyncStatus::Verified);
}

#[test]
fn leaving_and_joining_at_once_changes_the_room() {
    let server = VirtualServer::default();
    let mut peers = menus(&server, 3);
    join(&mut peers[..2], &config("first"));
    until(&mut peers[..2], 2_000, |peer| peer.frame() > 30);
    peers[0].trigger(LeaveLab);
    peers[0].trigger(JoinLab(config("second")));
    peers[2].trigger(JoinLab(config("second")));
    let played = run_until(&mut peers, frame(60), 2_000, |peers| {
        [0, 2]
            .iter()
            .all(|&peer| peers[peer].phase() == SessionPhase::Finished)
    });
    assert!(played);
    assert_eq!(peers[2].episodes()[0].sync.status, SyncStatus::Verified);
    assert_eq!(seen(&peers[0]).refused, [""; 0]);
}

#[test]
fn leaving_takes_back_a_join_that_has_not_begun() {
    let server = VirtualServer::default();
    let mut peers = menus(&server, 1);
    peers[0].trigger(JoinLab(config("room")));
    peers[0].trigger(LeaveLab);
    run_until(&mut peers, frame(60), 30, |_| false);
    assert_eq!(peers[0].phase(), SessionPhase::Idle);
}

#[test]
fn a_server_that_does_not_answer_can_be_left() {
    let server = VirtualServer::default();
    let mut peers = menus(&server, 1);
    let open = |config: &LabConfig, clock: &LabClock| {
        let (link, conditions) = (link_settings(config), Conditions::default());
        LabNet::new(SilentServer, clock.clone(), link, &conditions, 1)
    };
    peers[0].app.insert_resource(OpenNetwork(Box::new(open)));
    peers[0].trigger(JoinLab(config("room")));
    run_until(&mut peers, frame(60), 60, |_| false);
    assert_eq!(peers[0].phase(), SessionPhase::Connecting);
    peers[0].trigger(LeaveLab);
    until_phase(&mut peers, seconds(1), SessionPhase::Idle);
    // The next one answers no more than this one, and is given up.
    peers[0].trigger(JoinLab(config("room")));
    run_until(&mut peers, frame(60), seconds(19), |_| false);
    assert_eq!(peers[0].phase(), SessionPhase::Connecting);
    until_phase(&mut peers, seconds(2), SessionPhase::Failed);
    peers[0].trigger(LeaveLab);
    until_phase(&mut peers, seconds(1), SessionPhase::Idle);
}

#[test]
fn what_cannot_work_is_a_failure_at_run_time_and_the_next_try_plays() {
    let server = VirtualServer::default();
    let mut peers = menus(&server, 2);
    peers[0].trigger(JoinLab(config("room").players(9)));
    until_phase(&mut peers[..1], 5, SessionPhase::Failed);
    assert_eq!(
        seen(&peers[0]).failed[0].to_string(),
        "lab configuration: players is 9, outside 1..=4"
    );
    // A file in the place of the folder: not even root can write below it.
    let taken = std::env::temp_dir().join(format!("rollback-lab-life-{}", std::process::id()));
    std::fs::write(&taken, b"not a folder").unwrap();
    peers[0].trigger(JoinLab(config("room").export_dir(taken.join("exports"))));
    run_until(&mut peers[..1], frame(60), 5, |_| false);
    std::fs::remove_file(&taken).unwrap();
    assert_eq!(peers[0].phase(), SessionPhase::Failed);
    let text = seen(&peers[0]).failed[1].to_string();
    assert!(text.contains("cannot be written"), "{text}");
    peers[0].trigger(LeaveLab);
    until_phase(&mut peers[..1], 5, SessionPhase::Idle);
    play_session(&mut peers, &config("room"));
}

#[test]
fn a_match_that_failed_is_tried_again_in_the_same_room() {
    let server = VirtualServer::default();
    let mut peers = menus(&server, 2);
    join(&mut peers, &config("room"));
    until(&mut peers, 2_000, |peer| peer.frame() > 30);
    peers[1].trigger(LeaveLab);
    let failed = run_until(&mut peers, frame(60), seconds(1), |peers| {
        peers[0].phase() == SessionPhase::Failed
    });
    assert!(failed);
    // At once, while both are still leaving.
    play_session(&mut peers, &config("room"));
    assert_eq!(seen(&peers[0]).failed.len(), 1);
}

#[test]
fn removing_the_ggrs_session_ends_the_episode_where_it_was() {
    let server = VirtualServer::default();
    let mut peers = menus(&server, 2);
    join(&mut peers, &config("room").frame_limit(600));
    until(&mut peers, 2_000, |peer| peer.frame() >= 150);
    let quit_at = peers[0].frame();
    let world = peers[0].app.world_mut();
    world.remove_resource::<Session<TestConfig>>();
    let over = run_until(&mut peers, frame(60), seconds(4), |peers| {
        peers[0].phase() == SessionPhase::Idle && peers[1].phase() == SessionPhase::Failed
    });
    let phases: Vec<_> = peers.iter().map(LabPeer::phase).collect();
    assert!(over, "phases are {phases:?}");
    run_until(&mut peers, frame(60), 5, |_| false);
    let [ours] = &peers[0].episodes()[..] else {
        panic!("one partial file");
    };
    assert_eq!(ours.episode.end_reason, Some(EndReason::SessionRemoved));
    assert!(ours.episode.is_partial);
    let end = ours.episode.end_frame;
    assert!(
        (quit_at - 12..=quit_at).contains(&end),
        "{end} of {quit_at} frames"
    );
    let [theirs] = &peers[1].episodes()[..] else {
        panic!("one partial file");
    };
    assert_eq!(theirs.episode.end_reason, Some(EndReason::PeerLeft));
    assert_eq!(check_episode(ours), []);
    assert_eq!(check_pair(ours, theirs), []);
    play_session(&mut peers, &config("again"));
}

#[test]
fn an_app_that_exits_on_finished_leaves_verified_files() {
    let lossy = Conditions::parse("latency=50ms,loss=20%").unwrap();
    for seed in 0..40 {
        let network = VirtualNetwork::new(2, true);
        let mut peers: Vec<_> = [1, 2]
            .map(|peer| {
                let mut peer = lab_peer(&network, config("room"), seed * 2 + peer);
                peer.once_playing(&lossy);
                peer
            })
            .into();
        let mut exited = Vec::new();
        for _ in 0..seconds(60) {
            for peer in &mut peers {
                peer.step(frame(60));
            }
            // As `examples/minimal.rs` does: no update follows.
            while let Some(at) = peers
                .iter()
                .position(|peer| peer.phase() == SessionPhase::Finished)
            {
                let mut peer = peers.remove(at);
                peer.app.world_mut().write_message(AppExit::Success);
                peer.step(frame(60));
                exited.push(peer);
            }
            if peers.is_empty() {
                break;
            }
        }
        let phases: Vec<_> = peers.iter().map(LabPeer::phase).collect();
        assert!(peers.is_empty(), "seed {seed}: phases are {phases:?}");
        let files: Vec<_> = exited
            .iter()
            .map(|peer| peer.episodes().remove(0))
            .collect();
        for file in &files {
            assert_eq!(file.sync.status, SyncStatus::Verified, "seed {seed}");
        }
        assert_eq!(check_pair(&files[0], &files[1]), [], "seed {seed}");
        for peer in &exited {
            assert_eq!(peer.sessions()[0].end_reason, Some(EndReason::Completed));
        }
    }
}

#[test]
fn frame_counts_and_order_start_anew_in_every_session() {
    let server = VirtualServer::default();
    let mut peers = menus(&server, 2);
    join(&mut peers, &config("room").frame_limit(600));
    until(&mut peers, 2_000, |peer| peer.frame() > 100);
    for peer in &mut peers {
        peer.trigger(LeaveLab);
    }
    until_phase(&mut peers, seconds(4), SessionPhase::Idle);
    run_until(&mut peers, frame(60), 5, |_| false);
    for peer in &peers {
        assert_eq!(peer.app.world().resource::<RollbackFrameCount>().0, 0);
    }
    let newcomer = menu_peer(&server, 9);
    peers.push(newcomer);
    peers.remove(0);
    peers[1].app.init_resource::<Seen>();
    play_session(&mut peers, &config("other"));
}
