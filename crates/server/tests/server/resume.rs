//! Resumption over real sockets: who gets a slot back, who learns of it, and which tokens are refused.

use std::time::{Duration, Instant};

use futures_timer::Delay;
use matchbox_protocol::JsonPeerEvent;
use rollback_lab_link::wire::relay::{
    CLOSE_REPLACED, CLOSE_RESUME_REFUSED, CLOSE_ROOM_FULL, CLOSE_SERVER_STOPS, DropReason, Notice,
    ResumeToken, Roster,
};
use rollback_lab_server::{LabServer, ServerSecret, ServerSettings};

use crate::support::{Client, Received, metric, metric_becomes, run, server};

const DUEL: &str = "duel?players=2";

fn secret() -> ServerSecret {
    ServerSecret::new(b"a secret that both servers have").expect("it is long enough")
}

fn with_secret() -> LabServer {
    LabServer::start(ServerSettings {
        secret: Some(secret()),
        ..ServerSettings::loopback()
    })
    .expect("a free port")
}

fn ids(roster: &Roster) -> Vec<(u8, [u8; 16])> {
    roster.members.iter().map(|m| (m.slot, m.peer)).collect()
}

/// Two members of a duel that runs; what they were sent so far is read.
async fn match_of_two(server: &LabServer) -> ((Client, Roster), (Client, Roster)) {
    let (mut a, ..) = Client::join(server, DUEL).await;
    let (mut b, _, roster_b) = Client::join(server, DUEL).await;
    b.round_trip().await;
    a.running(true).await;
    b.token().await;
    let roster_a = Roster {
        slot: 0,
        ..roster_b.clone()
    };
    ((a, roster_a), (b, roster_b))
}

fn notice(wanted: Notice) -> impl FnMut(&Received) -> Option<()> {
    move |received| matches!(received, Received::Notice(notice) if *notice == wanted).then_some(())
}

/// Nothing that makes matchbox connect or disconnect, and no notice that a peer is gone.
fn assert_unnoticed(seen: &[Received]) {
    let noticed = seen.iter().any(|received| {
        matches!(
            received,
            Received::Event(_) | Received::Notice(Notice::PeerGone { .. })
        )
    });
    assert!(!noticed, "{seen:?}");
}

#[test]
fn a_member_lost_in_a_match_is_reported_lost_and_back_and_gets_its_slot_and_id_again() {
    run(async {
        let server = server();
        let ((mut a, _), (mut b, roster_b)) = match_of_two(&server).await;
        let token = b.token().await;
        drop(b);
        a.receive_until(notice(Notice::Lost { slot: 1 })).await;
        assert_eq!(
            metric(&server, "rollback_lab_server_peers "),
            2,
            "no peer left"
        );
        let (mut b, roster) = Client::resumed(&server, DUEL, &token).await;
        assert_eq!(roster, roster_b);
        a.receive_until(notice(Notice::Back { slot: 1 })).await;
        assert_unnoticed(&a.round_trip().await);
        assert_unnoticed(&b.round_trip().await);
        a.forward(1, b"again").await;
        assert_eq!(b.packet().await, (0, b"again".to_vec()));
        b.forward(0, b"and back").await;
        assert_eq!(a.packet().await, (1, b"and back".to_vec()));
        assert_eq!(metric(&server, "rollback_lab_server_resumes_total "), 1);
        assert_eq!(metric(&server, "rollback_lab_server_peers "), 2);
        assert_ne!(b.token().await, token, "the welcome renews the token");
    });
}

#[test]
fn a_restarted_server_that_remembers_nothing_takes_a_whole_room_back() {
    run(async {
        let first = with_secret();
        let ((mut a, roster_a), (mut b, roster_b)) = match_of_two(&first).await;
        let tokens = [a.token().await, b.token().await];
        drop(first);
        let second = with_secret();
        let (mut a, alone) = Client::resumed(&second, DUEL, &tokens[0]).await;
        assert_eq!(ids(&alone), ids(&roster_a)[..1]);
        assert_eq!((alone.nonce, alone.slot), (roster_a.nonce, 0));
        let mut newcomer = Client::open(&second, DUEL).await;
        assert_eq!(
            newcomer.closed().await.0,
            CLOSE_ROOM_FULL,
            "the slots of a match are kept for those who play it"
        );
        let (mut b, both) = Client::resumed(&second, DUEL, &tokens[1]).await;
        assert_eq!(both, roster_b);
        let seen = a.round_trip().await;
        assert_unnoticed(&seen);
        assert!(
            matches!(&seen[..], [Received::Roster(r)] if ids(r) == ids(&both)),
            "{seen:?}"
        );
        b.forward(0, b"here").await;
        assert_eq!(a.packet().await, (1, b"here".to_vec()));
    });
}

