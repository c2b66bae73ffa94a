//! A lost direct path stalls no frame while the failover margin allows it, and the files record it.

use std::time::Duration;

use bevy_rollback_lab::LabNet;
use bevy_rollback_lab::prelude::*;
use bevy_rollback_lab::record::{EpisodeDocument, RollbackEvent, Via};
use bevy_rollback_lab::session::SetHidden;
use rollback_lab_record::{RouteCause, RouteState};
use rollback_lab_test_kit::lab::{
    LabPeer, VirtualNetwork, checked, frame, lab_peer, play, run_until,
};

struct Cut {
    fps: u32,
    delay: u32,
    latency_ms: u32,
    /// How long after the first peer the second one ticks.
    phase: Duration,
}

fn config(cut: &Cut) -> LabConfig {
    let config = LabConfig::new("ws://lab", "room")
        .fps(cut.fps)
        .input_delay(cut.delay)
        .frame_limit(cut.fps * 3)
        .episodes(1)
        .no_files();
    match cut.latency_ms {
        0 => config,
        latency => config.conditions(format!("latency={latency}ms")),
    }
}

fn fell_back(document: &EpisodeDocument) -> bool {
    document
        .quality
        .p2p_fallback_triggered
        .expect("a session over the lab's transport knows its fallback")
}

/// Plays three seconds; both direct paths are cut after the first.
fn cut_run(cut: &Cut) -> Vec<EpisodeDocument> {
    let network = VirtualNetwork::new(2, true);
    let mut peers = vec![
        lab_peer(&network, config(cut), 1),
        lab_peer(&network, config(cut), 2),
    ];
    peers[1].clock.advance(cut.phase);
    let by = frame(cut.fps);
    let playing = run_until(&mut peers, by, 2_000, |peers| {
        peers.iter().all(|peer| peer.frame() >= cut.fps as i32)
    });
    assert!(playing, "the match runs");
    for peer in &peers {
        peer.app.world().resource::<LabNet>().cut_direct();
    }
    let documents = play(&mut peers, by, 4_000);
    documents.into_iter().flatten().collect()
}

#[test]
fn no_frame_stalls_within_the_failover_margin_at_any_phase_of_the_cut() {
    let mut edge: Option<f64> = None;
    let mut inside = 0;
    for fps in [30, 60, 120] {
        for delay in 0..=3 {
            for latency_ms in [0, 10, 20] {
                for step in 0..3 {
                    let phase = frame(fps) * step / 3;
                    let cut = Cut {
                        fps,
                        delay,
                        latency_ms,
                        phase,
                    };
                    for document in cut_run(&cut) {
                        let margin = document.quality.failover_margin_ms.min;
                        let what = format!(
                            "{fps} fps, input delay {delay}, latency {latency_ms} ms, phase {step}/3, margin {margin:?} ms"
                        );
                        let stalled = document.frames.stalled;
                        if document.quality.failover_feasible == Some(true) {
                            inside += 1;
                            assert_eq!(
                                stalled, 0,
                                "a cut within the margin stalls no frame: {what}"
                            );
                        } else if stalled > 0 {
                            edge = [edge, margin].into_iter().flatten().reduce(f64::max);
                        }
                        assert!(fell_back(&document), "the route fails over: {what}");
                        let cause = document.quality.fallback_cause;
                        assert!(
                            matches!(cause, Some(RouteCause::Dead | RouteCause::PeerPromoted)),
                            "because the path is dead or the peer failed over, not {cause:?}: {what}"
                        );
                    }
                }
            }
        }
    }
    eprintln!(
        "{inside} files within the margin, none stalled; highest margin that stalled: {edge:?} ms"
    );
    assert!(
        inside > 100,
        "the grid covers the margin: {inside} files are within it"
    );
}

fn two_peers(config: impl Fn() -> LabConfig) -> (VirtualNetwork, Vec<LabPeer>) {
    let network = VirtualNetwork::new(2, true);
    let peers = vec![
        lab_peer(&network, config(), 1),
        lab_peer(&network, config(), 2),
    ];
    (network, peers)
}

fn long_config() -> LabConfig {
    LabConfig::new("ws://lab", "room")
        .frame_limit(1_200)
        .episodes(1)
        .no_files()
}

fn run_to_frame(peers: &mut [LabPeer], frames: i32) {
    let there = run_until(peers, frame(60), 5_000, |peers| {
        peers.iter().all(|peer| peer.frame() >= frames)
    });
    assert!(there, "the match reaches frame {frames}");
}

