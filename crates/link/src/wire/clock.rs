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
pub const MAX_CLOCK: usize = 15;

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
    /// The steps in which that clock counts, in microseconds.
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
                out[5..9].copy_from_slice(&answer.heard.to_le_bytes());
                out[9..13].copy_from_slice(&answer.answered.to_le_bytes());
                out[13..].copy_from_slice(&answer.step_us.to_le_bytes());
                MAX_CLOCK
            }
        }
    }

    /// Reads a relayed packet; `None` when it is no datagram of the exchange.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let stamp = |at: &[u8; 4]| u32::from_le_bytes(*at);
        match bytes {
            [ASK, asked @ ..] => Some(Self::Ask {
                asked: stamp(asked.try_into().ok()?),
            }),
            [ANSWER, stamps @ ..] => {
                let (asked, rest) = stamps.split_first_chunk()?;
                let (heard, rest) = rest.split_first_chunk()?;
                let (answered, step) = rest.split_first_chunk()?;
                Some(Self::Answer(ClockAnswer {
                    asked: stamp(asked),
                    heard: stamp(heard),
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
    fn question_and_answer_come_back_as_they_were_and_are_no_header() {
        let answer = ClockAnswer {
            asked: 1,
            heard: u32::MAX,
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
                "what was written is read"
            );
            assert!(Header::decode(&buffer[..length]).is_err());
            // Any other length is none.
            assert_eq!(ClockDatagram::decode(&buffer[..length - 1]), None);
            let longer = [&buffer[..length], &[0]].concat();
            assert_eq!(ClockDatagram::decode(&longer), None);
        }
        assert_eq!(ClockDatagram::decode(&[]), None);
        assert_eq!(ClockDatagram::decode(&[0x10; 15]), None);
    }
}
