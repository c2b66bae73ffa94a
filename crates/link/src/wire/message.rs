//! The control messages that two peers exchange reliably: their bounds and their encoding.
//! Sequences and retries are in [`super::control`].

use serde::{Deserialize, Serialize};

use crate::route::RoutePolicy;

use super::{HEADER_LEN, MAX_DATAGRAM, WireError};

/// Largest control payload.
pub(super) const MAX_CONTROL: usize = MAX_DATAGRAM - HEADER_LEN;
/// Bytes of the two sequences in front of a control message.
const SEQS: usize = 4;
/// Bound of [`Hello::schema`], in bytes: a version such as `1.0`.
const MAX_SCHEMA: usize = 16;
/// Bound of [`Hello::game`] and [`Hello::game_version`], in bytes: room for a name with its
/// version suffix, and small beside a datagram.
const MAX_NAME: usize = 64;
/// Bound of the texts of [`Hello::settings`] together, so that a hello fits into a datagram.
pub const MAX_SETTINGS: usize = 800;
/// Bound of [`Hello::players`]: the capacity of a relay room, [`super::relay::MAX_MEMBERS`].
const MAX_HELLO_PLAYERS: u8 = 64;

/// A message of the control channel: delivered once and in order, over whichever path works. Send it
/// with [`Link::send_control`](crate::link::Link::send_control).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlMessage {
    /// Settings that must be equal on every peer; the first message, refused when a field differs.
    Hello(Hello),
    /// Start barrier: this peer's game has its world for the episode.
    Ready {
        /// The episode's epoch.
        epoch: u16,
        /// The episode's seed, which must be equal on all peers.
        seed: u64,
    },
    /// The sender's tab or window is in the background.
    Hidden,
    /// The sender's tab or window is visible again.
    Visible,
    /// The sender's episode has ended on confirmed frames.
    Ended {
        /// The episode's epoch.
        epoch: u16,
        /// First frame that does not belong to the episode.
        end_frame: i32,
        /// Digest of the confirmed game up to there.
        digest: u64,
    },
    /// The sender leaves the lab session and does not come back.
    Bye {
        /// Why it leaves.
        reason: ByeReason,
    },
    /// Start barrier: the sender's ggrs session of the episode is synchronized with all peers.
    Synchronized {
        /// The episode's epoch.
        epoch: u16,
    },
    /// The instant at which every peer begins the episode. The player in slot 0 sends it once all are
    /// synchronized.
    StartAt {
        /// The episode's epoch.
        epoch: u16,
        /// The instant, in microseconds of the sender's clock.
        at_us: u64,
    },
    /// Inputs of a player who is silent, for a peer that has fewer of them: an input packet that the
    /// sender got from that player.
    LastInputs {
        /// The episode's epoch.
        epoch: u16,
        /// Handle of the silent player.
        player: u8,
        /// First frame of the inputs.
        start_frame: i32,
        /// The inputs as ggrs encodes them, at most [`MAX_LAST_INPUTS`] bytes.
        #[serde(with = "bytes")]
        inputs: Vec<u8>,
    },
}

/// Bound of [`ControlMessage::LastInputs`], in bytes: what the inputs of a packet can take beside its
/// other fields, and a control datagram beside its own.
pub const MAX_LAST_INPUTS: usize = MAX_CONTROL - 16;

/// Bytes of a datagram: copied out of it, so that a length that it claims allocates nothing.
mod bytes {
    use std::fmt;

    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        from.deserialize_bytes(Copied)
    }

    struct Copied;

    impl Visitor<'_> for Copied {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("bytes")
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }
    }
}

/// Why a peer leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ByeReason {
    /// The lab session is over.
    Finished,
    /// The player quit, or the program exited, before the end.
    Left,
    /// Another peer's hello did not match.
    Mismatch,
    /// The lab session failed on the sender's side.
    Failed,
    /// This player is gone, and the sender cannot continue without it. For other peers this may be
    /// the only report of it: the sender is not the one who left.
    PeerGone {
        /// Handle of the player that is gone.
        player: u8,
    },
}

