//! Rooms without sockets: slots, what the members receive, and what a join costs.

use super::*;
use crate::send_queue::Next;
use rollback_lab_link::wire::relay::{Roster, ServerFrame, decode_server};

fn rooms(max_rooms: usize, max_peers: usize) -> Arc<Rooms> {
    let secret = ServerSecret::new(b"the secret of these tests").unwrap();
    let settings = RoomSettings {
        max_rooms,
        max_peers,
        secret: &secret,
        grace: Duration::from_secs(35),
    };
    Arc::new(Rooms::new(&settings, Arc::default()))
}

fn request(name: &str, grouping: Grouping) -> RoomRequest {
    RoomRequest {
        name: name.to_owned(),
        grouping,
    }
}

/// A client that joined a room, with the queue of what it is to receive.
struct Joined {
    send_queue: Arc<SendQueue>,
    membership: Membership,
}

fn join(rooms: &Arc<Rooms>, request: &RoomRequest) -> Result<Joined, Refusal> {
    let send_queue = Arc::new(SendQueue::default());
    let membership = rooms.join(request, Arc::clone(&send_queue))?;
    Ok(Joined {
        send_queue,
        membership,
    })
}

impl Joined {
    fn drain(&self) -> Vec<Message> {
        let mut stale = Vec::new();
        std::iter::from_fn(|| match self.send_queue.next(Instant::now(), &mut stale) {
            Next::Control(message) => Some(message),
            Next::Packet(packet) => Some(Message::Binary(packet.item)),
            Next::Close(_) | Next::Wait(_) => None,
        })
        .collect()
    }

    /// Forwards a packet within the rate.
    fn forward(&self, destination: u8, payload: &[u8]) {
        let allowance = &mut TokenBucket::default();
        self.membership
            .forward(Instant::now(), destination, payload, allowance);
    }

    /// The newest roster among what was queued.
    fn roster(&self) -> Roster {
        let rosters = self
            .drain()
            .into_iter()
            .filter_map(|message| match message {
                Message::Binary(bytes) => match decode_server(&bytes) {
                    Ok(ServerFrame::Welcome(roster) | ServerFrame::Roster(roster)) => Some(roster),
                    _ => None,
                },
                _ => None,
            });
        rosters.last().expect("a roster was queued")
    }
}

fn slots(roster: &Roster) -> Vec<u8> {
    roster.members.iter().map(|member| member.slot).collect()
}

#[test]
fn the_smallest_free_slot_is_given_again() {
    let rooms = rooms(10, 10);
    let open = request("r", Grouping::Open);
    let a = join(&rooms, &open).unwrap();
    let b = join(&rooms, &open).unwrap();
    let c = join(&rooms, &open).unwrap();
    assert_eq!(
        [a.membership.slot, b.membership.slot, c.membership.slot],
        [0, 1, 2]
    );
    drop(b);
    assert_eq!(slots(&a.roster()), [0, 2]);
    let d = join(&rooms, &open).unwrap();
    assert_eq!(d.membership.slot, 1);
    assert_eq!(slots(&c.roster()), [0, 1, 2]);
    assert_eq!(a.roster().nonce, d.roster().nonce, "one nonce per room");
}

#[test]
fn a_room_of_players_refuses_another_count_and_one_player_too_many() {
    let rooms = rooms(10, 10);
    let two = request("duel", Grouping::Players(2));
    let _a = join(&rooms, &two).unwrap();
    let other = join(&rooms, &request("duel", Grouping::Players(3)))
        .err()
        .unwrap();
    assert_eq!(other.to_string(), "room duel has 2 players, not 3");
    let none = join(&rooms, &request("duel", Grouping::Open))
        .err()
        .unwrap();
    assert_eq!(none.to_string(), "room duel has 2 players, not any number");
    let _open = join(&rooms, &request("open", Grouping::Open)).unwrap();
    let two_in_open = join(&rooms, &request("open", Grouping::Players(2)));
    assert_eq!(
        two_in_open.err().unwrap().to_string(),
        "room open has any number of players, not 2"
    );
    let _b = join(&rooms, &two).unwrap();
    let full = join(&rooms, &two).err().unwrap();
    assert_eq!(full.to_string(), "room duel is full: it has 2 of 2 peers");
}

