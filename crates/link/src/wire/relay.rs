//! The binary frames on the server's websocket: forwarded packets, the roster and notices. Both the
//! server and its clients encode and decode them here; forwarded payloads are opaque.
//!
//! Byte 0 of every frame is `(RELAY_VERSION << 4) | type`.
//!
//! | type | client to server | server to client |
//! |---|---|---|
//! | 1 | forward: destination slot, payload | forwarded: source slot, payload |
//! | 2 | | welcome: the first binary frame, a [`Roster`] |
//! | 3 | | the [`Roster`] again, whenever it changed |
//! | 4 | | a [`Notice`] |
//! | 5 | resume: 1 if the client's signaling starts anew, else 0; four bytes, the number of the attempt; its [`ResumeToken`] | the [`ResumeToken`], after every welcome and whenever it is renewed |
//! | 6 | probe: four bytes | the same four bytes, at once |
//! | 7 | running: 1 when the match has begun, 0 when it is over | |
//!
//! A client that was lost opens a websocket whose query has [`RESUME_PARAMETER`] and sends a resume frame
//! first. The server answers with a welcome, or closes with [`CLOSE_RESUME_REFUSED`]. A client leaves for
//! good with the close code [`CLOSE_LEFT`]; any other end of its websocket is a loss, which it may resume.
//!
//! ```
//! use rollback_lab_link::wire::relay::{
//!     ClientFrame, MAX_FRAME_LEN, decode_client, encode_forward,
//! };
//!
//! let mut buffer = [0; MAX_FRAME_LEN];
//! let length = encode_forward(3, b"input", &mut buffer)?;
//! let frame = decode_client(&buffer[..length])?;
//! assert_eq!(frame, ClientFrame::Forward { destination: 3, payload: b"input" });
//! # Ok::<(), rollback_lab_link::wire::relay::RelayFrameError>(())
//! ```

use std::fmt;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

/// Version of the relay frames, in the high nibble of byte 0.
pub const RELAY_VERSION: u8 = 1;
/// Longest payload of a forwarded packet, in bytes: one datagram of the direct path.
pub const MAX_PAYLOAD_LEN: usize = super::MAX_DATAGRAM;
/// Longest forward or forwarded frame, in bytes.
pub const MAX_FRAME_LEN: usize = MAX_PAYLOAD_LEN + PACKET_PREFIX_LEN;
/// Capacity of a room, and the number of its server slots: far above the four players of a lab
/// session, and a bound for what a roster may allocate.
pub const MAX_MEMBERS: usize = 64;

/// Parameter of the room's address with which a websocket is opened to resume a membership. It carries no
/// value: the token follows in a frame, because addresses are logged by proxies and browsers.
pub const RESUME_PARAMETER: &str = "resume";
/// Longest [`ResumeToken`], in bytes: what a client keeps of a server that it does not know.
pub const MAX_TOKEN_LEN: usize = 128;

/// Close code of a client: it leaves for good. Without it the server takes the client for lost.
pub const CLOSE_LEFT: u16 = 4000;
/// Close code: the room is full.
pub const CLOSE_ROOM_FULL: u16 = 4001;
/// Close code: the room was opened for another number of players.
pub const CLOSE_PLAYERS_DIFFER: u16 = 4002;
/// Close code: the room's name or its parameters are invalid.
pub const CLOSE_BAD_ROOM: u16 = 4003;
/// Close code: the server has reached its limit of rooms or peers.
pub const CLOSE_SERVER_FULL: u16 = 4004;
/// Close code: the client left too much unread, or did not answer pings.
pub const CLOSE_TOO_SLOW: u16 = 4005;
/// Close code: the resume token does not give this slot back. Another attempt with it fails alike.
pub const CLOSE_RESUME_REFUSED: u16 = 4006;
/// Close code: the server stops. No member left; each may resume when the server is back.
pub const CLOSE_SERVER_STOPS: u16 = 4007;
/// Close code: another websocket has resumed this membership.
pub const CLOSE_REPLACED: u16 = 4008;

