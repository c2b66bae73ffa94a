//! Causes of late inputs, decided from the packets that carried them.

use std::time::Duration;

use rollback_lab_link::cause::{
    Arrival, Cause, Evidence, LateInput, LinkEvidence, Pause, PlayerLink, RouteShift, Via, decide,
};
use rollback_lab_link::frame::MAX_PLAYERS;

/// A cause, and how to remove its evidence.
type Step = (Cause, fn(&mut Evidence));

const MS: Duration = Duration::from_millis(1);
/// The other clock is ahead by this much; the transit time is 10 ms.
const OFFSET: Duration = Duration::from_millis(5_000);

fn link() -> PlayerLink {
    PlayerLink {
        offset_us: Some(5_000_000),
        frame: MS * 20,
        interval: MS * 20,
        input_delay: 2,
        ..PlayerLink::default()
    }
}

/// The packet sent for `frame`, `behind` ms later than its frame and `transit` ms in flight.
fn packet(frame: i32, behind: u32, transit: u32) -> Arrival {
    let sent = MS * 20 * frame.unsigned_abs() + MS * behind;
    Arrival {
        first: (frame - 3).max(0),
        newest: frame,
        sent: sent + OFFSET,
        at: sent + MS * transit,
        seq: u16::try_from(frame).expect("a small frame number"),
        ..Arrival::default()
    }
}

/// Player 1, whose inputs of frames 0 to 29 arrived as usual.
fn played() -> LinkEvidence {
    let mut links = LinkEvidence::default();
    links.set(1, link());
    for frame in 0..30 {
        links.arrived(1, packet(frame, 0, 10));
    }
    links
}

/// The input of frame 30, simulated `early` ms before its packet would arrive in 10 ms.
fn late(early: u32) -> LateInput {
    let due = MS * 610 - MS * early;
    LateInput {
        player: 1,
        frame: 30,
        due,
        corrected: MS * 700,
    }
}

fn judged(links: &LinkEvidence, early: u32) -> Cause {
    links.judge(false, &late(early)).0
}

#[test]
fn the_evidence_decides_in_the_documented_order() {
    let full = Evidence {
        route_changed: Some(true),
        peer_hidden: Some(true),
        peer_pause_ms: Some(50.0),
        packet_lost: Some(true),
        overtaken: Some(true),
        late_ms: Some(20.0),
        over_usual_ms: Some(15.0),
        ahead_ms: Some(20.0),
        ..Evidence::default()
    };
    assert_eq!(decide(true, &full), Cause::Disconnect);
    let steps: [Step; 8] = [
        (Cause::RouteChange, |e| e.route_changed = Some(false)),
        (Cause::PeerHidden, |e| e.peer_hidden = Some(false)),
        (Cause::PeerStall, |e| e.peer_pause_ms = Some(0.0)),
        (Cause::PacketLoss, |e| e.packet_lost = Some(false)),
        (Cause::Reordering, |e| e.overtaken = Some(false)),
        (Cause::JitterSpike, |e| e.over_usual_ms = Some(0.0)),
        (Cause::FrameAdvantage, |e| e.ahead_ms = Some(0.0)),
        (Cause::BaseLatency, |e| e.ahead_ms = None),
    ];
    let mut evidence = full;
    for (cause, remove) in steps {
        assert_eq!(decide(false, &evidence), cause, "{evidence:?}");
        remove(&mut evidence);
    }
    assert_eq!(decide(false, &evidence), Cause::Unknown, "no clock");
    assert_eq!(decide(false, &Evidence::default()), Cause::Unknown);
}

#[test]
fn the_part_that_is_more_than_half_of_the_lateness_is_the_cause() {
    let decided = |over, ahead| {
        let evidence = Evidence {
            late_ms: Some(20.0),
            over_usual_ms: Some(over),
            ahead_ms: Some(ahead),
            ..Evidence::default()
        };
        decide(false, &evidence)
    };
    assert_eq!(decided(10.1, 0.0), Cause::JitterSpike);
    assert_eq!(decided(10.0, 0.0), Cause::BaseLatency);
    assert_eq!(decided(0.0, 10.1), Cause::FrameAdvantage);
    assert_eq!(decided(0.0, 10.0), Cause::BaseLatency);
    assert_eq!(decided(-4.0, 12.0), Cause::BaseLatency, "half of 24 ms");
}

