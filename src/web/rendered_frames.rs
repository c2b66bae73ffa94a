//! Owns keeping an update that no picture shows away from the renderer: a page that draws slowly would
//! draw even more slowly if it had to draw every update between two pictures. Games never see it.

use bevy::camera::Camera;
use bevy::prelude::*;

use super::pace;
use crate::display::NotDrawn;

/// The cameras that rest for one update.
#[derive(Resource, Default)]
pub(super) struct Resting(Vec<Entity>);

/// Before anything of an update runs, every camera is as the game left it.
pub(super) fn wake_cameras(
    mut resting: ResMut<Resting>,
    mut cameras: Query<&mut Camera>,
    display: Option<ResMut<NotDrawn>>,
) {
    for entity in resting.0.drain(..) {
        // It may be gone by now.
        if let Ok(mut camera) = cameras.get_mut(entity) {
            camera.bypass_change_detection().is_active = true;
        }
    }
    if let Some(mut display) = display {
        display.set_if_neq(NotDrawn(pace::undrawn()));
    }
}

/// After everything of an update ran. Without an active camera a window's picture is left alone.
pub(super) fn rest_cameras(
    mut resting: ResMut<Resting>,
    mut cameras: Query<(Entity, &mut Camera)>,
) {
    if !pace::undrawn() {
        return;
    }
    for (entity, mut camera) in &mut cameras {
        if camera.is_active {
            camera.bypass_change_detection().is_active = false;
            resting.0.push(entity);
        }
    }
}
