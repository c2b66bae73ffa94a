//! Owns one websocket from the upgrade to its end: a reader, a writer and their time-outs.
//! Never decides who is in which room, nor what is dropped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Error;
use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use matchbox_protocol::{JsonPeerRequest, PeerRequest};
use tokio::sync::watch;
use tokio::time::{sleep_until, timeout};
use tracing::{debug, info};

use super::limits::{
    CLOSE_TIMEOUT, MAX_SIGNAL_LEN, PING_AFTER, SILENT_PINGS, TokenBucket, WRITE_TIMEOUT,
};
use super::metrics::Metrics;
use super::page::Page;
use super::refusal::Refusal;
use super::request::RoomRequest;
use super::rooms::{PlayerSlot, Rooms};
use super::send_queue::{Closing, Next, SendQueue};
use rollback_lab_link::wire::relay::{
    CLOSE_TOO_SLOW, ClientFrame, DropReason, MAX_FRAME_LEN, MAX_PAYLOAD_LEN, RelayFrameError,
    decode_client,
};

/// What every connection shares.
#[derive(Clone)]
pub(crate) struct Shared {
    /// All rooms.
    pub rooms: Arc<Rooms>,
    /// All counters.
    pub metrics: Arc<Metrics>,
    /// Turns true when the server shuts down.
    pub shutdown: watch::Receiver<bool>,
    /// How many connections are open.
    pub open: Arc<watch::Sender<usize>>,
    /// What is served to requests that want no websocket.
    pub page: Option<Arc<Page>>,
}

/// Serves a websocket until it ends.
pub(crate) async fn serve(
    shared: Shared,
    request: Result<RoomRequest, Refusal>,
    socket: WebSocket,
) {
    shared.open.send_modify(|open| *open += 1);
    let (sink, stream) = socket.split();
    let send_queue = Arc::new(SendQueue::default());
    let joined = request.and_then(|request| shared.rooms.join(&request, Arc::clone(&send_queue)));
    let player_slot = match joined {
        Ok(player_slot) => {
            debug!(
                "{} joined room {}",
                player_slot.peer(),
                player_slot.room_name()
            );
            Some(player_slot)
        }
        Err(refusal) => {
            info!("refused a client: {refusal}");
            let closing = Closing::from(&refusal);
            shared.metrics.refused(closing.name);
            send_queue.close(closing);
            None
        }
    };
    run(&shared, player_slot, &send_queue, sink, stream).await;
    shared.open.send_modify(|open| *open -= 1);
}

async fn run(
    shared: &Shared,
    player_slot: Option<PlayerSlot>,
    send_queue: &SendQueue,
    sink: SplitSink<WebSocket, Message>,
    stream: SplitStream<WebSocket>,
) {
    let mut shutdown = shared.shutdown.clone();
    {
        let reader = Reader {
            metrics: &shared.metrics,
            player_slot: player_slot.as_ref(),
            send_queue,
            relay: TokenBucket::default(),
            signaling: TokenBucket::default(),
        };
        let mut reader = std::pin::pin!(reader.run(stream));
        let mut writer = std::pin::pin!(write(
            &shared.metrics,
            player_slot.as_ref(),
            send_queue,
            sink
        ));
        let mut stopping = false;
        let ended = loop {
            tokio::select! {
                () = &mut reader => break Ended::ByClient,
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
            Ended::ByServer(closing) => {
                shared.metrics.closed(closing.name);
                debug!("closed a client: {}", closing.text);
            }
            Ended::TooSlow => shared.metrics.closed("tooSlow"),
            Ended::ByClient => {}
        }
        if let Some(player_slot) = &player_slot {
            player_slot.leave();
        }
        if let Ended::ByServer(_) = &ended {
            // What the client still sends is read away: bytes left unread would reset the
            // connection and take the close frame with them.
            let _ = timeout(CLOSE_TIMEOUT, reader).await;
        }
    }
    if let Some(player_slot) = &player_slot {
        debug!(
            "{} left room {}",
            player_slot.peer(),
            player_slot.room_name()
        );
    }
}

/// How a connection came to its end.
enum Ended {
    /// The client closed it, or it broke.
    ByClient,
    /// The server sent a close frame.
    ByServer(Closing),
    /// A write timed out; nothing can be said to a client that does not read.
    TooSlow,
}

struct Reader<'a> {
    metrics: &'a Metrics,
    player_slot: Option<&'a PlayerSlot>,
    send_queue: &'a SendQueue,
    relay: TokenBucket,
    signaling: TokenBucket,
}