#[test]
fn a_packet_with_usual_transit_is_late_by_the_lead_or_by_latency() {
    let mut links = played();
    links.arrived(1, packet(30, 0, 10));
    // Late by 20 ms with 40 ms covered and a transit of 10 ms: 50 ms of lead.
    let (cause, evidence) = links.judge(false, &late(20));
    assert_eq!(cause, Cause::FrameAdvantage);
    assert_eq!(evidence.late_ms, Some(20.0));
    assert_eq!(evidence.ahead_ms, Some(50.0));
    assert_eq!(evidence.over_usual_ms, Some(0.0));
    let mut uncovered = link();
    uncovered.input_delay = 0;
    links.set(1, uncovered);
    assert_eq!(judged(&links, 5), Cause::BaseLatency, "behind by 5 ms");
    assert_eq!(
        judged(&links, 20),
        Cause::BaseLatency,
        "half of it is transit"
    );
    assert_eq!(judged(&links, 21), Cause::FrameAdvantage);
    links.set(
        1,
        PlayerLink {
            offset_us: None,
            ..link()
        },
    );
    assert_eq!(judged(&links, 20), Cause::Unknown, "without a clock");
}

#[test]
fn a_packet_that_took_longer_than_those_before_it_is_a_jitter_spike() {
    let mut links = played();
    links.arrived(1, packet(30, 0, 60));
    assert_eq!(judged(&links, 0), Cause::JitterSpike);
    let mut held = played();
    held.arrived(
        1,
        Arrival {
            held: true,
            ..packet(30, 0, 60)
        },
    );
    assert_ne!(
        judged(&held, 0),
        Cause::JitterSpike,
        "it waited for this peer"
    );
}

#[test]
fn a_missing_packet_is_lost_until_it_arrives_and_then_overtaken() {
    let mut links = played();
    links.arrived(
        1,
        Arrival {
            missing: 1,
            ..packet(31, 0, 10)
        },
    );
    let (cause, _) = links.judge_rollback(7, false, late(5));
    assert_eq!(cause, Cause::PacketLoss);
    let mut revised = Vec::new();
    links.revise(MS * 800, |id, cause, _| revised.push((id, cause)));
    assert_eq!(revised, [], "nothing arrived");
    links.arrived(
        1,
        Arrival {
            behind: true,
            ..packet(30, 0, 60)
        },
    );
    links.revise(MS * 800, |id, cause, _| revised.push((id, cause)));
    assert_eq!(revised, [(7, Cause::Reordering)]);
    links.arrived(
        1,
        Arrival {
            behind: true,
            ..packet(29, 0, 90)
        },
    );
    links.revise(MS * 800, |id, cause, _| revised.push((id, cause)));
    assert_eq!(revised.len(), 1, "once");
}

#[test]
fn a_cause_is_final_after_a_second() {
    let mut links = played();
    links.arrived(1, packet(31, 0, 10));
    links.judge_rollback(7, false, late(5));
    links.arrived(1, packet(30, 0, 60));
    links.revise(MS * 1_701, |_, _, _| panic!("the cause is final"));
}

#[test]
fn an_input_sent_again_was_lost() {
    let mut links = played();
    links.arrived(
        1,
        Arrival {
            behind: true,
            ..packet(30, 100, 10)
        },
    );
    assert_eq!(judged(&links, 0), Cause::PacketLoss);
}

#[test]
fn a_relay_copy_without_its_direct_copy_is_a_loss_until_that_arrives() {
    let mut links = played();
    let relayed = Arrival {
        relay: true,
        alone: true,
        ..packet(30, 0, 60)
    };
    links.arrived(1, relayed);
    assert_eq!(judged(&links, 5), Cause::PacketLoss);
    links.copied(1, 30);
    assert_ne!(judged(&links, 5), Cause::PacketLoss);
}

#[test]
fn a_pause_is_the_cause_of_inputs_it_delayed_and_of_no_others() {
    let resumed = |frame, hidden| {
        let pause = Pause {
            from: packet(29, 0, 10).sent,
            to: packet(30, 100, 10).sent,
            hidden,
        };
        Arrival {
            pause: Some(pause),
            // Six frames in one tick.
            sent: pause.to,
            ..packet(frame, 100, 10)
        }
    };
    let mut links = played();
    links.arrived(1, resumed(30, false));
    assert_eq!(judged(&links, 5), Cause::PeerStall);
    let mut hidden = played();
    hidden.arrived(1, resumed(30, true));
    assert_eq!(judged(&hidden, 5), Cause::PeerHidden);
    for frame in 31..36 {
        links.arrived(1, resumed(frame, false));
    }
    let of = |frame| {
        let late = LateInput { frame, ..late(5) };
        links.judge(false, &late).0
    };
    assert_eq!(of(34), Cause::PeerStall, "20 ms late");
    assert_ne!(of(35), Cause::PeerStall, "caught up");
}

