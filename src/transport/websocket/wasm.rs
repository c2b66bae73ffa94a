//! The websocket in browsers: not there yet, and said so.
//!
//! Owns the seam: `run` has the signature of the native one, so that the browser's websocket
//! fits in here and nowhere else.

use std::{future::Future, io, sync::Arc};

use bevy::tasks::IoTaskPool;

use super::{ConnectError, ServerEvent, ServerSettings, queues::Shared};
use crate::clock::LabClock;

/// Runs a network task on the page's event loop.
///
/// # Errors
/// Never; the signature is that of the native one.
pub fn spawn_network(task: impl Future<Output = ()> + 'static) -> io::Result<()> {
    IoTaskPool::get_or_init(Default::default)
        .spawn(task)
        .detach();
    Ok(())
}

/// Says that there is no connection to be had.
pub(super) async fn run(shared: Arc<Shared>, settings: ServerSettings, _clock: LabClock) {
    shared.end(ServerEvent::Unreachable(ConnectError::Start {
        url: settings.url,
        error: "not yet in the browser".into(),
    }));
}
