//! One direction of a TCP connection over a network that delays and loses segments: order, loss
//! recovery and the send buffer, as far as a game's small packets meet them.
//!
//! Each packet is a segment (both ends turn Nagle's algorithm off); packets that had to wait share
//! one, up to the segment size. Modelled: RFC 6298 (retransmission timer), RFC 5681 and 6675 (fast
//! retransmit after three later segments, selective acknowledgements), the congestion window of
//! RFC 6928 and 9438. Left out, since a game's stream seldom meets them: delayed and lost
//! acknowledgements, the receiver's window, the restart of the window after an idle time. Also left
//! out is RACK-TLP (RFC 8985), which recovers a single loss sooner: the model is the slower stack.

use std::collections::VecDeque;
use std::time::Duration;

use rand_xoshiro::Xoshiro256PlusPlus;

use super::shaper::unit;
use super::{Burst, Outage, QUEUE_LIMIT, Reorder, Shape};

/// Payload of a full segment: an Ethernet frame of 1,500 bytes without the headers of IP and TCP
/// and the timestamps.
const SEGMENT_MAX: usize = 1_448;
/// Segments that may be under way at first: RFC 6928.
const INITIAL_WINDOW: u32 = 10;
/// Smallest window after a fast retransmit: RFC 9438, section 4.6.
const LEAST_WINDOW: u32 = 2;
/// Least variance term of the retransmission timer, as in Linux, whose timer is therefore never
/// below the round trip and 200 ms (`tcp_rto_min` in `tcp_rtt_estimator`). RFC 6298 asks for a least
/// timer of a second, which no common system keeps.
pub(super) const RTO_MIN: Duration = Duration::from_millis(200);
/// Longest retransmission timer: Linux's `TCP_RTO_MAX`; RFC 6298 allows a bound of 60 s or more.
const RTO_MAX: Duration = Duration::from_secs(120);
/// Later segments that must arrive before a segment counts as lost: RFC 5681 and 6675.
const DUPLICATES: u32 = 3;
/// Time of one packet in a burst of [`Burst::length`] packets: those of a game at 60 Hz. On TCP a
/// burst is a stretch of time, because a retransmission half a second later meets another network.
const BURST_PACKET: Duration = Duration::from_nanos(16_666_667);

/// The network below one of the two connections.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hop {
    /// Delay of a segment and of its acknowledgement.
    pub latency: Duration,
    /// Largest deviation of a segment's delay.
    pub jitter: Duration,
    /// Share of segments lost.
    pub loss: f64,
    /// Losses in bursts.
    pub burst: Option<Burst>,
    /// Segments held back.
    pub reorder: Option<Reorder>,
    /// Bits per second.
    pub rate: Option<u64>,
}

impl Hop {
    /// The two halves of a way from a peer over the server to another one. Delay and losses are those
    /// of the whole way; the sender's uplink has the rate limit and holds segments back.
    pub(super) fn halves(shape: &Shape) -> [Self; 2] {
        // Both halves together lose the share: 1 - (1 - half)^2.
        let half = |share: f64| 1.0 - (1.0 - share).sqrt();
        let burst = shape.burst.map(|burst| Burst {
            share: half(burst.share),
            ..burst
        });
        let down = Self {
            latency: shape.latency / 2,
            jitter: shape.jitter / 2,
            loss: half(shape.loss),
            burst,
            reorder: None,
            rate: None,
        };
        let up = Self {
            latency: shape.latency - down.latency,
            jitter: shape.jitter - down.jitter,
            reorder: shape.reorder,
            rate: shape.rate,
            ..down
        };
        [up, down]
    }
}

/// When nothing passes the network.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outages {
    /// Blackholed until further notice.
    pub blackhole: bool,
    /// The outage of every episode.
    pub cut: Option<Outage>,
    /// When the episode began.
    pub episode: Option<Duration>,
}

impl Outages {
    fn cover(&self, now: Duration) -> bool {
        let outage = self.cut.zip(self.episode);
        self.blackhole || outage.is_some_and(|(cut, begun)| now >= begun && cut.covers(now - begun))
    }
}

/// The state of a network between two segments.
#[derive(Debug)]
struct Wire {
    rng: Xoshiro256PlusPlus,
    /// In the bad state of a burst.
    bad: bool,
    /// When the last segment was sent.
    last: Duration,
    /// When the rate limit has sent everything that is queued.
    busy_until: Duration,
}

