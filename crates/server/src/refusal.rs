//! The reasons for which a client is refused a room, their close codes and texts.

use rollback_lab_link::wire::relay::{
    CLOSE_BAD_ROOM, CLOSE_PLAYERS_DIFFER, CLOSE_REPLACED, CLOSE_RESUME_REFUSED, CLOSE_ROOM_FULL,
    CLOSE_SERVER_FULL,
};
use thiserror::Error;

use super::request::RoomRequestError;
use super::send_queue::Closing;
use super::token::TokenError;

/// Why a client is refused a room.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Refusal {
    /// The room has as many peers as it may hold.
    #[error("room {room} is full: it has {capacity} of {capacity} peers")]
    RoomFull {
        /// Name of the room.
        room: String,
        /// Peers it may hold.
        capacity: usize,
    },
    /// The room was opened for another number of players.
    #[error(
        "room {room} has {} players, not {}",
        has.map_or_else(|| "any number of".to_owned(), |n| n.to_string()),
        requested.map_or_else(|| "any number".to_owned(), |n| n.to_string())
    )]
    PlayersDiffer {
        /// Name of the room.
        room: String,
        /// How many it was opened for; `None` for any number.
        has: Option<u8>,
        /// How many the client named, if any.
        requested: Option<u8>,
    },
    /// The room's name or its parameters are not acceptable.
    #[error("bad room: {0}")]
    BadRoom(#[from] RoomRequestError),
    /// The server holds as many rooms or peers as its settings allow.
    #[error("server is full: it has {limit} of {limit} {what}")]
    ServerFull {
        /// `rooms` or `peers`.
        what: &'static str,
        /// The setting.
        limit: usize,
    },
    /// The resume token is not valid here and now.
    #[error("resume refused: {0}; join anew")]
    Token(#[from] TokenError),
    /// No resume frame came on a websocket that was opened for one.
    #[error("resume refused: no token came; join anew")]
    NoToken,
    /// The slot of a resume token has another holder.
    #[error("resume refused: slot {slot} of room {room} has another peer; join anew")]
    SlotTaken {
        /// Name of the room.
        room: String,
        /// The slot.
        slot: u8,
    },
    /// A later websocket of the same peer has resumed.
    #[error("resume refused: a later attempt of this peer was accepted")]
    Superseded,
    /// The room of a resume token has ended before the match began, and its name is another room's.
    #[error("resume refused: the room has ended; join anew")]
    RoomEnded,
}

/// What a websocket is closed with whose membership, or slot, a resume has taken.
pub(crate) fn replaced() -> Closing {
    Closing::new(
        CLOSE_REPLACED,
        "replaced",
        "another websocket has resumed this slot",
    )
}

impl From<&Refusal> for Closing {
    fn from(refusal: &Refusal) -> Self {
        let (code, name) = match refusal {
            Refusal::RoomFull { .. } => (CLOSE_ROOM_FULL, "roomFull"),
            Refusal::PlayersDiffer { .. } => (CLOSE_PLAYERS_DIFFER, "playersDiffer"),
            Refusal::BadRoom(_) => (CLOSE_BAD_ROOM, "badRoom"),
            Refusal::ServerFull { .. } => (CLOSE_SERVER_FULL, "serverFull"),
            Refusal::Token(_)
            | Refusal::NoToken
            | Refusal::SlotTaken { .. }
            | Refusal::Superseded
            | Refusal::RoomEnded => (CLOSE_RESUME_REFUSED, "resume"),
        };
        Self::new(code, name, refusal.to_string())
    }
}
