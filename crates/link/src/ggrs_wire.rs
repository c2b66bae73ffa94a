//! Encodes ggrs messages into data packets, and validates those from outside before ggrs sees them.
//!
//! ggrs 0.13 trusts its messages: a hostile or broken one can make it panic, overflow, allocate
//! without a bound, or end the match. [`decode`] checks every message against the state of the
//! session, which the caller passes as [`Limits`]; the module itself keeps none.
//!
//! ```
//! use ggrs::NULL_FRAME;
//! use rollback_lab_link::ggrs_wire::{GgrsWireError, Limits, Owner, PlayerBounds, SentPings, decode};
//!
//! let players = [PlayerBounds::new(Owner::Local), PlayerBounds::new(Owner::Sender)];
//! let limits = Limits {
//!     players: &players,
//!     input_bytes: Some(1),
//!     max_prediction: 8,
//!     max_input_delay: 2,
//!     desync_interval: Some(10),
//!     current_frame: 0,
//!     remote_magic: None,
//!     sent_pings: &SentPings::default(),
//! };
//! assert_eq!(decode(&[0xff; 8], &limits).unwrap_err(), GgrsWireError::NotAMessage);
//! ```
//!
//! # The rules, and the code of ggrs 0.13 that makes each necessary
//!
//! | message | rule | because |
//! |---|---|---|
//! | all | at most [`MAX_MESSAGE`] bytes, no trailing bytes | serde reserves up to 1 MiB for a length prefix alone |
//! | all | magic is not zero and never changes | `handle_message` filters nothing while `remote_magic` is 0, and `on_sync_reply` copies any magic into it |
//! | input | one status per player | `on_input` drops other packets too, but only after the allocation |
//! | input | no `disconnect_requested` | `send_pending_output` runs only in state `Running`, so ggrs does not send it; on receipt it ends the match. A peer leaves with [`ControlMessage::Bye`](crate::wire::ControlMessage::Bye) |
//! | input | 0 <= `start_frame`; the first is at most the largest input delay | `InputQueue::advance_queue_head` pads from 0 to it until an assert fails at 128; `start_frame + i` overflows |
//! | input | `start_frame` <= newest received + 1 | it is the sender's oldest input that we have not acknowledged |
//! | input | 1 to 128 inputs, all of the agreed size (or at most 64 bytes) | `bitfield_rle::decode` allocates what the packet claims; see the walk in `ggrs_wire/rle.rs` |
//! | input | newest input <= newest local + window + largest input delay + 2, and <= current - window + 120 | `InputQueue::add_input_by_frame` asserts at most 128 held inputs; a peer can only be a window ahead of what it knows of us |
//! | input | inputs that ggrs has are taken out where it lacks the input before the first of them | ggrs decodes from that input, and drops the packet without an acknowledgement |
//! | input, ack | -1 <= `ack_frame` <= newest local | `pop_pending_output` drops every input that is claimed to have arrived, and nothing restores it |
//! | input | -1 <= each `last_frame` <= the newest frame possible | they are merged by maximum and do not decrease; `last_frame + 1` becomes a frame to load |
//! | input | neither the sender nor this peer is reported disconnected | a peer that has disconnected another one sends it no inputs |
//! | quality report | advantage within a minute of frames | it is averaged into `frames_ahead`, by which games slow down |
//! | quality reply | the pong is one of the last 32 pings sent | the difference to the clock becomes the RTT; `ping * fps` in `update_local_frame_advantage` overflows |
//! | checksum | detection is on | `on_checksum_report` trips a `debug_assert` |
//! | checksum | frame in the last 32 intervals (and 128 frames), not beyond the newest local | `body.frame - 31 * interval` overflows; frames that are never confirmed pile up in `pending_checksums` |
//!
//! Sync requests and replies and keep-alives need no bound beyond the first two: nonces are
//! compared inside ggrs, and each is answered by at most one message.
//!
//! # A player who leaves a session of three
//!
//! Once a peer has disconnected a player, every input packet of it reports that player as disconnected,
//! with the last frame that this peer got of it. Such packets are not refused: they carry the inputs
//! by which the others go on. But ggrs 0.13 must not read those two fields as they come:
//!
//! - `update_player_disconnects` disconnects the player here too and loads the frame after its last
//!   one. `SyncLayer::load_frame` asserts that this frame is in the past and inside the window.
//! - It takes the smallest frame that any peer reports, and does not keep it. If that is smaller than
//!   this peer's own, the frame is loaded again in every update, until it is outside the window.
//!
//! So [`decode`] rewrites them before ggrs sees the message: a player counts as disconnected only
//! where [`PlayerBounds::disconnected`] allows it, and every reported frame becomes the largest one, so
//! that ggrs uses the last frame that it has itself. That all peers have the same last frame is up to
//! the caller: see [`PeerInputs`].

