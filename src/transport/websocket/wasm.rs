//! The websocket in the browser: not there yet. A session says so instead of waiting for ever.

use super::{ServerEvent, ServerSettings, TaskEnds};

pub(super) async fn run(settings: ServerSettings, ends: TaskEnds) {
    ends.tell(ServerEvent::Unreachable {
        url: settings.url,
        error: String::from("this version cannot connect from a browser yet"),
    });
}
