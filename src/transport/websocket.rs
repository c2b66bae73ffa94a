//! The one connection to the server: signaling and relay on a single websocket.
//!
//! [`ServerConnection`] is the game's end. The game, matchbox's signaling loop and the websocket's
//! task share bounded queues (`queues.rs`), and none of them waits for another; `driver.rs` connects
//! and pumps the queues over the platform's websocket (`native.rs`, `wasm.rs`). A websocket that breaks,
//! or stays silent although probed (`liveness.rs`), is replaced by another one as long as the connection
//! lives, with the server's resume token (`resume.rs`): id, slot and room stay.

#[cfg_attr(target_arch = "wasm32", path = "websocket/wasm.rs")]
#[cfg_attr(not(target_arch = "wasm32"), path = "websocket/native.rs")]
mod backend;
mod driver;
mod liveness;
mod queues;
mod resume;

use std::{
    collections::BTreeMap,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bevy_matchbox::matchbox_socket::{PeerEvent, PeerId, SignallerBuilder};
use futures::channel::mpsc::UnboundedReceiver;

pub use self::backend::spawn_network;
pub(super) use self::queues::{AttemptSignal, Shared};
use rollback_lab_link::wire::{
    clock::ClockAnswer,
    relay::{MAX_FRAME_LEN, Notice, RelayFrameError, Roster, encode_forward},
};

use super::signaller::LabSignallerBuilder;
use crate::clock::LabClock;

/// Where the signaling server is and how long to try for it.
///
/// ```
/// use std::time::Duration;
///
/// use bevy_rollback_lab::internals::transport::websocket::SignalingSettings;
///
/// let settings = SignalingSettings {
///     attempts: 10,
///     ..SignalingSettings::new("ws://127.0.0.1:3536/my-room?players=2")
/// };
/// assert_eq!(settings.attempt_timeout, Duration::from_secs(5));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignalingSettings {
    /// Address of the room: `ws://host:port/room?players=2`, or `wss://`.
    pub url: String,
    /// Attempts to connect for the first time, at least one; there is no limit to those that take a lost
    /// connection up again. Defaults to 3.
    pub attempts: u16,
    /// Time for one attempt, handshakes included. Defaults to 5 seconds.
    pub attempt_timeout: Duration,
    /// Pause between two attempts. Defaults to 1 second.
    pub retry_pause: Duration,
    /// Time after the id within which a server with a relay announces it. Defaults to 1 second.
    pub relay_wait: Duration,
}

impl SignalingSettings {
    /// Default time-outs for the room at `url`.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            attempts: 3,
            attempt_timeout: Duration::from_secs(5),
            retry_pause: Duration::from_secs(1),
            relay_wait: Duration::from_secs(1),
        }
    }
}

/// What happened on the connection, in the order in which it happened.
///
/// Relayed packets have a queue of their own: [`ServerConnection::next_relayed`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerEvent {
    /// The websocket is open.
    Connected,
    /// The server gave this peer its id. At most once.
    IdAssigned(PeerId),
    /// The server has no relay: a stock signaling server. At most once.
    NoRelay,
    /// The server relays, and these are the members of the room. At most once.
    Welcome(Roster),
    /// A member joined, or left for good. After [`Self::Resumed`] the members that the server knows then:
    /// a server that was restarted learns of the others as they come back.
    Roster(Roster),
    /// The relay dropped or refused something, or a peer is gone for good, lost, or back.
    Notice(Notice),
    /// Another member's clock, as it answered [`ServerConnection::ask_clock`].
    ClockAnswered {
        /// The member's slot.
        source: u8,
        /// The answer.
        answer: ClockAnswer,
        /// When the websocket's task read it, on the clock given to [`ServerConnection::open`].
        received_at: Duration,
    },
    /// The server refused this peer, or another websocket has taken its place. The last event.
    Refused {
        /// The close code, 4000 or above; see [`rollback_lab_link::wire::relay`].
        code: u16,
        /// The server's reason.
        reason: String,
    },
    /// The connection was open and is gone.
    Lost {
        /// Why.
        reason: String,
        /// Whether it is taken up again until [`Self::Resumed`] or [`Self::Refused`]. Otherwise this event
        /// is the last.
        reconnecting: bool,
    },
    /// A lost connection is back, with the same id, room and slot; a [`Self::Roster`] follows.
    Resumed {
        /// Attempts to connect that it took.
        attempts: u32,
        /// Time since it was noticed to be lost.
        away: Duration,
    },
    /// No connection came about.
    Unreachable(ConnectError),
}