mod bundle;
mod departure;
mod error;
mod mirror;
mod peer_inputs;
mod rle;

use ggrs::NULL_FRAME;

use crate::{
    frame::Frame,
    wire::{HEADER_LEN, MAX_DATAGRAM, relay::MAX_MEMBERS},
};

use self::{
    mirror::{BodyMirror, InputMirror, MessageMirror, StatusMirror, StatusesMirror},
    rle::{Malformed, count_inputs, without_first},
};

pub use self::bundle::{Bundle, messages};
pub use self::departure::{Departure, DepartureStep, shares_inputs};
pub use self::error::GgrsWireError;
pub use self::peer_inputs::{PeerInputs, Refused};

/// Largest encoded message, in bytes: the payload of a datagram.
pub const MAX_MESSAGE: usize = MAX_DATAGRAM - HEADER_LEN - bundle::PREFIX;
/// Inputs that one packet can hold: `PENDING_OUTPUT_SIZE` of ggrs 0.13.
const MAX_INPUTS: usize = 128;
/// Largest serialized input, in bytes, of a game whose inputs vary in size: what fits into a message
/// beside its other fields. Its 128 inputs expand to 128 KiB at most, which is what ggrs allocates for
/// one message; whether they fit is up to the game, whose session ends with an error if they do not.
pub const MAX_VARIABLE_INPUT: usize = 1_000;
/// Largest input delay, in frames, that the rules allow: half a second at 60 Hz.
pub const MAX_INPUT_DELAY: Frame = 32;
/// How far the newest input may be ahead of the oldest frame in the window: ggrs's queue of 128, less
/// a few for the frames that its tail lags behind.
const QUEUE_REACH: Frame = 120;
/// Largest frame advantage: a minute at 60 Hz. Only a suspended peer is further behind.
const MAX_ADVANTAGE: u16 = 3_600;
/// Checksums that ggrs keeps: `MAX_CHECKSUM_HISTORY_SIZE`.
const CHECKSUM_HISTORY: Frame = 32;
/// Age in frames that a checksum may have beyond its history, because it was in flight: two seconds
/// at 60 Hz.
const CHECKSUM_SLACK: Frame = 128;

/// Which peer controls a player, from the view of one link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// This peer.
    Local,
    /// The peer whose message is validated.
    Sender,
    /// Another remote peer.
    Other,
}

/// The state of one player while a message is validated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlayerBounds {
    /// Which peer controls it.
    pub owner: Owner,
    /// The newest input frame: for a local player the newest one sent (the
    /// [`Outgoing::newest_input_frame`]), otherwise the newest one accepted (the
    /// [`Checked::newest_input_frame`]). [`NULL_FRAME`] before the first.
    pub last_frame: Frame,
    /// The first input frame accepted of the sender, which its input delay decides. [`NULL_FRAME`]
    /// before it, and of other players.
    pub first_frame: Frame,
    /// Whether a report that it is disconnected reaches ggrs. Set it only while the session's current
    /// frame is more than one beyond `last_frame`, and hand over no further input of the player.
    pub disconnected: bool,
}

