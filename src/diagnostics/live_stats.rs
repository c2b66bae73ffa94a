//! The newest numbers of a running session for a display: one entry per tick, one per peer. A fold
//! over the trace's facts, which runs only while the resource is present.

use std::collections::VecDeque;
use std::marker::PhantomData;

use bevy::prelude::*;
use bevy_ggrs::{ConfirmedFrameCount, Session};
use ggrs::{Config, Frame};

use crate::metrics::SessionMetrics;
use crate::rollback::trace::{Fact, MAX_PLAYERS, Outcome};
use crate::rollback::{Links, RollbackLabSystems};
use crate::{RouteCause, RouteState, Via};

#[cfg_attr(feature = "matchbox", path = "live_stats/lab.rs")]
#[cfg_attr(not(feature = "matchbox"), path = "live_stats/observed.rs")]
mod links;

use links::LinkSource;

/// What happened in one tick of ggrs.
#[derive(Reflect, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[reflect(Clone, Debug, Default, PartialEq)]
pub struct TickStats {
    /// Depth of the deepest rollback in frames, 0 without one.
    pub depth: u32,
    /// Whether no new frame could be simulated.
    pub stalled: bool,
    /// Predictions that turned out correct.
    pub hits: u32,
    /// Predictions that turned out wrong.
    pub misses: u32,
}

/// The link to one remote player, as of the last update that ran a tick.
#[derive(Reflect, Clone, Copy, Debug, PartialEq)]
#[reflect(Clone, Debug, PartialEq)]
pub struct LinkStats {
    /// The remote player's handle.
    pub player: usize,
    /// State of the route. `None` without the lab's transport.
    #[reflect(ignore)]
    pub route: Option<RouteState>,
    /// Where game packets go. `Unknown` if the game's own transport does not report it.
    #[reflect(ignore)]
    pub via: Via,
    /// Why the route changed last. `None` if it did not yet, or without the lab's transport.
    #[reflect(ignore)]
    pub cause: Option<RouteCause>,
    /// Round trip over the route in use, in milliseconds.
    pub rtt_ms: Option<f64>,
    /// Variation of the delay of its packets, in milliseconds.
    pub jitter_ms: Option<f64>,
    /// Failover margin in milliseconds. `None` without the lab's transport.
    pub margin_ms: Option<f64>,
    /// Whether the peer reports a hidden tab or window.
    pub hidden: bool,
}

impl LinkStats {
    /// Whether game packets travel peer to peer alone, as far as it is known.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        match self.route {
            Some(route) => route == RouteState::Direct,
            None => self.via != Via::Relay,
        }
    }

    /// The route for a display: its state, or `turn` for a direct path through a TURN server.
    #[must_use]
    pub fn route_name(&self) -> &'static str {
        match (self.route, self.via) {
            (Some(RouteState::Direct), Via::Turn) => Via::Turn.as_str(),
            (Some(route), _) => route.as_str(),
            (None, via) => via.as_str(),
        }
    }
}

/// The newest numbers of a session. Present while the HUD is shown or
/// [`LabDiagnosticsPlugin`](super::LabDiagnosticsPlugin) is added.
///
/// ```
/// use bevy::prelude::*;
/// use bevy_rollback_lab::diagnostics::LiveStats;
///
/// fn show(stats: Option<Res<LiveStats>>) {
///     let Some(stats) = stats else { return };
///     let (deepest, stalled) = stats.worst();
///     info!("deepest rollback {deepest}, {stalled} stalled ticks");
///     for link in &stats.links {
///         info!("player {}: {}", link.player, link.route_name());
///     }
/// }
/// # let mut app = App::new();
/// # app.init_resource::<LiveStats>().add_systems(Update, show).update();
/// ```
#[derive(Resource, Reflect, Clone, Debug, Default)]
#[reflect(Resource, Clone, Debug, Default)]
pub struct LiveStats {
    history: VecDeque<TickStats>,
    /// The newest frame simulated.
    pub frame: Option<Frame>,
    /// The newest frame whose inputs are all known.
    pub confirmed_frame: Option<Frame>,
    /// Frames by which this peer runs ahead of the others, by ggrs's own estimate.
    pub frames_ahead: Option<i32>,
    /// One per remote player, in order of handles.
    pub links: Vec<LinkStats>,
    /// Comparisons of state hashes that failed in this episode.
    pub desyncs: u64,
    /// Deepest rollback of the last update that ran a tick.
    pub update_depth: u32,
    /// Stalled ticks of the last update that ran a tick.
    pub update_stalled: u32,
    update_ticks: u32,
}

