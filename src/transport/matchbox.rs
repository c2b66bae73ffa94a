//! The network of a real lab session: matchbox data channels for the direct path, the lab server's
//! websocket for the relay.

mod message_loops;
mod renegotiation;

use std::collections::{HashMap, VecDeque};
use std::task::{Context, Poll};
use std::time::Duration;

use bevy_matchbox::matchbox_socket::{
    CandidatePair, ChannelConfig, Packet, PeerId, PeerState, RtcIceServerConfig, WebRtcSocket,
    WebRtcSocketBuilder,
};
use futures::StreamExt;

use self::message_loops::MessageLoops;
use self::renegotiation::Renegotiation;
use super::network::{NetEvent, Network, Received};
use super::websocket::{RelayedPacket, ServerConnection, ServerEvent, SignalingSettings, Urgency};
use crate::clock::LabClock;
use rollback_lab_link::link::SendFailed;
use rollback_lab_link::wire::relay::Roster;
use rollback_lab_link::wire::{DatagramKind, Path};

/// The one data channel of a lab session.
const CHANNEL: usize = 0;

/// How often every other member of the room is asked for its clock. A drift of 200 ppm is 0.2 ms
/// in this time, and a match of ten seconds has ten answers to choose from.
const ASK_CLOCKS: Duration = Duration::from_secs(1);

/// Which server a [`MatchboxNetwork`] connects to, and which STUN and TURN servers its data channels
/// use.
///
/// ```
/// use bevy_rollback_lab::internals::transport::MatchboxSettings;
///
/// let mut settings = MatchboxSettings::new("ws://127.0.0.1:3536/my-room?players=2");
/// settings.ice.urls = vec!["stun:stun.example.org:3478".to_owned()];
/// ```
#[derive(Clone, Debug)]
pub struct MatchboxSettings {
    /// The connection to the signaling server.
    pub signaling: SignalingSettings,
    /// STUN and TURN servers. Defaults to none: only local addresses are tried then.
    pub ice: RtcIceServerConfig,
}

impl MatchboxSettings {
    /// The server at `url`, without STUN and TURN.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            signaling: SignalingSettings::new(url),
            ice: RtcIceServerConfig {
                urls: Vec::new(),
                username: None,
                credential: None,
            },
        }
    }
}

/// matchbox WebRTC and the server's websocket: connects both paths of a [`LabNet`](super::LabNet).
///
/// ```no_run
/// use bevy_rollback_lab::clock::LabClock;
/// use bevy_rollback_lab::internals::transport::{LabNet, MatchboxNetwork, MatchboxSettings};
/// use rollback_lab_link::conditions::Conditions;
/// use rollback_lab_link::link::LinkSettings;
///
/// let clock = LabClock::real();
/// let settings = MatchboxSettings::new("ws://127.0.0.1:3536/my-room?players=2");
/// let network = MatchboxNetwork::open(settings, clock.clone());
/// let net = LabNet::new(network, clock, LinkSettings::default(), &Conditions::default(), 0);
/// ```
pub struct MatchboxNetwork {
    socket: WebRtcSocket,
    message_loops: MessageLoops,
    /// Data channels that replace lost ones of `socket`.
    renegotiation: Renegotiation,
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
    /// Datagrams of data channels that [`Network::poll_ready`] took out, and when.
    direct: VecDeque<(PeerId, Packet, Duration)>,
    /// Relayed packets that came before the last poll: the roster that names their senders is known.
    relayed: usize,
    /// The server has let this peer in: what it closes from then on is a loss, not a refusal.
    joined: bool,
}

impl MatchboxNetwork {
    /// Connects in the background; [`Network::poll_events`] reports what happens.
    #[must_use]
    pub fn open(settings: MatchboxSettings, clock: LabClock) -> Self {
        let url = settings.signaling.url.clone();
        let server = ServerConnection::open(settings.signaling, clock.clone());
        let (socket, message_loop) = WebRtcSocketBuilder::new(url)
            .ice_server(settings.ice.clone())
            .signaller_builder(server.signaller_builder())
            .add_channel(ChannelConfig::unreliable())
            .build();
        let mut message_loops = MessageLoops::new();
        message_loops.add(message_loop);
        Self {
            socket,
            message_loops,
            renegotiation: Renegotiation::new(settings.ice),
            server,
            clock,
            slots: Vec::new(),
            others: Vec::new(),
            ask_clocks_at: Duration::ZERO,
            pairs: HashMap::new(),
            direct: VecDeque::new(),
            relayed: 0,
            joined: false,
        }
    }

