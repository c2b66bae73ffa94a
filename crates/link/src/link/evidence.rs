//! What a link measures, in the form the router and the exports take it.
//!
//! Owns the intervals, the limits and the failover margin. Never sends, never decides.

use std::time::Duration;

use super::{ClockEstimate, LateEvidence, Link, Path, ClockEstimator, frame, micros};
use crate::{
    health::{StretchQuality, RECOVERY},
    route::{PathEvidence, RouteState, tolerance},
};

/// Smallest silence that raises doubt at a healthy margin: two frames at 60 Hz. Below it a busy
/// scheduler looks like a broken path.
pub(super) const SILENCE_MIN: Duration = Duration::from_millis(34);
/// Round trips after which the estimate has forgotten its start (a gain of 1/8, RFC 9002).
const STEADY_SAMPLES: u64 = 16;
/// How many times the jitter must fit into an interval for two intervals to be silence.
const STEADY_JITTER: u32 = 4;
/// An echo over the relay proves it for this long: two probes may get lost.
const ECHO_AGE: Duration = Duration::from_millis(2_500);
/// A peer heard in this episode over the relay alone holds the direct path to account after this:
/// it covers the difference in starting times that a barrier leaves.
const EXCHANGE_GRACE: Duration = Duration::from_millis(500);
/// What a hidden peer is granted on top: browsers wake a hidden tab's timers once a second where
/// they throttle them, and half of that again is a busy one. Longer silence while the relay goes on
/// bringing packets is a dead path, hidden or not.
pub const HIDDEN_GRACE: Duration = Duration::from_millis(1_500);

impl Link {
    /// The expected interval between packets, `I`: the larger of one's own poll interval and the
    /// peer's advertised one.
    #[must_use]
    pub fn interval(&self) -> Duration {
        let own = self.advertised();
        match self.peer.interval {
            // The wire rounds to 2 ms: what is that close is the same.
            Some(peer) if peer > own + Duration::from_millis(1) => peer,
            _ => own,
        }
    }

    /// Length of a frame of the game.
    #[must_use]
    pub fn frame(&self) -> Duration {
        frame(self.settings.fps)
    }

    /// How much of the way from the peer its input delay covers; it is the same on every peer.
    #[must_use]
    pub fn covered(&self) -> Duration {
        self.frame() * self.settings.input_delay
    }

    /// Direct silence that raises doubt, `S`: three intervals, at least 34 ms. Two intervals where
    /// three overdraw the prediction window and two may not (cuts over a grid of delays begin to
    /// stall an interval below a margin of zero); where no limit could save the frame, an early
    /// alarm would only cost relay traffic. Two intervals are silence only on a link that is known
    /// and steady: with jitter a healthy packet misses its poll as often, and the first round
    /// trips still hold the wait for the game's first tick.
    #[must_use]
    pub fn silence_limit(&self) -> Duration {
        let (calm, quick) = (self.calm_limit(), self.interval() * 2);
        let near = self.interval().as_secs_f64() * -1e3;
        let above = |limit, bound| self.margin_ms_at(limit).is_some_and(|ms| ms >= bound);
        let direct = &self.paths[Path::Direct.index()];
        let steady = direct.rtt.samples >= STEADY_SAMPLES
            && direct.delay.jitter() * STEADY_JITTER <= self.interval();
        if !self.peer.hidden && quick < calm && steady && !above(calm, 0.0) && above(quick, near) {
            quick
        } else {
            calm
        }
    }

    /// The failover margin in milliseconds: what is left of the prediction window when a cut is
    /// noticed and relayed. Not negative: a lost path stalls no frame. The jitter of both paths is
    /// taken off beside the terms of the budget: the last packet before a cut and the first one
    /// relayed were that much early or late. `None` until both paths were measured.
    #[must_use]
    pub fn margin(&self) -> Option<f64> {
        self.margin_ms_at(self.silence_limit())
    }

    /// Smoothed round trip of the route in use.
    #[must_use]
    pub fn srtt(&self) -> Option<Duration> {
        self.path_rtt(self.route_path())
    }

    /// Smoothed round trip of `path`.
    #[must_use]
    pub fn path_rtt(&self, path: Path) -> Option<Duration> {
        self.paths[path.index()].rtt.get()
    }