impl LiveStats {
    /// Ticks remembered: four seconds at 60 frames per second.
    pub const TICKS: usize = 240;

    /// The last ticks, oldest first, at most [`TICKS`](Self::TICKS).
    pub fn history(&self) -> impl ExactSizeIterator<Item = &TickStats> {
        self.history.iter()
    }

    /// Ticks that ran in the last update.
    #[must_use]
    pub fn ticks(&self) -> u32 {
        self.update_ticks
    }

    /// Frames simulated beyond the confirmed one; 0 while inputs arrive before their frame is
    /// simulated, as with an input delay that covers the latency.
    #[must_use]
    pub fn unconfirmed(&self) -> Option<Frame> {
        Some((self.frame? - self.confirmed_frame?).max(0))
    }

    /// Share of correct predictions, 0 to 1, among those judged in the [`history`](Self::history).
    /// `None` if none was.
    #[must_use]
    pub fn prediction_hit_rate(&self) -> Option<f64> {
        let (hits, misses) = self.history.iter().fold((0, 0), |(hits, misses), tick| {
            (hits + tick.hits, misses + tick.misses)
        });
        let judged = hits + misses;
        (judged > 0).then(|| f64::from(hits) / f64::from(judged))
    }

    /// Depth of the deepest rollback in frames, and the number of stalled ticks, in the
    /// [`history`](Self::history).
    #[must_use]
    pub fn worst(&self) -> (u32, usize) {
        let depths = self.history.iter().map(|tick| tick.depth);
        let stalled = self.history.iter().filter(|tick| tick.stalled).count();
        (depths.max().unwrap_or(0), stalled)
    }

    /// Adds the next fact of the trace.
    pub(crate) fn fold<I>(&mut self, fact: &Fact<I>) {
        match fact {
            Fact::Began { .. } => {
                self.history.clear();
                self.frame = None;
            }
            Fact::Tick { .. } => {
                if self.history.len() == Self::TICKS {
                    self.history.pop_front();
                }
                self.history.push_back(TickStats {
                    stalled: true,
                    ..TickStats::default()
                });
                self.update_ticks += 1;
            }
            Fact::FrameAdvanced { frame, .. } => {
                self.frame = Some(*frame);
                self.newest(|tick| tick.stalled = false);
            }
            Fact::RollbackRan(record) => {
                let depth = record.rollback_frames();
                self.newest(|tick| tick.depth = depth.max(tick.depth));
            }
            Fact::Judged { outcome, .. } => self.newest(|tick| match outcome {
                Outcome::Hit => tick.hits += 1,
                Outcome::Miss => tick.misses += 1,
                Outcome::Voided => {}
            }),
            _ => {}
        }
    }

    /// Sums the ticks of this update up, once all its facts are folded.
    fn sum_up(&mut self) {
        let ran = self.history.iter().rev().take(self.update_ticks as usize);
        let (depth, stalled) = ran.fold((0, 0), |(depth, stalled), tick| {
            (tick.depth.max(depth), stalled + u32::from(tick.stalled))
        });
        if self.update_ticks > 0 {
            (self.update_depth, self.update_stalled) = (depth, stalled);
        }
    }

    fn newest(&mut self, change: impl FnOnce(&mut TickStats)) {
        if let Some(tick) = self.history.back_mut() {
            change(tick);
        }
    }
}

/// Keeps [`LiveStats`] in the world while the HUD is hidden.
#[derive(Resource, Default)]
pub(crate) struct KeepLiveStats;

/// Updates [`LiveStats`], in [`PreUpdate`] after the metrics are folded.
#[derive(SystemSet, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LiveStatsSystems;

/// Updates [`LiveStats`] from a session of `C` while the resource is present.
pub(crate) struct LiveStatsPlugin<C>(PhantomData<fn() -> C>);

impl<C> Default for LiveStatsPlugin<C> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<C: Config> Plugin for LiveStatsPlugin<C> {
    fn build(&self, app: &mut App) {
        app.register_type::<LiveStats>()
            .configure_sets(
                PreUpdate,
                LiveStatsSystems
                    .after(RollbackLabSystems::Record)
                    .run_if(resource_exists::<LiveStats>),
            )
            .add_systems(PreUpdate, update_live_stats::<C>.in_set(LiveStatsSystems));
    }
}

