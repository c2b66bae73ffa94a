//! The route to one peer: a state machine over evidence.
//!
//! Owns the rules by which packets move between the direct path and the relay: doubt is cheap,
//! fallback is final. Never sends, never measures, never reads a clock: [`Router::judge`] takes
//! what was measured and returns what it decided.

use std::{fmt, str::FromStr, time::Duration};

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
/// Relay silence before the direct path is used again beside it. Longer than one lost TCP segment
/// (200 ms is the smallest retransmission time-out of common stacks).
pub const RELAY_SILENCE: Duration = Duration::from_millis(250);

/// Which paths a session may use, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RoutePolicy {
    /// Direct while it is healthy, both in doubt, the relay once direct is lost.
    #[default]
    P2pFirst,
    /// Never the relay.
    P2pOnly,
    /// Game packets never on the direct path.
    RelayOnly,
    /// Every game packet on both paths, always.
    DualPath,
}

impl RoutePolicy {
    /// All policies, in the order of [`RoutePolicy::code`].
    pub const ALL: [Self; 4] = [
        Self::P2pFirst,
        Self::P2pOnly,
        Self::RelayOnly,
        Self::DualPath,
    ];

    /// Name in options and files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::P2pFirst => "p2p-first",
            Self::P2pOnly => "p2p-only",
            Self::RelayOnly => "relay-only",
            Self::DualPath => "dual-path",
        }
    }

    /// Number of this policy in a hello.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::P2pFirst => 0,
            Self::P2pOnly => 1,
            Self::RelayOnly => 2,
            Self::DualPath => 3,
        }
    }

    /// Whether the relay may carry game packets.
    #[must_use]
    pub const fn relays(self) -> bool {
        !matches!(self, Self::P2pOnly)
    }

    /// Whether the direct path may carry game packets.
    #[must_use]
    pub const fn directs(self) -> bool {
        !matches!(self, Self::RelayOnly)
    }
}

impl fmt::Display for RoutePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RoutePolicy {
    type Err = UnknownPolicy;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|policy| policy.as_str() == text)
            .ok_or_else(|| UnknownPolicy(text.to_owned()))
    }
}

/// No policy has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown route policy {0:?}: known are p2p-first, p2p-only, relay-only, dual-path")]
pub struct UnknownPolicy(pub String);

/// Where the game packets to one peer go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RouteState {
    /// No path yet.
    Connecting,
    /// Over the relay while the direct path is still awaited.
    Provisional,
    /// Direct only; the relay carries probes.
    Direct,
    /// Both paths: the direct one is in doubt, the peer's or our own.
    Suspect,
    /// Relay only, for the rest of the lab session.
    Relay,
    /// Promoted, but the relay is silent: both paths until it is steady again.
    Survival,
}

impl RouteState {
    /// Name in messages and files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Provisional => "provisional",
            Self::Direct => "direct",
            Self::Suspect => "suspect",
            Self::Relay => "relay",
            Self::Survival => "survival",
        }
    }

    /// Whether this state stands for a promotion, which is never taken back.
    #[must_use]
    pub const fn promoted(self) -> bool {
        matches!(self, Self::Relay | Self::Survival)
    }
}

impl fmt::Display for RouteState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a route changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RouteCause {
    /// The direct path opened.
    DirectOpened,
    /// The direct path did not open in three seconds.
    DirectPending,
    /// Nothing came over the direct path.
    Silence,
    /// What was sent over the direct path was not acknowledged.
    Unacked,
    /// The direct path refused a packet.
    SendFailed,
    /// The peer doubts the path (in Survival: hears nothing over the relay).
    PeerDoubt,
    /// The direct path was good for long enough.
    Recovered,
    /// Direct silence while packets came by relay alone.
    Dead,
    /// Too many losses, too often.
    Lossy,
    /// The direct path queues.
    Congested,
    /// The data channel ended.
    Closed,
    /// The direct path never opened.
    Never,
    /// The peer had promoted.
    PeerPromoted,
    /// The policy says so.
    Policy,
    /// The relay is silent after a promotion.
    RelaySilent,
    /// The relay is steady again.
    RelayBack,
}

