//! The datagram between two peers, the same on both paths: a header of 37 bytes, then a payload.
//!
//! | bytes | field |
//! |---|---|
//! | 0 | version (high nibble), kind (low nibble) |
//! | 1 | flags: suspect, failed over, hidden; three more are kept for fragments, sealed payloads, and what follows |
//! | 2 | send interval in steps of 2 ms |
//! | 3 | interval of the game's ticks in steps of 2 ms |
//! | 4, 5 | age of the game's last tick in milliseconds |
//! | 6, 7 | epoch |
//! | 8, 9 | data sequence, shared by both paths |
//! | 10 to 13 | packet number on this path, modulo 2^32 |
//! | 14 to 19, 20 to 25 | acknowledgement of the direct path, of the relay: newest number modulo 2^16, map of 32 |
//! | 26 | silence on the direct path in steps of 4 ms |
//! | 27 to 30 | time sent, in microseconds modulo 2^32 |
//! | 31 to 34 | time echoed, of this path |
//! | 35, 36 | how long the echo was held, in steps of 16 us |
//!
//! A packet number never repeats in a lab session: both sides count in 64 bits, and
//! [`expand_number`] restores what the wire leaves out.
//!
//! Numbers are little-endian. Decoding allocates nothing, and bytes from outside become a
//! [`WireError`] with a stable counter key, not a panic.
//!
//! ```
//! use rollback_lab_link::wire::{DatagramKind, HEADER_LEN, Header};
//!
//! let mut datagram = [0; HEADER_LEN + 5];
//! let header = Header { epoch: 1, data_seq: 7, ..Header::new(DatagramKind::Data) };
//! let (head, payload) = datagram.split_first_chunk_mut().expect("longer than a header");
//! header.encode(head);
//! payload.copy_from_slice(b"input");
//!
//! let (decoded, payload) = Header::decode(&datagram)?;
//! assert_eq!((decoded.data_seq, payload), (7, &b"input"[..]));
//! # Ok::<(), rollback_lab_link::wire::WireError>(())
//! ```

use std::time::Duration;

pub mod clock;
pub(crate) mod control;
mod message;
pub mod relay;

pub use crate::path::Path;
pub(crate) use message::decode_control;
pub use message::{
    ByeReason, ControlMessage, FieldMismatch, Hello, MAX_LAST_INPUTS, MAX_SETTINGS, encode_control,
};

/// Bytes of the fixed header in front of every datagram.
pub const HEADER_LEN: usize = 37;
/// Largest datagram, header included: below the payload of one packet on every common path, the
/// 1,280 bytes of IPv6's minimum MTU less the headers of UDP, DTLS and SCTP.
pub const MAX_DATAGRAM: usize = 1200;
/// Version of this layout, the high nibble of byte 0. Datagrams of another version are refused.
pub const WIRE_VERSION: u8 = 2;

/// Flags that this version knows. A datagram with another one is refused: what it says about its
/// payload is not understood.
const FLAGS: u8 = SUSPECT | FAILED_OVER | HIDDEN;
const SUSPECT: u8 = 1;
const FAILED_OVER: u8 = 2;
const HIDDEN: u8 = 4;

/// Unit of the advertised send interval: one byte reaches half a second.
const INTERVAL_UNIT_MICROS: u128 = 2_000;
/// Largest interval code; it means "this long or longer".
const INTERVAL_MAX: u8 = u8::MAX;
/// Tick age of a sender without a game that ticks.
const NO_TICK: u16 = u16::MAX;
/// Unit of the reported silence: one byte reaches 1,020 ms, four times the longest silence rule.
const SILENCE_UNIT_MICROS: u128 = 4_000;
/// Unit of the echo's hold time: two bytes reach 1.05 s at a resolution below any RTT of interest.
const HOLD_UNIT_MICROS: u128 = 16;
/// Hold code of a header that echoes nothing.
const NO_ECHO: u16 = u16::MAX;