#[test]
fn another_server_with_the_secret_takes_a_member_over_and_one_without_refuses_it() {
    run(async {
        let first = with_secret();
        let (_, (mut b, roster_b)) = match_of_two(&first).await;
        let token = b.token().await;
        let second = with_secret();
        let (_b, roster) = Client::resumed(&second, DUEL, &token).await;
        assert_eq!((roster.slot, roster.nonce), (1, roster_b.nonce));
        let stranger = server();
        let mut refused = Client::resume(&stranger, DUEL, &token, (false, 2)).await;
        let (code, reason) = refused.closed().await;
        assert_eq!(code, CLOSE_RESUME_REFUSED);
        assert_eq!(
            reason,
            "resume refused: token is not signed with this server's secret; join anew"
        );
    });
}

#[test]
fn a_resume_evicts_its_half_open_predecessor_and_nothing_that_one_sends_counts() {
    run(async {
        let server = server();
        let ((mut a, _), (mut old, _)) = match_of_two(&server).await;
        let token = old.token().await;
        let (mut new, _) = Client::resumed(&server, DUEL, &token).await;
        old.forward(0, b"from the past").await;
        old.signal_noise().await;
        assert_eq!(old.closed().await.0, CLOSE_REPLACED);
        drop(old);
        new.forward(0, b"from now").await;
        assert_eq!(a.packet().await, (1, b"from now".to_vec()));
        assert_unnoticed(&a.round_trip().await);
        assert_eq!(metric(&server, "rollback_lab_server_peers "), 2);
        a.forward(1, b"still there").await;
        assert_eq!(new.packet().await, (0, b"still there".to_vec()));
    });
}

#[test]
fn of_two_attempts_with_one_token_the_later_counts_in_whichever_order_they_arrive() {
    run(async {
        let server = server();
        let (_a, (mut b, _)) = match_of_two(&server).await;
        let token = b.token().await;
        let mut later = Client::resume(&server, DUEL, &token, (false, 2)).await;
        assert!(matches!(later.receive().await, Received::Welcome(_)));
        let mut earlier = Client::resume(&server, DUEL, &token, (false, 1)).await;
        let (code, reason) = earlier.closed().await;
        assert_eq!(code, CLOSE_RESUME_REFUSED);
        assert!(reason.contains("later attempt"), "{reason}");
        let newest = later.token().await;
        let mut replayed = Client::resume(&server, DUEL, &token, (false, 1)).await;
        assert_eq!(replayed.closed().await.0, CLOSE_RESUME_REFUSED);
        let (_again, _) = Client::resumed(&server, DUEL, &newest).await;
    });
}

#[test]
fn a_leave_is_final_at_once_and_a_clean_close_without_its_code_is_a_loss() {
    run(async {
        let server = server();
        let ((mut a, _), (mut b, _)) = match_of_two(&server).await;
        let token = b.token().await;
        b.socket.close(None).await.expect("it is open");
        a.receive_until(notice(Notice::Lost { slot: 1 })).await;
        let (b, _) = Client::resumed(&server, DUEL, &token).await;
        a.receive_until(notice(Notice::Back { slot: 1 })).await;
        b.leave().await;
        let left = a.receive().await;
        assert!(
            matches!(left, Received::Event(JsonPeerEvent::PeerLeft(_))),
            "{left:?}"
        );
        let gone = a.receive().await;
        assert!(
            matches!(gone, Received::Notice(Notice::PeerGone { slot: 1 })),
            "{gone:?}"
        );
    });
}

#[test]
fn a_lost_member_is_gone_when_its_grace_is_over_and_not_before() {
    run(async {
        let grace = Duration::from_millis(400);
        let server = LabServer::start(ServerSettings {
            resume_grace: grace,
            ..ServerSettings::loopback()
        })
        .expect("a free port");
        let ((mut a, _), (b, _)) = match_of_two(&server).await;
        drop(b);
        a.receive_until(notice(Notice::Lost { slot: 1 })).await;
        let lost = Instant::now();
        a.receive_until(notice(Notice::PeerGone { slot: 1 })).await;
        assert!(lost.elapsed() > grace / 2, "{:?}", lost.elapsed());
        metric_becomes(&server, "rollback_lab_server_peers ", 1).await;
    });
}