    /// The path whose packets count: the relay once promoted or while provisional.
    #[must_use]
    pub const fn route_path(&self) -> Path {
        match self.router.state() {
            RouteState::Relay | RouteState::Survival | RouteState::Provisional => Path::Relay,
            RouteState::Connecting | RouteState::Direct | RouteState::Suspect => Path::Direct,
        }
    }

    /// Time since anything of the peer came, on any path. Pauses while this peer does not poll.
    #[must_use]
    pub fn peer_silence(&self, now: Duration) -> Duration {
        let awake = self.cadence.awake(now);
        let last = self
            .paths
            .iter()
            .filter_map(|health| health.received.last())
            .max();
        last.map_or(awake, |last| awake.saturating_sub(last))
    }

    /// Whether the peer says that it is hidden.
    #[must_use]
    pub const fn peer_hidden(&self) -> bool {
        self.peer.hidden
    }

    /// How long the peer has heard nothing over the direct path, by its newest header.
    #[must_use]
    pub const fn peer_reported_silence(&self) -> Duration {
        self.peer.silence
    }

    /// The peer's clock against ours.
    #[must_use]
    pub const fn peer_clock(&self) -> &ClockEstimator {
        &self.clock
    }

    /// The peer's clock against ours at the last echo that told anything new.
    #[must_use]
    pub const fn clock_offset(&self) -> Option<ClockEstimate> {
        self.clock.latest()
    }

    /// What explains a late input.
    #[must_use]
    pub fn late_evidence(&self, now: Duration) -> LateEvidence {
        let health = &self.paths[self.route_path().index()];
        let awake = self.cadence.awake(now);
        let second_ago = awake.saturating_sub(Duration::from_secs(1));
        LateEvidence {
            rtt: self.srtt(),
            jitter: health.delay.jitter(),
            lost_packets: health.received.missing_since(second_ago),
            reordered: health
                .received
                .last_reordered()
                .is_some_and(|at| at >= second_ago),
            peer_silence: self.peer_silence(now),
            peer_hidden: self.peer.hidden,
            route_shift: self.last_shift,
        }
    }

    /// The send interval in our headers.
    pub(super) fn advertised(&self) -> Duration {
        self.cadence.interval().max(frame(self.settings.fps))
    }

    /// Whether the relay answered lately.
    pub(super) fn relay_echoes(&self) -> bool {
        let newest = self.cadence.awake(self.latest);
        self.relay_up
            && self.paths[1]
                .sent
                .last_ack()
                .is_some_and(|at| newest.saturating_sub(at) <= ECHO_AGE)
    }

    /// Time since anything came over `path` that could have.
    pub(super) fn silence(&self, path: Path, awake: Duration) -> Duration {
        let grace = match path {
            Path::Direct => self.direct_grace,
            Path::Relay => self.relay_grace,
        };
        let heard = self.episode.and_then(|episode| episode.heard);
        let last = self.paths[path.index()].received.last();
        let since = grace
            .max(heard.unwrap_or_default())
            .max(last.unwrap_or_default());
        awake.saturating_sub(since)
    }

    pub(super) fn evidence(&self, now: Duration, send_failed: bool) -> PathEvidence {
        let awake = self.cadence.awake(now);
        let interval = self.interval();
        let limit = self.silence_limit();
        let direct = &self.paths[0];
        let unacked_limit = self.unacked_limit(interval);

        let together = self
            .episode
            .filter(|episode| self.peer.epoch == episode.epoch);
        let exchanged = together.is_some_and(|episode| {
            episode.heard_direct && direct.sent.confirmed_since(episode.started)
        });
        let overdue = together
            .and_then(|episode| episode.heard)
            .is_some_and(|heard| awake >= heard.max(self.direct_grace) + EXCHANGE_GRACE);

        PathEvidence {
            direct_open: self.direct_open,
            relay_up: self.relay_up,
            relay_usable: self.relay_echoes(),
            judging: self.direct_open && (exchanged || overdue),
            judging_relay: together.is_some(),
            silence: self.silence(Path::Direct, awake),
            silence_limit: limit,
            slack: if limit == self.calm_limit() {
                tolerance(interval)
            } else {
                Duration::ZERO
            },
            interval,
            unacked: direct.sent.oldest_unacked(awake),
            unacked_limit,
            send_failed,
            recovery: (self.router.state() == RouteState::Suspect && together.is_some())
                .then(|| self.recovery(awake, limit, interval, unacked_limit)),
            relay_alone: self.relay_alone,
            relay_silence: self.silence(Path::Relay, awake),
            relay_steady: self.router.state() == RouteState::Survival
                && self.relay_steady(awake, limit),
            peer_degraded: self.peer.degraded,
            peer_failed_over: self.peer.failed_over,
            peer_hidden: self.peer.hidden,
            both_together: self.both_together(awake),
            both_of_10s: self.both_of_10s(awake),
            loss_runs: self.loss_runs(awake),
            relay_loses_less: self.router.state() == RouteState::Suspect
                && self.relay_loses_less(awake),
            queued_ms: self.queued_ms(now),
            slow_acks: self.slow_acks(awake),
            refusals: self
                .refusals
                .since(awake.saturating_sub(Duration::from_secs(1))),
        }
    }

