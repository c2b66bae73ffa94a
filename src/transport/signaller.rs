//! matchbox's `Signaller` as two channels to the websocket task. It never returns an error: while
//! the connection is away matchbox waits, and its data channels live on.

use std::sync::{Mutex, PoisonError};

use bevy_matchbox::matchbox_socket::async_trait::async_trait;
use bevy_matchbox::matchbox_socket::{
    PeerEvent, PeerRequest, Signaller, SignallerBuilder, SignalingError,
};
use futures::StreamExt;

use super::websocket::SignalEnds;

/// Hands the channels to matchbox, once.
#[derive(Debug)]
pub struct LabSignallerBuilder {
    ends: Mutex<Option<LabSignaller>>,
}

impl LabSignallerBuilder {
    /// A builder for the one socket over `ends`.
    #[must_use]
    pub fn new(ends: SignalEnds) -> Self {
        Self {
            ends: Mutex::new(Some(LabSignaller { ends })),
        }
    }
}

#[cfg_attr(not(target_arch = "wasm32"), async_trait)]
#[cfg_attr(target_arch = "wasm32", async_trait(?Send))]
impl SignallerBuilder for LabSignallerBuilder {
    async fn new_signaller(
        &self,
        _attempts: Option<u16>,
        _room_url: String,
    ) -> Result<Box<dyn Signaller>, SignalingError> {
        let taken = self.ends.lock().unwrap_or_else(PoisonError::into_inner).take();
        match taken {
            Some(signaller) => Ok(Box::new(signaller)),
            None => Err(SignalingError::StreamExhausted),
        }
    }
}

/// Two channels.
struct LabSignaller {
    ends: SignalEnds,
}

impl std::fmt::Debug for LabSignaller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LabSignaller").finish_non_exhaustive()
    }
}

#[cfg_attr(not(target_arch = "wasm32"), async_trait)]
#[cfg_attr(target_arch = "wasm32", async_trait(?Send))]
impl Signaller for LabSignaller {
    async fn send(&mut self, request: PeerRequest) -> Result<(), SignalingError> {
        // A request while the connection is away is lost, as a packet would be.
        let _away = self.ends.requests.unbounded_send(request);
        Ok(())
    }

    async fn next_message(&mut self) -> Result<PeerEvent, SignalingError> {
        match self.ends.events.next().await {
            Some(event) => Ok(event),
            None => std::future::pending().await,
        }
    }
}
