//! Signaling over real sockets: what members receive, and how clients are refused.

use crate::support::{Client, Received, run, server};
use matchbox_protocol::{JsonPeerEvent, PeerId};
use rollback_lab_link::wire::relay::{
    CLOSE_BAD_ROOM, CLOSE_PLAYERS_DIFFER, CLOSE_ROOM_FULL, CLOSE_SERVER_FULL, Notice, Roster,
};
use rollback_lab_server::{LabServer, ServerSettings};

fn peers(roster: &Roster) -> Vec<(u8, [u8; 16])> {
    roster.members.iter().map(|m| (m.slot, m.peer)).collect()
}

fn bytes(peer: PeerId) -> [u8; 16] {
    *peer.0.as_bytes()
}

#[test]
fn a_join_is_announced_to_the_members_and_the_newcomer_gets_the_roster() {
    run(async {
        let server = server();
        let (mut a, id_a, alone) = Client::join(&server, "duel?players=2").await;
        assert_eq!(peers(&alone), [(0, bytes(id_a))]);
        assert_eq!((alone.slot, alone.capacity), (0, 2));
        let (_b, id_b, both) = Client::join(&server, "duel?players=2").await;
        assert_eq!(peers(&both), [(0, bytes(id_a)), (1, bytes(id_b))]);
        assert_eq!(both.slot, 1);
        assert_eq!(both.nonce, alone.nonce);
        let event = a.receive().await;
        assert!(
            matches!(&event, Received::Event(JsonPeerEvent::NewPeer(id)) if *id == id_b),
            "{event:?}"
        );
        let roster = a.receive().await;
        assert!(
            matches!(&roster, Received::Roster(r) if peers(r) == peers(&both) && r.slot == 0),
            "{roster:?}"
        );
    });
}

#[test]
fn a_leave_is_an_event_a_notice_and_a_roster_and_frees_the_slot() {
    run(async {
        let server = server();
        let (mut a, ..) = Client::join(&server, "r").await;
        let (b, id_b, _) = Client::join(&server, "r").await;
        let (_c, id_c, _) = Client::join(&server, "r").await;
        // Both arrivals are received before the leave.
        a.receive_until(|received| {
            matches!(received, Received::Roster(r) if r.members.len() == 3).then_some(())
        })
        .await;
        drop(b);
        let left = a.receive().await;
        assert!(
            matches!(&left, Received::Event(JsonPeerEvent::PeerLeft(id)) if *id == id_b),
            "{left:?}"
        );
        let gone = a.receive().await;
        assert!(
            matches!(gone, Received::Notice(Notice::PeerGone { slot: 1 })),
            "{gone:?}"
        );
        let Received::Roster(roster) = a.receive().await else {
            panic!("the roster follows");
        };
        assert_eq!(roster.members[1].peer, bytes(id_c));
        assert_eq!(roster.members[1].slot, 2, "slots do not move");
        let (_d, _, roster) = Client::join(&server, "r").await;
        assert_eq!(roster.slot, 1, "the free slot is given again");
    });
}

#[test]
fn next_pairs_in_the_order_of_arrival() {
    run(async {
        let server = server();
        let mut clients = Vec::new();
        for _ in 0..4 {
            clients.push(Client::join(&server, "queue?next=2").await);
        }
        let groups: Vec<_> = clients
            .iter()
            .map(|(_, _, roster)| (roster.nonce, roster.slot, roster.members.len()))
            .collect();
        assert_eq!(groups[0].0, groups[1].0);
        assert_eq!(groups[2].0, groups[3].0);
        assert_ne!(groups[1].0, groups[2].0);
        let places: Vec<_> = groups.iter().map(|g| (g.1, g.2)).collect();
        assert_eq!(places, [(0, 1), (1, 2), (0, 1), (1, 2)]);
        let second = clients[1].1;
        let received = clients[0].0.receive().await;
        assert!(
            matches!(&received, Received::Event(JsonPeerEvent::NewPeer(id)) if *id == second),
            "{received:?}"
        );
    });
}

