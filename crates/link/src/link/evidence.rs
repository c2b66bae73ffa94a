//! The measurements of a link: intervals, limits and the failover margin, the evidence that the route
//! decides from, and the evidence about late inputs.

use std::time::Duration;

use super::{ClockEstimate, ClockEstimator, Link, LinkEpisode, Suspicion, beat, frame, micros};
use crate::{
    cause::{Evidence, PlayerLink, Via},
    frame::Frame,
    health::{RECOVERY, StretchQuality},
    route::{
        PathEvidence, RELAY_SILENCE, RouteCause, RouteChange, RoutePolicy, RouteState, tolerance,
    },
    wire::{Header, Path},
};

/// Most intervals that are granted to a peer that pauses now and then: 100 ms at 60 Hz. A page whose
/// thread draws in software pauses for 45 to 60 ms, several times a second.
const PATIENCE: u32 = 6;
/// Smallest silence that makes a path suspect at a healthy margin: two frames at 60 Hz. Below it a
/// busy scheduler looks like a broken path.
const SILENCE_MIN: Duration = Duration::from_millis(34);
/// Round trips after which the estimate has forgotten its start (a gain of 1/8, RFC 6298).
const STEADY_SAMPLES: u64 = 16;
/// How many times the jitter must fit into an interval for two and a quarter to be silence.
const STEADY_JITTER: u32 = 4;
/// An echo over the relay proves it for this long: two probes, one a second, may be lost.
const ECHO_AGE: Duration = Duration::from_millis(2_500);
/// The direct path is judged this long after the first datagram of an episode, even if none came
/// over it: it covers the difference in starting times that a barrier leaves.
const EXCHANGE_GRACE: Duration = Duration::from_millis(500);
/// Silence granted to a hidden peer on top: browsers that throttle a hidden tab wake its timers once a
/// second, and a busy one half as late again. Longer silence while the relay delivers is a dead path,
/// hidden or not.
pub const HIDDEN_GRACE: Duration = Duration::from_millis(1_500);
/// Seconds before this one over which a transit time is usual: probes come five times a second
/// before an episode, so ten or more.
const USUAL_SECONDS: u64 = 2;
/// Direct packets after a silence that prove that the path carried everything: three, so that a
/// straggler of a path that is gone is no proof.
const UNBROKEN_PACKETS: u64 = 3;
/// Datagrams that jitter and gaps need: both lie between two packets.
const MEASURED_MIN: u64 = 2;

impl Link {
    /// The expected interval between packets, `I`: the larger of this peer's poll interval and the
    /// one that the peer advertises.
    pub(super) fn interval(&self) -> Duration {
        let own = self.advertised();
        match self.peer.interval {
            // The wire rounds to 2 ms, so closer values are equal.
            Some(peer) if peer > own + Duration::from_millis(1) => peer,
            _ => own,
        }
    }

    /// Direct silence that makes the path suspect, `S`: three intervals, at least 34 ms. Up to six where
    /// the peer itself pauses: twice its longest pause of the last seconds.
    ///
    /// Two and a quarter where three overdraw the prediction window and that may not (over a grid of
    /// delays, losing the direct path begins to stall an interval below a margin of zero): the packet
    /// after a single lost one is not late yet. Where no limit could save the frame, an early
    /// suspicion would only cost relay traffic. It is silence only on a link that is measured and
    /// steady: with jitter a healthy packet misses its poll as often.
    fn silence_limit(&self) -> Duration {
        let quick = self.interval() * 9 / 4;
        let calm = self.patient_limit();
        let near = self.interval().as_secs_f64() * -1e3;
        let above = |limit, bound| self.margin_ms_at(limit).is_some_and(|ms| ms >= bound);
        let direct = &self.paths[Path::Direct.index()];
        let steady = calm == self.calm_limit()
            && direct.rtt.samples >= STEADY_SAMPLES
            && direct.delay.jitter() * STEADY_JITTER <= self.interval();
        if !self.peer.hidden && quick < calm && steady && !above(calm, 0.0) && above(quick, near) {
            quick
        } else {
            calm
        }
    }

    /// The failover margin in milliseconds: what is left of the prediction window when a lost direct
    /// path is noticed and replaced. Not negative means that losing it stalls no frame. `None` until
    /// both paths were measured.
    ///
    /// The window is `max_prediction - 1 + input_delay` frames, less the frames that one peer is
    /// ahead. From it half the round trip of each path, `I`, `S` and the jitter of both paths are
    /// subtracted: the last direct packet and the first relayed one were that much early or late.
    #[must_use]
    pub fn margin(&self) -> Option<f64> {
        self.margin_ms_at(self.silence_limit())
    }

