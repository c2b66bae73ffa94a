//! Parses room URLs: the name of the room and how its peers are grouped.

use rollback_lab_link::wire::relay::{MAX_MEMBERS, RESUME_PARAMETER};
use thiserror::Error;

/// Longest room name, in bytes: a refusal that names it must fit into a close frame (123 bytes).
pub(crate) const MAX_ROOM_NAME: usize = 64;
/// The room of a URL without a path, as in `matchbox_signaling`.
const DEFAULT_ROOM: &str = "world";

/// A room as a client requests it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RoomRequest {
    /// Name of the room.
    pub name: String,
    /// How its peers are grouped.
    pub grouping: Grouping,
}

/// How the peers that name the same room are grouped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Grouping {
    /// All in one room, up to 64.
    Open,
    /// All in one room of exactly this many (`?players=N`).
    Players(u8),
    /// In rooms of this many, in the order of arrival (`?next=N`).
    Next(u8),
}

impl Grouping {
    /// How many peers the room is for, if the request names a number.
    pub(crate) fn peers(self) -> Option<u8> {
        match self {
            Self::Open => None,
            Self::Players(n) | Self::Next(n) => Some(n),
        }
    }
}

/// Why a room URL is not acceptable.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum RoomRequestError {
    /// The name is too long or contains characters that room names may not have.
    #[error("room names are 1 to {MAX_ROOM_NAME} letters, digits, '-', '_' or '.'")]
    Name,
    /// A parameter is not a number of peers.
    #[error("{parameter} must be a number from 1 to {MAX_MEMBERS}")]
    Count {
        /// The parameter.
        parameter: &'static str,
    },
    /// Both ways to group peers were given, or one of them twice.
    #[error("give either players or next, and only once")]
    Ambiguous,
}

impl RoomRequest {
    /// Reads the path and query of a room URL. Unknown parameters are ignored, as stock servers do.
    ///
    /// # Errors
    /// When the name or a number is not acceptable.
    pub(crate) fn parse(path: &str, query: Option<&str>) -> Result<Self, RoomRequestError> {
        let name = match path.strip_prefix('/').unwrap_or(path) {
            "" => DEFAULT_ROOM,
            name => name,
        };
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.len() > MAX_ROOM_NAME || !name.bytes().all(allowed) {
            return Err(RoomRequestError::Name);
        }
        let mut grouping = Grouping::Open;
        for pair in query.unwrap_or_default().split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let requested = match key {
                "players" => Grouping::Players(count("players", value)?),
                "next" => Grouping::Next(count("next", value)?),
                _ => continue,
            };
            if grouping != Grouping::Open {
                return Err(RoomRequestError::Ambiguous);
            }
            grouping = requested;
        }
        Ok(Self {
            name: name.to_owned(),
            grouping,
        })
    }
}

/// Whether a room's query asks to resume a membership.
pub(crate) fn wants_resume(query: Option<&str>) -> bool {
    let mut parameters = query.unwrap_or_default().split('&');
    parameters.any(|pair| pair.split('=').next() == Some(RESUME_PARAMETER))
}

fn count(parameter: &'static str, value: &str) -> Result<u8, RoomRequestError> {
    match value.parse::<u8>() {
        Ok(n) if (1..=MAX_MEMBERS).contains(&usize::from(n)) => Ok(n),
        Ok(_) | Err(_) => Err(RoomRequestError::Count { parameter }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(path: &str, query: &str) -> Result<(String, Grouping), RoomRequestError> {
        RoomRequest::parse(path, Some(query)).map(|request| (request.name, request.grouping))
    }

    #[test]
    fn path_and_parameters_name_a_room() {
        assert_eq!(parse("/duel", ""), Ok(("duel".into(), Grouping::Open)));
        assert_eq!(parse("/", "a=b"), Ok(("world".into(), Grouping::Open)));
        assert_eq!(
            parse("/a.b-c_1", "x&players=4"),
            Ok(("a.b-c_1".into(), Grouping::Players(4)))
        );
        assert_eq!(parse("/q", "next=2"), Ok(("q".into(), Grouping::Next(2))));
    }

    #[test]
    fn names_are_bounded_in_length_and_characters() {
        assert!(parse(&format!("/{}", "r".repeat(64)), "").is_ok());
        for bad in ["/a/b", "/a%20b", "/a b", "/\u{e4}", &"r".repeat(65)] {
            assert_eq!(parse(bad, ""), Err(RoomRequestError::Name), "{bad}");
        }
    }

    #[test]
    fn counts_are_from_1_to_64_and_given_once() {
        for bad in [
            "players=0",
            "players=65",
            "players=",
            "players=two",
            "players=300",
        ] {
            assert_eq!(
                parse("/r", bad),
                Err(RoomRequestError::Count {
                    parameter: "players"
                }),
                "{bad}"
            );
        }
        for bad in ["players=2&next=2", "next=2&next=3"] {
            assert_eq!(parse("/r", bad), Err(RoomRequestError::Ambiguous), "{bad}");
        }
        assert!(parse("/r", "players=64").is_ok());
    }

    proptest! {
        #[test]
        fn any_text_gives_a_request_or_a_reason_that_fits_a_close_frame(
            path in ".{0,200}", query in ".{0,200}",
        ) {
            match RoomRequest::parse(&path, Some(&query)) {
                Ok(request) => prop_assert!(request.name.len() <= MAX_ROOM_NAME),
                Err(error) => prop_assert!(error.to_string().len() <= 123),
            }
        }
    }
}
