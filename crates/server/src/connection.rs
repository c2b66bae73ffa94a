//! One websocket from the upgrade to its end: a reader and a writer with their time-outs, side by
//! side in one task.

use std::sync::Arc;
use std::time::Instant;

use axum::Error;
use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use matchbox_protocol::{JsonPeerRequest, PeerRequest};
use rollback_lab_link::wire::relay::{
    CLOSE_LEFT, CLOSE_SERVER_STOPS, CLOSE_TOO_SLOW, ClientFrame, DropReason, MAX_FRAME_LEN,
    MAX_PAYLOAD_LEN, RelayFrameError, decode_client,
};
use tokio::sync::watch;
use tokio::time::{sleep, sleep_until, timeout};
use tracing::{debug, info};

use super::limits::{
    CLOSE_TIMEOUT, GHOST_CHECK, GHOST_WAIT, LAB_PING_AFTER, LAB_UNANSWERED_PINGS, MAX_SIGNAL_LEN,
    PING_AFTER, TOKEN_TIMEOUT, TokenBucket, UNANSWERED_PINGS, WRITE_TIMEOUT,
};
use super::metrics::Metrics;
use super::page::Page;
use super::refusal::Refusal;
use super::request::RoomRequest;
use super::rooms::{Membership, Rooms};
use super::send_queue::{Closing, Next, SendQueue};

/// What every connection shares.
#[derive(Clone)]
pub(crate) struct ServerState {
    /// All rooms.
    pub rooms: Arc<Rooms>,
    /// All counters.
    pub metrics: Arc<Metrics>,
    /// Turns true when the server shuts down.
    pub shutdown: watch::Receiver<bool>,
    /// How many connections are open.
    pub open: Arc<watch::Sender<usize>>,
    /// Served to requests that do not ask for a websocket.
    pub page: Option<Arc<Page>>,
}

/// Serves a websocket until it ends, and keeps the slot of a member that was lost during its match.
pub(crate) async fn serve(
    state: ServerState,
    request: Result<RoomRequest, Refusal>,
    resume: bool,
    socket: WebSocket,
) {
    state.open.send_modify(|open| *open += 1);
    let (sink, mut stream) = socket.split();
    let send_queue = Arc::new(SendQueue::default());
    let entered = match request {
        Err(refusal) => Err(refusal),
        Ok(request) if resume => resumed(&state, &request, &send_queue, &mut stream).await,
        Ok(request) => joined(&state, &request, &send_queue).await,
    };
    let membership = match entered {
        Ok(membership) => {
            let (peer, room) = (membership.peer(), membership.room_name());
            debug!(
                "{peer} {} room {room}",
                if resume { "resumed in" } else { "joined" }
            );
            Some(membership)
        }
        Err(refusal) => {
            info!("refused a client: {refusal}");
            let closing = Closing::from(&refusal);
            state.metrics.refused(closing.name);
            send_queue.close(closing);
            None
        }
    };
    let held = run(&state, membership.as_ref(), &send_queue, sink, stream).await;
    state.open.send_modify(|open| *open -= 1);
    let Some(membership) = membership else {
        return;
    };
    let (peer, room) = (membership.peer(), membership.room_name());
    if held {
        debug!("{peer} is lost in room {room}");
        let mut shutdown = state.shutdown.clone();
        tokio::select! {
            () = sleep(state.rooms.grace()) => membership.leave(),
            _ = shutdown.wait_for(|stop| *stop) => membership.forget(),
        }
    } else {
        debug!("{peer} left room {room}, or another websocket took its place");
    }
}

/// Joins the room. Where it is full, but of members that may be lost, those are waited for.
async fn joined(
    state: &ServerState,
    request: &RoomRequest,
    send_queue: &Arc<SendQueue>,
) -> Result<Membership, Refusal> {
    let arrived = Instant::now();
    loop {
        let full = match state.rooms.join(request, Arc::clone(send_queue)) {
            Err(full @ Refusal::RoomFull { .. }) => full,
            joined => return joined,
        };
        let waited = arrived.elapsed() > GHOST_WAIT;
        if waited || !state.rooms.may_have_ghost(request, arrived) {
            return Err(full);
        }
        sleep(GHOST_CHECK).await;
    }
}

/// Reads the token, which is the first frame of a websocket that resumes, and resumes with it.
async fn resumed(
    state: &ServerState,
    request: &RoomRequest,
    send_queue: &Arc<SendQueue>,
    stream: &mut SplitStream<WebSocket>,
) -> Result<Membership, Refusal> {
    let first = timeout(TOKEN_TIMEOUT, stream.next()).await;
    let Ok(Some(Ok(Message::Binary(bytes)))) = first else {
        return Err(Refusal::NoToken);
    };
    let Ok(ClientFrame::Resume {
        anew,
        attempt,
        token,
    }) = decode_client(&bytes)
    else {
        return Err(Refusal::NoToken);
    };
    (state.rooms).resume(request, &token, (anew, attempt), Arc::clone(send_queue))
}