impl PlayerBounds {
    /// Creates a connected player without inputs.
    #[must_use]
    pub const fn new(owner: Owner) -> Self {
        Self {
            owner,
            last_frame: NULL_FRAME,
            first_frame: NULL_FRAME,
            disconnected: false,
        }
    }

    /// Takes in the inputs of a checked message of this player.
    pub fn record(&mut self, checked: &Checked) {
        if let Some(newest) = checked.newest_input_frame.filter(|n| *n > self.last_frame) {
            if self.last_frame == NULL_FRAME {
                self.first_frame = checked.first_input_frame.unwrap_or(newest);
            }
            self.last_frame = newest;
        }
    }
}

/// The state of the session that bounds one message from one peer.
#[derive(Clone, Copy, Debug)]
pub struct Limits<'a> {
    /// All players of the session, by handle.
    pub players: &'a [PlayerBounds],
    /// Serialized size of the sender's inputs of one frame (all its players together);
    /// `None` when it varies, and then each may have [`MAX_VARIABLE_INPUT`] bytes.
    pub input_bytes: Option<usize>,
    /// Prediction window in frames.
    pub max_prediction: Frame,
    /// Largest input delay that any peer may use, at most [`MAX_INPUT_DELAY`].
    pub max_input_delay: Frame,
    /// Frames between two checksums; `None` while desync detection is off.
    pub desync_interval: Option<u32>,
    /// The session's current frame.
    pub current_frame: Frame,
    /// The [`Checked::magic`] of the first message accepted in this episode.
    pub remote_magic: Option<u16>,
    /// The pings sent to this peer in this episode.
    pub sent_pings: &'a SentPings,
}

impl Limits<'_> {
    fn newest(&self, owner: Owner) -> Frame {
        self.players
            .iter()
            .filter(|player| player.owner == owner)
            .map(|player| player.last_frame)
            .max()
            .unwrap_or(NULL_FRAME)
    }

    fn first_received(&self) -> Frame {
        let sender = self
            .players
            .iter()
            .find(|player| player.owner == Owner::Sender);
        sender.map_or(NULL_FRAME, |player| player.first_frame)
    }

    fn delay(&self) -> Frame {
        self.max_input_delay.clamp(0, MAX_INPUT_DELAY)
    }

    /// The newest frame for which any peer can have an input.
    fn horizon(&self) -> Frame {
        let window = self.max_prediction.clamp(0, QUEUE_REACH);
        let ahead_of_us = self
            .newest(Owner::Local)
            .saturating_add(window + self.delay() + 2);
        let queue = self.current_frame.saturating_add(QUEUE_REACH - window);
        ahead_of_us.min(queue)
    }
}

/// Pings remembered: ggrs sends one every 200 ms, so these span six seconds of round trip.
const PINGS: usize = 32;

/// The last 32 pings sent to one peer: a pong must echo one of them.
#[derive(Clone, Debug, Default)]
pub struct SentPings {
    ring: [Option<u128>; PINGS],
    next: usize,
}

impl SentPings {
    /// Records a ping, see [`Outgoing::ping`]; the oldest one is dropped.
    pub fn record(&mut self, ping: u128) {
        self.ring[self.next] = Some(ping);
        self.next = (self.next + 1) % self.ring.len();
    }

    /// Whether `pong` echoes one of them.
    fn contains(&self, pong: u128) -> bool {
        self.ring.contains(&Some(pong))
    }
}

/// The kind of a ggrs message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// A request of the handshake.
    SyncRequest,
    /// A reply of the handshake.
    SyncReply,
    /// Inputs, with an acknowledgement.
    Input,
    /// An acknowledgement alone.
    InputAck,
    /// A ping with the sender's frame advantage.
    QualityReport,
    /// A pong.
    QualityReply,
    /// The checksum of a confirmed frame.
    ChecksumReport,
    /// Nothing.
    KeepAlive,
}