/// What a datagram holds behind its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "reflect", derive(bevy_reflect::Reflect))]
pub enum DatagramKind {
    /// The messages of ggrs of one tick, see [`ggrs_wire::messages`](crate::ggrs_wire::messages).
    Data,
    /// Nothing: the header alone, sent in ticks in which ggrs sends nothing.
    Heartbeat,
    /// Nothing: keeps the measurements of an idle path fresh.
    Probe,
    /// A [`ControlMessage`] of the reliable channel, or an acknowledgement of one.
    Control,
}

impl DatagramKind {
    const fn code(self) -> u8 {
        match self {
            Self::Data => 0,
            Self::Heartbeat => 1,
            Self::Probe => 2,
            Self::Control => 3,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Data),
            1 => Some(Self::Heartbeat),
            2 => Some(Self::Probe),
            3 => Some(Self::Control),
            _ => None,
        }
    }
}

/// Acknowledges what was received on one path: the newest sequence and the 31 before it.
///
/// Bit `i` of `map` is set when `highest - i` was received, so bit 0 is set once anything was
/// received, and `map == 0` means that nothing was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathAck {
    /// Newest path sequence received. Meaningless while `map` is zero.
    pub highest: u16,
    /// Receipt of `highest` (bit 0) and of the 31 sequences before it.
    pub map: u32,
}

/// Where a sequence lies among those received before, see [`PathAck::record`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SeqOrder {
    /// Newer than everything before; `skipped` sequences lie between it and the newest so far.
    Newest {
        /// Sequences jumped over: lost, or still in flight.
        skipped: u16,
    },
    /// Older than the newest, seen for the first time.
    Reordered,
    /// Seen before.
    Duplicate,
    /// Too old for the map: whether it was seen is not known.
    TooOld,
}

impl PathAck {
    /// Nothing received yet.
    pub const EMPTY: Self = Self { highest: 0, map: 0 };

    /// The newest sequence received, if anything was.
    pub(crate) const fn newest(self) -> Option<u16> {
        if self.map == 0 {
            None
        } else {
            Some(self.highest)
        }
    }

    /// Marks `seq` as received.
    pub(crate) fn record(&mut self, seq: u16) -> SeqOrder {
        if self.map == 0 {
            *self = Self {
                highest: seq,
                map: 1,
            };
            return SeqOrder::Newest { skipped: 0 };
        }
        // A difference of -32,768 has no direction in serial arithmetic (RFC 1982); it counts as old.
        let ahead = seq_diff(seq, self.highest);
        if ahead > 0 {
            let shift = u32::from(ahead.unsigned_abs());
            self.map = self.map.checked_shl(shift).unwrap_or(0) | 1;
            self.highest = seq;
            return SeqOrder::Newest {
                skipped: ahead.unsigned_abs() - 1,
            };
        }
        let behind = u32::from(ahead.unsigned_abs());
        if behind >= 32 {
            return SeqOrder::TooOld;
        }
        let bit = 1 << behind;
        if self.map & bit != 0 {
            return SeqOrder::Duplicate;
        }
        self.map |= bit;
        SeqOrder::Reordered
    }
}

/// Sends the newest timestamp received on one path back, with the time it was held.
///
/// Together with the header's own `sent` and the time of arrival these are the four timestamps of
/// NTP (RFC 5905, section 8): round trip and clock offset of that path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    /// The `sent` of the echoed datagram.
    pub sent: u32,
    /// Time between its arrival and this datagram. Up to 1.048 s on the wire, in steps of 16 us;
    /// an echo held for longer is not encoded.
    pub hold: Duration,
}