#[test]
fn an_open_room_ends_at_64_peers() {
    let rooms = rooms(10, 100);
    let open = request("crowd", Grouping::Open);
    let crowd: Vec<_> = (0..64).map(|_| join(&rooms, &open).unwrap()).collect();
    assert_eq!(slots(&crowd[0].roster()).len(), 64);
    assert!(matches!(
        join(&rooms, &open),
        Err(Refusal::RoomFull { capacity: 64, .. })
    ));
}

#[test]
fn next_groups_in_the_order_of_arrival_and_a_full_group_stays_closed() {
    let rooms = rooms(10, 10);
    let next = request("q", Grouping::Next(2));
    let a = join(&rooms, &next).unwrap();
    let b = join(&rooms, &next).unwrap();
    let c = join(&rooms, &next).unwrap();
    assert_ne!(
        b.roster().nonce,
        c.roster().nonce,
        "the third opens a new group"
    );
    drop(b);
    let d = join(&rooms, &next).unwrap();
    assert_eq!(
        slots(&a.roster()),
        [0],
        "a group that was full stays closed"
    );
    assert_eq!(d.roster().nonce, c.roster().nonce);
    let three = join(&rooms, &request("q", Grouping::Next(3))).unwrap();
    assert_eq!(slots(&three.roster()), [0], "another N is another queue");
}

#[test]
fn the_place_of_a_peer_that_leaves_a_queue_goes_to_the_next() {
    let rooms = rooms(10, 10);
    let next = request("q", Grouping::Next(2));
    drop(join(&rooms, &next).unwrap());
    let a = join(&rooms, &next).unwrap();
    let b = join(&rooms, &next).unwrap();
    assert_eq!([a.membership.slot, b.membership.slot], [0, 1]);
}

#[test]
fn rooms_and_peers_are_bounded_and_released() {
    let rooms = rooms(2, 3);
    let name = |n: usize| request(&format!("r{n}"), Grouping::Open);
    let a = join(&rooms, &name(0)).unwrap();
    let b = join(&rooms, &name(1)).unwrap();
    let too_many = join(&rooms, &name(2)).err().unwrap();
    assert_eq!(too_many.to_string(), "server is full: it has 2 of 2 rooms");
    let c = join(&rooms, &name(1)).unwrap();
    let too_many = join(&rooms, &name(1)).err().unwrap();
    assert_eq!(too_many.to_string(), "server is full: it has 3 of 3 peers");
    drop(a);
    let d = join(&rooms, &name(2)).unwrap();
    drop((b, c, d));
    assert_eq!(rooms.rooms.load(Ordering::Relaxed), 0);
    assert_eq!(rooms.peers.load(Ordering::Relaxed), 0);
    assert_eq!(rooms.metrics.rooms.get(), 0);
    assert_eq!(rooms.metrics.peers.get(), 0);
    let left: usize = rooms.shards.iter().map(|s| s.lock().unwrap().0.len()).sum();
    assert_eq!(left, 0, "an empty room is removed");
}

#[test]
fn a_join_visits_one_room_whether_there_are_10_or_10_000() {
    let mut visits = Vec::new();
    for count in [10, 10_000] {
        let rooms = rooms(count + 1, 20_000);
        let _crowd: Vec<_> = (0..count)
            .map(|n| join(&rooms, &request(&format!("r{n}"), Grouping::Open)).unwrap())
            .collect();
        let before = rooms.metrics.room_visits.get();
        let own = join(&rooms, &request("r5", Grouping::Open)).unwrap();
        drop(own);
        let new = join(&rooms, &request("new", Grouping::Open)).unwrap();
        drop(new);
        visits.push(rooms.metrics.room_visits.get() - before);
    }
    assert_eq!(visits, [4, 4], "one visit per join and one per leave");
}