    /// Moves the events of the server connection to `events`.
    fn take_server_events(&mut self, events: &mut Vec<NetEvent>) {
        self.relayed = self.server.relayed_len();
        while let Some(event) = self.server.next_event() {
            events.push(match event {
                ServerEvent::IdAssigned(id) => {
                    self.joined = true;
                    self.renegotiation.set_own_id(id);
                    NetEvent::IdAssigned(id)
                }
                ServerEvent::NoRelay => NetEvent::NoRelay,
                ServerEvent::Welcome(roster) | ServerEvent::Roster(roster) => {
                    self.record_slots(&roster);
                    NetEvent::Roster(roster)
                }
                ServerEvent::Notice(notice) => NetEvent::Notice(notice),
                ServerEvent::ClockAnswered {
                    source,
                    answer,
                    received_at,
                } => match peer_in(&self.slots, source) {
                    Some(peer) => NetEvent::ClockAnswered {
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
                ServerEvent::Lost {
                    reason,
                    reconnecting: true,
                } => NetEvent::ServerReconnecting { reason },
                ServerEvent::Lost { reason, .. } => NetEvent::ServerLost { reason },
                ServerEvent::Resumed { attempts, away } => {
                    NetEvent::ServerResumed { attempts, away }
                }
                _ => continue,
            });
        }
    }

    /// Asks every other member for its clock, once a second.
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
        self.take_server_events(events);
        self.ask_clocks();
        self.message_loops.poll_by_hand();
        // A closed socket has no more changes; the server's events have the reason.
        for (peer, state) in self.socket.try_update_peers().unwrap_or_default() {
            match state {
                PeerState::Connected => events.push(NetEvent::DirectOpened(peer)),
                PeerState::Disconnected if self.renegotiation.is_open(peer) => {}
                PeerState::Disconnected => events.push(NetEvent::DirectClosed(peer)),
            }
        }
        let now = self.clock.now();
        while let Some((peer, signal)) = self.server.next_attempt_signal() {
            let (server, loops) = (&self.server, &mut self.message_loops);
            self.renegotiation.take(now, peer, signal, server, loops);
        }
        self.renegotiation.poll_events(now, events);
        for &(_, peer) in &self.slots {
            let socket = self.renegotiation.socket(peer);
            if let Some(pair) = socket.unwrap_or(&mut self.socket).candidate_pair(peer) {
                self.pairs.insert(peer, pair);
            }
        }
    }

    fn send(
        &mut self,
        path: Path,
        peer: PeerId,
        kind: DatagramKind,
        datagram: &[u8],
    ) -> Result<(), SendFailed> {
        match path {
            Path::Direct => {
                let socket = self.renegotiation.socket(peer);
                let channel = socket.unwrap_or(&mut self.socket).channel_mut(CHANNEL);
                let sent = channel.try_send(datagram.to_vec().into(), peer);
                self.message_loops.poll_by_hand();
                sent.map_err(|_closed| SendFailed)
            }
            Path::Relay => {
                let slot = self.slot_of(peer).ok_or(SendFailed)?;
                let urgency = match kind {
                    DatagramKind::Control => Urgency::Control,
                    DatagramKind::Data | DatagramKind::Heartbeat | DatagramKind::Probe => {
                        Urgency::Game
                    }
                };
                self.server
                    .send_relay(slot, datagram, urgency)
                    .map_err(|_counted| SendFailed)
            }
        }
    }

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.message_loops.poll(context);
        let now = self.clock.now();
        let channel = self.socket.channel_mut(CHANNEL);
        while let Poll::Ready(Some((from, datagram))) = channel.poll_next_unpin(context) {
            self.direct.push_back((from, datagram, now));
        }
        let direct = &mut self.direct;
        self.renegotiation.poll_ready(context, |from, datagram| {
            direct.push_back((from, datagram, now));
        });
        let from_server = self.server.poll_ready(context).is_ready();
        if from_server || !self.direct.is_empty() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    fn receive(&mut self, now: Duration, sink: &mut dyn FnMut(Received<'_>)) {
        let channel = self.socket.channel_mut(CHANNEL).receive();
        let taken = self.direct.drain(..);
        let arrived = channel.into_iter().chain(self.renegotiation.receive());
        let arrived = arrived.map(|(from, bytes)| (from, bytes, now));
        for (from, datagram, at) in taken.chain(arrived) {
            sink(Received {
                path: Path::Direct,
                from,
                at,
                bytes: &datagram,
            });
        }
        for _ in 0..std::mem::take(&mut self.relayed) {
            let Some(RelayedPacket {
                source,
                payload,
                received_at,
            }) = self.server.next_relayed()
            else {
                break;
            };
            if let Some(from) = peer_in(&self.slots, source) {
                sink(Received {
                    path: Path::Relay,
                    from,
                    at: received_at,
                    bytes: &payload,
                });
            }
        }
    }

    fn candidate_pair(&self, peer: PeerId) -> Option<CandidatePair> {
        self.pairs.get(&peer).copied()
    }

    fn renegotiate(&mut self, peer: PeerId) {
        let (server, loops) = (&self.server, &mut self.message_loops);
        self.renegotiation
            .begin(self.clock.now(), peer, server, loops);
    }

    fn set_running(&mut self, running: bool) {
        self.server.set_running(running);
    }

    fn close(&mut self) {
        // What is queued leaves first, then the loops end with their sockets.
        self.message_loops.flush();
        self.renegotiation.close();
        self.socket.close();
        self.message_loops.flush();
        self.server.close();
    }
}

fn peer_in(slots: &[(u8, PeerId)], slot: u8) -> Option<PeerId> {
    let found = slots.iter().find(|(taken, _)| *taken == slot);
    found.map(|(_, peer)| *peer)
}
