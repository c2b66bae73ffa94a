//! Owns the lab's numbers as Bevy diagnostics: their paths, and one measurement of each per update.
//! Never counts anything that the metrics do not count too.

use std::marker::PhantomData;

use bevy::diagnostic::{Diagnostic, DiagnosticPath, Diagnostics, RegisterDiagnostic};
use bevy::prelude::*;
use ggrs::Config;

mod live_stats;

#[cfg(feature = "hud")]
pub(crate) use live_stats::is_watched;
pub use live_stats::{Column, LinkVitals, LiveStats};
pub(crate) use live_stats::{KeepVitals, LiveStatsPlugin, VitalsSystems};

/// Deepest rollback of the update in frames, 0 without one.
pub const ROLLBACK_DEPTH: DiagnosticPath = DiagnosticPath::const_new("rollback_lab/rollback_depth");
/// Ticks of the update in which no new frame could be simulated.
pub const STALLED_TICKS: DiagnosticPath = DiagnosticPath::const_new("rollback_lab/stalled_ticks");
/// Share of right predictions among those judged in the last [`LiveStats::COLUMNS`] ticks, in percent.
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
/// Largest deviation of the delay of a peer's packets, in milliseconds.
pub const JITTER: DiagnosticPath = DiagnosticPath::const_new("rollback_lab/jitter");
/// Smallest failover margin to a peer in milliseconds: not negative, a lost path stalls no frame.
pub const FAILOVER_MARGIN: DiagnosticPath =
    DiagnosticPath::const_new("rollback_lab/failover_margin");
/// Peers whose game packets do not travel peer to peer alone.
pub const PEERS_NOT_DIRECT: DiagnosticPath =
    DiagnosticPath::const_new("rollback_lab/peers_not_direct");
/// Comparisons of state hashes that failed in this episode.
pub const DESYNCS: DiagnosticPath = DiagnosticPath::const_new("rollback_lab/desyncs");

/// Feeds the diagnostics named in this module from a session of `C`.
///
/// Beside `LogDiagnosticsPlugin` or any reader of `DiagnosticsStore`. What is not known (a margin
/// without the lab's transport) gets no measurement.
pub struct RollbackLabDiagnosticsPlugin<C>(PhantomData<fn() -> C>);

impl<C> Default for RollbackLabDiagnosticsPlugin<C> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<C: Config> Plugin for RollbackLabDiagnosticsPlugin<C> {
    fn build(&self, app: &mut App) {
        let paths = [
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
        for (path, suffix) in paths {
            app.register_diagnostic(Diagnostic::new(path).with_suffix(suffix));
        }
        if !app.is_plugin_added::<LiveStatsPlugin<C>>() {
            app.add_plugins(LiveStatsPlugin::<C>::default());
        }
        app.init_resource::<KeepVitals>()
            .init_resource::<LiveStats>()
            .add_systems(PreUpdate, measure.after(VitalsSystems));
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
    let most = |of: fn(&LinkVitals) -> Option<f64>| links().filter_map(of).reduce(f64::max);
    add(&ROLLBACK_DEPTH, Some(f64::from(live_stats.update_depth)));
    add(&STALLED_TICKS, Some(f64::from(live_stats.update_stalled)));
    let hits = live_stats.prediction_hit_rate();
    add(&PREDICTION_HIT_RATE, hits.map(|share| share * 100.0));
    add(&FRAMES_AHEAD, live_stats.frames_ahead.map(f64::from));
    add(&CONFIRMED_FRAME, live_stats.confirmed_frame.map(f64::from));
    add(&UNCONFIRMED_FRAMES, live_stats.unconfirmed().map(f64::from));
    add(&RTT, most(|link| link.rtt_ms));
    add(&JITTER, most(|link| link.jitter_ms));
    let margins = links().filter_map(|link| link.margin_ms);
    add(&FAILOVER_MARGIN, margins.reduce(f64::min));
    let elsewhere = links().filter(|link| !matches!(link.route, "direct" | "turn" | "unknown"));
    add(
        &PEERS_NOT_DIRECT,
        (!live_stats.links.is_empty()).then(|| elsewhere.count() as f64),
    );
    add(&DESYNCS, Some(live_stats.desyncs as f64));
}
