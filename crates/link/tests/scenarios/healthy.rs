//! Healthy matches: the relay carries only probes.

use rollback_lab_link::route::RouteState;
use rollback_lab_link::wire::Path;

use rollback_lab_test_kit::link_world::{MS, SECOND, Setup, World};

#[test]
fn ten_healthy_minutes_send_no_game_packet_over_the_relay() {
    for fps in [10, 20, 30, 60, 120] {
        let setup = Setup {
            fps,
            direct: 20 * MS,
            relay: 25 * MS,
            conditions: "direct:jitter=3ms",
            tick_jitter: 2 * MS,
            input_delay: 2,
            ..Setup::default()
        };
        let world = World::playing(setup, 600 * SECOND);
        for peer in &world.peers {
            let stats = peer.link.stats();
            assert_eq!(stats.game_bytes_relay, 0, "{fps} fps: {:?}", peer.changes);
            assert_eq!(stats.game_packets_relay, 0);
            assert_eq!(stats.both_paths.as_nanos(), 0);
            let [data, heartbeats, probes, _] = peer.relay_kinds;
            assert_eq!((data, heartbeats), (0, 0), "the relay carries only probes");
            assert!(
                (500..=620).contains(&probes),
                "{probes} probes in ten minutes"
            );
            assert_eq!(peer.link.route(), RouteState::Direct);
            assert_eq!(peer.changes.len(), 1, "only connected");
            assert!(peer.link.p2p_healthy());
            assert_eq!(stats.path(Path::Direct).lost, 0);
            let missed = stats.path(Path::Direct).missed;
            assert!(
                missed <= 1,
                "at most one overtaken packet is in flight at the end"
            );
        }
        assert_eq!(world.stalls(), 0);
    }
}

/// Polls between frames owe no packet: the packet rate is the game's, not the screen's.
#[test]
fn rendering_at_144_hz_does_not_raise_the_packet_rate_of_a_60_hz_game() {
    let measured = |tick| {
        let setup = Setup {
            tick: [tick, None],
            ..Setup::default()
        };
        let world = World::playing(setup, 10 * SECOND);
        assert_eq!(world.failovers(), 0);
        assert_eq!(world.peers[0].link.stats().game_bytes_relay, 0);
        world.peers[1].link.stats().path(Path::Direct).received
    };
    let (plain, fast) = (measured(None), measured(Some(SECOND / 144)));
    assert!(fast < plain * 13 / 10, "{fast} against {plain}");
}

/// The clocks of the two peers differ by 777 s in every scenario.
#[test]
fn round_trips_and_the_clock_offset_are_measured_on_both_paths() {
    let setup = Setup {
        direct: 20 * MS,
        relay: 40 * MS,
        ..Setup::default()
    };
    let world = World::playing(setup, 10 * SECOND);
    let link = &world.peers[0].link;
    let rtt = |path| link.path_rtt(path).unwrap().as_secs_f64() * 1e3;
    // Up to one tick of waiting at each end.
    assert!(
        (40.0..74.0).contains(&rtt(Path::Direct)),
        "{}",
        rtt(Path::Direct)
    );
    assert!(
        (80.0..114.0).contains(&rtt(Path::Relay)),
        "{}",
        rtt(Path::Relay)
    );
    let offset = link.clock_offset().unwrap();
    let error = (offset.offset_us - 777_000_000).unsigned_abs();
    assert!(error <= offset.uncertainty_us, "off by {error} us");
}
