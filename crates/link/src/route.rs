//! The route to one peer: which path or paths carry game packets, and why that changes.
//!
//! [`Link`](crate::link::Link) owns the state machine; read its decisions with
//! [`Link::drain_changes`](crate::link::Link::drain_changes). Suspecting a path is cheap, because
//! both paths are used meanwhile; a failover is final, unless
//! [`LinkSettings::return_to_direct`](crate::link::LinkSettings::return_to_direct) allows failback.
//!
//! | from | to | when |
//! |---|---|---|
//! | connecting | direct | the data channel opened |
//! | connecting | provisional | it is not open after 3 s, and the relay works |
//! | provisional | relay | it is not open after 30 s more |
//! | direct | suspect | three packet intervals of silence (at least 34 ms; up to six from a peer that itself pauses), an overdue acknowledgement, a refused packet, or the peer suspects it |
//! | suspect | direct | 90 % of the packets of 500 ms on time, no two lost in a row, for both peers; at once when packets come again after a silence and none is missing |
//! | direct, suspect | relay | *dead*: 250 ms of silence while 8 ticks arrived by relay alone; *lossy*: the relay loses clearly less and both paths were in use for 2 s; *congested*: a queue of 50 ms for 3 s; the channel closed; the peer failed over |
//! | relay | survival | 250 ms without anything over the relay: both paths are used |
//! | survival | relay | the relay was steady for 500 ms |
//!
//! The machine takes measurements and `now`, and returns a decision: it measures nothing itself.

use std::time::Duration;

use crate::health::RECOVERY_SHARE;

mod metric;
mod names;

pub use metric::RouteMetric;
pub use names::{RouteCause, RouteChange, RoutePolicy, RouteState, UnknownPolicy};

/// A direct path may take this long to open before play starts over the relay: ICE over STUN
/// usually completes within two seconds, and players wait meanwhile.
const PROVISIONAL_AFTER: Duration = Duration::from_secs(3);
/// How long a link may stay without any path. Browsers end ICE checks after about 15 s.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a match that started over the relay still waits for a direct path: twice the duration
/// of ICE checks.
const PROVISIONAL_LIMIT: Duration = Duration::from_secs(30);
/// Direct silence before a path counts as dead. Twice the worst pause of a Wi-Fi scan (about
/// 120 ms): failover is final, so it waits for longer than any outage that passes by itself.
pub(crate) const DEAD_SILENCE: Duration = Duration::from_millis(250);
/// Packets by relay alone before a path counts as dead, at 60 Hz: proof that the peer is alive and
/// sending.
const DEAD_PACKETS: u32 = 8;
/// Packets by relay alone at any rate: three losses in a row are not rare on a bad link.
const DEAD_PACKETS_MIN: u32 = 3;
/// Direct silence that ends a good stretch after a failover: two of its probes, one a second, may
/// be lost.
const RETURN_SILENCE: Duration = Duration::from_millis(2_500);
/// How long a healed direct path must stay good before failback, where the policy allows it: long
/// against every rule above, so that a path that flaps does not qualify.
const RETURN_AFTER: Duration = Duration::from_secs(15);
/// Additional wait for a path that failed again after a failback; doubled by every further one.
const QUARANTINE: Duration = Duration::from_secs(5);
/// Longest quarantine: beyond five minutes a match is likely over.
const QUARANTINE_MAX: Duration = Duration::from_secs(300);
/// Relay silence before the direct path is used again beside it. Longer than the recovery of one
/// lost TCP segment: 200 ms is the smallest retransmission time-out of common stacks.
pub(crate) const RELAY_SILENCE: Duration = Duration::from_millis(250);
/// How long both paths may carry the game without a break while the relay loses less: twice as long
/// as a suspicion that recovers, which ends within a second.
pub const BOTH_TOGETHER: Duration = Duration::from_secs(2);
/// How long they may in any ten seconds: more means that the suspicion keeps coming back.
const BOTH_OF_10S: Duration = Duration::from_secs(3);
/// Runs of losses in ten seconds that a player notices as a pattern.
const LOSS_RUNS: usize = 3;
/// Milliseconds of delay above its own minimum at which a direct path queues: three frames at 60 Hz,
/// above what Wi-Fi's aggregation and scans add on average over a second.
const QUEUED_MS: f64 = 50.0;
/// Occurrences within a second, a quarter of a second apart, that make slow or refused packets a
/// queue: a single one is a spike.
const SLOW_TIMES: usize = 3;
/// Share of an interval that polls may miss, see [`tolerance`].
const POLL_JITTER: u32 = 4;

