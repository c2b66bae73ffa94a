//! Outages of the relay before, during and after a failover, and matches that start over it.

use rollback_lab_link::route::{RouteCause, RoutePolicy, RouteState};
use rollback_lab_link::wire::Path;

use rollback_lab_test_kit::link_world::{MS, SECOND, Setup, World};

#[test]
fn a_relay_outage_does_not_affect_a_healthy_direct_path() {
    let mut world = World::playing(Setup::default(), 3 * SECOND);
    world.cut_both(Path::Relay);
    world.run_for(10 * SECOND);
    assert_eq!(world.routes(), [RouteState::Direct; 2]);
    assert!(world.peers[0].link.p2p_healthy());
    // Without a usable relay a suspect path stays alone.
    let before = world.peers[0].link.stats().game_packets_relay;
    world.cut_both(Path::Direct);
    world.run_for(400 * MS);
    assert_eq!(
        world.routes(),
        [RouteState::Suspect; 2],
        "no relayed packets prove the path dead"
    );
    assert_eq!(world.peers[0].link.stats().game_packets_relay, before);
    world.heal_both(Path::Direct);
    world.run_for(5 * SECOND);
    assert_eq!(world.routes(), [RouteState::Direct; 2]);
    assert_eq!(world.failovers(), 0);
}

#[test]
fn after_an_outage_of_both_paths_the_first_to_recover_carries_the_match() {
    for returning in Path::ALL {
        for downtime in [300, 1_000, 4_000] {
            let mut world = World::playing(Setup::default(), 3 * SECOND);
            Path::ALL.into_iter().for_each(|path| world.cut_both(path));
            world.run_for(downtime * MS);
            world.heal_both(returning);
            world.run_for(3 * SECOND);
            world.reset_counts();
            world.run_for(5 * SECOND);
            assert_eq!(world.stalls(), 0, "{returning} carries after {downtime} ms");
            let end = match returning {
                Path::Direct => RouteState::Direct,
                Path::Relay => RouteState::Relay,
            };
            assert_eq!(world.routes(), [end; 2]);
        }
    }
}

#[test]
fn a_relay_outage_while_suspect_leaves_the_direct_path_in_use() {
    let mut world = World::playing(Setup::default(), 3 * SECOND);
    world.cut_both(Path::Direct);
    world.run_for(100 * MS);
    assert_eq!(world.routes(), [RouteState::Suspect; 2]);
    world.cut_both(Path::Relay);
    world.run_for(2 * SECOND);
    assert_eq!(world.failovers(), 0);
    world.heal_both(Path::Direct);
    world.run_for(2 * SECOND);
    assert_eq!(world.routes(), [RouteState::Direct; 2]);
}

#[test]
fn a_relay_outage_after_a_failover_is_survived_on_a_healed_direct_path() {
    for one_way in [false, true] {
        let mut world = World::playing(Setup::default(), 3 * SECOND);
        world.cut_both(Path::Direct);
        world.run_for(2 * SECOND);
        assert_eq!(world.routes(), [RouteState::Relay; 2]);
        world.heal_both(Path::Direct);
        world.run_for(2 * SECOND);
        world.cut(0, Path::Relay);
        if !one_way {
            world.cut(1, Path::Relay);
        }
        world.run_for(SECOND);
        assert_eq!(world.routes(), [RouteState::Survival; 2]);
        world.reset_counts();
        world.run_for(10 * SECOND);
        assert_eq!(
            world.stalls(),
            0,
            "the match continues over the direct path"
        );
        world.heal_both(Path::Relay);
        // TCP's timer has doubled for 11 s: the next retransmission comes up to as long after that.
        world.run_for(12 * SECOND);
        assert_eq!(world.stalls(), 0);
        assert_eq!(
            world.routes(),
            [RouteState::Relay; 2],
            "survival is not a failback"
        );
        assert_eq!(world.failovers(), 2);
    }
}

#[test]
fn a_relay_reported_down_by_the_server_counts_at_once() {
    let mut world = World::playing(Setup::default(), 3 * SECOND);
    world.cut_both(Path::Direct);
    world.run_for(2 * SECOND);
    world.heal_both(Path::Direct);
    let now = world.now;
    world.peers[0].link.relay_usable(now, false);
    world.run_for(100 * MS);
    assert_eq!(world.routes(), [RouteState::Survival; 2]);
    assert_eq!(world.stalls(), 0);
    let now = world.now;
    world.peers[0].link.relay_usable(now, true);
    world.run_for(2 * SECOND);
    assert_eq!(world.routes(), [RouteState::Relay; 2]);
}

