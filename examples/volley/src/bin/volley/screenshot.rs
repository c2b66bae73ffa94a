//! The option `--screenshot`: saves the window at a frame of the match, and fails the run if it is
//! empty.

use std::collections::HashSet;
use std::path::PathBuf;

use bevy::prelude::*;
use bevy::render::view::screenshot::{Screenshot, ScreenshotCaptured, save_to_disk};
use bevy_rollback_lab::prelude::*;

use crate::figures::Shown;
use crate::settings::Settings;

/// A window with fewer colours than this is empty; the gradient of the sky has more.
const COLORS: usize = 64;
/// Bytes of a pixel.
const PIXEL: usize = 4;

/// The screenshot that is still to be taken.
#[derive(Resource, Debug)]
struct PendingScreenshot {
    file: PathBuf,
    frame: i32,
}

/// Takes the screenshot that the settings ask for.
pub(crate) fn plugin(app: &mut App, settings: &Settings) {
    let Some((file, frame)) = settings.screenshot.clone() else {
        return;
    };
    app.insert_resource(PendingScreenshot {
        file,
        frame: i32::try_from(frame).unwrap_or(i32::MAX),
    })
    .add_systems(
        Update,
        take.run_if(resource_exists::<PendingScreenshot>.and_then(in_state(SessionPhase::Playing))),
    );
}

fn take(pending: Res<PendingScreenshot>, shown: Res<Shown>, mut commands: Commands) {
    if shown.frame < pending.frame {
        return;
    }
    commands
        .spawn(Screenshot::primary_window())
        .observe(check)
        .observe(save_to_disk(pending.file.clone()));
    commands.remove_resource::<PendingScreenshot>();
}

/// Fails the run if the screenshot is empty.
fn check(captured: On<ScreenshotCaptured>, mut exit: MessageWriter<AppExit>) {
    let pixels = captured.image.data.as_deref().unwrap_or_default();
    let colors: HashSet<&[u8]> = pixels.chunks_exact(PIXEL).collect();
    if colors.len() < COLORS {
        error!("the window shows {} colours: it is empty", colors.len());
        exit.write(AppExit::error());
    }
}
