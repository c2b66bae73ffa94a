//! The words of routing: policies, states, causes, and one transition.
//!
//! Owns their names in options, messages and files. Never decides.

use std::{fmt, str::FromStr, time::Duration};

/// Which paths a session may use, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RoutePolicy {
    /// Direct while it is healthy, both in doubt, the relay once direct is lost.
    #[default]
    P2pFirst,
    /// Never the relay for anything of the match; the server passes on one question for the clock
    /// a second and its answer.
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

    /// Whether this state stands for a promotion.
    #[must_use]
    pub const fn failed_over(self) -> bool {
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
    PeerDegraded,
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
    /// The direct path healed, and the policy allows a return.
    Returned,
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
            Self::PeerDegraded => "peerDoubt",
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
            Self::Returned => "returned",
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
