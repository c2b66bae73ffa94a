//! Several ggrs messages in the payload of one data packet: each behind its length, two bytes,
//! little-endian. ggrs sends up to three messages in a tick, and a header is longer than most of them.

use super::GgrsWireError;
use crate::link::MAX_PAYLOAD;

/// Bytes in front of every message.
pub(super) const PREFIX: usize = 2;

/// The messages of one tick to one peer, until they are sent as the payload of one data packet.
///
/// ```
/// use rollback_lab_link::ggrs_wire::{Bundle, messages};
///
/// let mut bundle = Bundle::default();
/// assert!(bundle.push(b"input") && bundle.push(b"ack"));
/// let read: Result<Vec<_>, _> = messages(bundle.bytes()).collect();
/// assert_eq!(read.unwrap(), [&b"input"[..], b"ack"]);
/// ```
#[derive(Clone, Debug)]
pub struct Bundle {
    bytes: [u8; MAX_PAYLOAD],
    len: usize,
}

impl Default for Bundle {
    fn default() -> Self {
        Self {
            bytes: [0; MAX_PAYLOAD],
            len: 0,
        }
    }
}

impl Bundle {
    /// Appends an encoded message; returns whether it fits.
    pub fn push(&mut self, message: &[u8]) -> bool {
        let Ok(length) = u16::try_from(message.len()) else {
            return false;
        };
        let end = self.len + PREFIX + message.len();
        let Some(free) = self.bytes.get_mut(self.len..end) else {
            return false;
        };
        let (prefix, body) = free.split_at_mut(PREFIX);
        prefix.copy_from_slice(&length.to_le_bytes());
        body.copy_from_slice(message);
        self.len = end;
        true
    }

    /// The payload: empty, or one message or more.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Drops all messages.
    pub const fn clear(&mut self) {
        self.len = 0;
    }
}

/// The messages of a payload, to be [decoded](super::decode) one by one. A payload that breaks off in
/// the middle of a message ends with [`GgrsWireError::NotAMessage`].
pub fn messages(mut payload: &[u8]) -> impl Iterator<Item = Result<&[u8], GgrsWireError>> {
    std::iter::from_fn(move || {
        if payload.is_empty() {
            return None;
        }
        let Some((message, rest)) = split(payload) else {
            payload = &[];
            return Some(Err(GgrsWireError::NotAMessage));
        };
        payload = rest;
        Some(Ok(message))
    })
}

fn split(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    let (prefix, rest) = payload.split_first_chunk::<PREFIX>()?;
    rest.split_at_checked(usize::from(u16::from_le_bytes(*prefix)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_that_does_not_fit_leaves_the_bundle_as_it_was() {
        let mut bundle = Bundle::default();
        assert!(bundle.push(&[7; MAX_PAYLOAD - PREFIX - 3]));
        let before = bundle.bytes().to_vec();
        assert!(!bundle.push(&[1, 2]));
        assert_eq!(bundle.bytes(), before);
        assert!(bundle.push(&[1]));
        assert_eq!(bundle.bytes().len(), MAX_PAYLOAD);
    }

    proptest! {
        #[test]
        fn messages_come_back_as_they_went_in(sent in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 0..10)) {
            let mut bundle = Bundle::default();
            for message in &sent {
                prop_assert!(bundle.push(message));
            }
            let read: Result<Vec<_>, _> = messages(bundle.bytes()).collect();
            prop_assert_eq!(read.unwrap(), sent);
        }

        #[test]
        fn any_bytes_are_read_to_an_end(bytes: Vec<u8>) {
            let read: usize = messages(&bytes).flatten().map(|message| message.len() + PREFIX).sum();
            prop_assert!(read <= bytes.len());
        }
    }
}