impl Wire {
    /// When a segment arrives; `None` if it is lost. Every segment takes the same number of draws.
    fn arrival(
        &mut self,
        now: Duration,
        hop: &Hop,
        outages: &Outages,
        bytes: usize,
    ) -> Option<Duration> {
        let [lost, late, turn, held] = [(); 4].map(|()| unit(&mut self.rng));
        self.turn(now, hop, turn);
        if outages.cover(now) || self.bad || lost < hop.loss {
            return None;
        }
        let start = self.busy_until.max(now);
        if let Some(rate) = hop.rate {
            if start - now > QUEUE_LIMIT {
                return None;
            }
            self.busy_until = start + Duration::from_secs_f64(bytes as f64 * 8.0 / rate as f64);
        }
        let queued = hop.rate.map_or(now, |_| self.busy_until);
        let delay = (hop.latency + hop.jitter.mul_f64(2.0 * late)).saturating_sub(hop.jitter);
        let hold = hop
            .reorder
            .filter(|reorder| held < reorder.share)
            .map_or(Duration::ZERO, |reorder| reorder.hold);
        Some(queued + delay + hold)
    }

    /// Moves the two states of a burst on to `now`: the chain of the datagrams' lane, with a step in
    /// every [`BURST_PACKET`].
    fn turn(&mut self, now: Duration, hop: &Hop, turn: f64) {
        let since = now.saturating_sub(self.last);
        self.last = now;
        self.bad = hop.burst.is_some_and(|burst| {
            let (enter, leave) = burst.chances();
            let steps = since.as_secs_f64() / BURST_PACKET.as_secs_f64();
            let kept = (1.0 - enter - leave).max(0.0).powf(steps);
            let was = if self.bad { 1.0 } else { 0.0 };
            turn < burst.share + (was - burst.share) * kept
        });
    }
}

/// What the sender knows of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Sent,
    Lost,
    Acknowledged,
}

#[derive(Debug)]
struct Slot<P> {
    /// `None` once the receiver has read it.
    packet: Option<P>,
    bytes: usize,
    state: State,
    arrived: bool,
}

/// A transmission of packets in a row.
#[derive(Debug)]
struct Segment {
    first: u64,
    end: u64,
    sent: Duration,
    /// When it arrives; `None` if it is lost.
    arrival: Option<Duration>,
    /// When its acknowledgement is back, once it has arrived.
    acknowledged: Option<Duration>,
    again: bool,
    /// The sender takes it for lost.
    given_up: bool,
    /// Later segments that were acknowledged.
    passed: u32,
}

impl Segment {
    fn next_event(&self) -> Option<Duration> {
        self.acknowledged.or(self.arrival)
    }
}

/// The retransmission timer of RFC 6298.
#[derive(Debug, Default)]
struct Timer {
    /// Smoothed round trip and its variation, from the first measurement on.
    measured: Option<(Duration, Duration)>,
    /// Expirations in a row.
    backoff: u32,
    expires: Option<Duration>,
}

impl Timer {
    fn measure(&mut self, sample: Duration) {
        self.measured = Some(match self.measured {
            None => (sample, sample / 2),
            Some((smoothed, variation)) => (
                (smoothed * 7 + sample) / 8,
                (variation * 3 + smoothed.abs_diff(sample)) / 4,
            ),
        });
    }

    fn length(&self) -> Duration {
        let (smoothed, variation) = self.measured.unwrap_or_default();
        let length = smoothed + (variation * 4).max(RTO_MIN);
        // Ten doublings of 200 ms are beyond the maximum.
        (length * (1 << self.backoff.min(10))).min(RTO_MAX)
    }

    fn restart(&mut self, now: Duration) {
        self.expires = Some(now + self.length());
    }
}

/// One direction of a TCP connection that carries packets `P`.
#[derive(Debug)]
pub(super) struct Stream<P> {
    /// The send buffer: packets not yet acknowledged, oldest first.
    buffer: VecDeque<Slot<P>>,
    buffered: usize,
    capacity: usize,
    /// Numbers of the oldest packet in the buffer, of the next one to send for the first time, and of
    /// the next one that the receiver reads.
    first: u64,
    next: u64,
    read: u64,
    /// Packets in the state [`State::Lost`].
    lost: usize,
    segments: Vec<Segment>,
    window: u32,
    /// The window grows quickly below it.
    threshold: u32,
    /// Acknowledgements towards the next growth.
    credit: u32,
    /// Losses of packets before this one have reduced the window already.
    recovering: u64,
    timer: Timer,
    wire: Wire,
    /// Segments sent again.
    pub retransmitted: u64,
    /// Expirations of the retransmission timer.
    pub timeouts: u64,
}

