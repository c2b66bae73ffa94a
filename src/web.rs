//! A game on a page: its documents for the page's scripts, a steady frame rate in slow and hidden
//! tabs, failures as events.
//!
//! Add [`WebPlugin`] beside [`RollbackLabPlugins`](crate::RollbackLabPlugins). The page then finds
//! `window.exportSessionMetrics()` and these events on `window`:
//!
//! | event | when | `detail` |
//! |---|---|---|
//! | [`rollbacklab:episode`](EPISODE_EVENT) | an episode's document is complete | the document |
//! | [`rollbacklab:session`](SESSION_EVENT) | the session document changed | the document |
//! | [`rollbacklab:desync`](DESYNC_EVENT) | the peers computed different states | this peer's half of the desync bundle |
//! | [`rollbacklab:error`](ERROR_EVENT) | the session failed or could not begin, or the program panicked | `{message, phase}` |
//!
//! Events are dispatched after the update in which they happened, so a listener may call
//! `exportSessionMetrics()`; a panic is reported at once. `phase` is `start` before there is an
//! app, `session` for a lab session, and `panic`.
//!
//! The demo's page (`examples/volley/page/index.html`) shows how a page uses them, and forwards
//! them to a page around it.

mod address;
mod devices;
mod export;
mod failure;
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
pub use self::failure::{report_error, report_panics};
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
/// Name of the event that reports why there is no match. Its detail is `{message, phase}`.
pub const ERROR_EVENT: &str = "rollbacklab:error";

/// Connects a lab session with the page that it runs in: documents and failures become events on
/// `window`, `window.exportSessionMetrics()` returns the metrics, and the game keeps its frame rate
/// in a hidden tab and where the browser draws more slowly than the game plays.
///
/// Add it before the game runs. It replaces `requestAnimationFrame`: when the browser does not call
/// in time, a worker's timer runs the update. With the feature `window` such an update is not
/// drawn.
///
/// ```no_run
/// use bevy::prelude::*;
/// use bevy_ggrs::GgrsConfig;
/// use bevy_matchbox::prelude::PeerId;
/// use bevy_rollback_lab::prelude::*;
/// use bevy_rollback_lab::web::{self, PageAddress, WebPlugin};
///
/// type Config = GgrsConfig<u8, PeerId>;
///
/// fn main() {
///     web::report_panics();
///     let address = match PageAddress::read() {
///         Ok(address) => address,
///         Err(error) => return web::report_error(&error),
///     };
///     let room = address.parameter("room").unwrap_or("study");
///     let lab = LabConfig::new(address.server(), room);
///     App::new()
///         .add_plugins((DefaultPlugins, RollbackLabPlugins::<Config>::new(lab)))
///         .add_plugins(WebPlugin::<Config>::default())
///         .run();
/// }
/// ```
pub struct WebPlugin<C>(PhantomData<fn() -> C>);

impl<C> Default for WebPlugin<C> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

/// Runs before [`First`]: takes the metrics back into the world.
#[derive(ScheduleLabel, Clone, Debug, PartialEq, Eq, Hash)]
struct PageFirst;

/// Runs after [`Last`]: between updates the page's scripts may read the metrics.
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
        app.init_resource::<rendered_frames::PausedCameras>()
            .add_systems(PageFirst, rendered_frames::resume_cameras)
            .add_systems(PageLast, rendered_frames::pause_cameras);
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
        report_panics();
        if let Err(error) = install() {
            error!("the page's functions and timers could not be installed: {error:?}");
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

thread_local! {
    /// Events of this update, dispatched at its end.
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
    let message = failed.error.to_string();
    queue(
        ERROR_EVENT,
        failure::detail(failure::Phase::Session, &message),
    );
}

fn dispatch_queued() {
    // Taken out first: a listener may call back into this module.
    for (name, detail) in QUEUED.take() {
        dispatch(name, &detail);
    }
}

fn dispatch(name: &str, json: &str) {
    let dispatched = (|| -> Result<(), JsValue> {
        let init = CustomEventInit::new();
        init.set_detail(&js_sys::JSON::parse(json)?);
        let event = CustomEvent::new_with_event_init_dict(name, &init)?;
        let window = web_sys::window().ok_or("no window")?;
        window.dispatch_event(&event).map(drop)
    })();
    if let Err(error) = dispatched {
        error!("{name} was not dispatched: {error:?}");
    }
}
