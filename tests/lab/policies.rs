//! Every route policy uses its paths and no other.

use bevy_rollback_lab::LabNet;
use bevy_rollback_lab::prelude::*;
use rollback_lab_record::Via;
use rollback_lab_test_kit::lab::{LabPeer, VirtualNetwork, frame, lab_peer, play, run_until};

const FRAMES: u32 = 300;

fn two_peers(network: &VirtualNetwork, policy: RoutePolicy) -> Vec<LabPeer> {
    let config = || {
        LabConfig::new("ws://lab", "room")
            .route_policy(policy)
            .frame_limit(FRAMES)
            .episodes(1)
            .no_files()
    };
    vec![
        lab_peer(network, config(), 1),
        lab_peer(network, config(), 2),
    ]
}

#[test]
fn relay_only_sends_every_input_over_the_relay() {
    let network = VirtualNetwork::new(2, true);
    let documents = play(
        &mut two_peers(&network, RoutePolicy::RelayOnly),
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
            "chosen by policy, not a failover"
        );
    }
}

#[test]
fn dual_path_sends_every_input_on_both_paths() {
    let network = VirtualNetwork::new(2, true);
    let documents = play(
        &mut two_peers(&network, RoutePolicy::DualPath),
        frame(60),
        5_000,
    );
    for document in documents.iter().flatten() {
        assert!(document.inputs.sent_via_both > Some(290));
        assert_eq!(document.frames.stalled, 0);
    }
    assert!(
        network.relayed_game().0 > 500,
        "the relay forwards a copy of everything"
    );
}

#[test]
fn p2p_only_stalls_during_an_outage_and_sends_nothing_over_the_relay() {
    let network = VirtualNetwork::new(2, true);
    let mut peers = two_peers(&network, RoutePolicy::P2pOnly);
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
        network.relayed_game(),
        (0, 0),
        "no game packet touches the relay"
    );
    for document in documents.iter().flatten() {
        assert!(
            document.frames.stalled > 0,
            "without a second path the game stalls"
        );
        assert_eq!(document.frames.total, u64::from(FRAMES));
    }
}

#[test]
fn peers_with_different_policies_fail_to_start() {
    let network = VirtualNetwork::new(2, true);
    let config = |policy| {
        LabConfig::new("ws://lab", "room")
            .route_policy(policy)
            .no_files()
    };
    let mut peers = vec![
        lab_peer(&network, config(RoutePolicy::P2pFirst), 1),
        lab_peer(&network, config(RoutePolicy::RelayOnly), 2),
    ];
    assert!(run_until(&mut peers, frame(60), 600, |peers| {
        peers
            .iter()
            .all(|peer| peer.phase() == SessionPhase::Failed)
    }));
}
