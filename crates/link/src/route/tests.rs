//! The route machine, rule by rule.

use std::time::Duration;

use super::{PathEvidence, RouteCause, RouteChange, RoutePolicy, RouteState, Router};

const MS: Duration = Duration::from_millis(1);

/// A healthy direct path at 60 Hz beside a usable relay.
fn healthy() -> PathEvidence {
    PathEvidence {
        direct_open: true,
        relay_up: true,
        relay_usable: true,
        judging: true,
        judging_relay: true,
        silence: 10 * MS,
        silence_limit: 50 * MS,
        interval: 16 * MS,
        unacked: Some(20 * MS),
        unacked_limit: 80 * MS,
        relay_silence: 10 * MS,
        recovery: Some((1.0, true)),
        unbroken: false,
        ..PathEvidence::default()
    }
}

fn direct(policy: RoutePolicy) -> Router {
    let mut router = Router::new(policy, Duration::ZERO);
    router.name_peer(Duration::ZERO);
    let change = router.judge(MS, &healthy()).unwrap();
    assert_eq!(
        (change.to, change.cause),
        (RouteState::Direct, RouteCause::DirectOpened)
    );
    router
}

fn suspect(evidence: &PathEvidence) -> (Router, RouteChange) {
    let mut router = direct(RoutePolicy::P2pFirst);
    let change = router.judge(2 * MS, evidence).unwrap();
    assert_eq!(change.to, RouteState::Suspect);
    (router, change)
}

#[test]
fn every_sign_of_trouble_makes_the_path_suspect_with_its_metric() {
    let silence = PathEvidence {
        silence: 50 * MS,
        ..healthy()
    };
    let unacked = PathEvidence {
        unacked: Some(81 * MS),
        ..healthy()
    };
    let refused = PathEvidence {
        send_failed: true,
        ..healthy()
    };
    for (evidence, cause, metric) in [
        (silence, RouteCause::Silence, "silenceMs"),
        (unacked, RouteCause::Unacked, "oldestUnackedMs"),
        (refused, RouteCause::SendFailed, "sendFailures"),
    ] {
        let (router, change) = suspect(&evidence);
        assert_eq!((change.cause, change.metric), (cause, metric));
        assert!(change.value >= change.threshold);
        assert!(router.degraded());
    }
}

#[test]
fn nothing_is_judged_before_both_sides_exchanged_packets() {
    let mut router = direct(RoutePolicy::P2pFirst);
    let quiet = PathEvidence {
        judging: false,
        silence: 900 * MS,
        unacked: Some(900 * MS),
        ..healthy()
    };
    assert_eq!(router.judge(2 * MS, &quiet), None);
}

#[test]
fn the_peers_suspicion_is_shared_but_does_not_become_our_own() {
    let (mut router, change) = suspect(&PathEvidence {
        peer_degraded: true,
        ..healthy()
    });
    assert_eq!(change.cause, RouteCause::PeerDegraded);
    assert!(
        !router.degraded(),
        "or two peers would keep each other suspicious for ever"
    );
    assert_eq!(
        router.judge(
            3 * MS,
            &PathEvidence {
                peer_degraded: true,
                ..healthy()
            }
        ),
        None
    );
    let back = router.judge(4 * MS, &healthy()).unwrap();
    assert_eq!(
        (back.to, back.cause),
        (RouteState::Direct, RouteCause::Recovered)
    );
}

#[test]
fn a_path_is_suspect_until_a_whole_stretch_was_good() {
    let (mut router, _) = suspect(&PathEvidence {
        silence: 60 * MS,
        ..healthy()
    });
    let better = PathEvidence {
        recovery: Some((0.95, false)),
        ..healthy()
    };
    assert_eq!(router.judge(3 * MS, &better), None);
    assert!(router.degraded());
    assert_eq!(
        router.judge(4 * MS, &healthy()).unwrap().to,
        RouteState::Direct
    );
    assert!(!router.degraded());
}

