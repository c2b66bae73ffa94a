//! Owns the reasons for which a client gets no place in a room, and how they read.
//! Never decides one.

use thiserror::Error;

use super::request::RoomRequestError;
use super::send_queue::Closing;
use rollback_lab_link::wire::relay::{
    CLOSE_BAD_ROOM, CLOSE_PLAYERS_DIFFER, CLOSE_ROOM_FULL, CLOSE_SERVER_FULL,
};

/// Why a client is refused a room.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Refusal {
    /// The room holds as many as it may.
    #[error("room {room} is full: it has {capacity} of {capacity} peers")]
    RoomFull {
        /// Name of the room.
        room: String,
        /// Peers it may hold.
        capacity: usize,
    },
    /// The room was opened for another number of players.
    #[error("room {room} has {} players, not {}", named(*has, " of"), named(*asked, ""))]
    PlayersDiffer {
        /// Name of the room.
        room: String,
        /// How many it was opened for; 0 when nobody said.
        has: u8,
        /// How many the client named; 0 when none.
        asked: u8,
    },
    /// The room's name or its parameters are not acceptable.
    #[error("bad room: {0}")]
    BadRoom(#[from] RoomRequestError),
    /// The server holds as many rooms or peers as its settings allow.
    #[error("server is full: it has {limit} of {limit} {what}")]
    ServerFull {
        /// What there are too many of.
        what: &'static str,
        /// The setting.
        limit: usize,
    },
}

impl From<&Refusal> for Closing {
    fn from(refusal: &Refusal) -> Self {
        let (code, name) = match refusal {
            Refusal::RoomFull { .. } => (CLOSE_ROOM_FULL, "roomFull"),
            Refusal::PlayersDiffer { .. } => (CLOSE_PLAYERS_DIFFER, "playersDiffer"),
            Refusal::BadRoom(_) => (CLOSE_BAD_ROOM, "badRoom"),
            Refusal::ServerFull { .. } => (CLOSE_SERVER_FULL, "serverFull"),
        };
        Self::new(code, name, refusal.to_string())
    }
}

fn named(players: u8, of: &str) -> String {
    match players {
        0 => format!("any number{of}"),
        n => n.to_string(),
    }
}