#[test]
fn a_relayed_input_rolls_back_via_relay_while_the_route_is_still_suspect() {
    let (_hub, mut peers) = two_peers(|| {
        long_config()
            .input_delay(0)
            .conditions("direct:latency=40ms;relay:latency=45ms")
    });
    run_to_frame(&mut peers, 300);
    for peer in &peers {
        peer.app.world().resource::<LabNet>().cut_direct();
    }
    let cut = peers.iter().map(LabPeer::frame).max().unwrap_or_default();
    let documents = play(&mut peers, frame(60), 5_000);
    let mut suspect = 0;
    for document in documents.iter().flatten() {
        let fallback = document.quality.p2p_fallback_frame.expect("it fell back");
        let later = |event: &&RollbackEvent| event.frame > cut;
        for event in document.rollbacks.events.iter().filter(later) {
            assert_eq!(event.via, Via::Relay, "frame {}", event.frame);
            suspect += usize::from(event.current_frame < fallback);
        }
        let before = document.rollbacks.events.iter().filter(|e| e.frame < 290);
        let direct = before.filter(|event| event.via == Via::Direct).count();
        assert!(direct > 5, "before the cut inputs came peer to peer");
    }
    assert!(suspect > 0, "some ran before the failover");
}

#[test]
fn an_outage_of_150_ms_is_suspected_and_does_not_fail_over() {
    let (network, mut peers) = two_peers(long_config);
    run_to_frame(&mut peers, 300);
    network.faults(|faults| (faults.cut_from_first, faults.cut_from_others) = (true, true));
    run_until(&mut peers, frame(60), 9, |_| false); // 150 ms
    network.faults(|faults| (faults.cut_from_first, faults.cut_from_others) = (false, false));
    let documents = play(&mut peers, frame(60), 5_000);
    for document in documents.iter().flatten() {
        assert!(!fell_back(document), "a short outage is no failover");
        let changes: Vec<_> = document
            .quality
            .route_changes
            .iter()
            .map(|c| c.to)
            .collect();
        assert_eq!(
            changes,
            [RouteState::Suspect, RouteState::Direct],
            "suspected, then direct again"
        );
        let both = document
            .quality
            .both_paths_ms
            .expect("the transport measures it");
        assert!(
            both < 1_000.0,
            "both-path sending ends within a second: {both} ms"
        );
        assert_eq!(document.frames.stalled, 0);
    }
}

#[test]
fn a_one_way_cut_fails_over_both_peers_and_the_match_goes_on() {
    let (network, mut peers) = two_peers(long_config);
    run_to_frame(&mut peers, 300);
    network.faults(|faults| faults.cut_from_first = true);
    let documents = play(&mut peers, frame(60), 5_000);
    for document in documents.iter().flatten() {
        assert!(fell_back(document), "both peers leave the direct path");
        assert_eq!(document.frames.stalled, 0);
    }
}

#[test]
fn a_healed_path_does_not_fail_back() {
    let (network, mut peers) = two_peers(long_config);
    run_to_frame(&mut peers, 300);
    network.faults(|faults| (faults.cut_from_first, faults.cut_from_others) = (true, true));
    run_to_frame(&mut peers, 400);
    network.faults(|faults| (faults.cut_from_first, faults.cut_from_others) = (false, false));
    let documents = play(&mut peers, frame(60), 5_000);
    for document in documents.iter().flatten() {
        let last = document
            .quality
            .route_changes
            .last()
            .expect("the route changed");
        assert_eq!(
            last.to,
            RouteState::Relay,
            "failover is final under the default policy"
        );
    }
}

#[test]
fn when_the_relay_dies_too_the_match_goes_on_over_the_healed_direct_path() {
    let (network, mut peers) = two_peers(long_config);
    run_to_frame(&mut peers, 300);
    network.faults(|faults| (faults.cut_from_first, faults.cut_from_others) = (true, true));
    run_to_frame(&mut peers, 400);
    network.faults(|faults| {
        (faults.cut_from_first, faults.cut_from_others) = (false, false);
        faults.relay_dead = true;
    });
    let documents = play(&mut peers, frame(60), 5_000);
    for document in documents.iter().flatten() {
        let states: Vec<_> = document
            .quality
            .route_changes
            .iter()
            .map(|c| c.to)
            .collect();
        assert!(
            states.contains(&RouteState::Survival),
            "both paths are used in state survival: {states:?}"
        );
    }
}

