//! Owns the last packets of inputs of one player, as they came, and the search for the one that
//! carried an input first. Never decides anything; allocates once.

use std::time::Duration;

use crate::frame::Frame;

/// Packets remembered: twice the inputs that ggrs can hold unacknowledged, over two seconds at
/// 120 frames per second. A cause is settled long before.
const REMEMBERED: usize = 256;

/// A stretch in which a player's game sent nothing although it owed a packet per tick. All times are
/// the player's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pause {
    /// When the last packet before it was sent.
    pub from: Duration,
    /// When the first packet after it was sent.
    pub to: Duration,
    /// The player was hidden before or after it.
    pub hidden: bool,
}

/// A packet of inputs as it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrival {
    /// First frame whose input it carried.
    pub first: Frame,
    /// Last frame whose input it carried: the one that it was sent for.
    pub newest: Frame,
    /// When it was sent, by the player's clock.
    pub sent: Duration,
    /// When it came, by this peer's clock.
    pub at: Duration,
    /// Its number among the player's packets.
    pub seq: u16,
    /// It came by relay.
    pub relay: bool,
    /// It came by relay, and the copy that the direct path should have brought had not come.
    pub alone: bool,
    /// It said that the player is hidden.
    pub hidden: bool,
    /// This peer itself did nothing just before it was read: when it came is not known.
    pub held: bool,
    /// A packet with a later number came before it: it was overtaken, or sent again.
    pub behind: bool,
    /// Packets of the player missing so far.
    pub missing: u32,
    /// The newest pause of the player.
    pub pause: Option<Pause>,
}

impl Arrival {
    /// Time under way in microseconds, with the unknown offset between the two clocks in it.
    #[must_use]
    pub fn transit_us(&self) -> i64 {
        let us = |time: Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX / 4);
        us(self.at) - us(self.sent)
    }

    fn carries(&self, frame: Frame) -> bool {
        (self.first..=self.newest).contains(&frame)
    }
}

/// What the packets that carried one input say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried {
    /// The packet that brought it first.
    pub carrier: Arrival,
    /// The newest packet before that one which did not carry it yet.
    pub before: Option<Arrival>,
    /// Whether the packet that was sent for this input came, first or later.
    pub own_came: bool,
}

/// The last packets of inputs of one player, in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrivals {
    ring: Vec<Arrival>,
    /// The oldest one, once the ring is full.
    oldest: usize,
}

impl Arrivals {
    /// Takes in the next packet; tells whether it says anything new about an input that came before.
    pub fn push(&mut self, arrival: Arrival) -> bool {
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

    /// The direct copy of a packet that had come by relay came too; tells whether it is known.
    pub fn copy(&mut self, seq: u16) -> bool {
        let mut alone = self.ring.iter_mut().filter(|arrival| arrival.alone);
        let found = alone.find(|arrival| arrival.seq == seq);
        found.map(|arrival| arrival.alone = false).is_some()
    }

    /// Forgets everything: frames count from 0 again.
    pub fn clear(&mut self) {
        self.ring.clear();
        self.oldest = 0;
    }

    /// The newest frame whose input came before, or at, `at`.
    #[must_use]
    pub fn newest_at(&self, at: Duration) -> Option<Frame> {
        let before = self.in_order().filter(|arrival| arrival.at <= at);
        before.map(|arrival| arrival.newest).max()
    }

    /// The packets that carried the input of `frame`.
    #[must_use]
    pub fn carried(&self, frame: Frame) -> Option<Carried> {
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

    /// The last pause that ended no later than `sent` of the player's clock. A packet tells of one
    /// that came before it as soon as it is certain, which may be after the packet that ended it.
    #[must_use]
    pub fn pause_before(&self, sent: Duration) -> Option<Pause> {
        let pauses = self.in_order().filter_map(|arrival| arrival.pause);
        pauses
            .filter(|pause| pause.to <= sent)
            .max_by_key(|pause| pause.to)
    }

    /// The packet of the newest input that was sent no later than `sent` of the player's clock.
    #[must_use]
    pub fn newest_sent_by(&self, sent: Duration) -> Option<&Arrival> {
        let before = self.in_order().filter(|arrival| arrival.sent <= sent);
        before.max_by_key(|arrival| arrival.newest)
    }

    /// Median time under way, in microseconds, of the packets that came before `carrier` by the same
    /// path; `None` of fewer than `least`.
    #[must_use]
    pub fn usual_us(&self, carrier: &Arrival, least: usize) -> Option<i64> {
        /// A second at 60 Hz: long enough for a median, short enough for a route that changes.
        const AROUND: usize = 64;
        let mut times = [0_i64; AROUND];
        let mut count = 0;
        for arrival in self.in_order() {
            if arrival == carrier {
                break;
            }
            if arrival.relay == carrier.relay && !arrival.held {
                times[count % AROUND] = arrival.transit_us();
                count += 1;
            }
        }
        let times = &mut times[..count.min(AROUND)];
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
