//! The server connection on real sockets: a stock signaling server, a server that relays, and
//! servers that refuse, do not answer or do not exist. The sleeps poll real sockets.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test may fail like the test itself"
)]

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use async_tungstenite::tungstenite::{
    self, Message, WebSocket,
    protocol::{CloseFrame, frame::coding::CloseCode},
};
use bevy_matchbox::matchbox_socket::{
    PeerEvent, PeerId, PeerState, RtcIceServerConfig, Signaller, WebRtcSocket, WebRtcSocketBuilder,
};
use bevy_rollback_lab::{
    clock::LabClock,
    internals::transport::websocket::{
        ConnectError, RelaySendError, ServerConnection, ServerEvent, SignalingSettings, Urgency,
        spawn_network,
    },
};
use futures::FutureExt;
use rollback_lab_link::wire::relay::{
    CLOSE_LEFT, CLOSE_REPLACED, CLOSE_RESUME_REFUSED, ClientFrame, Member, Notice, ResumeToken,
    Roster, decode_client, encode_forwarded, encode_token, encode_welcome,
};
use rollback_lab_server::{LabServer, ServerSecret, ServerSettings as LabServerSettings};

mod proxy;

use proxy::Proxy;

/// Far longer than anything here takes.
const TIMEOUT: Duration = Duration::from_secs(20);

fn settings(url: impl Into<String>) -> SignalingSettings {
    SignalingSettings {
        attempts: 2,
        attempt_timeout: Duration::from_millis(500),
        retry_pause: Duration::from_millis(10),
        relay_wait: Duration::from_millis(300),
        ..SignalingSettings::new(url)
    }
}

fn open(url: impl Into<String>) -> ServerConnection {
    ServerConnection::open(settings(url), LabClock::real())
}

fn until<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    while start.elapsed() < TIMEOUT {
        if let Some(value) = ready() {
            return value;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    panic!("{what} within {TIMEOUT:?}");
}

fn event(connection: &ServerConnection) -> ServerEvent {
    until("an event", || connection.next_event())
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// Starts an unmodified `matchbox_signaling` server, which runs until the test process ends.
fn stock_server() -> SocketAddr {
    let mut server =
        matchbox_signaling::SignalingServer::full_mesh_builder((Ipv4Addr::LOCALHOST, 0)).build();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(async move {
                sender.send(server.bind().unwrap()).unwrap();
                server.serve().await
            })
    });
    receiver.recv_timeout(TIMEOUT).unwrap()
}

/// A server for one connection, scripted by the test.
fn scripted_server(script: impl FnOnce(WebSocket<TcpStream>) + Send + 'static) -> SocketAddr {
    let (listener, addr) = listener();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        script(tungstenite::accept(stream).unwrap());
    });
    addr
}

fn peer(byte: u8) -> PeerId {
    serde_json::from_value(format!("{byte:032x}").into()).unwrap()
}

fn assign(byte: u8) -> Message {
    let text = serde_json::to_string(&PeerEvent::IdAssigned(peer(byte))).unwrap();
    Message::Text(text.into())
}

#[test]
fn a_stock_server_assigns_an_id_and_is_reported_once_to_have_no_relay() {
    let addr = stock_server();
    let connection = open(format!("ws://{addr}/room?players=2"));
    assert_eq!(event(&connection), ServerEvent::Connected);
    assert!(matches!(event(&connection), ServerEvent::IdAssigned(_)));
    assert_eq!(event(&connection), ServerEvent::NoRelay);
    assert_eq!(
        connection.send_relay(1, &[1], Urgency::Game),
        Err(RelaySendError::NoRelay),
        "a stock server does not relay"
    );
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(
        connection.next_event(),
        None,
        "reported once, and still connected"
    );
}

