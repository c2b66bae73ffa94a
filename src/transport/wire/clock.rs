//! The clock exchange: a question and its answer, over the relay alone.
//!
//! Owns the layout of the two datagrams. The tasks of two server connections answer each other
//! without waiting for a game's next update, so that no frame lies between the four timestamps of
//! RFC 5905. Byte 0 is one that no [`Header`](super::Header) has. All stamps are a clock's
//! microseconds modulo 2^32, as in a header.

/// Byte 0 of a question; the version nibble is 12.
const ASK: u8 = 0xC0;
/// Byte 0 of an answer.
const ANSWER: u8 = 0xC1;
/// Longest of the datagrams here, in bytes.
pub const MAX_CLOCK: usize = 13;

/// One datagram of the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockDatagram {
    /// What does your clock say?
    Ask {
        /// When the question was sent, by the clock of who asks.
        asked: u32,
    },
    /// The answer.
    Answer(ClockAnswer),
}

/// What an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockAnswer {
    /// When the question was sent, by the clock of who asked.
    pub asked: u32,
    /// When it was read, by the clock of who answers.
    pub heard: u32,
    /// When the answer was sent, by the clock of who answers.
    pub answered: u32,
}

impl ClockDatagram {
    /// Writes the datagram; returns its length.
    pub fn encode(&self, out: &mut [u8; MAX_CLOCK]) -> usize {
        let (first, stamps): (u8, &[u32]) = match self {
            Self::Ask { asked } => (ASK, &[*asked]),
            Self::Answer(answer) => (ANSWER, &[answer.asked, answer.heard, answer.answered]),
        };
        out[0] = first;
        for (place, stamp) in out[1..].chunks_exact_mut(4).zip(stamps) {
            place.copy_from_slice(&stamp.to_le_bytes());
        }
        1 + 4 * stamps.len()
    }

    /// Reads a relayed packet; `None` when it is no datagram of the exchange.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&first, stamps) = bytes.split_first()?;
        let stamp = |at: usize| {
            let bytes = stamps.get(4 * at..4 * at + 4)?;
            Some(u32::from_le_bytes(bytes.try_into().ok()?))
        };
        match (first, stamps.len()) {
            (ASK, 4) => Some(Self::Ask { asked: stamp(0)? }),
            (ANSWER, 12) => Some(Self::Answer(ClockAnswer {
                asked: stamp(0)?,
                heard: stamp(1)?,
                answered: stamp(2)?,
            })),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::wire::Header;

    #[test]
    fn question_and_answer_come_back_as_they_were_and_are_no_header() {
        let answer = ClockAnswer {
            asked: 1,
            heard: u32::MAX,
            answered: 7,
        };
        for datagram in [
            ClockDatagram::Ask { asked: 0x0102_0304 },
            ClockDatagram::Answer(answer),
        ] {
            let mut buffer = [0; MAX_CLOCK];
            let length = datagram.encode(&mut buffer);
            assert_eq!(
                ClockDatagram::decode(&buffer[..length]),
                Some(datagram),
                "what was written is read"
            );
            assert!(Header::decode(&buffer[..length]).is_err());
            // Any other length is none.
            assert_eq!(ClockDatagram::decode(&buffer[..length - 1]), None);
            let longer = [&buffer[..length], &[0]].concat();
            assert_eq!(ClockDatagram::decode(&longer), None);
        }
        assert_eq!(ClockDatagram::decode(&[]), None);
        assert_eq!(ClockDatagram::decode(&[0x10; 13]), None);
    }
}