impl RouteCause {
    /// Name in messages and files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DirectOpened => "directOpened",
            Self::DirectPending => "directPending",
            Self::Silence => "silence",
            Self::Unacked => "unacked",
            Self::SendFailed => "sendFailed",
            Self::PeerDoubt => "peerDoubt",
            Self::Recovered => "recovered",
            Self::Dead => "dead",
            Self::Lossy => "lossy",
            Self::Congested => "congested",
            Self::Closed => "closed",
            Self::Never => "never",
            Self::PeerPromoted => "peerPromoted",
            Self::Policy => "policy",
            Self::RelaySilent => "relaySilent",
            Self::RelayBack => "relayBack",
        }
    }

    /// Whether a promotion with this cause took a direct path away that play had used or could
    /// have used: not so when it never opened or was never wanted.
    #[must_use]
    pub const fn is_fallback(self) -> bool {
        matches!(
            self,
            Self::Dead | Self::Lossy | Self::Congested | Self::Closed | Self::PeerPromoted
        )
    }
}

impl fmt::Display for RouteCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One transition.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RouteChange {
    /// When it was decided.
    pub at: Duration,
    /// The state left.
    pub from: RouteState,
    /// The state entered.
    pub to: RouteState,
    /// Why.
    pub cause: RouteCause,
    /// What was measured, its unit in the name.
    pub metric: &'static str,
    /// Its value.
    pub value: f64,
    /// The limit it crossed.
    pub threshold: f64,
}