/// The fixed header of every datagram. [`Link`](crate::link::Link) writes and reads it; decode it
/// yourself to inspect captured datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The sender's own evidence about its path is bad.
    pub degraded: bool,
    /// The sender has failed over: it stays on the relay for the rest of the lab session.
    pub failed_over: bool,
    /// The sender's tab or window is hidden.
    pub hidden: bool,
    /// What follows the header.
    pub kind: DatagramKind,
    /// The sender's own send interval; `None` when unknown. Steps of 2 ms; 510 ms means that or more.
    pub interval: Option<Duration>,
    /// The usual time between two ticks of the sender's game; `None` when unknown. As coarse as
    /// [`interval`](Self::interval).
    pub tick_interval: Option<Duration>,
    /// Time since the sender's game ticked last, in steps of 1 ms up to 65,534 ms; `None` without a
    /// game that ticks. A peer's network task answers while its game stands still.
    pub tick_age: Option<Duration>,
    /// Episode that the datagram belongs to; data of another epoch is dropped and counted.
    pub epoch: u16,
    /// Sequence of the data packet, shared by both paths, by which copies are dropped. Heartbeats
    /// take a sequence of their own; probes and control packets carry the newest one used.
    pub data_seq: u16,
    /// Number of this datagram on the path that it travels, modulo 2^32.
    pub number: u32,
    /// What the sender received, by [`Path::index`]: acknowledgements of a dead path still arrive
    /// over the other.
    pub acks: [PathAck; 2],
    /// Time since the sender received anything on the direct path. Steps of 4 ms, up to 1,020 ms.
    /// Diagnostic: no rule uses it.
    pub silence: Duration,
    /// The sender's monotonic clock, in microseconds modulo 2^32.
    pub sent: u32,
    /// The newest timestamp that the sender received on this path.
    pub echo: Option<Echo>,
}

impl Header {
    /// A header of `kind` with everything else zero, unknown or empty.
    #[must_use]
    pub const fn new(kind: DatagramKind) -> Self {
        Self {
            degraded: false,
            failed_over: false,
            hidden: false,
            kind,
            interval: None,
            tick_interval: None,
            tick_age: None,
            epoch: 0,
            data_seq: 0,
            number: 0,
            acks: [PathAck::EMPTY; 2],
            silence: Duration::ZERO,
            sent: 0,
            echo: None,
        }
    }

    /// Writes the header. Durations are rounded down to their wire units (the interval to the
    /// nearest) and saturate.
    pub fn encode(&self, out: &mut [u8; HEADER_LEN]) {
        let hold = self.echo.map_or(NO_ECHO, |echo| {
            let units = echo.hold.as_micros() / HOLD_UNIT_MICROS;
            u16::try_from(units).unwrap_or(NO_ECHO)
        });
        let echo = self.echo.filter(|_| hold != NO_ECHO);
        let tick_age = self.tick_age.map_or(NO_TICK, |age| {
            u16::try_from(age.as_millis()).map_or(NO_TICK - 1, |ms| ms.min(NO_TICK - 1))
        });
        out[0] = (WIRE_VERSION << 4) | self.kind.code();
        out[1] = flag(self.degraded, SUSPECT)
            | flag(self.failed_over, FAILED_OVER)
            | flag(self.hidden, HIDDEN);
        out[2] = encode_interval(self.interval);
        out[3] = encode_interval(self.tick_interval);
        out[4..6].copy_from_slice(&tick_age.to_le_bytes());
        out[6..8].copy_from_slice(&self.epoch.to_le_bytes());
        out[8..10].copy_from_slice(&self.data_seq.to_le_bytes());
        out[10..14].copy_from_slice(&self.number.to_le_bytes());
        for (ack, out) in self.acks.iter().zip(out[14..26].chunks_exact_mut(6)) {
            out[..2].copy_from_slice(&ack.highest.to_le_bytes());
            out[2..].copy_from_slice(&ack.map.to_le_bytes());
        }
        let silence = self.silence.as_micros() / SILENCE_UNIT_MICROS;
        out[26] = u8::try_from(silence).unwrap_or(u8::MAX);
        out[27..31].copy_from_slice(&self.sent.to_le_bytes());
        out[31..35].copy_from_slice(&echo.map_or(0, |echo| echo.sent).to_le_bytes());
        out[35..37].copy_from_slice(&hold.to_le_bytes());
    }

