//! Several episodes in one lab session, each with its own file, seed and rolled-back state.

use bevy::ecs::query::Allow;
use bevy::prelude::*;
use bevy_ggrs::{
    GgrsSchedule, Rollback, RollbackApp, RollbackDespawnCommandExtension, RollbackDespawned,
    RollbackFrameCount,
};
use bevy_rollback_lab::LabNet;
use bevy_rollback_lab::metrics::EpisodeRecord;
use bevy_rollback_lab::prelude::*;
use bevy_rollback_lab::record::SyncStatus;
use rollback_lab_record::{EndReason, Path};
use rollback_lab_test_kit::lab::{
    LabPeer, TestConfig, VirtualNetwork, frame, lab_peer, lab_peer_with, play, run_until,
};

fn config() -> LabConfig {
    LabConfig::new("ws://lab", "room")
        .frame_limit(400)
        .episodes(4)
        .input_delay(0)
        .conditions("latency=20ms,jitter=8ms")
        .no_files()
}

/// Ends the episode when the hash of a walker hits a rare value, which predicted inputs may do too.
fn score(
    walkers: Query<&rollback_lab_test_kit::lab::Walker>,
    frame: Res<RollbackFrameCount>,
    mut episode: ResMut<Episode>,
) {
    if frame.0 > 150 && walkers.iter().any(|walker| walker.state % 97 == 0) {
        episode.end("goal");
    }
}

fn record_every_hundredth(frame: Res<RollbackFrameCount>, mut record: ResMut<EpisodeRecord>) {
    let simulated = frame.0 - 1;
    if simulated % 100 == 50 {
        record.event(simulated, "mark", simulated);
    }
}

fn scoring_peers(network: &VirtualNetwork) -> Vec<LabPeer> {
    [1, 2]
        .map(|seed| {
            let mut peer = lab_peer(network, config(), seed);
            peer.app.add_systems(
                GgrsSchedule,
                (score, record_every_hundredth)
                    .chain()
                    .after(rollback_lab_test_kit::lab::walk),
            );
            peer
        })
        .into()
}

#[test]
fn episodes_end_on_confirmed_state_and_do_not_affect_the_next_one() {
    let network = VirtualNetwork::new(2, true);
    let mut peers = scoring_peers(&network);
    let documents = play(&mut peers, frame(60), 10_000);
    let [first, second] = documents.as_slice() else {
        panic!("two peers");
    };
    assert_eq!(
        (first.len(), second.len()),
        (4, 4),
        "four episodes, four files each"
    );
    let mut seeds = Vec::new();
    for (ours, theirs) in first.iter().zip(second) {
        assert_eq!(
            ours.episode.end_frame, theirs.episode.end_frame,
            "both end at the same frame"
        );
        assert_eq!(ours.episode.end_reason, theirs.episode.end_reason);
        assert_eq!(ours.sync.status, SyncStatus::Verified);
        assert_eq!(ours.sync.history_digest, theirs.sync.history_digest);
        assert!(!ours.episode.is_partial);
        assert!(
            ours.rollbacks.count > 0,
            "40 ms of round trip without delay cause rollbacks"
        );
        let realised = &ours.quality.conditions.realised[&Path::Direct];
        let direct = &ours.quality.paths[0];
        let sent = direct.datagrams.sent;
        assert!(
            realised.offered.abs_diff(sent) <= sent / 20,
            "the counts are of this episode alone: {realised:?} of {sent} datagrams"
        );
        let mean = realised.mean_delay_ms.expect("packets were let through");
        // 12 to 28 ms, waited out to the next tick of 60 Hz: three of ten packets (below 16.7 ms)
        // wait one tick, the others two.
        assert!((27.0..29.5).contains(&mean), "{mean} ms");
        seeds.push(ours.episode.seed);
        let marks: Vec<_> = ours.custom.events.iter().map(|event| event.frame).collect();
        let expected: Vec<_> = (0..ours.episode.end_frame)
            .filter(|f| f % 100 == 50)
            .collect();
        assert_eq!(
            marks, expected,
            "an event of a frame is written once, however often it ran"
        );
    }
    seeds.dedup();
    assert_eq!(seeds.len(), 4, "every episode has its own seed");
    let goals = first
        .iter()
        .filter(|d| d.episode.end_reason == Some(EndReason::from("goal")))
        .count();
    assert!(
        goals > 0,
        "the simulation ended at least one episode by itself"
    );
}

