//! The packets of a real ggrs match, and two ways to carry them: the lab's socket, and matchbox's
//! own adapter for ggrs. Both over channels in memory of the very kind that matchbox hands packets
//! to its message loop with.
//!
//! It owns the recording and its replay, never what is measured about them.

#![expect(
    clippy::unwrap_used,
    reason = "packets that cannot be carried are no measurement"
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
/// Ticks that a packet of the recording is under way: a round trip of 100 ms, so that every input
/// packet carries half a dozen inputs that are not acknowledged.
const DELAY: usize = 3;
const MAX_PREDICTION: i32 = 8;

/// The ids of the two peers.
pub fn ids() -> [PeerId; 2] {
    [1, 2].map(|id| PeerId(uuid::Uuid::from_u128(id)))
}

/// What both peers sent in one tick.
pub struct Tick {
    /// The frame that each peer simulates.
    pub frames: [i32; 2],
    /// What each peer sends.
    pub sent: [Vec<GgrsMessage>; 2],
}

#[derive(Default)]
struct Air {
    sent: [Vec<GgrsMessage>; 2],
    flying: [VecDeque<(usize, GgrsMessage)>; 2],
    tick: usize,
}

struct Recorder {
    me: usize,
    air: Arc<Mutex<Air>>,
}

impl NonBlockingSocket<PeerId> for Recorder {
    fn send_to(&mut self, message: &GgrsMessage, _: &PeerId) {
        let mut air = self.air.lock().unwrap();
        let due = air.tick + DELAY;
        air.sent[self.me].push(message.clone());
        air.flying[1 - self.me].push_back((due, message.clone()));
    }

    fn receive_all_messages(&mut self) -> Vec<(PeerId, GgrsMessage)> {
        let mut air = self.air.lock().unwrap();
        let tick = air.tick;
        let mut messages = Vec::new();
        while air.flying[self.me]
            .front()
            .is_some_and(|(due, _)| *due <= tick)
        {
            let (_, message) = air.flying[self.me].pop_front().unwrap();
            messages.push((ids()[1 - self.me], message));
        }
        messages
    }
}

fn session(me: usize, air: &Arc<Mutex<Air>>) -> P2PSession<MatchConfig> {
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
            air: Arc::clone(air),
        })
        .unwrap()
}

/// Two ggrs sessions play so many ticks; inputs change 6.7 times a second.
pub fn record(ticks: usize) -> Vec<Tick> {
    use bevy_ggrs::ggrs::{GgrsRequest, SessionState};
    let air = Arc::new(Mutex::new(Air::default()));
    let mut sessions = [session(0, &air), session(1, &air)];
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
        let mut air = air.lock().unwrap();
        air.tick = tick + 1;
        recorded.push(Tick {
            frames,
            sent: std::mem::take(&mut air.sent),
        });
    }
    recorded
}

/// Messages in a recording.
pub fn count(ticks: &[Tick]) -> usize {
    ticks.iter().flat_map(|tick| &tick.sent).map(Vec::len).sum()
}

/// Two peers that carry a recording.
pub trait Carrier {
    /// Sends what was sent in this tick, both ways, and receives it; returns how many messages
    /// arrived.
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

/// matchbox's adapter, `impl NonBlockingSocket<PeerId> for WebRtcChannel` of `matchbox_socket` 0.15
/// (`src/ggrs_socket.rs`), call by call. A `WebRtcChannel` is only made by a socket and fed only by
/// its message loop; the sending half is compared with the real one by a test.
struct AdapterEnd {
    channel: Channel,
    /// Whoever receives sees the sender's id, which the real message loop puts in.
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
pub struct Adapter([AdapterEnd; 2]);

impl Adapter {
    pub fn new() -> Self {
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

impl Adapter {
    /// The first peer's socket.
    pub fn first(&mut self) -> &mut impl NonBlockingSocket<PeerId> {
        &mut self.0[0]
    }
}

impl Carrier for Adapter {
    fn tick(&mut self, tick: &Tick) -> usize {
        carry(&mut self.0, tick)
    }
}

/// Every peer sends, then every peer receives.
fn carry<S: NonBlockingSocket<PeerId>>(sockets: &mut [S; 2], tick: &Tick) -> usize {
    let ids = ids();
    for (me, socket) in sockets.iter_mut().enumerate() {
        for message in &tick.sent[me] {
            socket.send_to(message, &ids[1 - me]);
        }
    }
    let arrived = sockets
        .iter_mut()
        .map(|socket| std::hint::black_box(socket.receive_all_messages()).len());
    arrived.sum()
}

/// matchbox's half of the lab's real network, and a relay: `MatchboxNetwork::send` and `receive`
/// over the same channels as the adapter.
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

/// Two peers of the lab, with a relay at hand, on the direct path.
pub struct Lab {
    clock: LabClock,
    nets: [LabNet; 2],
    sockets: [LabSocket; 2],
    departures: Vec<InputDeparture>,
}

impl Lab {
    pub fn new() -> Self {
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

    /// What the lab's session does once per update, beside the game's packets.
    fn poll(&mut self) {
        self.clock.advance(FRAME);
        for net in &self.nets {
            net.poll();
            net.drain_departures(&mut self.departures);
        }
        self.departures.clear();
    }

    /// Whether both peers play over the direct path, without doubt.
    pub fn is_direct(&self) -> bool {
        let ids = ids();
        (0..2).all(|me| {
            let route = self.nets[me].link(ids[1 - me], |link| link.route());
            route == Some(RouteState::Direct)
        })
    }
}

impl Carrier for Lab {
    fn tick(&mut self, tick: &Tick) -> usize {
        self.poll();
        for (net, &frame) in self.nets.iter().zip(&tick.frames) {
            net.set_current_frame(frame);
        }
        carry(&mut self.sockets, tick)
    }
}
