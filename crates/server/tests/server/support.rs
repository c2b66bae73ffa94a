//! A websocket client that sees every frame, for tests against a real server on loopback.

#![allow(dead_code, reason = "every test file uses another part of it")]

use std::future::Future;
use std::time::Duration;

use async_tungstenite::WebSocketStream;
use async_tungstenite::smol::{ConnectStream, connect_async};
use async_tungstenite::tungstenite::Message;
use futures::{FutureExt, StreamExt};
use futures_timer::Delay;
use matchbox_protocol::{JsonPeerEvent, JsonPeerRequest, PeerId};
use rollback_lab_link::wire::relay::{
    MAX_FRAME_LEN, Roster, ServerFrame, decode_server, encode_forward,
};
use rollback_lab_server::{LabServer, ServerSettings};

/// Longest that anything awaited here may take, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn server() -> LabServer {
    LabServer::start(ServerSettings::loopback()).expect("a free port on loopback")
}

/// Runs a test to its end, or fails it.
pub(crate) fn run(test: impl Future<Output = ()>) {
    futures::executor::block_on(within(PATIENCE * 2, "the test", test));
}

pub(crate) async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    let future = std::pin::pin!(future);
    futures::select! {
        value = future.fuse() => value,
        () = Delay::new(limit).fuse() => panic!("{what} took longer than {limit:?}"),
    }
}

/// Everything a client can hear.
#[derive(Debug)]
pub(crate) enum Heard {
    Event(JsonPeerEvent),
    Welcome(Roster),
    Roster(Roster),
    Notice(rollback_lab_link::wire::relay::Notice),
    Packet(u8, Vec<u8>),
    Closed(u16, String),
    /// The connection ended without a close frame.
    Cut,
}

pub(crate) struct Client {
    pub socket: WebSocketStream<ConnectStream>,
}

impl Client {
    pub(crate) async fn open(server: &LabServer, room: &str) -> Self {
        let url = format!("{}/{room}", server.url());
        let (socket, _) = within(PATIENCE, "connecting", connect_async(url))
            .await
            .expect("the server accepts websockets");
        Self { socket }
    }

    /// Joins a room and reads id and welcome.
    pub(crate) async fn join(server: &LabServer, room: &str) -> (Self, PeerId, Roster) {
        let mut client = Self::open(server, room).await;
        let Heard::Event(JsonPeerEvent::IdAssigned(id)) = client.hear().await else {
            panic!("the id comes first");
        };
        let Heard::Welcome(roster) = client.hear().await else {
            panic!("the first binary frame is the welcome");
        };
        (client, id, roster)
    }

    pub(crate) async fn hear(&mut self) -> Heard {
        loop {
            let next = within(PATIENCE, "the next message", self.socket.next()).await;
            match next {
                Some(Ok(Message::Text(text))) => {
                    return Heard::Event(text.parse().expect("text frames are matchbox events"));
                }
                Some(Ok(Message::Binary(bytes))) => {
                    return match decode_server(&bytes).expect("binary frames are relay frames") {
                        ServerFrame::Welcome(roster) => Heard::Welcome(roster),
                        ServerFrame::Roster(roster) => Heard::Roster(roster),
                        ServerFrame::Notice(notice) => Heard::Notice(notice),
                        ServerFrame::Forwarded { source, payload } => {
                            Heard::Packet(source, payload.to_vec())
                        }
                    };
                }
                Some(Ok(Message::Close(frame))) => {
                    return frame.map_or(Heard::Closed(1005, String::new()), |frame| {
                        Heard::Closed(frame.code.into(), frame.reason.to_string())
                    });
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Heard::Cut,
            }
        }
    }

    /// Skips what does not match.
    pub(crate) async fn hear_until<T>(&mut self, mut wanted: impl FnMut(&Heard) -> Option<T>) -> T {
        loop {
            let heard = self.hear().await;
            if let Some(found) = wanted(&heard) {
                return found;
            }
            let over = matches!(heard, Heard::Closed(..) | Heard::Cut);
            assert!(!over, "the connection ended with {heard:?}");
        }
    }

    pub(crate) async fn closed(&mut self) -> (u16, String) {
        loop {
            match self.hear().await {
                Heard::Closed(code, reason) => return (code, reason),
                Heard::Cut => panic!("cut without a close frame"),
                _ => {}
            }
        }
    }

    /// The next packet, whatever else is said in between.
    pub(crate) async fn packet(&mut self) -> (u8, Vec<u8>) {
        self.hear_until(|heard| match heard {
            Heard::Packet(source, payload) => Some((*source, payload.clone())),
            _ => None,
        })
        .await
    }

    pub(crate) async fn forward(&mut self, destination: u8, payload: &[u8]) {
        let mut buffer = [0; MAX_FRAME_LEN];
        let length = encode_forward(destination, payload, &mut buffer).expect("it fits");
        self.binary(buffer[..length].to_vec()).await;
    }

    pub(crate) async fn signal(&mut self, receiver: PeerId, data: serde_json::Value) {
        let request = JsonPeerRequest::Signal { receiver, data };
        self.text(request.to_string()).await;
    }

    pub(crate) async fn binary(&mut self, bytes: Vec<u8>) {
        let sent = self.socket.send(Message::Binary(bytes.into())).await;
        sent.expect("the connection is open");
    }

    pub(crate) async fn text(&mut self, text: String) {
        let sent = self.socket.send(Message::Text(text.into())).await;
        sent.expect("the connection is open");
    }
}

/// Waits until a number of `/metrics` has that value; a packet is counted just after it went out.
pub(crate) async fn metric_becomes(server: &LabServer, line: &str, value: u64) {
    within(PATIENCE, line, async {
        while metric(server, line) != value {
            Delay::new(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// A number of `/metrics`, by the start of its line.
pub(crate) fn metric(server: &LabServer, line: &str) -> u64 {
    let (_, text) = http_get(server, "/metrics");
    let found = text.lines().find_map(|l| l.strip_prefix(line));
    let number = found.unwrap_or_else(|| panic!("no line {line} in\n{text}"));
    number.trim().parse().expect("a counter is a number")
}

/// Status line and everything after it, over a plain socket.
pub(crate) fn http_get(server: &LabServer, path: &str) -> (String, String) {
    use std::io::{Read, Write};

    let mut stream = std::net::TcpStream::connect(server.local_addr()).expect("it listens");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a time-out can be set");
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n"
    )
    .expect("the request fits");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    let (status, rest) = answer.split_once("\r\n").expect("a status line");
    (status.to_owned(), rest.to_owned())
}
