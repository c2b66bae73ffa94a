//! The page around the demo: its address becomes settings, and what the demo tells goes to the page.
//!
//! Owns what is particular to a browser. Never draws and never plays.

use bevy::prelude::*;
use bevy_rollback_lab::replay::View;
use bevy_rollback_lab::web::{self, PageAddress, WebPlugin};

use crate::playback;
use crate::rounds::Config;
use crate::settings::Settings;

/// The settings that the page's address names.
///
/// # Errors
/// What in it cannot be used, in words for the person who made the link.
pub fn settings() -> Result<Settings, String> {
    let address = PageAddress::read()?;
    let defaults = Settings::default();
    let text = |name: &str| address.parameter(name).map(str::to_owned);
    let settings = Settings {
        server: text("server").unwrap_or_else(|| address.server()),
        room: text("room").unwrap_or(defaults.room),
        players: address.parsed("players")?.unwrap_or(defaults.players),
        name: text("name").unwrap_or(defaults.name),
        bot: address.flag("bot"),
        frames: address.parsed("frames")?.unwrap_or(defaults.frames),
        episodes: address.parsed("episodes")?.or(defaults.episodes),
        fps: address.parsed("fps")?.unwrap_or(defaults.fps),
        seed: address.parsed("seed")?.or(defaults.seed),
        conditions: text("conditions").unwrap_or(defaults.conditions),
        route_policy: address
            .parsed("routePolicy")?
            .unwrap_or(defaults.route_policy),
        input_delay: address
            .parsed("inputDelay")?
            .unwrap_or(defaults.input_delay),
        cut_direct_at: address.parsed("cutDirectAt")?,
        study: text("study"),
        group: text("group"),
        trial: text("trial"),
        // In the fragment, because browsers send a query to every server on the way and keep it in
        // their history of requests.
        token: address.secret("token").map(str::to_owned),
        hud: address.flag("hud"),
        ..defaults
    };
    if address.parameter("token").is_some() {
        return Err(String::from(
            "a token belongs behind the # of this page's address, never among its parameters",
        ));
    }
    settings
        .lab()
        .validate()
        .map_err(|error| error.to_string())?;
    Ok(settings)
}

/// Watches the file that the page's address names as `replay`, as its peer saw it with `asSeen`;
/// whether it names one.
pub fn replay() -> bool {
    let Ok(address) = PageAddress::read() else {
        return false;
    };
    let Some(url) = address.parameter("replay") else {
        return false;
    };
    let view = if address.flag("asSeen") {
        View::AsSeen
    } else {
        View::Canonical
    };
    web::install_replay::<Config>(playback::headless);
    web::fetch_episode(url, move |document| {
        let played =
            document.and_then(|document| playback::app(&document, view, &Settings::default()));
        match played {
            Ok(mut app) => {
                app.run();
            }
            Err(error) => refuse(&error),
        }
    });
    true
}

/// Says why there is no match.
pub fn refuse(error: &str) {
    web::report_error(error);
}

/// What the page adds to the app.
pub fn plugin(app: &mut App) {
    app.add_plugins(WebPlugin::<Config>::default());
    web::install_replay::<Config>(playback::headless);
}
