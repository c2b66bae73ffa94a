//! A lost websocket is taken up again, by the token of its server's welcome.

use std::time::{Duration, Instant};

use async_tungstenite::tungstenite::{
    self, Message,
    protocol::{CloseFrame, frame::coding::CloseCode},
};
use bevy_matchbox::matchbox_socket::{PeerEvent, PeerId, Signaller};
use bevy_rollback_lab::{
    clock::LabClock,
    internals::transport::websocket::{ServerConnection, ServerEvent, Urgency},
};
use futures::FutureExt;
use rollback_lab_link::wire::relay::{
    CLOSE_REPLACED, CLOSE_RESUME_REFUSED, ClientFrame, Member, Notice, ResumeToken, Roster,
    decode_client, encode_token, encode_welcome,
};
use rollback_lab_server::{LabServer, ServerSecret, ServerSettings as LabServerSettings};

use crate::{TIMEOUT, assign, listener, open, proxy::Proxy, scripted_server, settings, until};

fn server_with_secret() -> LabServer {
    LabServer::start(LabServerSettings {
        secret: Some(ServerSecret::new(b"the secret of both servers").unwrap()),
        ..LabServerSettings::loopback()
    })
    .unwrap()
}

/// A member of a room of two, and what a matchbox socket of it would see.
struct Peer {
    connection: ServerConnection,
    matchbox: Box<dyn Signaller>,
    id: PeerId,
    slot: u8,
}

/// Two connections through one proxy, whose match runs. Everything before that is read.
fn two_peers(proxy: &Proxy) -> [Peer; 2] {
    let url = format!("ws://{}/duel?players=2", proxy.addr());
    let mut peers = [(); 2].map(|()| {
        let connection = ServerConnection::open(settings(&url), LabClock::real());
        let builder = connection.signaller_builder();
        let matchbox = builder.new_signaller(None, String::new());
        let matchbox = futures::executor::block_on(matchbox).unwrap();
        let id = until("an id", || match connection.next_event()? {
            ServerEvent::IdAssigned(id) => Some(id),
            _ => None,
        });
        let slot = until("a welcome", || match connection.next_event()? {
            ServerEvent::Welcome(roster) => Some(roster.slot),
            _ => None,
        });
        Peer {
            connection,
            matchbox,
            id,
            slot,
        }
    });
    assert!(matches!(
        until("the other", || peers[0].connection.next_event()),
        ServerEvent::Roster(roster) if roster.members.len() == 2
    ));
    // The offerer learns of the other; both have their id.
    while signal(&mut peers[0]).is_some() || signal(&mut peers[1]).is_some() {}
    for peer in &peers {
        peer.connection.set_running(true);
    }
    // A packet through the relay shows that the server has read that.
    exchange(&peers);
    peers
}

fn signal(peer: &mut Peer) -> Option<PeerEvent> {
    peer.matchbox
        .next_message()
        .now_or_never()
        .map(Result::unwrap)
}

/// Sends a packet both ways until one has come.
fn exchange(peers: &[Peer; 2]) {
    for (from, to) in [(0, 1), (1, 0)] {
        let (from, to) = (&peers[from], &peers[to]);
        until("a packet through the relay", || {
            // It may be lost while the other is still away.
            let _ = from.connection.send_relay(to.slot, &[7], Urgency::Game);
            to.connection.next_relayed()
        });
    }
}

fn lost(connection: &ServerConnection) {
    until("the loss", || match connection.next_event()? {
        ServerEvent::Lost { reconnecting, .. } => {
            assert!(reconnecting);
            Some(())
        }
        _ => None,
    });
}

