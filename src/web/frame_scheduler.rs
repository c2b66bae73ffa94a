//! Owns when a page updates. Browsers call back by `requestAnimationFrame` when they are ready for a
//! picture: never for a hidden tab, and a few times a second where a processor draws alone or a
//! graphics card has too much to do. A match cannot wait for a picture. The timers of a worker go on
//! through all of that: so `requestAnimationFrame` is this module's, which hands its callbacks to the
//! browser, and to the worker's timer when the browser does not come. What such an update changed
//! is not drawn; the next picture shows it. Never decides what a hidden tab means to a match.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use bevy::prelude::*;
use js_sys::{Array, Function, Reflect};
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{Blob, BlobPropertyBag, Event, MessageEvent, Url, Window, Worker};

use super::{lasting, page_ms};
use crate::config::LabConfig;
use crate::session::SetHidden;

/// Says back whatever it is told, that many milliseconds later.
const WORKER: &str = "onmessage = ({data}) => setTimeout(() => postMessage(0), data);";
/// Where no lab session says how many frames a second it plays.
const DEFAULT_INTERVAL: f64 = 1_000.0 / 60.0;
/// Shortest wait for the next tick, in milliseconds: the page has other things to do, too.
const REST: f64 = 1.0;
/// A timer that is later than so many intervals starts its rhythm anew.
const CATCH_UP: f64 = 8.0;
/// Intervals after a picture until the browser counts as late: a display that is a little slower
/// than the game is not.
const LATE_PICTURE: f64 = 1.5;
/// Intervals between two updates of the timer's own, less what ticks jitter.
const NEXT_TICK: f64 = 0.75;

thread_local! {
    static FRAMES: RefCell<Frames> = RefCell::default();
    static INTERVAL: Cell<f64> = const { Cell::new(DEFAULT_INTERVAL) };
}

#[derive(Default)]
struct Frames {
    /// Callbacks that wait for the next frame, by their handles.
    waiting: Vec<(i32, Function)>,
    next_handle: i32,
    /// The browser's own function, and what it calls.
    browser: Option<(Function, Function)>,
    /// The browser was asked for a frame and has not called yet.
    asked: bool,
    worker: Option<Worker>,
    hidden: bool,
    /// The update that runs, or ran last, is the timer's.
    by_timer: bool,
    /// When an update began last, in the page's milliseconds.
    updated: f64,
    /// When the worker's next answer is due.
    due: f64,
}

/// Tells the session what the page's visibility is, before anything of this update is sent.
pub(super) fn report_visibility(
    mut told: Local<Option<bool>>,
    lab: Option<Res<LabConfig>>,
    mut commands: Commands,
) {
    if let Some(lab) = lab.filter(|lab| lab.is_added()) {
        let frame = Duration::from_secs(1) / lab.fps.max(1);
        INTERVAL.set(frame.as_secs_f64() * 1e3);
    }
    let hidden = FRAMES.with_borrow(|frames| frames.hidden);
    if told.replace(hidden) != Some(hidden) {
        commands.trigger(SetHidden(hidden));
    }
}

/// Whether the update that runs is one that nobody will see.
#[cfg(feature = "window")]
pub(super) fn undrawn() -> bool {
    FRAMES.with_borrow(|frames| frames.by_timer)
}

/// Takes over `requestAnimationFrame` and `cancelAnimationFrame`, for as long as the page lives.
pub(super) fn install() -> Result<(), JsValue> {
    let window = web_sys::window().ok_or("no window")?;
    let document = window.document().ok_or("no document")?;
    let name = |name: &str| JsValue::from_str(name);
    let browser: Function = Reflect::get(&window, &name("requestAnimationFrame"))?.dyn_into()?;

    let on_frame = lasting::<dyn FnMut(f64)>(Closure::new(run_picture));
    let request = lasting::<dyn FnMut(Function) -> i32>(Closure::new(request));
    let cancel = lasting::<dyn FnMut(i32)>(Closure::new(cancel));
    let answer = lasting::<dyn FnMut(MessageEvent)>(Closure::new(|_: MessageEvent| run_tick()));
    let changed = lasting::<dyn FnMut(Event)>(Closure::new({
        let document = document.clone();
        move |_: Event| set_hidden(document.hidden())
    }));

    let worker = start_worker()?;
    worker.set_onmessage(Some(&answer));
    FRAMES.with_borrow_mut(|frames| {
        frames.browser = Some((browser, on_frame));
        frames.worker = Some(worker);
    });
    Reflect::set(&window, &name("requestAnimationFrame"), &request)?;
    Reflect::set(&window, &name("cancelAnimationFrame"), &cancel)?;
    document.add_event_listener_with_callback("visibilitychange", &changed)?;
    set_hidden(document.hidden());
    schedule(&window);
    Ok(())
}

