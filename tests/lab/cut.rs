//! A lost direct path stalls no frame while the budget allows it, and the files say so.

use std::time::Duration;

use bevy_rollback_lab::LabNet;
use bevy_rollback_lab::prelude::*;
use bevy_rollback_lab::record::{EpisodeDocument, RollbackEvent, Via};
use bevy_rollback_lab::session::SetHidden;
use rollback_lab_record::{RouteCause, RouteState};
use rollback_lab_test_kit::lab::{Hub, LabPeer, checked, frame, lab_peer, play, run_until};

struct Cut {
    fps: u32,
    delay: u32,
    latency_ms: u32,
    /// How far the second peer's ticks lie behind the first one's.
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

/// Plays three seconds, both direct paths cut after one of them.
fn cut_run(cut: &Cut) -> Vec<EpisodeDocument> {
    let hub = Hub::new(2, true);
    let mut peers = vec![
        lab_peer(&hub, config(cut), 1),
        lab_peer(&hub, config(cut), 2),
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
fn no_frame_stalls_inside_the_budget_at_any_phase_of_the_cut() {
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
                                "a cut inside the budget stalls no frame: {what}"
                            );
                        } else if stalled > 0 {
                            edge = [edge, margin].into_iter().flatten().reduce(f64::max);
                        }
                        assert!(fell_back(&document), "the route is promoted: {what}");
                        let cause = document.quality.fallback_cause;
                        assert!(
                            matches!(cause, Some(RouteCause::Dead | RouteCause::PeerPromoted)),
                            "for its death or the peer's word of it, not {cause:?}: {what}"
                        );
                    }
                }
            }
        }
    }
    eprintln!(
        "{inside} files inside the budget, none stalled; highest margin that stalled: {edge:?} ms"
    );
    assert!(
        inside > 100,
        "the grid tests the budget, {inside} files lie inside"
    );
}

