//! The relay over real sockets: packets between slots, floods and frozen receivers.

use std::time::{Duration, Instant};

use crate::support::{Client, Received, TIMEOUT, metric, metric_becomes, run, server, within};
use futures_timer::Delay;
use rollback_lab_link::wire::relay::{DropReason, MAX_PAYLOAD_LEN, Notice};

/// The sender's frame time: seven packets in each stay below its rate of 1,200 a second.
const FRAME: Duration = Duration::from_millis(16);

fn drop_notice(received: &Received) -> Option<(DropReason, u32)> {
    match received {
        Received::Notice(Notice::Dropped { reason, count }) => Some((*reason, *count)),
        _ => None,
    }
}

#[test]
fn packets_go_from_slot_to_slot_unchanged() {
    run(async {
        let server = server();
        let (mut a, ..) = Client::join(&server, "r").await;
        let (mut b, ..) = Client::join(&server, "r").await;
        let (mut c, ..) = Client::join(&server, "r").await;
        let largest = vec![0xee; MAX_PAYLOAD_LEN];
        a.forward(2, &largest).await;
        b.forward(2, b"").await;
        c.forward(0, b"to a").await;
        let mut at_c = [c.packet().await, c.packet().await];
        at_c.sort();
        assert_eq!(at_c, [(0, largest), (1, Vec::new())]);
        assert_eq!(a.packet().await, (2, b"to a".to_vec()));
        metric_becomes(&server, "rollback_lab_server_forwards_total ", 3).await;
    });
}

#[test]
fn packets_to_a_slot_outside_the_room_are_dropped_as_unknown() {
    run(async {
        let server = server();
        let (mut a, ..) = Client::join(&server, "a").await;
        let (mut other, ..) = Client::join(&server, "b").await;
        let (mut neighbour, ..) = Client::join(&server, "b").await;
        for slot in [0, 1, 255] {
            a.forward(slot, b"hello").await;
        }
        let mut reported = 0;
        while reported < 3 {
            let (reason, count) = a.receive_until(drop_notice).await;
            assert_eq!(reason, DropReason::UnknownSlot);
            reported += count;
        }
        assert_eq!(reported, 3);
        // The first packet in the other room is its own.
        neighbour.forward(0, b"own").await;
        assert_eq!(other.packet().await, (1, b"own".to_vec()));
    });
}

#[test]
fn a_flood_is_limited_and_reported_and_delays_no_other_member() {
    run(async {
        let server = server();
        let (mut flooder, ..) = Client::join(&server, "r").await;
        let (mut receiver, ..) = Client::join(&server, "r").await;
        let (mut bystander, ..) = Client::join(&server, "r").await;
        let start = Instant::now();
        // Two others in the room: 1200 a second, 300 at once.
        for _ in 0..5000 {
            flooder.forward(1, b"flood").await;
        }
        let allowed = 300.0 + 1200.0 * start.elapsed().as_secs_f64();
        assert!(
            allowed < 4900.0,
            "the machine is too slow to exceed the rate"
        );
        let surplus = 4900 - allowed as u32;
        let mut dropped = 0;
        while dropped < surplus {
            let (reason, count) = flooder.receive_until(drop_notice).await;
            if reason == DropReason::RateLimited {
                dropped += count;
            }
            assert!(start.elapsed() < TIMEOUT, "{dropped} drops were reported");
        }
        for n in 0..60_u8 {
            bystander.forward(1, &[n]).await;
            let got = receiver
                .receive_until(|received| match received {
                    Received::Packet(2, payload) => Some(payload.clone()),
                    _ => None,
                })
                .await;
            assert_eq!(got, [n], "the bystander's packets come whole and in order");
        }
        let limited = "rollback_lab_server_drops_total{reason=\"rateLimited\"} ";
        assert!(metric(&server, limited) >= u64::from(dropped));
    });
}

#[test]
fn a_client_that_stops_reading_is_closed_and_delays_no_other_member() {
    run(async {
        let server = server();
        let (mut sender, ..) = Client::join(&server, "r").await;
        let (frozen, ..) = Client::join(&server, "r").await;
        let (mut healthy, ..) = Client::join(&server, "r").await;
        let payload = [7; MAX_PAYLOAD_LEN];
        let mut number = 0_u32;
        let mut dropped = 0;
        let mut gone = false;
        let start = Instant::now();
        while !gone {
            assert!(
                start.elapsed() < TIMEOUT,
                "the frozen client is still there"
            );
            for _ in 0..6 {
                sender.forward(1, &payload).await;
            }
            sender.forward(2, &number.to_le_bytes()).await;
            let packet = within(
                Duration::from_secs(1),
                "a healthy receiver's packet",
                healthy.packet(),
            );
            assert_eq!(
                packet.await,
                (0, number.to_le_bytes().to_vec()),
                "the healthy receiver misses nothing"
            );
            number += 1;
            Delay::new(FRAME).await;
            // The sender reads what has arrived without waiting for more.
            while let Some(received) = futures::FutureExt::now_or_never(sender.receive()) {
                match received {
                    Received::Notice(Notice::PeerGone { slot: 1 }) => gone = true,
                    // Packets that were under way to the slot when its member left.
                    Received::Notice(Notice::Dropped { .. }) if gone => {}
                    Received::Notice(Notice::Dropped { reason, count }) => {
                        assert!(
                            matches!(reason, DropReason::RingFull | DropReason::Stale),
                            "{reason:?} is not the frozen client's fault"
                        );
                        dropped += count;
                    }
                    Received::Closed(..) | Received::Lost => {
                        panic!("the sender was closed: {received:?}")
                    }
                    _ => {}
                }
            }
        }
        assert!(
            dropped > 0,
            "packets that the frozen client did not read were dropped and reported"
        );
        let closes = "rollback_lab_server_closes_total{reason=\"tooSlow\"} ";
        assert_eq!(metric(&server, closes), 1);
        drop(frozen);
    });
}
