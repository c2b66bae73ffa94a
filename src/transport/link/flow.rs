//! What the order of a peer's packets tells of the peer itself: whether it stood still, and how many
//! of its packets are missing.
//!
//! Owns the sequence that data packets and heartbeats share over both paths. A peer that polls sends
//! at least one of them per tick, so a gap between two neighbours is the peer's own. Never decides
//! anything.

use std::time::Duration;

use super::cadence::HITCH_MIN;
use super::{Header, Link, RouteShift};
use crate::transport::route::{RouteChange, RouteState};
use crate::transport::wire::seq_diff;

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

/// The flow of one episode.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flow {
    newest: Option<Newest>,
    missing: u32,
    pause: Option<Pause>,
    last: Packet,
}

impl Flow {
    /// Takes in the header of a data packet or heartbeat; `interval` is the expected one.
    pub(super) fn note(&mut self, header: &Header, sent: Duration, interval: Duration) {
        let (seq, hidden) = (header.data_seq, header.hidden);
        let newest = Newest { seq, sent, hidden };
        match self.newest {
            None => self.newest = Some(newest),
            Some(before) => {
                let step = seq_diff(seq, before.seq);
                if step > 0 {
                    let skipped = u32::from(step.unsigned_abs()) - 1;
                    self.missing = self.missing.wrapping_add(skipped);
                    // What is missing was sent in between, one in a tick at the least.
                    let limit = HITCH_MIN.max(interval * 5 / 2) + interval * skipped;
                    if sent.saturating_sub(before.sent) > limit {
                        self.pause = Some(Pause {
                            from: before.sent,
                            to: sent,
                            hidden: before.hidden || hidden,
                        });
                    }
                    self.newest = Some(newest);
                } else if step < 0 {
                    // A further copy of a packet counts here too; that makes too few, never too many.
                    self.missing = self.missing.saturating_sub(1);
                }
            }
        }
        self.last = Packet {
            sent,
            seq,
            hidden,
            missing: self.missing,
            pause: self.pause,
        };
    }
}

impl Link {
    /// The data packet or heartbeat of this episode that was received last.
    #[must_use]
    pub const fn last_packet(&self) -> &Packet {
        &self.flow.last
    }

    /// Books a change between the two paths; what was left behind brought its last packet before.
    pub(super) fn note_shift(&mut self, change: &RouteChange) {
        let relayed = |state| match state {
            RouteState::Connecting => None,
            RouteState::Direct | RouteState::Suspect => Some(false),
            RouteState::Provisional | RouteState::Relay | RouteState::Survival => Some(true),
        };
        let (Some(from), Some(to)) = (relayed(change.from), relayed(change.to)) else {
            return;
        };
        if from != to {
            let left = if to { self.direct_clock } else { self.peer.clock };
            self.last_shift = Some(RouteShift {
                at: change.at,
                left,
            });
        }
    }
}