    /// Reads the header of `datagram` and returns it with the payload behind it.
    ///
    /// # Errors
    /// [`WireError`] when the datagram is too short, too long, of another version, or contradicts
    /// itself.
    pub fn decode(datagram: &[u8]) -> Result<(Self, &[u8]), WireError> {
        if datagram.len() > MAX_DATAGRAM {
            return Err(WireError::TooLong {
                len: datagram.len(),
            });
        }
        let Some((head, payload)) = datagram.split_first_chunk::<HEADER_LEN>() else {
            return Err(WireError::TooShort {
                len: datagram.len(),
            });
        };
        let version = head[0] >> 4;
        if version != WIRE_VERSION {
            return Err(WireError::Version { theirs: version });
        }
        let code = head[0] & 0x0f;
        let kind = DatagramKind::from_code(code).ok_or(WireError::Kind { code })?;
        let flags = head[1];
        if flags & !FLAGS != 0 {
            return Err(WireError::Flags { flags });
        }
        if payload.is_empty() != matches!(kind, DatagramKind::Heartbeat | DatagramKind::Probe) {
            return Err(WireError::PayloadLength {
                kind,
                len: payload.len(),
            });
        }
        let acks = [ack_at(head, 14), ack_at(head, 20)];
        if acks.iter().any(|ack| ack.map != 0 && ack.map & 1 == 0) {
            return Err(WireError::AckMap);
        }
        let tick_age = u16_at(head, 4);
        let hold = u16_at(head, 35);
        let header = Self {
            degraded: flags & SUSPECT != 0,
            failed_over: flags & FAILED_OVER != 0,
            hidden: flags & HIDDEN != 0,
            kind,
            interval: decode_interval(head[2]),
            tick_interval: decode_interval(head[3]),
            tick_age: (tick_age != NO_TICK).then(|| Duration::from_millis(u64::from(tick_age))),
            epoch: u16_at(head, 6),
            data_seq: u16_at(head, 8),
            number: u32_at(head, 10),
            acks,
            silence: Duration::from_millis(u64::from(head[26]) * 4),
            sent: u32_at(head, 27),
            echo: (hold != NO_ECHO).then(|| Echo {
                sent: u32_at(head, 31),
                hold: Duration::from_micros(u64::from(hold) * 16),
            }),
        };
        Ok((header, payload))
    }
}

fn decode_interval(code: u8) -> Option<Duration> {
    (code != 0).then(|| Duration::from_millis(u64::from(code) * 2))
}

const fn flag(set: bool, flag: u8) -> u8 {
    if set { flag } else { 0 }
}

fn encode_interval(interval: Option<Duration>) -> u8 {
    interval.map_or(0, |interval| {
        let units = (interval.as_micros() + INTERVAL_UNIT_MICROS / 2) / INTERVAL_UNIT_MICROS;
        u8::try_from(units)
            .unwrap_or(INTERVAL_MAX)
            .clamp(1, INTERVAL_MAX)
    })
}

fn u16_at(head: &[u8; HEADER_LEN], at: usize) -> u16 {
    u16::from_le_bytes([head[at], head[at + 1]])
}

fn u32_at(head: &[u8; HEADER_LEN], at: usize) -> u32 {
    u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]])
}

fn ack_at(head: &[u8; HEADER_LEN], at: usize) -> PathAck {
    PathAck {
        highest: u16_at(head, at),
        map: u32_at(head, at + 2),
    }
}

