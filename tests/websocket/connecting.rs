//! How a connection begins and ends: the id, refusals, servers that do not answer or do not exist.

use std::time::Duration;

use async_tungstenite::tungstenite::{
    Message,
    protocol::{CloseFrame, frame::coding::CloseCode},
};
use bevy_matchbox::matchbox_socket::{
    PeerState, RtcIceServerConfig, WebRtcSocket, WebRtcSocketBuilder,
};
use bevy_rollback_lab::internals::transport::websocket::{
    ConnectError, RelaySendError, ServerConnection, ServerEvent, Urgency, spawn_network,
};
use rollback_lab_link::wire::relay::CLOSE_LEFT;

use crate::{TIMEOUT, assign, event, listener, open, scripted_server, stock_server, until};

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
