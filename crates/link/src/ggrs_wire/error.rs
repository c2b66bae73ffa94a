//! The errors of [`decode`](super::decode), and their counter keys.

use crate::frame::Frame;

use super::{MAX_MESSAGE, MAX_VARIABLE_INPUT};

fn size(expected: Option<usize>) -> String {
    expected.map_or_else(
        || format!("at most {MAX_VARIABLE_INPUT} bytes"),
        |bytes| format!("{bytes} bytes"),
    )
}

/// The rule that a message broke. It must not reach ggrs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GgrsWireError {
    /// The message does not fit into a data packet.
    #[error("message is longer than {MAX_MESSAGE} bytes")]
    TooLong,
    /// The bytes are not a message of ggrs 0.13.
    #[error("bytes are not a ggrs message")]
    NotAMessage,
    /// The magic is zero, or of another session.
    #[error("magic {magic} is not that of the session of this episode")]
    Magic {
        /// The magic.
        magic: u16,
    },
    /// The number of connection statuses differs from that of the players.
    #[error("input packet has {len} connection statuses, not one for each of {players} players")]
    StatusCount {
        /// Their number.
        len: usize,
        /// Players of the session.
        players: usize,
    },
    /// The last frame of a status is impossible.
    #[error("player {player} cannot have an input for frame {frame}")]
    StatusFrame {
        /// Handle of the player.
        player: usize,
        /// The claimed frame.
        frame: Frame,
    },
    /// The sender or this peer is reported as disconnected; neither would get or send such a packet.
    #[error("player {player} is reported disconnected by a packet of or to that player")]
    StatusDisconnected {
        /// Handle of the player.
        player: usize,
    },
    /// A disconnect request, which ggrs does not send.
    #[error("input packet requests a disconnect")]
    DisconnectRequested,
    /// The first frame of an input packet leaves a gap, or is negative.
    #[error(
        "inputs start at frame {frame}, which leaves a gap or is negative: at most {latest} is possible"
    )]
    StartFrame {
        /// Its first frame.
        frame: Frame,
        /// The largest possible one.
        latest: Frame,
    },
    /// The run-length encoding of the inputs is invalid.
    #[error("run-length encoding of inputs is invalid")]
    Encoding,
    /// No inputs, or more than ggrs sends.
    #[error("input packet has no inputs, or more than 128")]
    InputCount,
    /// The size of an input differs from that of the game's inputs.
    #[error("input of {len} bytes is not of the game's input size, {}", size(*.expected))]
    InputSize {
        /// Its size.
        len: usize,
        /// The size of every input; `None` where it varies.
        expected: Option<usize>,
    },
    /// The inputs are further ahead than the peer can be.
    #[error(
        "inputs reach frame {frame}, further ahead than the peer can be: at most {latest} by the \
         prediction window and input delay of this peer"
    )]
    TooFarAhead {
        /// Their newest frame.
        frame: Frame,
        /// The largest possible one.
        latest: Frame,
    },
    /// An acknowledgement of a frame that was never sent.
    #[error("frame {frame} is acknowledged but was never sent")]
    AckFrame {
        /// The frame.
        frame: Frame,
    },
    /// The frame advantage is above a minute.
    #[error("frame advantage of {advantage} frames is out of range")]
    FrameAdvantage {
        /// The advantage.
        advantage: i16,
    },
    /// A pong without a ping.
    #[error("pong does not answer one of the last 32 pings")]
    Pong,
    /// A checksum report while desync detection is off.
    #[error("checksum report while desync detection is off")]
    ChecksumOff,
    /// A checksum of a frame that cannot be confirmed yet, or that is too old.
    #[error("checksum of frame {frame} is too new or too old")]
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
