//! Failures that a page must see: the event `rollbacklab:error`, and the hook that makes a panic
//! one.

use std::cell::Cell;
use std::panic::{self, PanicHookInfo};

use js_sys::Error;
use wasm_bindgen::{JsCast, JsValue};

use super::{ERROR_EVENT, dispatch};

/// Longest text of a panic that a page shows, in characters: about three lines on a phone.
const MAX_TEXT: usize = 200;

thread_local! {
    /// The program panicked or trapped: nothing of it runs any more.
    static STOPPED: Cell<bool> = const { Cell::new(false) };
}

/// What failed: `phase` in the detail of [`ERROR_EVENT`]. The page's own script reports the phases
/// before the program runs: `download`, `instantiate` and `graphics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The program runs, and there is no app yet.
    Start,
    /// The lab session.
    Session,
    /// The program panicked or trapped.
    Panic,
}

impl Phase {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Session => "session",
            Self::Panic => "panic",
        }
    }
}

/// Reports to the page why there is no match, as the event [`ERROR_EVENT`] with the phase `start`.
///
/// For what goes wrong before there is an app; later failures are reported by
/// [`WebPlugin`](super::WebPlugin).
///
/// ```no_run
/// use bevy_rollback_lab::web::{self, PageAddress};
///
/// let players = PageAddress::read().and_then(|address| address.parsed::<usize>("players"));
/// if let Err(error) = players {
///     web::report_error(&error);
/// }
/// ```
pub fn report_error(message: &str) {
    dispatch(ERROR_EVENT, &detail(Phase::Start, message));
}

/// Reports a panic to the page: the event [`ERROR_EVENT`] with the phase `panic`, once, and a line
/// in the console. No further update runs afterwards.
///
/// [`WebPlugin`](super::WebPlugin) does this for every app that it is added to. Call it first in
/// `main` so that a panic before that is reported, too. The hook that is there before runs first.
///
/// ```no_run
/// bevy_rollback_lab::web::report_panics();
/// // … build the app and run it
/// ```
pub fn report_panics() {
    // Bevy's `DefaultPlugins` replace the hook with one that prints to the console, so `WebPlugin`
    // installs this one again, around Bevy's.
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        before(panic);
        stop(&panic_text(panic));
    }));
}

/// Whether the program panicked or trapped. Its state may be half-written: no update may run.
pub(super) fn stopped() -> bool {
    STOPPED.get()
}

/// Reports an exception of a callback that ended the program without a panic, as a stack overflow
/// or exhausted memory does. Returns whether it was one.
pub(super) fn stop_on_trap(error: &JsValue) -> bool {
    let trap = error.dyn_ref::<js_sys::WebAssembly::RuntimeError>();
    if let Some(trap) = trap {
        let text = String::from(trap.unchecked_ref::<Error>().message());
        stop(&one_line(&text));
    }
    trap.is_some()
}

/// The detail of [`ERROR_EVENT`].
pub(super) fn detail(phase: Phase, message: &str) -> String {
    serde_json::json!({ "message": message, "phase": phase.as_str() }).to_string()
}

fn stop(text: &str) {
    if STOPPED.replace(true) {
        // A trap follows each panic, and what still calls into the program panics again.
        return;
    }
    let message = format!("The game has stopped: {text}. Reload this page to start again.");
    web_sys::console::error_1(&JsValue::from_str(&message));
    dispatch(ERROR_EVENT, &detail(Phase::Panic, &message));
}

/// What the panic says, and where. Only the file's name: its folder is one of the machine that
/// built the page.
fn panic_text(panic: &PanicHookInfo) -> String {
    let text = one_line(panic.payload_as_str().unwrap_or("panic without a text"));
    let Some(location) = panic.location() else {
        return text;
    };
    let file = location.file();
    let name = file.rsplit(['/', '\\']).next().unwrap_or(file);
    format!("{text} ({name}:{})", location.line())
}

/// What fits into a sentence: the first line, without addresses. An exception of the browser that ends
/// up in a panic brings its stack, with the page's address in each line; the console has all of it.
fn one_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let words = line
        .split_whitespace()
        .map(|word| if word.contains("://") { "…" } else { word });
    let line = words.collect::<Vec<_>>().join(" ");
    line.chars().take(MAX_TEXT).collect()
}