const PACKET_PREFIX_LEN: usize = 2;
const TYPE_PACKET: u8 = 1;
const TYPE_WELCOME: u8 = 2;
const TYPE_ROSTER: u8 = 3;
const TYPE_NOTICE: u8 = 4;
const TYPE_TOKEN: u8 = 5;
const TYPE_PROBE: u8 = 6;
const TYPE_RUNNING: u8 = 7;
/// Slot, capacity, nonce, member count, then slot and id of each member.
const MAX_ROSTER_LEN: usize = 1 + 1 + 1 + 16 + 1 + MAX_MEMBERS * 17;
/// Two discriminants and a 32-bit varint.
const MAX_NOTICE_LEN: usize = 1 + 1 + 1 + 5;

/// The members of a room and their server slots, as the server reports them to each member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roster {
    /// The receiver's own slot; it is one of [`members`](Self::members).
    pub slot: u8,
    /// How many peers the room is for; 0 when no client stated it.
    pub capacity: u8,
    /// Random per room, the same for all of its members while the room exists.
    pub nonce: [u8; 16],
    /// Every member, the receiver included, by ascending slot. At most [`MAX_MEMBERS`].
    #[serde(deserialize_with = "bounded_members")]
    pub members: Vec<Member>,
}

/// One peer of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Smallest slot that was free when the peer joined: its address on the relay.
    pub slot: u8,
    /// The bytes of the peer's matchbox id.
    pub peer: [u8; 16],
}

/// A report of the server about its relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// Packets that the receiver of this notice sent were dropped.
    Dropped {
        /// Why they were dropped.
        reason: DropReason,
        /// How many since the last notice with this reason.
        count: u32,
    },
    /// A peer left, or did not come back in time.
    PeerGone {
        /// The slot it held, which the next peer to join may get.
        slot: u8,
    },
    /// The server lost a peer's websocket during a match. The peer is still a member, and its other
    /// paths may be alive.
    Lost {
        /// The slot that is kept for it.
        slot: u8,
    },
    /// A lost peer has resumed.
    Back {
        /// Its slot.
        slot: u8,
    },
}

/// Why the server did not deliver a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum DropReason {
    /// The sender exceeded its rate.
    RateLimited,
    /// The packet waited longer for its receiver than it is of use.
    Stale,
    /// The receiver reads slower than the sender sends; the oldest packet was dropped.
    RingFull,
    /// The destination slot is empty, or the sender's own.
    UnknownSlot,
    /// The packet is longer than [`MAX_PAYLOAD_LEN`].
    TooLarge,
    /// The receiving member is lost at the moment.
    ReceiverLost,
}

impl DropReason {
    /// Every reason, in the order of the wire.
    pub const ALL: [Self; 6] = [
        Self::RateLimited,
        Self::Stale,
        Self::RingFull,
        Self::UnknownSlot,
        Self::TooLarge,
        Self::ReceiverLost,
    ];

    /// Stable name for counters.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RateLimited => "rateLimited",
            Self::Stale => "stale",
            Self::RingFull => "ringFull",
            Self::UnknownSlot => "unknownSlot",
            Self::TooLarge => "tooLarge",
            Self::ReceiverLost => "receiverLost",
        }
    }

    /// Position in [`ALL`](Self::ALL).
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }
}

/// What gives a lost member its slot back: opaque to the client, signed by the server. It is a secret: its
/// `Debug` shows the length alone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ResumeToken {
    len: u8,
    /// Zero behind `len`.
    bytes: [u8; MAX_TOKEN_LEN],
}

impl ResumeToken {
    /// Takes a token of 1 to [`MAX_TOKEN_LEN`] bytes; `None` of any other length.
    #[must_use]
    pub fn new(token: &[u8]) -> Option<Self> {
        let len = u8::try_from(token.len()).ok().filter(|&len| len > 0)?;
        let mut bytes = [0; MAX_TOKEN_LEN];
        bytes.get_mut(..token.len())?.copy_from_slice(token);
        Some(Self { len, bytes })
    }

    /// The token itself. Write it into no log, address or error text.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Debug for ResumeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResumeToken({} bytes)", self.len)
    }
}

/// A frame that a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientFrame<'a> {
    /// A packet for another member of the room.
    Forward {
        /// Slot of the receiving member.
        destination: u8,
        /// The packet, at most [`MAX_PAYLOAD_LEN`] bytes.
        payload: &'a [u8],
    },
    /// The first frame of a websocket that resumes a membership.
    Resume {
        /// Whether the client's signaling starts anew, as after the reload of a page.
        anew: bool,
        /// Grows with every attempt of the client: of two websockets with the same token the later counts,
        /// in whichever order their frames arrive.
        attempt: u32,
        /// The newest token that the client has.
        token: ResumeToken,
    },
    /// A question whether the websocket is alive.
    Probe {
        /// Comes back in the answer.
        number: u32,
    },
    /// Whether this member's match runs. While it does, the slot of a lost member is kept.
    Running(bool),
}

