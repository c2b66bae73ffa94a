//! The page as an instrument: what a game hands over to the page that it runs in.
//!
//! Owns the glue between a lab session and the page's scripts: `window.exportSessionMetrics()`, the
//! DOM events below, updates in a hidden tab and between slow pictures, the moments of key presses.
//! Never touches the page's elements, and no game needs it to play.
//!
//! | event on `window` | when | `detail` |
//! |---|---|---|
//! | `rollbacklab:episode` | an episode's document is complete | the document |
//! | `rollbacklab:session` | the session document changed | the document |
//! | `rollbacklab:desync` | the peers computed different states | this peer's half of the bundle |
//! | `rollbacklab:error` | the session failed, or could not begin | `{message}` |
//!
//! Events are dispatched after the update in which they happened, so that a listener may call
//! `exportSessionMetrics()`.

mod address;
mod devices;
mod export;
mod frame_scheduler;
#[cfg(feature = "window")]
mod rendered_frames;
mod replay;

use std::cell::RefCell;
use std::marker::PhantomData;

use bevy::app::MainScheduleOrder;
use bevy::ecs::schedule::ScheduleLabel;
use bevy::prelude::*;
use bevy_matchbox::matchbox_socket::PeerId;
use ggrs::Config;
use js_sys::Function;
use serde::Serialize;
use wasm_bindgen::closure::{Closure, WasmClosure};
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{CustomEvent, CustomEventInit, Window};

pub use self::address::PageAddress;
pub use self::replay::{fetch_episode, install_replay};
use crate::record::sink::Document;
use crate::record::{DesyncRecorded, EpisodeEnded, SessionDocumentChanged};
use crate::session::SessionFailed;

/// Name of the event that carries an episode's document.
pub const EPISODE_EVENT: &str = "rollbacklab:episode";
/// Name of the event that carries the session document.
pub const SESSION_EVENT: &str = "rollbacklab:session";
/// Name of the event that carries this peer's half of a desync.
pub const DESYNC_EVENT: &str = "rollbacklab:desync";
/// Name of the event that says why there is no match.
pub const ERROR_EVENT: &str = "rollbacklab:error";

/// Hands the documents of a lab session over to the page, and keeps the game at its pace: in a hidden
/// tab, and where the browser draws less often than the game plays. Add it before the game runs; with
/// the feature `window` updates that no picture shows are not drawn either.
pub struct WebPlugin<C>(PhantomData<fn() -> C>);

impl<C> Default for WebPlugin<C> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

/// Runs before [`First`]: the metrics come back into the world.
#[derive(ScheduleLabel, Clone, Debug, PartialEq, Eq, Hash)]
struct PageFirst;

/// Runs after [`Last`]: between updates the metrics are the page's to read.
#[derive(ScheduleLabel, Clone, Debug, PartialEq, Eq, Hash)]
struct PageLast;

impl<C> Plugin for WebPlugin<C>
where
    C: Config<Address = PeerId>,
    C::Input: Serialize,
{
    fn build(&self, app: &mut App) {
        app.init_schedule(PageFirst).init_schedule(PageLast);
        let mut order = app.world_mut().resource_mut::<MainScheduleOrder>();
        order.insert_before(First, PageFirst);
        order.insert_after(Last, PageLast);
        #[cfg(feature = "window")]
        app.init_resource::<rendered_frames::Resting>()
            .add_systems(PageFirst, rendered_frames::wake_cameras)
            .add_systems(PageLast, rendered_frames::rest_cameras);
        app.add_systems(PageFirst, export::take_back::<C::Input>)
            .add_systems(
                PageLast,
                (export::lend::<C::Input>, dispatch_queued).chain(),
            )
            .add_systems(
                First,
                (frame_scheduler::report_visibility, devices::report_moments),
            )
            .add_observer(queue_episode)
            .add_observer(queue_session)
            .add_observer(queue_desync)
            .add_observer(queue_failure);
        if let Err(error) = install() {
            error!("this page lacks what it should hand over: {error:?}");
        }
    }
}

fn install() -> Result<(), JsValue> {
    export::install()?;
    frame_scheduler::install()?;
    devices::install()
}

/// A function that lives as long as the page.
fn lasting<T: ?Sized + WasmClosure>(closure: Closure<T>) -> Function {
    let function = closure.as_ref().unchecked_ref::<Function>().clone();
    closure.forget();
    function
}

/// The page's own clock, in milliseconds.
fn page_ms(window: &Window) -> f64 {
    window.performance().map_or(0.0, |clock| clock.now())
}

/// Tells the page why there is no match. For what goes wrong before there is an app.
pub fn report_error(message: &str) {
    dispatch(ERROR_EVENT, &error_detail(message));
}

fn error_detail(message: &str) -> String {
    serde_json::json!({ "message": message }).to_string()
}

thread_local! {
    /// What happened in this update, as the page will be told.
    static QUEUED: RefCell<Vec<(&'static str, String)>> = const { RefCell::new(Vec::new()) };
}

fn queue(name: &'static str, detail: String) {
    QUEUED.with_borrow_mut(|queued| queued.push((name, detail)));
}

fn queue_document(name: &'static str, document: &Document) -> Option<String> {
    match document.to_bytes().map(String::from_utf8) {
        Ok(Ok(text)) => {
            queue(name, text.clone());
            Some(text)
        }
        Ok(Err(error)) => {
            error!("{name}: {error}");
            None
        }
        Err(error) => {
            error!("{name}: {error}");
            None
        }
    }
}

fn queue_episode(ended: On<EpisodeEnded>) {
    let document = Document::Episode(ended.document.clone());
    if let Some(text) = queue_document(EPISODE_EVENT, &document) {
        export::keep(ended.number, text);
    }
}

fn queue_session(changed: On<SessionDocumentChanged>) {
    queue_document(SESSION_EVENT, &Document::Session(changed.document.clone()));
}

fn queue_desync(recorded: On<DesyncRecorded>) {
    queue_document(DESYNC_EVENT, &Document::Desync(recorded.bundle.clone()));
}

fn queue_failure(failed: On<SessionFailed>) {
    queue(ERROR_EVENT, error_detail(&failed.error.to_string()));
}

fn dispatch_queued() {
    // A listener may reach back into this module.
    for (name, detail) in QUEUED.take() {
        dispatch(name, &detail);
    }
}

fn dispatch(name: &str, json: &str) {
    let told = (|| -> Result<(), JsValue> {
        let init = CustomEventInit::new();
        init.set_detail(&js_sys::JSON::parse(json)?);
        let event = CustomEvent::new_with_event_init_dict(name, &init)?;
        let window = web_sys::window().ok_or("no window")?;
        window.dispatch_event(&event).map(drop)
    })();
    if let Err(error) = told {
        error!("{name} was not told to the page: {error:?}");
    }
}