#[test]
fn a_resume_within_the_grace_outlives_it() {
    run(async {
        let grace = Duration::from_millis(300);
        let server = LabServer::start(ServerSettings {
            resume_grace: grace,
            ..ServerSettings::loopback()
        })
        .expect("a free port");
        let ((mut a, _), (mut b, _)) = match_of_two(&server).await;
        let token = b.token().await;
        drop(b);
        a.receive_until(notice(Notice::Lost { slot: 1 })).await;
        let (mut b, _) = Client::resumed(&server, DUEL, &token).await;
        // The timer of the former websocket has nothing to end.
        Delay::new(grace * 2).await;
        a.forward(1, b"there").await;
        assert_eq!(b.packet().await, (0, b"there".to_vec()));
    });
}

#[test]
fn packets_to_a_lost_member_are_dropped_as_such_and_what_it_missed_comes_after_its_welcome() {
    run(async {
        let server = server();
        let (mut a, ..) = Client::join(&server, "open").await;
        let (mut b, ..) = Client::join(&server, "open").await;
        let (mut c, id_c, _) = Client::join(&server, "open").await;
        for client in [&mut a, &mut b, &mut c] {
            client.round_trip().await;
        }
        a.running(true).await;
        let token = b.token().await;
        drop(b);
        a.receive_until(notice(Notice::Lost { slot: 1 })).await;
        a.forward(1, b"lost").await;
        a.receive_until(|received| {
            let lost = DropReason::ReceiverLost;
            matches!(received, Received::Notice(Notice::Dropped { reason, count: 1 }) if *reason == lost)
                .then_some(())
        })
        .await;
        c.leave().await;
        a.receive_until(notice(Notice::PeerGone { slot: 2 })).await;
        let (mut b, roster) = Client::resumed(&server, "open", &token).await;
        assert_eq!(roster.members.len(), 2);
        let missed = b.round_trip().await;
        assert!(
            matches!(
                &missed[..],
                [
                    Received::Event(JsonPeerEvent::PeerLeft(left)),
                    Received::Notice(Notice::PeerGone { slot: 2 }),
                ] if *left == id_c
            ),
            "{missed:?}"
        );
    });
}

#[test]
fn before_the_match_a_visit_leaves_the_room_as_it_was_and_the_next_completes_it() {
    run(async {
        let server = server();
        let (mut a, _, alone) = Client::join(&server, DUEL).await;
        a.round_trip().await;
        let (mut visitor, ..) = Client::join(&server, DUEL).await;
        let token = visitor.token().await;
        drop(visitor);
        let roster = a
            .receive_until(|received| match received {
                Received::Roster(r) if r.members.len() == 1 => Some(r.clone()),
                _ => None,
            })
            .await;
        assert_eq!(roster, alone);
        metric_becomes(&server, "rollback_lab_server_peers ", 1).await;
        let (_b, id_b, both) = Client::join(&server, DUEL).await;
        assert_eq!(ids(&both)[1], (1, *id_b.0.as_bytes()));
        let mut late = Client::resume(&server, DUEL, &token, (false, 1)).await;
        let (code, reason) = late.closed().await;
        assert_eq!(code, CLOSE_RESUME_REFUSED);
        assert_eq!(
            reason,
            "resume refused: slot 1 of room duel has another peer; join anew"
        );
    });
}

#[test]
fn before_the_match_a_lost_member_comes_back_as_a_new_one_with_its_id() {
    run(async {
        let server = server();
        let (mut a, ..) = Client::join(&server, DUEL).await;
        let (mut b, id_b, roster_b) = Client::join(&server, DUEL).await;
        let token = b.token().await;
        drop(b);
        a.receive_until(notice(Notice::PeerGone { slot: 1 })).await;
        let (_b, roster) = Client::resumed(&server, DUEL, &token).await;
        assert_eq!(roster, roster_b);
        a.receive_until(|received| match received {
            Received::Event(JsonPeerEvent::NewPeer(id)) => (*id == id_b).then_some(()),
            _ => None,
        })
        .await;
    });
}