/// Reads and writes until one of both ends, then leaves the room. Returns whether the slot is kept instead.
async fn run(
    state: &ServerState,
    membership: Option<&Membership>,
    send_queue: &SendQueue,
    sink: SplitSink<WebSocket, Message>,
    stream: SplitStream<WebSocket>,
) -> bool {
    let reader = Reader {
        metrics: &state.metrics,
        membership,
        send_queue,
        packets: TokenBucket::default(),
        signals: TokenBucket::default(),
        lab: false,
        left: false,
    };
    let mut reader = std::pin::pin!(reader.run(stream));
    let mut writer = std::pin::pin!(write(&state.metrics, membership, send_queue, sink));
    let mut shutdown = state.shutdown.clone();
    let mut stopping = false;
    let ended = loop {
        tokio::select! {
            ended = &mut reader => break ended,
            ended = &mut writer => break ended,
            _ = shutdown.wait_for(|stop| *stop), if !stopping => {
                stopping = true;
                send_queue.close(Closing::new(CLOSE_SERVER_STOPS, "shutdown", "server stops"));
            }
        }
    };
    match &ended {
        ConnectionEnd::ByServer(closing) => {
            state.metrics.closed(closing.name);
            debug!("closed a connection: {}", closing.text);
        }
        ConnectionEnd::TooSlow => state.metrics.closed("tooSlow"),
        ConnectionEnd::Silent => state.metrics.closed("silent"),
        ConnectionEnd::ByClient | ConnectionEnd::Left => {}
    }
    let held = membership.is_some_and(|membership| {
        // A server that stops blames no member, also not to those that it closes last.
        if *state.shutdown.borrow() {
            membership.forget();
            return false;
        }
        let held = !matches!(ended, ConnectionEnd::Left) && membership.hold();
        if !held {
            membership.leave();
        }
        held
    });
    match &ended {
        // Bytes left unread would reset the connection, and the client would lose the close frame.
        ConnectionEnd::ByServer(_) => {
            let _ = timeout(CLOSE_TIMEOUT, reader).await;
        }
        // A client that is alive after all learns why.
        ConnectionEnd::Silent => {
            send_queue.close(Closing::new(
                CLOSE_TOO_SLOW,
                "silent",
                "no message and no answer to a ping",
            ));
            let _ = timeout(CLOSE_TIMEOUT, writer).await;
        }
        ConnectionEnd::ByClient | ConnectionEnd::Left | ConnectionEnd::TooSlow => {}
    }
    held
}

/// How a connection ended.
enum ConnectionEnd {
    /// The client closed it, or it broke: the client is lost.
    ByClient,
    /// The client closed it with the code of a leave.
    Left,
    /// The server sent a close frame.
    ByServer(Closing),
    /// A write timed out. A close frame would not be written either.
    TooSlow,
    /// Nothing came from the client, not even an answer to a ping.
    Silent,
}

struct Reader<'a> {
    metrics: &'a Metrics,
    /// `None` for a client that was refused; it only reads the close frame.
    membership: Option<&'a Membership>,
    send_queue: &'a SendQueue,
    packets: TokenBucket,
    signals: TokenBucket,
    /// The client has sent a frame of the relay.
    lab: bool,
    /// The client closed the connection with the code of a leave.
    left: bool,
}

