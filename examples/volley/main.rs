//! Volley on a page, not drawn yet: a stand-in until the drawn game is merged.

#[path = "../shared/bot.rs"]
mod bot;
#[cfg(target_arch = "wasm32")]
mod page;
mod rounds;
mod settings;
#[path = "../shared/volley.rs"]
mod volley;

use std::time::Duration;

use bevy::prelude::*;

fn app(settings: settings::Settings) -> App {
    let mut app = App::new();
    app.add_plugins(DefaultPlugins.set(WindowPlugin {
        primary_window: Some(Window {
            canvas: Some("#game".to_owned()),
            fit_canvas_to_parent: true,
            ..default()
        }),
        ..default()
    }));
    rounds::plugin(&mut app, &settings, Duration::from_secs(3));
    if settings.bot {
        app.add_plugins(bot::BotPlugin::<rounds::Config>::new(0, settings.fps));
    }
    app.add_systems(Startup, |mut commands: Commands| {
        commands.spawn(Camera2d);
    });
    #[cfg(target_arch = "wasm32")]
    app.add_plugins(page::plugin);
    app
}

#[cfg(target_arch = "wasm32")]
fn main() {
    match page::settings() {
        Ok(settings) => {
            app(settings).run();
        }
        Err(error) => page::refuse(&error),
    }
}

#[cfg(not(target_arch = "wasm32"))]
fn main() {
    app(settings::Settings::default()).run();
}
