//! The packets of a real ggrs match, sent again through two pairs of sockets: the lab's
//! ([`LabPair`]) and matchbox's own adapter for ggrs ([`AdapterPair`]). Both write to in-memory
//! channels of the type by which matchbox passes packets to its message loop.

#![expect(
    clippy::unwrap_used,
    reason = "a packet that cannot be sent invalidates the measurement"
)]
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bevy_ggrs::GgrsConfig;
use bevy_ggrs::ggrs::{Message as GgrsMessage, NonBlockingSocket, P2PSession};
use bevy_ggrs::ggrs::{PlayerType, SessionBuilder};
use bevy_matchbox::matchbox_socket::{CandidatePair, Packet, PeerId};
use bevy_rollback_lab::LabNet;
use bevy_rollback_lab::clock::LabClock;
use bevy_rollback_lab::internals::transport::network::{NetEvent, Network, Received};
use bevy_rollback_lab::internals::transport::{EpisodeBounds, InputDeparture, LabSocket};
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use rollback_lab_link::conditions::Conditions;
use rollback_lab_link::link::{LinkSettings, SendFailed};
use rollback_lab_link::route::RouteState;
use rollback_lab_link::wire::{DatagramKind, Path};

type MatchConfig = GgrsConfig<u8, PeerId>;

/// One frame at 60 Hz.
const FRAME: Duration = Duration::from_nanos(16_666_667);
/// Ticks that a packet of the recording is in flight: a round trip of 100 ms, so that every input
/// packet carries half a dozen unacknowledged inputs.
const DELAY: usize = 3;
const MAX_PREDICTION: i32 = 8;

/// The ids of both peers.
pub fn ids() -> [PeerId; 2] {
    [1, 2].map(|id| PeerId(uuid::Uuid::from_u128(id)))
}

/// What both peers sent in one tick of the recording.
pub struct Tick {
    /// The frame that each peer simulates.
    pub frames: [i32; 2],
    /// The messages that each peer sends, in order.
    pub sent: [Vec<GgrsMessage>; 2],
}

#[derive(Default)]
struct Wire {
    sent: [Vec<GgrsMessage>; 2],
    in_flight: [VecDeque<(usize, GgrsMessage)>; 2],
    tick: usize,
}

struct Recorder {
    me: usize,
    wire: Arc<Mutex<Wire>>,
}

impl NonBlockingSocket<PeerId> for Recorder {
    fn send_to(&mut self, message: &GgrsMessage, _: &PeerId) {
        let mut wire = self.wire.lock().unwrap();
        let due = wire.tick + DELAY;
        wire.sent[self.me].push(message.clone());
        wire.in_flight[1 - self.me].push_back((due, message.clone()));
    }

    fn receive_all_messages(&mut self) -> Vec<(PeerId, GgrsMessage)> {
        let mut wire = self.wire.lock().unwrap();
        let tick = wire.tick;
        let mut messages = Vec::new();
        while wire.in_flight[self.me]
            .front()
            .is_some_and(|(due, _)| *due <= tick)
        {
            let (_, message) = wire.in_flight[self.me].pop_front().unwrap();
            messages.push((ids()[1 - self.me], message));
        }
        messages
    }
}

fn session(me: usize, wire: &Arc<Mutex<Wire>>) -> P2PSession<MatchConfig> {
    let mut builder = SessionBuilder::<MatchConfig>::new()
        .with_num_players(2)
        .unwrap()
        .with_max_prediction_window(MAX_PREDICTION.unsigned_abs() as usize);
    for player in 0..2 {
        let kind = if player == me {
            PlayerType::Local
        } else {
            PlayerType::Remote(ids()[player])
        };
        builder = builder.add_player(kind, player).unwrap();
    }
    builder
        .start_p2p_session(Recorder {
            me,
            wire: Arc::clone(wire),
        })
        .unwrap()
}