impl Reader<'_> {
    /// Reads until the stream ends. After a violation it discards what it reads until the
    /// connection is closed.
    async fn run(mut self, mut stream: SplitStream<WebSocket>) -> ConnectionEnd {
        let mut unanswered = 0;
        loop {
            let (ping_after, pings) = if self.lab {
                (LAB_PING_AFTER, LAB_UNANSWERED_PINGS)
            } else {
                (PING_AFTER, UNANSWERED_PINGS)
            };
            match timeout(ping_after, stream.next()).await {
                Ok(Some(Ok(message))) => {
                    unanswered = 0;
                    if let Some(membership) = self.membership
                        && !self.send_queue.is_closing()
                    {
                        self.read(membership, message);
                    }
                }
                Ok(Some(Err(error))) => {
                    let Some(closing) = violation(&error) else {
                        return self.ended();
                    };
                    self.send_queue.close(closing);
                    // The stream cannot be read any further; the writer ends the connection.
                    return std::future::pending().await;
                }
                Ok(None) => return self.ended(),
                Err(_) if unanswered < pings => {
                    unanswered += 1;
                    self.send_queue.control(Message::Ping(Default::default()));
                }
                Err(_) => return ConnectionEnd::Silent,
            }
        }
    }

    fn ended(&self) -> ConnectionEnd {
        if self.left {
            ConnectionEnd::Left
        } else {
            ConnectionEnd::ByClient
        }
    }

    fn read(&mut self, membership: &Membership, message: Message) {
        let now = Instant::now();
        membership.activity(now);
        match message {
            Message::Binary(bytes) => self.packet(now, membership, &bytes),
            Message::Text(text) => self.text(now, membership, &text),
            Message::Close(frame) => {
                self.left = frame.is_some_and(|frame| frame.code == CLOSE_LEFT);
            }
            Message::Ping(_) | Message::Pong(_) => {}
        }
    }

    fn packet(&mut self, now: Instant, membership: &Membership, bytes: &[u8]) {
        match decode_client(bytes) {
            Ok(ClientFrame::Forward {
                destination,
                payload,
            }) => {
                self.lab = true;
                membership.forward(now, destination, payload, &mut self.packets);
            }
            Ok(ClientFrame::Probe { number }) => {
                if !std::mem::replace(&mut self.lab, true) {
                    membership.set_lab();
                }
                // One answer waits at most, so that probes fill no queue.
                self.send_queue.answer_probe(number);
            }
            Ok(ClientFrame::Running(running)) => {
                self.lab = true;
                if membership.allows(now, &mut self.packets) {
                    membership.set_running(running);
                }
            }
            // It belongs into the first frame alone, which has been read.
            Ok(ClientFrame::Resume { .. }) => {
                membership.allows(now, &mut self.packets);
                self.metrics.malformed("kind");
            }
            Err(RelayFrameError::TooLong { len, .. }) => {
                self.metrics.dropped(DropReason::TooLarge, 1);
                self.send_queue.close(Closing::new(
                    close_code::SIZE,
                    "packetTooLarge",
                    format!(
                        "relay packet of {} bytes exceeds {MAX_PAYLOAD_LEN}",
                        len + MAX_PAYLOAD_LEN - MAX_FRAME_LEN
                    ),
                ));
            }
            Err(error) => {
                // Malformed frames count against the sender's rate like packets.
                membership.allows(now, &mut self.packets);
                self.metrics.malformed(error.reason());
            }
        }
    }

    fn text(&mut self, now: Instant, membership: &Membership, text: &str) {
        if text.len() > MAX_SIGNAL_LEN {
            self.send_queue.close(Closing::new(
                close_code::SIZE,
                "signalTooLarge",
                format!(
                    "signaling text of {} bytes exceeds {MAX_SIGNAL_LEN}",
                    text.len()
                ),
            ));
            return;
        }
        if !membership.allows(now, &mut self.signals) {
            membership.drop_own(DropReason::RateLimited);
            return;
        }
        match text.parse::<JsonPeerRequest>() {
            Ok(PeerRequest::Signal { receiver, data }) => membership.signal(receiver, data),
            Ok(PeerRequest::KeepAlive) => {}
            Err(_) => self.metrics.malformed("json"),
        }
    }
}

/// The protocol violation behind a failed read; `None` if the connection was lost.
fn violation(error: &Error) -> Option<Closing> {
    // axum 0.8 hides the type of the websocket's error: its text and its sources are what is left.
    let text = error.to_string();
    let first = std::error::Error::source(error);
    let lost = std::iter::successors(first, |error| error.source())
        .any(|source| source.is::<std::io::Error>())
        || text.ends_with("without closing handshake");
    if lost {
        return None;
    }
    Some(if text.starts_with("Space limit exceeded") {
        Closing::new(close_code::SIZE, "messageTooLarge", text)
    } else {
        Closing::new(close_code::PROTOCOL, "protocol", text)
    })
}

/// Writes what the queue yields until the connection ends.
async fn write(
    metrics: &Metrics,
    membership: Option<&Membership>,
    send_queue: &SendQueue,
    mut sink: SplitSink<WebSocket, Message>,
) -> ConnectionEnd {
    let mut stale = Vec::new();
    loop {
        let next = send_queue.next(Instant::now(), &mut stale);
        for (source, count) in stale.drain(..) {
            if let Some(membership) = membership {
                membership.drop_of(source, DropReason::Stale, count);
            }
        }
        let (message, packet) = match next {
            Next::Close(closing) => {
                let frame = CloseFrame {
                    code: closing.code,
                    reason: closing.text.as_str().into(),
                };
                return match timeout(WRITE_TIMEOUT, sink.send(Message::Close(Some(frame)))).await {
                    Ok(_) => ConnectionEnd::ByServer(closing),
                    Err(_) => ConnectionEnd::TooSlow,
                };
            }
            Next::Wait(None) => {
                send_queue.woken().await;
                continue;
            }
            Next::Wait(Some(until)) => {
                tokio::select! {
                    () = send_queue.woken() => {}
                    () = sleep_until(until.into()) => {}
                }
                continue;
            }
            Next::Control(message) => (message, None),
            Next::Packet(packet) => {
                metrics.queued(packet.received.elapsed());
                let length = packet.item.len();
                (
                    Message::Binary(packet.item),
                    Some((packet.received, length)),
                )
            }
        };
        match timeout(WRITE_TIMEOUT, sink.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return ConnectionEnd::ByClient,
            Err(_) => return ConnectionEnd::TooSlow,
        }
        if let Some((received, length)) = packet {
            let payload = length.saturating_sub(MAX_FRAME_LEN - MAX_PAYLOAD_LEN);
            metrics.forwarded(payload, received.elapsed());
        }
    }
}
