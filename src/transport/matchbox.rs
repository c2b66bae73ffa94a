//! The real network: matchbox data channels for the direct path, our server's websocket for the
//! relay. It maps peers to slots and moves bytes, and judges nothing.

use std::sync::Arc;
use std::time::Duration;

use bevy_matchbox::matchbox_socket::{
    CandidatePair, ChannelConfig, PeerId, PeerState, RtcIceServerConfig, WebRtcSocket,
    WebRtcSocketBuilder,
};

use super::link::SendFailed;
use super::network::{NetEvent, Network};
use super::signaller::LabSignallerBuilder;
use super::websocket::{self, ServerConnection, ServerEvent, ServerSettings};
use super::wire::Path;

/// The one data channel of a lab session.
const CHANNEL: usize = 0;

/// What the real network needs to know.
#[derive(Clone, Debug)]
pub struct MatchboxSettings {
    /// The connection to the server.
    pub server: ServerSettings,
    /// STUN and TURN servers; without any, only local addresses are tried.
    pub ice: RtcIceServerConfig,
}

impl MatchboxSettings {
    /// Three attempts to reach `url`, without STUN and TURN.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            server: ServerSettings {
                url: url.into(),
                attempts: 3,
                timeout: Duration::from_secs(5),
                pause: Duration::from_secs(1),
            },
            ice: RtcIceServerConfig {
                urls: Vec::new(),
                username: None,
                credential: None,
            },
        }
    }
}

/// matchbox WebRTC and the server's websocket.
pub struct MatchboxNetwork {
    socket: WebRtcSocket,
    server: ServerConnection,
    slots: Vec<(u8, PeerId)>,
    pending: Vec<NetEvent>,
}

impl MatchboxNetwork {
    /// Connects in the background; what happens is told by [`Network::poll_events`].
    #[must_use]
    pub fn open(settings: MatchboxSettings) -> Self {
        let url = settings.server.url.clone();
        let (server, ends) = websocket::connect(settings.server);
        let (socket, message_loop) = WebRtcSocketBuilder::new(url)
            .ice_server(settings.ice)
            .signaller_builder(Arc::new(LabSignallerBuilder::new(ends)))
            .add_channel(ChannelConfig::unreliable())
            .build();
        spawn("lab-webrtc", async move {
            if let Err(error) = message_loop.await {
                bevy::log::debug!("matchbox's message loop ended: {error}");
            }
        });
        Self {
            socket,
            server,
            slots: Vec::new(),
            pending: Vec::new(),
        }
    }

    fn slot_of(&self, peer: PeerId) -> Option<u8> {
        self.slots
            .iter()
            .find(|(_, id)| *id == peer)
            .map(|(slot, _)| *slot)
    }
}

impl Network for MatchboxNetwork {
    fn poll_events(&mut self, events: &mut Vec<NetEvent>) {
        events.append(&mut self.pending);
        while let Some(event) = self.server.next_event() {
            events.push(match event {
                ServerEvent::IdAssigned(id) => NetEvent::IdAssigned(id),
                ServerEvent::NoRelay => NetEvent::NoRelay,
                ServerEvent::Roster(roster) => {
                    let id = |peer: [u8; 16]| PeerId(uuid::Uuid::from_bytes(peer));
                    // Peers that left stay known: packets they sent before may still come.
                    for member in &roster.members {
                        self.slots.retain(|(slot, _)| *slot != member.slot);
                        self.slots.push((member.slot, id(member.peer)));
                    }
                    NetEvent::Roster(roster)
                }
                ServerEvent::Notice(notice) => NetEvent::Notice(notice),
                ServerEvent::Refused { code, reason } => NetEvent::Refused { code, reason },
                ServerEvent::Unreachable { url, error } => NetEvent::Unreachable { url, error },
                ServerEvent::Lost { reason } => NetEvent::ServerLost { reason },
            });
        }
        // A closed socket tells nothing more; the server's events say why.
        for (peer, state) in self.socket.try_update_peers().unwrap_or_default() {
            events.push(match state {
                PeerState::Connected => NetEvent::DirectOpened(peer),
                PeerState::Disconnected => NetEvent::DirectClosed(peer),
            });
        }
    }

    fn send(&mut self, path: Path, peer: PeerId, datagram: &[u8]) -> Result<(), SendFailed> {
        match path {
            Path::Direct => self
                .socket
                .channel_mut(CHANNEL)
                .try_send(datagram.to_vec().into(), peer)
                .map_err(|_closed| SendFailed),
            Path::Relay => {
                let slot = self.slot_of(peer).ok_or(SendFailed)?;
                self.server
                    .relay(slot, datagram)
                    .then_some(())
                    .ok_or(SendFailed)
            }
        }
    }

    fn receive(&mut self, sink: &mut dyn FnMut(Path, PeerId, &[u8])) {
        for (peer, datagram) in self.socket.channel_mut(CHANNEL).receive() {
            sink(Path::Direct, peer, &datagram);
        }
        while let Some(relayed) = self.server.next_relayed() {
            let from = self.slots.iter().find(|(slot, _)| *slot == relayed.slot);
            if let Some(&(_, peer)) = from {
                sink(Path::Relay, peer, &relayed.payload);
            }
        }
    }

    fn candidate_pair(&self, peer: PeerId) -> Option<CandidatePair> {
        self.socket.candidate_pair(peer)
    }

    fn close(&mut self) {
        self.socket.close();
        self.server.close();
    }
}

/// Runs a network task beside the game: on a thread of its own natively, so that it answers
/// between two frames; as a task of the one thread in the browser.
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn spawn(name: &str, task: impl Future<Output = ()> + Send + 'static) {
    let thread = std::thread::Builder::new().name(name.to_owned());
    if let Err(error) = thread.spawn(move || futures::executor::block_on(task)) {
        bevy::log::error!("no thread for {name}: {error}");
    }
}

/// Runs a network task beside the game, as a task of the one thread.
#[cfg(target_arch = "wasm32")]
pub(super) fn spawn(_name: &str, task: impl Future<Output = ()> + 'static) {
    bevy::tasks::IoTaskPool::get().spawn_local(task).detach();
}
