//! The simulated paths between two peers: how long every packet takes, which ones are lost, and a log
//! of both for the oracle. The relay path is the one of the conditions: TCP to the server and from it.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bevy_matchbox::matchbox_socket::{CandidatePair, PeerId};
use bevy_rollback_lab::internals::transport::network::{NetEvent, Network, Received};
use rollback_lab_link::conditions::{Conditions, PacketTag, Reorder, Shape, Shaper};
use rollback_lab_link::ggrs_wire::{inspect_outgoing, messages};
use rollback_lab_link::link::SendFailed;
use rollback_lab_link::wire::{DatagramKind, Header, Path};

use rollback_lab_test_kit::lab::{VirtualEndpoint, peer_id};

/// Delay, loss and order of packets, the same in both directions.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LinkProfile {
    /// One-way delay of the direct path, in milliseconds.
    pub latency: f64,
    /// The same of the relay.
    pub relay: f64,
    /// Largest deviation of the delay, uniform, in milliseconds.
    pub jitter: f64,
    /// Share of packets lost, 0 to 1.
    pub loss: f64,
    /// Share held back so that later ones overtake them, and for how many milliseconds.
    pub reorder: (f64, f64),
    /// Share that a queue delays, and by how many milliseconds: later packets wait behind it.
    pub spike: (f64, f64),
    /// Nothing passes the direct path.
    pub outage: bool,
}

impl LinkProfile {
    /// One-way delay of `path` without jitter.
    pub(super) fn base(&self, path: Path) -> Duration {
        let ms = match path {
            Path::Direct => self.latency,
            Path::Relay => self.relay,
        };
        Duration::from_secs_f64(ms / 1e3)
    }

    /// The same network below the TCP connections of the relay path. A segment held back delays those
    /// behind it, as a queue does.
    fn relay_shape(&self) -> Shape {
        let ms = |ms: f64| Duration::from_secs_f64(ms / 1e3);
        let share = self.reorder.0 + self.spike.0;
        let hold = ms(self.reorder.1.max(self.spike.1));
        Shape {
            latency: self.base(Path::Relay),
            jitter: ms(self.jitter),
            loss: self.loss,
            reorder: (share > 0.0).then_some(Reorder { share, hold }),
            ..Shape::default()
        }
    }
}

/// The fate of a packet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fate {
    /// Lost at random, or on the relay path not delivered yet.
    Lost,
    /// Sent during the outage.
    Outage,
    /// Arrives at this time.
    Arrives(Duration),
}

/// A logged message of inputs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub from: usize,
    pub path: Path,
    /// Frame of its newest input.
    pub newest: i32,
    pub at: Duration,
    pub base: Duration,
    pub fate: Fate,
}

/// A packet on the relay path.
#[derive(Clone, Copy, Debug)]
struct Relayed {
    kind: DatagramKind,
    /// The place in the log of its first message of inputs, and their number.
    logged: (usize, usize),
}

impl PacketTag for Relayed {
    fn is_game(&self) -> bool {
        self.kind.is_game()
    }
}

/// The state of both directions of both paths.
pub(super) struct PathState {
    pub now: Duration,
    /// Before play, packets arrive at once.
    pub link: Option<LinkProfile>,
    pub log: Vec<Sent>,
    random: u64,
    waiting: Vec<(Duration, u64, usize, usize, Path, Vec<u8>)>,
    order: u64,
    /// By sender: when the queue behind a spike on the direct path is empty.
    busy: [Duration; 2],
    /// By sender: the relay path.
    relay: [Shaper<Relayed>; 2],
}

impl PathState {
    /// A random number from 0 to 1.
    fn chance(&mut self) -> f64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// The fate of a packet on the direct path.
    fn fate(&mut self, from: usize) -> Fate {
        let Some(link) = self.link else {
            return Fate::Arrives(self.now);
        };
        let [lost, late, held, spiked] = [(); 4].map(|()| self.chance());
        if link.outage {
            return Fate::Outage;
        }
        if lost < link.loss {
            return Fate::Lost;
        }
        let ms = |ms: f64| Duration::from_secs_f64(ms.max(0.0) / 1e3);
        let own = link.base(Path::Direct).as_secs_f64() * 1e3 + link.jitter * (late * 2.0 - 1.0);
        let mut due = self.now + ms(own);
        let busy = &mut self.busy[from];
        if spiked < link.spike.0 {
            *busy = (*busy).max(due + ms(link.spike.1));
        }
        due = due.max(*busy);
        if held < link.reorder.0 {
            due += ms(link.reorder.1);
        }
        Fate::Arrives(due)
    }