/// An entity that the game despawns so that a rollback can undo it.
#[derive(Component, Clone, Copy, Hash)]
#[require(Rollback)]
struct Spark;

/// Points of the running episode.
#[derive(Resource, Clone, Default, Hash, PartialEq, Debug)]
struct Points(u32);

/// What was left of the last episode when the next one began.
#[derive(Resource, Default)]
struct Left(Vec<(usize, Points)>);

#[test]
fn nothing_of_an_episode_is_left_for_the_next_one() {
    let network = VirtualNetwork::new(2, true);
    let mut peers = [1, 2].map(|seed| {
        lab_peer_with(&network, config().frame_limit(200), seed, |app| {
            app.rollback_component_with_copy::<Spark>()
                .episode_resource::<Points>()
                .init_resource::<Left>()
                .add_observer(
                    |_: On<EpisodeStarting>,
                     sparks: Query<(), (With<Spark>, Allow<RollbackDespawned>)>,
                     points: Res<Points>,
                     mut left: ResMut<Left>,
                     mut commands: Commands| {
                        left.0.push((sparks.iter().count(), points.clone()));
                        commands.spawn(Spark);
                    },
                )
                .add_systems(
                    GgrsSchedule,
                    |sparks: Query<Entity, With<Spark>>,
                     mut points: ResMut<Points>,
                     mut commands: Commands| {
                        points.0 += 1;
                        // Always one that is hidden, and not despawned yet.
                        for spark in &sparks {
                            commands.entity(spark).despawn_rollback();
                        }
                        commands.spawn(Spark);
                    },
                );
        })
    });
    let documents = play(&mut peers, frame(60), 10_000);
    assert_eq!(documents[0].len(), 4);
    for file in documents.concat() {
        assert_eq!(file.sync.status, SyncStatus::Verified);
    }
    for peer in &peers {
        let left = &peer.app.world().resource::<Left>().0;
        assert_eq!(left[..], vec![(0, Points(0)); 4]);
    }
}

#[test]
fn an_episode_after_a_failover_is_recorded_as_started_on_the_relay() {
    let network = VirtualNetwork::new(2, true);
    let config = || {
        LabConfig::new("ws://lab", "room")
            .frame_limit(300)
            .episodes(3)
            .no_files()
    };
    let mut peers = vec![
        lab_peer(&network, config(), 1),
        lab_peer(&network, config(), 2),
    ];
    let there = run_until(&mut peers, frame(60), 3_000, |peers| peers[0].frame() > 100);
    assert!(there);
    for peer in &peers {
        peer.app.world().resource::<LabNet>().cut_direct();
    }
    let documents = play(&mut peers, frame(60), 10_000);
    for episodes in &documents {
        let started: Vec<_> = episodes
            .iter()
            .map(|d| d.connection.peers[0].started_on_relay)
            .collect();
        assert_eq!(started, [Some(false), Some(true), Some(true)]);
        let fell: Vec<_> = episodes
            .iter()
            .map(|d| d.quality.p2p_fallback_triggered)
            .collect();
        assert_eq!(
            fell,
            [Some(true), Some(false), Some(false)],
            "the failover belongs to the episode in which it happened"
        );
        assert!(episodes.iter().all(|d| d.frames.stalled == 0));
    }
}

#[test]
fn a_held_episode_waits_until_the_game_is_ready_on_every_peer() {
    let network = VirtualNetwork::new(2, true);
    let config = || {
        LabConfig::new("ws://lab", "room")
            .frame_limit(100)
            .episodes(1)
            .auto_start(false)
            .no_files()
    };
    let mut peers = vec![
        lab_peer(&network, config(), 1),
        lab_peer(&network, config(), 2),
    ];
    run_until(&mut peers, frame(60), 600, |_| false);
    assert!(
        peers
            .iter()
            .all(|peer| peer.phase() == SessionPhase::Between),
        "no peer starts alone"
    );
    peers[0].app.world_mut().trigger(ReadyForEpisode);
    run_until(&mut peers, frame(60), 600, |_| false);
    assert_eq!(
        peers[0].phase(),
        SessionPhase::Starting,
        "one peer waits for the other"
    );
    peers[1].app.world_mut().trigger(ReadyForEpisode);
    let documents = play(&mut peers, frame(60), 2_000);
    assert_eq!(documents[0].len(), 1);
}

