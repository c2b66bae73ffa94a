//! Every route policy keeps to its paths.

use bevy_rollback_lab::LabNet;
use bevy_rollback_lab::prelude::*;
use rollback_lab_record::Via;
use rollback_lab_test_kit::lab::{Hub, LabPeer, frame, lab_peer, play, run_until};

const FRAMES: u32 = 300;

fn two_peers(hub: &Hub, policy: RoutePolicy) -> Vec<LabPeer> {
    let config = || {
        LabConfig::new("ws://lab", "room")
            .route_policy(policy)
            .frame_limit(FRAMES)
            .episodes(1)
            .no_files()
    };
    vec![lab_peer(hub, config(), 1), lab_peer(hub, config(), 2)]
}

#[test]
fn relay_only_sends_every_input_over_the_relay() {
    let hub = Hub::new(2, true);
    let documents = play(
        &mut two_peers(&hub, RoutePolicy::RelayOnly),
        frame(60),
        5_000,
    );
    for document in documents.iter().flatten() {
        assert_eq!(
            document.inputs.sent_via_p2p,
            Some(0),
            "no input goes peer to peer"
        );
        assert!(document.inputs.sent_via_relay > Some(290));
        assert_eq!(document.connection.route_type, Some(Via::Relay));
        assert_eq!(
            document.quality.p2p_fallback_triggered,
            Some(false),
            "chosen, not fallen back"
        );
    }
}

#[test]
fn dual_path_sends_every_input_on_both_paths() {
    let hub = Hub::new(2, true);
    let documents = play(
        &mut two_peers(&hub, RoutePolicy::DualPath),
        frame(60),
        5_000,
    );
    for document in documents.iter().flatten() {
        assert!(document.inputs.sent_via_both > Some(290));
        assert_eq!(document.frames.stalled, 0);
    }
    assert!(
        hub.relayed_game().0 > 500,
        "the relay carries a copy of everything"
    );
}

#[test]
fn p2p_only_never_touches_the_relay_and_a_healed_path_goes_on() {
    let hub = Hub::new(2, true);
    let mut peers = two_peers(&hub, RoutePolicy::P2pOnly);
    assert!(run_until(&mut peers, frame(60), 3_000, |peers| peers[0]
        .frame()
        > 100));
    for peer in &peers {
        peer.app.world().resource::<LabNet>().cut_direct();
    }
    run_until(&mut peers, frame(60), 60, |_| false);
    for peer in &peers {
        peer.app.world().resource::<LabNet>().heal_direct();
    }
    let documents = play(&mut peers, frame(60), 5_000);
    assert_eq!(
        hub.relayed_game(),
        (0, 0),
        "no game packet touches the relay"
    );
    for document in documents.iter().flatten() {
        assert!(
            document.frames.stalled > 0,
            "without a second path the game waits, and says so"
        );
        assert_eq!(document.frames.total, u64::from(FRAMES));
    }
}

#[test]
fn policies_must_agree() {
    let hub = Hub::new(2, true);
    let config = |policy| {
        LabConfig::new("ws://lab", "room")
            .route_policy(policy)
            .no_files()
    };
    let mut peers = vec![
        lab_peer(&hub, config(RoutePolicy::P2pFirst), 1),
        lab_peer(&hub, config(RoutePolicy::RelayOnly), 2),
    ];
    assert!(run_until(&mut peers, frame(60), 600, |peers| {
        peers
            .iter()
            .all(|peer| peer.phase() == SessionPhase::Failed)
    }));
}