    /// When the next packet arrives at the peer in slot `to`.
    pub(super) fn next_due(&self, to: usize) -> Option<Duration> {
        let direct = self.waiting.iter().filter(|waiting| waiting.3 == to);
        let relay = self.relay[1 - to].next_due();
        direct.map(|waiting| waiting.0).chain(relay).min()
    }

    /// What arrived over the relay from the peer in slot `from`, with the times.
    fn relayed(&mut self, from: usize, mut arrived: impl FnMut(Duration, Vec<u8>)) {
        while let Some(packet) = self.relay[from].pop_due(self.now) {
            let (at, count) = packet.tag.logged;
            for sent in self.log.iter_mut().skip(at).take(count) {
                sent.fate = Fate::Arrives(packet.due);
            }
            arrived(packet.due, packet.bytes);
        }
    }
}

/// The paths, shared by the networks of both peers.
#[derive(Clone)]
pub(super) struct SimulatedPath(Arc<Mutex<PathState>>);

impl SimulatedPath {
    pub(super) fn new(seed: u64) -> Self {
        let random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x1234_5678;
        let relay = [0, 1].map(|slot| Shaper::new(&Conditions::default(), slot, random));
        Self(Arc::new(Mutex::new(PathState {
            now: Duration::ZERO,
            link: None,
            log: Vec::new(),
            random,
            waiting: Vec::new(),
            order: 0,
            busy: [Duration::ZERO; 2],
            relay,
        })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, PathState> {
        self.0.lock().unwrap_or_else(|broken| broken.into_inner())
    }
}

/// The newest input of each message of a payload that carries inputs. A peer that made several frames
/// in one update sent them in one datagram.
fn newest_inputs(payload: &[u8]) -> impl Iterator<Item = i32> {
    messages(payload).filter_map(|message| inspect_outgoing(message.ok()?).ok()?.newest_input_frame)
}

/// The network of one peer: the hub reports who is there, the simulated paths carry the packets.
pub(super) struct SimulatedNetwork {
    pub hub: VirtualEndpoint,
    pub paths: SimulatedPath,
    pub slot: usize,
}

impl Network for SimulatedNetwork {
    fn poll_events(&mut self, events: &mut Vec<NetEvent>) {
        self.hub.poll_events(events);
    }

    fn send(
        &mut self,
        path: Path,
        peer: PeerId,
        kind: DatagramKind,
        datagram: &[u8],
    ) -> Result<(), SendFailed> {
        let to = usize::from(peer == peer_id(2));
        let mut state = self.paths.lock();
        let fate = match path {
            Path::Direct => state.fate(self.slot),
            Path::Relay => Fate::Lost,
        };
        let (at, base) = (state.now, state.link.unwrap_or_default().base(path));
        let first = state.log.len();
        if let Ok((header, payload)) = Header::decode(datagram)
            && header.kind == DatagramKind::Data
        {
            let from = self.slot;
            state.log.extend(newest_inputs(payload).map(|newest| Sent {
                from,
                path,
                newest,
                at,
                base,
                fate,
            }));
        }
        if path == Path::Relay {
            let logged = (first, state.log.len() - first);
            let shape = state.link.unwrap_or_default().relay_shape();
            let now = state.now;
            let relay = &mut state.relay[self.slot];
            relay.set_shape(Path::Relay, shape);
            relay.push(now, Path::Relay, datagram, Relayed { kind, logged });
        } else if let Fate::Arrives(due) = fate {
            state.order += 1;
            let order = state.order;
            state
                .waiting
                .push((due, order, self.slot, to, path, datagram.to_vec()));
        }
        Ok(())
    }

    fn receive(&mut self, now: Duration, sink: &mut dyn FnMut(Received<'_>)) {
        let mut due = Vec::new();
        {
            let mut state = self.paths.lock();
            let now = state.now;
            let (from, to) = (1 - self.slot, self.slot);
            let mut order = state.order;
            state.relayed(from, |at, bytes| {
                order += 1;
                due.push((at, order, from, to, Path::Relay, bytes));
            });
            state.order = order;
            let mut index = 0;
            while index < state.waiting.len() {
                let (at, _, _, to, ..) = state.waiting[index];
                if to == self.slot && at <= now {
                    due.push(state.waiting.swap_remove(index));
                } else {
                    index += 1;
                }
            }
        }
        due.sort_by_key(|&(at, order, ..)| (at, order));
        for (_, _, from, _, path, bytes) in due {
            sink(Received {
                path,
                from: peer_id(from as u128 + 1),
                at: now,
                bytes: &bytes,
            });
        }
    }

    fn candidate_pair(&self, _peer: PeerId) -> Option<CandidatePair> {
        None
    }

    fn close(&mut self) {
        self.hub.close();
    }
}