/// The content of a validated message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Its kind.
    pub kind: MessageKind,
    /// The sender's session, see [`Limits::remote_magic`].
    pub magic: u16,
    /// First frame of an input packet.
    pub first_input_frame: Option<Frame>,
    /// Newest frame of an input packet: [record](PlayerBounds::record) it.
    pub newest_input_frame: Option<Frame>,
    /// The last frame for which the sender has the inputs of all players, by an input packet.
    /// [`NULL_FRAME`] before it has any.
    pub confirmed_frame: Option<Frame>,
    /// A checksum report: a frame, and the checksum of the sender's state before it.
    pub checksum: Option<(Frame, u128)>,
    /// Players that an input packet reports as disconnected: the bit of each handle.
    pub disconnected: u64,
}

/// The content of a message of the local session, see [`inspect_outgoing`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Its kind.
    pub kind: MessageKind,
    /// First frame of an input packet.
    pub first_input_frame: Option<Frame>,
    /// Newest frame of an input packet; it becomes the local [`PlayerBounds::last_frame`].
    pub newest_input_frame: Option<Frame>,
    /// The ping of a quality report, for [`SentPings::record`].
    pub ping: Option<u128>,
}

/// Encodes a message of ggrs into `out` and returns its length. Send it with
/// [`Link::send_data`](crate::link::Link::send_data).
///
/// # Errors
/// [`GgrsWireError::TooLong`] when it does not fit into `out`.
pub fn encode(message: &ggrs::Message, out: &mut [u8]) -> Result<usize, GgrsWireError> {
    postcard::to_slice(message, out)
        .map(|used| used.len())
        .map_err(|_| GgrsWireError::TooLong)
}

/// The length of a message as [`encode`] would write it.
///
/// # Errors
/// [`GgrsWireError::NotAMessage`] when it cannot be encoded at all.
pub fn encoded_len(message: &ggrs::Message) -> Result<usize, GgrsWireError> {
    let counted = postcard::serialize_with_flavor(message, postcard::ser_flavors::Size::default());
    counted.map_err(|_| GgrsWireError::NotAMessage)
}

/// Checks a message from a peer against the rules of this module, without allocating.
#[cfg(test)]
fn validate(bytes: &[u8], limits: &Limits<'_>) -> Result<Checked, GgrsWireError> {
    check(&read(bytes)?, limits)
}

fn check(message: &MessageMirror<'_>, limits: &Limits<'_>) -> Result<Checked, GgrsWireError> {
    let other_session = limits
        .remote_magic
        .is_some_and(|magic| magic != message.magic);
    if message.magic == 0 || other_session {
        return Err(GgrsWireError::Magic {
            magic: message.magic,
        });
    }
    let mut checked = Checked {
        kind: kind(&message.body),
        magic: message.magic,
        first_input_frame: None,
        newest_input_frame: None,
        confirmed_frame: None,
        checksum: None,
        disconnected: 0,
    };
    match &message.body {
        BodyMirror::SyncRequest(_) | BodyMirror::SyncReply(_) | BodyMirror::KeepAlive => {}
        BodyMirror::Input(input) => {
            checked.first_input_frame = Some(input.start_frame);
            checked.newest_input_frame = Some(check_input(input, limits)?);
            checked.confirmed_frame = confirmed(input.statuses.as_slice());
            checked.disconnected = disconnected(input.statuses.as_slice());
        }
        BodyMirror::InputAck(frame) => check_ack(*frame, limits)?,
        BodyMirror::QualityReport {
            frame_advantage, ..
        } => {
            if frame_advantage.unsigned_abs() > MAX_ADVANTAGE {
                return Err(GgrsWireError::FrameAdvantage {
                    advantage: *frame_advantage,
                });
            }
        }
        BodyMirror::QualityReply(pong) => {
            if !limits.sent_pings.contains(*pong) {
                return Err(GgrsWireError::Pong);
            }
        }
        BodyMirror::ChecksumReport { checksum, frame } => {
            check_checksum(*frame, limits)?;
            checked.checksum = Some((*frame, *checksum));
        }
    }
    Ok(checked)
}

