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
    CLOSE_TOO_SLOW, ClientFrame, DropReason, MAX_FRAME_LEN, MAX_PAYLOAD_LEN, RelayFrameError,
    decode_client,
};
use tokio::sync::watch;
use tokio::time::{sleep_until, timeout};
use tracing::{debug, info};

use super::limits::{
    CLOSE_TIMEOUT, MAX_SIGNAL_LEN, PING_AFTER, TokenBucket, UNANSWERED_PINGS, WRITE_TIMEOUT,
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

/// Serves a websocket until it ends.
pub(crate) async fn serve(
    state: ServerState,
    request: Result<RoomRequest, Refusal>,
    socket: WebSocket,
) {
    state.open.send_modify(|open| *open += 1);
    let (sink, stream) = socket.split();
    let send_queue = Arc::new(SendQueue::default());
    let joined = request.and_then(|request| state.rooms.join(&request, Arc::clone(&send_queue)));
    let membership = match joined {
        Ok(membership) => {
            let (peer, room) = (membership.peer(), membership.room_name());
            debug!("{peer} joined room {room}");
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
    run(&state, membership.as_ref(), &send_queue, sink, stream).await;
    if let Some(membership) = &membership {
        let (peer, room) = (membership.peer(), membership.room_name());
        debug!("{peer} left room {room}");
    }
    state.open.send_modify(|open| *open -= 1);
}

/// Reads and writes until one of both ends, then leaves the room.
async fn run(
    state: &ServerState,
    membership: Option<&Membership>,
    send_queue: &SendQueue,
    sink: SplitSink<WebSocket, Message>,
    stream: SplitStream<WebSocket>,
) {
    let reader = Reader {
        metrics: &state.metrics,
        membership,
        send_queue,
        packets: TokenBucket::default(),
        signals: TokenBucket::default(),
    };
    let mut reader = std::pin::pin!(reader.run(stream));
    let mut writer = std::pin::pin!(write(&state.metrics, membership, send_queue, sink));
    let mut shutdown = state.shutdown.clone();
    let mut stopping = false;
    let ended = loop {
        tokio::select! {
            () = &mut reader => break ConnectionEnd::ByClient,
            ended = &mut writer => break ended,
            _ = shutdown.wait_for(|stop| *stop), if !stopping => {
                stopping = true;
                send_queue.close(Closing::new(
                    close_code::AWAY,
                    "shutdown",
                    "server is shutting down",
                ));
            }
        }
    };
    match &ended {
        ConnectionEnd::ByServer(closing) => {
            state.metrics.closed(closing.name);
            debug!("closed a connection: {}", closing.text);
        }
        ConnectionEnd::TooSlow => state.metrics.closed("tooSlow"),
        ConnectionEnd::ByClient => {}
    }
    if let Some(membership) = membership {
        membership.leave();
    }
    if let ConnectionEnd::ByServer(_) = &ended {
        // Bytes left unread would reset the connection, and the client would lose the close frame.
        let _ = timeout(CLOSE_TIMEOUT, reader).await;
    }
}

/// How a connection ended.
enum ConnectionEnd {
    /// The client closed it, or it broke.
    ByClient,
    /// The server sent a close frame.
    ByServer(Closing),
    /// A write timed out. A close frame would not be written either.
    TooSlow,
}

struct Reader<'a> {
    metrics: &'a Metrics,
    /// `None` for a client that was refused; it only reads the close frame.
    membership: Option<&'a Membership>,
    send_queue: &'a SendQueue,
    packets: TokenBucket,
    signals: TokenBucket,
}

impl Reader<'_> {
    /// Reads until the stream ends. After a violation it discards what it reads until the
    /// connection is closed.
    async fn run(mut self, mut stream: SplitStream<WebSocket>) {
        let mut unanswered = 0;
        loop {
            match timeout(PING_AFTER, stream.next()).await {
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
                        return;
                    };
                    self.send_queue.close(closing);
                    // The stream cannot be read any further; the writer ends the connection.
                    return std::future::pending().await;
                }
                Ok(None) => return,
                Err(_) if unanswered < UNANSWERED_PINGS => {
                    unanswered += 1;
                    self.send_queue.control(Message::Ping(Default::default()));
                }
                Err(_) => self.send_queue.close(Closing::new(
                    CLOSE_TOO_SLOW,
                    "silent",
                    "no message and no answer to a ping",
                )),
            }
        }
    }

    fn read(&mut self, membership: &Membership, message: Message) {
        let now = Instant::now();
        match message {
            Message::Binary(bytes) => self.packet(now, membership, &bytes),
            Message::Text(text) => self.text(now, membership, &text),
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => {}
        }
    }

    fn packet(&mut self, now: Instant, membership: &Membership, bytes: &[u8]) {
        match decode_client(bytes) {
            Ok(ClientFrame::Forward {
                destination,
                payload,
            }) => membership.forward(now, destination, payload, &mut self.packets),
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
