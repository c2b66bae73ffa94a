//! matchbox's signaling, as two channels to the websocket's task.
//!
//! The signaller returns no error once it runs: any of them would end matchbox's signaling for good.
//! A lost websocket is a [`ServerEvent`](super::websocket::ServerEvent).

use std::sync::{Arc, Mutex, PoisonError};

use bevy_matchbox::matchbox_socket::{
    PeerEvent, PeerRequest, SignalingError, Signaller, SignallerBuilder, async_trait::async_trait,
};
use futures::{StreamExt, channel::mpsc::UnboundedReceiver};

use super::websocket::Shared;

/// Builds the one [`Signaller`] of a matchbox socket.
#[derive(Debug)]
pub(super) struct LabSignallerBuilder {
    shared: Arc<Shared>,
    attempt: Option<u32>,
    /// Until it is built; `None` if the connection has none to give.
    events: Mutex<Option<UnboundedReceiver<PeerEvent>>>,
}

impl LabSignallerBuilder {
    /// For the first socket of a server connection, which negotiates with every peer.
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            attempt: None,
            events: Mutex::new(shared.take_signals()),
            shared,
        }
    }

    /// For the socket of one more attempt with one peer, whose signals carry the attempt's number.
    pub(super) fn of_attempt(
        shared: Arc<Shared>,
        number: u32,
        events: UnboundedReceiver<PeerEvent>,
    ) -> Self {
        Self {
            shared,
            attempt: Some(number),
            events: Mutex::new(Some(events)),
        }
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
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(events) = events.take() else {
            return Err(SignalingError::UserImplementationError(
                "one server connection feeds one matchbox socket".into(),
            ));
        };
        Ok(Box::new(LabSignaller {
            events,
            attempt: self.attempt,
            shared: Arc::clone(&self.shared),
        }))
    }
}

/// matchbox's end of the two channels.
struct LabSignaller {
    events: UnboundedReceiver<PeerEvent>,
    attempt: Option<u32>,
    shared: Arc<Shared>,
}

#[cfg_attr(not(target_arch = "wasm32"), async_trait)]
#[cfg_attr(target_arch = "wasm32", async_trait(?Send))]
impl Signaller for LabSignaller {
    async fn send(&mut self, request: PeerRequest) -> Result<(), SignalingError> {
        match (self.attempt, request) {
            (None, request) => self.shared.queue_signal(&request),
            (Some(number), PeerRequest::Signal { receiver, data }) => {
                self.shared
                    .queue_attempt_signal(receiver, number, Some(data));
            }
            // The first socket keeps the connection alive.
            (Some(_), PeerRequest::KeepAlive) => {}
        }
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
