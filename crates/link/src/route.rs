//! The route to one peer: a state machine over evidence.
//!
//! Owns the rules by which packets move between the direct path and the relay: doubt is cheap,
//! fallback is final. Never sends, never measures, never reads a clock: [`Router::judge`] takes
//! what was measured and returns what it decided.

use std::time::Duration;

mod names;

pub use names::{RouteCause, RouteChange, RoutePolicy, RouteState, UnknownPolicy};

/// A direct path may take this long to open before play starts over the relay.
pub const PROVISIONAL_AFTER: Duration = Duration::from_secs(3);
/// ICE gives up on its own after about 15 s; so do we when nothing else works.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a match that started over the relay still hopes for a direct path: twice ICE's patience.
pub const PROVISIONAL_LIMIT: Duration = Duration::from_secs(30);
/// Direct silence before a path counts as dead. Twice the worst Wi-Fi scan pauses (about 120 ms):
/// promotion is final, so it waits for longer than anything that passes.
pub const DEAD_SILENCE: Duration = Duration::from_millis(250);
/// Packets by relay alone before a path counts as dead, at 60 Hz: proof that the peer lives and sends.
pub const DEAD_PACKETS: u32 = 8;
/// Direct silence that ends a good stretch after a promotion: two of its probes, one a second, may
/// get lost.
pub const RETURN_SILENCE: Duration = Duration::from_millis(2_500);
/// How long a healed direct path must stay good before a policy that allows it returns to it.
pub const RETURN_AFTER: Duration = Duration::from_secs(15);
/// What a path that was left again waits on top; doubled by every further promotion.
pub const QUARANTINE: Duration = Duration::from_secs(5);
/// Longest quarantine.
pub const QUARANTINE_MAX: Duration = Duration::from_secs(300);
/// Relay silence before the direct path is used again beside it. Longer than one lost TCP segment
/// (200 ms is the smallest retransmission time-out of common stacks).
pub const RELAY_SILENCE: Duration = Duration::from_millis(250);

