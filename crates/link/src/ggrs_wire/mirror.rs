//! ggrs 0.13's messages as they stand on the wire, borrowing from the datagram.
//!
//! Owns the shape only; nothing here allocates, and nothing is judged. The variants stand in
//! ggrs's order (`network/messages.rs`), which postcard encodes as their index.

use std::fmt;

use crate::frame::Frame;
use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};

/// Most players of a session that the mirror can hold; the relay's rooms end there too.
pub const MAX_PLAYERS: usize = 64;

/// Mirror of `ggrs::Message`.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Message<'a> {
    pub magic: u16,
    #[serde(borrow)]
    pub body: Body<'a>,
}

/// Mirror of `MessageBody`. Single-field structs of ggrs are written as their field: postcard
/// adds nothing around either.
#[derive(Clone, Copy, Debug, Deserialize)]
#[expect(
    clippy::large_enum_variant,
    reason = "the statuses stay on the stack so that validation allocates nothing"
)]
pub(super) enum Body<'a> {
    SyncRequest(#[expect(dead_code, reason = "any nonce is answered")] u32),
    SyncReply(#[expect(dead_code, reason = "ggrs compares the nonce itself")] u32),
    #[serde(borrow)]
    Input(Input<'a>),
    InputAck(Frame),
    QualityReport {
        frame_advantage: i16,
        ping: u128,
    },
    QualityReply(u128),
    ChecksumReport {
        #[expect(dead_code, reason = "compared, never computed with")]
        checksum: u128,
        frame: Frame,
    },
    KeepAlive,
}

/// Mirror of `Input`.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Input<'a> {
    pub statuses: Statuses,
    pub disconnect_requested: bool,
    pub start_frame: Frame,
    pub ack_frame: Frame,
    /// Run-length encoded inputs. A `Vec<u8>` and a borrowed slice look the same in postcard.
    pub bytes: &'a [u8],
}

/// Mirror of `ConnectionStatus`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct Status {
    pub disconnected: bool,
    pub last_frame: Frame,
}

/// Mirror of `Vec<ConnectionStatus>`, without the allocation that serde makes from the
/// length prefix alone (up to 1 MiB).
#[derive(Clone, Copy, Debug)]
pub(super) struct Statuses {
    items: [Status; MAX_PLAYERS],
    len: usize,
}

impl Statuses {
    pub(super) fn as_slice(&self) -> &[Status] {
        &self.items[..self.len]
    }
}

impl<'de> Deserialize<'de> for Statuses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(StatusesVisitor)
    }
}

struct StatusesVisitor;

impl<'de> Visitor<'de> for StatusesVisitor {
    type Value = Statuses;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {MAX_PLAYERS} connection statuses")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Statuses, A::Error> {
        let mut statuses = Statuses {
            items: [Status::default(); MAX_PLAYERS],
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
