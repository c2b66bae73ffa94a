//! Outages, spikes, stalls, hidden tabs and refused packets on the direct path.

use std::time::Duration;

use rollback_lab_link::link::HIDDEN_GRACE;
use rollback_lab_link::route::{RouteCause, RouteState};
use rollback_lab_link::wire::Path;

use rollback_lab_test_kit::link_world::{MS, SECOND, Setup, World};

#[test]
fn losing_one_direction_fails_over_both_peers() {
    for from in 0..2 {
        let mut world = World::playing(Setup::default(), 3 * SECOND);
        world.cut(from, Path::Direct);
        world.run_for(3 * SECOND);
        assert_eq!(world.routes(), [RouteState::Relay; 2]);
        assert_eq!(world.stalls(), 0);
        let mut causes = world.causes_into(RouteState::Relay);
        causes.sort_by_key(|cause| cause.as_str());
        assert_eq!(causes, [RouteCause::Dead, RouteCause::PeerPromoted]);
    }
}

#[test]
fn a_direct_path_that_heals_after_five_seconds_is_not_failed_back_to() {
    let mut world = World::playing(Setup::default(), 3 * SECOND);
    world.cut_both(Path::Direct);
    world.run_for(5 * SECOND);
    world.heal_both(Path::Direct);
    let direct = |world: &World| {
        world
            .peers
            .each_ref()
            .map(|peer| peer.link.stats().game_packets_direct)
    };
    let before = direct(&world);
    world.run_for(60 * SECOND);
    assert_eq!(world.routes(), [RouteState::Relay; 2], "no failback");
    assert_eq!(
        direct(&world),
        before,
        "no game packet is sent directly again"
    );
    assert_eq!(world.failovers(), 2, "one failover per peer");
    for peer in &world.peers {
        let fallback = peer.fallback().unwrap();
        assert!(fallback.is_fallback());
        assert!(!peer.link.p2p_healthy());
    }
    assert_eq!(world.stalls(), 0);
}

#[test]
fn a_spike_of_150_ms_is_bridged_and_over_within_a_second() {
    for phase in 0..17 {
        let setup = Setup {
            input_delay: 2,
            ..Setup::default()
        };
        let mut world = World::playing(setup, 3 * SECOND + phase * MS);
        world.reset_counts();
        world.cut_both(Path::Direct);
        world.run_for(150 * MS);
        world.heal_both(Path::Direct);
        world.run_for(10 * SECOND);
        assert_eq!(world.failovers(), 0, "a spike does not fail over");
        assert_eq!(world.routes(), [RouteState::Direct; 2]);
        assert!(!world.causes_into(RouteState::Suspect).is_empty());
        assert!(
            world.both_paths() < SECOND,
            "both paths for {:?}",
            world.both_paths()
        );
        assert_eq!(world.stalls(), 0);
    }
}

/// The same spike as on radio links: nothing is lost, everything arrives at once at the end.
#[test]
fn a_spike_that_delays_packets_is_bridged_too() {
    let setup = Setup {
        input_delay: 2,
        ..Setup::default()
    };
    let mut world = World::playing(setup, 3 * SECOND);
    world.reset_counts();
    for left in (0..150).rev().step_by(10) {
        for peer in &mut world.peers {
            let mut shape = peer.shaper.shape(Path::Direct);
            shape.latency = 10 * MS + left * MS;
            peer.shaper.set_shape(Path::Direct, shape);
        }
        world.run_for(10 * MS);
    }
    world.run_for(10 * SECOND);
    assert_eq!((world.failovers(), world.stalls()), (0, 0));
    assert!(
        world.both_paths() < SECOND,
        "both paths for {:?}",
        world.both_paths()
    );
}

#[test]
fn a_stall_of_the_peer_does_not_fail_over() {
    for span in [60, 100, 250, 400, 1_000, 3_000] {
        for (direct, relay) in [(10, 10), (10, 120), (120, 10)] {
            let setup = Setup {
                direct: direct * MS,
                relay: relay * MS,
                ..Setup::default()
            };
            let mut world = World::playing(setup, 3 * SECOND);
            for _ in 0..5 {
                world.suspend(1, span * MS);
                world.run_for(span * MS + 2 * SECOND);
                assert_eq!(
                    world.failovers(),
                    0,
                    "{span} ms: {:?}",
                    world.peers[0].changes
                );
                assert_eq!(world.routes(), [RouteState::Direct; 2], "{span} ms");
            }
            assert!(world.peers[1].link.stats().own_stalls >= 5, "{span} ms");
        }
    }
}

#[test]
fn a_stall_of_both_peers_does_not_fail_over() {
    let mut world = World::playing(Setup::default(), 3 * SECOND);
    world.suspend(0, 5 * SECOND);
    world.suspend(1, 7 * SECOND);
    world.run_for(10 * SECOND);
    assert_eq!(world.failovers(), 0);
    assert_eq!(world.routes(), [RouteState::Direct; 2]);
}

#[test]
fn a_peer_that_polls_at_15_hz_is_healthy() {
    let setup = Setup {
        tick: [None, Some(SECOND / 15)],
        input_delay: 3,
        ..Setup::default()
    };
    let world = World::playing(setup, 60 * SECOND);
    assert_eq!(world.failovers(), 0);
    // It takes a second until the peer counts as slow.
    assert!(world.both_paths() < 2 * SECOND, "{:?}", world.both_paths());
    assert_eq!(world.routes(), [RouteState::Direct; 2]);
}

