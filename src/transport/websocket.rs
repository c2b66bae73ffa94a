//! Owns the one connection to the server: signals and relayed packets on a single websocket, in
//! a task of its own (a thread natively), reached through channels.
//!
//! Everything on this side is the seam; how a platform connects, reads and writes lies in
//! `websocket/native.rs` (and, later, the browser's). It never looks into a packet.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bevy_matchbox::matchbox_socket::{PeerEvent, PeerId, PeerRequest};
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures::task::AtomicWaker;

use super::wire::relay::{self, Notice, Roster, ServerFrame};

#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(not(target_arch = "wasm32"))]
use native::run;
#[cfg(target_arch = "wasm32")]
mod wasm;
#[cfg(target_arch = "wasm32")]
use wasm::run;

/// How long after `IdAssigned` our server's first binary frame may take; a stock server never
/// sends one.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(1);
/// Relayed packets that wait for the websocket, about a second of a game at 60 Hz. Older ones are
/// of no use: every input packet carries all inputs that were not acknowledged.
const OUTBOX_LIMIT: usize = 64;
/// Close codes from which on the server speaks for itself: the room was refused.
const FIRST_REFUSAL: u16 = 4000;

/// Where and how to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// Address with room and query, for example `ws://127.0.0.1:3536/my-room?players=2`.
    pub url: String,
    /// Connection attempts before giving up, at least 1.
    pub attempts: u16,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// Pause between two attempts.
    pub pause: Duration,
}

/// What the connection tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerEvent {
    /// The server named this peer.
    IdAssigned(PeerId),
    /// No binary frame came in time: a stock server, which cannot relay.
    NoRelay,
    /// Who is in the room, at first and at every change.
    Roster(Roster),
    /// The relay dropped something, or a peer is gone for good.
    Notice(Notice),
    /// The server closed the connection with a reason of its own.
    Refused {
        /// Websocket close code.
        code: u16,
        /// The server's words.
        reason: String,
    },
    /// No attempt to connect succeeded.
    Unreachable {
        /// What was tried.
        url: String,
        /// Why the last attempt failed.
        error: String,
    },
    /// The connection ended.
    Lost {
        /// Why.
        reason: String,
    },
}

/// A packet that came by the relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relayed {
    /// Who sent it.
    pub slot: u8,
    /// The datagram.
    pub payload: Vec<u8>,
}

/// The game's end of the connection.
pub struct ServerConnection {
    events: UnboundedReceiver<ServerEvent>,
    relayed: UnboundedReceiver<Relayed>,
    outbox: Arc<Outbox>,
}

/// The signaller's end of the connection.
pub struct SignalEnds {
    pub(super) events: UnboundedReceiver<PeerEvent>,
    pub(super) requests: UnboundedSender<PeerRequest>,
}

/// Connects in a task of its own. The first end goes to the network, the second to matchbox.
#[must_use]
pub fn connect(settings: ServerSettings) -> (ServerConnection, SignalEnds) {
    let (events_tx, events) = unbounded();
    let (relayed_tx, relayed) = unbounded();
    let (signals_tx, signals) = unbounded();
    let (requests, requests_rx) = unbounded();
    let outbox = Arc::new(Outbox::default());
    let ends = TaskEnds {
        events: events_tx,
        relayed: relayed_tx,
        signals: signals_tx,
        requests: requests_rx,
        outbox: Arc::clone(&outbox),
        welcomed: false,
        named: false,
    };
    super::matchbox::spawn("lab-websocket", run(settings, ends));
    let connection = ServerConnection { events, relayed, outbox };
    (connection, SignalEnds { events: signals, requests })
}

impl ServerConnection {
    /// Next event, if one waits.
    pub fn next_event(&mut self) -> Option<ServerEvent> {
        self.events.try_recv().ok()
    }

    /// Next relayed packet, if one waits.
    pub fn next_relayed(&mut self) -> Option<Relayed> {
        self.relayed.try_recv().ok()
    }

    /// Queues a packet for the member in `slot`. Where the queue is full the oldest is dropped.
    ///
    /// Returns false if the connection is closed or the packet too large.
    pub fn relay(&mut self, slot: u8, payload: &[u8]) -> bool {
        let mut frame = [0_u8; relay::MAX_FRAME_LEN];
        let Ok(length) = relay::encode_forward(slot, payload, &mut frame) else {
            return false;
        };
        self.outbox.push(frame[..length].to_vec())
    }