#[test]
fn a_path_is_dead_after_silence_and_packets_by_relay_alone() {
    let dead = PathEvidence {
        silence: 250 * MS,
        relay_alone: 8,
        ..healthy()
    };
    for not_yet in [
        PathEvidence {
            silence: 249 * MS,
            ..dead
        },
        // The relay is silent too: the peer stalls, or is gone.
        PathEvidence {
            relay_alone: 7,
            ..dead
        },
        PathEvidence {
            relay_usable: false,
            ..dead
        },
        PathEvidence {
            judging: false,
            ..dead
        },
    ] {
        let (mut router, _) = suspect(&PathEvidence {
            silence: 60 * MS,
            ..healthy()
        });
        let bad = PathEvidence {
            recovery: None,
            ..not_yet
        };
        assert_eq!(router.judge(3 * MS, &bad), None);
    }
    let (mut router, _) = suspect(&PathEvidence {
        silence: 60 * MS,
        ..healthy()
    });
    let change = router.judge(3 * MS, &dead).unwrap();
    assert_eq!(
        (change.to, change.cause),
        (RouteState::Relay, RouteCause::Dead)
    );
    assert_eq!((change.metric, change.value), ("silenceMs", 250.0));
}

#[test]
fn packet_counts_scale_with_the_frame_rate() {
    let at = |fps: u32| Router::dead_packets(Duration::from_secs(1) / fps);
    assert_eq!([at(120), at(60), at(30), at(10)], [16, 8, 4, 3]);
    let silence = |fps: u32| {
        let interval = Duration::from_secs(1) / fps;
        Router::dead_silence(interval * 3, interval).as_millis()
    };
    assert_eq!([silence(120), silence(60), silence(10)], [250, 250, 500]);
}

#[test]
fn a_failover_is_final() {
    let (mut router, _) = suspect(&PathEvidence {
        silence: 60 * MS,
        ..healthy()
    });
    let dead = PathEvidence {
        silence: 250 * MS,
        relay_alone: 8,
        ..healthy()
    };
    router.judge(3 * MS, &dead).unwrap();
    assert_eq!(
        router.judge(4 * MS, &healthy()),
        None,
        "however good direct looks"
    );

    let silent = PathEvidence {
        relay_silence: 250 * MS,
        ..healthy()
    };
    let survival = router.judge(5 * MS, &silent).unwrap();
    assert_eq!(
        (survival.to, survival.cause),
        (RouteState::Survival, RouteCause::RelaySilent)
    );
    assert!(router.degraded(), "the peer is informed");
    assert_eq!(router.judge(6 * MS, &healthy()), None, "not steady yet");
    let steady = PathEvidence {
        relay_steady: true,
        ..healthy()
    };
    assert_eq!(router.judge(7 * MS, &steady).unwrap().to, RouteState::Relay);
}

#[test]
fn a_failover_of_the_peer_is_followed() {
    let mut router = direct(RoutePolicy::P2pFirst);
    let change = router
        .judge(
            2 * MS,
            &PathEvidence {
                peer_failed_over: true,
                ..healthy()
            },
        )
        .unwrap();
    assert_eq!(
        (change.to, change.cause),
        (RouteState::Relay, RouteCause::PeerPromoted)
    );
    assert!(change.is_fallback());
}

#[test]
fn a_closed_channel_is_a_failover_with_a_relay_and_suspect_without() {
    let mut router = direct(RoutePolicy::P2pFirst);
    let alone = PathEvidence {
        direct_open: false,
        relay_up: false,
        relay_usable: false,
        ..healthy()
    };
    let change = router.judge(2 * MS, &alone).unwrap();
    assert_eq!(
        (change.to, change.cause),
        (RouteState::Suspect, RouteCause::Closed)
    );
    assert_eq!(router.judge(3 * MS, &alone), None);
    let change = router
        .judge(
            4 * MS,
            &PathEvidence {
                relay_up: true,
                ..alone
            },
        )
        .unwrap();
    assert_eq!(
        (change.to, change.cause),
        (RouteState::Relay, RouteCause::Closed)
    );
}

#[test]
fn a_policy_parses_from_its_own_name() {
    for policy in RoutePolicy::ALL {
        assert_eq!(policy.to_string().parse(), Ok(policy));
        assert_eq!(RoutePolicy::ALL[usize::from(policy.code())], policy);
    }
    let error = "turbo".parse::<RoutePolicy>().unwrap_err().to_string();
    assert_eq!(
        error,
        "unknown route policy \"turbo\": known are p2p-first, p2p-only, relay-only, dual-path"
    );
}

#[test]
fn p2p_only_does_not_fail_over() {
    let mut router = direct(RoutePolicy::P2pOnly);
    let dead = PathEvidence {
        silence: 900 * MS,
        relay_alone: 99,
        peer_failed_over: true,
        ..healthy()
    };
    assert_eq!(router.judge(2 * MS, &dead).unwrap().to, RouteState::Suspect);
    assert_eq!(
        router.judge(
            3 * MS,
            &PathEvidence {
                recovery: None,
                ..dead
            }
        ),
        None
    );
}

