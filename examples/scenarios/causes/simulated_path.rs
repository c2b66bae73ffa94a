//! Owns the network between two peers: how long every packet takes, which ones are lost, and the log
//! of that. Never knows what the classifier makes of it.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bevy_matchbox::matchbox_socket::{CandidatePair, PeerId};
use bevy_rollback_lab::internals::transport::network::{NetEvent, Network, Received};
use rollback_lab_link::ggrs_wire::inspect_outgoing;
use rollback_lab_link::link::SendFailed;
use rollback_lab_link::wire::{DatagramKind, Header, Path};

use rollback_lab_test_kit::lab::{MemoryNetwork, peer_id};

/// What happens to packets.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weather {
    /// One-way delay of the direct path, in milliseconds.
    pub latency: f64,
    /// The same of the relay.
    pub relay: f64,
    /// The delay varies uniformly by so much both ways.
    pub jitter: f64,
    /// Share lost.
    pub loss: f64,
    /// Share held back so that later ones overtake, and for how many milliseconds.
    pub reorder: (f64, f64),
    /// Share behind which a queue stands, and for how many milliseconds: later ones wait too.
    pub spike: (f64, f64),
    /// Nothing passes the direct path.
    pub cut: bool,
}

impl Weather {
    pub(super) fn base(&self, path: Path) -> Duration {
        let ms = match path {
            Path::Direct => self.latency,
            Path::Relay => self.relay,
        };
        Duration::from_secs_f64(ms / 1e3)
    }
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fate {
    Lost,
    Cut,
    Arrives(Duration),
}

/// A packet of inputs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub from: usize,
    pub path: Path,
    /// Its newest input.
    pub newest: i32,
    pub at: Duration,
    pub base: Duration,
    pub fate: Fate,
}

#[derive(Default)]
pub(super) struct Sky {
    pub now: Duration,
    /// Before play everything arrives at once.
    pub weather: Option<Weather>,
    pub log: Vec<Sent>,
    dice: u64,
    waiting: Vec<(Duration, u64, usize, usize, Path, Vec<u8>)>,
    order: u64,
    /// By sender and path: when the queue behind a spike is empty.
    busy: [[Duration; 2]; 2],
}

impl Sky {
    fn chance(&mut self) -> f64 {
        self.dice = self
            .dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn fate(&mut self, from: usize, path: Path) -> Fate {
        let Some(weather) = self.weather else {
            return Fate::Arrives(self.now);
        };
        let [lost, late, held, spiked] = [(); 4].map(|()| self.chance());
        if weather.cut && path == Path::Direct {
            return Fate::Cut;
        }
        if lost < weather.loss {
            return Fate::Lost;
        }
        let ms = |ms: f64| Duration::from_secs_f64(ms.max(0.0) / 1e3);
        let own = weather.base(path).as_secs_f64() * 1e3 + weather.jitter * (late * 2.0 - 1.0);
        let mut due = self.now + ms(own);
        let busy = &mut self.busy[from][path.index()];
        if spiked < weather.spike.0 {
            *busy = (*busy).max(due + ms(weather.spike.1));
        }
        due = due.max(*busy);
        if held < weather.reorder.0 {
            due += ms(weather.reorder.1);
        }
        Fate::Arrives(due)
    }
}

/// What both peers' networks share.
#[derive(Clone, Default)]
pub(super) struct Air(Arc<Mutex<Sky>>);

impl Air {
    pub(super) fn new(seed: u64) -> Self {
        let air = Self::default();
        air.sky().dice = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x1234_5678;
        air
    }

    pub(super) fn sky(&self) -> MutexGuard<'_, Sky> {
        self.0.lock().unwrap_or_else(|broken| broken.into_inner())
    }
}

/// One peer's network: the hub tells who is there, the air carries the packets.
pub(super) struct AirNetwork {
    pub hub: MemoryNetwork,
    pub air: Air,
    pub slot: usize,
}

impl Network for AirNetwork {
    fn poll_events(&mut self, events: &mut Vec<NetEvent>) {
        self.hub.poll_events(events);
    }

    fn send(
        &mut self,
        path: Path,
        peer: PeerId,
        _: Kind,
        datagram: &[u8],
    ) -> Result<(), SendFailed> {
        let to = usize::from(peer == peer_id(2));
        let mut sky = self.air.sky();
        let fate = sky.fate(self.slot, path);
        let newest = match Header::decode(datagram) {
            Ok((header, payload)) if header.kind == DatagramKind::Data => inspect_outgoing(payload)
                .ok()
                .and_then(|out| out.newest_input_frame),
            _ => None,
        };
        if let Some(newest) = newest {
            let (at, base) = (sky.now, sky.weather.unwrap_or_default().base(path));
            let from = self.slot;
            sky.log.push(Sent {
                from,
                path,
                newest,
                at,
                base,
                fate,
            });
        }
        if let Fate::Arrives(due) = fate {
            sky.order += 1;
            let order = sky.order;
            sky.waiting
                .push((due, order, self.slot, to, path, datagram.to_vec()));
        }
        Ok(())
    }

    fn receive(&mut self, now: Duration, sink: &mut dyn FnMut(Received<'_>)) {
        let mut due = Vec::new();
        {
            let mut sky = self.air.sky();
            let now = sky.now;
            let mut index = 0;
            while index < sky.waiting.len() {
                let (at, _, _, to, ..) = sky.waiting[index];
                if to == self.slot && at <= now {
                    due.push(sky.waiting.swap_remove(index));
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
