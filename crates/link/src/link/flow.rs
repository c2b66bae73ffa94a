//! The sequence that data packets and heartbeats share over both paths: which packets are missing,
//! and when the peer's game paused. Every header states when the game ticked last, so a gap between
//! the ticks of two neighbours is the game's own.

use std::time::Duration;

use super::Link;
use super::cadence::OWN_STALL_MIN;
use crate::cause::{Pause, RouteShift};
use crate::route::{RouteChange, RouteState};
use crate::wire::{Header, seq_diff};

/// The header of the data packet or heartbeat received last, as [`Link::last_packet`] returns it.
/// Copy it into a [`cause::Arrival`](crate::cause::Arrival).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "reflect", derive(bevy_reflect::Reflect))]
pub struct Packet {
    /// When it was sent, by the peer's clock.
    pub sent: Duration,
    /// Its number in the sequence of data packets and heartbeats.
    pub seq: u16,
    /// The peer is hidden.
    pub hidden: bool,
    /// The peer has failed over: it sent the packet over the relay alone.
    pub failed_over: bool,
    /// This peer itself stalled just before reading it: when it arrived is not known.
    pub held: bool,
    /// A packet with a later number arrived before it: it was overtaken, or sent again.
    pub behind: bool,
    /// Packets of the sequence missing so far in this episode.
    pub missing: u32,
    /// The newest pause of the peer.
    pub pause: Option<Pause>,
}

#[derive(Clone, Copy, Debug)]
struct Newest {
    seq: u16,
    /// When the game had ticked last.
    tick: Duration,
    hidden: bool,
}

/// A gap in time that is a pause, unless packets that are still missing were sent in it.
#[derive(Clone, Copy, Debug)]
struct Gap {
    from: Newest,
    to: Duration,
    hidden: bool,
    missing: u32,
}

/// The sequence of one episode.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flow {
    newest: Option<Newest>,
    missing: u32,
    gap: Option<Gap>,
    pause: Option<Pause>,
    last: Packet,
}

impl Flow {
    /// Records the header of a data packet or heartbeat; `interval` is the expected one of the game's
    /// ticks. `held` states that this peer itself stalled just before.
    pub(super) fn record(
        &mut self,
        header: &Header,
        sent: Duration,
        interval: Duration,
        held: bool,
    ) {
        let (seq, hidden) = (header.data_seq, header.hidden);
        let tick = sent.saturating_sub(header.tick_age.unwrap_or_default());
        let newest = Newest { seq, tick, hidden };
        let step = self.newest.map(|before| seq_diff(seq, before.seq));
        match (self.newest, step) {
            (Some(before), Some(step)) if step > 0 => {
                let missing = u32::from(step.unsigned_abs()) - 1;
                self.missing = self.missing.wrapping_add(missing);
                if tick.saturating_sub(before.tick) > limit(interval) {
                    self.gap = Some(Gap {
                        from: before,
                        to: tick,
                        hidden,
                        missing,
                    });
                }
                self.newest = Some(newest);
            }
            (Some(_), Some(0)) => {}
            (Some(_), Some(_)) => {
                // Another copy of a packet counts here too, so `missing` errs to the low side.
                self.missing = self.missing.saturating_sub(1);
                self.narrow(newest, interval);
            }
            _ => self.newest = Some(newest),
        }
        if let Some(gap) = self.gap
            // The missing packets were sent in it, at least one per tick.
            && gap.to.saturating_sub(gap.from.tick) > limit(interval) + interval * gap.missing
        {
            self.pause = Some(Pause {
                from: gap.from.tick,
                to: gap.to,
                hidden: gap.from.hidden || gap.hidden,
            });
        }
        self.last = Packet {
            sent,
            seq,
            hidden,
            failed_over: header.failed_over,
            held,
            behind: step.is_some_and(|step| step < 0),
            missing: self.missing,
            pause: self.pause,
        };
    }

    /// Narrows the gap by an overtaken packet: it was sent in the tick that ended the gap, in which a
    /// game catches up, or within the gap.
    fn narrow(&mut self, late: Newest, interval: Duration) {
        let Some(gap) = &mut self.gap else {
            return;
        };
        if seq_diff(late.seq, gap.from.seq) <= 0 || late.tick > gap.to {
            return;
        }
        gap.missing = gap.missing.saturating_sub(1);
        if late.tick + interval / 2 >= gap.to {
            gap.to = late.tick;
        } else {
            gap.from = late;
        }
    }
}

/// The longest time between two packets that is not a pause.
fn limit(interval: Duration) -> Duration {
    OWN_STALL_MIN.max(interval * 5 / 2)
}

impl Link {
    /// The data packet or heartbeat of this episode that was received last: after
    /// [`receive`](Self::receive) returned data, its header.
    #[must_use]
    pub const fn last_packet(&self) -> &Packet {
        &self.flow.last
    }

    /// Records a change between the two paths.
    pub(super) fn record_shift(&mut self, change: &RouteChange) {
        let relayed = |state| match state {
            RouteState::Connecting => None,
            RouteState::Direct | RouteState::Suspect => Some(false),
            RouteState::Provisional | RouteState::Relay | RouteState::Survival => Some(true),
        };
        let (Some(from), Some(to)) = (relayed(change.from), relayed(change.to)) else {
            return;
        };
        if from == to {
            return;
        }
        let left = if to {
            self.direct_clock
        } else {
            self.peer.clock
        };
        self.last_shift = Some(RouteShift {
            at: change.at,
            left,
        });
    }
}
