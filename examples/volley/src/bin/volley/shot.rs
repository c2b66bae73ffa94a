//! A picture of the window, taken at a frame of the match, and a look at whether it shows anything.
//!
//! Owns the option `--screenshot`. Never draws.

use std::collections::HashSet;
use std::path::PathBuf;

use bevy::prelude::*;
use bevy::render::view::screenshot::{Screenshot, ScreenshotCaptured, save_to_disk};
use bevy_rollback_lab::prelude::*;

use crate::figures::Shown;
use crate::settings::Settings;

/// Fewer colours than this are an empty window: a gradient alone has more.
const COLORS: usize = 64;
/// Bytes of a pixel.
const PIXEL: usize = 4;

/// The picture that is still to be taken.
#[derive(Resource, Debug)]
struct Wanted {
    file: PathBuf,
    frame: i32,
}

/// Takes the picture that the settings want.
pub fn plugin(app: &mut App, settings: &Settings) {
    let Some((file, frame)) = settings.screenshot.clone() else {
        return;
    };
    app.insert_resource(Wanted {
        file,
        frame: i32::try_from(frame).unwrap_or(i32::MAX),
    })
    .add_systems(
        Update,
        take.run_if(resource_exists::<Wanted>.and_then(in_state(SessionPhase::Playing))),
    );
}

fn take(wanted: Res<Wanted>, shown: Res<Shown>, mut commands: Commands) {
    if shown.frame < wanted.frame {
        return;
    }
    commands
        .spawn(Screenshot::primary_window())
        .observe(judge)
        .observe(save_to_disk(wanted.file.clone()));
    commands.remove_resource::<Wanted>();
}

/// A picture without anything on it fails the run.
fn judge(captured: On<ScreenshotCaptured>, mut exit: MessageWriter<AppExit>) {
    let pixels = captured.image.data.as_deref().unwrap_or_default();
    let colors: HashSet<&[u8]> = pixels.chunks_exact(PIXEL).collect();
    if colors.len() < COLORS {
        error!("the window shows {} colours: it is empty", colors.len());
        exit.write(AppExit::error());
    }
}
