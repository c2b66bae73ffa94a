//! What the order of a peer's packets tells of the peer itself: whether it stood still, and how many
//! of its packets are missing.
//!
//! Owns the sequence that data packets and heartbeats share over both paths. A peer that polls sends
//! at least one of them per tick, so a gap between two neighbours is the peer's own. Never decides
//! anything.

use std::time::Duration;

use super::cadence::OWN_STALL_MIN;
use super::{Header, Link, RouteShift};
use crate::route::{RouteChange, RouteState};
use crate::wire::seq_diff;

/// A stretch in which the peer sent nothing although it owed a packet per tick. Peer's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// When the last packet before it was sent.
    pub from: Duration,
    /// When the first packet after it was sent.
    pub to: Duration,
    /// The peer said before or after it that it is hidden.
    pub hidden: bool,
}

/// What the header of the datagram received last tells beside its kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// When it was sent, by the peer's clock.
    pub sent: Duration,
    /// Its place in the flow of data packets and heartbeats.
    pub seq: u16,
    /// The peer said that it is hidden.
    pub hidden: bool,
    /// This peer itself did nothing just before it was read: when it came is not known.
    pub held: bool,
    /// A packet with a later number came before it: it was overtaken, or sent again.
    pub behind: bool,
    /// Packets of the flow missing so far in this episode.
    pub missing: u32,
    /// The newest pause of the peer.
    pub pause: Option<Pause>,
}

#[derive(Clone, Copy, Debug)]
struct Newest {
    seq: u16,
    sent: Duration,
    hidden: bool,
}

/// A gap that is a pause unless packets that are still missing were sent in it.
#[derive(Clone, Copy, Debug)]
struct Gap {
    from: Newest,
    to: Duration,
    hidden: bool,
    missing: u32,
}

/// The flow of one episode.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flow {
    newest: Option<Newest>,
    missing: u32,
    gap: Option<Gap>,
    pause: Option<Pause>,
    last: Packet,
}

impl Flow {
    /// Takes in the header of a data packet or heartbeat; `interval` is the expected one. `held`
    /// says that this peer did nothing just before.
    pub(super) fn note(&mut self, header: &Header, sent: Duration, interval: Duration, held: bool) {
        let (seq, hidden) = (header.data_seq, header.hidden);
        let newest = Newest { seq, sent, hidden };
        let step = self.newest.map(|before| seq_diff(seq, before.seq));
        match (self.newest, step) {
            (Some(before), Some(step)) if step > 0 => {
                let missing = u32::from(step.unsigned_abs()) - 1;
                self.missing = self.missing.wrapping_add(missing);
                if sent.saturating_sub(before.sent) > limit(interval) {
                    self.gap = Some(Gap {
                        from: before,
                        to: sent,
                        hidden,
                        missing,
                    });
                }
                self.newest = Some(newest);
            }
            (Some(_), Some(0)) => {}
            (Some(_), Some(_)) => {
                // A further copy of a packet counts here too: too few are missing, never too many.
                self.missing = self.missing.saturating_sub(1);
                self.narrow(newest, interval);
            }
            _ => self.newest = Some(newest),
        }
        if let Some(gap) = self.gap
            // What is missing was sent in it, one in a tick at the least.
            && gap.to.saturating_sub(gap.from.sent) > limit(interval) + interval * gap.missing
        {
            self.pause = Some(Pause {
                from: gap.from.sent,
                to: gap.to,
                hidden: gap.from.hidden || gap.hidden,
            });
        }
        self.last = Packet {
            sent,
            seq,
            hidden,
            held,
            behind: step.is_some_and(|step| step < 0),
            missing: self.missing,
            pause: self.pause,
        };
    }

    /// An overtaken packet tells more of the gap before the one that overtook it: it was sent in the
    /// tick that ended it, as what a game makes up for is, or it lies within.
    fn narrow(&mut self, late: Newest, interval: Duration) {
        let Some(gap) = &mut self.gap else {
            return;
        };
        if seq_diff(late.seq, gap.from.seq) <= 0 || late.sent > gap.to {
            return;
        }
        gap.missing = gap.missing.saturating_sub(1);
        if late.sent + interval / 2 >= gap.to {
            gap.to = late.sent;
        } else {
            gap.from = late;
        }
    }
}

/// The longest gap between two packets that is none.
fn limit(interval: Duration) -> Duration {
    OWN_STALL_MIN.max(interval * 5 / 2)
}

impl Link {
    /// The data packet or heartbeat of this episode that was received last.
    #[must_use]
    pub const fn last_packet(&self) -> &Packet {
        &self.flow.last
    }

    /// Books a change between the two paths; what was left behind brought its last packet before.
    pub(super) fn record_shift(&mut self, change: &RouteChange) {
        let relayed = |state| match state {
            RouteState::Connecting => None,
            RouteState::Direct | RouteState::Suspect => Some(false),
            RouteState::Provisional | RouteState::Relay | RouteState::Survival => Some(true),
        };
        let (Some(from), Some(to)) = (relayed(change.from), relayed(change.to)) else {
            return;
        };
        if from != to {
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
}
