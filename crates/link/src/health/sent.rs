//! Packets sent on one path and their fates: path sequences, acknowledgement, losses and loss runs.
//!
//! An acknowledgement of a packet that was never sent is refused as a whole and changes nothing.

use std::time::Duration;

use super::{RING, Recurrence, StretchQuality};
use crate::wire::{PathAck, expand_number, seq_diff};

/// A packet is lost when one three later was acknowledged and it was not: the packet threshold of
/// RFC 9002, section 6.1.1, which tolerates the reordering seen in practice.
const REORDER_TOLERANCE: u16 = 3;

/// Time between the first and the last of several packets lost in a row that counts as a run: four
/// ticks at 60 Hz, less the jitter of polls, are longer than the silence rule tolerates, so a player
/// may notice a run. A time and not a count, because ggrs sends one to three packets a tick; at
/// 20 Hz and below two lost ticks are a run.
const LOSS_RUN: Duration = Duration::from_millis(45);

/// Slow packets within this time are one occurrence: a path delivers all it held back at once.
pub(crate) const SLOW_APART: Duration = Duration::from_millis(250);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum Fate {
    #[default]
    InFlight,
    Acked,
    Lost,
}

#[derive(Clone, Copy, Debug, Default)]
struct SentEntry {
    /// When it was sent, by the awake clock.
    at: Duration,
    /// Time between sending it and its acknowledgement.
    latency: Duration,
    /// `sent` of its header.
    stamp: u32,
    fate: Fate,
}

/// A header acknowledged a packet that was never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AckBeyondSent;

/// Packets sent on one path.
#[derive(Clone, Debug)]
pub(crate) struct SentPackets {
    ring: [SentEntry; RING],
    next: u16,
    total: u64,
    acked: PathAck,
    /// Oldest sequence whose loss has not been judged.
    unjudged: u16,
    /// When the first packet of the running row of losses was sent, and whether it counts as a run.
    run: Option<(Duration, bool)>,
    lost: u64,
    runs: Recurrence,
    slow_after: Duration,
    slow: Recurrence,
    last_ack: Option<Duration>,
}

impl Default for SentPackets {
    fn default() -> Self {
        Self {
            ring: [SentEntry::default(); RING],
            next: 0,
            total: 0,
            acked: PathAck::EMPTY,
            unjudged: 0,
            run: None,
            lost: 0,
            runs: Recurrence::new(Duration::ZERO),
            slow_after: Duration::MAX,
            slow: Recurrence::new(SLOW_APART),
            last_ack: None,
        }
    }
}

impl SentPackets {
    /// Number of the next packet on this path, which never repeats. Its low 16 bits are its sequence
    /// in acknowledgements.
    pub(crate) const fn next_number(&self) -> u64 {
        self.total
    }

    /// Remembers that the next packet was sent.
    pub(crate) fn record(&mut self, at: Duration, stamp: u32) {
        if self.behind(self.unjudged) >= RING as u64 {
            self.judge_one(at);
        }
        self.ring[slot(self.next)] = SentEntry {
            at,
            latency: Duration::ZERO,
            stamp,
            fate: Fate::InFlight,
        };
        self.next = self.next.wrapping_add(1);
        self.total += 1;
    }

    /// Checks that `ack` covers only packets that were sent.
    ///
    /// # Errors
    /// [`AckBeyondSent`] when its newest packet was never sent.
    pub(crate) fn check(&self, ack: PathAck) -> Result<(), AckBeyondSent> {
        let Some(newest) = ack.newest() else {
            return Ok(());
        };
        let behind = seq_diff(self.next, newest);
        if behind > 0 && u64::from(behind.unsigned_abs()) <= self.total {
            Ok(())
        } else {
            Err(AckBeyondSent)
        }
    }

    /// Applies an acknowledgement that passed [`SentPackets::check`]; returns how many packets it
    /// newly confirms.
    pub(crate) fn confirm(&mut self, ack: PathAck, now: Duration) -> u32 {
        let Some(newest) = ack.newest() else {
            return 0;
        };
        // Bits that the last acknowledgement covered are not looked at again.
        let known = match (self.acked.newest(), seq_diff(newest, self.acked.highest)) {
            (Some(_), ahead @ 0..32) => self.acked.map << ahead,
            (Some(_), behind @ -31..0) => self.acked.map >> -behind,
            _ => 0,
        };
        let mut fresh = ack.map & !known;
        let mut confirmed = 0;
        while fresh != 0 {
            let bit = fresh.trailing_zeros();
            fresh &= fresh - 1;
            let seq = newest.wrapping_sub(u16::try_from(bit).expect("a bit of 32"));
            if self.behind(seq) > self.total.min(RING as u64) {
                break;
            }
            let entry = &mut self.ring[slot(seq)];
            match entry.fate {
                Fate::Acked => continue,
                Fate::Lost => self.lost = self.lost.saturating_sub(1),
                Fate::InFlight => {}
            }
            entry.fate = Fate::Acked;
            entry.latency = now.saturating_sub(entry.at);
            if entry.latency > self.slow_after {
                self.slow.record(now);
            }
            confirmed += 1;
        }
        if confirmed > 0 {
            self.last_ack = Some(now);
        }
        if self.acked.map == 0 || seq_diff(newest, self.acked.highest) > 0 {
            self.acked = ack;
        } else if newest == self.acked.highest {
            self.acked.map |= ack.map;
        }
        let judgeable = self.acked.highest.wrapping_sub(REORDER_TOLERANCE - 1);
        while seq_diff(judgeable, self.unjudged) > 0 {
            self.judge_one(now);
        }
        confirmed
    }

