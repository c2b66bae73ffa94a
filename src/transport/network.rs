//! The boundary to the outside: a [`Network`] carries the datagrams of a [`LabNet`].
//!
//! [`MatchboxNetwork`](super::MatchboxNetwork) is matchbox WebRTC and the server's websocket; tests
//! bring one in memory.
//!
//! [`LabNet`]: super::LabNet

use std::task::{Context, Poll};
use std::time::Duration;

use bevy_matchbox::matchbox_socket::{CandidatePair, PeerId};

use rollback_lab_link::link::SendFailed;
use rollback_lab_link::wire::clock::ClockAnswer;
use rollback_lab_link::wire::relay::{Notice, Roster};
use rollback_lab_link::wire::{DatagramKind, Path};

/// What happened outside since the last poll.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NetEvent {
    /// The server answered and gave this peer its id.
    IdAssigned(PeerId),
    /// The members of the room, from a server that relays; repeated at every change.
    Roster(Roster),
    /// The server is a stock matchbox server: it signals, but it cannot relay.
    NoRelay,
    /// The data channel to a peer opened: the first one, or one that replaces it.
    DirectOpened(PeerId),
    /// The data channel to a peer closed.
    DirectClosed(PeerId),
    /// A peer's network task answered a question for its clock, without waiting for its game.
    ClockAnswered {
        /// The peer.
        peer: PeerId,
        /// The answer.
        answer: ClockAnswer,
        /// When it came, by this peer's clock.
        received_at: Duration,
    },
    /// The relay dropped or refused something, or a peer is gone for good.
    Notice(Notice),
    /// The server refused the room.
    Refused {
        /// Websocket close code.
        code: u16,
        /// The server's reason.
        reason: String,
    },
    /// The server could not be reached.
    Unreachable {
        /// What was tried, and why it failed.
        error: String,
    },
    /// The connection to the server was lost and is being taken up again; data channels may live on.
    ServerReconnecting {
        /// Why.
        reason: String,
    },
    /// The connection to the server was lost for good; data channels may live on.
    ServerLost {
        /// Why.
        reason: String,
    },
    /// The network task ended by a fault of its own: nothing is sent or received any more.
    TaskFailed {
        /// What happened.
        error: String,
    },
    /// The lost connection to the server is back, with the same id and slot; a roster follows.
    ServerResumed {
        /// Attempts to connect that it took.
        attempts: u32,
        /// Time since it was noticed to be lost.
        away: Duration,
    },
}

/// A datagram that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received<'a> {
    /// The path that brought it.
    pub path: Path,
    /// The peer that sent it.
    pub from: PeerId,
    /// When it came, by the lab session's clock: the `now` of [`Network::receive`], or earlier where
    /// a task of its own read the datagram and stamped it.
    pub at: Duration,
    /// The datagram, header included.
    pub bytes: &'a [u8],
}

/// Both paths to every peer, and the server behind them. Implement it to run the lab over another
/// transport, or to tap or shape one, and give it to [`LabNet::new`](super::LabNet::new).
///
/// ```
/// use std::time::Duration;
///
/// use bevy_matchbox::matchbox_socket::{CandidatePair, PeerId};
/// use bevy_rollback_lab::internals::transport::network::{NetEvent, Network, Received};
/// use rollback_lab_link::link::SendFailed;
/// use rollback_lab_link::wire::{DatagramKind, Path};
///
/// /// A network without a peer.
/// struct Nowhere;
///
/// impl Network for Nowhere {
///     fn poll_events(&mut self, _: &mut Vec<NetEvent>) {}
///
///     fn send(&mut self, _: Path, _: PeerId, _: DatagramKind, _: &[u8]) -> Result<(), SendFailed> {
///         Err(SendFailed)
///     }
///
///     fn receive(&mut self, _: Duration, _: &mut dyn FnMut(Received<'_>)) {}
///
///     fn candidate_pair(&self, _: PeerId) -> Option<CandidatePair> {
///         None
///     }
///
///     fn close(&mut self) {}
/// }
/// ```
pub trait Network: Send + 'static {
    /// Appends what happened since the last call.
    fn poll_events(&mut self, events: &mut Vec<NetEvent>);

    /// Hands one datagram to a path. `kind` is what its header says: a send queue may let control
    /// messages pass game packets by it.
    ///
    /// # Errors
    /// The path cannot take it now.
    fn send(
        &mut self,
        path: Path,
        peer: PeerId,
        kind: DatagramKind,
        datagram: &[u8],
    ) -> Result<(), SendFailed>;

    /// Ready when there is something for [`poll_events`](Self::poll_events) or
    /// [`receive`](Self::receive), and wakes the task of `context` when there will be. A network
    /// without it is polled every few milliseconds.
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let _ = context;
        Poll::Pending
    }

    /// Hands every datagram received since the last call to `sink`; `now` is the arrival time of
    /// those that carry no earlier stamp.
    fn receive(&mut self, now: Duration, sink: &mut dyn FnMut(Received<'_>));

    /// The ICE candidates of the data channel to `peer`, once known.
    fn candidate_pair(&self, peer: PeerId) -> Option<CandidatePair>;

    /// Negotiates another data channel with `peer`, because nothing comes over the present one.
    /// [`NetEvent::DirectOpened`] reports it when it is open, and from then on it is the direct path. Called
    /// again, at growing intervals, as long as nothing comes.
    fn renegotiate(&mut self, _peer: PeerId) {}

    /// Reports to the server whether a match runs: while it does, the slots of lost peers are kept.
    fn set_running(&mut self, _running: bool) {}

    /// Leaves the room; nothing is received afterwards.
    fn close(&mut self);
}