impl Reader<'_> {
    /// Reads until the stream ends. After a violation it reads on without looking, until the
    /// connection is closed.
    async fn run(mut self, mut stream: SplitStream<WebSocket>) {
        let mut silent = 0;
        loop {
            match timeout(PING_AFTER, stream.next()).await {
                Ok(Some(Ok(message))) => {
                    silent = 0;
                    if let Some(player_slot) = self.player_slot
                        && !self.send_queue.is_closing()
                    {
                        self.read(player_slot, message);
                    }
                }
                Ok(Some(Err(error))) => {
                    let Some(closing) = violation(&error) else {
                        return;
                    };
                    self.send_queue.close(closing);
                    // Whatever follows cannot be read; the writer says goodbye if it can.
                    return std::future::pending().await;
                }
                Ok(None) => return,
                Err(_) if silent < SILENT_PINGS => {
                    silent += 1;
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

    fn read(&mut self, player_slot: &PlayerSlot, message: Message) {
        let now = Instant::now();
        match message {
            Message::Binary(bytes) => self.packet(now, player_slot, &bytes),
            Message::Text(text) => self.text(now, player_slot, &text),
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => {}
        }
    }

    fn packet(&mut self, now: Instant, player_slot: &PlayerSlot, bytes: &[u8]) {
        match decode_client(bytes) {
            Ok(ClientFrame::Forward {
                destination,
                payload,
            }) => {
                if self.relay.take(now, player_slot.room_size()) {
                    player_slot.forward(now, destination, payload);
                } else {
                    player_slot.drop_own(DropReason::RateLimited);
                }
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
                // Garbage counts against the sender's rate like anything else.
                self.relay.take(now, player_slot.room_size());
                self.metrics.malformed(error.reason());
            }
        }
    }

    fn text(&mut self, now: Instant, player_slot: &PlayerSlot, text: &str) {
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
        if !self.signaling.take(now, player_slot.room_size()) {
            player_slot.drop_own(DropReason::RateLimited);
            return;
        }
        match text.parse::<JsonPeerRequest>() {
            Ok(PeerRequest::Signal { receiver, data }) => player_slot.signal(receiver, data),
            Ok(PeerRequest::KeepAlive) => {}
            Err(_) => self.metrics.malformed("json"),
        }
    }
}

/// What a client did wrong when reading from it failed; none if it is simply gone.
fn violation(error: &Error) -> Option<Closing> {
    // axum hides the error's type, its text and its sources are what there is to tell by.
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

async fn write(
    metrics: &Metrics,
    player_slot: Option<&PlayerSlot>,
    send_queue: &SendQueue,
    mut sink: SplitSink<WebSocket, Message>,
) -> Ended {
    let mut stale = Vec::new();
    loop {
        let next = send_queue.next(Instant::now(), &mut stale);
        for (source, count) in stale.drain(..) {
            if let Some(player_slot) = player_slot {
                player_slot.drop_of(source, DropReason::Stale, count);
            }
        }
        let message = match next {
            Next::Close(closing) => {
                let frame = CloseFrame {
                    code: closing.code,
                    reason: closing.text.as_str().into(),
                };
                return match timeout(WRITE_TIMEOUT, sink.send(Message::Close(Some(frame)))).await {
                    Ok(_) => Ended::ByServer(closing),
                    Err(_) => Ended::TooSlow,
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
        let (message, packet) = message;
        match timeout(WRITE_TIMEOUT, sink.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Ended::ByClient,
            Err(_) => return Ended::TooSlow,
        }
        if let Some((received, length)) = packet {
            let payload = length.saturating_sub(MAX_FRAME_LEN - MAX_PAYLOAD_LEN);
            let latency: Duration = received.elapsed();
            metrics.forwarded(payload, latency);
        }
    }
}