/// A measured value that crossed its threshold.
#[derive(Clone, Copy, Debug)]
struct Trigger {
    cause: RouteCause,
    metric: RouteMetric,
    value: f64,
    threshold: f64,
}

impl Trigger {
    /// A duration that reached its limit.
    fn time(cause: RouteCause, metric: RouteMetric, value: Duration, limit: Duration) -> Self {
        Self {
            cause,
            metric,
            value: ms(value),
            threshold: ms(limit),
        }
    }

    /// A number of occurrences that reached its limit.
    fn count(cause: RouteCause, metric: RouteMetric, value: usize, limit: usize) -> Self {
        Self {
            cause,
            metric,
            value: value as f64,
            threshold: limit as f64,
        }
    }

    /// Something that is so or is not.
    const fn flag(cause: RouteCause, metric: RouteMetric) -> Self {
        Self {
            cause,
            metric,
            value: 1.0,
            threshold: 1.0,
        }
    }
}

/// A state to enter, and what asks for it.
type Decision = (RouteState, Trigger);

/// What is known about both paths at the moment of judging.
///
/// Silences are measured on the awake clock: they pause while this peer does not poll.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PathEvidence {
    /// The data channel is open.
    pub(crate) direct_open: bool,
    /// The server reports that the peer can be reached, and the policy allows it.
    pub(crate) relay_up: bool,
    /// `relay_up`, and the peer answered over the relay lately.
    pub(crate) relay_usable: bool,
    /// An episode runs on both sides and the direct path can be held to account.
    pub(crate) judging: bool,
    /// The same for the relay, after a failover.
    pub(crate) judging_relay: bool,
    /// Time since anything arrived over the direct path.
    pub(crate) silence: Duration,
    /// `S`, the silence that makes the direct path suspect.
    pub(crate) silence_limit: Duration,
    /// How much of `S` polls may miss, see [`tolerance`].
    pub(crate) slack: Duration,
    /// `I`, the expected packet interval.
    pub(crate) interval: Duration,
    /// Age of the oldest direct packet not yet acknowledged.
    pub(crate) unacked: Option<Duration>,
    /// Its limit.
    pub(crate) unacked_limit: Duration,
    /// The direct path refused a packet just now.
    pub(crate) send_failed: bool,
    /// Share of packets on time over the recovery stretch, and whether that is good. Only filled in
    /// Suspect.
    pub(crate) recovery: Option<(f64, bool)>,
    /// Since the path became suspect it has delivered packets again, and none is missing: the peer
    /// was silent, not the path. Only filled in Suspect.
    pub(crate) unbroken: bool,
    /// Ticks of the peer received by relay alone since the last direct packet.
    pub(crate) relay_alone: u32,
    /// Time since anything arrived over the relay.
    pub(crate) relay_silence: Duration,
    /// The relay was steady for the recovery stretch. Only filled in Survival.
    pub(crate) relay_steady: bool,
    /// The peer's newest header reports a degraded path.
    pub(crate) peer_degraded: bool,
    /// The peer has failed over.
    pub(crate) peer_failed_over: bool,
    /// The peer's tab or window is hidden: its packets arrive when its browser lets it run.
    pub(crate) peer_hidden: bool,
    /// Time in which both paths carried the game without a break.
    pub(crate) both_together: Duration,
    /// Time in which they did within the last ten seconds.
    pub(crate) both_of_10s: Duration,
    /// Runs of losses on the direct path within the last ten seconds, counted up to three.
    pub(crate) loss_runs: usize,
    /// The relay delivers what the direct path loses, in time. Only filled in Suspect.
    pub(crate) relay_loses_less: bool,
    /// Least delay of the direct path above its own minimum in each of the last three seconds, in
    /// milliseconds, if it was slower than the relay in all of them.
    pub(crate) queued_ms: Option<f64>,
    /// How often within a second direct packets arrived far too late while the relay is faster.
    pub(crate) slow_acks: usize,
    /// How often within a second the direct path refused packets.
    pub(crate) refusals: usize,
}