impl ByeReason {
    /// Name in logs and files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Left => "left",
            Self::Mismatch => "mismatch",
            Self::Failed => "failed",
            Self::PeerGone { .. } => "peerGone",
        }
    }
}

/// The settings of a peer. Exchange it before building a session and compare with
/// [`mismatch`](Self::mismatch): sessions with different settings desync.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`super::WIRE_VERSION`] of the sender.
    pub wire_version: u16,
    /// Version of the exported files, at most 16 bytes.
    pub schema: String,
    /// The game's name, at most 64 bytes.
    pub game: String,
    /// The game's version, at most 64 bytes.
    pub game_version: String,
    /// Number of players, 1 to 64.
    pub players: u8,
    /// Simulation frames per second.
    pub fps: u16,
    /// Input delay in frames.
    pub input_delay: u8,
    /// Prediction window in frames.
    pub max_prediction: u8,
    /// Frames between two checksums; zero while desync detection is off.
    pub desync_interval: u32,
    /// Digest of all settings that are not fields here.
    pub config_digest: u64,
    /// These settings by name, with their values as text, as many as fit into [`MAX_SETTINGS`] bytes: a
    /// mismatch names what a digest cannot.
    pub settings: Vec<(String, String)>,
    /// [`RoutePolicy::code`](crate::route::RoutePolicy::code) of the sender.
    pub route_policy: u8,
}

impl Hello {
    /// The first field in which two hellos differ, if any.
    #[must_use]
    pub fn mismatch(&self, other: &Self) -> Option<FieldMismatch> {
        let fields = self.fields().into_iter().zip(other.fields());
        let field = fields
            .map(|((field, ours), (_, theirs))| (field, ours, theirs))
            .find(|(_, ours, theirs)| ours != theirs)
            .map(|(field, ours, theirs)| FieldMismatch {
                field: field.to_owned(),
                ours,
                theirs,
            });
        let digest = || {
            let digest = |hello: &Self| format!("{:016x}", hello.config_digest);
            (self.config_digest != other.config_digest).then(|| FieldMismatch {
                field: String::from("config_digest"),
                ours: digest(self),
                theirs: digest(other),
            })
        };
        field
            .or_else(|| self.setting_mismatch(other))
            .or_else(digest)
    }

    /// The first setting that differs, in our order and then in theirs.
    fn setting_mismatch(&self, other: &Self) -> Option<FieldMismatch> {
        const MISSING: &str = "not set";
        let value = |hello: &Self, name: &str| {
            let set = hello.settings.iter().find(|(of, _)| of == name);
            set.map_or_else(|| String::from(MISSING), |(_, value)| value.clone())
        };
        self.settings
            .iter()
            .chain(&other.settings)
            .map(|(name, _)| FieldMismatch {
                field: name.clone(),
                ours: value(self, name),
                theirs: value(other, name),
            })
            .find(|mismatch| mismatch.ours != mismatch.theirs)
    }

