//! The messages of ggrs 0.13 as encoded on the wire, borrowing from the datagram: decoding allocates
//! nothing. The variants are in ggrs's order (`network/messages.rs`), because postcard encodes their
//! index.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, SeqAccess, Visitor},
};

use ggrs::NULL_FRAME;

use crate::frame::Frame;
use crate::wire::relay::MAX_MEMBERS;

/// Mirror of `ggrs::Message`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct MessageMirror<'a> {
    pub magic: u16,
    #[serde(borrow)]
    pub body: BodyMirror<'a>,
}

/// Mirror of `MessageBody`. Single-field structs of ggrs are written as their field: postcard
/// adds nothing around either.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[expect(
    clippy::large_enum_variant,
    reason = "the statuses stay on the stack so that validation allocates nothing"
)]
pub(super) enum BodyMirror<'a> {
    /// ggrs answers every nonce.
    SyncRequest(u32),
    /// ggrs compares the nonce itself.
    SyncReply(u32),
    #[serde(borrow)]
    Input(InputMirror<'a>),
    InputAck(Frame),
    QualityReport {
        frame_advantage: i16,
        ping: u128,
    },
    QualityReply(u128),
    ChecksumReport {
        /// ggrs compares it with its own.
        checksum: u128,
        frame: Frame,
    },
    KeepAlive,
}

/// Mirror of `Input`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct InputMirror<'a> {
    pub statuses: StatusesMirror,
    pub disconnect_requested: bool,
    pub start_frame: Frame,
    pub ack_frame: Frame,
    /// Run-length encoded inputs. postcard encodes a `Vec<u8>` and a slice alike.
    pub bytes: &'a [u8],
}

/// Mirror of `ConnectionStatus`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct StatusMirror {
    pub disconnected: bool,
    pub last_frame: Frame,
}

/// Mirror of `Vec<ConnectionStatus>`, without the allocation that serde makes from the length prefix
/// alone (up to 1 MiB). It holds as many as a relay room has members.
#[derive(Clone, Copy, Debug)]
pub(super) struct StatusesMirror {
    items: [StatusMirror; MAX_MEMBERS],
    len: usize,
}

impl StatusesMirror {
    pub(super) fn as_slice(&self) -> &[StatusMirror] {
        &self.items[..self.len]
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [StatusMirror] {
        &mut self.items[..self.len]
    }

    /// As many connected players without inputs, at most [`MAX_MEMBERS`].
    pub(super) fn connected(players: usize) -> Self {
        let connected = StatusMirror {
            disconnected: false,
            last_frame: NULL_FRAME,
        };
        Self {
            items: [connected; MAX_MEMBERS],
            len: players.min(MAX_MEMBERS),
        }
    }
}

impl Serialize for StatusesMirror {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.as_slice())
    }
}

impl<'de> Deserialize<'de> for StatusesMirror {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(StatusesVisitor)
    }
}

struct StatusesVisitor;

impl<'de> Visitor<'de> for StatusesVisitor {
    type Value = StatusesMirror;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {MAX_MEMBERS} connection statuses")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<StatusesMirror, A::Error> {
        let mut statuses = StatusesMirror {
            items: [StatusMirror::default(); MAX_MEMBERS],
            len: 0,
        };
        while let Some(status) = seq.next_element()? {
            let Some(slot) = statuses.items.get_mut(statuses.len) else {
                return Err(A::Error::invalid_length(statuses.len + 1, &self));
            };
            *slot = status;
            statuses.len += 1;
        }
        Ok(statuses)
    }
}