#[test]
fn a_game_that_stood_still_while_its_link_polled_stalled_unless_it_waited_for_inputs() {
    let judge = |confirmed| {
        let mut links = LinkEvidence::default();
        let link = PlayerLink {
            max_prediction: 8,
            ..link()
        };
        links.set(1, link);
        for frame in 0..30 {
            let confirmed = Some(confirmed);
            links.arrived(
                1,
                Arrival {
                    confirmed,
                    ..packet(frame, 0, 10)
                },
            );
        }
        links.arrived(1, packet(30, 120, 10));
        let (cause, evidence) = links.judge(false, &late(0));
        (cause, evidence.peer_pause_ms)
    };
    // It stood at frame 27, whose input is that of frame 29.
    assert_eq!(judge(20), (Cause::PeerStall, Some(140.0)));
    assert_eq!(judge(19), (Cause::FrameAdvantage, Some(0.0)));
}

#[test]
fn a_hidden_player_precedes_its_stall() {
    let mut links = played();
    links.arrived(
        1,
        Arrival {
            hidden: true,
            ..packet(30, 120, 10)
        },
    );
    assert_eq!(judged(&links, 0), Cause::PeerHidden);
}

#[test]
fn a_route_change_is_the_cause_of_inputs_sent_around_it() {
    let shifted = |left, at| {
        let mut links = played();
        links.set(
            1,
            PlayerLink {
                shift: Some(RouteShift { at, left }),
                ..link()
            },
        );
        let relayed = Arrival {
            relay: true,
            ..packet(30, 0, 60)
        };
        links.arrived(1, relayed);
        judged(&links, 5)
    };
    let sent = packet(30, 0, 10).sent;
    assert_eq!(shifted(sent - MS, MS * 800), Cause::RouteChange);
    assert_ne!(
        shifted(sent, MS * 800),
        Cause::RouteChange,
        "it arrived over the path left"
    );
    assert_ne!(
        shifted(sent - MS, MS * 599),
        Cause::RouteChange,
        "sent after it"
    );
    assert_ne!(
        shifted(sent - MS, MS * 1_701),
        Cause::RouteChange,
        "long before it"
    );
}

#[test]
fn an_input_that_was_sent_over_the_relay_alone_is_late_because_the_relay_takes_longer() {
    let sent = packet(30, 0, 10).sent;
    let judge = |carrier| {
        let mut links = played();
        let shift = RouteShift {
            at: MS * 800,
            left: sent - MS * 100,
        };
        links.set(
            1,
            PlayerLink {
                shift: Some(shift),
                ..link()
            },
        );
        links.arrived(1, carrier);
        judged(&links, 5)
    };
    let relayed = |frame| Arrival {
        relay: true,
        failed_over: true,
        ..packet(frame, 0, 60)
    };
    assert_ne!(judge(relayed(30)), Cause::RouteChange);
    let later = judge(relayed(32));
    assert_eq!(
        later,
        Cause::RouteChange,
        "its own packet took the lost path"
    );
}

#[test]
fn a_stall_awaits_the_oldest_missing_input() {
    let mut links = played();
    links.set(2, link());
    for frame in 0..20 {
        links.arrived(2, packet(frame, 0, 10));
    }
    assert_eq!(links.awaited(MS * 700), Some((2, 20)));
    assert_eq!(links.awaited(MS * 210), Some((1, 11)));
    assert_eq!(LinkEvidence::default().awaited(MS), None);
}

#[test]
fn links_are_kept_by_handle_and_cleared_together() {
    let mut links = LinkEvidence::default();
    links.set(1, link());
    links.set(MAX_PLAYERS, link());
    links.arrived(MAX_PLAYERS, packet(0, 0, 10));
    assert_eq!(links.get(1), Some(&link()));
    assert_eq!((links.get(0), links.get(MAX_PLAYERS)), (None, None));
    links.clear();
    assert_eq!(links.get(1), None);
}

#[test]
fn causes_and_paths_are_serialized_by_their_documented_names() {
    let names = Cause::ALL.map(Cause::as_str);
    assert_eq!(
        names,
        [
            "disconnect",
            "routeChange",
            "peerHidden",
            "peerStall",
            "packetLoss",
            "reordering",
            "jitterSpike",
            "frameAdvantage",
            "baseLatency",
            "unknown"
        ]
    );
    assert!(Cause::ALL.is_sorted());
    for cause in Cause::ALL {
        assert_eq!(serde_json::to_value(cause).unwrap(), cause.as_str());
    }
    for via in [Via::Direct, Via::Turn, Via::Relay, Via::Unknown] {
        assert_eq!(serde_json::to_value(via).unwrap(), via.as_str());
    }
}