#[test]
fn a_hidden_tab_that_wakes_once_a_second_is_not_suspect() {
    let mut world = World::playing(Setup::default(), 3 * SECOND);
    world.peers[1].link.set_hidden(true);
    world.run_for(100 * MS);
    for _ in 0..10 {
        world.suspend(1, SECOND);
        world.run_for(SECOND + 20 * MS);
    }
    assert!(world.peers[0].link.peer_hidden());
    let suspects = world.peers[0]
        .changes
        .iter()
        .filter(|change| change.to == RouteState::Suspect);
    assert!(
        suspects
            .clone()
            .all(|change| change.cause == RouteCause::PeerDegraded),
        "{suspects:?}"
    );
    world.peers[1].link.set_hidden(false);
    world.run_for(5 * SECOND);
    let changes = world.peers.each_ref().map(|peer| &peer.changes);
    assert_eq!(world.failovers(), 0, "{changes:#?}");
    assert_eq!(world.routes(), [RouteState::Direct; 2]);
}

#[test]
fn losing_the_direct_path_while_the_tab_is_hidden_fails_over() {
    for one_way in [false, true] {
        let mut world = World::playing(Setup::default(), 3 * SECOND);
        world.peers[1].link.set_hidden(true);
        world.run_for(SECOND);
        assert_eq!(world.causes_into(RouteState::Suspect), []);
        if one_way {
            world.cut(1, Path::Direct);
        } else {
            world.cut_both(Path::Direct);
        }
        world.reset_counts();
        world.run_for(4 * SECOND);
        assert_eq!(world.routes(), [RouteState::Relay; 2], "one way: {one_way}");
        // The visible peer waits as long as a browser may suspend a hidden tab.
        let gap = world.longest_gap();
        assert!(
            gap < HIDDEN_GRACE + SECOND / 2,
            "the game stalled for {gap:?}"
        );
    }
}

#[test]
fn a_packet_refused_by_the_direct_path_is_relayed_in_the_same_call() {
    let mut world = World::playing(Setup::default(), 3 * SECOND);
    world.peers[0].refuse_direct = true;
    world.run_for(20 * MS);
    world.peers[0].refuse_direct = false;
    world.run_for(5 * SECOND);
    let peer = &world.peers[0];
    assert_eq!(peer.changes[1].cause, RouteCause::SendFailed);
    assert!(peer.link.stats().direct_send_failures > 0);
    assert_eq!(peer.link.stats().unsent, 0, "nothing was lost");
    assert!(peer.game.sent_by.iter().all(|by| by.direct || by.relay));
    assert_eq!((world.stalls(), world.failovers()), (0, 0));
    assert_eq!(world.routes(), [RouteState::Direct; 2]);
}

#[test]
fn a_closed_channel_fails_over_at_once() {
    let mut world = World::playing(Setup::default(), 3 * SECOND);
    world.peers[0].link.direct_closed();
    world.run_for(SECOND);
    assert_eq!(world.routes(), [RouteState::Relay; 2]);
    assert_eq!(world.peers[0].changes[1].cause, RouteCause::Closed);
    assert_eq!(world.peers[1].fallback().unwrap().to, RouteState::Relay);
    assert_eq!(world.stalls(), 0);
}

/// Losses below the tolerance of the rules are masked by the redundancy of ggrs.
#[test]
fn single_losses_seldom_make_the_path_suspect() {
    for (spec, most) in [("direct:loss=1%", 0.03), ("direct:loss=2%", 0.08)] {
        let setup = Setup {
            conditions: spec,
            tick_jitter: 2 * MS,
            ..Setup::default()
        };
        let world = World::playing(setup, 300 * SECOND);
        let share = world.both_paths().as_secs_f64() / 300.0;
        println!("{spec}: both paths for {:.1} % of the time", share * 100.0);
        assert!(share < most, "{spec}: {share}");
        assert_eq!(world.failovers(), 0);
    }
}

#[test]
fn the_newest_input_is_sent_again_when_the_path_becomes_suspect() {
    let mut world = World::playing(Setup::default(), 3 * SECOND);
    world.cut_both(Path::Direct);
    while world.peers[0].link.route() == RouteState::Direct {
        let next = world.now + Duration::from_micros(500);
        world.run_to(next);
    }
    assert_eq!(world.peers[0].link.stats().resent_inputs, 1);
    let degraded = world.peers[0].changes.last().unwrap();
    assert_eq!(
        (degraded.to, degraded.metric),
        (RouteState::Suspect, "silenceMs")
    );
    assert!(
        degraded.value >= 45.0 && degraded.value < 68.0,
        "{degraded:?}"
    );
}

#[test]
fn a_page_that_is_blocked_several_times_a_second_is_not_suspect_at_every_block() {
    for block in [45, 58, 66] {
        let setup = Setup {
            input_delay: 2,
            ..Setup::default()
        };
        let mut world = World::playing(setup, 3 * SECOND);
        let before = world.both_paths();
        for number in 0..100 {
            world.suspend(number % 2, block * MS);
            world.run_for(300 * MS);
        }
        let both = world.both_paths() - before;
        assert_eq!(world.failovers(), 0, "{block} ms");
        // Of 30 s.
        assert!(
            both * 20 <= 30 * SECOND,
            "{block} ms: both paths for {both:?}"
        );
    }
}
