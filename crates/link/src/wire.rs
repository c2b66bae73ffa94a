//! The datagram between two peers, the same on both paths: a header of 31 bytes, then a payload.
//!
//! | bytes | field |
//! |---|---|
//! | 0 | version (high nibble), then flags: degraded, failed over, hidden, echo came by relay |
//! | 1 | kind (2 bits), send interval in steps of 2 ms (6 bits) |
//! | 2, 3 | epoch |
//! | 4, 5 | data sequence, shared by both paths |
//! | 6, 7 | path sequence |
//! | 8 to 13, 14 to 19 | acknowledgement of the direct path, of the relay: newest sequence, map of 32 |
//! | 20 | silence on the direct path in steps of 4 ms |
//! | 21 to 24 | time sent, in microseconds modulo 2^32 |
//! | 25 to 28 | time echoed |
//! | 29, 30 | how long the echo was held, in steps of 16 us |
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
    ByeReason, ControlMessage, FieldMismatch, Hello, MAX_LAST_INPUTS, encode_control,
};

/// Bytes of the fixed header in front of every datagram.
pub const HEADER_LEN: usize = 31;
/// Largest datagram, header included: below the payload of one packet on every common path, the
/// 1,280 bytes of IPv6's minimum MTU less the headers of UDP, DTLS and SCTP.
pub const MAX_DATAGRAM: usize = 1200;
/// Version of this layout, the high nibble of byte 0. Datagrams of another version are refused.
pub const WIRE_VERSION: u8 = 1;

/// Unit of the advertised send interval: 6 bits reach 126 ms, enough for 8 polls per second.
const INTERVAL_UNIT_MICROS: u128 = 2_000;
/// Largest interval code; it means "this long or longer".
const INTERVAL_MAX: u8 = 63;
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
    /// One encoded `ggrs::Message`.
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

    const fn from_code(code: u8) -> Self {
        match code & 3 {
            0 => Self::Data,
            1 => Self::Heartbeat,
            2 => Self::Probe,
            _ => Self::Control,
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
    /// Path on which the echoed datagram arrived. Links echo a path over itself, and only such an
    /// echo is measured.
    pub path: Path,
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
    /// The sender's own send interval; `None` when unknown. Steps of 2 ms; 126 ms means that or more.
    pub interval: Option<Duration>,
    /// Episode that the datagram belongs to; data of another epoch is dropped and counted.
    pub epoch: u16,
    /// Sequence of the data packet, shared by both paths, by which copies are dropped. Heartbeats
    /// take a sequence of their own; probes and control packets carry the newest one used.
    pub data_seq: u16,
    /// Sequence of this datagram on the path it travels.
    pub path_seq: u16,
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
            epoch: 0,
            data_seq: 0,
            path_seq: 0,
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
        let echo_by_relay = echo.is_some_and(|echo| echo.path == Path::Relay);
        out[0] = (WIRE_VERSION << 4)
            | u8::from(self.degraded)
            | (u8::from(self.failed_over) << 1)
            | (u8::from(self.hidden) << 2)
            | (u8::from(echo_by_relay) << 3);
        out[1] = self.kind.code() | (encode_interval(self.interval) << 2);
        out[2..4].copy_from_slice(&self.epoch.to_le_bytes());
        out[4..6].copy_from_slice(&self.data_seq.to_le_bytes());
        out[6..8].copy_from_slice(&self.path_seq.to_le_bytes());
        for (ack, out) in self.acks.iter().zip(out[8..20].chunks_exact_mut(6)) {
            out[..2].copy_from_slice(&ack.highest.to_le_bytes());
            out[2..].copy_from_slice(&ack.map.to_le_bytes());
        }
        let silence = self.silence.as_micros() / SILENCE_UNIT_MICROS;
        out[20] = u8::try_from(silence).unwrap_or(u8::MAX);
        out[21..25].copy_from_slice(&self.sent.to_le_bytes());
        out[25..29].copy_from_slice(&echo.map_or(0, |echo| echo.sent).to_le_bytes());
        out[29..31].copy_from_slice(&hold.to_le_bytes());
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
        let kind = DatagramKind::from_code(head[1]);
        if payload.is_empty() != matches!(kind, DatagramKind::Heartbeat | DatagramKind::Probe) {
            return Err(WireError::PayloadLength {
                kind,
                len: payload.len(),
            });
        }
        let acks = [ack_at(head, 8), ack_at(head, 14)];
        if acks.iter().any(|ack| ack.map != 0 && ack.map & 1 == 0) {
            return Err(WireError::AckMap);
        }
        let interval = head[1] >> 2;
        let hold = u16_at(head, 29);
        let echo_path = if head[0] & 8 == 0 {
            Path::Direct
        } else {
            Path::Relay
        };
        let header = Self {
            degraded: head[0] & 1 != 0,
            failed_over: head[0] & 2 != 0,
            hidden: head[0] & 4 != 0,
            kind,
            interval: (interval != 0).then(|| Duration::from_millis(u64::from(interval) * 2)),
            epoch: u16_at(head, 2),
            data_seq: u16_at(head, 4),
            path_seq: u16_at(head, 6),
            acks,
            silence: Duration::from_millis(u64::from(head[20]) * 4),
            sent: u32_at(head, 21),
            echo: (hold != NO_ECHO).then(|| Echo {
                path: echo_path,
                sent: u32_at(head, 25),
                hold: Duration::from_micros(u64::from(hold) * 16),
            }),
        };
        Ok((header, payload))
    }
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