#[test]
fn a_reload_before_the_match_connects_anew_and_one_during_it_is_not_announced() {
    run(async {
        let server = server();
        let (mut a, ..) = Client::join(&server, DUEL).await;
        let (mut b, id_b, _) = Client::join(&server, DUEL).await;
        a.round_trip().await;
        let token = b.token().await;
        let mut b = Client::resume(&server, DUEL, &token, (true, 1)).await;
        assert!(matches!(b.receive().await, Received::Welcome(_)));
        let seen = a.round_trip().await;
        assert!(
            matches!(
                &seen[..],
                [
                    Received::Event(JsonPeerEvent::PeerLeft(left)),
                    Received::Notice(Notice::PeerGone { slot: 1 }),
                    Received::Event(JsonPeerEvent::NewPeer(new)),
                    Received::Roster(_),
                ] if *left == id_b && *new == id_b
            ),
            "{seen:?}"
        );
        assert_eq!(metric(&server, "rollback_lab_server_peers "), 2);
        let mut replayed = Client::resume(&server, DUEL, &token, (true, 1)).await;
        assert_eq!(replayed.closed().await.0, CLOSE_RESUME_REFUSED);
        assert_unnoticed(&a.round_trip().await);
        a.running(true).await;
        let token = b.token().await;
        let mut again = Client::resume(&server, DUEL, &token, (true, 1)).await;
        assert!(matches!(again.receive().await, Received::Welcome(_)));
        assert_unnoticed(&a.round_trip().await);
    });
}

#[test]
fn a_member_takes_its_slot_from_a_newcomer_on_a_server_that_was_restarted() {
    run(async {
        let first = with_secret();
        let (mut a, ..) = Client::join(&first, DUEL).await;
        let (mut b, _, roster_b) = Client::join(&first, DUEL).await;
        let tokens = [a.token().await, b.token().await];
        drop(first);
        let second = with_secret();
        let (mut a, _) = Client::resumed(&second, DUEL, &tokens[0]).await;
        let (mut newcomer, id, _) = Client::join(&second, DUEL).await;
        a.round_trip().await;
        let (_b, roster) = Client::resumed(&second, DUEL, &tokens[1]).await;
        assert_eq!(roster, roster_b);
        assert_eq!(newcomer.closed().await.0, CLOSE_REPLACED);
        let seen = a.round_trip().await;
        assert!(
            matches!(
                &seen[..],
                [
                    Received::Event(JsonPeerEvent::PeerLeft(left)),
                    Received::Notice(Notice::PeerGone { slot: 1 }),
                    Received::Roster(r),
                ] if *left == id && ids(r) == ids(&roster_b)
            ),
            "a knows b, and does not connect to it again: {seen:?}"
        );
        metric_becomes(&second, "rollback_lab_server_peers ", 2).await;
    });
}

#[test]
fn a_sleeping_member_of_a_full_room_gives_way_to_a_newcomer_and_a_healthy_one_does_not() {
    run(async {
        let server = server();
        let (mut a, ..) = Client::join(&server, DUEL).await;
        a.round_trip().await;
        // It has spoken as a peer of the lab, and then neither sends nor reads: no ping is answered.
        let (mut asleep, ..) = Client::join(&server, DUEL).await;
        asleep.round_trip().await;
        let newcomer = async {
            let (client, _, roster) = Client::join(&server, DUEL).await;
            assert_eq!(roster.slot, 1);
            assert_eq!(roster.members.len(), 2);
            drop(client);
        };
        let awake = async {
            loop {
                a.round_trip().await;
                Delay::new(Duration::from_millis(200)).await;
            }
        };
        futures::future::select(Box::pin(newcomer), Box::pin(awake)).await;
    });
}

#[test]
fn a_full_room_of_members_that_answer_refuses_a_newcomer_soon() {
    run(async {
        let server = server();
        let (mut a, ..) = Client::join(&server, DUEL).await;
        let (mut b, ..) = Client::join(&server, DUEL).await;
        a.round_trip().await;
        b.round_trip().await;
        let refused = async {
            let start = Instant::now();
            let mut newcomer = Client::open(&server, DUEL).await;
            assert_eq!(newcomer.closed().await.0, CLOSE_ROOM_FULL);
            start.elapsed()
        };
        let answering = async {
            loop {
                a.round_trip().await;
                b.round_trip().await;
                Delay::new(Duration::from_millis(100)).await;
            }
        };
        let took = match futures::future::select(Box::pin(refused), Box::pin(answering)).await {
            futures::future::Either::Left((took, _)) => took,
            futures::future::Either::Right(_) => unreachable!("it answers without end"),
        };
        assert!(took < Duration::from_secs(2), "{took:?}");
    });
}