impl<P> Stream<P> {
    /// An open connection whose sender buffers up to `capacity` bytes.
    pub(super) fn new(capacity: usize, rng: Xoshiro256PlusPlus) -> Self {
        Self {
            buffer: VecDeque::new(),
            buffered: 0,
            capacity,
            first: 0,
            next: 0,
            read: 0,
            lost: 0,
            segments: Vec::new(),
            window: INITIAL_WINDOW,
            threshold: u32::MAX,
            credit: 0,
            recovering: 0,
            timer: Timer::default(),
            wire: Wire {
                rng,
                bad: false,
                last: Duration::ZERO,
                busy_until: Duration::ZERO,
            },
            retransmitted: 0,
            timeouts: 0,
        }
    }

    /// Whether the send buffer takes another packet. The last one may exceed it, as in Linux.
    pub(super) fn has_room(&self) -> bool {
        self.buffered < self.capacity
    }

    /// Whether nothing waits and nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.buffer.is_empty() && self.segments.is_empty()
    }

    /// Packets in the send buffer.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Puts a packet into the send buffer and sends it if the window allows.
    pub(super) fn send(
        &mut self,
        now: Duration,
        hop: &Hop,
        outages: &Outages,
        packet: P,
        bytes: usize,
    ) {
        self.buffered += bytes;
        self.buffer.push_back(Slot {
            packet: Some(packet),
            bytes,
            state: State::Waiting,
            arrived: false,
        });
        if self.timer.measured.is_none() {
            // The handshake has measured the path.
            self.timer.measure(hop.latency * 2);
        }
        self.transmit(now, hop, outages, false);
    }

    /// Loses the segments under way.
    pub(super) fn lose_in_flight(&mut self) {
        self.segments
            .retain(|segment| !segment.given_up || segment.acknowledged.is_some());
        for segment in &mut self.segments {
            if segment.acknowledged.is_none() {
                segment.arrival = None;
            }
        }
    }

    /// When something happens next.
    pub(super) fn next_event(&self) -> Option<Duration> {
        let segments = self.segments.iter().filter_map(Segment::next_event);
        segments.chain(self.timer.expires).min()
    }

    /// Lets the next thing happen, at the time of [`next_event`](Self::next_event); appends the packets
    /// that the receiver reads.
    pub(super) fn step(&mut self, hop: &Hop, outages: &Outages, read: &mut VecDeque<P>) {
        let events = self.segments.iter().map(Segment::next_event).enumerate();
        let next = events
            .filter_map(|(index, at)| Some((at?, index)))
            .min_by_key(|&(at, index)| (at, index));
        match (next, self.timer.expires) {
            (Some((at, index)), expires) if expires.is_none_or(|expires| at <= expires) => {
                if self.segments[index].acknowledged.is_some() {
                    self.acknowledge(at, index, hop, outages);
                } else {
                    self.arrive(at, index, hop, read);
                }
            }
            (_, Some(expires)) => self.time_out(expires, hop, outages),
            (_, None) => {}
        }
    }

    fn arrive(&mut self, now: Duration, index: usize, hop: &Hop, read: &mut VecDeque<P>) {
        let segment = &mut self.segments[index];
        segment.acknowledged = Some(now + hop.latency);
        for number in segment.first.max(self.first)..segment.end {
            self.buffer[(number - self.first) as usize].arrived = true;
        }
        while let Some(slot) = self.buffer.get_mut((self.read - self.first) as usize)
            && slot.arrived
        {
            read.extend(slot.packet.take());
            self.read += 1;
        }
    }

    fn acknowledge(&mut self, now: Duration, index: usize, hop: &Hop, outages: &Outages) {
        let under_way = self.under_way();
        let segment = self.segments.remove(index);
        if !segment.again {
            // Karn's algorithm: a retransmission does not show which copy is acknowledged.
            self.timer.measure(now - segment.sent);
        }
        for number in segment.first.max(self.first)..segment.end {
            let slot = &mut self.buffer[(number - self.first) as usize];
            self.lost -= usize::from(slot.state == State::Lost);
            slot.state = State::Acknowledged;
        }
        let passed = self.count_passed(&segment);
        let before = self.first;
        while let Some(slot) = self.buffer.front()
            && slot.state == State::Acknowledged
        {
            self.buffered -= slot.bytes;
            self.buffer.pop_front();
            self.first += 1;
        }
        // A copy that is lost is no longer missed once another one is acknowledged.
        let first = self.first;
        self.segments
            .retain(|segment| segment.end > first || segment.next_event().is_some());
        if self.first > before {
            self.timer.backoff = 0;
            self.timer.expires = None;
            if self.first < self.next {
                self.timer.restart(now);
            }
        }
        if under_way >= self.window {
            self.grow();
        }
        self.transmit(now, hop, outages, passed);
    }

    /// Counts an acknowledgement for the segments before it. Returns whether one of them now counts as
    /// lost.
    fn count_passed(&mut self, acknowledged: &Segment) -> bool {
        let mut lost = None;
        for segment in &mut self.segments {
            // A retransmission that is lost too waits for the timer (RFC 6675).
            if segment.again || segment.given_up || segment.first >= acknowledged.first {
                continue;
            }
            segment.passed += 1;
            if segment.passed < DUPLICATES {
                continue;
            }
            segment.given_up = true;
            lost = lost.max(Some(segment.first));
            for number in segment.first.max(self.first)..segment.end {
                let slot = &mut self.buffer[(number - self.first) as usize];
                if slot.state == State::Sent {
                    slot.state = State::Lost;
                    self.lost += 1;
                }
            }
        }
        self.segments
            .retain(|segment| !segment.given_up || segment.next_event().is_some());
        let Some(newest) = lost else {
            return false;
        };
        if newest >= self.recovering {
            self.recovering = self.next;
            self.shrink();
            self.window = self.threshold;
        }
        true
    }

    fn time_out(&mut self, now: Duration, hop: &Hop, outages: &Outages) {
        self.timeouts += 1;
        for slot in &mut self.buffer {
            if slot.state == State::Sent {
                slot.state = State::Lost;
                self.lost += 1;
            }
        }
        for segment in &mut self.segments {
            segment.given_up = true;
        }
        self.segments
            .retain(|segment| segment.next_event().is_some());
        if self.timer.backoff == 0 {
            self.shrink();
        }
        self.window = 1;
        self.credit = 0;
        self.recovering = self.next;
        self.timer.backoff += 1;
        self.timer.restart(now);
        self.transmit(now, hop, outages, true);
    }

    /// CUBIC reduces the window to seven tenths: RFC 9438, section 4.6.
    fn shrink(&mut self) {
        self.threshold = (self.window * 7 / 10).max(LEAST_WINDOW);
    }

    /// By a segment for every acknowledgement, beyond the threshold for every window of them: RFC 5681.
    fn grow(&mut self) {
        self.credit += 1;
        if self.window < self.threshold || self.credit >= self.window {
            self.window += 1;
            self.credit = 0;
        }
    }

    /// Segments that the sender takes for under way.
    fn under_way(&self) -> u32 {
        let missed = |segment: &&Segment| !segment.given_up && segment.end > self.first;
        let count = self.segments.iter().filter(missed).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Sends what the window allows: lost packets first. `at_once` sends one segment in any case.
    fn transmit(&mut self, now: Duration, hop: &Hop, outages: &Outages, mut at_once: bool) {
        let mut under_way = self.under_way();
        while under_way < self.window || at_once {
            at_once = false;
            let from = if self.lost > 0 {
                self.buffer
                    .iter()
                    .position(|slot| slot.state == State::Lost)
            } else {
                let from = (self.next - self.first) as usize;
                (from < self.buffer.len()).then_some(from)
            };
            let Some(from) = from else {
                return;
            };
            self.transmit_from(now, hop, outages, from);
            under_way += 1;
        }
    }

    /// Sends the packets from this one on that are in the same state, as many as fit into a segment.
    fn transmit_from(&mut self, now: Duration, hop: &Hop, outages: &Outages, from: usize) {
        let state = self.buffer[from].state;
        let again = state == State::Lost;
        let (mut count, mut bytes) = (0, 0);
        for slot in self.buffer.range_mut(from..) {
            if slot.state != state || (count > 0 && bytes + slot.bytes > SEGMENT_MAX) {
                break;
            }
            slot.state = State::Sent;
            bytes += slot.bytes;
            count += 1;
        }
        let first = self.first + from as u64;
        let end = first + count as u64;
        if again {
            self.lost -= count;
            self.retransmitted += 1;
        } else {
            self.next = end;
        }
        if self.timer.expires.is_none() || (again && from == 0) {
            self.timer.restart(now);
        }
        let arrival = self.wire.arrival(now, hop, outages, bytes);
        self.segments.push(Segment {
            first,
            end,
            sent: now,
            arrival,
            acknowledged: None,
            again,
            given_up: false,
            passed: 0,
        });
    }
}

#[cfg(test)]
mod tests;
