//! The latest input packets of one player in order of arrival, and the queries over them that
//! decide a cause: which packet carried an input first, what preceded it, how long packets usually
//! take. Allocates once, at the first packet.

use std::time::Duration;

use crate::frame::Frame;

/// Packets remembered: twice the 128 inputs that ggrs can hold unacknowledged
/// (`PENDING_OUTPUT_SIZE`), over two seconds at 120 frames per second. Causes are final after one.
const REMEMBERED: usize = 256;
/// Packets whose median transit time is "usual": a second at 60 Hz, long enough for a median and
/// short enough for a route that changes.
const USUAL_OVER: usize = 64;

/// A stretch in which a player's game sent nothing although it owed a packet per tick. All times are
/// the player's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "reflect", derive(bevy_reflect::Reflect))]
pub struct Pause {
    /// When the last packet before it was sent.
    pub from: Duration,
    /// When the first packet after it was sent.
    pub to: Duration,
    /// The player was hidden before or after it.
    pub hidden: bool,
}

/// An input packet as it arrived: pass each one to
/// [`LinkEvidence::arrived`](super::LinkEvidence::arrived).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrival {
    /// First frame whose input it carried.
    pub first: Frame,
    /// Last frame whose input it carried: the one that it was sent for.
    pub newest: Frame,
    /// The last frame for which the player had the inputs of all players.
    pub confirmed: Option<Frame>,
    /// When it was sent, by the player's clock.
    pub sent: Duration,
    /// When it arrived, by this peer's clock.
    pub at: Duration,
    /// Its number among the player's packets.
    pub seq: u16,
    /// It arrived over the relay.
    pub relay: bool,
    /// It arrived over the relay, and its copy on the direct path has not.
    pub alone: bool,
    /// Its header says that the player is hidden.
    pub hidden: bool,
    /// Its header says that the player has failed over: it was sent over the relay alone.
    pub failed_over: bool,
    /// This peer itself stalled just before reading it: when it arrived is not known.
    pub held: bool,
    /// A packet with a later number arrived before it: it was overtaken, or sent again.
    pub behind: bool,
    /// Packets of the player missing so far in this episode.
    pub missing: u32,
    /// The newest pause of the player.
    pub pause: Option<Pause>,
}

impl Arrival {
    /// Transit time in microseconds. It includes the unknown offset between the two clocks.
    pub(super) fn transit_us(&self) -> i64 {
        let us = |time: Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX / 4);
        us(self.at) - us(self.sent)
    }

    fn carries(&self, frame: Frame) -> bool {
        (self.first..=self.newest).contains(&frame)
    }
}

/// The packets around one input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Carried {
    /// The packet that brought it first.
    pub(super) carrier: Arrival,
    /// The newest packet before that one which did not carry it yet.
    pub(super) before: Option<Arrival>,
    /// Whether the packet that was sent for this input arrived, first or later.
    pub(super) own_came: bool,
}

/// A ring of the latest input packets of one player.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Arrivals {
    ring: Vec<Arrival>,
    /// Index of the oldest one, once the ring is full.
    oldest: usize,
}

impl Arrivals {
    /// Records the next packet. Returns whether it may change what is known of an earlier input.
    pub(super) fn push(&mut self, arrival: Arrival) -> bool {
        let overtaken = self.newest().is_some_and(|known| arrival.newest < known);
        if self.ring.capacity() == 0 {
            self.ring.reserve_exact(REMEMBERED);
        }
        if self.ring.len() < REMEMBERED {
            self.ring.push(arrival);
        } else {
            self.ring[self.oldest] = arrival;
            self.oldest = (self.oldest + 1) % REMEMBERED;
        }
        overtaken
    }

    /// Records that the direct copy of a relayed packet arrived. Returns whether that packet is
    /// remembered.
    pub(super) fn copy(&mut self, seq: u16) -> bool {
        let mut alone = self.ring.iter_mut().filter(|arrival| arrival.alone);
        let found = alone.find(|arrival| arrival.seq == seq);
        found.map(|arrival| arrival.alone = false).is_some()
    }

    /// Forgets everything: frames count from 0 again.
    pub(super) fn clear(&mut self) {
        self.ring.clear();
        self.oldest = 0;
    }

    /// The newest frame whose input arrived no later than `at`.
    pub(super) fn newest_at(&self, at: Duration) -> Option<Frame> {
        let before = self.in_order().filter(|arrival| arrival.at <= at);
        before.map(|arrival| arrival.newest).max()
    }

    /// The packets that carried the input of `frame`.
    pub(super) fn carried(&self, frame: Frame) -> Option<Carried> {
        let (mut carrier, mut before, mut own_came) = (None, None::<Arrival>, false);
        for arrival in self.in_order() {
            own_came |= arrival.newest == frame;
            if carrier.is_none() && arrival.carries(frame) {
                carrier = Some(*arrival);
            }
            if carrier.is_none()
                && arrival.newest < frame
                && before.is_none_or(|before| before.newest < arrival.newest)
            {
                before = Some(*arrival);
            }
        }
        Some(Carried {
            carrier: carrier?,
            before,
            own_came,
        })
    }

    /// The last pause that ended no later than `sent`, by the player's clock. A packet carries a
    /// pause as soon as it is certain, which may be after the packet that ended it.
    pub(super) fn pause_before(&self, sent: Duration) -> Option<Pause> {
        let pauses = self.in_order().filter_map(|arrival| arrival.pause);
        pauses
            .filter(|pause| pause.to <= sent)
            .max_by_key(|pause| pause.to)
    }

    /// The packet of the newest input that was sent no later than `sent`, by the player's clock.
    pub(super) fn newest_sent_by(&self, sent: Duration) -> Option<&Arrival> {
        let before = self.in_order().filter(|arrival| arrival.sent <= sent);
        before.max_by_key(|arrival| arrival.newest)
    }

    /// Median transit time, in microseconds, of the packets that arrived before `carrier` over the
    /// same path. `None` with fewer than `least` of them.
    pub(super) fn usual_us(&self, carrier: &Arrival, least: usize) -> Option<i64> {
        let mut times = [0_i64; USUAL_OVER];
        let mut count = 0;
        for arrival in self.in_order() {
            if arrival == carrier {
                break;
            }
            if arrival.relay == carrier.relay && !arrival.held {
                times[count % USUAL_OVER] = arrival.transit_us();
                count += 1;
            }
        }
        let times = &mut times[..count.min(USUAL_OVER)];
        if times.len() < least.max(1) {
            return None;
        }
        let middle = times.len() / 2;
        Some(*times.select_nth_unstable(middle).1)
    }

    fn newest(&self) -> Option<Frame> {
        let last = self.in_order().next_back()?;
        Some(last.newest)
    }

    fn in_order(&self) -> impl DoubleEndedIterator<Item = &Arrival> {
        let (newer, older) = self.ring.split_at(self.oldest.min(self.ring.len()));
        older.iter().chain(newer)
    }
}
