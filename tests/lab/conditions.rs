//! Conditions of every kind in whole lab sessions: the match is played, and the file records what
//! they did to the packets.

use bevy_rollback_lab::LabNet;
use bevy_rollback_lab::prelude::*;
use rollback_lab_link::conditions::Conditions;

use rollback_lab_record::{Path, Via};
use rollback_lab_test_kit::lab::{VirtualNetwork, frame, lab_peer, play, play_under};

#[test]
fn the_file_records_what_every_condition_did() {
    let spec = "latency=20ms,burst=10%/4,duplicate=5%,reorder=5%/40ms,rate=200kbit";
    for file in play_under(spec, 7_200, 2) {
        let realised = &file.quality.conditions.realised[&Path::Direct];
        let share = |part: u64| part as f64 / realised.offered as f64;
        assert!(realised.offered > 3_000, "{realised:?}");
        assert!((0.07..0.13).contains(&share(realised.lost)), "{realised:?}");
        let burst = realised.lost as f64 / realised.loss_runs as f64;
        assert!((3.0..5.0).contains(&burst), "{realised:?}");
        let copies = share(realised.duplicated);
        assert!((0.03..0.06).contains(&copies), "{realised:?}");
        let behind = share(realised.reordered);
        assert!((0.02..0.06).contains(&behind), "{realised:?}");
        assert_eq!(realised.cut, 0);
        assert_eq!(
            realised.queue_dropped, 0,
            "200 kbit/s are enough for a game"
        );
        // 20 ms, 40 ms more for every twentieth, and the wait for the tick.
        let delay = realised.mean_delay_ms.unwrap();
        assert!((22.0..45.0).contains(&delay), "{realised:?}");
    }
}

#[test]
fn a_one_second_outage_of_one_player_stalls_no_frame_and_is_recorded() {
    let files = play_under("latency=10ms; p0:direct:cut=5s..6s", 900, 2);
    let cut = |player: usize, path: Path| files[player].quality.conditions.realised[&path].cut;
    // A packet a tick until the failover.
    assert!(cut(0, Path::Direct) > 12, "{}", cut(0, Path::Direct));
    assert_eq!(
        (
            cut(0, Path::Relay),
            cut(1, Path::Direct),
            cut(1, Path::Relay)
        ),
        (0, 0, 0)
    );
    for file in &files {
        assert_eq!(file.frames.stalled, 0, "{:?}", file.frames.stalls);
        let left = file.quality.p2p_fallback_frame.unwrap();
        assert!(
            (300..360).contains(&left),
            "outage at 300, failover at {left}"
        );
    }
}

#[test]
fn a_path_below_the_rate_of_the_game_fails_over_to_the_relay() {
    // A packet of some 60 bytes every tick is 29 kbit/s.
    for file in play_under("latency=10ms; direct:rate=20kbit", 1_800, 2) {
        assert_eq!(file.quality.p2p_fallback_triggered, Some(true));
        assert_eq!(file.connection.route_type, Some(Via::Relay));
    }
}

/// Inputs differ from frame 0 on, so that the first remote input corrects it: the state of frame 0
/// must still be saved after a whole prediction window.
#[test]
fn latency_beyond_the_prediction_window_still_rolls_back_to_frame_0() {
    let network = VirtualNetwork::new(2, true);
    let conditions = Conditions::parse("latency=160ms").unwrap();
    let mut peers = [1, 2].map(|seed| {
        let config = LabConfig::new("ws://lab", "room")
            .frame_limit(120)
            .input_delay(0)
            .episodes(2)
            .no_files();
        let peer = lab_peer(&network, config, seed);
        // From the first packet on, so that the first input comes late.
        peer.app
            .world()
            .resource::<LabNet>()
            .set_conditions(&conditions);
        peer
    });
    for file in play(&mut peers, frame(60), 6_000).into_iter().flatten() {
        assert_eq!(file.frames.total, 120);
        assert!(file.rollbacks.events.iter().any(|event| event.frame == 0));
    }
}