    /// How long a packet may stay unacknowledged: RFC 9002's probe time-out with the peer's poll
    /// interval as its acknowledgement delay, and one interval more, because the packet that
    /// would have brought the acknowledgement may be a single lost one.
    pub(super) fn unacked_limit(&self, interval: Duration) -> Duration {
        self.ack_limit(Path::Direct, interval)
    }

    pub(super) fn ack_limit(&self, path: Path, interval: Duration) -> Duration {
        let rtt = &self.paths[path.index()].rtt;
        let awake = match rtt.get() {
            Some(srtt) => srtt + (rtt.variation * 4).max(interval) + interval * 2,
            None => EXCHANGE_GRACE,
        };
        awake + self.hidden_grace()
    }

    /// Quality of the direct path in both directions over the recovery stretch.
    fn recovery(
        &self,
        awake: Duration,
        limit: Duration,
        interval: Duration,
        unacked_limit: Duration,
    ) -> (f64, bool) {
        let [direct, _] = &self.paths;
        let stretch = RECOVERY.max(interval * 5);
        let start = awake.saturating_sub(stretch);
        // Two packets seen one poll late and one on time are an interval further apart than the
        // longest silence that any poll saw.
        let came: StretchQuality = direct.received.quality(start, awake, limit + interval);
        // Acknowledgements of the newest packets are still on their way: over long round trips
        // the stretch reaches further back, or nothing in it could be judged.
        let back = stretch.max(unacked_limit + stretch / 2);
        let went: StretchQuality = direct
            .sent
            .quality(awake.saturating_sub(back), awake, unacked_limit);
        let refused = self
            .last_refusal
            .is_some_and(|at| awake.saturating_sub(at) < stretch);
        let good = came.good() && went.good() && !refused;
        (came.share().min(went.share()), good)
    }

    fn relay_steady(&self, awake: Duration, limit: Duration) -> bool {
        let start = awake.saturating_sub(RECOVERY);
        let gap = crate::route::RELAY_SILENCE.max(limit);
        self.relay_echoes()
            && self.paths[1].received.quality(start, awake, gap).covered
            && self.silence(Path::Relay, awake) < gap
    }

    pub(super) fn calm_limit(&self) -> Duration {
        (self.interval() * 3).max(SILENCE_MIN) + self.hidden_grace()
    }

    fn hidden_grace(&self) -> Duration {
        if self.peer.hidden {
            HIDDEN_GRACE
        } else {
            Duration::ZERO
        }
    }

    fn margin_ms_at(&self, silence_limit: Duration) -> Option<f64> {
        let direct = self.path_rtt(Path::Direct)?;
        let relay = self.path_rtt(Path::Relay).filter(|_| self.relay_up)?;
        let settings = &self.settings;
        let frame_us = micros(frame(settings.fps));
        let window = i64::from(settings.max_prediction) - 1 + i64::from(settings.input_delay)
            - i64::from(self.skew.unsigned_abs());
        let left = window * frame_us
            - micros(direct / 2)
            - micros(relay / 2)
            - micros(self.interval())
            - micros(silence_limit)
            - self
                .paths
                .iter()
                .map(|health| micros(health.delay.jitter()))
                .sum::<i64>();
        Some(left as f64 / 1e3)
    }

    pub(super) fn refresh_stats(&mut self) {
        for (stats, health) in self.stats.paths.iter_mut().zip(&self.paths) {
            stats.lost = health.sent.lost();
            stats.missed = health.received.missed();
            stats.reordered = health.received.reordered();
            stats.duplicate = health.received.duplicate();
            stats.rtt = health.rtt;
            stats.jitter = health.delay.jitter();
        }
        self.stats.own_stalls = self.cadence.own_stalls();
    }
}