    /// Packets dropped because the websocket took them too slowly.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.outbox.lock().dropped
    }

    /// Ends the connection.
    pub fn close(&mut self) {
        self.outbox.close();
    }
}

impl Drop for ServerConnection {
    fn drop(&mut self) {
        self.close();
    }
}

/// Packets on their way to the websocket task: bounded, the oldest goes first.
#[derive(Default)]
struct Outbox {
    state: Mutex<OutboxState>,
    waker: AtomicWaker,
}

#[derive(Default)]
struct OutboxState {
    frames: VecDeque<Vec<u8>>,
    dropped: u64,
    closed: bool,
}

impl Outbox {
    /// Held for a push or a pop only; no I/O happens under it.
    fn lock(&self) -> std::sync::MutexGuard<'_, OutboxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, frame: Vec<u8>) -> bool {
        let mut state = self.lock();
        if state.closed {
            return false;
        }
        if state.frames.len() == OUTBOX_LIMIT {
            state.frames.pop_front();
            state.dropped += 1;
        }
        state.frames.push_back(frame);
        drop(state);
        self.waker.wake();
        true
    }

    fn close(&self) {
        self.lock().closed = true;
        self.waker.wake();
    }

    /// The next packet; `None` once closed and empty.
    async fn pop(&self) -> Option<Vec<u8>> {
        std::future::poll_fn(|cx| {
            self.waker.register(cx.waker());
            let mut state = self.lock();
            match state.frames.pop_front() {
                Some(frame) => std::task::Poll::Ready(Some(frame)),
                None if state.closed => std::task::Poll::Ready(None),
                None => std::task::Poll::Pending,
            }
        })
        .await
    }
}

/// The task's end of the connection: what a platform's `run` reads from and writes to.
struct TaskEnds {
    events: UnboundedSender<ServerEvent>,
    relayed: UnboundedSender<Relayed>,
    signals: UnboundedSender<PeerEvent>,
    requests: UnboundedReceiver<PeerRequest>,
    outbox: Arc<Outbox>,
    welcomed: bool,
    named: bool,
}

impl TaskEnds {
    fn tell(&self, event: ServerEvent) {
        // The game dropped its end: it no longer wants to know.
        let _gone = self.events.unbounded_send(event);
    }

    /// A text frame: one of matchbox's signals. Unknown text is ignored, as stock clients do.
    fn on_text(&mut self, text: &str) {
        let Ok(event) = serde_json::from_str::<PeerEvent>(text) else {
            log_ignored("text frame that is no matchbox event");
            return;
        };
        if let PeerEvent::IdAssigned(id) = event {
            if self.named {
                // matchbox panics at a second one; a resumed connection keeps its id.
                return;
            }
            self.named = true;
            self.tell(ServerEvent::IdAssigned(id));
        }
        let _gone = self.signals.unbounded_send(event);
    }

    /// A binary frame: one of ours.
    fn on_binary(&mut self, bytes: &[u8]) {
        match relay::decode_server(bytes) {
            Ok(ServerFrame::Forwarded { source, payload }) => {
                let payload = payload.to_vec();
                let _gone = self.relayed.unbounded_send(Relayed { slot: source, payload });
            }
            Ok(ServerFrame::Welcome(roster) | ServerFrame::Roster(roster)) => {
                self.welcomed = true;
                self.tell(ServerEvent::Roster(roster));
            }
            Ok(ServerFrame::Notice(notice)) => self.tell(ServerEvent::Notice(notice)),
            Err(error) => log_ignored(&error.to_string()),
        }
    }

    fn on_end(&self, close: Option<(u16, String)>, error: String) {
        match close {
            Some((code, reason)) if code >= FIRST_REFUSAL => {
                self.tell(ServerEvent::Refused { code, reason });
            }
            Some((code, reason)) => self.tell(ServerEvent::Lost {
                reason: format!("closed by the server with code {code} {reason}"),
            }),
            None => self.tell(ServerEvent::Lost { reason: error }),
        }
    }
}

fn log_ignored(what: &str) {
    bevy::log::debug!("ignored a frame of the server: {what}");
}