fn two_peers(config: impl Fn() -> LabConfig) -> (Hub, Vec<LabPeer>) {
    let hub = Hub::new(2, true);
    let peers = vec![lab_peer(&hub, config(), 1), lab_peer(&hub, config(), 2)];
    (hub, peers)
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
fn a_rollback_after_a_cut_names_the_relay_although_the_route_is_only_suspect() {
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
    assert!(suspect > 0, "some ran before the route was given up");
}

#[test]
fn a_wifi_spike_is_doubted_and_never_promoted() {
    let (hub, mut peers) = two_peers(long_config);
    run_to_frame(&mut peers, 300);
    hub.faults(|faults| (faults.cut_from_first, faults.cut_from_others) = (true, true));
    run_until(&mut peers, frame(60), 9, |_| false); // 150 ms
    hub.faults(|faults| (faults.cut_from_first, faults.cut_from_others) = (false, false));
    let documents = play(&mut peers, frame(60), 5_000);
    for document in documents.iter().flatten() {
        assert!(!fell_back(document), "a spike is no promotion");
        let changes: Vec<_> = document
            .quality
            .route_changes
            .iter()
            .map(|c| c.to)
            .collect();
        assert_eq!(
            changes,
            [RouteState::Suspect, RouteState::Direct],
            "doubt, then trust again"
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
fn a_one_way_cut_promotes_both_ends_and_the_match_goes_on() {
    let (hub, mut peers) = two_peers(long_config);
    run_to_frame(&mut peers, 300);
    hub.faults(|faults| faults.cut_from_first = true);
    let documents = play(&mut peers, frame(60), 5_000);
    for document in documents.iter().flatten() {
        assert!(fell_back(document), "both ends leave the direct path");
        assert_eq!(document.frames.stalled, 0);
    }
}

#[test]
fn a_healed_path_is_never_returned_to() {
    let (hub, mut peers) = two_peers(long_config);
    run_to_frame(&mut peers, 300);
    hub.faults(|faults| (faults.cut_from_first, faults.cut_from_others) = (true, true));
    run_to_frame(&mut peers, 400);
    hub.faults(|faults| (faults.cut_from_first, faults.cut_from_others) = (false, false));
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
            "promotion is final under the default policy"
        );
    }
}

#[test]
fn when_the_relay_dies_too_the_healed_direct_path_carries_the_match() {
    let (hub, mut peers) = two_peers(long_config);
    run_to_frame(&mut peers, 300);
    hub.faults(|faults| (faults.cut_from_first, faults.cut_from_others) = (true, true));
    run_to_frame(&mut peers, 400);
    hub.faults(|faults| {
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
            "both paths are used as survival: {states:?}"
        );
    }
}

#[test]
fn duplicates_never_reach_ggrs() {
    let (hub, mut peers) = two_peers(long_config);
    hub.faults(|faults| faults.duplicate = true);
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
fn a_frozen_peer_is_no_reason_to_leave_the_direct_path() {
    let (_hub, mut peers) = two_peers(long_config);
    run_to_frame(&mut peers, 300);
    for _ in 0..30 {
        peers[0].step(frame(60)); // the second peer hangs for half a second
    }
    peers[1].clock.advance(frame(60) * 30);
    let documents = play(&mut peers, frame(60), 5_000);
    for document in documents.iter().flatten() {
        assert!(!fell_back(document), "a hitch is no promotion");
    }
    assert!(
        documents[0][0].frames.stalled > 0,
        "the other peer waited for it, and its file says how long"
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
        assert!(!fell_back(document), "slow polling is no promotion");
    }
}

#[test]
fn a_policy_that_allows_it_returns_to_a_path_that_stayed_good_for_fifteen_seconds() {
    let config = || long_config().frame_limit(2_400).return_to_direct(true);
    let (hub, mut peers) = two_peers(config);
    run_to_frame(&mut peers, 300);
    hub.faults(|faults| (faults.cut_from_first, faults.cut_from_others) = (true, true));
    run_to_frame(&mut peers, 400);
    hub.faults(|faults| (faults.cut_from_first, faults.cut_from_others) = (false, false));
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
            "fifteen good seconds, not by frame {}",
            last.frame
        );
        assert_eq!(document.frames.stalled, 0);
    }
}

#[test]
fn a_hidden_peer_and_a_paused_one_keep_the_direct_path() {
    let (_hub, mut peers) = two_peers(long_config);
    run_to_frame(&mut peers, 300);
    peers[1].app.world_mut().trigger(SetHidden(true));
    // A hidden tab is woken once a second; its game stands still in between.
    for _ in 0..3 {
        for _ in 0..60 {
            peers[0].step(frame(60));
        }
        peers[1].step(frame(60) * 60);
    }
    peers[1].app.world_mut().trigger(SetHidden(false));
    // A paused game polls the network, and its time stands still.
    for _ in 0..120 {
        peers[0].step(frame(60));
        peers[1].poll_paused(frame(60));
    }
    let documents = play(&mut peers, frame(60), 5_000);
    for document in documents.iter().flatten() {
        assert!(
            !fell_back(document),
            "neither hiding nor pausing is a promotion"
        );
    }
    let [watching, hidden] = documents.as_slice() else {
        panic!("two peers");
    };
    let (watching, hidden) = (&watching[0].focus_loss, &hidden[0].focus_loss);
    assert_eq!(watching.period_count, None, "nobody watches that window");
    assert!(watching.background_periods.is_empty());
    let [told] = watching.peer_background_periods.as_slice() else {
        panic!("the peer told of one period: {watching:?}");
    };
    assert_eq!(
        (told.player_id, hidden.period_count),
        (1, Some(1)),
        "the hidden peer tells it of itself, the other one of its peer"
    );
    let total = hidden.total_background_ms.expect("somebody watches");
    // A tab that is woken once a second tells of being hidden at its first waking.
    assert!(
        (2_900.0..3_300.0).contains(&total) && (1_900.0..3_300.0).contains(&told.duration_ms),
        "three seconds on both sides, told up to one later: {total} ms and {} ms",
        told.duration_ms
    );
}