    /// Smoothed round trip of the path in use.
    #[must_use]
    pub fn srtt(&self) -> Option<Duration> {
        self.path_rtt(self.route_path())
    }

    /// Smoothed round trip of `path`.
    #[must_use]
    pub fn path_rtt(&self, path: Path) -> Option<Duration> {
        self.paths[path.index()].rtt.get()
    }

    /// Jitter of the path in use (RFC 3550).
    #[must_use]
    pub fn jitter(&self) -> Duration {
        self.paths[self.route_path().index()].delay.jitter()
    }

    /// The path in use: the relay after a failover or while provisional.
    const fn route_path(&self) -> Path {
        match self.router.state() {
            RouteState::Relay | RouteState::Survival | RouteState::Provisional => Path::Relay,
            RouteState::Connecting | RouteState::Direct | RouteState::Suspect => Path::Direct,
        }
    }

    /// Time since anything of the peer arrived, on any path. Pauses while this peer does not poll.
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

    /// The epoch of the peer's newest header; [`IDLE_EPOCH`](super::IDLE_EPOCH) while it plays no episode.
    #[must_use]
    pub const fn peer_epoch(&self) -> u16 {
        self.peer.epoch
    }

    /// Whether the peer's tab or window is hidden, by its newest header.
    #[must_use]
    pub const fn peer_hidden(&self) -> bool {
        self.peer.hidden
    }

    /// The samples of the peer's clock, for [`drift_ppm`](super::drift_ppm) and for exports.
    #[must_use]
    pub const fn peer_clock(&self) -> &ClockEstimator {
        &self.clock
    }

    /// The offset of the peer's clock, as of the last echo that narrowed it, at most a second before
    /// the last echo. `None` before the first echo.
    #[must_use]
    pub const fn clock_offset(&self) -> Option<ClockEstimate> {
        self.clock.latest()
    }

    /// This link as [`cause::LinkEvidence`](crate::cause::LinkEvidence) needs it. `turn` states that
    /// the direct path goes through a TURN server.
    #[must_use]
    pub fn player_link(&self, now: Duration, turn: bool) -> PlayerLink {
        let path = self.route_path();
        let health = &self.paths[path.index()];
        let second_ago = self
            .cadence
            .awake(now)
            .saturating_sub(Duration::from_secs(1));
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        let measured = self.stats.path(path).received >= MEASURED_MIN;
        let frame = frame(self.settings.fps);
        PlayerLink {
            via: Via::of(self.route(), turn),
            evidence: Evidence {
                rtt_ms: self.srtt().map(millis),
                jitter_ms: measured.then(|| millis(health.delay.jitter())),
                lost_packets: measured.then(|| health.received.missing_since(second_ago)),
                peer_silence_ms: Some(millis(self.peer_silence(now))),
                ..Evidence::default()
            },
            shift: self.last_shift,
            offset_us: self.clock_offset().map(|offset| offset.offset_us),
            frame,
            interval: self
                .peer
                .tick_interval
                .map_or(self.interval(), |ticks| ticks.max(frame)),
            input_delay: Frame::try_from(self.settings.input_delay).unwrap_or(Frame::MAX),
            max_prediction: Frame::try_from(self.settings.max_prediction).unwrap_or(Frame::MAX),
            usual_us: Path::ALL
                .map(|path| self.paths[path.index()].delay.mean_over(now, USUAL_SECONDS)),
        }
    }

    /// The send interval in our headers.
    pub(super) fn advertised(&self) -> Duration {
        self.cadence.interval().max(self.beat())
    }

    /// The interval of our heartbeats.
    pub(super) fn beat(&self) -> Duration {
        beat(self.settings.fps)
    }

    /// The usual time between two ticks of the peer's game, by its header: at least a frame.
    pub(super) fn peer_tick_interval(&self, header: &Header) -> Duration {
        let ticks = header.tick_interval.or(header.interval);
        ticks.unwrap_or_default().max(frame(self.settings.fps))
    }

    /// Whether the relay delivered an acknowledgement lately.
    pub(super) fn relay_echoes(&self) -> bool {
        let newest = self.cadence.awake(self.latest);
        self.relay_up
            && self.paths[1]
                .sent
                .last_ack()
                .is_some_and(|at| newest.saturating_sub(at) <= ECHO_AGE)
    }