/// Why bytes from a peer are not a valid datagram.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// Shorter than the header.
    #[error("datagram of {len} bytes is shorter than its header of {HEADER_LEN} bytes")]
    TooShort {
        /// Its length.
        len: usize,
    },
    /// Longer than a datagram may be.
    #[error("datagram of {len} bytes is longer than {MAX_DATAGRAM} bytes")]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// Another version of the header.
    #[error(
        "peer uses wire version {theirs}, this build uses {WIRE_VERSION}: both need the same bevy_rollback_lab version"
    )]
    Version {
        /// The peer's version.
        theirs: u8,
    },
    /// A kind of datagram that this version does not know.
    #[error("datagram of unknown kind {code}")]
    Kind {
        /// Its code.
        code: u8,
    },
    /// A flag that this version does not know.
    #[error("datagram with unknown flags {flags:#010b}")]
    Flags {
        /// All flags.
        flags: u8,
    },
    /// A payload that its kind does not have, or a missing one.
    #[error("{kind:?} datagram with a payload of {len} bytes")]
    PayloadLength {
        /// Kind of the datagram.
        kind: DatagramKind,
        /// Bytes behind the header.
        len: usize,
    },
    /// An acknowledgement map that lacks its own newest packet.
    #[error("acknowledgement map lacks its own newest packet")]
    AckMap,
    /// A control payload that cannot be decoded.
    #[error("control payload cannot be decoded")]
    Control,
    /// A text or number in a control message outside its bound.
    #[error("control message field {field} is out of bounds")]
    ControlBounds {
        /// The field.
        field: &'static str,
    },
    /// An acknowledgement of a control message that was never sent.
    #[error("control message {ack} is acknowledged but was never sent")]
    ControlAck {
        /// The sequence.
        ack: u16,
    },
    /// A control message further ahead than the window of a sender.
    #[error("control message {seq} is ahead of the window of 16 messages")]
    ControlSequence {
        /// The sequence.
        seq: u16,
    },
}

impl WireError {
    /// Stable key for counters.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::TooShort { .. } => "tooShort",
            Self::TooLong { .. } => "tooLong",
            Self::Version { .. } => "version",
            Self::Kind { .. } => "kind",
            Self::Flags { .. } => "flags",
            Self::PayloadLength { .. } => "payloadLength",
            Self::AckMap => "ackMap",
            Self::Control => "control",
            Self::ControlBounds { .. } => "controlBounds",
            Self::ControlAck { .. } => "controlAck",
            Self::ControlSequence { .. } => "controlSequence",
        }
    }
}

/// How far `a` is ahead of `b`, negative when it is behind (serial number arithmetic, RFC 1982).
pub(crate) const fn seq_diff(a: u16, b: u16) -> i16 {
    a.wrapping_sub(b).cast_signed()
}

/// How far `a` is ahead of `b` for 32-bit serial numbers, negative when it is behind.
pub(crate) const fn seq_diff32(a: u32, b: u32) -> i32 {
    a.wrapping_sub(b).cast_signed()
}

/// The packet number nearest to `reference` whose low 32 bits are `number`.
#[must_use]
pub const fn expand_number(reference: u64, number: u32) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the wire carries the low 32 bits"
    )]
    let ahead = seq_diff32(number, reference as u32);
    let expanded = reference.wrapping_add_signed(ahead as i64);
    // Before the first number there is none.
    if ahead < 0 && expanded > reference {
        number as u64
    } else {
        expanded
    }
}

/// Writes a monotonic time as headers carry it: microseconds modulo 2^32 (71 minutes).
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the wire carries the low 32 bits; unwrap_micros restores the rest"
)]
pub const fn wrap_micros(time: Duration) -> u32 {
    time.as_micros() as u32
}

/// The time nearest to `reference` whose low 32 bits are `stamp`, at least zero.
pub(crate) fn unwrap_micros(reference: Duration, stamp: u32) -> Duration {
    let ahead = seq_diff32(stamp, wrap_micros(reference));
    let distance = Duration::from_micros(u64::from(ahead.unsigned_abs()));
    if ahead < 0 {
        reference.saturating_sub(distance)
    } else {
        reference.saturating_add(distance)
    }
}

#[cfg(test)]
mod tests;