/// Validates a message from a peer and decodes it for ggrs. Refused messages allocate nothing.
///
/// # Errors
/// [`GgrsWireError`] names the broken rule. Count it with
/// [`Link::count_malformed`](crate::link::Link::count_malformed), and drop the message.
pub fn decode(
    bytes: &[u8],
    limits: &Limits<'_>,
) -> Result<(ggrs::Message, Checked), GgrsWireError> {
    let mut mirror = read(bytes)?;
    let checked = check(&mirror, limits)?;
    // Between two players no third one can be reported.
    let reports = limits
        .players
        .iter()
        .any(|player| player.owner == Owner::Other);
    let mut inputs = [0; MAX_MESSAGE];
    let mut rewritten = false;
    if let BodyMirror::Input(input) = &mut mirror.body {
        let known = limits.newest(Owner::Sender);
        if checked.newest_input_frame > Some(known) && !holds_base(input.start_frame, limits) {
            let has = (known + 1 - input.start_frame).unsigned_abs();
            input.bytes = without_first(has, input.bytes, &mut inputs)
                .map_err(|error| malformed(error, limits.input_bytes))?;
            input.start_frame = known + 1;
            rewritten = true;
        }
        if reports {
            hide_reports(&mut input.statuses, limits);
            rewritten = true;
        }
    }
    let message = if rewritten {
        let mut buffer = [0; MAX_MESSAGE + REWRITE_GROWTH];
        postcard::to_slice(&mirror, &mut buffer)
            .and_then(|rewritten| postcard::from_bytes(rewritten))
    } else {
        postcard::from_bytes(bytes)
    };
    let message = message.map_err(|_| GgrsWireError::NotAMessage)?;
    Ok((message, checked))
}

/// Whether ggrs 0.13 has the input before `start_frame`, from which it decodes a packet: each input is
/// encoded as the difference to the one before.
///
/// See `UdpProtocol::on_input`: it decodes the first packet from a blank input, and forgets inputs older
/// than twice the window. So it lacks that input until an acknowledgement has reached a sender with an
/// input delay, and when a sender catches up many frames at once.
fn holds_base(start_frame: Frame, limits: &Limits<'_>) -> bool {
    let last = limits.newest(Owner::Sender);
    let oldest = last.saturating_sub(limits.max_prediction.saturating_mul(2));
    let base = start_frame - 1;
    let blank = base == NULL_FRAME && base >= oldest;
    last == NULL_FRAME || blank || base >= limits.first_received().max(oldest)
}

/// By how many bytes a message may grow when it is rewritten: a frame takes one to five, that of each
/// player in [`hide_reports`] and the first one of the inputs.
const REWRITE_GROWTH: usize = 4 * (MAX_MEMBERS + 1);

/// Leaves of what a peer reports about the other players what ggrs 0.13 can act upon.
fn hide_reports(statuses: &mut StatusesMirror, limits: &Limits<'_>) {
    for (status, player) in statuses.as_mut_slice().iter_mut().zip(limits.players) {
        if player.owner != Owner::Local {
            status.disconnected &= player.disconnected;
            status.last_frame = Frame::MAX;
        }
    }
}

/// See `P2PSession::confirmed_frame` of ggrs 0.13.
fn confirmed(statuses: &[StatusMirror]) -> Option<Frame> {
    let connected = statuses.iter().filter(|status| !status.disconnected);
    connected.map(|status| status.last_frame).min()
}

/// The bit of each player that is reported as disconnected.
fn disconnected(statuses: &[StatusMirror]) -> u64 {
    let reported = statuses.iter().enumerate().filter(|(_, s)| s.disconnected);
    reported.fold(0, |bits, (handle, _)| bits | 1 << handle)
}

