//! Packets received on one path.
//!
//! Owns the acknowledgement map that goes back to the peer, gaps, reordering and duplicates of
//! path sequences. Never looks at payloads: de-duplication before the game goes by data sequence.

use std::time::Duration;

use super::{StretchQuality, RING};
use crate::wire::{SeqOrder, PathAck, seq_diff};

#[derive(Clone, Copy, Debug, Default)]
struct ReceivedEntry {
    at: Duration,
    present: bool,
    on_time: bool,
}

/// Packets received on one path.
#[derive(Clone, Debug)]
pub struct ReceivedPackets {
    ring: [ReceivedEntry; RING],
    ack: PathAck,
    last: Option<Duration>,
    missed: u64,
    last_missed: Option<Duration>,
    reordered: u64,
    last_reordered: Option<Duration>,
    duplicate: u64,
}

impl Default for ReceivedPackets {
    fn default() -> Self {
        Self {
            ring: [ReceivedEntry::default(); RING],
            ack: PathAck::EMPTY,
            last: None,
            missed: 0,
            last_missed: None,
            reordered: 0,
            last_reordered: None,
            duplicate: 0,
        }
    }
}

impl ReceivedPackets {
    /// Takes in a packet that arrived at `at`; returns whether it is the newest one.
    pub fn record(&mut self, seq: u16, at: Duration, on_time: bool) -> bool {
        self.last = Some(at);
        let entry = ReceivedEntry {
            at,
            present: true,
            on_time,
        };
        match self.ack.record(seq) {
            SeqOrder::Newest { skipped } => {
                for back in 1..=usize::from(skipped).min(RING - 1) {
                    let lost = seq.wrapping_sub(u16::try_from(back).expect("at most the ring"));
                    self.ring[slot(lost)] = ReceivedEntry::default();
                }
                if skipped > 0 {
                    self.missed += u64::from(skipped);
                    self.last_missed = Some(at);
                }
                self.ring[slot(seq)] = entry;
                true
            }
            SeqOrder::Duplicate => {
                self.duplicate += 1;
                false
            }
            SeqOrder::Reordered | SeqOrder::TooOld => {
                let behind = self.ack.highest.wrapping_sub(seq);
                let known = usize::from(behind) < RING;
                if known && self.ring[slot(seq)].present {
                    self.duplicate += 1;
                    return false;
                }
                if known {
                    self.ring[slot(seq)] = entry;
                }
                self.missed = self.missed.saturating_sub(1);
                self.reordered += 1;
                self.last_reordered = Some(at);
                false
            }
        }
    }

    /// What goes back to the peer in every header.
    #[must_use]
    pub const fn ack(&self) -> PathAck {
        self.ack
    }

    /// When the last packet came, by the awake clock.
    #[must_use]
    pub const fn last(&self) -> Option<Duration> {
        self.last
    }

    /// The peer's packets that never came, as far as their numbers tell.
    #[must_use]
    pub const fn missed(&self) -> u64 {
        self.missed
    }

    /// When a gap in the numbers was last noticed.
    #[must_use]
    pub const fn last_missed(&self) -> Option<Duration> {
        self.last_missed
    }

    /// Packets that came after a newer one.
    #[must_use]
    pub const fn reordered(&self) -> u64 {
        self.reordered
    }

    /// When that last happened.
    #[must_use]
    pub const fn last_reordered(&self) -> Option<Duration> {
        self.last_reordered
    }

    /// Packets whose path sequence had come before.
    #[must_use]
    pub const fn duplicate(&self) -> u64 {
        self.duplicate
    }

    /// Judges the arrivals since `start`. A silence longer than `gap`, inside the stretch or at
    /// its end, leaves it uncovered.
    #[must_use]
    pub fn quality(&self, start: Duration, now: Duration, gap: Duration) -> StretchQuality {
        let mut quality = StretchQuality::default();
        let Some(newest) = self.ack.newest() else {
            return quality;
        };
        let mut missing = 0;
        let mut earliest = now;
        let mut steady = true;
        for back in 0..RING {
            let seq = newest.wrapping_sub(u16::try_from(back).expect("at most the ring"));
            let entry = &self.ring[slot(seq)];
            if !entry.present {
                missing += 1;
                continue;
            }
            if entry.at < start {
                break;
            }
            // Counted only now: what is missing before the first arrival of the stretch is
            // covered by the gap to its start.
            quality.judged += 1 + missing;
            quality.arrived += 1;
            quality.lost += missing;
            quality.two_in_a_row |= missing >= 2;
            missing = 0;
            quality.on_time += u32::from(entry.on_time);
            steady &= earliest.saturating_sub(entry.at) <= gap;
            earliest = earliest.min(entry.at);
        }
        quality.covered = quality.judged >= 2 && steady && earliest.saturating_sub(start) <= gap;
        quality
    }

    /// Packets whose numbers are missing among the newest ones that arrived since `start`.
    #[must_use]
    pub fn missing_since(&self, start: Duration) -> u32 {
        let Some(newest) = self.ack.newest() else {
            return 0;
        };
        let mut total = 0;
        let mut missing = 0;
        for back in 0..RING {
            let seq = newest.wrapping_sub(u16::try_from(back).expect("at most the ring"));
            debug_assert!(seq_diff(newest, seq) >= 0);
            let entry = &self.ring[slot(seq)];
            if !entry.present {
                missing += 1;
                continue;
            }
            total += missing;
            missing = 0;
            if entry.at < start {
                break;
            }
        }
        total
    }
}

const fn slot(seq: u16) -> usize {
    seq as usize % RING
}