#[test]
fn a_join_and_a_leave_are_announced_in_order() {
    let rooms = rooms(10, 10);
    let open = request("r", Grouping::Open);
    let a = join(&rooms, &open).unwrap();
    let first: Vec<_> = a.drain();
    assert_eq!(first.len(), 3, "its id, the welcome and the token");
    assert_eq!(
        first[0],
        Message::Text(
            JsonPeerEvent::IdAssigned(a.membership.peer)
                .to_string()
                .into()
        )
    );
    assert!(
        matches!(&first[1], Message::Binary(b) if matches!(decode_server(b), Ok(ServerFrame::Welcome(_)))),
        "the first binary frame is the welcome"
    );
    assert!(
        matches!(&first[2], Message::Binary(b) if matches!(decode_server(b), Ok(ServerFrame::Token(_)))),
    );
    let b = join(&rooms, &open).unwrap();
    let peer = b.membership.peer;
    b.forward(0, b"bye");
    drop(b);
    let received = a.drain();
    let kinds: Vec<String> = received
        .iter()
        .map(|message| match message {
            Message::Text(text) => text.to_string(),
            Message::Binary(bytes) => match decode_server(bytes) {
                Ok(ServerFrame::Forwarded {
                    source: 1,
                    payload: b"bye",
                }) => "bye".to_owned(),
                Ok(ServerFrame::Roster(roster)) => format!("roster {:?}", slots(&roster)),
                Ok(ServerFrame::Notice(Notice::PeerGone { slot: 1 })) => "gone".to_owned(),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        kinds,
        [
            JsonPeerEvent::NewPeer(peer).to_string(),
            "roster [0, 1]".to_owned(),
            "bye".to_owned(),
            JsonPeerEvent::PeerLeft(peer).to_string(),
            "gone".to_owned(),
            "roster [0]".to_owned(),
        ]
    );
}

#[test]
fn a_slot_of_another_room_cannot_be_reached() {
    let rooms = rooms(10, 10);
    let a = join(&rooms, &request("a", Grouping::Open)).unwrap();
    let b: Vec<_> = (0..3)
        .map(|_| join(&rooms, &request("b", Grouping::Open)).unwrap())
        .collect();
    b.iter().for_each(|client| drop(client.drain()));
    a.drain();
    for slot in 0..=u8::MAX {
        a.forward(slot, b"x");
    }
    a.membership
        .signal(b[0].membership.peer, serde_json::Value::Null);
    assert!(b.iter().all(|client| client.drain().is_empty()));
    let received = a.drain();
    let Message::Binary(frame) = &received[0] else {
        panic!("{received:?}");
    };
    assert_eq!(
        decode_server(frame),
        Ok(ServerFrame::Notice(Notice::Dropped {
            reason: DropReason::UnknownSlot,
            count: 257
        }))
    );
}

#[test]
fn a_packet_above_the_rate_is_dropped_and_reported_to_its_sender() {
    let rooms = rooms(10, 10);
    let open = request("r", Grouping::Open);
    let a = join(&rooms, &open).unwrap();
    let b = join(&rooms, &open).unwrap();
    a.drain();
    b.drain();
    let mut allowance = TokenBucket::default();
    let now = Instant::now();
    // A burst of 150 is allowed to a sender with one other member.
    for _ in 0..153 {
        a.membership.forward(now, 1, b"x", &mut allowance);
    }
    let Message::Binary(frame) = &a.drain()[0] else {
        panic!("the notice is a binary frame");
    };
    assert_eq!(
        decode_server(frame),
        Ok(ServerFrame::Notice(Notice::Dropped {
            reason: DropReason::RateLimited,
            count: 3
        }))
    );
    assert_eq!(b.drain().len(), 16, "the receiver gets a full ring");
}