/// A frame that the server sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerFrame<'a> {
    /// A packet from another member of the room.
    Forwarded {
        /// Slot of the sending member.
        source: u8,
        /// The packet, at most [`MAX_PAYLOAD_LEN`] bytes.
        payload: &'a [u8],
    },
    /// The first binary frame of a connection: this server relays.
    Welcome(Roster),
    /// A member joined or left.
    Roster(Roster),
    /// A report about the relay.
    Notice(Notice),
    /// What resumes this membership; it replaces every token before it.
    Token(ResumeToken),
    /// The answer to a probe.
    ProbeAnswer {
        /// The number of the probe.
        number: u32,
    },
}

/// Why bytes are not a relay frame, or a value does not fit into one.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RelayFrameError {
    /// The frame ends before its fixed part does.
    #[error("relay frame of {len} bytes is too short")]
    TooShort {
        /// Length of the frame.
        len: usize,
    },
    /// The frame is longer than its type allows.
    #[error("relay frame of {len} bytes is longer than {max}")]
    TooLong {
        /// Length of the frame.
        len: usize,
        /// Longest that its type allows.
        max: usize,
    },
    /// The sender uses another version.
    #[error("relay frame has version {found}, expected {RELAY_VERSION}")]
    Version {
        /// Version in byte 0.
        found: u8,
    },
    /// The type does not exist in this direction.
    #[error("relay frame has unknown type {found}")]
    Type {
        /// Type in byte 0.
        found: u8,
    },
    /// The content does not decode.
    #[error("relay frame of type {frame_type} is malformed")]
    Malformed {
        /// Type in byte 0.
        frame_type: u8,
    },
    /// The roster decodes, but its slots contradict each other.
    #[error("roster is inconsistent: {rule}")]
    Roster {
        /// The rule that does not hold.
        rule: &'static str,
    },
    /// The caller's buffer does not hold the frame.
    #[error("buffer of {len} bytes cannot hold a relay frame of {needed}")]
    Buffer {
        /// Length of the buffer.
        len: usize,
        /// Length of the frame.
        needed: usize,
    },
}

impl RelayFrameError {
    /// Stable key for counters.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooShort { .. } => "tooShort",
            Self::TooLong { .. } => "tooLong",
            Self::Version { .. } => "version",
            Self::Type { .. } => "kind",
            Self::Malformed { .. } => "malformed",
            Self::Roster { .. } => "roster",
            Self::Buffer { .. } => "buffer",
        }
    }
}

/// Writes a packet for the member in slot `destination` into `out`; returns the frame's length.
///
/// # Errors
/// [`RelayFrameError::TooLong`] when the payload is longer than [`MAX_PAYLOAD_LEN`],
/// [`RelayFrameError::Buffer`] when `out` is too small.
pub fn encode_forward(
    destination: u8,
    payload: &[u8],
    out: &mut [u8],
) -> Result<usize, RelayFrameError> {
    encode_packet(destination, payload, out)
}

/// Writes a packet from the member in slot `source` into `out`; returns the frame's length.
///
/// # Errors
/// [`RelayFrameError::TooLong`] when the payload is longer than [`MAX_PAYLOAD_LEN`],
/// [`RelayFrameError::Buffer`] when `out` is too small.
pub fn encode_forwarded(
    source: u8,
    payload: &[u8],
    out: &mut [u8],
) -> Result<usize, RelayFrameError> {
    encode_packet(source, payload, out)
}

/// Encodes the first frame of a connection.
///
/// # Errors
/// [`RelayFrameError::Roster`] names the rule that the roster breaks.
pub fn encode_welcome(roster: &Roster) -> Result<Vec<u8>, RelayFrameError> {
    roster.check()?;
    encode_value(TYPE_WELCOME, roster)
}

/// Encodes a changed roster.
///
/// # Errors
/// [`RelayFrameError::Roster`] names the rule that the roster breaks.
pub fn encode_roster(roster: &Roster) -> Result<Vec<u8>, RelayFrameError> {
    roster.check()?;
    encode_value(TYPE_ROSTER, roster)
}

