//! The real network: matchbox data channels for the direct path, our server's websocket for the
//! relay. It maps peers to slots and moves bytes, and judges nothing.

use std::collections::HashMap;
use std::time::Duration;

use bevy_matchbox::matchbox_socket::{
    CandidatePair, ChannelConfig, PeerId, PeerState, RtcIceServerConfig, WebRtcSocket,
    WebRtcSocketBuilder,
};

use super::network::{NetEvent, Network};
use super::websocket::{ServerConnection, ServerEvent, ServerSettings, Urgency, spawn_network};
use crate::clock::LabClock;
use rollback_lab_link::link::SendFailed;
use rollback_lab_link::wire::relay::Roster;
use rollback_lab_link::wire::{DatagramKind, Header, Path};

/// The one data channel of a lab session.
const CHANNEL: usize = 0;

/// How often every other member of the room is asked for its clock. A drift of 200 ppm is 0.2 ms
/// in this time, and a match of ten seconds has ten answers to choose from.
const ASK_CLOCKS: Duration = Duration::from_secs(1);

/// What the real network needs to know.
#[derive(Clone, Debug)]
pub struct MatchboxSettings {
    /// The connection to the server.
    pub server: ServerSettings,
    /// STUN and TURN servers; without any, only local addresses are tried.
    pub ice: RtcIceServerConfig,
}

impl MatchboxSettings {
    /// The server at `url`, without STUN and TURN.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            server: ServerSettings::new(url),
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
    clock: LabClock,
    slots: Vec<(u8, PeerId)>,
    /// Slots of the others who are in the room now.
    others: Vec<u8>,
    /// When they are asked for their clocks next.
    ask_clocks_at: Duration,
    /// The last candidates of every peer: matchbox forgets them with the data channel, and the
    /// record asks afterwards.
    pairs: HashMap<PeerId, CandidatePair>,
    relayed: Vec<(u8, Vec<u8>)>,
    /// The server has let this peer in: what it closes from then on is a loss, no refusal.
    joined: bool,
}

impl MatchboxNetwork {
    /// Connects in the background; what happens is told by [`Network::poll_events`].
    #[must_use]
    pub fn open(settings: MatchboxSettings, clock: LabClock) -> Self {
        let url = settings.server.url.clone();
        let server = ServerConnection::open(settings.server, clock.clone());
        let (socket, message_loop) = WebRtcSocketBuilder::new(url)
            .ice_server(settings.ice)
            .signaller_builder(server.signaller_builder())
            .add_channel(ChannelConfig::unreliable())
            .build();
        let message_loop = spawn_network(async move {
            if let Err(error) = message_loop.await {
                bevy::log::debug!("matchbox's message loop ended: {error}");
            }
        });
        if let Err(error) = message_loop {
            bevy::log::error!("direct paths are impossible: no thread for WebRTC: {error}");
        }
        Self {
            socket,
            server,
            clock,
            slots: Vec::new(),
            others: Vec::new(),
            ask_clocks_at: Duration::ZERO,
            pairs: HashMap::new(),
            relayed: Vec::new(),
            joined: false,
        }
    }

    /// Moves what the server told to `events`, and what it relayed to its queue.
    fn take_in(&mut self, events: &mut Vec<NetEvent>) {
        while let Some(event) = self.server.next_event() {
            events.push(match event {
                ServerEvent::IdAssigned(id) => {
                    self.joined = true;
                    NetEvent::IdAssigned(id)
                }
                ServerEvent::NoRelay => NetEvent::NoRelay,
                ServerEvent::Welcome(roster) | ServerEvent::Roster(roster) => {
                    self.record_slots(&roster);
                    NetEvent::Roster(roster)
                }
                ServerEvent::Notice(notice) => NetEvent::Notice(notice),
                ServerEvent::Relayed {
                    source, payload, ..
                } => {
                    self.relayed.push((source, payload));
                    continue;
                }
                ServerEvent::ClockTold {
                    source,
                    answer,
                    received_at,
                } => match peer_in(&self.slots, source) {
                    Some(peer) => NetEvent::ClockTold {
                        peer,
                        answer,
                        received_at,
                    },
                    None => continue,
                },
                ServerEvent::Refused { code, reason } if self.joined => NetEvent::ServerLost {
                    reason: format!("the server closed it with code {code}: {reason}"),
                },
                ServerEvent::Refused { code, reason } => NetEvent::Refused { code, reason },
                ServerEvent::Unreachable(error) => NetEvent::Unreachable {
                    error: error.to_string(),
                },
                ServerEvent::Lost { reason } => NetEvent::ServerLost { reason },
                _ => continue,
            });
        }
    }

    /// Asks every other member for its clock, when it is time.
    fn ask_clocks(&mut self) {
        let now = self.clock.now();
        if self.others.is_empty() || now < self.ask_clocks_at {
            return;
        }
        self.ask_clocks_at = now + ASK_CLOCKS;
        for &slot in &self.others {
            self.server.ask_clock(slot);
        }
    }

    /// Peers that left stay known: packets they sent before may still come.
    fn record_slots(&mut self, roster: &Roster) {
        let slots = roster.members.iter().map(|member| member.slot);
        self.others = slots.filter(|&slot| slot != roster.slot).collect();
        for member in &roster.members {
            let peer = PeerId(uuid::Uuid::from_bytes(member.peer));
            self.slots.retain(|(slot, _)| *slot != member.slot);
            self.slots.push((member.slot, peer));
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
        self.take_in(events);
        self.ask_clocks();
        // A closed socket tells nothing more; the server's events say why.
        for (peer, state) in self.socket.try_update_peers().unwrap_or_default() {
            events.push(match state {
                PeerState::Connected => NetEvent::DirectOpened(peer),
                PeerState::Disconnected => NetEvent::DirectClosed(peer),
            });
        }
        for &(_, peer) in &self.slots {
            if let Some(pair) = self.socket.candidate_pair(peer) {
                self.pairs.insert(peer, pair);
            }
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
                let control =
                    Header::decode(datagram).is_ok_and(|(header, _)| header.kind == DatagramKind::Control);
                let urgency = if control {
                    Urgency::Control
                } else {
                    Urgency::Game
                };
                self.server
                    .send_relay(slot, datagram, urgency)
                    .map_err(|_counted| SendFailed)
            }
        }
    }

    fn receive(&mut self, sink: &mut dyn FnMut(Path, PeerId, &[u8])) {
        for (peer, datagram) in self.socket.channel_mut(CHANNEL).receive() {
            sink(Path::Direct, peer, &datagram);
        }
        for (source, datagram) in self.relayed.drain(..) {
            if let Some(peer) = peer_in(&self.slots, source) {
                sink(Path::Relay, peer, &datagram);
            }
        }
    }

    fn candidate_pair(&self, peer: PeerId) -> Option<CandidatePair> {
        self.pairs.get(&peer).copied()
    }

    fn close(&mut self) {
        self.socket.close();
        self.server.close();
    }
}

fn peer_in(slots: &[(u8, PeerId)], slot: u8) -> Option<PeerId> {
    let found = slots.iter().find(|(taken, _)| *taken == slot);
    found.map(|(_, peer)| *peer)
}
