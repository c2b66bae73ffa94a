//! The numbers of a running session as Bevy diagnostics, one measurement of each per update, and as
//! [`LiveStats`] for a display of one's own.

use std::marker::PhantomData;

use bevy::diagnostic::{Diagnostic, DiagnosticPath, Diagnostics, RegisterDiagnostic};
use bevy::prelude::*;
use ggrs::Config;

mod live_stats;

pub(crate) use live_stats::{KeepLiveStats, LiveStatsPlugin, LiveStatsSystems};
pub use live_stats::{LinkStats, LiveStats, TickStats};

/// Deepest rollback of the update in frames, 0 without one.
pub const ROLLBACK_DEPTH: DiagnosticPath = DiagnosticPath::const_new("rollback_lab/rollback_depth");
/// Ticks of the update in which no new frame could be simulated.
pub const STALLED_TICKS: DiagnosticPath = DiagnosticPath::const_new("rollback_lab/stalled_ticks");
/// Share of correct predictions among those judged in the last [`LiveStats::TICKS`] ticks, in percent.
pub const PREDICTION_HIT_RATE: DiagnosticPath =
    DiagnosticPath::const_new("rollback_lab/prediction_hit_rate");
/// Frames by which this peer runs ahead of the others, by ggrs's own estimate.
pub const FRAMES_AHEAD: DiagnosticPath = DiagnosticPath::const_new("rollback_lab/frames_ahead");
/// The newest frame whose inputs are all known.
pub const CONFIRMED_FRAME: DiagnosticPath =
    DiagnosticPath::const_new("rollback_lab/confirmed_frame");
/// Frames simulated beyond the confirmed one.
pub const UNCONFIRMED_FRAMES: DiagnosticPath =
    DiagnosticPath::const_new("rollback_lab/unconfirmed_frames");
/// Longest round trip to a peer over its route in use, in milliseconds.
pub const RTT: DiagnosticPath = DiagnosticPath::const_new("rollback_lab/rtt");
/// Largest variation of the delay of a peer's packets, in milliseconds.
pub const JITTER: DiagnosticPath = DiagnosticPath::const_new("rollback_lab/jitter");
/// Smallest failover margin to a peer in milliseconds. While it is not negative, a lost direct path
/// stalls no frame.
pub const FAILOVER_MARGIN: DiagnosticPath =
    DiagnosticPath::const_new("rollback_lab/failover_margin");
/// Peers whose game packets do not travel peer to peer alone.
pub const PEERS_NOT_DIRECT: DiagnosticPath =
    DiagnosticPath::const_new("rollback_lab/peers_not_direct");
/// Comparisons of state hashes that failed in this episode.
pub const DESYNCS: DiagnosticPath = DiagnosticPath::const_new("rollback_lab/desyncs");

/// Every diagnostic with the suffix of its value.
const DIAGNOSTICS: [(DiagnosticPath, &str); 11] = [
    (ROLLBACK_DEPTH, " frames"),
    (STALLED_TICKS, " ticks"),
    (PREDICTION_HIT_RATE, "%"),
    (FRAMES_AHEAD, " frames"),
    (CONFIRMED_FRAME, ""),
    (UNCONFIRMED_FRAMES, " frames"),
    (RTT, " ms"),
    (JITTER, " ms"),
    (FAILOVER_MARGIN, " ms"),
    (PEERS_NOT_DIRECT, ""),
    (DESYNCS, ""),
];

/// Measures the diagnostics of this module in a session of `C`.
///
/// Add it beside [`RollbackLabPlugins`](crate::RollbackLabPlugins) or
/// [`RollbackObserverPlugins`](crate::RollbackObserverPlugins), and read the numbers with Bevy's
/// `LogDiagnosticsPlugin` or from the `DiagnosticsStore`. A value that is not known, such as a
/// failover margin without the lab's transport, gets no measurement. Also keeps [`LiveStats`] in the
/// world.
///
/// ```
/// use bevy::diagnostic::DiagnosticsStore;
/// use bevy::prelude::*;
/// use bevy_rollback_lab::bevy_ggrs::GgrsConfig;
/// use bevy_rollback_lab::diagnostics::{self, LabDiagnosticsPlugin};
///
/// fn warn_of_stalls(store: Res<DiagnosticsStore>) {
///     let stalled = store.get(&diagnostics::STALLED_TICKS).and_then(|stalled| stalled.value());
///     if stalled.is_some_and(|ticks| ticks > 0.0) {
///         warn!("the game had to wait for an input");
///     }
/// }
///
/// let mut app = App::new();
/// app.add_plugins((MinimalPlugins, bevy::diagnostic::DiagnosticsPlugin))
///     .add_plugins(LabDiagnosticsPlugin::<GgrsConfig<u8>>::default())
///     .add_systems(Update, warn_of_stalls);
/// ```
pub struct LabDiagnosticsPlugin<C>(PhantomData<fn() -> C>);

impl<C> Default for LabDiagnosticsPlugin<C> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<C: Config> Plugin for LabDiagnosticsPlugin<C> {
    fn build(&self, app: &mut App) {
        for (path, suffix) in DIAGNOSTICS {
            app.register_diagnostic(Diagnostic::new(path).with_suffix(suffix));
        }
        if !app.is_plugin_added::<LiveStatsPlugin<C>>() {
            app.add_plugins(LiveStatsPlugin::<C>::default());
        }
        app.init_resource::<KeepLiveStats>()
            .init_resource::<LiveStats>()
            .add_systems(PreUpdate, measure.after(LiveStatsSystems));
    }
}

fn measure(live_stats: Res<LiveStats>, mut diagnostics: Diagnostics) {
    if live_stats.ticks() == 0 {
        return;
    }
    let mut add = |path: &DiagnosticPath, value: Option<f64>| {
        if let Some(value) = value {
            diagnostics.add_measurement(path, || value);
        }
    };
    let links = || live_stats.links.iter();
    let largest = |of: fn(&LinkStats) -> Option<f64>| links().filter_map(of).reduce(f64::max);
    add(&ROLLBACK_DEPTH, Some(f64::from(live_stats.update_depth)));
    add(&STALLED_TICKS, Some(f64::from(live_stats.update_stalled)));
    let hits = live_stats.prediction_hit_rate();
    add(&PREDICTION_HIT_RATE, hits.map(|share| share * 100.0));
    add(&FRAMES_AHEAD, live_stats.frames_ahead.map(f64::from));
    add(&CONFIRMED_FRAME, live_stats.confirmed_frame.map(f64::from));
    add(&UNCONFIRMED_FRAMES, live_stats.unconfirmed().map(f64::from));
    add(&RTT, largest(|link| link.rtt_ms));
    add(&JITTER, largest(|link| link.jitter_ms));
    let margins = links().filter_map(|link| link.margin_ms);
    add(&FAILOVER_MARGIN, margins.reduce(f64::min));
    let not_direct = links().filter(|link| !link.is_direct()).count();
    let any_link = !live_stats.links.is_empty();
    add(&PEERS_NOT_DIRECT, any_link.then_some(not_direct as f64));
    add(&DESYNCS, Some(live_stats.desyncs as f64));
}