#[test]
fn a_match_without_a_direct_path_starts_over_the_relay() {
    let mut world = World::unconnected(Setup::default());
    for peer in &mut world.peers {
        let now = peer.clock(world.now);
        peer.link.peer_named(now);
        peer.link.relay_usable(now, true);
    }
    world.run_to(2_900 * MS);
    assert_eq!(world.routes(), [RouteState::Connecting; 2]);
    assert!(!world.peers[0].link.usable());
    world.run_to(3_500 * MS);
    assert_eq!(world.routes(), [RouteState::Provisional; 2]);
    world.start(1);
    world.run_for(5 * SECOND);
    assert_eq!(world.stalls(), 0);

    world.run_to(40 * SECOND);
    assert_eq!(world.routes(), [RouteState::Relay; 2]);
    assert_eq!(world.causes_into(RouteState::Relay)[0], RouteCause::Never);
    assert!(world.peers.iter().all(|peer| peer.fallback().is_none()));
}

#[test]
fn a_direct_path_that_opens_late_takes_over_once() {
    let mut world = World::unconnected(Setup::default());
    for peer in &mut world.peers {
        let now = peer.clock(world.now);
        peer.link.peer_named(now);
        peer.link.relay_usable(now, true);
    }
    world.run_to(4 * SECOND);
    world.start(1);
    world.run_for(2 * SECOND);
    // The two sides of a channel do not open at the same moment.
    let now = world.peers[0].clock(world.now);
    world.peers[0].link.direct_opened(now);
    world.run_for(40 * MS);
    let now = world.peers[1].clock(world.now);
    world.peers[1].link.direct_opened(now);
    world.run_for(3 * SECOND);
    assert_eq!(world.routes(), [RouteState::Direct; 2]);
    assert_eq!(world.stalls(), 0);
    assert_eq!(world.failovers(), 0);
}

#[test]
fn a_link_without_any_path_fails_after_15_seconds() {
    let mut world = World::unconnected(Setup::default());
    world.peers[0].link.peer_named(world.now);
    world.run_to(14_900 * MS);
    assert!(world.peers[0].link.failed().is_none());
    world.run_to(15_100 * MS);
    let error = world.peers[0].link.failed().unwrap();
    assert!(error.to_string().starts_with("no path to peer"));
    assert!(
        world.peers[1].link.failed().is_none(),
        "that peer was not named"
    );
}

#[test]
fn p2p_only_sends_nothing_over_the_relay() {
    let setup = Setup {
        policy: RoutePolicy::P2pOnly,
        ..Setup::default()
    };
    let mut world = World::playing(setup, 3 * SECOND);
    world.cut_both(Path::Direct);
    world.run_for(2 * SECOND);
    assert!(world.stalls() > 0, "there is no path to fail over to");
    world.heal_both(Path::Direct);
    world.run_for(3 * SECOND);
    assert_eq!(world.routes(), [RouteState::Direct; 2]);
    assert!(world.peers.iter().all(|peer| peer.relay_kinds == [0; 4]));
}

#[test]
fn relay_only_sends_no_game_packet_directly() {
    let setup = Setup {
        policy: RoutePolicy::RelayOnly,
        ..Setup::default()
    };
    let mut world = World::playing(setup, 3 * SECOND);
    assert_eq!(world.routes(), [RouteState::Relay; 2]);
    world.cut_both(Path::Relay);
    world.run_for(SECOND);
    world.heal_both(Path::Relay);
    world.run_for(SECOND);
    for peer in &world.peers {
        assert_eq!(peer.link.stats().game_packets_direct, 0);
        assert_eq!(peer.changes.len(), 1);
        assert_eq!(peer.changes[0].cause, RouteCause::Policy);
        assert!(peer.fallback().is_none());
    }
}

#[test]
fn dual_path_uses_both_paths_and_reports_the_policy_as_cause() {
    let setup = Setup {
        policy: RoutePolicy::DualPath,
        ..Setup::default()
    };
    let mut world = World::playing(setup, 3 * SECOND);
    assert!(world.peers[0].link.p2p_healthy());
    assert!(
        world.peers[0].game.sent_by[60..]
            .iter()
            .all(|by| by.direct && by.relay)
    );
    assert!(
        world
            .causes_into(RouteState::Suspect)
            .contains(&RouteCause::Policy)
    );
    world.cut_both(Path::Direct);
    world.run_for(3 * SECOND);
    assert_eq!((world.stalls(), world.failovers()), (0, 0));
    world.peers[0].link.direct_closed();
    world.run_for(SECOND);
    assert_eq!(world.routes(), [RouteState::Relay; 2]);
}
