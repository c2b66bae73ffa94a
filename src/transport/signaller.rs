//! matchbox's signaling, as two channels to the websocket's task.
//!
//! The signaller returns no error once it runs: any of them would end matchbox's signaling for good.
//! A lost websocket is a [`ServerEvent`](super::websocket::ServerEvent).

use std::{fmt, sync::Arc};

use bevy_matchbox::matchbox_socket::{
    PeerEvent, PeerRequest, SignalingError, Signaller, SignallerBuilder, async_trait::async_trait,
};
use futures::{StreamExt, channel::mpsc::UnboundedReceiver};

use super::websocket::Shared;

/// Builds the one [`Signaller`] of a server connection.
pub(super) struct LabSignallerBuilder {
    shared: Arc<Shared>,
}

impl LabSignallerBuilder {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl fmt::Debug for LabSignallerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LabSignallerBuilder")
            .finish_non_exhaustive()
    }
}

#[cfg_attr(not(target_arch = "wasm32"), async_trait)]
#[cfg_attr(target_arch = "wasm32", async_trait(?Send))]
impl SignallerBuilder for LabSignallerBuilder {
    /// The room's address and the number of attempts belong to the server connection, which
    /// exists already; matchbox's are ignored.
    async fn new_signaller(
        &self,
        _attempts: Option<u16>,
        _room_url: String,
    ) -> Result<Box<dyn Signaller>, SignalingError> {
        let Some(events) = self.shared.take_signals() else {
            return Err(SignalingError::UserImplementationError(
                "one server connection feeds one matchbox socket".into(),
            ));
        };
        Ok(Box::new(LabSignaller {
            events,
            shared: Arc::clone(&self.shared),
        }))
    }
}

/// matchbox's end of the two channels.
struct LabSignaller {
    events: UnboundedReceiver<PeerEvent>,
    shared: Arc<Shared>,
}

#[cfg_attr(not(target_arch = "wasm32"), async_trait)]
#[cfg_attr(target_arch = "wasm32", async_trait(?Send))]
impl Signaller for LabSignaller {
    async fn send(&mut self, request: PeerRequest) -> Result<(), SignalingError> {
        self.shared.queue_signal(&request);
        Ok(())
    }

    /// Taking from a channel is safe to cancel, which matchbox's signaling loop does at will.
    async fn next_message(&mut self) -> Result<PeerEvent, SignalingError> {
        match self.events.next().await {
            Some(event) => Ok(event),
            None => futures::future::pending().await,
        }
    }
}
