//! Replays on a page: `window.replayEpisode()`, and fetching a file to watch.

use bevy::prelude::*;
use ggrs::Config;
use js_sys::futures::{JsFuture, spawn_local};
use js_sys::{JSON, Reflect};
use serde_json::json;
use wasm_bindgen::{JsCast, JsValue, closure::Closure};

use super::lasting;
use crate::record::EpisodeDocument;
use crate::replay::{self, View};

/// Defines `window.replayEpisode(document, options)`: it plays an episode headless in an app made by
/// `game`, and compares every state hash.
///
/// The document is an object or its text; `{asSeen: true}` replays predictions and rollbacks, too.
/// It returns `{frames, rollbacks, simulated, hashesChecked, firstDifference, proven, message, ms}`,
/// where `firstDifference` is `null` or `{what, frame, recorded, replayed}`, and throws if the file
/// cannot be played.
///
/// ```no_run
/// use bevy::prelude::*;
/// use bevy_ggrs::GgrsConfig;
/// use bevy_matchbox::prelude::PeerId;
/// use bevy_rollback_lab::web;
///
/// /// The game without its screen: its rollback state and systems.
/// fn headless_game() -> App {
///     let mut app = App::new();
///     app.add_plugins(MinimalPlugins);
///     app
/// }
///
/// web::install_replay::<GgrsConfig<u8, PeerId>>(headless_game);
/// ```
pub fn install_replay<C: Config>(game: fn() -> App) {
    let replay = Closure::<dyn FnMut(JsValue, JsValue) -> Result<JsValue, JsValue>>::new(
        move |document: JsValue, options: JsValue| play::<C>(game(), &document, &options),
    );
    let installed = web_sys::window()
        .ok_or_else(|| JsValue::from_str("no window"))
        .and_then(|window| {
            let name = JsValue::from_str("replayEpisode");
            Reflect::set(&window, &name, &lasting(replay))
        });
    if let Err(error) = installed {
        error!("window.replayEpisode could not be defined: {error:?}");
    }
}

fn play<C: Config>(app: App, document: &JsValue, options: &JsValue) -> Result<JsValue, JsValue> {
    let exception =
        |error: &dyn std::fmt::Display| JsValue::from(js_sys::Error::new(&error.to_string()));
    let text = match document.as_string() {
        Some(text) => text,
        None => String::from(JSON::stringify(document)?),
    };
    let document = EpisodeDocument::parse(&text).map_err(|error| exception(&error))?;
    let as_seen = options.is_object()
        && Reflect::get(options, &JsValue::from_str("asSeen")).is_ok_and(|seen| seen.is_truthy());
    let view = if as_seen {
        View::AsSeen
    } else {
        View::Canonical
    };
    let began = now_ms();
    let report = replay::check::<C>(app, &document, view).map_err(|error| exception(&error))?;
    let difference = report.first_difference.map(|difference| {
        json!({
            "what": difference.kind.as_str(),
            "frame": difference.frame,
            "recorded": difference.recorded,
            "replayed": difference.replayed,
        })
    });
    let result = json!({
        "frames": report.frames,
        "rollbacks": report.rollbacks,
        "simulated": report.simulated,
        "hashesChecked": report.hashes_checked,
        "firstDifference": difference,
        "proven": report.is_proven(),
        "message": report.to_string(),
        "ms": now_ms() - began,
    });
    JSON::parse(&result.to_string())
}

fn now_ms() -> f64 {
    web_sys::window()
        .and_then(|window| window.performance())
        .map_or(0.0, |performance| performance.now())
}

/// Fetches an episode file from `url` and calls `then` with it, or with the reason why it could not
/// be read.
///
/// ```no_run
/// use bevy_rollback_lab::web;
///
/// web::fetch_episode("match.json", |document| match document {
///     Ok(document) => drop(document), // play it, see `replay::ReplayPlugin`
///     Err(error) => web::report_error(&error),
/// });
/// ```
pub fn fetch_episode(url: &str, then: impl FnOnce(Result<EpisodeDocument, String>) + 'static) {
    let url = url.to_owned();
    spawn_local(async move {
        let fetched = fetch_text(&url)
            .await
            .map_err(|error| format!("{url}: {error:?}"))
            .and_then(|text| {
                EpisodeDocument::parse(&text).map_err(|error| format!("{url}: {error}"))
            });
        then(fetched);
    });
}

async fn fetch_text(url: &str) -> Result<String, JsValue> {
    let global = js_sys::global();
    let fetch: js_sys::Function = Reflect::get(&global, &JsValue::from_str("fetch"))?.dyn_into()?;
    let promise: js_sys::Promise = fetch.call1(&global, &JsValue::from_str(url))?.dyn_into()?;
    let response = JsFuture::from(promise).await?;
    if !Reflect::get(&response, &JsValue::from_str("ok"))?.is_truthy() {
        return Err(Reflect::get(&response, &JsValue::from_str("status"))?);
    }
    let text: js_sys::Function = Reflect::get(&response, &JsValue::from_str("text"))?.dyn_into()?;
    let promise: js_sys::Promise = text.call0(&response)?.dyn_into()?;
    let text = JsFuture::from(promise).await?;
    text.as_string().ok_or_else(|| JsValue::from_str("no text"))
}