/// The first frame and the encoded inputs of an input packet: what another peer needs to hand the same
/// inputs to ggrs, see [`stand_in`]. `None` for any other message.
#[must_use]
pub fn inputs(bytes: &[u8]) -> Option<(Frame, &[u8])> {
    match read(bytes).ok()?.body {
        BodyMirror::Input(input) => Some((input.start_frame, input.bytes)),
        _ => None,
    }
}

/// Writes an input packet in the name of a peer that is silent, with [`inputs`] that it sent to another
/// peer. [`decode`] it like one that came. Returns its length.
///
/// # Errors
/// [`GgrsWireError::TooLong`] when it does not fit into `out`.
pub fn stand_in(
    magic: u16,
    players: usize,
    (start_frame, bytes): (Frame, &[u8]),
    out: &mut [u8],
) -> Result<usize, GgrsWireError> {
    let message = MessageMirror {
        magic,
        body: BodyMirror::Input(InputMirror {
            statuses: StatusesMirror::connected(players),
            disconnect_requested: false,
            start_frame,
            // Acknowledges nothing.
            ack_frame: NULL_FRAME,
            bytes,
        }),
    };
    let written = postcard::to_slice(&message, out).map_err(|_| GgrsWireError::TooLong)?;
    Ok(written.len())
}

/// A message of the session with this magic that says nothing: ggrs counts its time-out from there.
///
/// # Errors
/// [`GgrsWireError::NotAMessage`] when ggrs does not read it.
pub fn keep_alive(magic: u16) -> Result<ggrs::Message, GgrsWireError> {
    let message = MessageMirror {
        magic,
        body: BodyMirror::KeepAlive,
    };
    let mut out = [0; 8];
    postcard::to_slice(&message, &mut out)
        .and_then(|bytes| postcard::from_bytes(bytes))
        .map_err(|_| GgrsWireError::NotAMessage)
}

/// Reads the frames and the ping of a message that the local ggrs session sends, encoded with
/// [`encode`].
///
/// # Errors
/// [`GgrsWireError`] when the bytes do not decode.
pub fn inspect_outgoing(bytes: &[u8]) -> Result<Outgoing, GgrsWireError> {
    let message = read(bytes)?;
    let mut outgoing = Outgoing {
        kind: kind(&message.body),
        first_input_frame: None,
        newest_input_frame: None,
        ping: None,
    };
    match &message.body {
        BodyMirror::Input(input) => {
            let count = count_inputs(input.bytes, MAX_INPUTS + 1, |_| true)
                .map_err(|error| malformed(error, None))?;
            outgoing.first_input_frame = Some(input.start_frame);
            outgoing.newest_input_frame = Some(newest(input.start_frame, count));
        }
        BodyMirror::QualityReport { ping, .. } => outgoing.ping = Some(*ping),
        _ => {}
    }
    Ok(outgoing)
}

fn read(bytes: &[u8]) -> Result<MessageMirror<'_>, GgrsWireError> {
    if bytes.len() > MAX_MESSAGE {
        return Err(GgrsWireError::TooLong);
    }
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        _ => Err(GgrsWireError::NotAMessage),
    }
}

const fn kind(body: &BodyMirror<'_>) -> MessageKind {
    match body {
        BodyMirror::SyncRequest(_) => MessageKind::SyncRequest,
        BodyMirror::SyncReply(_) => MessageKind::SyncReply,
        BodyMirror::Input(_) => MessageKind::Input,
        BodyMirror::InputAck(_) => MessageKind::InputAck,
        BodyMirror::QualityReport { .. } => MessageKind::QualityReport,
        BodyMirror::QualityReply(_) => MessageKind::QualityReply,
        BodyMirror::ChecksumReport { .. } => MessageKind::ChecksumReport,
        BodyMirror::KeepAlive => MessageKind::KeepAlive,
    }
}

