//! When a page updates. Browsers call back by `requestAnimationFrame` when they are ready to render:
//! not at all in a hidden tab, and a few times a second where the processor renders or the graphics
//! card is overloaded. A match cannot wait for that, and the timers of a worker are not throttled.
//! So this module replaces `requestAnimationFrame`: it passes callbacks on to the browser, and runs
//! them by the worker's timer when the browser does not call in time. Such an update is not drawn;
//! the next rendered frame shows its result.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use bevy::prelude::*;
use js_sys::{Array, Function, Reflect};
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{Blob, BlobPropertyBag, Event, MessageEvent, Url, Window, Worker};

use super::{failure, lasting, page_ms};
use crate::config::LabConfig;
use crate::session::SetHidden;

/// Answers each message, a number of milliseconds, after that time.
const WORKER: &str = "onmessage = ({data}) => setTimeout(() => postMessage(0), data);";
/// Milliseconds of a frame until a lab session sets its frame rate.
const DEFAULT_INTERVAL: f64 = 1_000.0 / 60.0;
/// Shortest wait for the next tick, in milliseconds: the page needs time for other work.
const MIN_WAIT: f64 = 1.0;
/// Intervals that a late timer catches up on; after a longer stall it starts a new schedule.
const CATCH_UP: f64 = 8.0;
/// Intervals after a rendered frame until the browser counts as late. A display that is a little
/// slower than the game is not late.
const LATE_FRAME: f64 = 1.5;
/// Least intervals between two updates by the timer: one, less the jitter of ticks.
const NEXT_TICK: f64 = 0.75;

thread_local! {
    static SCHEDULER: RefCell<FrameScheduler> = RefCell::default();
    static INTERVAL: Cell<f64> = const { Cell::new(DEFAULT_INTERVAL) };
}

#[derive(Default)]
struct FrameScheduler {
    /// Callbacks for the next frame, with their handles.
    waiting: Vec<(i32, Function)>,
    next_handle: i32,
    /// The browser's `requestAnimationFrame`, and the callback that it gets.
    browser: Option<(Function, Function)>,
    /// A frame was requested from the browser and has not come yet.
    requested: bool,
    worker: Option<Worker>,
    hidden: bool,
    /// The current or last update was run by the timer.
    by_timer: bool,
    /// Start of the current or last update, in the page's milliseconds.
    updated: f64,
    /// When the worker's next answer is due, in the page's milliseconds.
    due: f64,
}

/// Reports the page's visibility to the session, before this update sends anything.
pub(super) fn report_visibility(
    mut reported: Local<Option<bool>>,
    lab: Option<Res<LabConfig>>,
    mut commands: Commands,
) {
    if let Some(lab) = lab.filter(|lab| lab.is_changed()) {
        let frame = Duration::from_secs(1) / lab.fps.max(1);
        INTERVAL.set(frame.as_secs_f64() * 1e3);
    }
    let hidden = SCHEDULER.with_borrow(|frames| frames.hidden);
    if reported.replace(hidden) != Some(hidden) {
        commands.trigger(SetHidden(hidden));
    }
}

/// Whether the current update will not be drawn.
#[cfg(feature = "window")]
pub(super) fn undrawn() -> bool {
    SCHEDULER.with_borrow(|frames| frames.by_timer)
}

