//! After a desync both peers write a bundle, and comparing the two names what differs.

use bevy::prelude::*;
use bevy_ggrs::{GgrsSchedule, RollbackFrameCount};
use bevy_rollback_lab::internals::sink::RecordSink;
use bevy_rollback_lab::prelude::*;
use bevy_rollback_lab::record::SyncStatus;
use rollback_lab_record::desync::DesyncBundle;
use serde_json::{Value, json};

use rollback_lab_test_kit::lab::{
    LabPeer, TestConfig, VirtualNetwork, Walker, frame, lab_peer, run_until, walk,
};

/// Peers compare the state of every tenth frame.
const EVERY: u32 = 10;
/// The first state that differs, between two compared ones.
const WRONG_FROM: i32 = 124;

fn config() -> LabConfig {
    LabConfig::new("ws://lab", "room")
        .players(2)
        .frame_limit(400)
        .desync_interval(EVERY)
        .episodes(1)
        .no_files()
}

fn print_walkers(walkers: Query<&Walker>) -> Value {
    let mut walkers: Vec<&Walker> = walkers.iter().collect();
    walkers.sort_by_key(|walker| walker.player);
    let state =
        |walker: &&Walker| json!({"player": walker.player, "state": walker.state.to_string()});
    json!({ "walkers": walkers.iter().map(state).collect::<Vec<_>>() })
}

/// A planted fault: in one frame the state of one player is changed.
fn corrupt_state(frame: Res<RollbackFrameCount>, mut walkers: Query<&mut Walker>) {
    for mut walker in &mut walkers {
        if frame.0 == WRONG_FROM && walker.player == 1 {
            walker.state ^= 1;
        }
    }
}

/// Updates of 20 seconds at 60 Hz.
const LIMIT: usize = 1_200;

fn pair(network: &VirtualNetwork) -> Vec<LabPeer> {
    let mut peers = vec![
        lab_peer(network, config(), 1),
        lab_peer(network, config(), 2),
    ];
    for peer in &mut peers {
        peer.app.print_state::<TestConfig, _>(print_walkers);
    }
    peers
}

fn bundles(peer: &LabPeer) -> Vec<DesyncBundle> {
    let files = peer.app.world().resource::<RecordSink>().files();
    files
        .iter()
        .filter(|(path, _)| path.to_string_lossy().contains("desync-"))
        .map(|(_, bytes)| {
            let text = std::str::from_utf8(bytes).expect("a file is text");
            DesyncBundle::parse(text).expect("a half of a desync")
        })
        .collect()
}

#[test]
fn a_desync_writes_two_bundles_that_name_the_difference_and_marks_the_files_disputed() {
    let network = VirtualNetwork::new(2, true);
    let mut peers = pair(&network);
    peers[1]
        .app
        .add_systems(GgrsSchedule, corrupt_state.after(walk));
    let over = run_until(&mut peers, frame(60), LIMIT, |peers| {
        peers.iter().all(|peer| !peer.episodes().is_empty())
    });
    assert!(over, "the episode goes on to its end");

    let halves: Vec<DesyncBundle> = peers.iter().flat_map(bundles).collect();
    let [ours, theirs] = halves.as_slice() else {
        panic!(
            "one bundle per peer, and none for later differences: {}",
            halves.len()
        );
    };
    for half in [ours, theirs] {
        // The state of a frame is the one before its own input.
        assert_eq!(half.first_differing_frame, Some(130));
        assert_eq!(half.compared_every_frames, EVERY);
        assert!(
            half.snapshots
                .iter()
                .all(|snapshot| snapshot.hash.is_some())
        );
    }
    assert_eq!(ours.local_hash, theirs.remote_hash);
    let comparison = ours.compare(theirs).unwrap();
    assert_eq!(
        (
            comparison.last_equal_frame,
            comparison.first_differing_frame
        ),
        (Some(120), Some(130))
    );
    let places: Vec<&str> = comparison
        .differences
        .iter()
        .map(|(place, _)| place.as_str())
        .collect();
    assert_eq!(places, ["/walkers/1/state"]);
    assert!(comparison.differing_inputs.is_empty());
    assert!(ours.inputs.iter().any(|inputs| inputs.frame == WRONG_FROM));

    for peer in &peers {
        let sync = &peer.episodes()[0].sync;
        assert_eq!(sync.status, SyncStatus::Disputed);
        assert_eq!(sync.desyncs.first().map(|desync| desync.frame), Some(130));
        assert!(sync.agreed_through_frame.is_none_or(|frame| frame < 130));
    }
}

/// The limit is 400: the checksums of the last compared frames arrive after the end.
#[test]
fn a_desync_just_before_the_end_is_found_by_the_history_digests() {
    let network = VirtualNetwork::new(2, true);
    let mut peers = pair(&network);
    let late = |frame: Res<RollbackFrameCount>, mut walkers: Query<&mut Walker>| {
        for mut walker in &mut walkers {
            if frame.0 == 385 && walker.player == 1 {
                walker.state ^= 1;
            }
        }
    };
    peers[1].app.add_systems(GgrsSchedule, late.after(walk));
    let over = run_until(&mut peers, frame(60), LIMIT, |peers| {
        peers.iter().all(|peer| !peer.episodes().is_empty())
    });
    assert!(over, "the episode goes on to its end");
    let halves: Vec<DesyncBundle> = peers.iter().flat_map(bundles).collect();
    assert_eq!(halves.len(), 2);
    let comparison = halves[0].compare(&halves[1]).unwrap();
    assert_eq!(comparison.first_differing_frame, Some(390));
    for peer in &peers {
        assert_eq!(peer.episodes()[0].sync.status, SyncStatus::Disputed);
    }
}

#[test]
fn a_match_without_a_desync_writes_no_bundle() {
    let network = VirtualNetwork::new(2, true);
    let mut peers = pair(&network);
    let over = run_until(&mut peers, frame(60), LIMIT, |peers| {
        peers.iter().all(|peer| !peer.episodes().is_empty())
    });
    assert!(over, "the episode goes on to its end");
    assert!(peers.iter().all(|peer| bundles(peer).is_empty()));
}
