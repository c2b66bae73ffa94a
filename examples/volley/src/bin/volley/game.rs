//! The app of the demo, the same in a window and on a page: its plugins.

use std::time::Duration;

use bevy::log::{Level, LogPlugin};
use bevy::prelude::*;
use bevy::window::{PresentMode, WindowResolution};
use bevy::winit::WinitSettings;
use bevy_rollback_lab::prelude::*;

use crate::rounds::{self, Config};
use crate::settings::Settings;
use crate::{devices, figures, overlay, scene, trail};
use volley::bot::BotPlugin;

/// Only warnings. The crates named here warn about every connection that is set up or closed, and
/// about every software renderer.
const LOG_FILTER: &str = "warn,webrtc=error,rtc=error,matchbox_socket=error,winit=error,wgpu=error,\
     bevy_render=error,bevy_winit=error,naga=error";
/// The canvas of the page.
const CANVAS: &str = "#game";
/// How long the result of an episode is shown.
const PAUSE: Duration = Duration::from_secs(3);

/// Names of the players, and whether a bot plays for the local one.
#[derive(Resource, Clone, Debug)]
pub(crate) struct LocalPlayer {
    /// Name under the local player.
    pub name: String,
    /// Name under the other players.
    pub rival: String,
    /// A bot plays this side.
    pub bot: bool,
}

/// A match by `settings`, ready to run.
pub(crate) fn app(settings: Settings) -> App {
    let mut app = screen(&settings);
    rounds::plugin(&mut app, &settings, PAUSE);
    if settings.bot {
        // The seed of each episode replaces this one before its first frame.
        app.add_plugins(BotPlugin::<Config>::new(0, settings.fps));
    }
    app.add_plugins((
        LabDisplayPlugin::<Config>::default(),
        LabDiagnosticsPlugin::<Config>::default(),
        LabHudPlugin::<Config>::default().shown(settings.hud),
        scene::plugin,
        figures::plugin,
        trail::plugin,
        overlay::plugin,
        devices::plugin,
    ));
    #[cfg(target_arch = "wasm32")]
    app.add_plugins(crate::page::plugin);
    #[cfg(not(target_arch = "wasm32"))]
    crate::screenshot::plugin(&mut app, &settings);
    app
}

/// An app with a window or canvas and the local player's name, without a game.
pub(crate) fn screen(settings: &Settings) -> App {
    let mut app = App::new();
    app.add_plugins(DefaultPlugins.set(window(settings)).set(LogPlugin {
        level: Level::INFO,
        filter: LOG_FILTER.to_owned(),
        ..default()
    }))
    // A match does not slow down because another window has the focus.
    .insert_resource(WinitSettings::continuous())
    .insert_resource(LocalPlayer {
        name: settings.name.clone(),
        rival: settings.rival.clone(),
        bot: settings.bot,
    });
    #[cfg(all(not(target_os = "linux"), not(feature = "gamepad")))]
    app.add_plugins(bevy_gilrs::GilrsPlugin);
    app
}

fn window(settings: &Settings) -> WindowPlugin {
    WindowPlugin {
        primary_window: Some(Window {
            title: format!("volley: {}", settings.room),
            name: Some("bevy_rollback_lab.volley".to_owned()),
            resolution: WindowResolution::new(1120, 700),
            present_mode: PresentMode::AutoVsync,
            canvas: Some(CANVAS.to_owned()),
            fit_canvas_to_parent: true,
            ..default()
        }),
        ..default()
    }
}
