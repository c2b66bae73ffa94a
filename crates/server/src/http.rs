//! HTTP routing: `/healthz`, `/metrics`, and every other path as a room if the request asks for a
//! websocket, else as a file of the page.

use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::connection::{ServerState, serve};
use super::limits::MAX_MESSAGE_LEN;
use super::refusal::Refusal;
use super::request::{RoomRequest, wants_resume};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Read buffer per connection, in bytes. The default of 128 KiB suits bulk transfers; a peer sends
/// packets of at most 1.2 kB.
const READ_BUFFER: usize = 8 * 1024;

/// The routes of the server.
pub(crate) fn router(state: ServerState) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics))
        .fallback(room)
        .with_state(state)
}

async fn healthz() -> &'static str {
    "ok\n"
}

async fn metrics(State(state): State<ServerState>) -> Response {
    match state.metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// A bad room is refused on the websocket, not in HTTP: a browser shows a close frame's reason to
/// the page, but not a failed upgrade's.
async fn room(
    State(state): State<ServerState>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let upgrade = match (upgrade, &state.page) {
        (Ok(upgrade), _) => upgrade,
        (Err(_), Some(page)) => return page.answer(&method, uri.path(), &headers),
        (Err(rejection), None) => return rejection.into_response(),
    };
    let request = RoomRequest::parse(uri.path(), query.as_deref()).map_err(Refusal::from);
    let resume = wants_resume(query.as_deref());
    upgrade
        .max_message_size(MAX_MESSAGE_LEN)
        .max_frame_size(MAX_MESSAGE_LEN)
        .read_buffer_size(READ_BUFFER)
        .on_upgrade(move |socket| serve(state, request, resume, socket))
}
