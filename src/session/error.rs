//! What can end a lab session early or keep one from starting.

use std::time::Duration;

use bevy_matchbox::matchbox_socket::PeerId;
use ggrs::GgrsError;

use crate::rollback::trace::MAX_PLAYERS;

/// Why a lab session failed. Comes in [`SessionFailed`](super::SessionFailed); its text names what
/// happened and, where the experimenter can do something about it, what.
///
/// ```
/// use bevy::prelude::*;
/// use bevy_rollback_lab::session::{SessionError, SessionFailed};
///
/// fn show(failed: On<SessionFailed>) {
///     match &failed.error {
///         SessionError::PeerGone { player, .. } => info!("player {player} left the match"),
///         error => error!("{error}"),
///     }
/// }
/// # App::new().add_observer(show);
/// ```
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The configuration of a [`JoinLab`](crate::JoinLab) cannot work.
    #[error("lab configuration: {error}")]
    Config {
        /// The setting, its value, and the values that can: the text of a
        /// [`ConfigError`](crate::config::ConfigError).
        error: String,
    },
    /// The files of a [`JoinLab`](crate::JoinLab) could not be written.
    #[error("{error}")]
    Output {
        /// The folder, and why nothing can be written there.
        error: String,
    },
    /// The signaling server did not answer.
    #[error("{error}; is `rollback-lab serve` running there?")]
    ServerUnreachable {
        /// What was tried, and why it failed.
        error: String,
    },
    /// The server refused the room: full, made for another number of players, or a name that it does
    /// not take.
    #[error("server refused room {room}: {reason}")]
    RoomRefused {
        /// The room.
        room: String,
        /// Websocket close code.
        code: u16,
        /// The server's reason.
        reason: String,
    },
    /// The connection to the server was lost before all players had met.
    #[error(
        "connection to the server was lost before all players of room {room} had met: {reason}"
    )]
    ServerLost {
        /// The room.
        room: String,
        /// Why.
        reason: String,
    },
    /// Players are missing.
    #[error("waited {}s in room {room}: {present} of {players} players came", waited.as_secs())]
    WaitTimeout {
        /// The room.
        room: String,
        /// How long.
        waited: Duration,
        /// Players that were there, this peer's included.
        present: usize,
        /// Players that are expected.
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
        field: String,
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
    /// A peer is in the room and sent no settings, or could not be reached again.
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
    /// The ggrs handshake did not finish; ggrs itself has no limit for it.
    #[error(
        "handshake of episode {episode} with {} did not finish within {}s",
        names(players), waited.as_secs()
    )]
    HandshakeTimeout {
        /// The episode.
        episode: u32,
        /// Handles of the players who are missing.
        players: Vec<usize>,
        /// How long.
        waited: Duration,
    },
    /// The handshakes are done here, and the peers did not agree on when to begin: some have not
    /// finished theirs, or the player in slot 0 proposed no instant.
    #[error("no start of episode {episode} came from {} within {}s", names(players), waited.as_secs())]
    StartTimeout {
        /// The episode.
        episode: u32,
        /// Handles of the players who are missing.
        players: Vec<usize>,
        /// How long.
        waited: Duration,
    },
    /// The game stands still although the peer is reachable, because its packets break a rule: its
    /// settings or its inputs are others than this peer's.
    #[error(
        "no frame for {:.1}s: {count} packets of player {player} were refused, the last one because \
         {rule}",
        waited.as_secs_f64()
    )]
    PacketsRefused {
        /// The other player's handle.
        player: usize,
        /// Packets refused while the game stood still.
        count: u64,
        /// The rule that the newest one broke, with its numbers.
        rule: String,
        /// How long.
        waited: Duration,
    },
    /// A player's network answers, and its game does not go on: a program that hangs, or one that was
    /// stopped in a debugger.
    #[error(
        "no frame for {:.0}s: the game of player {player} stands still, although its network answers",
        waited.as_secs_f64()
    )]
    GameStandsStill {
        /// The other player's handle.
        player: usize,
        /// How long.
        waited: Duration,
    },
    /// The game stands still although the peer is reachable, because the unacknowledged inputs do not
    /// fit into a datagram.
    #[error(
        "no frame for {:.1}s: the inputs that player {player} has not acknowledged take {bytes} bytes, \
         and a datagram holds {limit}; smaller inputs, or a smaller prediction window or input delay \
         would fit",
        waited.as_secs_f64()
    )]
    InputsTooLarge {
        /// The other player's handle.
        player: usize,
        /// Bytes of the newest message that could not be sent.
        bytes: usize,
        /// Bytes that a datagram holds.
        limit: usize,
        /// How long.
        waited: Duration,
    },
    /// A session has more players than rollbacks are observed of.
    #[error("a session holds at most {MAX_PLAYERS} players, not {players}")]
    TooManyPlayers {
        /// Players of the session.
        players: usize,
    },
    /// ggrs refused to build the session.
    #[error("ggrs refused the session: {0}")]
    Ggrs(#[source] GgrsError),
    /// The network task could not be started, or ended by a fault of its own.
    #[error("{error}; nothing can be sent or received any more")]
    NetworkTask {
        /// What happened.
        error: String,
    },
}

impl SessionError {
    /// The `endReason` of the session document.
    pub(crate) fn end_reason(&self) -> &'static str {
        match self {
            Self::ServerUnreachable { .. } | Self::ServerLost { .. } => "serverLost",
            Self::Config { .. }
            | Self::Output { .. }
            | Self::RoomRefused { .. }
            | Self::Mismatch { .. }
            | Self::PacketsRefused { .. }
            | Self::InputsTooLarge { .. } => "refused",
            Self::WaitTimeout { .. } => "waitTimeout",
            Self::NoPath { .. }
            | Self::NoAnswer { .. }
            | Self::HandshakeTimeout { .. }
            | Self::StartTimeout { .. }
            | Self::TooManyPlayers { .. }
            | Self::Ggrs(_) => "neverConnected",
            Self::Desync { .. } => "desync",
            Self::NetworkTask { .. } => "networkFailed",
            Self::PeerGone { .. } | Self::GameStandsStill { .. } => "peerLeft",
        }
    }
}

/// Players by handle: `player 1 and player 3`.
fn names(players: &[usize]) -> String {
    let names: Vec<String> = players
        .iter()
        .map(|handle| format!("player {handle}"))
        .collect();
    names.join(" and ")
}

/// Why [`LabRoom::start_p2p_session`](super::LabRoom::start_p2p_session) started no ggrs session.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Players are missing, or cannot be reached now.
    #[error(
        "room {room} is not ready: {present} of {players} players came, and all must be reachable"
    )]
    NotReady {
        /// The room.
        room: String,
        /// Players that are there, this peer's included.
        present: usize,
        /// Players that are expected.
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
    Ggrs(#[source] GgrsError),
}