/// The route machine for one peer.
#[derive(Clone, Debug)]
pub(crate) struct Router {
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
    pub(crate) const fn new(policy: RoutePolicy, now: Duration) -> Self {
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

    /// Allows failback to a direct path that healed. Off by default.
    pub(crate) const fn returning(mut self, allowed: bool) -> Self {
        self.returns = allowed;
        self
    }

    /// Whether failback is allowed.
    pub(crate) const fn returns(&self) -> bool {
        self.returns
    }

    /// Whether our headers state `failed_over`. A peer that is ready for failback clears it, and
    /// both return once neither states it.
    pub(crate) fn announces_failover(&self, now: Duration) -> bool {
        self.state.failed_over() && !self.ready_to_return(now)
    }

    fn ready_to_return(&self, now: Duration) -> bool {
        self.returns
            && self.state == RouteState::Relay
            && self
                .good_since
                .is_some_and(|since| now.saturating_sub(since) >= self.return_after())
    }

    /// Good time needed: after every failback that did not last, the quarantine doubles.
    fn return_after(&self) -> Duration {
        let quarantine = match self.returned {
            0 => Duration::ZERO,
            returned => QUARANTINE * 2_u32.saturating_pow((returned - 1).min(10)),
        };
        RETURN_AFTER + quarantine.min(QUARANTINE_MAX)
    }

    /// Starts the clocks of the connection: the roster named the peer.
    pub(crate) fn name_peer(&mut self, now: Duration) {
        self.named.get_or_insert(now);
    }

    /// Where packets go.
    pub(crate) const fn state(&self) -> RouteState {
        self.state
    }

    /// Whether our *own* evidence about the preferred path is bad: the flag in our headers. The
    /// peer's flag does not raise it, or two peers would keep each other suspicious for ever.
    pub(crate) const fn degraded(&self) -> bool {
        self.degraded
    }

    /// Whether no path opened in time.
    pub(crate) const fn failed(&self) -> bool {
        self.failed
    }

    /// Ticks by relay alone that prove a direct path dead: 8 at 60 Hz, fewer at lower rates, at
    /// least 3.
    fn dead_packets(interval: Duration) -> u32 {
        let at_60_hz = f64::from(DEAD_PACKETS) / 60.0;
        let scaled = at_60_hz / interval.as_secs_f64().max(0.001);
        // At most 134: the interval is at least a millisecond.
        (scaled.round() as u32).max(DEAD_PACKETS_MIN)
    }

    /// Direct silence that proves a path dead. At low rates it leaves room for two packets after the
    /// path became suspect.
    fn dead_silence(silence_limit: Duration, interval: Duration) -> Duration {
        DEAD_SILENCE.max(silence_limit + interval * 2)
    }

    /// Takes one decision, if one is due. Call again until it returns `None`.
    pub(crate) fn judge(&mut self, now: Duration, evidence: &PathEvidence) -> Option<RouteChange> {
        let (to, trigger) = match self.state {
            RouteState::Connecting => self.connecting(now, evidence),
            RouteState::Provisional => self.provisional(now, evidence),
            RouteState::Direct => self.direct(evidence),
            RouteState::Suspect => self.suspect(evidence),
            RouteState::Relay => self.relay(now, evidence),
            RouteState::Survival => self.survival(evidence),
        }?;
        let change = RouteChange {
            at: now,
            from: self.state,
            to,
            cause: trigger.cause,
            metric: trigger.metric.as_str(),
            value: trigger.value,
            threshold: trigger.threshold,
        };
        self.state = to;
        self.since = now;
        self.good_since = None;
        self.returned += u32::from(trigger.cause == RouteCause::Returned);
        if to == RouteState::Relay || to == RouteState::Direct {
            self.degraded = false;
        }
        Some(change)
    }

    fn connecting(&mut self, now: Duration, e: &PathEvidence) -> Option<Decision> {
        let waited = self
            .named
            .map_or(Duration::ZERO, |at| now.saturating_sub(at));
        let waited_for = |cause, limit| Trigger::time(cause, RouteMetric::WaitedMs, waited, limit);
        if !self.policy.directs() {
            if e.relay_usable {
                self.failed = false;
                let trigger = Trigger::flag(RouteCause::Policy, RouteMetric::RelayOnly);
                return Some((RouteState::Relay, trigger));
            }
        } else if e.direct_open {
            self.failed = false;
            let trigger = waited_for(RouteCause::DirectOpened, CONNECT_TIMEOUT);
            return Some((RouteState::Direct, trigger));
        } else if self.named.is_some() && waited >= PROVISIONAL_AFTER && e.relay_usable {
            self.failed = false;
            let trigger = waited_for(RouteCause::DirectPending, PROVISIONAL_AFTER);
            return Some((RouteState::Provisional, trigger));
        }
        self.failed |= self.named.is_some() && waited >= CONNECT_TIMEOUT;
        None
    }

    fn provisional(&self, now: Duration, e: &PathEvidence) -> Option<Decision> {
        let waited = now.saturating_sub(self.since);
        let waited_for =
            |cause| Trigger::time(cause, RouteMetric::WaitedMs, waited, PROVISIONAL_LIMIT);
        if e.peer_failed_over || waited >= PROVISIONAL_LIMIT {
            return Some((RouteState::Relay, waited_for(RouteCause::Never)));
        }
        e.direct_open
            .then(|| (RouteState::Direct, waited_for(RouteCause::DirectOpened)))
    }

    fn direct(&mut self, e: &PathEvidence) -> Option<Decision> {
        if let Some(failover) = self.failover(e) {
            return Some(failover);
        }
        let own = Self::direct_degraded(e);
        self.degraded = own.is_some();
        let trigger = own.or_else(|| {
            if self.policy == RoutePolicy::DualPath && e.relay_usable {
                Some(Trigger::flag(RouteCause::Policy, RouteMetric::DualPath))
            } else {
                e.peer_degraded
                    .then(|| Trigger::flag(RouteCause::PeerDegraded, RouteMetric::PeerDoubt))
            }
        })?;
        Some((RouteState::Suspect, trigger))
    }

    fn suspect(&mut self, e: &PathEvidence) -> Option<Decision> {
        if let Some(failover) = self.failover(e) {
            return Some(failover);
        }
        let (share, good) = e.recovery.unwrap_or_default();
        let unbroken = e.unbroken && !good;
        let good = good || unbroken;
        if Self::direct_degraded(e).is_some() {
            self.degraded = true;
        } else if good {
            self.degraded = false;
        }
        // Under dual-path both paths are the normal state, not a suspicion.
        let stay = self.policy == RoutePolicy::DualPath && e.relay_up;
        if !good || self.degraded || e.peer_degraded || !e.direct_open || stay {
            return None;
        }
        let (metric, value, threshold) = if unbroken {
            (RouteMetric::MissingPackets, 0.0, 0.0)
        } else {
            (RouteMetric::OnTimeShare, share, RECOVERY_SHARE)
        };
        let trigger = Trigger {
            cause: RouteCause::Recovered,
            metric,
            value,
            threshold,
        };
        Some((RouteState::Direct, trigger))
    }

    fn relay(&mut self, now: Duration, e: &PathEvidence) -> Option<Decision> {
        // What arrived before the failover proves nothing.
        let proven = RETURN_SILENCE.min(now.saturating_sub(self.since));
        if e.direct_open && e.silence < proven && self.policy.directs() {
            self.good_since.get_or_insert(now);
        } else {
            self.good_since = None;
        }
        if self.ready_to_return(now) && !e.peer_failed_over {
            let good = now.saturating_sub(self.good_since.unwrap_or(now));
            let needed = self.return_after();
            let trigger = Trigger::time(RouteCause::Returned, RouteMetric::GoodMs, good, needed);
            return Some((RouteState::Direct, trigger));
        }
        let own = self.relay_degraded(e);
        self.degraded = own.is_some();
        let trigger = own.or_else(|| {
            (self.policy.directs() && e.peer_failed_over && e.peer_degraded)
                .then(|| Trigger::flag(RouteCause::PeerDegraded, RouteMetric::PeerDoubt))
        })?;
        Some((RouteState::Survival, trigger))
    }

    fn survival(&mut self, e: &PathEvidence) -> Option<Decision> {
        if self.relay_degraded(e).is_some() {
            self.degraded = true;
        } else if e.relay_steady {
            self.degraded = false;
        }
        let peer_suffers = e.peer_failed_over && e.peer_degraded;
        if self.degraded || !e.relay_steady || peer_suffers {
            return None;
        }
        let (cause, metric) = (RouteCause::RelayBack, RouteMetric::RelaySilenceMs);
        let trigger = Trigger::time(cause, metric, e.relay_silence, RELAY_SILENCE);
        Some((RouteState::Relay, trigger))
    }

    /// What takes the direct path away for good.
    fn failover(&self, e: &PathEvidence) -> Option<Decision> {
        if !self.policy.relays() {
            return None;
        }
        let trigger = if e.peer_failed_over {
            Trigger::flag(RouteCause::PeerPromoted, RouteMetric::PeerPromoted)
        } else if !e.direct_open && e.relay_up {
            Trigger::flag(RouteCause::Closed, RouteMetric::Closed)
        } else if self.policy != RoutePolicy::DualPath && e.judging && e.relay_usable {
            // Late packets of a hidden peer say nothing about a path; its silence on one of two
            // paths does.
            let slow = || self.lossy(e).or_else(|| Self::congested(e));
            self.dead(e)
                .or_else(|| (!e.peer_hidden).then(slow).flatten())?
        } else {
            return None;
        };
        Some((RouteState::Relay, trigger))
    }

    fn dead(&self, e: &PathEvidence) -> Option<Trigger> {
        let limit = Self::dead_silence(e.silence_limit, e.interval);
        let dead = self.state == RouteState::Suspect
            && e.silence >= limit
            && e.relay_alone >= Self::dead_packets(e.interval);
        dead.then(|| Trigger::time(RouteCause::Dead, RouteMetric::SilenceMs, e.silence, limit))
    }

    /// Single losses are masked: every input packet carries all unacknowledged inputs. This rule
    /// bounds a suspicion that does not end. Where the relay loses as much (a bad last mile of one
    /// peer), both paths stay in use: that is the best there is.
    fn lossy(&self, e: &PathEvidence) -> Option<Trigger> {
        if self.state != RouteState::Suspect || !e.relay_loses_less {
            return None;
        }
        let cause = RouteCause::Lossy;
        if e.both_together > BOTH_TOGETHER {
            let metric = RouteMetric::BothPathsMs;
            Some(Trigger::time(cause, metric, e.both_together, BOTH_TOGETHER))
        } else if e.both_of_10s > BOTH_OF_10S {
            let metric = RouteMetric::BothPathsOf10sMs;
            Some(Trigger::time(cause, metric, e.both_of_10s, BOTH_OF_10S))
        } else if e.loss_runs >= LOSS_RUNS {
            let metric = RouteMetric::LossRunsOf10s;
            Some(Trigger::count(cause, metric, e.loss_runs, LOSS_RUNS))
        } else {
            None
        }
    }

    fn congested(e: &PathEvidence) -> Option<Trigger> {
        let cause = RouteCause::Congested;
        if let Some(queued) = e.queued_ms.filter(|ms| *ms > QUEUED_MS) {
            Some(Trigger {
                cause,
                metric: RouteMetric::DelayAboveMinMs,
                value: queued,
                threshold: QUEUED_MS,
            })
        } else if e.slow_acks >= SLOW_TIMES {
            let metric = RouteMetric::SlowAcksOf1s;
            Some(Trigger::count(cause, metric, e.slow_acks, SLOW_TIMES))
        } else if e.refusals >= SLOW_TIMES {
            let metric = RouteMetric::SendFailuresOf1s;
            Some(Trigger::count(cause, metric, e.refusals, SLOW_TIMES))
        } else {
            None
        }
    }

    fn direct_degraded(e: &PathEvidence) -> Option<Trigger> {
        if e.send_failed {
            let metric = RouteMetric::SendFailures;
            return Some(Trigger::flag(RouteCause::SendFailed, metric));
        }
        if !e.direct_open {
            return Some(Trigger::flag(RouteCause::Closed, RouteMetric::Closed));
        }
        if !e.judging {
            return None;
        }
        if e.silence + e.slack >= e.silence_limit {
            let (cause, metric) = (RouteCause::Silence, RouteMetric::SilenceMs);
            return Some(Trigger::time(cause, metric, e.silence, e.silence_limit));
        }
        let unacked = e.unacked.filter(|age| *age > e.unacked_limit)?;
        let (cause, metric) = (RouteCause::Unacked, RouteMetric::OldestUnackedMs);
        Some(Trigger::time(cause, metric, unacked, e.unacked_limit))
    }

    fn relay_degraded(&self, e: &PathEvidence) -> Option<Trigger> {
        if !self.policy.directs() {
            return None;
        }
        let cause = RouteCause::RelaySilent;
        if !e.relay_up {
            return Some(Trigger::flag(cause, RouteMetric::RelayDown));
        }
        let limit = RELAY_SILENCE.max(e.silence_limit);
        (e.judging_relay && e.relay_silence >= limit)
            .then(|| Trigger::time(cause, RouteMetric::RelaySilenceMs, e.relay_silence, limit))
    }
}

/// Silence is seen only at polls, which jitter: three polls without a packet must count as `3 I`
/// even when they came a little early, or half of all lost paths would cost one more interval. Not
/// granted when `S` is two intervals already: that would take the jitter of polls for silence.
pub(crate) fn tolerance(interval: Duration) -> Duration {
    interval / POLL_JITTER
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests;