#[test]
fn a_full_group_that_loses_a_member_before_its_match_is_filled_again() {
    run(async {
        let server = server();
        let (mut a, ..) = Client::join(&server, "queue?next=2").await;
        let (mut b, _, first) = Client::join(&server, "queue?next=2").await;
        a.running(false).await;
        b.running(false).await;
        let (mut waits, _, second) = Client::join(&server, "queue?next=2").await;
        waits.running(false).await;
        b.leave().await;
        while !matches!(a.receive().await, Received::Roster(roster) if roster.members.len() == 1) {}
        // The group that waited before comes first, then the one that is open again, then a new one.
        let (_c, _, joined) = Client::join(&server, "queue?next=2").await;
        assert_eq!(joined.nonce, second.nonce);
        let (_d, _, joined) = Client::join(&server, "queue?next=2").await;
        assert_eq!((joined.nonce, joined.members.len()), (first.nonce, 2));
        let (_e, _, joined) = Client::join(&server, "queue?next=2").await;
        assert_eq!(joined.members.len(), 1);
    });
}

#[test]
fn a_group_of_other_clients_or_of_a_running_match_stays_closed() {
    run(async {
        let server = server();
        let (_stock, ..) = Client::join(&server, "stock?next=2").await;
        let (leaves, _, stock) = Client::join(&server, "stock?next=2").await;
        let (mut plays, ..) = Client::join(&server, "runs?next=2").await;
        let (mut quits, _, runs) = Client::join(&server, "runs?next=2").await;
        plays.running(true).await;
        quits.running(true).await;
        leaves.leave().await;
        quits.leave().await;
        for (room, closed) in [("stock?next=2", stock), ("runs?next=2", runs)] {
            let (_newcomer, _, roster) = Client::join(&server, room).await;
            assert_ne!(roster.nonce, closed.nonce, "{room}");
        }
    });
}

#[test]
fn a_signal_reaches_only_its_receiver_and_names_the_sender() {
    run(async {
        let server = server();
        let (mut a, id_a, _) = Client::join(&server, "r").await;
        let (mut b, id_b, _) = Client::join(&server, "r").await;
        let (mut outsider, id_outsider, _) = Client::join(&server, "s").await;
        let (mut c, ..) = Client::join(&server, "r").await;
        let offer = serde_json::json!({ "Offer": "sdp \u{e4}" });
        a.text("\"KeepAlive\"".to_owned()).await;
        a.signal(id_outsider, offer.clone()).await;
        a.signal(id_b, offer.clone()).await;
        let (sender, data) = b
            .receive_until(|received| match received {
                Received::Event(JsonPeerEvent::Signal { sender, data }) => {
                    Some((*sender, data.clone()))
                }
                _ => None,
            })
            .await;
        assert_eq!((sender, data), (id_a, offer));
        // A signal for one of the others would have come before this event.
        for (client, room) in [(&mut outsider, "s"), (&mut c, "r")] {
            let (_marker, id, _) = Client::join(&server, room).await;
            let received = client.receive().await;
            assert!(
                matches!(&received, Received::Event(JsonPeerEvent::NewPeer(new)) if *new == id),
                "{received:?}"
            );
        }
    });
}

#[test]
fn every_refusal_has_its_code_and_reason() {
    run(async {
        let server = LabServer::start(ServerSettings {
            max_rooms: 2,
            ..ServerSettings::loopback()
        })
        .expect("a free port");
        let _in_duel = (
            Client::join(&server, "duel?players=2").await,
            Client::join(&server, "duel?players=2").await,
        );
        let _second_room = Client::join(&server, "other").await;
        let cases = [
            (
                "duel?players=2",
                CLOSE_ROOM_FULL,
                "room duel is full: it has 2 of 2 peers",
            ),
            (
                "duel?players=3",
                CLOSE_PLAYERS_DIFFER,
                "room duel has 2 players, not 3",
            ),
            (
                "a/b",
                CLOSE_BAD_ROOM,
                "bad room: room names are 1 to 64 letters, digits, '-', '_' or '.'",
            ),
            (
                "duel?next=0",
                CLOSE_BAD_ROOM,
                "bad room: next must be a number from 1 to 64",
            ),
            (
                "third",
                CLOSE_SERVER_FULL,
                "server is full: it has 2 of 2 rooms",
            ),
        ];
        for (room, code, reason) in cases {
            let mut client = Client::open(&server, room).await;
            assert_eq!(client.closed().await, (code, reason.to_owned()), "{room}");
        }
    });
}