/// A measured value that crossed its limit.
type Reason = (RouteCause, &'static str, f64, f64);

/// How long both paths may carry the game at a stretch while the relay loses less: a doubt that
/// recovers ends within one second.
pub const BOTH_TOGETHER: Duration = Duration::from_secs(2);
/// How long they may in any ten seconds: as often as not means that the doubt keeps coming back.
pub const BOTH_OF_10S: Duration = Duration::from_secs(3);
/// Runs of losses in ten seconds that a player notices as a pattern.
pub const LOSS_RUNS: usize = 3;
/// Delay above its own minimum at which a direct path queues: three frames at 60 Hz, above what
/// Wi-Fi's aggregation and scans add on average over a second.
pub const QUEUED_MS: f64 = 50.0;
/// Occurrences within a second, a quarter of a second apart, that make slow or refused packets a
/// queue: once is a spike.
pub const SLOW_TIMES: usize = 3;

/// What is known about both paths at the moment of judging.
///
/// Silences run on the awake clock: they pause while this peer does not poll.
#[derive(Clone, Copy, Debug, Default)]
pub struct PathEvidence {
    /// The data channel is open.
    pub direct_open: bool,
    /// The server says that the peer can be reached, and the policy allows it.
    pub relay_up: bool,
    /// `relay_up`, and the peer answered over the relay lately.
    pub relay_usable: bool,
    /// An episode runs on both sides and the direct path can be held to account.
    pub judging: bool,
    /// The same for the relay, after a promotion.
    pub judging_relay: bool,
    /// Time since anything came over the direct path.
    pub silence: Duration,
    /// `S`.
    pub silence_limit: Duration,
    /// How much of `S` polls may miss, see [`tolerance`].
    pub slack: Duration,
    /// The expected packet interval `I`.
    pub interval: Duration,
    /// Age of the oldest direct packet not yet acknowledged.
    pub unacked: Option<Duration>,
    /// Its limit.
    pub unacked_limit: Duration,
    /// The direct path refused a packet just now.
    pub send_failed: bool,
    /// Share of packets on time over the recovery stretch, and whether that is good.
    /// Only filled in Suspect.
    pub recovery: Option<(f64, bool)>,
    /// Ticks of the peer heard by relay alone since the last direct packet.
    pub relay_alone: u32,
    /// Time since anything came over the relay.
    pub relay_silence: Duration,
    /// The relay was steady for the recovery stretch. Only filled in Survival.
    pub relay_steady: bool,
    /// Flags of the newest header of the peer.
    pub peer_degraded: bool,
    /// The peer has promoted.
    pub peer_failed_over: bool,
    /// The peer's tab or window is hidden: its packets come when its browser lets it run.
    pub peer_hidden: bool,
    /// Time in which both paths carried the game without a break.
    pub both_together: Duration,
    /// Time in which they did within the last ten seconds.
    pub both_of_10s: Duration,
    /// Runs of losses on the direct path within the last ten seconds, counted up to three.
    pub loss_runs: usize,
    /// The relay delivers what the direct path loses, in time. Only filled in Suspect.
    pub relay_loses_less: bool,
    /// Least delay of the direct path above its own minimum in each of the last three seconds,
    /// if it was slower than the relay in all of them.
    pub queued_ms: Option<f64>,
    /// How often within a second direct packets arrived far too late while the relay is faster.
    pub slow_acks: usize,
    /// How often within a second the direct path refused packets.
    pub refusals: usize,
}

/// The route machine for one peer.
#[derive(Clone, Debug)]
pub struct Router {
    policy: RoutePolicy,
    state: RouteState,
    since: Duration,
    named: Option<Duration>,
    failed: bool,
    degraded: bool,
    returns: bool,
    good_since: Option<Duration>,
    returned: u32,
}

impl Router {
    /// A route that is still connecting.
    #[must_use]
    pub const fn new(policy: RoutePolicy, now: Duration) -> Self {
        Self {
            policy,
            state: RouteState::Connecting,
            since: now,
            named: None,
            failed: false,
            degraded: false,
            returns: false,
            good_since: None,
            returned: 0,
        }
    }

    /// Allows a promoted route to return to a direct path that healed. Off by default: fallback is
    /// final.
    #[must_use]
    pub const fn returning(mut self, allowed: bool) -> Self {
        self.returns = allowed;
        self
    }

    /// Whether promotions may be taken back.
    #[must_use]
    pub const fn returns(&self) -> bool {
        self.returns
    }

    /// Whether our headers say `failed_over`. A peer that is ready to return no longer says so, and
    /// both return once neither does.
    #[must_use]
    pub fn announces_failover(&self, now: Duration) -> bool {
        self.state.failed_over() && !self.ready_to_return(now)
    }

    fn ready_to_return(&self, now: Duration) -> bool {
        self.returns
            && self.state == RouteState::Relay
            && self
                .good_since
                .is_some_and(|since| now.saturating_sub(since) >= self.return_after())
    }

    /// Good time needed: after every return that did not last, the quarantine doubles.
    fn return_after(&self) -> Duration {
        let quarantine = match self.returned {
            0 => Duration::ZERO,
            returned => QUARANTINE * 2_u32.saturating_pow((returned - 1).min(10)),
        };
        RETURN_AFTER + quarantine.min(QUARANTINE_MAX)
    }

    /// Starts the clocks of the connection: the roster named the peer.
    pub fn name_peer(&mut self, now: Duration) {
        self.named.get_or_insert(now);
    }

    /// Where packets go.
    #[must_use]
    pub const fn state(&self) -> RouteState {
        self.state
    }

    /// The rules in force.
    #[must_use]
    pub const fn policy(&self) -> RoutePolicy {
        self.policy
    }

    /// Whether our *own* evidence about the preferred path is bad: the flag in our headers. Never
    /// raised by the peer's flag, or two peers would hold each other in doubt for ever.
    #[must_use]
    pub const fn degraded(&self) -> bool {
        self.degraded
    }

    /// Whether no path opened in time.
    #[must_use]
    pub const fn failed(&self) -> bool {
        self.failed
    }

    /// Ticks by relay alone that prove a direct path dead: 8 at 60 Hz, fewer at lower rates, never
    /// fewer than 3 (three lost in a row are no rarity on a bad link).
    #[must_use]
    pub fn dead_packets(interval: Duration) -> u32 {
        let at_60_hz = f64::from(DEAD_PACKETS) / 60.0;
        let scaled = at_60_hz / interval.as_secs_f64().max(0.001);
        // At most 134: the interval is at least a millisecond.
        (scaled.round() as u32).max(3)
    }

    /// Direct silence that proves a path dead. At low rates it must leave room for two packets
    /// after the doubt began.
    #[must_use]
    pub fn dead_silence(silence_limit: Duration, interval: Duration) -> Duration {
        DEAD_SILENCE.max(silence_limit + interval * 2)
    }

    /// Takes one decision, if one is due. Call again until it returns `None`.
    pub fn judge(&mut self, now: Duration, evidence: &PathEvidence) -> Option<RouteChange> {
        let (to, reason) = match self.state {
            RouteState::Connecting => self.connecting(now, evidence),
            RouteState::Provisional => self.provisional(now, evidence),
            RouteState::Direct => self.direct(evidence),
            RouteState::Suspect => self.suspect(evidence),
            RouteState::Relay => self.relay(now, evidence),
            RouteState::Survival => self.survival(evidence),
        }?;
        let (cause, metric, value, threshold) = reason;
        let change = RouteChange {
            at: now,
            from: self.state,
            to,
            cause,
            metric,
            value,
            threshold,
        };
        self.state = to;
        self.since = now;
        self.good_since = None;
        self.returned += u32::from(cause == RouteCause::Returned);
        if to == RouteState::Relay || to == RouteState::Direct {
            self.degraded = false;
        }
        Some(change)
    }

    fn connecting(&mut self, now: Duration, e: &PathEvidence) -> Option<(RouteState, Reason)> {
        let waited = self
            .named
            .map_or(Duration::ZERO, |at| now.saturating_sub(at));
        let waited_for = |cause, limit: Duration| (cause, "waitedMs", ms(waited), ms(limit));
        if !self.policy.directs() {
            if e.relay_usable {
                self.failed = false;
                return Some((RouteState::Relay, flag(RouteCause::Policy, "relayOnly")));
            }
        } else if e.direct_open {
            self.failed = false;
            return Some((
                RouteState::Direct,
                waited_for(RouteCause::DirectOpened, CONNECT_TIMEOUT),
            ));
        } else if self.named.is_some() && waited >= PROVISIONAL_AFTER && e.relay_usable {
            self.failed = false;
            return Some((
                RouteState::Provisional,
                waited_for(RouteCause::DirectPending, PROVISIONAL_AFTER),
            ));
        }
        self.failed |= self.named.is_some() && waited >= CONNECT_TIMEOUT;
        None
    }

    fn provisional(&self, now: Duration, e: &PathEvidence) -> Option<(RouteState, Reason)> {
        let waited = now.saturating_sub(self.since);
        let waited_for = |cause| (cause, "waitedMs", ms(waited), ms(PROVISIONAL_LIMIT));
        if e.peer_failed_over || waited >= PROVISIONAL_LIMIT {
            return Some((RouteState::Relay, waited_for(RouteCause::Never)));
        }
        e.direct_open
            .then(|| (RouteState::Direct, waited_for(RouteCause::DirectOpened)))
    }

    fn direct(&mut self, e: &PathEvidence) -> Option<(RouteState, Reason)> {
        if let Some(failover) = self.failover(e) {
            return Some(failover);
        }
        let own = Self::direct_degraded(e);
        self.degraded = own.is_some();
        let reason = own.or_else(|| {
            if self.policy == RoutePolicy::DualPath && e.relay_usable {
                Some(flag(RouteCause::Policy, "dualPath"))
            } else {
                e.peer_degraded
                    .then(|| flag(RouteCause::PeerDegraded, "peerDoubt"))
            }
        })?;
        Some((RouteState::Suspect, reason))
    }

    fn suspect(&mut self, e: &PathEvidence) -> Option<(RouteState, Reason)> {
        if let Some(failover) = self.failover(e) {
            return Some(failover);
        }
        let (share, good) = e.recovery.unwrap_or_default();
        if Self::direct_degraded(e).is_some() {
            self.degraded = true;
        } else if good {
            self.degraded = false;
        }
        // Under dual-path both paths are the point, not a doubt.
        let stay = self.policy == RoutePolicy::DualPath && e.relay_up;
        (good && !self.degraded && !e.peer_degraded && e.direct_open && !stay).then_some((
            RouteState::Direct,
            (
                RouteCause::Recovered,
                "onTimeShare",
                share,
                super::health::RECOVERY_SHARE,
            ),
        ))
    }

    fn relay(&mut self, now: Duration, e: &PathEvidence) -> Option<(RouteState, Reason)> {
        // What came before the promotion proves nothing.
        let proven = RETURN_SILENCE.min(now.saturating_sub(self.since));
        if e.direct_open && e.silence < proven && self.policy.directs() {
            self.good_since.get_or_insert(now);
        } else {
            self.good_since = None;
        }
        if self.ready_to_return(now) && !e.peer_failed_over {
            let good = now.saturating_sub(self.good_since.unwrap_or(now));
            return Some((
                RouteState::Direct,
                (
                    RouteCause::Returned,
                    "goodMs",
                    ms(good),
                    ms(self.return_after()),
                ),
            ));
        }
        let own = self.relay_degraded(e);
        self.degraded = own.is_some();
        let reason = own.or_else(|| {
            (self.policy.directs() && e.peer_failed_over && e.peer_degraded)
                .then(|| flag(RouteCause::PeerDegraded, "peerDoubt"))
        })?;
        Some((RouteState::Survival, reason))
    }

    fn survival(&mut self, e: &PathEvidence) -> Option<(RouteState, Reason)> {
        if self.relay_degraded(e).is_some() {
            self.degraded = true;
        } else if e.relay_steady {
            self.degraded = false;
        }
        (!self.degraded && e.relay_steady && !(e.peer_failed_over && e.peer_degraded)).then(|| {
            (
                RouteState::Relay,
                (
                    RouteCause::RelayBack,
                    "relaySilenceMs",
                    ms(e.relay_silence),
                    ms(RELAY_SILENCE),
                ),
            )
        })
    }

    /// What takes the direct path away for good.
    fn failover(&self, e: &PathEvidence) -> Option<(RouteState, Reason)> {
        if !self.policy.relays() {
            return None;
        }
        let reason = if e.peer_failed_over {
            flag(RouteCause::PeerPromoted, "peerPromoted")
        } else if !e.direct_open && e.relay_up {
            flag(RouteCause::Closed, "closed")
        } else if self.policy != RoutePolicy::DualPath && e.judging && e.relay_usable {
            // Late packets of a hidden peer say nothing about a path; its silence on one of two does.
            let slow = || self.lossy(e).or_else(|| Self::congested(e));
            self.dead(e)
                .or_else(|| (!e.peer_hidden).then(slow).flatten())?
        } else {
            return None;
        };
        Some((RouteState::Relay, reason))
    }

    fn dead(&self, e: &PathEvidence) -> Option<Reason> {
        let silence = Self::dead_silence(e.silence_limit, e.interval);
        let dead = self.state == RouteState::Suspect
            && e.silence >= silence
            && e.relay_alone >= Self::dead_packets(e.interval);
        dead.then(|| (RouteCause::Dead, "silenceMs", ms(e.silence), ms(silence)))
    }

    /// Single losses are masked: every input packet carries all unacknowledged inputs. This is for
    /// doubts that do not end, and it bounds them. Where the relay loses as much (a bad last mile
    /// of one peer), both paths stay in use: that is the best there is.
    fn lossy(&self, e: &PathEvidence) -> Option<Reason> {
        if self.state != RouteState::Suspect || !e.relay_loses_less {
            return None;
        }
        let (metric, value, limit) = if e.both_together > BOTH_TOGETHER {
            ("bothPathsMs", ms(e.both_together), ms(BOTH_TOGETHER))
        } else if e.both_of_10s > BOTH_OF_10S {
            ("bothPathsOf10sMs", ms(e.both_of_10s), ms(BOTH_OF_10S))
        } else if e.loss_runs >= LOSS_RUNS {
            ("lossRunsOf10s", e.loss_runs as f64, LOSS_RUNS as f64)
        } else {
            return None;
        };
        Some((RouteCause::Lossy, metric, value, limit))
    }

    fn congested(e: &PathEvidence) -> Option<Reason> {
        let times = SLOW_TIMES as f64;
        let (metric, value, limit) = if let Some(queued) = e.queued_ms.filter(|ms| *ms > QUEUED_MS)
        {
            ("delayAboveMinMs", queued, QUEUED_MS)
        } else if e.slow_acks >= SLOW_TIMES {
            ("slowAcksOf1s", e.slow_acks as f64, times)
        } else if e.refusals >= SLOW_TIMES {
            ("sendFailuresOf1s", e.refusals as f64, times)
        } else {
            return None;
        };
        Some((RouteCause::Congested, metric, value, limit))
    }

    fn direct_degraded(e: &PathEvidence) -> Option<Reason> {
        if e.send_failed {
            return Some(flag(RouteCause::SendFailed, "sendFailures"));
        }
        if !e.direct_open {
            return Some(flag(RouteCause::Closed, "closed"));
        }
        if !e.judging {
            return None;
        }
        if e.silence + e.slack >= e.silence_limit {
            let (value, limit) = (ms(e.silence), ms(e.silence_limit));
            return Some((RouteCause::Silence, "silenceMs", value, limit));
        }
        let unacked = e.unacked.filter(|age| *age > e.unacked_limit)?;
        let (value, limit) = (ms(unacked), ms(e.unacked_limit));
        Some((RouteCause::Unacked, "oldestUnackedMs", value, limit))
    }

    fn relay_degraded(&self, e: &PathEvidence) -> Option<Reason> {
        if !self.policy.directs() {
            return None;
        }
        if !e.relay_up {
            return Some(flag(RouteCause::RelaySilent, "relayDown"));
        }
        let limit = RELAY_SILENCE.max(e.silence_limit);
        (e.judging_relay && e.relay_silence >= limit).then(|| {
            let value = ms(e.relay_silence);
            (RouteCause::RelaySilent, "relaySilenceMs", value, ms(limit))
        })
    }
}

/// Silence is seen only at polls, which jitter: three polls without a packet must count as `3 I`
/// even when they came a little early, or half of all cuts would cost one more interval. Not
/// granted when `S` is two intervals already: that would take the jitter of polls for silence.
#[must_use]
pub fn tolerance(interval: Duration) -> Duration {
    interval / 4
}

fn flag(cause: RouteCause, metric: &'static str) -> Reason {
    (cause, metric, 1.0, 1.0)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests;
