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

use async_tungstenite::tungstenite::{self, Message, WebSocket};
use bevy_matchbox::matchbox_socket::{PeerEvent, PeerId};
use bevy_rollback_lab::{
    clock::LabClock,
    internals::transport::websocket::{ServerConnection, ServerEvent, SignalingSettings},
};

mod connecting;
mod proxy;
mod relay;
mod resume;

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
