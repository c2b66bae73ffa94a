//! `window.exportSessionMetrics()`. Between two updates the metrics lie outside the world, where the
//! page's scripts can read them at any moment; the next update takes them back. Moving them costs
//! nothing, and a document is built only when a script asks for it.

use std::any::Any;
use std::cell::RefCell;

use bevy::prelude::*;
use js_sys::{Array, JSON, Reflect};
use serde::Serialize;
use wasm_bindgen::{JsCast, JsValue, closure::Closure};

use crate::metrics::SessionMetrics;
use crate::record::EpisodeDocument;

thread_local! {
    static LENT: RefCell<Option<Box<dyn Lent>>> = const { RefCell::new(None) };
    /// Documents of the episodes that ended, with their numbers.
    static ENDED: RefCell<Vec<(u32, String)>> = const { RefCell::new(Vec::new()) };
}

/// Metrics of any input type.
trait Lent {
    fn running(&self) -> bool;
    fn latest(&self) -> Option<EpisodeDocument>;
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

impl<I> Lent for SessionMetrics<I>
where
    I: Copy + PartialEq + Serialize + Send + Sync + 'static,
{
    fn running(&self) -> bool {
        self.is_running()
    }

    fn latest(&self) -> Option<EpisodeDocument> {
        self.export()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// At the end of an update: moves the metrics to where the page's scripts can read them.
pub(super) fn lend<I>(world: &mut World)
where
    I: Copy + PartialEq + Serialize + Send + Sync + 'static,
{
    if let Some(metrics) = world.remove_resource::<SessionMetrics<I>>() {
        LENT.set(Some(Box::new(metrics)));
    }
}

/// At the start of an update: moves the metrics back into the world.
pub(super) fn take_back<I>(world: &mut World)
where
    I: Copy + PartialEq + Serialize + Send + Sync + 'static,
{
    if let Some(lent) = LENT.take()
        && let Ok(metrics) = lent.into_any().downcast::<SessionMetrics<I>>()
    {
        world.insert_resource(*metrics);
    }
}

/// Keeps the document of an ended episode.
pub(super) fn keep(number: u32, document: String) {
    ENDED.with_borrow_mut(|ended| ended.push((number, document)));
}

/// Defines the function on `window`, for as long as the page lives.
pub(super) fn install() -> Result<(), JsValue> {
    let window = web_sys::window().ok_or("no window")?;
    let export = Closure::<dyn FnMut(JsValue) -> JsValue>::new(|options: JsValue| export(&options));
    let name = JsValue::from_str("exportSessionMetrics");
    Reflect::set(&window, &name, export.as_ref().unchecked_ref())?;
    export.forget();
    Ok(())
}

/// The running episode with `isPartial: true`, else the last one, else `null`; with `{all: true}` an
/// array of all episodes.
fn export(options: &JsValue) -> JsValue {
    let all = options.is_object()
        && Reflect::get(options, &JsValue::from_str("all")).is_ok_and(|all| all.is_truthy());
    let newest = LENT.with_borrow(|lent| {
        let lent = lent.as_deref()?;
        let document = lent.latest()?;
        let number = document.episode.episode_num;
        // An episode that ended has a document already, complete with the other peers' reports.
        let kept = ENDED.with_borrow(|ended| ended.iter().any(|(of, _)| *of == number));
        (lent.running() || !kept).then_some(document)
    });
    let newest = newest.map(|document| match serde_json::to_string(&document) {
        Ok(text) => parsed(&text),
        Err(error) => JsValue::from_str(&format!("not serializable: {error}")),
    });
    ENDED.with_borrow(|ended| {
        if all {
            let documents: Array = ended.iter().map(|(_, text)| parsed(text)).collect();
            if let Some(newest) = newest {
                documents.push(&newest);
            }
            return documents.into();
        }
        newest
            .or_else(|| ended.last().map(|(_, text)| parsed(text)))
            .unwrap_or(JsValue::NULL)
    })
}

fn parsed(json: &str) -> JsValue {
    JSON::parse(json).unwrap_or(JsValue::NULL)
}
