//! Owns what is known of the screen: which frames were drawn, and the display they were drawn on.
//! It reads windows and monitors and never draws anything itself.

use std::marker::PhantomData;

use bevy::prelude::*;
use bevy::window::{Monitor, OnMonitor, PrimaryWindow, WindowOccluded};
use ggrs::Config;

use crate::metrics::{Display, SessionMetrics};
use crate::rollback::RollbackLabSystems;

/// Notes which frames were on screen, and on what display, in the file of the episode.
///
/// For a game with a primary window, beside the lab's or the observers' plugins. An update draws
/// the newest frame unless the window is hidden, has no area, or is covered as far as the platform
/// tells; how long the display takes to show it is not measured.
pub struct LabDisplayPlugin<C>(PhantomData<fn() -> C>);

impl<C> Default for LabDisplayPlugin<C> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

/// Who else knows that nothing is drawn says so here, as `WebPlugin` does: updates of a hidden tab,
/// and those between two slow pictures, are drawn by nobody.
#[derive(Resource, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NotDrawn(pub bool);

impl<C: Config> Plugin for LabDisplayPlugin<C> {
    fn build(&self, app: &mut App) {
        app.init_resource::<NotDrawn>()
            .add_message::<WindowOccluded>()
            .add_systems(
                Last,
                record_drawn::<C>
                    .run_if(resource_exists::<SessionMetrics<C::Input>>)
                    .before(RollbackLabSystems::Observe),
            );
    }
}

/// Bevy draws what the world holds at the end of an update.
fn record_drawn<C: Config>(
    windows: Query<(Entity, &Window, Option<&OnMonitor>), With<PrimaryWindow>>,
    monitors: Query<&Monitor>,
    mut covers: MessageReader<WindowOccluded>,
    mut covered: Local<bool>,
    elsewhere: Res<NotDrawn>,
    mut metrics: ResMut<SessionMetrics<C::Input>>,
) {
    let Ok((entity, window, monitor)) = windows.single() else {
        return;
    };
    for cover in covers.read().filter(|cover| cover.window == entity) {
        *covered = cover.occluded;
    }
    let (width, height) = (window.physical_width(), window.physical_height());
    let drawn = window.visible && !*covered && !elsewhere.0 && width > 0 && height > 0;
    if !metrics.is_running() {
        return;
    }
    if drawn {
        metrics.record_drawn();
    }
    let monitor = monitor.and_then(|on| monitors.get(on.0).ok());
    metrics.record_display(&Display {
        refresh_hz: monitor
            .and_then(|monitor| monitor.refresh_rate_millihertz)
            .map(|millihertz| f64::from(millihertz) / 1e3),
        width: Some(width),
        height: Some(height),
    });
}