/// Plays two ggrs sessions for so many ticks and records their packets. Inputs change 6.7 times a
/// second.
pub fn record(ticks: usize) -> Vec<Tick> {
    use bevy_ggrs::ggrs::{GgrsRequest, SessionState};
    let wire = Arc::new(Mutex::new(Wire::default()));
    let mut sessions = [session(0, &wire), session(1, &wire)];
    let mut recorded = Vec::new();
    for tick in 0..ticks {
        let mut frames = [0; 2];
        for (me, session) in sessions.iter_mut().enumerate() {
            session.poll_remote_clients();
            frames[me] = session.current_frame();
            if session.current_state() != SessionState::Running {
                continue;
            }
            let input = u8::try_from(session.current_frame() / 9 % 255).unwrap();
            session.add_local_input(me, input).unwrap();
            for request in session.advance_frame().unwrap() {
                if let GgrsRequest::SaveGameState { cell, frame } = request {
                    cell.save(frame, Some(0), None);
                }
            }
        }
        let mut wire = wire.lock().unwrap();
        wire.tick = tick + 1;
        recorded.push(Tick {
            frames,
            sent: std::mem::take(&mut wire.sent),
        });
    }
    recorded
}

/// The number of messages in a recording.
pub fn count(ticks: &[Tick]) -> usize {
    ticks.iter().flat_map(|tick| &tick.sent).map(Vec::len).sum()
}

/// The sockets of two peers, which can send a recording again.
pub trait SocketPair {
    /// Sends the messages of a tick in both directions and receives them; returns how many arrived.
    fn tick(&mut self, tick: &Tick) -> usize;
}

/// One end of a channel of packets, as matchbox's `WebRtcChannel` holds it.
struct Channel {
    tx: UnboundedSender<(PeerId, Packet)>,
    rx: UnboundedReceiver<(PeerId, Packet)>,
}

fn channels() -> [Channel; 2] {
    let (to_second, at_second) = unbounded();
    let (to_first, at_first) = unbounded();
    [
        Channel {
            tx: to_second,
            rx: at_first,
        },
        Channel {
            tx: to_first,
            rx: at_second,
        },
    ]
}

impl Channel {
    /// `WebRtcChannel::try_send`.
    fn try_send(&mut self, packet: Packet, peer: PeerId) -> Result<(), SendFailed> {
        self.tx
            .unbounded_send((peer, packet))
            .map_err(|_closed| SendFailed)
    }

    /// `WebRtcChannel::receive`.
    fn receive(&mut self) -> Vec<(PeerId, Packet)> {
        let mut messages = vec![];
        while let Ok(x) = self.rx.try_recv() {
            messages.push(x);
        }
        messages
    }
}

/// A copy of matchbox's adapter, `impl NonBlockingSocket<PeerId> for WebRtcChannel` of
/// `matchbox_socket` 0.15 (`src/ggrs_socket.rs`), call by call. The original cannot be used without
/// a socket and its message loop; `tests/allocations.rs` compares the sending half with it.
struct AdapterEnd {
    channel: Channel,
    /// The sender's id, which the real message loop adds on the receiving side.
    me: PeerId,
}

impl NonBlockingSocket<PeerId> for AdapterEnd {
    fn send_to(&mut self, message: &GgrsMessage, _: &PeerId) {
        let packet: Packet = bincode2::serde::encode_to_vec(message, bincode2::config::standard())
            .expect("failed to serialize ggrs packet")
            .into();
        self.channel.try_send(packet, self.me).expect("Send failed");
    }

    fn receive_all_messages(&mut self) -> Vec<(PeerId, GgrsMessage)> {
        self.channel
            .receive()
            .into_iter()
            .map(|(peer, packet)| {
                let (message, _) =
                    bincode2::serde::decode_from_slice(&packet, bincode2::config::standard())
                        .expect("failed to deserialize ggrs packet");
                (peer, message)
            })
            .collect()
    }
}

/// Two peers on matchbox's adapter.
pub struct AdapterPair([AdapterEnd; 2]);

impl Default for AdapterPair {
    fn default() -> Self {
        let [first, second] = channels();
        let [me, other] = ids();
        Self([
            AdapterEnd { channel: first, me },
            AdapterEnd {
                channel: second,
                me: other,
            },
        ])
    }
}

impl AdapterPair {
    /// The first peer's socket.
    pub fn first(&mut self) -> &mut impl NonBlockingSocket<PeerId> {
        &mut self.0[0]
    }
}

impl SocketPair for AdapterPair {
    fn tick(&mut self, tick: &Tick) -> usize {
        send(&mut self.0, tick);
        receive(&mut self.0)
    }
}

/// Both peers send what they sent in this tick of the recording.
fn send<S: NonBlockingSocket<PeerId>>(sockets: &mut [S; 2], tick: &Tick) {
    let ids = ids();
    for (me, socket) in sockets.iter_mut().enumerate() {
        for message in &tick.sent[me] {
            socket.send_to(message, &ids[1 - me]);
        }
    }
}

