//! What goes through the server while it is there: packets and clock requests.

use std::time::Duration;

use async_tungstenite::tungstenite::Message;
use bevy_rollback_lab::{
    clock::LabClock,
    internals::transport::websocket::{RelaySendError, ServerConnection, ServerEvent, Urgency},
};
use rollback_lab_link::wire::relay::{
    ClientFrame, Member, Roster, decode_client, encode_forwarded, encode_welcome,
};
use rollback_lab_server::{LabServer, ServerSettings as LabServerSettings};

use crate::{assign, event, open, peer, scripted_server, settings, until};

#[test]
fn relayed_packets_go_both_ways_and_the_close_is_reported() {
    let roster = Roster {
        slot: 0,
        capacity: 2,
        nonce: [9; 16],
        members: vec![
            Member {
                slot: 0,
                peer: [1; 16],
            },
            Member {
                slot: 1,
                peer: [2; 16],
            },
        ],
    };
    let sent = roster.clone();
    let addr = scripted_server(move |mut websocket| {
        websocket.send(assign(1)).unwrap();
        let welcome = encode_welcome(&sent).unwrap();
        websocket.send(Message::Binary(welcome.into())).unwrap();
        // A second id is ignored.
        websocket.send(assign(2)).unwrap();
        let Message::Binary(first) = websocket.read().unwrap() else {
            panic!("only relay frames are sent here");
        };
        assert_eq!(decode_client(&first), Ok(ClientFrame::Running(false)));
        for _ in 0..3 {
            let Message::Binary(bytes) = websocket.read().unwrap() else {
                panic!("only relay frames are sent here");
            };
            let ClientFrame::Forward {
                destination,
                payload,
            } = decode_client(&bytes).unwrap()
            else {
                panic!("only packets are sent here");
            };
            let mut frame = [0; 64];
            let len = encode_forwarded(destination, payload, &mut frame).unwrap();
            websocket
                .send(Message::Binary(frame[..len].to_vec().into()))
                .unwrap();
        }
        websocket.close(None).unwrap();
        while websocket.read().is_ok() {}
    });
    let connection = open(format!("ws://{addr}/room?players=2"));
    assert_eq!(event(&connection), ServerEvent::Connected);
    assert_eq!(event(&connection), ServerEvent::IdAssigned(peer(1)));
    assert_eq!(event(&connection), ServerEvent::Welcome(roster));
    for byte in 0..3 {
        connection.send_relay(1, &[byte], Urgency::Game).unwrap();
        let packet = until("the packet comes back", || connection.next_relayed());
        assert_eq!((packet.source, packet.payload), (1, vec![byte]));
    }
    assert!(
        matches!(
            event(&connection),
            ServerEvent::Lost {
                reconnecting: false,
                ..
            }
        ),
        "a server without tokens gives every websocket a new id"
    );
    assert_eq!(
        connection.send_relay(1, &[1], Urgency::Game),
        Err(RelaySendError::Ended)
    );
    assert_eq!(connection.stats().relay_sent, 3);
    assert_eq!(connection.stats().relay_received, 3);
    assert_eq!(
        connection.next_event(),
        None,
        "one id, and no report of a missing relay"
    );
}

#[test]
fn a_clock_request_is_answered_while_the_game_is_idle() {
    let server = LabServer::start(LabServerSettings::loopback()).unwrap();
    let url = format!("ws://{}/clocks?players=2", server.local_addr());
    let theirs = LabClock::real();
    let _silent = ServerConnection::open(settings(url.as_str()), theirs.clone());
    let ours = LabClock::real();
    let connection = ServerConnection::open(settings(url.as_str()), ours.clone());
    // The second connection may be admitted first; the roster shows when both are there.
    let other = until("two members", || match connection.next_event()? {
        ServerEvent::Welcome(roster) | ServerEvent::Roster(roster) => {
            let other = |member: &&Member| member.slot != roster.slot;
            roster.members.iter().find(other).map(|member| member.slot)
        }
        _ => None,
    });
    connection.ask_clock(other);
    let (answer, received_at) = until("an answer", || match connection.next_event()? {
        ServerEvent::ClockAnswered {
            source,
            answer,
            received_at,
        } => {
            assert_eq!(source, other);
            Some((answer, received_at))
        }
        _ => None,
    });
    // Both clocks are in one process, so their offset is known.
    let offset = theirs.now() - ours.now();
    let us = |time: Duration| i64::try_from(time.as_micros()).unwrap();
    let low = i64::from(answer.answered) - us(received_at);
    let high = i64::from(answer.received) - i64::from(answer.asked);
    assert!(
        (low - 100..=high + 100).contains(&us(offset)),
        "no packet arrives before it is sent: {low} <= {offset:?} <= {high}"
    );
    assert_eq!(connection.stats().relay_received, 0);
}
