//! A websocket client that sees every frame, for tests against a real server on loopback.

use std::future::Future;
use std::time::Duration;

use async_tungstenite::WebSocketStream;
use async_tungstenite::smol::{ConnectStream, connect_async};
use async_tungstenite::tungstenite::Message;
use async_tungstenite::tungstenite::protocol::CloseFrame;
use async_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use futures::{FutureExt, StreamExt};
use futures_timer::Delay;
use matchbox_protocol::{JsonPeerEvent, JsonPeerRequest, PeerId};
use rollback_lab_link::wire::relay::{
    CLOSE_LEFT, MAX_FRAME_LEN, Notice, RESUME_PARAMETER, ResumeToken, Roster, ServerFrame,
    decode_server, encode_forward, encode_probe, encode_resume, encode_running,
};
use rollback_lab_server::{LabServer, ServerSettings};

/// Longest time that an awaited step may take, on a busy machine.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) fn server() -> LabServer {
    LabServer::start(ServerSettings::loopback()).expect("a free port on loopback")
}

/// Runs a test to its end, or fails it.
pub(crate) fn run(test: impl Future<Output = ()>) {
    futures::executor::block_on(within(TIMEOUT * 2, "the test", test));
}

pub(crate) async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    let future = std::pin::pin!(future);
    futures::select! {
        value = future.fuse() => value,
        () = Delay::new(limit).fuse() => panic!("{what} took longer than {limit:?}"),
    }
}

/// Everything a client can receive.
#[derive(Debug)]
pub(crate) enum Received {
    Event(JsonPeerEvent),
    Welcome(Roster),
    Roster(Roster),
    Notice(Notice),
    Answer(u32),
    Packet(u8, Vec<u8>),
    Closed(u16, String),
    /// The connection ended without a close frame.
    Lost,
}

pub(crate) struct Client {
    pub socket: WebSocketStream<ConnectStream>,
    /// The newest token that was read.
    pub token: Option<ResumeToken>,
}

impl Client {
    pub(crate) async fn open(server: &LabServer, room: &str) -> Self {
        let url = format!("{}/{room}", server.url());
        let (socket, _) = within(TIMEOUT, "connecting", connect_async(url))
            .await
            .expect("the server accepts websockets");
        Self {
            socket,
            token: None,
        }
    }

    /// Opens a websocket to resume with `token`, and sends that.
    pub(crate) async fn resume(
        server: &LabServer,
        room: &str,
        token: &ResumeToken,
        (anew, attempt): (bool, u32),
    ) -> Self {
        let sign = if room.contains('?') { '&' } else { '?' };
        let mut client = Self::open(server, &format!("{room}{sign}{RESUME_PARAMETER}")).await;
        client.binary(encode_resume(anew, attempt, token)).await;
        client
    }

    /// Resumes and reads the welcome.
    pub(crate) async fn resumed(
        server: &LabServer,
        room: &str,
        token: &ResumeToken,
    ) -> (Self, Roster) {
        let mut client = Self::resume(server, room, token, (false, 1)).await;
        match client.receive().await {
            Received::Welcome(roster) => (client, roster),
            other => panic!("the welcome comes first, and no second id, not {other:?}"),
        }
    }

    /// The newest token; what comes before a probe's answer has been read then.
    pub(crate) async fn token(&mut self) -> ResumeToken {
        self.round_trip().await;
        self.token.expect("a token follows the welcome")
    }

    /// Waits until the server has read everything that this client sent, and reads what it sent before;
    /// returns that, without packets.
    pub(crate) async fn round_trip(&mut self) -> Vec<Received> {
        self.binary(encode_probe(77).to_vec()).await;
        let mut seen = Vec::new();
        loop {
            match self.receive().await {
                Received::Answer(77) => return seen,
                other => seen.push(other),
            }
        }
    }

    /// Reports whether the match runs, and waits until the server knows it.
    pub(crate) async fn running(&mut self, running: bool) {
        self.binary(encode_running(running).to_vec()).await;
        self.round_trip().await;
    }

    /// Sends a resume frame where none belongs.
    pub(crate) async fn send_resume(&mut self, token: &ResumeToken) {
        self.binary(encode_resume(false, 9, token)).await;
    }

    /// Sends text and binary noise that an evicted websocket may still have in flight.
    pub(crate) async fn signal_noise(&mut self) {
        self.text("\"KeepAlive\"".to_owned()).await;
        self.binary(encode_running(false).to_vec()).await;
    }

    /// Closes the websocket with the code of a leave.
    pub(crate) async fn leave(mut self) {
        let frame = CloseFrame {
            code: CloseCode::from(CLOSE_LEFT),
            reason: "".into(),
        };
        self.socket.close(Some(frame)).await.expect("it is open");
        while let Some(Ok(_)) = self.socket.next().await {}
    }

    /// Joins a room and reads id and welcome.
    pub(crate) async fn join(server: &LabServer, room: &str) -> (Self, PeerId, Roster) {
        let mut client = Self::open(server, room).await;
        let Received::Event(JsonPeerEvent::IdAssigned(id)) = client.receive().await else {
            panic!("the id comes first");
        };
        let Received::Welcome(roster) = client.receive().await else {
            panic!("the first binary frame is the welcome");
        };
        (client, id, roster)
    }

    pub(crate) async fn receive(&mut self) -> Received {
        loop {
            let next = within(TIMEOUT, "the next message", self.socket.next()).await;
            match next {
                Some(Ok(Message::Text(text))) => {
                    return Received::Event(text.parse().expect("text frames are matchbox events"));
                }
                Some(Ok(Message::Binary(bytes))) => {
                    return match decode_server(&bytes).expect("binary frames are relay frames") {
                        ServerFrame::Token(token) => {
                            self.token = Some(token);
                            continue;
                        }
                        ServerFrame::ProbeAnswer { number } => Received::Answer(number),
                        ServerFrame::Welcome(roster) => Received::Welcome(roster),
                        ServerFrame::Roster(roster) => Received::Roster(roster),
                        ServerFrame::Notice(notice) => Received::Notice(notice),
                        ServerFrame::Forwarded { source, payload } => {
                            Received::Packet(source, payload.to_vec())
                        }
                    };
                }
                Some(Ok(Message::Close(frame))) => {
                    return frame.map_or(Received::Closed(1005, String::new()), |frame| {
                        Received::Closed(frame.code.into(), frame.reason.to_string())
                    });
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Received::Lost,
            }
        }
    }

    /// Skips what does not match.
    pub(crate) async fn receive_until<T>(
        &mut self,
        mut wanted: impl FnMut(&Received) -> Option<T>,
    ) -> T {
        loop {
            let received = self.receive().await;
            if let Some(found) = wanted(&received) {
                return found;
            }
            let over = matches!(received, Received::Closed(..) | Received::Lost);
            assert!(!over, "the connection ended with {received:?}");
        }
    }

    pub(crate) async fn closed(&mut self) -> (u16, String) {
        loop {
            match self.receive().await {
                Received::Closed(code, reason) => return (code, reason),
                Received::Lost => panic!("the connection ended without a close frame"),
                _ => {}
            }
        }
    }

    /// The next packet; other messages are skipped.
    pub(crate) async fn packet(&mut self) -> (u8, Vec<u8>) {
        self.receive_until(|received| match received {
            Received::Packet(source, payload) => Some((*source, payload.clone())),
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
    within(TIMEOUT, line, async {
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
        .set_read_timeout(Some(TIMEOUT))
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
