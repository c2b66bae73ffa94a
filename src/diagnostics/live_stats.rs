//! Owns the newest numbers of a running session in the shape that a person looks at: a row per
//! tick, a line per peer. One fold over the trace's facts, run only while somebody watches.

use std::collections::VecDeque;
use std::marker::PhantomData;

use bevy::prelude::*;
use bevy_ggrs::{ConfirmedFrameCount, Session};
use ggrs::{Config, Frame};

use crate::metrics::SessionMetrics;
use crate::rollback::trace::{Fact, MAX_PLAYERS, Outcome};
use crate::rollback::{Links, RollbackLabSystems};

#[cfg_attr(feature = "matchbox", path = "live_stats/lab.rs")]
#[cfg_attr(not(feature = "matchbox"), path = "live_stats/observed.rs")]
mod links;

use links::LinkSource;

/// One tick, as a column of a graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Column {
    /// Depth of the rollback that ran in it, in frames. Zero when none did.
    pub depth: u32,
    /// No new frame could be simulated in it.
    pub stalled: bool,
    /// Predictions judged right in it.
    pub hits: u32,
    /// Predictions judged wrong in it.
    pub misses: u32,
}

/// The link to one remote player.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkVitals {
    /// The remote player's handle.
    pub player: usize,
    /// Where game packets go: `direct`, `turn`, `relay`, or a state between them.
    pub route: &'static str,
    /// Why the route changed last.
    pub cause: Option<&'static str>,
    /// Round trip over the route in use.
    pub rtt_ms: Option<f64>,
    /// Deviation of the delay of its packets.
    pub jitter_ms: Option<f64>,
    /// Failover margin.
    pub margin_ms: Option<f64>,
    /// The peer says that its tab or window is hidden.
    pub hidden: bool,
}

/// The newest numbers. Present while the HUD is shown or diagnostics are fed.
#[derive(Resource, Clone, Debug, Default)]
pub struct LiveStats {
    columns: VecDeque<Column>,
    /// The newest frame simulated.
    pub frame: Option<Frame>,
    /// The newest frame whose inputs are all known.
    pub confirmed_frame: Option<Frame>,
    /// Frames by which this peer runs ahead of the others, by ggrs's own estimate.
    pub frames_ahead: Option<i32>,
    /// One per remote player, by handle.
    pub links: Vec<LinkVitals>,
    /// Comparisons of state hashes that failed in this episode.
    pub desyncs: u64,
    /// Deepest rollback of the last update that ran a tick.
    pub update_depth: u32,
    /// Stalled ticks of the last update that ran a tick.
    pub update_stalled: u32,
    update_ticks: u32,
}

impl LiveStats {
    /// Ticks remembered: four seconds at 60 Hz.
    pub const COLUMNS: usize = 240;

    /// The last ticks, oldest first, at most [`COLUMNS`](Self::COLUMNS).
    pub fn columns(&self) -> impl ExactSizeIterator<Item = &Column> {
        self.columns.iter()
    }

    /// Ticks that the last update ran.
    #[must_use]
    pub fn ticks(&self) -> u32 {
        self.update_ticks
    }

    /// Frames simulated beyond the confirmed one; zero while inputs are known before their frame is
    /// simulated, as with an input delay that covers the way.
    #[must_use]
    pub fn unconfirmed(&self) -> Option<Frame> {
        Some((self.frame? - self.confirmed_frame?).max(0))
    }

    /// Share of right predictions among those judged in the columns.
    #[must_use]
    pub fn prediction_hit_rate(&self) -> Option<f64> {
        let (hits, misses) = self.columns.iter().fold((0, 0), |(hits, misses), column| {
            (hits + column.hits, misses + column.misses)
        });
        let judged = hits + misses;
        (judged > 0).then(|| f64::from(hits) / f64::from(judged))
    }

    /// Deepest rollback and stalled ticks in the columns.
    #[must_use]
    pub fn worst(&self) -> (u32, usize) {
        let depths = self.columns.iter().map(|column| column.depth);
        let stalled = self.columns.iter().filter(|column| column.stalled).count();
        (depths.max().unwrap_or(0), stalled)
    }

