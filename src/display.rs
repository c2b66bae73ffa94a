//! [`LabDisplayPlugin`]: which frames were rendered, and on what display.

use std::marker::PhantomData;

use bevy::prelude::*;
use bevy::window::{Monitor, OnMonitor, PrimaryWindow, WindowOccluded};
use ggrs::Config;

use crate::metrics::{Display, SessionMetrics};
use crate::rollback::RollbackLabSystems;

/// Records in the episode's file which frames were rendered, and on what display.
///
/// Add it to a game with a primary window, beside [`RollbackLabPlugins`](crate::RollbackLabPlugins) or
/// [`RollbackObserverPlugins`](crate::RollbackObserverPlugins). An update renders the newest frame
/// unless the window is hidden, has no area, is covered (where the platform reports it), or
/// [`NotDrawn`] is set. How long the display takes to show it is not measured.
///
/// ```
/// use bevy::prelude::*;
/// use bevy_rollback_lab::bevy_ggrs::GgrsConfig;
/// use bevy_rollback_lab::prelude::*;
///
/// # let mut app = App::new();
/// app.add_plugins(LabDisplayPlugin::<GgrsConfig<u8>>::default());
/// ```
pub struct LabDisplayPlugin<C>(PhantomData<fn() -> C>);

impl<C> Default for LabDisplayPlugin<C> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

/// Whether updates are not rendered although the window is visible. Default: false.
///
/// Set it where the window does not show it, as `WebPlugin` does for a hidden tab and for updates
/// between two rendered frames.
///
/// ```
/// use bevy::prelude::*;
/// use bevy_rollback_lab::display::NotDrawn;
///
/// fn render_every_other_update(mut odd: Local<bool>, mut not_drawn: ResMut<NotDrawn>) {
///     *odd = !*odd;
///     not_drawn.0 = *odd;
/// }
/// # let mut app = App::new();
/// # app.init_resource::<NotDrawn>().add_systems(Update, render_every_other_update).update();
/// ```
#[derive(Resource, Reflect, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[reflect(Resource, Clone, Debug, Default, PartialEq)]
pub struct NotDrawn(pub bool);

impl<C: Config> Plugin for LabDisplayPlugin<C> {
    fn build(&self, app: &mut App) {
        app.init_resource::<NotDrawn>()
            .register_type::<NotDrawn>()
            .add_message::<WindowOccluded>()
            .add_systems(
                Last,
                record_drawn::<C>
                    .run_if(resource_exists::<SessionMetrics<C::Input>>)
                    .before(RollbackLabSystems::Observe),
            );
    }
}

/// Runs in [`Last`]: Bevy renders what the world holds at the end of an update.
fn record_drawn<C: Config>(
    windows: Query<(Entity, &Window, Option<&OnMonitor>), With<PrimaryWindow>>,
    monitors: Query<&Monitor>,
    mut occlusions: MessageReader<WindowOccluded>,
    mut occluded: Local<bool>,
    not_drawn: Res<NotDrawn>,
    mut metrics: ResMut<SessionMetrics<C::Input>>,
) {
    let Ok((entity, window, monitor)) = windows.single() else {
        return;
    };
    for occlusion in occlusions.read().filter(|of| of.window == entity) {
        *occluded = occlusion.occluded;
    }
    let (width, height) = (window.physical_width(), window.physical_height());
    let drawn = window.visible && !*occluded && !not_drawn.0 && width > 0 && height > 0;
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