/// Checks an input packet and returns its newest frame.
fn check_input(input: &InputMirror<'_>, limits: &Limits<'_>) -> Result<Frame, GgrsWireError> {
    if input.disconnect_requested {
        return Err(GgrsWireError::DisconnectRequested);
    }
    let last_received = limits.newest(Owner::Sender);
    let latest_start = if last_received == NULL_FRAME {
        limits.delay()
    } else {
        last_received.saturating_add(1)
    };
    if !(0..=latest_start).contains(&input.start_frame) {
        return Err(GgrsWireError::StartFrame {
            frame: input.start_frame,
            latest: latest_start,
        });
    }
    check_ack(input.ack_frame, limits)?;
    let statuses = input.statuses.as_slice();
    if statuses.len() != limits.players.len() {
        return Err(GgrsWireError::StatusCount {
            len: statuses.len(),
            players: limits.players.len(),
        });
    }
    for (handle, (status, player)) in statuses.iter().zip(limits.players).enumerate() {
        check_status(handle, *status, *player, limits)?;
    }
    let count = count_inputs(input.bytes, MAX_INPUTS, |len| match limits.input_bytes {
        Some(expected) => len == expected,
        None => len <= MAX_VARIABLE_INPUT,
    })
    .map_err(|error| malformed(error, limits.input_bytes))?;
    if count == 0 {
        return Err(GgrsWireError::InputCount);
    }
    let newest = newest(input.start_frame, count);
    let latest = limits.horizon();
    if newest > latest {
        return Err(GgrsWireError::TooFarAhead {
            frame: newest,
            latest,
        });
    }
    Ok(newest)
}

fn check_ack(frame: Frame, limits: &Limits<'_>) -> Result<(), GgrsWireError> {
    if (NULL_FRAME..=limits.newest(Owner::Local)).contains(&frame) {
        Ok(())
    } else {
        Err(GgrsWireError::AckFrame { frame })
    }
}

fn check_status(
    handle: usize,
    status: StatusMirror,
    player: PlayerBounds,
    limits: &Limits<'_>,
) -> Result<(), GgrsWireError> {
    let latest = match player.owner {
        Owner::Local => limits.newest(Owner::Local),
        Owner::Sender | Owner::Other => limits.horizon(),
    };
    if !(NULL_FRAME..=latest).contains(&status.last_frame) {
        return Err(GgrsWireError::StatusFrame {
            player: handle,
            frame: status.last_frame,
        });
    }
    if status.disconnected && player.owner != Owner::Other {
        return Err(GgrsWireError::StatusDisconnected { player: handle });
    }
    Ok(())
}

fn check_checksum(frame: Frame, limits: &Limits<'_>) -> Result<(), GgrsWireError> {
    let Some(interval) = limits.desync_interval else {
        return Err(GgrsWireError::ChecksumOff);
    };
    let history = Frame::try_from(interval)
        .unwrap_or(Frame::MAX)
        .saturating_mul(CHECKSUM_HISTORY)
        .saturating_add(CHECKSUM_SLACK);
    let oldest = limits.current_frame.saturating_sub(history).max(0);
    if (oldest..=limits.newest(Owner::Local)).contains(&frame) {
        Ok(())
    } else {
        Err(GgrsWireError::ChecksumFrame { frame })
    }
}

/// The last frame of `count` inputs from `start` on; `count` is at most a little over 128.
fn newest(start: Frame, count: usize) -> Frame {
    start
        .saturating_add(Frame::try_from(count).unwrap_or(Frame::MAX))
        .saturating_sub(1)
}

const fn malformed(malformed: Malformed, expected: Option<usize>) -> GgrsWireError {
    match malformed {
        Malformed::Varint | Malformed::Literal | Malformed::Truncated => GgrsWireError::Encoding,
        Malformed::TooMany => GgrsWireError::InputCount,
        Malformed::Shape(len) => GgrsWireError::InputSize { len, expected },
    }
}

#[cfg(test)]
mod tests;