    fn fields(&self) -> [(&'static str, String); 10] {
        let policy = RoutePolicy::ALL
            .into_iter()
            .find(|policy| policy.code() == self.route_policy);
        let policy = policy.map_or_else(
            || self.route_policy.to_string(),
            |policy| policy.as_str().to_owned(),
        );
        [
            ("wire_version", self.wire_version.to_string()),
            ("schema", self.schema.clone()),
            ("game", self.game.clone()),
            ("game_version", self.game_version.clone()),
            ("players", self.players.to_string()),
            ("fps", self.fps.to_string()),
            ("input_delay", self.input_delay.to_string()),
            ("max_prediction", self.max_prediction.to_string()),
            ("desync_interval", self.desync_interval.to_string()),
            ("route_policy", policy),
        ]
    }

    fn check(&self) -> Result<(), WireError> {
        let len = |(name, value): &(String, String)| name.len() + value.len();
        let settings: usize = self.settings.iter().map(len).sum();
        let bounds = [
            ("schema", self.schema.len() <= MAX_SCHEMA),
            ("game", self.game.len() <= MAX_NAME),
            ("game_version", self.game_version.len() <= MAX_NAME),
            ("players", (1..=MAX_HELLO_PLAYERS).contains(&self.players)),
            ("settings", settings <= MAX_SETTINGS),
        ];
        match bounds.into_iter().find(|(_, held)| !held) {
            Some((field, _)) => Err(WireError::ControlBounds { field }),
            None => Ok(()),
        }
    }
}

/// A setting that differs between two peers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} differs: ours is {ours}, theirs is {theirs}")]
pub struct FieldMismatch {
    /// Name of the field in [`Hello`], or of one of its settings.
    pub field: String,
    /// Its value here.
    pub ours: String,
    /// The peer's value.
    pub theirs: String,
}

/// The payload of a control datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ControlFrame {
    /// Sequence of `message`; of the newest message sent when this is a pure acknowledgement.
    pub(crate) seq: u16,
    /// Every message up to and including this sequence was received.
    pub(crate) ack: u16,
    /// The message; `None` for a pure acknowledgement.
    pub(crate) message: Option<ControlMessage>,
}

/// Encodes the payload of a control datagram: `message` with sequence `seq`, or a pure
/// acknowledgement, and everything up to `ack` received. Links do this; it is public for tools that
/// forge datagrams.
///
/// # Errors
/// [`WireError::ControlBounds`] names a field of the message that is outside its bound.
pub fn encode_control(
    seq: u16,
    ack: u16,
    message: Option<&ControlMessage>,
) -> Result<Vec<u8>, WireError> {
    let mut bytes = Vec::with_capacity(64);
    bytes.extend_from_slice(&seq.to_le_bytes());
    bytes.extend_from_slice(&ack.to_le_bytes());
    if let Some(message) = message {
        check(message)?;
        bytes = postcard::to_extend(message, bytes).map_err(|_| WireError::Control)?;
    }
    Ok(bytes)
}

/// Decodes the payload of a control datagram.
///
/// # Errors
/// [`WireError`] when the bytes do not decode, or hold a value outside its bound.
pub(crate) fn decode_control(payload: &[u8]) -> Result<ControlFrame, WireError> {
    if payload.len() > MAX_CONTROL {
        return Err(WireError::TooLong { len: payload.len() });
    }
    let Some((seqs, rest)) = payload.split_first_chunk::<SEQS>() else {
        return Err(WireError::Control);
    };
    let message = if rest.is_empty() {
        None
    } else {
        // Texts are copied out of `rest`, so allocations are no larger than a datagram.
        let (message, tail) =
            postcard::take_from_bytes::<ControlMessage>(rest).map_err(|_| WireError::Control)?;
        if !tail.is_empty() {
            return Err(WireError::Control);
        }
        check(&message)?;
        Some(message)
    };
    Ok(ControlFrame {
        seq: u16::from_le_bytes([seqs[0], seqs[1]]),
        ack: u16::from_le_bytes([seqs[2], seqs[3]]),
        message,
    })
}

fn check(message: &ControlMessage) -> Result<(), WireError> {
    match message {
        ControlMessage::Hello(hello) => hello.check(),
        ControlMessage::LastInputs { inputs, .. } if inputs.len() > MAX_LAST_INPUTS => {
            Err(WireError::ControlBounds { field: "inputs" })
        }
        ControlMessage::LastInputs { .. }
        | ControlMessage::Synchronized { .. }
        | ControlMessage::StartAt { .. }
        | ControlMessage::Ready { .. }
        | ControlMessage::Hidden
        | ControlMessage::Visible
        | ControlMessage::Ended { .. }
        | ControlMessage::Bye { .. } => Ok(()),
    }
}