fn start_worker() -> Result<Worker, JsValue> {
    let parts = Array::of1(&JsValue::from_str(WORKER));
    let options = BlobPropertyBag::new();
    options.set_type("text/javascript");
    let script = Blob::new_with_str_sequence_and_options(&parts, &options)?;
    let url = Url::create_object_url_with_blob(&script)?;
    Worker::new(&url)
}

fn request(callback: Function) -> i32 {
    let handle = FRAMES.with_borrow_mut(|frames| {
        frames.next_handle = frames.next_handle.wrapping_add(1).max(1);
        frames.waiting.push((frames.next_handle, callback));
        frames.next_handle
    });
    ask();
    handle
}

fn cancel(handle: i32) {
    FRAMES.with_borrow_mut(|frames| frames.waiting.retain(|(of, _)| *of != handle));
}

/// Asks the browser for a frame, unless it was asked or shows nothing.
fn ask() {
    let browser = FRAMES.with_borrow_mut(|frames| {
        let wanted = !frames.asked && !frames.hidden && !frames.waiting.is_empty();
        frames.asked |= wanted;
        frames.browser.clone().filter(|_| wanted)
    });
    let (Some((ask, on_frame)), Some(window)) = (browser, web_sys::window()) else {
        return;
    };
    if let Err(error) = ask.call1(&window, &on_frame) {
        FRAMES.with_borrow_mut(|frames| frames.asked = false);
        error!("the browser gives no animation frame: {error:?}");
    }
}

/// The browser is ready for a picture.
fn run_picture(time: f64) {
    FRAMES.with_borrow_mut(|frames| frames.asked = false);
    run_frame(time, false);
}

fn run_frame(time: f64, by_timer: bool) {
    let Some(window) = web_sys::window() else {
        return;
    };
    // What the callbacks ask for is the next frame's.
    let waiting = FRAMES.with_borrow_mut(|frames| {
        frames.by_timer = by_timer;
        frames.updated = page_ms(&window);
        std::mem::take(&mut frames.waiting)
    });
    for (_, callback) in waiting {
        if let Err(error) = callback.call1(&JsValue::UNDEFINED, &JsValue::from_f64(time)) {
            error!("an animation frame's callback failed: {error:?}");
        }
    }
}

/// The worker's time has come. One message is under way at a time: a page that needs longer for an
/// update than the timer's interval is never buried in them.
fn run_tick() {
    let Some(window) = web_sys::window() else {
        return;
    };
    let now = page_ms(&window);
    let due = FRAMES.with_borrow(|frames| {
        let patience = if frames.by_timer || frames.hidden {
            NEXT_TICK
        } else {
            LATE_PICTURE
        };
        now - frames.updated >= patience * INTERVAL.get()
    });
    if due {
        run_frame(now, true);
    }
    schedule(&window);
}

fn schedule(window: &Window) {
    let interval = INTERVAL.get();
    let now = page_ms(window);
    let sent = FRAMES.with_borrow_mut(|frames| {
        if now > frames.due + CATCH_UP * interval {
            frames.due = now;
        }
        frames.due += interval;
        let delay = JsValue::from_f64((frames.due - now).max(REST));
        frames
            .worker
            .as_ref()
            .map(|worker| worker.post_message(&delay))
    });
    if let Some(Err(error)) = sent {
        error!("a hidden tab will stand still, for its worker takes no message: {error:?}");
    }
}

fn set_hidden(hidden: bool) {
    // A frame that the browser was asked for before it hid the tab comes when it shows it again.
    FRAMES.with_borrow_mut(|frames| frames.hidden = hidden);
    ask();
}
