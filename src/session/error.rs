//! Owns what can end a lab session early or keep one from starting, in words for the person who
//! must act on it.

use std::time::Duration;

use bevy_matchbox::matchbox_socket::PeerId;

/// Why a lab session failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The signaling server did not answer.
    #[error("{error}; is `rollback-lab serve` running there?")]
    ServerUnreachable {
        /// What was tried, and why it failed.
        error: String,
    },
    /// The server refused the room (full, other number of players, bad name).
    #[error("server refused room {room}: {reason}")]
    RoomRefused {
        /// The room.
        room: String,
        /// Websocket close code.
        code: u16,
        /// The server's words.
        reason: String,
    },
    /// The connection to the server was lost before everybody had met.
    #[error(
        "connection to the server was lost before all players of room {room} had met: {reason}"
    )]
    ServerLost {
        /// The room.
        room: String,
        /// Why.
        reason: String,
    },
    /// Not everybody came.
    #[error("waited {}s in room {room}: {present} of {players} players came", waited.as_secs())]
    WaitTimeout {
        /// The room.
        room: String,
        /// How long.
        waited: Duration,
        /// Who was there, this peer included.
        present: usize,
        /// Who was expected.
        players: usize,
    },
    /// A peer plays by other settings.
    #[error(
        "{field} differs: {ours} here, {theirs} at player {player}; all peers must agree on it"
    )]
    Mismatch {
        /// The other player's handle.
        player: usize,
        /// The setting.
        field: &'static str,
        /// Its value here.
        ours: String,
        /// Its value there.
        theirs: String,
    },
    /// Neither the direct path nor the relay reaches a peer.
    #[error("no path to peer {peer}: neither a direct connection nor a relay within 15s")]
    NoPath {
        /// The peer.
        peer: PeerId,
    },
    /// A peer is in the room and did not greet, or could not be reached again.
    #[error("player {player} did not answer within {}s", waited.as_secs())]
    NoAnswer {
        /// The player's handle.
        player: usize,
        /// How long.
        waited: Duration,
    },
    /// The simulations differ: an episode ended on a peer and goes on here.
    #[error("desync: the episode ended at frame {frame} on another peer, and goes on here")]
    Desync {
        /// The frame at which it ended there.
        frame: i32,
    },
    /// A peer left or fell silent for good.
    #[error("player {player} is gone: {reason}")]
    PeerGone {
        /// The player's handle.
        player: usize,
        /// How that was noticed.
        reason: &'static str,
    },
    /// The ggrs handshake did not finish; ggrs itself would wait for ever.
    #[error("handshake of episode {episode} did not finish within {}s", waited.as_secs())]
    HandshakeTimeout {
        /// The episode.
        episode: u32,
        /// How long.
        waited: Duration,
    },
    /// ggrs refused to build the session.
    #[error("ggrs refused the session: {0}")]
    Ggrs(String),
}

impl SessionError {
    /// The `endReason` of the session document.
    #[must_use]
    pub fn end_reason(&self) -> &'static str {
        match self {
            Self::ServerUnreachable { .. } | Self::ServerLost { .. } => "serverLost",
            Self::RoomRefused { .. } | Self::Mismatch { .. } => "refused",
            Self::WaitTimeout { .. } => "waitTimeout",
            Self::NoPath { .. }
            | Self::NoAnswer { .. }
            | Self::HandshakeTimeout { .. }
            | Self::Ggrs(_) => "neverConnected",
            Self::Desync { .. } => "desync",
            Self::PeerGone { .. } => "peerLeft",
        }
    }
}

/// Why no ggrs session was started over a [`LabRoom`](super::LabRoom).
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Not everybody is there and reachable.
    #[error(
        "room {room} is not ready: {present} of {players} players came, and all must be reachable"
    )]
    NotReady {
        /// The room.
        room: String,
        /// Who is there, this peer included.
        present: usize,
        /// Who was expected.
        players: usize,
    },
    /// The room failed, or a player is gone for good.
    #[error(transparent)]
    Room(#[from] SessionError),
    /// The builder was given other players than the room has.
    #[error(
        "a session over room {room} has the players of `LabRoom::players`, in that order, and no \
         spectators"
    )]
    Players {
        /// The room.
        room: String,
    },
    /// ggrs refused to build the session.
    #[error("ggrs refused the session: {0}")]
    Ggrs(String),
}
