//! The demo on a page: settings from the page's address, documents and failures to the page.

use bevy::prelude::*;
use bevy_rollback_lab::replay::View;
use bevy_rollback_lab::web::{self, PageAddress, WebPlugin};

use crate::playback;
use crate::rounds::Config;
use crate::settings::Settings;

/// The settings in the page's address.
///
/// # Errors
/// A parameter that cannot be used, and why, for the person who made the link.
pub(crate) fn settings() -> Result<Settings, String> {
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
        wait: address.parsed("waitTimeout")?.unwrap_or(defaults.wait),
        study: text("study"),
        group: text("group"),
        trial: text("trial"),
        // In the fragment, which browsers do not send: a query ends up in the logs of servers and
        // proxies.
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

/// Plays the episode file in the parameter `replay` of the page's address, with `asSeen` as its peer
/// saw it. Returns false without that parameter.
pub(crate) fn replay() -> bool {
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

/// Reports to the page why there is no match.
pub(crate) fn refuse(error: &str) {
    web::report_error(error);
}

/// Adds what the page needs to the app of a match.
pub(crate) fn plugin(app: &mut App) {
    app.add_plugins(WebPlugin::<Config>::default());
    web::install_replay::<Config>(playback::headless);
}