#[test]
fn a_server_that_stops_says_so_to_everyone_and_blames_no_member() {
    run(async {
        for _ in 0..5 {
            let server = server();
            let mut clients = Vec::new();
            for _ in 0..8 {
                let (mut client, ..) = Client::join(&server, "crowd").await;
                client.round_trip().await;
                clients.push(client);
            }
            clients[0].running(true).await;
            let stopping = std::thread::spawn(move || server.shutdown());
            for client in &mut clients {
                loop {
                    match client.receive().await {
                        Received::Closed(code, _) => {
                            assert_eq!(code, CLOSE_SERVER_STOPS);
                            break;
                        }
                        Received::Event(JsonPeerEvent::NewPeer(_)) | Received::Roster(_) => {}
                        other => panic!("{other:?} blames a member"),
                    }
                }
                // Reading on answers the close frame.
                client.receive().await;
            }
            stopping.join().expect("it does not panic");
        }
    });
}

#[test]
fn forged_truncated_foreign_and_missing_tokens_are_refused_with_a_reason_and_cost_nothing() {
    run(async {
        let server = server();
        let ((mut a, _), (mut b, _)) = match_of_two(&server).await;
        let token = b.token().await;
        let mut flipped = token.as_bytes().to_vec();
        flipped[1] ^= 1;
        let cases = [
            (
                DUEL,
                flipped,
                "token is not signed with this server's secret",
            ),
            (DUEL, token.as_bytes()[..90].to_vec(), "token is malformed"),
            (DUEL, vec![0], "token is malformed"),
            (DUEL, vec![0xff; 128], "token is malformed"),
            (
                "other?players=2",
                token.as_bytes().to_vec(),
                "token is for another room",
            ),
            (
                "duel",
                token.as_bytes().to_vec(),
                "token is for another room",
            ),
        ];
        let refusals = u64::try_from(cases.len()).expect("a few");
        for (room, bytes, why) in cases {
            let forged = ResumeToken::new(&bytes).expect("a length of a token");
            let mut client = Client::resume(&server, room, &forged, (false, 9)).await;
            let expected = format!("resume refused: {why}; join anew");
            assert_eq!(client.closed().await, (CLOSE_RESUME_REFUSED, expected));
        }
        let mut mute = Client::open(&server, "duel?players=2&resume").await;
        mute.text("\"KeepAlive\"".to_owned()).await;
        let (code, reason) = mute.closed().await;
        assert_eq!(code, CLOSE_RESUME_REFUSED);
        assert!(reason.contains("no token came"), "{reason}");
        assert_unnoticed(&a.round_trip().await);
        assert_unnoticed(&b.round_trip().await);
        assert_eq!(metric(&server, "rollback_lab_server_rooms "), 1);
        assert_eq!(metric(&server, "rollback_lab_server_peers "), 2);
        let refused = "rollback_lab_server_refusals_total{reason=\"resume\"} ";
        assert_eq!(metric(&server, refused), refusals + 1);
    });
}

#[test]
fn a_resume_frame_in_the_middle_is_malformed_and_changes_nothing() {
    run(async {
        let server = server();
        let ((mut a, _), (mut b, _)) = match_of_two(&server).await;
        let token = b.token().await;
        a.send_resume(&token).await;
        assert_unnoticed(&a.round_trip().await);
        assert_unnoticed(&b.round_trip().await);
        let malformed = "rollback_lab_server_malformed_total{reason=\"kind\"} ";
        assert_eq!(metric(&server, malformed), 1);
    });
}

#[test]
fn the_members_of_an_ended_room_do_not_return_to_another_one_of_its_name() {
    run(async {
        let server = server();
        let (mut a, ..) = Client::join(&server, DUEL).await;
        let token = a.token().await;
        a.leave().await;
        metric_becomes(&server, "rollback_lab_server_rooms ", 0).await;
        let (_other, _, roster) = Client::join(&server, DUEL).await;
        assert_eq!(roster.slot, 0);
        let mut late = Client::resume(&server, DUEL, &token, (false, 1)).await;
        let (code, reason) = late.closed().await;
        assert_eq!(code, CLOSE_RESUME_REFUSED);
        assert_eq!(reason, "resume refused: the room has ended; join anew");
        assert_eq!(metric(&server, "rollback_lab_server_rooms "), 1);
    });
}
