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
    PeerEvent, PeerId, PeerState, RtcIceServerConfig, WebRtcSocket, WebRtcSocketBuilder,
};
use bevy_rollback_lab::{
    clock::LabClock,
    internals::transport::websocket::{
        ConnectError, RelaySendError, ServerConnection, ServerEvent, SignalingSettings, Urgency,
        spawn_network,
    },
};
use rollback_lab_link::wire::relay::{
    ClientFrame, Member, Roster, decode_client, encode_forwarded, encode_welcome,
};
use rollback_lab_server::{LabServer, ServerSettings as LabServerSettings};

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
        for _ in 0..3 {
            let Message::Binary(bytes) = websocket.read().unwrap() else {
                panic!("only relay frames are sent here");
            };
            let ClientFrame::Forward {
                destination,
                payload,
            } = decode_client(&bytes).unwrap();
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
    assert!(matches!(event(&connection), ServerEvent::Lost { .. }));
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
fn dropping_the_connection_sends_a_close_frame() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let addr = scripted_server(move |mut websocket| {
        websocket.send(assign(1)).unwrap();
        while let Ok(message) = websocket.read() {
            sender.send(message.is_close()).unwrap();
        }
    });
    let connection = open(format!("ws://{addr}/room"));
    until("an id", || {
        connection
            .next_event()
            .filter(|event| matches!(event, ServerEvent::IdAssigned(_)))
    });
    drop(connection);
    assert!(
        receiver.recv_timeout(TIMEOUT).unwrap(),
        "a close frame, not a reset connection"
    );
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