/// A measured value that crossed its limit.
type Reason = (RouteCause, &'static str, f64, f64);

/// What is known about both paths at the moment of judging.
///
/// Silences run on the awake clock: they pause while this peer does not poll.
#[derive(Clone, Copy, Debug, Default)]
pub struct Evidence {
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
    /// `S`, and the tolerance by which polls may miss it.
    pub silence_limit: Duration,
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
    pub peer_doubt: bool,
    /// The peer has promoted.
    pub peer_promoted: bool,
}

/// The route machine for one peer.
#[derive(Clone, Debug)]
pub struct Router {
    policy: RoutePolicy,
    state: RouteState,
    since: Duration,
    named: Option<Duration>,
    failed: bool,
    doubt: bool,
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
            doubt: false,
        }
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
    pub const fn doubt(&self) -> bool {
        self.doubt
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
    pub fn judge(&mut self, now: Duration, evidence: &Evidence) -> Option<RouteChange> {
        let (to, reason) = match self.state {
            RouteState::Connecting => self.connecting(now, evidence),
            RouteState::Provisional => self.provisional(now, evidence),
            RouteState::Direct => self.direct(evidence),
            RouteState::Suspect => self.suspect(evidence),
            RouteState::Relay => self.relay(evidence),
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
        if to == RouteState::Relay || to == RouteState::Direct {
            self.doubt = false;
        }
        Some(change)
    }

    fn connecting(&mut self, now: Duration, e: &Evidence) -> Option<(RouteState, Reason)> {
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

    fn provisional(&self, now: Duration, e: &Evidence) -> Option<(RouteState, Reason)> {
        let waited = now.saturating_sub(self.since);
        let waited_for = |cause| (cause, "waitedMs", ms(waited), ms(PROVISIONAL_LIMIT));
        if e.peer_promoted || waited >= PROVISIONAL_LIMIT {
            return Some((RouteState::Relay, waited_for(RouteCause::Never)));
        }
        e.direct_open
            .then(|| (RouteState::Direct, waited_for(RouteCause::DirectOpened)))
    }

    fn direct(&mut self, e: &Evidence) -> Option<(RouteState, Reason)> {
        if let Some(promotion) = self.promotion(e) {
            return Some(promotion);
        }
        let own = Self::own_doubt(e);
        self.doubt = own.is_some();
        let reason = own.or_else(|| {
            if self.policy == RoutePolicy::DualPath && e.relay_usable {
                Some(flag(RouteCause::Policy, "dualPath"))
            } else {
                e.peer_doubt
                    .then(|| flag(RouteCause::PeerDoubt, "peerDoubt"))
            }
        })?;
        Some((RouteState::Suspect, reason))
    }

    fn suspect(&mut self, e: &Evidence) -> Option<(RouteState, Reason)> {
        if let Some(promotion) = self.promotion(e) {
            return Some(promotion);
        }
        let (share, good) = e.recovery.unwrap_or_default();
        if Self::own_doubt(e).is_some() {
            self.doubt = true;
        } else if good {
            self.doubt = false;
        }
        // Under dual-path both paths are the point, not a doubt.
        let stay = self.policy == RoutePolicy::DualPath && e.relay_up;
        (good && !self.doubt && !e.peer_doubt && e.direct_open && !stay).then_some((
            RouteState::Direct,
            (
                RouteCause::Recovered,
                "onTimeShare",
                share,
                super::health::RECOVERY_SHARE,
            ),
        ))
    }

    fn relay(&mut self, e: &Evidence) -> Option<(RouteState, Reason)> {
        let own = self.relay_doubt(e);
        self.doubt = own.is_some();
        let reason = own.or_else(|| {
            (self.policy.directs() && e.peer_promoted && e.peer_doubt)
                .then(|| flag(RouteCause::PeerDoubt, "peerDoubt"))
        })?;
        Some((RouteState::Survival, reason))
    }

    fn survival(&mut self, e: &Evidence) -> Option<(RouteState, Reason)> {
        if self.relay_doubt(e).is_some() {
            self.doubt = true;
        } else if e.relay_steady {
            self.doubt = false;
        }
        (!self.doubt && e.relay_steady && !(e.peer_promoted && e.peer_doubt)).then(|| {
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
    fn promotion(&self, e: &Evidence) -> Option<(RouteState, Reason)> {
        if !self.policy.relays() {
            return None;
        }
        let reason = if e.peer_promoted {
            flag(RouteCause::PeerPromoted, "peerPromoted")
        } else if !e.direct_open && e.relay_up {
            flag(RouteCause::Closed, "closed")
        } else {
            let silence = Self::dead_silence(e.silence_limit, e.interval);
            let dead = self.state == RouteState::Suspect
                && self.policy != RoutePolicy::DualPath
                && e.judging
                && e.relay_usable
                && e.silence >= silence
                && e.relay_alone >= Self::dead_packets(e.interval);
            if !dead {
                return None;
            }
            (RouteCause::Dead, "silenceMs", ms(e.silence), ms(silence))
        };
        Some((RouteState::Relay, reason))
    }

    fn own_doubt(e: &Evidence) -> Option<Reason> {
        if e.send_failed {
            return Some(flag(RouteCause::SendFailed, "sendFailures"));
        }
        if !e.direct_open {
            return Some(flag(RouteCause::Closed, "closed"));
        }
        if !e.judging {
            return None;
        }
        if e.silence + tolerance(e.interval) >= e.silence_limit {
            let (value, limit) = (ms(e.silence), ms(e.silence_limit));
            return Some((RouteCause::Silence, "silenceMs", value, limit));
        }
        let unacked = e.unacked.filter(|age| *age > e.unacked_limit)?;
        let (value, limit) = (ms(unacked), ms(e.unacked_limit));
        Some((RouteCause::Unacked, "oldestUnackedMs", value, limit))
    }

    fn relay_doubt(&self, e: &Evidence) -> Option<Reason> {
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
/// even when they came a little early, or half of all cuts would cost one more interval.
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