/// Both peers receive; returns how many messages arrived.
fn receive<S: NonBlockingSocket<PeerId>>(sockets: &mut [S; 2]) -> usize {
    let arrived = sockets
        .iter_mut()
        .map(|socket| std::hint::black_box(socket.receive_all_messages()).len());
    arrived.sum()
}

/// `MatchboxNetwork::send` and `receive` over the same channels as the adapter, and a relay.
struct ChannelNetwork {
    me: PeerId,
    direct: Channel,
    relay: Channel,
    events: Vec<NetEvent>,
}

impl Network for ChannelNetwork {
    fn poll_events(&mut self, events: &mut Vec<NetEvent>) {
        events.append(&mut self.events);
    }

    fn send(
        &mut self,
        path: Path,
        _: PeerId,
        _: DatagramKind,
        datagram: &[u8],
    ) -> Result<(), SendFailed> {
        let channel = match path {
            Path::Direct => &mut self.direct,
            Path::Relay => &mut self.relay,
        };
        channel.try_send(datagram.to_vec().into(), self.me)
    }

    fn receive(&mut self, now: Duration, sink: &mut dyn FnMut(Received<'_>)) {
        for (path, channel) in [
            (Path::Direct, &mut self.direct),
            (Path::Relay, &mut self.relay),
        ] {
            for (from, datagram) in channel.receive() {
                sink(Received {
                    path,
                    from,
                    at: now,
                    bytes: &datagram,
                });
            }
        }
    }

    fn candidate_pair(&self, _: PeerId) -> Option<CandidatePair> {
        None
    }

    fn close(&mut self) {}
}

/// Two peers on the lab's sockets: the direct path is in use and the relay available.
pub struct LabPair {
    clock: LabClock,
    nets: [LabNet; 2],
    sockets: [LabSocket; 2],
    departures: Vec<InputDeparture>,
}

impl Default for LabPair {
    fn default() -> Self {
        let clock = LabClock::manual(0);
        let ids = ids();
        let [direct_0, direct_1] = channels();
        let [relay_0, relay_1] = channels();
        let ends = [(0, direct_0, relay_0), (1, direct_1, relay_1)];
        let nets = ends.map(|(me, direct, relay)| {
            let network = ChannelNetwork {
                me: ids[me],
                direct,
                relay,
                events: vec![NetEvent::DirectOpened(ids[1 - me])],
            };
            let net = LabNet::new(
                network,
                clock.clone(),
                LinkSettings::default(),
                &Conditions::default(),
                0,
            );
            net.set_relay_available(true);
            net.set_peers(&[ids[1 - me]]);
            net
        });
        let sockets = [nets[0].socket(), nets[1].socket()];
        let mut lab = Self {
            clock,
            nets,
            sockets,
            departures: Vec::new(),
        };
        for _ in 0..60 {
            lab.poll();
        }
        for (me, net) in lab.nets.iter().enumerate() {
            let mut player_slots = ids.map(Some).to_vec();
            player_slots[me] = None;
            net.start_epoch(
                1,
                EpisodeBounds {
                    player_slots,
                    input_bytes: Some(1),
                    max_prediction: MAX_PREDICTION,
                    max_input_delay: 0,
                    desync_interval: None,
                },
            );
        }
        lab
    }
}

impl LabPair {
    /// What the lab's session does once per update, apart from the game's packets.
    fn poll(&mut self) {
        self.clock.advance(FRAME);
        for net in &self.nets {
            net.poll();
            net.drain_departures(&mut self.departures);
        }
        self.departures.clear();
    }

    /// Whether the route of both peers is direct.
    pub fn is_direct(&self) -> bool {
        let ids = ids();
        (0..2).all(|me| {
            let route = self.nets[me].link(ids[1 - me], |link| link.route());
            route == Some(RouteState::Direct)
        })
    }
}

impl SocketPair for LabPair {
    fn tick(&mut self, tick: &Tick) -> usize {
        self.poll();
        for (net, &frame) in self.nets.iter().zip(&tick.frames) {
            net.set_current_frame(frame);
        }
        send(&mut self.sockets, tick);
        // One packet for all messages of the tick.
        self.nets.iter().for_each(LabNet::flush);
        receive(&mut self.sockets)
    }
}