/// A packet that the server relayed from another member of the room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayedPacket {
    /// The member's slot.
    pub source: u8,
    /// The packet.
    pub payload: Vec<u8>,
    /// When the websocket's task read it, on the clock given to [`ServerConnection::open`].
    pub received_at: Duration,
}

/// Why no connection to the server came about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address cannot be used.
    #[error("server address {url} is not usable: {error}")]
    Url {
        /// The address.
        url: String,
        /// What is wrong with it.
        error: String,
    },
    /// Every attempt failed.
    #[error("server {url} cannot be reached after {attempts} attempts: {error}")]
    Unreachable {
        /// The address.
        url: String,
        /// Attempts made.
        attempts: u16,
        /// How the last of them failed.
        error: String,
    },
    /// The platform could not start the task.
    #[error("connection to {url} cannot be started: {error}")]
    Start {
        /// The address.
        url: String,
        /// What the platform reported.
        error: String,
    },
}

/// Why a packet did not go to the relay.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RelaySendError {
    /// The server has not announced a relay.
    #[error("server offers no relay")]
    NoRelay,
    /// The connection is lost, and being taken up again.
    #[error("connection to the server is lost and being taken up again")]
    Lost,
    /// The connection has ended.
    #[error("connection to the server has ended")]
    Ended,
    /// The packet does not fit into a frame.
    #[error(transparent)]
    Frame(#[from] RelayFrameError),
}

/// Which queue a relayed packet waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Data, heartbeats and probes: the oldest gives way when 64 wait.
    Game,
    /// The control channel: sent before any game packet, so that it is not starved.
    Control,
}

/// Counts of the connection so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerStats {
    /// Packets handed to the websocket, those of the clock exchange not counted.
    pub relay_sent: u64,
    /// Packets that gave way in the queue to the websocket. Pair: [`Self::relay_sent`].
    pub relay_send_dropped: u64,
    /// Packets received, those of the clock exchange not counted.
    pub relay_received: u64,
    /// Packets that gave way in the queue to the game because it did not read. Pair:
    /// [`Self::relay_received`].
    pub relay_receive_dropped: u64,
    /// Text messages that are none of matchbox's.
    pub unknown_text: u64,
    /// Binary frames that could not be read, by [`RelayFrameError::reason`].
    pub malformed: BTreeMap<&'static str, u64>,
    /// Times without a connection after the first one, in order; the newest 256.
    pub outages: Vec<Outage>,
}

/// One time without a connection to the server. Times are on the clock given to
/// [`ServerConnection::open`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// When the loss was noticed.
    pub lost_at: Duration,
    /// Attempts to connect that were begun.
    pub attempts: u32,
    /// When the first of them began.
    pub first_attempt_at: Option<Duration>,
    /// When the server had taken this peer back; `None` while it has not.
    pub resumed_at: Option<Duration>,
}

/// The game's end of the connection; cheap to clone. The connection closes with the last clone, and with it
/// the membership: a peer that is lost comes back, one that closed has left.
///
/// ```no_run
/// use bevy_rollback_lab::clock::LabClock;
/// use bevy_rollback_lab::internals::transport::websocket::{ServerConnection, SignalingSettings};
///
/// let settings = SignalingSettings::new("ws://127.0.0.1:3536/my-room?players=2");
/// let connection = ServerConnection::open(settings, LabClock::real());
/// while let Some(event) = connection.next_event() {
///     println!("{event:?}");
/// }
/// ```
#[derive(Clone, Debug)]
pub struct ServerConnection {
    handle: Arc<Handle>,
}

