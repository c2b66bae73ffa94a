//! Owns a hidden tab. Browsers stop `requestAnimationFrame` there, and with it whatever draws the
//! game, while the timers of a worker go on: so `requestAnimationFrame` is this module's, which hands
//! its callbacks to the browser while the tab is visible, and to a worker's timer while it is not.
//! Any app that draws by animation frames keeps its pace so. Never decides what a hidden tab means
//! to a match.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use bevy::prelude::*;
use js_sys::{Array, Function, Reflect};
use wasm_bindgen::closure::{Closure, WasmClosure};
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{Blob, BlobPropertyBag, Event, MessageEvent, Url, Window, Worker};

use crate::config::LabConfig;
use crate::session::SetHidden;

/// Says back whatever it is told, that many milliseconds later.
const WORKER: &str = "onmessage = ({data}) => setTimeout(() => postMessage(0), data);";
/// Where no lab session says how many frames a second it plays.
const DEFAULT_INTERVAL: f64 = 1_000.0 / 60.0;
/// Rest between two updates of a hidden tab, in milliseconds: a page that draws in software would
/// have time for nothing else.
const REST: f64 = 4.0;
/// A timer that is later than so many intervals starts its rhythm anew.
const CATCH_UP: f64 = 8.0;

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
    worker: Option<Worker>,
    hidden: bool,
    /// When the worker's next answer is due, in the page's milliseconds.
    due: f64,
}

/// Tells the session what the page's visibility is, before anything of this update is sent.
pub(super) fn tell_visibility(
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

/// Takes over `requestAnimationFrame` and `cancelAnimationFrame`, for as long as the page lives.
pub(super) fn install() -> Result<(), JsValue> {
    let window = web_sys::window().ok_or("no window")?;
    let document = window.document().ok_or("no document")?;
    let name = |name: &str| JsValue::from_str(name);
    let browser: Function = Reflect::get(&window, &name("requestAnimationFrame"))?.dyn_into()?;

    let on_frame = lasting::<dyn FnMut(f64)>(Closure::new(run_frame));
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
    Ok(())
}

/// A function that lives as long as the page.
fn lasting<T: ?Sized + WasmClosure>(closure: Closure<T>) -> Function {
    let function = closure.as_ref().unchecked_ref::<Function>().clone();
    closure.forget();
    function
}

fn start_worker() -> Result<Worker, JsValue> {
    let parts = Array::of1(&JsValue::from_str(WORKER));
    let options = BlobPropertyBag::new();
    options.set_type("text/javascript");
    let script = Blob::new_with_str_sequence_and_options(&parts, &options)?;
    let url = Url::create_object_url_with_blob(&script)?;
    Worker::new(&url)
}

fn now(window: &Window) -> f64 {
    window.performance().map_or(0.0, |clock| clock.now())
}

fn request(callback: Function) -> i32 {
    let (handle, browser) = FRAMES.with_borrow_mut(|frames| {
        frames.next_handle = frames.next_handle.wrapping_add(1).max(1);
        let handle = frames.next_handle;
        let first = frames.waiting.is_empty();
        frames.waiting.push((handle, callback));
        let ask = first && !frames.hidden;
        (handle, frames.browser.clone().filter(|_| ask))
    });
    ask(browser);
    handle
}

fn cancel(handle: i32) {
    FRAMES.with_borrow_mut(|frames| frames.waiting.retain(|(of, _)| *of != handle));
}

/// Asks the browser for a frame. Asking twice costs nothing: the second one finds nobody waiting.
fn ask(browser: Option<(Function, Function)>) {
    let (Some((ask, on_frame)), Some(window)) = (browser, web_sys::window()) else {
        return;
    };
    if let Err(error) = ask.call1(&window, &on_frame) {
        error!("the browser gives no animation frame: {error:?}");
    }
}

fn run_frame(time: f64) {
    // What the callbacks ask for is the next frame's.
    let waiting = FRAMES.with_borrow_mut(|frames| std::mem::take(&mut frames.waiting));
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
    if !FRAMES.with_borrow(|frames| frames.hidden) {
        return;
    }
    run_frame(now(&window));
    schedule(&window);
}

fn schedule(window: &Window) {
    let interval = INTERVAL.get();
    let now = now(window);
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
        error!("the hidden tab stands still, for its worker takes no message: {error:?}");
    }
}

fn set_hidden(hidden: bool) {
    let Some(window) = web_sys::window() else {
        return;
    };
    let was = FRAMES.with_borrow_mut(|frames| std::mem::replace(&mut frames.hidden, hidden));
    if was == hidden {
        return;
    }
    if hidden {
        FRAMES.with_borrow_mut(|frames| frames.due = now(&window));
        schedule(&window);
    } else {
        ask(FRAMES.with_borrow(|frames| frames.browser.clone()));
    }
}