    /// Whether the newest packet that `ack` confirms carried this timestamp: an echo of anything
    /// else is no measurement of ours.
    pub(crate) fn stamped(&self, ack: PathAck, stamp: u32) -> bool {
        ack.newest().is_some_and(|newest| {
            (1..=self.total.min(RING as u64)).contains(&self.behind(newest))
                && self.ring[slot(newest)].stamp == stamp
        })
    }

    /// Age of the oldest packet that is newer than everything confirmed. Lost packets followed by
    /// confirmed ones are not waited for.
    pub(crate) fn oldest_unacked(&self, now: Duration) -> Option<Duration> {
        let first = self.acked.newest().map_or_else(
            || {
                self.next
                    .wrapping_sub(u16::try_from(self.total).unwrap_or(u16::MAX))
            },
            |newest| newest.wrapping_add(1),
        );
        let behind = self.behind(first).min(self.total).min(RING as u64);
        if behind == 0 {
            return None;
        }
        let oldest = self
            .next
            .wrapping_sub(u16::try_from(behind).expect("at most the ring"));
        Some(now.saturating_sub(self.ring[slot(oldest)].at))
    }

    /// Whether a packet sent at or after `since` was confirmed.
    pub(crate) fn confirmed_since(&self, since: Duration) -> bool {
        self.acked.newest().is_some_and(|newest| {
            (1..=RING as u64).contains(&self.behind(newest)) && self.ring[slot(newest)].at >= since
        })
    }

    /// Whether the packet whose number ends in these bits was confirmed. One that left the ring
    /// counts as not.
    pub(crate) fn confirmed(&self, number: u32) -> bool {
        let number = expand_number(self.total, number);
        let behind = self.total.saturating_sub(number);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the ring is indexed by the low 16 bits"
        )]
        let seq = number as u16;
        (1..=self.total.min(RING as u64)).contains(&behind)
            && self.ring[slot(seq)].fate == Fate::Acked
    }

    /// When the newest confirmation arrived.
    pub(crate) const fn last_ack(&self) -> Option<Duration> {
        self.last_ack
    }

    /// Packets counted as lost. A late confirmation takes its packet out again.
    pub(crate) const fn lost(&self) -> u64 {
        self.lost
    }

    /// Runs of losses of [`LOSS_RUN`] or longer, noticed since `since`, counted up to three.
    pub(crate) fn loss_runs_since(&self, since: Duration) -> usize {
        self.runs.since(since)
    }

    /// Sets the latency above which a confirmed packet counts as slow from now on.
    pub(crate) const fn set_slow_after(&mut self, limit: Duration) {
        self.slow_after = limit;
    }

    /// Occurrences of slow packets since `since`, [`SLOW_APART`] apart, counted up to three.
    pub(crate) fn slow_since(&self, since: Duration) -> usize {
        self.slow.since(since)
    }

    /// Judges the packets sent since `start`. Confirmed within `limit` is on time, unconfirmed for
    /// longer is not, and younger ones are left out.
    pub(crate) fn quality(
        &self,
        start: Duration,
        now: Duration,
        limit: Duration,
    ) -> StretchQuality {
        let mut quality = StretchQuality::default();
        let mut missing_neighbour = false;
        let mut oldest = None;
        for back in 1..=self.total.min(RING as u64) {
            let seq = self
                .next
                .wrapping_sub(u16::try_from(back).expect("at most the ring"));
            let entry = &self.ring[slot(seq)];
            if entry.at < start {
                oldest = Some(entry.at);
                break;
            }
            oldest = Some(entry.at);
            if entry.fate == Fate::InFlight && now.saturating_sub(entry.at) <= limit {
                continue;
            }
            quality.judged += 1;
            let missing = entry.fate != Fate::Acked;
            quality.arrived += u32::from(!missing);
            quality.lost += u32::from(entry.fate == Fate::Lost);
            quality.two_in_a_row |= missing && missing_neighbour;
            missing_neighbour = missing;
            quality.on_time += u32::from(!missing && entry.latency <= limit);
        }
        quality.covered =
            quality.judged >= 2 && oldest.is_some_and(|oldest| oldest <= start + limit);
        quality
    }

    fn behind(&self, seq: u16) -> u64 {
        u64::from(self.next.wrapping_sub(seq))
    }

    fn judge_one(&mut self, now: Duration) {
        let entry = &mut self.ring[slot(self.unjudged)];
        if entry.fate == Fate::InFlight {
            entry.fate = Fate::Lost;
            self.lost += 1;
            let (from, counted) = self.run.get_or_insert((entry.at, false));
            if !*counted && entry.at.saturating_sub(*from) >= LOSS_RUN {
                *counted = true;
                self.runs.record(now);
            }
        } else {
            self.run = None;
        }
        self.unjudged = self.unjudged.wrapping_add(1);
    }
}

const fn slot(seq: u16) -> usize {
    seq as usize % RING
}
