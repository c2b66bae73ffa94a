//! The clock exchange: a query and its answer, over the relay alone.
//!
//! The tasks that own two server connections answer each other without waiting for a game's next
//! update, so that no frame lies between the four timestamps of RFC 5905. Pass the answer to
//! [`Link::record_clock`](crate::link::Link::record_clock). Byte 0 differs from that of every
//! [`Header`](super::Header). All stamps are a clock's microseconds modulo 2^32, as in a header.
//!
//! ```
//! use rollback_lab_link::wire::clock::{ClockDatagram, MAX_CLOCK};
//!
//! let mut buffer = [0; MAX_CLOCK];
//! let query = ClockDatagram::Ask { asked: 1_000_000 };
//! let length = query.encode(&mut buffer);
//! assert_eq!(ClockDatagram::decode(&buffer[..length]), Some(query));
//! ```

/// Byte 0 of a query: a version nibble of 12, which no header has.
const ASK: u8 = 0xC0;
/// Byte 0 of an answer.
const ANSWER: u8 = 0xC1;
/// Length of the longer one of the two datagrams, in bytes.
pub const MAX_CLOCK: usize = 15;

/// One datagram of the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockDatagram {
    /// A query for the receiver's clock.
    Ask {
        /// When the query was sent, by the clock of its sender.
        asked: u32,
    },
    /// The answer.
    Answer(ClockAnswer),
}

/// The answer to a clock query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockAnswer {
    /// When the query was sent, by the clock of its sender.
    pub asked: u32,
    /// When it was received, by the clock of the answering peer.
    pub received: u32,
    /// When the answer was sent, by the clock of the answering peer.
    pub answered: u32,
    /// Resolution of that clock, in microseconds.
    pub step_us: u16,
}

impl ClockDatagram {
    /// Writes the datagram; returns its length.
    pub fn encode(&self, out: &mut [u8; MAX_CLOCK]) -> usize {
        match self {
            Self::Ask { asked } => {
                out[0] = ASK;
                out[1..5].copy_from_slice(&asked.to_le_bytes());
                5
            }
            Self::Answer(answer) => {
                out[0] = ANSWER;
                out[1..5].copy_from_slice(&answer.asked.to_le_bytes());
                out[5..9].copy_from_slice(&answer.received.to_le_bytes());
                out[9..13].copy_from_slice(&answer.answered.to_le_bytes());
                out[13..].copy_from_slice(&answer.step_us.to_le_bytes());
                MAX_CLOCK
            }
        }
    }

    /// Reads a relayed packet; `None` when it does not belong to the clock exchange.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let stamp = |at: &[u8; 4]| u32::from_le_bytes(*at);
        match bytes {
            [ASK, asked @ ..] => Some(Self::Ask {
                asked: stamp(asked.try_into().ok()?),
            }),
            [ANSWER, stamps @ ..] => {
                let (asked, rest) = stamps.split_first_chunk()?;
                let (received, rest) = rest.split_first_chunk()?;
                let (answered, step) = rest.split_first_chunk()?;
                Some(Self::Answer(ClockAnswer {
                    asked: stamp(asked),
                    received: stamp(received),
                    answered: stamp(answered),
                    step_us: u16::from_le_bytes(step.try_into().ok()?),
                }))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Header;

    #[test]
    fn query_and_answer_round_trip_and_are_not_headers() {
        let answer = ClockAnswer {
            asked: 1,
            received: u32::MAX,
            answered: 7,
            step_us: 0x0506,
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
                "decodes to the datagram that was encoded"
            );
            assert!(Header::decode(&buffer[..length]).is_err());
            // No other length is valid.
            assert_eq!(ClockDatagram::decode(&buffer[..length - 1]), None);
            let longer = [&buffer[..length], &[0]].concat();
            assert_eq!(ClockDatagram::decode(&longer), None);
        }
        assert_eq!(ClockDatagram::decode(&[]), None);
        assert_eq!(ClockDatagram::decode(&[0x10; 15]), None);
    }
}