/// Encodes a notice.
///
/// # Errors
/// [`RelayFrameError::Malformed`] if the notice cannot be encoded, which cannot happen with the notices above.
pub fn encode_notice(notice: &Notice) -> Result<Vec<u8>, RelayFrameError> {
    encode_value(TYPE_NOTICE, notice)
}

/// Encodes the first frame of a websocket that resumes.
#[must_use]
pub fn encode_resume(anew: bool, attempt: u32, token: &ResumeToken) -> Vec<u8> {
    let mut frame = vec![first_byte(TYPE_TOKEN), u8::from(anew)];
    frame.extend(attempt.to_le_bytes());
    frame.extend_from_slice(token.as_bytes());
    frame
}

/// Encodes a token for the client that it belongs to.
#[must_use]
pub fn encode_token(token: &ResumeToken) -> Vec<u8> {
    let mut frame = vec![first_byte(TYPE_TOKEN)];
    frame.extend_from_slice(token.as_bytes());
    frame
}

/// Encodes a probe, or the answer to it: the two are alike.
#[must_use]
pub fn encode_probe(number: u32) -> [u8; 5] {
    let [a, b, c, d] = number.to_le_bytes();
    [first_byte(TYPE_PROBE), a, b, c, d]
}

/// Encodes whether the client's match runs.
#[must_use]
pub fn encode_running(running: bool) -> [u8; 2] {
    [first_byte(TYPE_RUNNING), u8::from(running)]
}

/// Decodes a frame that a client sent.
///
/// # Errors
/// [`RelayFrameError`] when `bytes` are not such a frame.
pub fn decode_client(bytes: &[u8]) -> Result<ClientFrame<'_>, RelayFrameError> {
    match split_type(bytes)? {
        (TYPE_PACKET, _) => {
            let (destination, payload) = decode_packet(bytes)?;
            Ok(ClientFrame::Forward {
                destination,
                payload,
            })
        }
        (TYPE_TOKEN, [anew, a, b, c, d, token @ ..]) => Ok(ClientFrame::Resume {
            anew: decode_flag(TYPE_TOKEN, *anew)?,
            attempt: u32::from_le_bytes([*a, *b, *c, *d]),
            token: decode_token(token)?,
        }),
        (TYPE_PROBE, body) => decode_probe(body).map(|number| ClientFrame::Probe { number }),
        (TYPE_RUNNING, [running]) => decode_flag(TYPE_RUNNING, *running).map(ClientFrame::Running),
        (frame_type @ (TYPE_TOKEN | TYPE_RUNNING), _) => {
            Err(RelayFrameError::Malformed { frame_type })
        }
        (found, _) => Err(RelayFrameError::Type { found }),
    }
}

/// Decodes a frame that the server sent.
///
/// # Errors
/// [`RelayFrameError`] when `bytes` are not such a frame.
pub fn decode_server(bytes: &[u8]) -> Result<ServerFrame<'_>, RelayFrameError> {
    match split_type(bytes)? {
        (TYPE_PACKET, _) => {
            let (source, payload) = decode_packet(bytes)?;
            Ok(ServerFrame::Forwarded { source, payload })
        }
        (TYPE_WELCOME, body) => decode_roster(TYPE_WELCOME, body).map(ServerFrame::Welcome),
        (TYPE_ROSTER, body) => decode_roster(TYPE_ROSTER, body).map(ServerFrame::Roster),
        (TYPE_NOTICE, body) => {
            decode_value(TYPE_NOTICE, body, MAX_NOTICE_LEN).map(ServerFrame::Notice)
        }
        (TYPE_TOKEN, body) => decode_token(body).map(ServerFrame::Token),
        (TYPE_PROBE, body) => decode_probe(body).map(|number| ServerFrame::ProbeAnswer { number }),
        (found, _) => Err(RelayFrameError::Type { found }),
    }
}

impl Roster {
    fn check(&self) -> Result<(), RelayFrameError> {
        let broken = |rule| Err(RelayFrameError::Roster { rule });
        if usize::from(self.capacity) > MAX_MEMBERS {
            return broken("capacity is at most 64");
        }
        if self.members.len() > MAX_MEMBERS {
            return broken("at most 64 members");
        }
        if self
            .members
            .iter()
            .any(|m| usize::from(m.slot) >= MAX_MEMBERS)
        {
            return broken("slots are below 64");
        }
        if !self.members.is_sorted_by(|a, b| a.slot < b.slot) {
            return broken("slots ascend");
        }
        if !self.members.iter().any(|m| m.slot == self.slot) {
            return broken("the receiver is a member");
        }
        Ok(())
    }
}