/// Waits until the peer is back; returns how long it was away by its own count.
fn resumed(peer: &Peer) -> Duration {
    let away = until("the resumption", || match peer.connection.next_event()? {
        ServerEvent::Resumed { attempts, away } => {
            assert!(attempts >= 1);
            Some(away)
        }
        ServerEvent::IdAssigned(_) | ServerEvent::Welcome(_) => panic!("a second welcome"),
        ServerEvent::Notice(Notice::PeerGone { .. }) => panic!("no peer left"),
        _ => None,
    });
    let own = until("the roster", || match peer.connection.next_event()? {
        ServerEvent::Roster(roster) => {
            let own = roster.members.iter().find(|m| m.slot == roster.slot);
            own.copied()
        }
        _ => None,
    });
    assert_eq!((own.slot, &own.peer), (peer.slot, peer.id.0.as_bytes()));
    away
}

#[test]
fn a_killed_and_restarted_server_has_both_peers_back_with_their_ids_and_slots() {
    let first = server_with_secret();
    let proxy = Proxy::new(first.local_addr());
    let mut peers = two_peers(&proxy);
    // All connections end without a close frame, as those of a killed process.
    let killed = Instant::now();
    proxy.refuse(true);
    proxy.sever();
    drop(first);
    for peer in &peers {
        lost(&peer.connection);
    }
    let second = server_with_secret();
    proxy.retarget(second.local_addr());
    proxy.refuse(false);
    let away = [resumed(&peers[0]), resumed(&peers[1])];
    exchange(&peers);
    let total = killed.elapsed();
    println!("away {away:?}, packets after {total:?}");
    assert!(total < Duration::from_secs(4), "{total:?}");
    for peer in &mut peers {
        assert!(signal(peer).is_none(), "matchbox sees nothing");
        let [outage] = peer.connection.stats().outages[..] else {
            panic!("one outage");
        };
        assert!(outage.attempts >= 1);
        assert!(outage.lost_at <= outage.first_attempt_at.unwrap());
        assert!(outage.first_attempt_at.unwrap() < outage.resumed_at.unwrap());
    }
}

#[test]
fn a_silent_websocket_is_replaced_while_the_network_is_still_away() {
    let server = server_with_secret();
    let proxy = Proxy::new(server.local_addr());
    let mut peers = two_peers(&proxy);
    let start = Instant::now();
    proxy.hold(true);
    for peer in &peers {
        lost(&peer.connection);
    }
    let noticed = start.elapsed();
    // Long enough for several attempts, which all hang.
    until("attempts", || {
        let outage = peers[0].connection.stats().outages[0];
        (outage.attempts >= 3).then_some(())
    });
    proxy.hold(false);
    let healed = Instant::now();
    resumed(&peers[0]);
    resumed(&peers[1]);
    exchange(&peers);
    let back = healed.elapsed();
    println!("noticed after {noticed:?}, back {back:?} after the network");
    assert!(noticed >= Duration::from_secs(1), "{noticed:?}");
    for peer in &mut peers {
        assert!(signal(peer).is_none(), "matchbox sees nothing");
    }
}

#[test]
fn a_server_that_stops_is_lost_and_taken_up_again() {
    let first = server_with_secret();
    let proxy = Proxy::new(first.local_addr());
    let peers = two_peers(&proxy);
    first.shutdown();
    for peer in &peers {
        let reason = until("the loss", || match peer.connection.next_event()? {
            ServerEvent::Lost { reason, .. } => Some(reason),
            ServerEvent::Notice(Notice::PeerGone { .. } | Notice::Lost { .. }) => {
                panic!("no peer is to blame")
            }
            _ => None,
        });
        assert!(reason.contains("server stops"), "{reason}");
    }
    let second = server_with_secret();
    proxy.retarget(second.local_addr());
    resumed(&peers[0]);
    resumed(&peers[1]);
    exchange(&peers);
}