#[test]
fn the_session_document_lists_every_phase_and_file() {
    let network = VirtualNetwork::new(2, true);
    let config = || {
        LabConfig::new("ws://lab", "room")
            .frame_limit(60)
            .episodes(2)
            .no_files()
    };
    let mut peers = vec![
        lab_peer(&network, config(), 1),
        lab_peer(&network, config(), 2),
    ];
    play(&mut peers, frame(60), 3_000);
    for (player, peer) in peers.iter().enumerate() {
        let [session] = &peer.sessions()[..] else {
            panic!("one session document; the one from before all peers were known is superseded");
        };
        assert_eq!(session.end_reason, Some(EndReason::Completed));
        assert_eq!(
            session.episodes,
            [
                format!("episode-0.player-{player}.json"),
                format!("episode-1.player-{player}.json")
            ]
        );
        let phases: Vec<_> = session
            .phases
            .iter()
            .map(|phase| phase.phase.as_str())
            .collect();
        assert!(
            phases.ends_with(&["playing", "ending", "between", "leaving", "finished"]),
            "{phases:?}"
        );
        assert!(session.waited_ms.is_some());
    }
}

#[test]
fn three_and_four_players_get_the_same_handles_on_every_peer() {
    for players in [3, 4] {
        let network = VirtualNetwork::new(players, true);
        let config = || {
            LabConfig::new("ws://lab", "room")
                .players(players)
                .frame_limit(200)
                .episodes(1)
                .conditions("latency=15ms")
                .no_files()
        };
        let mut peers: Vec<_> = (0..players as u64)
            .map(|seed| lab_peer(&network, config(), seed + 1))
            .collect();
        let documents = play(&mut peers, frame(60), 5_000);
        for (handle, peer) in peers.iter().enumerate() {
            let info = peer.app.world().resource::<SessionInfo>();
            assert_eq!(
                info.local_player, handle,
                "handles follow the order of arrival"
            );
            assert_eq!(documents[handle][0].sync.status, SyncStatus::Verified);
        }
    }
}

#[test]
fn rollbacks_leave_no_trace_in_confirmed_state() {
    // The same inputs, once with rollbacks and once without any, lead to the same hashes.
    let run = |conditions: &'static str, lose_one_in: u64| {
        let network = VirtualNetwork::new(2, true);
        let config = || {
            LabConfig::new("ws://lab", "room")
                .frame_limit(240)
                .episodes(1)
                .conditions(conditions)
                .no_files()
        };
        let mut peers = vec![
            lab_peer(&network, config(), 1),
            lab_peer(&network, config(), 2),
        ];
        run_until(&mut peers, frame(60), 3_000, |peers| peers[0].frame() > 0);
        network.faults(|faults| faults.lose_one_in = lose_one_in);
        let documents = play(&mut peers, frame(60), 3_000);
        (
            documents[0][0].sync.hashes.clone(),
            documents[0][0].rollbacks.count,
        )
    };
    let (clean, none) = run("", 0);
    let (lossy, some) = run("latency=50ms,jitter=15ms", 10);
    assert_eq!(none, 0);
    assert!(some > 0, "the lossy run rolls back");
    assert_eq!(clean, lossy, "rollbacks leave no trace in confirmed state");
}

#[test]
fn one_player_alone_plays_an_episode() {
    let network = VirtualNetwork::new(1, true);
    let config = LabConfig::new("ws://lab", "room")
        .players(1)
        .frame_limit(50)
        .episodes(1)
        .no_files();
    let mut peers = vec![lab_peer(&network, config, 1)];
    let documents = play(&mut peers, frame(60), 500);
    assert_eq!(
        documents[0][0].episode.end_frame, 50,
        "the episode ends at its frame limit"
    );
    let session = peers[0].app.world().resource::<LabSession<TestConfig>>();
    assert_eq!(session.failure(), None);
}