fn first_byte(frame_type: u8) -> u8 {
    (RELAY_VERSION << 4) | frame_type
}

fn split_type(bytes: &[u8]) -> Result<(u8, &[u8]), RelayFrameError> {
    let Some((&first, body)) = bytes.split_first() else {
        return Err(RelayFrameError::TooShort { len: 0 });
    };
    let version = first >> 4;
    if version != RELAY_VERSION {
        return Err(RelayFrameError::Version { found: version });
    }
    Ok((first & 0x0f, body))
}

fn encode_packet(slot: u8, payload: &[u8], out: &mut [u8]) -> Result<usize, RelayFrameError> {
    let needed = payload.len().saturating_add(PACKET_PREFIX_LEN);
    if needed > MAX_FRAME_LEN {
        return Err(RelayFrameError::TooLong {
            len: needed,
            max: MAX_FRAME_LEN,
        });
    }
    let len = out.len();
    let Some(frame) = out.get_mut(..needed) else {
        return Err(RelayFrameError::Buffer { len, needed });
    };
    frame[0] = first_byte(TYPE_PACKET);
    frame[1] = slot;
    frame[PACKET_PREFIX_LEN..].copy_from_slice(payload);
    Ok(needed)
}

fn decode_packet(bytes: &[u8]) -> Result<(u8, &[u8]), RelayFrameError> {
    let len = bytes.len();
    if len > MAX_FRAME_LEN {
        return Err(RelayFrameError::TooLong {
            len,
            max: MAX_FRAME_LEN,
        });
    }
    let [_, slot, payload @ ..] = bytes else {
        return Err(RelayFrameError::TooShort { len });
    };
    Ok((*slot, payload))
}

fn decode_token(body: &[u8]) -> Result<ResumeToken, RelayFrameError> {
    ResumeToken::new(body).ok_or(RelayFrameError::Malformed {
        frame_type: TYPE_TOKEN,
    })
}

fn decode_probe(body: &[u8]) -> Result<u32, RelayFrameError> {
    let number = body.try_into().map_err(|_| RelayFrameError::Malformed {
        frame_type: TYPE_PROBE,
    })?;
    Ok(u32::from_le_bytes(number))
}

fn decode_flag(frame_type: u8, flag: u8) -> Result<bool, RelayFrameError> {
    match flag {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(RelayFrameError::Malformed { frame_type }),
    }
}

fn decode_roster(frame_type: u8, body: &[u8]) -> Result<Roster, RelayFrameError> {
    let roster: Roster = decode_value(frame_type, body, MAX_ROSTER_LEN)?;
    roster.check()?;
    Ok(roster)
}

fn encode_value<T: Serialize>(frame_type: u8, value: &T) -> Result<Vec<u8>, RelayFrameError> {
    postcard::to_extend(value, vec![first_byte(frame_type)])
        .map_err(|_| RelayFrameError::Malformed { frame_type })
}

fn decode_value<'a, T: Deserialize<'a>>(
    frame_type: u8,
    body: &'a [u8],
    max: usize,
) -> Result<T, RelayFrameError> {
    let len = body.len() + 1;
    if len > max {
        return Err(RelayFrameError::TooLong { len, max });
    }
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        Ok(_) | Err(_) => Err(RelayFrameError::Malformed { frame_type }),
    }
}

/// Refuses a member count above the bound before a single member is allocated.
fn bounded_members<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Member>, D::Error> {
    struct Members;

    impl<'de> Visitor<'de> for Members {
        type Value = Vec<Member>;

        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            write!(f, "at most {MAX_MEMBERS} members")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let announced = seq.size_hint().unwrap_or(0);
            if announced > MAX_MEMBERS {
                return Err(A::Error::invalid_length(announced, &self));
            }
            let mut members = Vec::with_capacity(announced);
            while let Some(member) = seq.next_element()? {
                if members.len() == MAX_MEMBERS {
                    return Err(A::Error::invalid_length(MAX_MEMBERS + 1, &self));
                }
                members.push(member);
            }
            Ok(members)
        }
    }

    deserializer.deserialize_seq(Members)
}

#[cfg(test)]
mod tests;
