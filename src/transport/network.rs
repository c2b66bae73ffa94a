//! Owns the seam between the lab and the outside: what a network must do for [`LabNet`].
//!
//! The real one is matchbox WebRTC plus the server's websocket; tests bring an in-memory one.
//! It never looks into a datagram.
//!
//! [`LabNet`]: super::LabNet

use std::time::Duration;

use bevy_matchbox::matchbox_socket::{CandidatePair, PeerId};

use rollback_lab_link::link::SendFailed;
use rollback_lab_link::wire::Path;
use rollback_lab_link::wire::clock::ClockAnswer;
use rollback_lab_link::wire::relay::{Notice, Roster};

/// What happened outside since the last poll.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NetEvent {
    /// The server answered and named this peer.
    IdAssigned(PeerId),
    /// Our server told who is in the room; said again at every change.
    Roster(Roster),
    /// The server is a stock matchbox server: it signals, but it cannot relay.
    NoRelay,
    /// The data channel to a peer opened.
    DirectOpened(PeerId),
    /// The data channel to a peer closed.
    DirectClosed(PeerId),
    /// A peer told its clock without waiting for its game. Only what measures clocks reads it.
    ClockTold {
        /// Whose.
        peer: PeerId,
        /// The answer.
        answer: ClockAnswer,
        /// When it came, by this peer's clock.
        received_at: Duration,
    },
    /// The relay dropped or refused something, or a peer is gone for good.
    Notice(Notice),
    /// The server refused the room, with its reason.
    Refused {
        /// Websocket close code.
        code: u16,
        /// The server's words.
        reason: String,
    },
    /// The server could not be reached.
    Unreachable {
        /// What was tried, and why it failed.
        error: String,
    },
    /// The connection to the server was lost; data channels may live on.
    ServerLost {
        /// Why.
        reason: String,
    },
}

/// Both paths to every peer, and the server behind them.
pub trait Network: Send + Sync + 'static {
    /// Appends what happened since the last call.
    fn poll_events(&mut self, events: &mut Vec<NetEvent>);

    /// Hands one datagram to a path.
    ///
    /// # Errors
    /// The path cannot take it now.
    fn send(&mut self, path: Path, peer: PeerId, datagram: &[u8]) -> Result<(), SendFailed>;

    /// Hands every datagram received since the last call to `sink`.
    fn receive(&mut self, sink: &mut dyn FnMut(Path, PeerId, &[u8]));

    /// The ICE candidates of the data channel to `peer`, once known.
    fn candidate_pair(&self, peer: PeerId) -> Option<CandidatePair>;

    /// Leaves the room; nothing is received afterwards.
    fn close(&mut self);
}