#[test]
fn duplicated_datagrams_are_counted_and_dropped() {
    let (network, mut peers) = two_peers(long_config);
    network.faults(|faults| faults.duplicate = true);
    let documents = play(&mut peers, frame(60), 5_000);
    for document in documents.iter().flatten() {
        let direct = &document.quality.paths[0];
        assert!(
            direct.datagrams.duplicate > 1_000,
            "every datagram came twice and was counted"
        );
        assert_eq!(document.frames.stalled, 0);
    }
}

#[test]
fn a_peer_that_stalls_for_half_a_second_keeps_the_direct_path() {
    let (_hub, mut peers) = two_peers(long_config);
    run_to_frame(&mut peers, 300);
    for _ in 0..30 {
        peers[0].step(frame(60)); // the second peer hangs for half a second
    }
    peers[1].clock.advance(frame(60) * 30);
    let documents = play(&mut peers, frame(60), 5_000);
    for document in documents.iter().flatten() {
        assert!(!fell_back(document), "a stalled peer is no failover");
    }
    assert!(
        documents[0][0].frames.stalled > 0,
        "the other peer waited for it, and its file records how long"
    );
}

#[test]
fn a_peer_that_polls_at_15_hz_keeps_the_direct_path() {
    let (_hub, mut peers) = two_peers(long_config);
    for _ in 0..2_400 {
        for _ in 0..4 {
            peers[0].step(frame(60));
        }
        peers[1].step(frame(60) * 4);
        if peers
            .iter()
            .all(|peer| peer.phase() == SessionPhase::Finished)
        {
            break;
        }
    }
    for document in checked(&peers).iter().flatten() {
        assert_eq!(document.episode.end_frame, 1_200);
        assert!(!fell_back(document), "slow polling is no failover");
    }
}

#[test]
fn with_failback_a_path_that_stayed_good_for_15_seconds_is_used_again() {
    let config = || long_config().frame_limit(2_400).return_to_direct(true);
    let (network, mut peers) = two_peers(config);
    run_to_frame(&mut peers, 300);
    network.faults(|faults| (faults.cut_from_first, faults.cut_from_others) = (true, true));
    run_to_frame(&mut peers, 400);
    network.faults(|faults| (faults.cut_from_first, faults.cut_from_others) = (false, false));
    let documents = play(&mut peers, frame(60), 5_000);
    for document in documents.iter().flatten() {
        let last = document
            .quality
            .route_changes
            .last()
            .expect("the route changed");
        assert_eq!(
            (last.to, last.cause),
            (RouteState::Direct, RouteCause::Returned)
        );
        let healed = 400;
        assert!(
            last.frame >= healed + 15 * 60,
            "fails back after fifteen good seconds, not by frame {}",
            last.frame
        );
        assert_eq!(document.frames.stalled, 0);
    }
}

#[test]
fn hiding_and_pausing_a_peer_keep_the_direct_path() {
    let (_hub, mut peers) = two_peers(long_config);
    run_to_frame(&mut peers, 300);
    peers[1].app.world_mut().trigger(SetHidden(true));
    // A browser runs a hidden tab once a second.
    for _ in 0..3 {
        for _ in 0..60 {
            peers[0].step(frame(60));
        }
        peers[1].step(frame(60) * 60);
    }
    peers[1].app.world_mut().trigger(SetHidden(false));
    // A paused game polls the network while its time does not advance.
    for _ in 0..120 {
        peers[0].step(frame(60));
        peers[1].poll_paused(frame(60));
    }
    let documents = play(&mut peers, frame(60), 5_000);
    for document in documents.iter().flatten() {
        assert!(
            !fell_back(document),
            "neither hiding nor pausing is a failover"
        );
    }
    let [visible, hidden] = documents.as_slice() else {
        panic!("two peers");
    };
    let (visible, hidden) = (&visible[0].focus_loss, &hidden[0].focus_loss);
    assert_eq!(visible.period_count, None, "its window reports no focus");
    assert!(visible.background_periods.is_empty());
    let [reported] = visible.peer_background_periods.as_slice() else {
        panic!("the peer reported one period: {visible:?}");
    };
    assert_eq!(
        (reported.player_id, hidden.period_count),
        (1, Some(1)),
        "the hidden peer records it of itself, the other one of its peer"
    );
    let total = hidden
        .total_background_ms
        .expect("its window reports focus");
    // A tab that runs once a second reports that it is hidden when it first runs.
    assert!(
        (2_900.0..3_300.0).contains(&total) && (1_900.0..3_300.0).contains(&reported.duration_ms),
        "three seconds on both sides, reported up to one later: {total} ms and {} ms",
        reported.duration_ms
    );
}