#[test]
fn the_other_member_learns_of_a_loss_and_of_the_return() {
    let server = server_with_secret();
    let steady = Proxy::new(server.local_addr());
    let shaky = Proxy::new(server.local_addr());
    let url = |proxy: &Proxy| format!("ws://{}/duel?players=2", proxy.addr());
    let a = ServerConnection::open(settings(url(&steady)), LabClock::real());
    until("a's welcome", || {
        matches!(a.next_event()?, ServerEvent::Welcome(_)).then_some(())
    });
    let b = ServerConnection::open(settings(url(&shaky)), LabClock::real());
    until("b's welcome", || {
        matches!(b.next_event()?, ServerEvent::Welcome(_)).then_some(())
    });
    b.set_running(true);
    until("a packet of b", || {
        b.send_relay(0, &[1], Urgency::Game).unwrap();
        a.next_relayed()
    });
    shaky.refuse(true);
    shaky.sever();
    let notice = |wanted: Notice| {
        until("the notice", || match a.next_event()? {
            ServerEvent::Notice(notice) => {
                assert!(!matches!(notice, Notice::PeerGone { .. }));
                (notice == wanted).then_some(())
            }
            _ => None,
        });
    };
    notice(Notice::Lost { slot: 1 });
    shaky.refuse(false);
    notice(Notice::Back { slot: 1 });
}

#[expect(
    clippy::result_large_err,
    reason = "the error type of a handshake callback is the websocket library's"
)]
#[test]
fn the_token_goes_in_the_first_frame_and_a_refusal_ends_the_connection() {
    let (listener, addr) = listener();
    let token = ResumeToken::new(&[42; 91]).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let roster = Roster {
            slot: 0,
            capacity: 2,
            nonce: [9; 16],
            members: vec![Member {
                slot: 0,
                peer: [1; 16],
            }],
        };
        let (stream, _) = listener.accept().unwrap();
        let mut websocket = tungstenite::accept(stream).unwrap();
        for frame in [encode_welcome(&roster).unwrap(), encode_token(&token)] {
            websocket.send(Message::Binary(frame.into())).unwrap();
        }
        websocket.read().unwrap();
        // Without a close frame.
        drop(websocket);
        let (stream, _) = listener.accept().unwrap();
        let mut path = String::new();
        let mut websocket = tungstenite::accept_hdr(
            stream,
            |request: &tungstenite::handshake::server::Request, response| {
                path = request.uri().to_string();
                Ok(response)
            },
        )
        .unwrap();
        let Message::Binary(first) = websocket.read().unwrap() else {
            panic!("the token is a binary frame");
        };
        sender.send((path, first)).unwrap();
        let refusal = CloseFrame {
            code: CloseCode::from(CLOSE_RESUME_REFUSED),
            reason: "resume refused: token expired; join anew".into(),
        };
        websocket.close(Some(refusal)).unwrap();
        while websocket.read().is_ok() {}
    });
    let connection = open(format!("ws://{addr}/duel?players=2"));
    let (path, first) = receiver.recv_timeout(TIMEOUT).unwrap();
    assert_eq!(path, "/duel?players=2&resume");
    assert_eq!(
        decode_client(&first),
        Ok(ClientFrame::Resume {
            anew: false,
            attempt: 1,
            token
        })
    );
    let reason = until("the refusal", || match connection.next_event()? {
        ServerEvent::Refused { code, reason } => {
            assert_eq!(code, CLOSE_RESUME_REFUSED);
            Some(reason)
        }
        _ => None,
    });
    assert_eq!(reason, "resume refused: token expired; join anew");
}

#[test]
fn a_replaced_websocket_is_not_taken_up_again() {
    let addr = scripted_server(|mut websocket| {
        websocket.send(assign(1)).unwrap();
        let token = encode_token(&ResumeToken::new(&[1; 91]).unwrap());
        websocket.send(Message::Binary(token.into())).unwrap();
        let replaced = CloseFrame {
            code: CloseCode::from(CLOSE_REPLACED),
            reason: "another websocket has resumed this slot".into(),
        };
        websocket.close(Some(replaced)).unwrap();
        while websocket.read().is_ok() {}
    });
    let connection = open(format!("ws://{addr}/duel"));
    until("the end", || match connection.next_event()? {
        ServerEvent::Refused { code, .. } => {
            assert_eq!(code, CLOSE_REPLACED);
            Some(())
        }
        ServerEvent::Lost { .. } => panic!("two tabs would take the slot from each other for ever"),
        _ => None,
    });
}
