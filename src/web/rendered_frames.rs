//! Keeps updates between two rendered frames from the renderer: where drawing is slow, drawing every
//! update would make it slower still.

use bevy::camera::Camera;
use bevy::prelude::*;

use super::frame_scheduler;
use crate::display::NotDrawn;

/// Cameras that are inactive for one update.
#[derive(Resource, Default)]
pub(super) struct PausedCameras(Vec<Entity>);

/// Makes every camera as the game left it, before anything else of an update runs.
pub(super) fn resume_cameras(
    mut paused: ResMut<PausedCameras>,
    mut cameras: Query<&mut Camera>,
    display: Option<ResMut<NotDrawn>>,
) {
    for entity in paused.0.drain(..) {
        // The game may have despawned it.
        if let Ok(mut camera) = cameras.get_mut(entity) {
            camera.bypass_change_detection().is_active = true;
        }
    }
    if let Some(mut display) = display {
        display.set_if_neq(NotDrawn(frame_scheduler::undrawn()));
    }
}

/// Deactivates all cameras after everything else of an update that will not be drawn. Without an
/// active camera the window keeps its last rendered frame.
pub(super) fn pause_cameras(
    mut paused: ResMut<PausedCameras>,
    mut cameras: Query<(Entity, &mut Camera)>,
) {
    if !frame_scheduler::undrawn() {
        return;
    }
    for (entity, mut camera) in &mut cameras {
        if camera.is_active {
            camera.bypass_change_detection().is_active = false;
            paused.0.push(entity);
        }
    }
}