#[test]
fn failback_waits_for_good_time_and_after_a_relapse_for_a_quarantine() {
    let mut router = Router::new(RoutePolicy::P2pFirst, Duration::ZERO).returning(true);
    let healthy = healthy();
    let closed = PathEvidence {
        direct_open: false,
        ..healthy
    };
    let mut now = Duration::ZERO;
    router.judge(now, &healthy).expect("the direct path opens");
    for needed in [15, 20, 25, 35] {
        let failover = router.judge(now, &closed).expect("a closed path is left");
        assert_eq!(failover.to, RouteState::Relay);
        let left = now;
        let back = loop {
            now += Duration::from_millis(100);
            let announced = router.announces_failover(now);
            if let Some(change) = router.judge(now, &healthy) {
                break change;
            }
            assert!(announced, "until it fails back");
        };
        assert_eq!(
            (back.to, back.cause),
            (RouteState::Direct, RouteCause::Returned)
        );
        let waited = (now - left).as_secs();
        assert_eq!(
            waited, needed,
            "15 good seconds, and a quarantine of 0, 5, 10, 20 s"
        );
    }
}

#[test]
fn without_failback_a_failover_is_final_for_an_hour() {
    let mut router = Router::new(RoutePolicy::P2pFirst, Duration::ZERO);
    let healthy = healthy();
    router.judge(Duration::ZERO, &healthy);
    let closed = PathEvidence {
        direct_open: false,
        ..healthy
    };
    router.judge(Duration::ZERO, &closed);
    for second in 1..3_600 {
        let now = Duration::from_secs(second);
        assert_eq!(router.judge(now, &healthy), None);
        assert!(router.announces_failover(now));
    }
}

/// A path that works, beside a relay that works better: one sign each.
fn signs() -> Vec<(PathEvidence, RouteCause, &'static str)> {
    let lossy = PathEvidence {
        peer_degraded: true,
        relay_loses_less: true,
        ..healthy()
    };
    vec![
        (
            PathEvidence {
                both_together: 2_001 * MS,
                ..lossy
            },
            RouteCause::Lossy,
            "bothPathsMs",
        ),
        (
            PathEvidence {
                both_of_10s: 3_001 * MS,
                ..lossy
            },
            RouteCause::Lossy,
            "bothPathsOf10sMs",
        ),
        (
            PathEvidence {
                loss_runs: 3,
                ..lossy
            },
            RouteCause::Lossy,
            "lossRunsOf10s",
        ),
        (
            PathEvidence {
                queued_ms: Some(50.1),
                ..healthy()
            },
            RouteCause::Congested,
            "delayAboveMinMs",
        ),
        (
            PathEvidence {
                slow_acks: 3,
                ..healthy()
            },
            RouteCause::Congested,
            "slowAcksOf1s",
        ),
        (
            PathEvidence {
                refusals: 3,
                ..healthy()
            },
            RouteCause::Congested,
            "sendFailuresOf1s",
        ),
    ]
}

#[test]
fn a_path_worse_than_the_relay_fails_over_with_its_metric() {
    for (evidence, cause, metric) in signs() {
        let mut router = direct(RoutePolicy::P2pFirst);
        let mut change = router.judge(2 * MS, &evidence).unwrap();
        if change.to == RouteState::Suspect {
            change = router.judge(3 * MS, &evidence).unwrap();
        }
        assert_eq!(
            (change.to, change.cause, change.metric),
            (RouteState::Relay, cause, metric)
        );
        assert!(change.value >= change.threshold, "{change:?}");
    }
}

#[test]
fn a_relay_that_is_unproven_or_no_better_causes_no_failover() {
    for (evidence, cause, metric) in signs() {
        let unproven = PathEvidence {
            relay_usable: false,
            ..evidence
        };
        let no_better = PathEvidence {
            relay_loses_less: false,
            ..evidence
        };
        let mut tried = vec![(RoutePolicy::P2pFirst, unproven)];
        tried
            .extend([RoutePolicy::P2pOnly, RoutePolicy::DualPath].map(|policy| (policy, evidence)));
        if cause == RouteCause::Lossy {
            tried.push((RoutePolicy::P2pFirst, no_better));
        }
        for (policy, evidence) in tried {
            let mut router = direct(policy);
            for at in 2..6 {
                router.judge(at * MS, &evidence);
            }
            assert!(!router.state().failed_over(), "{metric} under {policy}");
        }
    }
}