    /// Adds the next fact of the trace.
    pub(crate) fn fold<I>(&mut self, fact: &Fact<I>) {
        match fact {
            Fact::Began { .. } => {
                self.columns.clear();
                self.frame = None;
            }
            Fact::Tick { .. } => {
                if self.columns.len() == Self::COLUMNS {
                    self.columns.pop_front();
                }
                self.columns.push_back(Column {
                    stalled: true,
                    ..Column::default()
                });
                self.update_ticks += 1;
            }
            Fact::FrameAdvanced { frame, .. } => {
                self.frame = Some(*frame);
                self.newest(|column| column.stalled = false);
            }
            Fact::RollbackRan(record) => {
                let depth = record.rollback_frames();
                self.newest(|column| column.depth = depth.max(column.depth));
            }
            Fact::Judged { outcome, .. } => self.newest(|column| match outcome {
                Outcome::Hit => column.hits += 1,
                Outcome::Miss => column.misses += 1,
                Outcome::Voided => {}
            }),
            _ => {}
        }
    }

    /// The facts of one update are folded.
    fn sum_up(&mut self) {
        let ran = self.columns.iter().rev().take(self.update_ticks as usize);
        let (depth, stalled) = ran.fold((0, 0), |(depth, stalled), column| {
            (column.depth.max(depth), stalled + u32::from(column.stalled))
        });
        if self.update_ticks > 0 {
            (self.update_depth, self.update_stalled) = (depth, stalled);
        }
    }

    fn newest(&mut self, change: impl FnOnce(&mut Column)) {
        if let Some(column) = self.columns.back_mut() {
            change(column);
        }
    }
}

/// Says that the vitals stay when the HUD is hidden.
#[derive(Resource, Default)]
pub(crate) struct KeepVitals;

/// Where the vitals are taken. Runs in [`PreUpdate`] after the metrics are folded.
#[derive(SystemSet, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct VitalsSystems;

/// Takes the vitals of a session of `C` while the resource is there.
pub(crate) struct LiveStatsPlugin<C>(PhantomData<fn() -> C>);

impl<C> Default for LiveStatsPlugin<C> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<C: Config> Plugin for LiveStatsPlugin<C> {
    fn build(&self, app: &mut App) {
        app.configure_sets(
            PreUpdate,
            VitalsSystems
                .after(RollbackLabSystems::Record)
                .run_if(is_watched),
        )
        .add_systems(PreUpdate, take_live_stats::<C>.in_set(VitalsSystems));
    }
}

/// Whether anybody wants the numbers.
pub(crate) fn is_watched(live_stats: Option<Res<LiveStats>>) -> bool {
    live_stats.is_some()
}

fn take_live_stats<C: Config>(
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

/// The links as a game's own transport described them to the observers.
fn observed_links(observed: Option<&Links>, links: &mut Vec<LinkVitals>) {
    let Some(observed) = observed else {
        return;
    };
    links.extend((0..MAX_PLAYERS).filter_map(|player| {
        let link = observed.get(player)?;
        Some(LinkVitals {
            player,
            route: link.via.as_str(),
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
        })
    }

    #[test]
    fn a_tick_is_a_column_with_its_rollback_or_its_stall() {
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
        let columns: Vec<_> = live_stats
            .columns()
            .map(|column| (column.depth, column.stalled))
            .collect();
        assert_eq!(columns, [(0, false), (3, false), (0, true)]);
        live_stats.sum_up();
        assert_eq!((live_stats.update_depth, live_stats.update_stalled), (3, 1));
        assert_eq!(live_stats.worst(), (3, 1));
    }

    #[test]
    fn the_hit_rate_forgets_what_left_the_graph() {
        let mut live_stats = LiveStats::default();
        assert_eq!(live_stats.prediction_hit_rate(), None, "nothing was judged");
        live_stats.fold(&tick());
        live_stats.fold(&judged(Outcome::Miss));
        live_stats.fold(&judged(Outcome::Hit));
        live_stats.fold(&judged(Outcome::Voided));
        assert_eq!(live_stats.prediction_hit_rate(), Some(0.5));
        for _ in 0..LiveStats::COLUMNS {
            live_stats.fold(&tick());
        }
        assert_eq!(live_stats.columns().len(), LiveStats::COLUMNS);
        assert_eq!(live_stats.prediction_hit_rate(), None);
    }
}
