//! What a link measured and decided, as of one moment: for callers that do not own the link, such as
//! a game whose links run in a task of their own.

use std::time::Duration;

use super::{ClockEstimate, ClockEstimator, Link, LinkStats, NoPath};
use crate::{
    cause::{PlayerLink, Via},
    route::{RouteChange, RouteState},
    wire::Path,
};

/// The state of a [`Link`] at one moment, taken with [`Link::snapshot`]. Its methods are those of the
/// link.
#[derive(Clone, Debug)]
pub struct LinkSnapshot {
    at: Duration,
    route: RouteState,
    last_change: Option<RouteChange>,
    usable: bool,
    p2p_healthy: bool,
    lacks_second_path: bool,
    failed: Option<NoPath>,
    margin_ms: Option<f64>,
    rtt: [Option<Duration>; 2],
    srtt: Option<Duration>,
    jitter: Duration,
    silence: Duration,
    peer_epoch: u16,
    peer_hidden: bool,
    clock_offset: Option<ClockEstimate>,
    clock: ClockEstimator,
    unacked_control: usize,
    player: PlayerLink,
    stats: LinkStats,
}

impl Link {
    /// The state at `now`.
    #[must_use]
    pub fn snapshot(&self, now: Duration) -> LinkSnapshot {
        LinkSnapshot {
            at: now,
            route: self.route(),
            last_change: self.last_change().copied(),
            usable: self.usable(),
            p2p_healthy: self.p2p_healthy(),
            lacks_second_path: self.lacks_second_path(),
            failed: self.failed(),
            margin_ms: self.margin(),
            rtt: Path::ALL.map(|path| self.path_rtt(path)),
            srtt: self.srtt(),
            jitter: self.jitter(),
            silence: self.peer_silence(now),
            peer_epoch: self.peer_epoch(),
            peer_hidden: self.peer_hidden(),
            clock_offset: self.clock_offset(),
            clock: self.peer_clock().clone(),
            unacked_control: self.unacked_control(),
            player: self.player_link(now, false),
            stats: self.stats().clone(),
        }
    }
}

impl LinkSnapshot {
    /// See [`Link::route`].
    #[must_use]
    pub const fn route(&self) -> RouteState {
        self.route
    }

    /// See [`Link::last_change`].
    #[must_use]
    pub const fn last_change(&self) -> Option<&RouteChange> {
        self.last_change.as_ref()
    }

    /// See [`Link::usable`].
    #[must_use]
    pub const fn usable(&self) -> bool {
        self.usable
    }

    /// See [`Link::p2p_healthy`].
    #[must_use]
    pub const fn p2p_healthy(&self) -> bool {
        self.p2p_healthy
    }

    /// See [`Link::lacks_second_path`].
    #[must_use]
    pub const fn lacks_second_path(&self) -> bool {
        self.lacks_second_path
    }

    /// See [`Link::failed`].
    #[must_use]
    pub const fn failed(&self) -> Option<NoPath> {
        self.failed
    }

    /// See [`Link::margin`].
    #[must_use]
    pub const fn margin(&self) -> Option<f64> {
        self.margin_ms
    }

    /// See [`Link::srtt`].
    #[must_use]
    pub const fn srtt(&self) -> Option<Duration> {
        self.srtt
    }

    /// See [`Link::path_rtt`].
    #[must_use]
    pub const fn path_rtt(&self, path: Path) -> Option<Duration> {
        self.rtt[path.index()]
    }

    /// See [`Link::jitter`].
    #[must_use]
    pub const fn jitter(&self) -> Duration {
        self.jitter
    }

    /// See [`Link::peer_silence`]: the silence at the snapshot, and the time since.
    #[must_use]
    pub fn peer_silence(&self, now: Duration) -> Duration {
        self.silence + now.saturating_sub(self.at)
    }

    /// See [`Link::peer_epoch`].
    #[must_use]
    pub const fn peer_epoch(&self) -> u16 {
        self.peer_epoch
    }

    /// See [`Link::peer_hidden`].
    #[must_use]
    pub const fn peer_hidden(&self) -> bool {
        self.peer_hidden
    }

    /// See [`Link::peer_clock`].
    #[must_use]
    pub const fn peer_clock(&self) -> &ClockEstimator {
        &self.clock
    }

    /// See [`Link::clock_offset`].
    #[must_use]
    pub const fn clock_offset(&self) -> Option<ClockEstimate> {
        self.clock_offset
    }

    /// See [`Link::unacked_control`].
    #[must_use]
    pub const fn unacked_control(&self) -> usize {
        self.unacked_control
    }

    /// See [`Link::player_link`].
    #[must_use]
    pub fn player_link(&self, turn: bool) -> PlayerLink {
        PlayerLink {
            via: Via::of(self.route, turn),
            ..self.player
        }
    }

    /// See [`Link::stats`].
    #[must_use]
    pub const fn stats(&self) -> &LinkStats {
        &self.stats
    }
}