/// Closes the connection when the game has let go of it; the signaller does not keep it open.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl ServerConnection {
    /// Opens the connection in a task of its own and returns at once;
    /// [`next_event`](Self::next_event) reports what becomes of it.
    #[must_use]
    pub fn open(settings: SignalingSettings, clock: LabClock) -> Self {
        let shared = Arc::new(Shared::default());
        let url = settings.url.clone();
        let task = driver::run::<backend::Platform>(Arc::clone(&shared), settings, clock);
        if let Err(error) = spawn_network(task) {
            let error = error.to_string();
            shared.end(ServerEvent::Unreachable(ConnectError::Start { url, error }));
        }
        Self {
            handle: Arc::new(Handle { shared }),
        }
    }

    /// What matchbox's socket signals through. One connection feeds one socket.
    #[must_use]
    pub fn signaller_builder(&self) -> Arc<dyn SignallerBuilder> {
        Arc::new(LabSignallerBuilder::new(Arc::clone(&self.handle.shared)))
    }

    /// What the socket of attempt `number` to negotiate another data channel signals through; `events` are
    /// for it.
    pub(super) fn attempt_signaller(
        &self,
        number: u32,
        events: UnboundedReceiver<PeerEvent>,
    ) -> Arc<dyn SignallerBuilder> {
        let shared = Arc::clone(&self.handle.shared);
        Arc::new(LabSignallerBuilder::of_attempt(shared, number, events))
    }

    /// Asks `peer`, which makes the offers, to begin attempt `number`.
    pub(super) fn ask_for_attempt(&self, peer: PeerId, number: u32) {
        self.handle.shared.queue_attempt_signal(peer, number, None);
    }

    /// The next signal of such an attempt, if one came.
    pub(super) fn next_attempt_signal(&self) -> Option<(PeerId, AttemptSignal)> {
        self.handle.shared.next_attempt_signal()
    }

    /// The next thing that happened, if anything did.
    #[must_use]
    pub fn next_event(&self) -> Option<ServerEvent> {
        self.handle.shared.next_event()
    }

    /// The next relayed packet, if one came.
    #[must_use]
    pub fn next_relayed(&self) -> Option<RelayedPacket> {
        self.handle.shared.next_relayed()
    }

    /// Ready when an event or a relayed packet waits; wakes the task of `context` when one comes.
    pub fn poll_ready(&self, context: &mut Context<'_>) -> Poll<()> {
        self.handle.shared.poll_incoming(context)
    }

    /// How many relayed packets wait for [`next_relayed`](Self::next_relayed).
    #[must_use]
    pub fn relayed_len(&self) -> usize {
        self.handle.shared.relayed_len()
    }

    /// Queues a packet for the member in slot `destination`, without waiting.
    ///
    /// # Errors
    /// [`RelaySendError`] when there is no relay to send to, or the packet is too long.
    pub fn send_relay(
        &self,
        destination: u8,
        payload: &[u8],
        urgency: Urgency,
    ) -> Result<(), RelaySendError> {
        let mut frame = [0; MAX_FRAME_LEN];
        let len = encode_forward(destination, payload, &mut frame)?;
        self.handle.shared.queue_relay(&frame[..len], urgency)
    }

    /// Asks for the clock of the member in slot `destination`. The other's task answers at once,
    /// whatever its game does; without a relay no question is sent.
    pub fn ask_clock(&self, destination: u8) {
        self.handle.shared.ask_clock(destination);
    }

    /// Reports to the server whether a match runs: from frame 0 on it keeps the slot of a member that it
    /// loses, for itself and for all others. Set it to `false` when the match is over.
    pub fn set_running(&self, running: bool) {
        self.handle.shared.set_running(running);
    }

    /// The counts so far.
    #[must_use]
    pub fn stats(&self) -> ServerStats {
        self.handle.shared.stats()
    }

    /// Closes the connection; queued control packets and signals still go out.
    pub fn close(&self) {
        self.handle.shared.close();
    }
}
