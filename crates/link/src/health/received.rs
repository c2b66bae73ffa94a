//! Packets received on one path: the acknowledgement map that goes back to the peer, and gaps,
//! reordering and duplicates of path sequences. (De-duplication before the game goes by data
//! sequence, see `link::dedupe`.)

use std::time::Duration;

use super::{RING, StretchQuality};
use crate::wire::{PathAck, SeqOrder, expand_number, seq_diff};

#[derive(Clone, Copy, Debug, Default)]
struct ReceivedEntry {
    at: Duration,
    present: bool,
    on_time: bool,
}

/// Serial arithmetic of 16 bits (RFC 1982) orders sequences that are closer than this.
const HALF_OF_SEQUENCES: u64 = 1 << 15;

/// Packets received on one path.
#[derive(Clone, Debug)]
pub(crate) struct ReceivedPackets {
    ring: [ReceivedEntry; RING],
    ack: PathAck,
    /// Number of the newest packet.
    newest: u64,
    last: Option<Duration>,
    missed: u64,
    reordered: u64,
    duplicate: u64,
}

impl Default for ReceivedPackets {
    fn default() -> Self {
        Self {
            ring: [ReceivedEntry::default(); RING],
            ack: PathAck::EMPTY,
            newest: 0,
            last: None,
            missed: 0,
            reordered: 0,
            duplicate: 0,
        }
    }
}

impl ReceivedPackets {
    /// Records a packet that arrived at `at` with the low bits of its number; returns whether it is
    /// the newest one.
    pub(crate) fn record(&mut self, number: u32, at: Duration, on_time: bool) -> bool {
        self.last = Some(at);
        let number = expand_number(self.newest, number);
        let ahead = number.saturating_sub(self.newest);
        self.newest = self.newest.max(number);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "acknowledgements carry the low 16 bits"
        )]
        let seq = number as u16;
        if ahead > HALF_OF_SEQUENCES && self.ack.newest().is_some() {
            // Sequences cannot distinguish such a jump from a packet of the past.
            self.ring = [ReceivedEntry::default(); RING];
            self.ack = PathAck::EMPTY;
            self.missed += ahead - 1;
        }
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
                self.missed += u64::from(skipped);
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
                false
            }
        }
    }

    /// The acknowledgement that goes back to the peer in every header.
    pub(crate) const fn ack(&self) -> PathAck {
        self.ack
    }

    /// When the last packet arrived, by the awake clock.
    pub(crate) const fn last(&self) -> Option<Duration> {
        self.last
    }

    /// The peer's packets that did not arrive, by the gaps in their sequence.
    pub(crate) const fn missed(&self) -> u64 {
        self.missed
    }

    /// Packets that arrived after a newer one.
    pub(crate) const fn reordered(&self) -> u64 {
        self.reordered
    }

    /// Packets whose path sequence had arrived before.
    pub(crate) const fn duplicate(&self) -> u64 {
        self.duplicate
    }

    /// Judges the arrivals since `start`. A silence longer than `gap`, inside the stretch or at
    /// its end, leaves it uncovered.
    pub(crate) fn quality(&self, start: Duration, now: Duration, gap: Duration) -> StretchQuality {
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
            // Counted only now: packets missing before the first arrival of the stretch are covered
            // by the gap to its start.
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
    pub(crate) fn missing_since(&self, start: Duration) -> u32 {
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