    /// Time since anything arrived over `path`, from when it could.
    pub(super) fn silence(&self, path: Path, awake: Duration) -> Duration {
        let grace = match path {
            Path::Direct => self.direct_grace,
            Path::Relay => self.relay_grace,
        };
        let first = self.episode.and_then(|episode| episode.received);
        let last = self.paths[path.index()].received.last();
        let since = grace
            .max(first.unwrap_or_default())
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

        PathEvidence {
            direct_open: self.direct_open,
            relay_up: self.relay_up,
            relay_usable: self.relay_echoes(),
            judging: self.direct_open
                && together.is_some_and(|episode| self.direct_accountable(&episode, awake)),
            judging_relay: together.is_some(),
            silence: self.silence(Path::Direct, awake),
            silence_limit: limit,
            slack: if limit == self.patient_limit() {
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
            unbroken: self.is_unbroken(),
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

    /// Remembers what was known when silence made the path suspect.
    pub(super) fn record_suspicion(&mut self, change: &RouteChange) {
        let silent = matches!(
            change.cause,
            RouteCause::Silence | RouteCause::Unacked | RouteCause::PeerDegraded
        );
        self.suspicion = (change.to == RouteState::Suspect && silent).then(|| Suspicion {
            at: self.cadence.awake(change.at),
            received: self.stats.path(Path::Direct).received,
            missed: self.paths[Path::Direct.index()].received.missed(),
        });
    }

    /// Whether the direct path has delivered several packets since it became suspect, and none of
    /// the peer's is missing.
    fn is_unbroken(&self) -> bool {
        self.suspicion.is_some_and(|suspicion| {
            let came = self.stats.path(Path::Direct).received - suspicion.received;
            let missed = self.paths[Path::Direct.index()].received.missed();
            came >= UNBROKEN_PACKETS && missed == suspicion.missed
        })
    }

    /// Whether a suspect path and the relay have both been silent for so long that the peer stands
    /// still, or nothing reaches it: game packets on both paths are of no use then. Probes go on.
    pub(super) fn peer_is_silent(&self) -> bool {
        let Some(suspicion) = self
            .suspicion
            .filter(|_| self.settings.policy != RoutePolicy::DualPath)
        else {
            return false;
        };
        let awake = self.cadence.awake(self.latest);
        let answered = self.path_rtt(Path::Relay).unwrap_or_default() * 2 + self.interval();
        let limit = RELAY_SILENCE.max(answered);
        self.paths.iter().all(|health| {
            let since = health.received.last().unwrap_or_default().max(suspicion.at);
            awake.saturating_sub(since) >= limit
        })
    }

    /// Whether silence on the direct path counts in this episode: datagrams crossed it in both
    /// directions, or should have by now.
    fn direct_accountable(&self, episode: &LinkEpisode, awake: Duration) -> bool {
        let direct = &self.paths[Path::Direct.index()];
        let exchanged = episode.received_direct && direct.sent.confirmed_since(episode.started);
        let overdue = episode
            .received
            .is_some_and(|first| awake >= first.max(self.direct_grace) + EXCHANGE_GRACE);
        exchanged || overdue
    }

    /// How long a packet may stay unacknowledged: RFC 9002's probe time-out with the peer's poll
    /// interval as its acknowledgement delay, and one interval more, because the packet that would
    /// have carried the acknowledgement may be a single lost one.
    pub(super) fn unacked_limit(&self, interval: Duration) -> Duration {
        self.ack_limit(Path::Direct, interval)
    }

    pub(super) fn ack_limit(&self, path: Path, interval: Duration) -> Duration {
        let rtt = &self.paths[path.index()].rtt;
        let awake = match rtt.get() {
            Some(srtt) => srtt + (rtt.variation * 4).max(interval) + interval * 2,
            None => EXCHANGE_GRACE,
        };
        // It acknowledges nothing while it pauses.
        let pause = self.peer_pauses.longest(self.latest);
        let pause = pause.min(interval * PATIENCE).saturating_sub(interval * 2);
        awake + pause + self.hidden_grace()
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
        // Two packets read one poll late and one on time are an interval further apart than the
        // longest silence that any poll measured.
        let came: StretchQuality = direct.received.quality(start, awake, limit + interval);
        // Acknowledgements of the newest packets are still in flight: over long round trips the
        // stretch reaches further back, or nothing in it could be judged.
        let back = stretch.max(unacked_limit + stretch / 2);
        let went: StretchQuality =
            direct
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
        let gap = RELAY_SILENCE.max(limit);
        self.relay_echoes()
            && self.paths[1].received.quality(start, awake, gap).covered
            && self.silence(Path::Relay, awake) < gap
    }

    /// The silence limit, with patience for a peer that pauses.
    fn patient_limit(&self) -> Duration {
        let pause = self.peer_pauses.longest(self.latest) * 2;
        self.calm_limit().max(pause.min(self.interval() * PATIENCE))
    }

    /// The silence limit of three intervals.
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
            - micros(self.cadence.interval().min(self.interval()))
            - micros(silence_limit)
            - self
                .paths
                .iter()
                .map(|health| micros(health.delay.jitter()))
                .sum::<i64>();
        Some(left as f64 / 1e3)
    }
}
