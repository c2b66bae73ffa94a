//! Policies, states and causes of a route, and one transition between two states.
//!
//! The same types go from the route machine over Bevy's messages into the exported files: serde
//! writes each as the text that [`as_str`](RouteState::as_str) returns.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::cause::Via;

/// Which paths a session may use for game packets.
///
/// [`P2pFirst`](RoutePolicy::P2pFirst) suits a game that should survive a lost path; the others
/// are for experiments that want one kind of path or both. All peers of a session must agree on
/// it. In options and files it is written as `p2p-first`, `p2p-only`, `relay-only` or `dual-path`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "reflect", derive(bevy_reflect::Reflect))]
pub enum RoutePolicy {
    /// Direct while it is healthy, both while it is suspect, the relay once direct is lost.
    #[default]
    P2pFirst,
    /// No game packet on the relay. The server still passes on one clock question a second and its
    /// answer.
    P2pOnly,
    /// No game packet on the direct path.
    RelayOnly,
    /// Every game packet on both paths.
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

    /// Whether game packets on the relay are what the policy asks for, rather than a fallback.
    #[must_use]
    pub const fn prefers_relay(self) -> bool {
        matches!(self, Self::RelayOnly | Self::DualPath)
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

/// A text that names no [`RoutePolicy`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown route policy {0:?}: known are p2p-first, p2p-only, relay-only, dual-path")]
pub struct UnknownPolicy(pub String);

/// Which paths the game packets to one peer take at the moment.
///
/// Read it from a [`RouteChange`] or from `quality.routeChanges` of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "reflect", derive(bevy_reflect::Reflect))]
pub enum RouteState {
    /// No path yet.
    Connecting,
    /// Over the relay while the direct path is still awaited.
    Provisional,
    /// Direct only; the relay carries probes.
    Direct,
    /// Both paths: the direct one is degraded, as seen by the peer or by this side.
    Suspect,
    /// Relay only, for the rest of the lab session.
    Relay,
    /// Failed over, but the relay is silent: both paths until it is steady again.
    Survival,
}

impl RouteState {
    /// All states.
    pub const ALL: [Self; 6] = [
        Self::Connecting,
        Self::Provisional,
        Self::Direct,
        Self::Suspect,
        Self::Relay,
        Self::Survival,
    ];

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

    /// Whether the route has failed over to the relay.
    #[must_use]
    pub const fn failed_over(self) -> bool {
        matches!(self, Self::Relay | Self::Survival)
    }

    /// Whether game packets go over the relay alone or, in [`Survival`](Self::Survival), over it
    /// first: because there is no direct path yet, or no longer.
    #[must_use]
    pub const fn prefers_relay(self) -> bool {
        matches!(self, Self::Provisional | Self::Relay | Self::Survival)
    }

    /// Whether the relay may carry game packets in this state.
    #[must_use]
    pub const fn uses_relay(self) -> bool {
        !matches!(self, Self::Connecting | Self::Direct)
    }

    /// Whether the step from this state to `to` is a fallback: a direct path that play used is
    /// given up for the relay. A route that began on the relay and stays there is none, and neither
    /// is the relay that comes back after [`Survival`](Self::Survival).
    #[must_use]
    pub const fn falls_back_to(self, to: Self) -> bool {
        matches!(self, Self::Direct | Self::Suspect) && matches!(to, Self::Relay)
    }

    /// The route in use, as files and displays name it. `turn`: the direct path leads through a
    /// TURN server.
    #[must_use]
    pub const fn via(self, turn: bool) -> Via {
        match self {
            Self::Connecting => Via::Unknown,
            Self::Direct | Self::Suspect if turn => Via::Turn,
            Self::Direct | Self::Suspect => Via::Direct,
            Self::Provisional | Self::Relay | Self::Survival => Via::Relay,
        }
    }
}

impl fmt::Display for RouteState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a route changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "reflect", derive(bevy_reflect::Reflect))]
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
    /// The peer reports its path as degraded (in Survival: it receives nothing over the relay).
    /// Written as `peerDoubt`.
    #[serde(rename = "peerDoubt")]
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
    /// The peer had failed over.
    PeerPromoted,
    /// The policy says so.
    Policy,
    /// The relay is silent after a failover.
    RelaySilent,
    /// The relay is steady again.
    RelayBack,
    /// The direct path healed, and the policy allows a failback.
    Returned,
    /// A cause that this build does not know, read from a file of a later version. No route
    /// changes because of it.
    #[serde(other)]
    Unknown,
}

impl RouteCause {
    /// All causes.
    pub const ALL: [Self; 18] = [
        Self::DirectOpened,
        Self::DirectPending,
        Self::Silence,
        Self::Unacked,
        Self::SendFailed,
        Self::PeerDegraded,
        Self::Recovered,
        Self::Dead,
        Self::Lossy,
        Self::Congested,
        Self::Closed,
        Self::Never,
        Self::PeerPromoted,
        Self::Policy,
        Self::RelaySilent,
        Self::RelayBack,
        Self::Returned,
        Self::Unknown,
    ];

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
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for RouteCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One transition of the route to a peer, with the measurement that decided it.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "reflect", derive(bevy_reflect::Reflect))]
pub struct RouteChange {
    /// When it was decided, on the clock that the link is polled with.
    pub at: Duration,
    /// The state left.
    pub from: RouteState,
    /// The state entered.
    pub to: RouteState,
    /// Why.
    pub cause: RouteCause,
    /// Name of the measurement, with its unit, for example `silenceMs`.
    pub metric: &'static str,
    /// The measured value.
    pub value: f64,
    /// The limit it crossed.
    pub threshold: f64,
}

impl RouteChange {
    /// Whether this is a fallback: see [`RouteState::falls_back_to`].
    #[must_use]
    pub const fn is_fallback(&self) -> bool {
        self.from.falls_back_to(self.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serde_writes_the_names_of_as_str() {
        for policy in RoutePolicy::ALL {
            assert_eq!(serde_json::to_value(policy).unwrap(), policy.as_str());
        }
        for state in RouteState::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
        for cause in RouteCause::ALL {
            let text = serde_json::to_value(cause).unwrap();
            assert_eq!(text, cause.as_str());
            assert_eq!(serde_json::from_value::<RouteCause>(text).unwrap(), cause);
        }
        for path in crate::wire::Path::ALL {
            assert_eq!(serde_json::to_value(path).unwrap(), path.as_str());
        }
    }

    #[test]
    fn a_cause_of_a_later_version_reads_as_unknown() {
        let cause: RouteCause = serde_json::from_str(r#""solarFlare""#).unwrap();
        assert_eq!(cause, RouteCause::Unknown);
    }

    #[test]
    fn only_the_step_from_a_direct_path_to_the_relay_is_a_fallback() {
        let fallbacks: Vec<_> = RouteState::ALL
            .into_iter()
            .flat_map(|from| RouteState::ALL.map(|to| (from, to)))
            .filter(|(from, to)| from.falls_back_to(*to))
            .collect();
        assert_eq!(
            fallbacks,
            [
                (RouteState::Direct, RouteState::Relay),
                (RouteState::Suspect, RouteState::Relay),
            ]
        );
    }

    #[test]
    fn the_route_in_use_has_one_name_per_state() {
        let names = RouteState::ALL.map(|state| (state.via(false), state.via(true)));
        assert_eq!(
            names,
            [
                (Via::Unknown, Via::Unknown),
                (Via::Relay, Via::Relay),
                (Via::Direct, Via::Turn),
                (Via::Direct, Via::Turn),
                (Via::Relay, Via::Relay),
                (Via::Relay, Via::Relay),
            ]
        );
    }
}
