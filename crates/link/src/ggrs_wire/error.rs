//! Why a message does not reach ggrs.
//!
//! Owns the refusals and their counter keys. Never decides on one.

use crate::frame::Frame;

use super::MAX_MESSAGE;

/// Why a message is not for ggrs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GgrsWireError {
    /// More bytes than a data packet holds.
    #[error("message is longer than {MAX_MESSAGE} bytes")]
    TooLong,
    /// The bytes are no message of ggrs 0.13.
    #[error("bytes are no ggrs message")]
    NotAMessage,
    /// A magic of zero, or of another session.
    #[error("magic {magic} belongs to no session of this episode")]
    Magic {
        /// The magic.
        magic: u16,
    },
    /// Another number of connection statuses than players.
    #[error("input packet with {len} connection statuses")]
    StatusCount {
        /// Their number.
        len: usize,
    },
    /// A status whose last frame cannot be true.
    #[error("player {player} cannot have an input for frame {frame}")]
    StatusFrame {
        /// Handle of the player.
        player: usize,
        /// The claimed frame.
        frame: Frame,
    },
    /// A player reported as disconnected that ggrs could not remove.
    #[error("player {player} is reported disconnected out of turn")]
    StatusDisconnected {
        /// Handle of the player.
        player: usize,
    },
    /// A request that ggrs never sends.
    #[error("input packet asks for a disconnect")]
    DisconnectRequested,
    /// An input packet that starts where it cannot.
    #[error("inputs start at frame {frame}")]
    StartFrame {
        /// Its first frame.
        frame: Frame,
    },
    /// Encoded inputs that cannot be expanded.
    #[error("inputs cannot be expanded")]
    Encoding,
    /// No inputs, or more than ggrs sends.
    #[error("input packet with too few or too many inputs")]
    InputCount,
    /// An input of another size than agreed.
    #[error("input of {len} bytes")]
    InputSize {
        /// Its size.
        len: usize,
    },
    /// Inputs further ahead than the peer can be.
    #[error("inputs reach frame {frame}, too far ahead")]
    TooFarAhead {
        /// Their newest frame.
        frame: Frame,
    },
    /// An acknowledgement of what was never sent.
    #[error("frame {frame} is acknowledged but was never sent")]
    AckFrame {
        /// The frame.
        frame: Frame,
    },
    /// A frame advantage out of range.
    #[error("frame advantage {advantage}")]
    FrameAdvantage {
        /// The advantage.
        advantage: i16,
    },
    /// A pong without a ping.
    #[error("pong answers no ping")]
    Pong,
    /// A checksum although desync detection is off.
    #[error("checksum report while desync detection is off")]
    ChecksumOff,
    /// A checksum of a frame that cannot be confirmed, or that is long past.
    #[error("checksum of frame {frame}")]
    ChecksumFrame {
        /// The frame.
        frame: Frame,
    },
}

impl GgrsWireError {
    /// Stable key for counters.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::TooLong => "messageTooLong",
            Self::NotAMessage => "notAMessage",
            Self::Magic { .. } => "magic",
            Self::StatusCount { .. } => "statusCount",
            Self::StatusFrame { .. } => "statusFrame",
            Self::StatusDisconnected { .. } => "statusDisconnected",
            Self::DisconnectRequested => "disconnectRequested",
            Self::StartFrame { .. } => "startFrame",
            Self::Encoding => "inputEncoding",
            Self::InputCount => "inputCount",
            Self::InputSize { .. } => "inputSize",
            Self::TooFarAhead { .. } => "inputTooFarAhead",
            Self::AckFrame { .. } => "ackFrame",
            Self::FrameAdvantage { .. } => "frameAdvantage",
            Self::Pong => "pong",
            Self::ChecksumOff => "checksumOff",
            Self::ChecksumFrame { .. } => "checksumFrame",
        }
    }
}