/// Replaces `requestAnimationFrame` and `cancelAnimationFrame`, for as long as the page lives.
pub(super) fn install() -> Result<(), JsValue> {
    let window = web_sys::window().ok_or("no window")?;
    let document = window.document().ok_or("no document")?;
    let name = |name: &str| JsValue::from_str(name);
    let browser: Function = Reflect::get(&window, &name("requestAnimationFrame"))?.dyn_into()?;

    let on_frame = lasting::<dyn FnMut(f64)>(Closure::new(run_rendered_frame));
    let request = lasting::<dyn FnMut(Function) -> i32>(Closure::new(request));
    let cancel = lasting::<dyn FnMut(i32)>(Closure::new(cancel));
    let answer = lasting::<dyn FnMut(MessageEvent)>(Closure::new(|_: MessageEvent| run_tick()));
    let changed = lasting::<dyn FnMut(Event)>(Closure::new({
        let document = document.clone();
        move |_: Event| set_hidden(document.hidden())
    }));

    let worker = start_worker()?;
    worker.set_onmessage(Some(&answer));
    SCHEDULER.with_borrow_mut(|frames| {
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
    let handle = SCHEDULER.with_borrow_mut(|frames| {
        frames.next_handle = frames.next_handle.wrapping_add(1).max(1);
        frames.waiting.push((frames.next_handle, callback));
        frames.next_handle
    });
    request_from_browser();
    handle
}

fn cancel(handle: i32) {
    SCHEDULER.with_borrow_mut(|frames| frames.waiting.retain(|(of, _)| *of != handle));
}

/// Requests a frame from the browser, unless one is requested already or the page is hidden.
fn request_from_browser() {
    let browser = SCHEDULER.with_borrow_mut(|frames| {
        let wanted = !frames.requested && !frames.hidden && !frames.waiting.is_empty();
        frames.requested |= wanted;
        frames.browser.clone().filter(|_| wanted)
    });
    let (Some((request, on_frame)), Some(window)) = (browser, web_sys::window()) else {
        return;
    };
    if let Err(error) = request.call1(&window, &on_frame) {
        SCHEDULER.with_borrow_mut(|frames| frames.requested = false);
        error!("requestAnimationFrame failed: {error:?}");
    }
}

/// The browser is ready to render.
fn run_rendered_frame(time: f64) {
    SCHEDULER.with_borrow_mut(|frames| frames.requested = false);
    run_frame(time, false);
}

fn run_frame(time: f64, by_timer: bool) {
    if failure::stopped() {
        return;
    }
    let Some(window) = web_sys::window() else {
        return;
    };
    // What the callbacks request belongs to the next frame.
    let waiting = SCHEDULER.with_borrow_mut(|frames| {
        frames.by_timer = by_timer;
        frames.updated = page_ms(&window);
        std::mem::take(&mut frames.waiting)
    });
    for (_, callback) in waiting {
        if let Err(error) = callback.call1(&JsValue::UNDEFINED, &JsValue::from_f64(time)) {
            if failure::stop_on_trap(&error) {
                return;
            }
            error!("an animation frame's callback failed: {error:?}");
        }
    }
}

/// The worker's answer has come. One message is under way at a time, so a page whose updates take
/// longer than the interval does not pile them up.
fn run_tick() {
    if failure::stopped() {
        return;
    }
    let Some(window) = web_sys::window() else {
        return;
    };
    let now = page_ms(&window);
    let due = SCHEDULER.with_borrow(|frames| {
        let intervals = if frames.by_timer || frames.hidden {
            NEXT_TICK
        } else {
            LATE_FRAME
        };
        now - frames.updated >= intervals * INTERVAL.get()
    });
    if due {
        run_frame(now, true);
    }
    schedule(&window);
}

fn schedule(window: &Window) {
    let interval = INTERVAL.get();
    let now = page_ms(window);
    let sent = SCHEDULER.with_borrow_mut(|frames| {
        if now > frames.due + CATCH_UP * interval {
            frames.due = now;
        }
        frames.due += interval;
        let delay = JsValue::from_f64((frames.due - now).max(MIN_WAIT));
        frames
            .worker
            .as_ref()
            .map(|worker| worker.post_message(&delay))
    });
    if let Some(Err(error)) = sent {
        error!("the worker takes no message, so a hidden tab will not update: {error:?}");
    }
}

fn set_hidden(hidden: bool) {
    // A frame requested before the tab was hidden comes when it is shown again.
    SCHEDULER.with_borrow_mut(|frames| frames.hidden = hidden);
    request_from_browser();
}