fn update_live_stats<C: Config>(
    mut facts: MessageReader<Fact<C::Input>>,
    mut live_stats: ResMut<LiveStats>,
    metrics: Option<Res<SessionMetrics<C::Input>>>,
    session: Option<Res<Session<C>>>,
    confirmed: Option<Res<ConfirmedFrameCount>>,
    source: LinkSource,
) {
    live_stats.update_ticks = 0;
    for fact in facts.read() {
        live_stats.fold(fact);
    }
    live_stats.sum_up();
    live_stats.confirmed_frame = confirmed.filter(|_| session.is_some()).map(|frame| frame.0);
    live_stats.frames_ahead = match session.as_deref() {
        Some(Session::P2P(session)) => Some(session.frames_ahead()),
        _ => None,
    };
    live_stats.desyncs = metrics.map_or(0, |metrics| metrics.desyncs());
    live_stats.links.clear();
    source.read(&mut live_stats.links);
}

/// Adds the links as a game's own transport described them to the observers.
fn observed_links(observed: Option<&Links>, links: &mut Vec<LinkStats>) {
    let Some(observed) = observed else {
        return;
    };
    links.extend((0..MAX_PLAYERS).filter_map(|player| {
        let link = observed.get(player)?;
        Some(LinkStats {
            player,
            route: None,
            via: link.via,
            cause: None,
            rtt_ms: link.evidence.rtt_ms,
            jitter_ms: link.evidence.jitter_ms,
            margin_ms: None,
            hidden: false,
        })
    }));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::rollback::trace::RollbackRecord;

    fn tick() -> Fact<u8> {
        Fact::Tick { at: Duration::ZERO }
    }

    fn advanced(frame: Frame) -> Fact<u8> {
        Fact::FrameAdvanced {
            frame,
            at: Duration::ZERO,
            predicted: 0,
        }
    }

    fn judged(outcome: Outcome) -> Fact<u8> {
        Fact::Judged {
            frame: 0,
            player: 1,
            outcome,
            shown: 0,
            last: 0,
            actual: 0,
            late: 0,
        }
    }

    fn rollback(frame: Frame, current_frame: Frame) -> Fact<u8> {
        Fact::RollbackRan(RollbackRecord {
            id: 0,
            at: Duration::ZERO,
            frame,
            current_frame,
            player: 1,
            predicted: Some(0),
            actual: Some(1),
            loaded_frame: frame,
            resimulated: 3,
            resim_time: Duration::ZERO,
            also: Vec::new(),
            disconnect: false,
            first_simulated_at: Duration::ZERO,
            late_by_frames: 3,
            cause: crate::Cause::Unknown,
            via: crate::Via::Unknown,
            evidence: crate::Evidence::default(),
        })
    }

    #[test]
    fn a_tick_keeps_its_rollback_or_its_stall() {
        let mut live_stats = LiveStats::default();
        for fact in [
            tick(),
            advanced(0),
            tick(),
            rollback(0, 3),
            advanced(1),
            tick(),
        ] {
            live_stats.fold(&fact);
        }
        let ticks: Vec<_> = live_stats
            .history()
            .map(|tick| (tick.depth, tick.stalled))
            .collect();
        assert_eq!(ticks, [(0, false), (3, false), (0, true)]);
        live_stats.sum_up();
        assert_eq!((live_stats.update_depth, live_stats.update_stalled), (3, 1));
        assert_eq!(live_stats.worst(), (3, 1));
    }

    #[test]
    fn the_hit_rate_is_that_of_the_remembered_ticks() {
        let mut live_stats = LiveStats::default();
        assert_eq!(live_stats.prediction_hit_rate(), None, "nothing was judged");
        live_stats.fold(&tick());
        live_stats.fold(&judged(Outcome::Miss));
        live_stats.fold(&judged(Outcome::Hit));
        live_stats.fold(&judged(Outcome::Voided));
        assert_eq!(live_stats.prediction_hit_rate(), Some(0.5));
        for _ in 0..LiveStats::TICKS {
            live_stats.fold(&tick());
        }
        assert_eq!(live_stats.history().len(), LiveStats::TICKS);
        assert_eq!(live_stats.prediction_hit_rate(), None);
    }
}