#[test]
fn two_sockets_open_a_data_channel_through_a_stock_server() {
    let addr = stock_server();
    let socket = || -> (ServerConnection, WebRtcSocket) {
        let connection = open(format!("ws://{addr}/pair"));
        let (socket, messages) = WebRtcSocketBuilder::new("unused: the connection has the URL")
            .signaller_builder(connection.signaller_builder())
            .ice_server(RtcIceServerConfig {
                urls: Vec::new(),
                username: None,
                credential: None,
            })
            .add_unreliable_channel()
            .build();
        spawn_network(async {
            let _ = messages.await;
        })
        .unwrap();
        (connection, socket)
    };
    let (a, mut a_socket) = socket();
    let (_b, mut b_socket) = socket();
    let connected = |socket: &mut WebRtcSocket| {
        until("a peer", || {
            let changes = socket.try_update_peers().unwrap();
            changes
                .into_iter()
                .find(|(_, state)| *state == PeerState::Connected)
                .map(|(peer, _)| peer)
        })
    };
    let b_id = connected(&mut a_socket);
    connected(&mut b_socket);
    let a_id = until("own id", || a_socket.id());
    assert_eq!(event(&a), ServerEvent::Connected);
    assert_eq!(event(&a), ServerEvent::IdAssigned(a_id));
    let (from, packet) = until("a packet over the data channel", || {
        a_socket.channel_mut(0).send(vec![7].into(), b_id);
        b_socket.channel_mut(0).receive().pop()
    });
    assert_eq!((from, &packet[..]), (a_id, &[7][..]));
}

#[test]
fn one_connection_feeds_one_socket() {
    let addr = stock_server();
    let connection = open(format!("ws://{addr}/room"));
    let builder = connection.signaller_builder();
    let make = || futures::executor::block_on(builder.new_signaller(None, String::new()));
    assert!(make().is_ok());
    assert!(make().is_err());
}

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

#[test]
fn a_refusal_has_its_code_and_reason() {
    let addr = scripted_server(|mut websocket| {
        let refusal = CloseFrame {
            code: CloseCode::from(4002),
            reason: "room duel has 2 players, not 3".into(),
        };
        websocket.close(Some(refusal)).unwrap();
        while websocket.read().is_ok() {}
    });
    let connection = open(format!("ws://{addr}/duel?players=3"));
    assert_eq!(event(&connection), ServerEvent::Connected);
    assert_eq!(
        event(&connection),
        ServerEvent::Refused {
            code: 4002,
            reason: "room duel has 2 players, not 3".into()
        }
    );
}

#[test]
fn dropping_the_connection_sends_a_close_frame_that_says_that_it_leaves() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let addr = scripted_server(move |mut websocket| {
        websocket.send(assign(1)).unwrap();
        while let Ok(message) = websocket.read() {
            let code = match message {
                Message::Close(frame) => frame.map(|frame| u16::from(frame.code)),
                _ => None,
            };
            sender.send(code).unwrap();
        }
    });
    let connection = open(format!("ws://{addr}/room"));
    until("an id", || {
        connection
            .next_event()
            .filter(|event| matches!(event, ServerEvent::IdAssigned(_)))
    });
    drop(connection);
    assert_eq!(
        receiver.recv_timeout(TIMEOUT).unwrap(),
        Some(CLOSE_LEFT),
        "a close frame, not a reset connection"
    );
}

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

fn unreachable(connection: &ServerConnection) -> ConnectError {
    match event(connection) {
        ServerEvent::Unreachable(error) => error,
        other => panic!("unreachable, not {other:?}"),
    }
}

#[test]
fn an_absent_server_is_reported_after_the_last_attempt() {
    let (listener, addr) = listener();
    drop(listener);
    let url = format!("ws://{addr}/room");
    let error = unreachable(&open(&url));
    assert!(
        matches!(&error, ConnectError::Unreachable { attempts: 2, .. }),
        "{error}"
    );
    assert!(error.to_string().contains(&url), "{error}");
}

#[test]
fn a_server_without_an_answer_is_reported_after_the_time_out() {
    let (listener, addr) = listener();
    let error = unreachable(&open(format!("ws://{addr}/room")));
    assert!(error.to_string().contains("no answer in 500ms"), "{error}");
    drop(listener);
}

#[test]
fn tls_to_a_server_without_it_is_an_error() {
    let (listener, addr) = listener();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = std::io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let error = unreachable(&open(format!("wss://{addr}/room")));
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
}

#[test]
fn an_invalid_url_is_refused_without_an_attempt() {
    for url in ["", "room", "http://127.0.0.1/room", "ws://"] {
        let error = unreachable(&open(url));
        assert!(matches!(error, ConnectError::Url { .. }), "{url}: {error}");
    }
}
