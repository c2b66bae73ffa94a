//! Time stamps of key and pointer events for [`InputTiming`]. Browsers take them from the device's
//! event (`Event.timeStamp`), not from the moment of its delivery to the page.

use std::cell::RefCell;
use std::time::Duration;

use bevy::prelude::*;
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{Event, KeyboardEvent, PointerEvent};

use super::{lasting, page_ms};
use crate::clock::LabClock;
use crate::metrics::InputTiming;

/// Events that change a key, a button or a finger. A moving mouse is filtered out below.
const EVENTS: [&str; 6] = [
    "keydown",
    "keyup",
    "pointerdown",
    "pointermove",
    "pointerup",
    "pointercancel",
];

thread_local! {
    /// The last event of each device since the last update, in the page's milliseconds.
    static SEEN: RefCell<Vec<(&'static str, f64)>> = const { RefCell::new(Vec::new()) };
}

/// Listens in the capture phase, before the game does, and does not stop any event.
pub(super) fn install() -> Result<(), JsValue> {
    let window = web_sys::window().ok_or("no window")?;
    let record = lasting::<dyn FnMut(Event)>(Closure::new(|event: Event| record(&event)));
    for event in EVENTS {
        window.add_event_listener_with_callback_and_bool(event, &record, true)?;
    }
    Ok(())
}

fn record(event: &Event) {
    let Some(device) = device(event) else {
        return;
    };
    SEEN.with_borrow_mut(|seen| {
        seen.retain(|(known, _)| *known != device);
        seen.push((device, event.time_stamp()));
    });
}

/// The device's name in [`InputTiming`]; `None` for events that change nothing.
fn device(event: &Event) -> Option<&'static str> {
    if let Some(key) = event.dyn_ref::<KeyboardEvent>() {
        return (!key.repeat()).then_some("keyboard");
    }
    let pointer = event.dyn_ref::<PointerEvent>()?;
    match pointer.pointer_type().as_str() {
        "mouse" => (event.type_() != "pointermove").then_some("mouse"),
        // A pen counts as touch.
        _ => Some("touch"),
    }
}

/// Reports the moments on the lab's clock, before the game reads its devices.
pub(super) fn report_moments(clock: Res<LabClock>, timing: Option<ResMut<InputTiming>>) {
    let seen = SEEN.take();
    let (Some(mut timing), Some(window)) = (timing, web_sys::window()) else {
        return;
    };
    let (now, page_now) = (clock.now(), page_ms(&window));
    for (device, stamp) in seen {
        let ago = Duration::try_from_secs_f64((page_now - stamp) / 1e3);
        // Stamps from the future or from before the session are dropped.
        if let Some(at) = ago.ok().and_then(|ago| now.checked_sub(ago)) {
            timing.platform_event(device, at);
        }
    }
}
