//! The server, the relay and the data channels of a room in memory, with their faults.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bevy_matchbox::matchbox_socket::{CandidatePair, PeerId};
use bevy_rollback_lab::LabNet;
use bevy_rollback_lab::clock::LabClock;
use bevy_rollback_lab::internals::transport::network::{NetEvent, Network, Received};
use rollback_lab_link::conditions::Conditions;
use rollback_lab_link::link::{LinkSettings, SendFailed};
use rollback_lab_link::wire::relay::{Member, Roster};
use rollback_lab_link::wire::{DatagramKind, HEADER_LEN, Path};

/// Faults of a [`VirtualNetwork`]; none by default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Direct packets from slot 0 are dropped.
    pub cut_from_first: bool,
    /// Direct packets from the other slots are dropped.
    pub cut_from_others: bool,
    /// Relayed packets are dropped.
    pub relay_dead: bool,
    /// Every packet is delivered twice.
    pub duplicate: bool,
    /// Game packets are dropped on both paths; everything else passes.
    pub game_dead: bool,
    /// No data channel opens to peers that join from now on.
    pub no_direct: bool,
    /// One direct packet in this many is dropped at random; 0 drops none.
    pub lose_one_in: u64,
    /// Direct packets between the peers in these two slots are dropped.
    pub cut_between: Option<[usize; 2]>,
}

#[derive(Default)]
struct Mailbox {
    id: Option<PeerId>,
    events: Vec<NetEvent>,
    inbox: VecDeque<(Path, PeerId, Vec<u8>)>,
    closed: bool,
    /// The server lists it no longer, whatever it does.
    unlisted: bool,
}

#[derive(Default)]
struct NetworkState {
    players: usize,
    relay: bool,
    peers: Vec<Mailbox>,
    faults: Faults,
    random: u64,
    relayed_game_packets: u64,
    relayed_game_bytes: u64,
    captured: Vec<Captured>,
}

/// A datagram that a peer sent, as captured by the [`VirtualNetwork`].
#[derive(Clone, Debug)]
pub struct Captured {
    /// Player slot of its sender.
    pub from: usize,
    /// The path it was sent on.
    pub path: Path,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Capacity of the capture; later datagrams are not kept.
const MAX_CAPTURED: usize = 4_096;

/// The server, the relay and the data channels of one room, in memory. Packets are delivered at the
/// next update of their receiver; delays and losses come from the peers' conditions and from
/// [`Faults`].
#[derive(Clone, Default)]
pub struct VirtualNetwork(Arc<Mutex<NetworkState>>);

impl VirtualNetwork {
    /// A room for `players`, on a lab server (`relay`) or on a stock signaling server.
    pub fn new(players: usize, relay: bool) -> Self {
        let network = Self::default();
        network.state().players = players;
        network.state().relay = relay;
        network
    }

    fn state(&self) -> MutexGuard<'_, NetworkState> {
        self.0.lock().unwrap()
    }

    /// Changes the faults, from the next packet on.
    pub fn faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.state().faults);
    }

    /// Game packets that the relay forwarded, and their payload bytes.
    pub fn relayed_game(&self) -> (u64, u64) {
        let state = self.state();
        (state.relayed_game_packets, state.relayed_game_bytes)
    }

    /// Puts bytes into the inbox of the peer in `slot`, as if `from` had sent them.
    pub fn inject(&self, slot: usize, path: Path, from: usize, bytes: &[u8]) {
        let mut state = self.state();
        let from = state.peers[from].id.unwrap();
        state.peers[slot]
            .inbox
            .push_back((path, from, bytes.to_vec()));
    }

    /// The same with a sender that is not in the room.
    pub fn inject_unknown(&self, slot: usize, path: Path, from: PeerId, bytes: &[u8]) {
        self.state().peers[slot]
            .inbox
            .push_back((path, from, bytes.to_vec()));
    }

    /// Queues a network event for the peer in `slot`.
    pub fn emit(&self, slot: usize, event: NetEvent) {
        self.state().peers[slot].events.push(event);
    }

    /// Takes the datagrams that were sent since the last call, at most the first 4096.
    pub fn captured(&self) -> Vec<Captured> {
        std::mem::take(&mut self.state().captured)
    }

    /// The server takes the peer in `slot` off the room, as one whose connection it lost.
    pub fn unlist(&self, slot: usize) {
        let mut state = self.state();
        state.peers[slot].unlisted = true;
        state.list_members();
    }

    /// Whether the peer in `slot` has left the room.
    pub fn closed(&self, slot: usize) -> bool {
        self.state().peers[slot].closed
    }

    /// Joins the room as the next peer, for a game that brings its own session.
    pub fn net(&self, clock: &LabClock, link: LinkSettings, seed: u64) -> LabNet {
        LabNet::new(
            self.join(),
            clock.clone(),
            link,
            &Conditions::default(),
            seed,
        )
    }

    /// Joins the room as the next peer, for a test that wraps the network.
    pub fn join(&self) -> VirtualEndpoint {
        let mut state = self.state();
        let slot = state.peers.len();
        let id = peer_id(slot as u128 + 1);
        state.peers.push(Mailbox {
            id: Some(id),
            events: vec![NetEvent::IdAssigned(id)],
            ..Mailbox::default()
        });
        if state.relay {
            state.list_members();
        } else {
            state.peers[slot].events.push(NetEvent::NoRelay);
        }
        let directs = if state.faults.no_direct { 0 } else { slot };
        for other in (0..directs)
            .filter(|other| !state.peers[*other].closed)
            .collect::<Vec<_>>()
        {
            let other_id = state.peers[other].id.unwrap();
            state.peers[other].events.push(NetEvent::DirectOpened(id));
            state.peers[slot]
                .events
                .push(NetEvent::DirectOpened(other_id));
        }
        VirtualEndpoint {
            network: self.clone(),
            slot,
        }
    }
}

impl NetworkState {
    /// Sends the members of the room to all of them, as a server that relays does at every change.
    fn list_members(&mut self) {
        let listed = |peer: &Mailbox| !peer.closed && !peer.unlisted;
        let members: Vec<Member> = self
            .peers
            .iter()
            .enumerate()
            .filter(|(_, peer)| listed(peer))
            .map(|(slot, peer)| Member {
                slot: slot as u8,
                peer: *peer.id.unwrap().0.as_bytes(),
            })
            .collect();
        let capacity = self.players as u8;
        for (own, peer) in self.peers.iter_mut().enumerate() {
            if listed(peer) {
                peer.events.push(NetEvent::Roster(Roster {
                    slot: own as u8,
                    capacity,
                    nonce: [7; 16],
                    members: members.clone(),
                }));
            }
        }
    }
}

/// A linear congruential generator with Knuth's constants: enough to press buttons and to drop
/// packets.
pub(super) fn lcg(state: u64) -> u64 {
    state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407)
}

/// The id of the n-th peer, counted from 1 in the order of joining.
pub fn peer_id(n: u128) -> PeerId {
    PeerId(uuid::Uuid::from_u128(n))
}

/// One peer's connection to a [`VirtualNetwork`].
pub struct VirtualEndpoint {
    network: VirtualNetwork,
    slot: usize,
}

impl Network for VirtualEndpoint {
    fn poll_events(&mut self, events: &mut Vec<NetEvent>) {
        events.append(&mut self.network.state().peers[self.slot].events);
    }

    fn send(
        &mut self,
        path: Path,
        peer: PeerId,
        kind: DatagramKind,
        datagram: &[u8],
    ) -> Result<(), SendFailed> {
        let mut state = self.network.state();
        if state.peers[self.slot].closed {
            return Err(SendFailed);
        }
        let own = state.peers[self.slot].id.unwrap();
        let faults = state.faults;
        let game = kind == DatagramKind::Data;
        if state.captured.len() < MAX_CAPTURED {
            state.captured.push(Captured {
                from: self.slot,
                path,
                bytes: datagram.to_vec(),
            });
        }
        if game && faults.game_dead {
            return Ok(());
        }
        let to = state.peers.iter().position(|known| known.id == Some(peer));
        let between =
            |cut: [usize; 2]| cut.contains(&self.slot) && to.is_some_and(|to| cut.contains(&to));
        if path == Path::Direct && faults.cut_between.is_some_and(between) {
            return Ok(());
        }
        match path {
            Path::Direct if self.slot == 0 && faults.cut_from_first => return Ok(()),
            Path::Direct if self.slot != 0 && faults.cut_from_others => return Ok(()),
            Path::Relay if faults.relay_dead => return Ok(()),
            Path::Relay if game => {
                state.relayed_game_packets += 1;
                state.relayed_game_bytes += (datagram.len() - HEADER_LEN) as u64;
            }
            _ => {}
        }
        if path == Path::Direct && faults.lose_one_in > 0 {
            state.random = lcg(state.random);
            if (state.random >> 33).is_multiple_of(faults.lose_one_in) {
                return Ok(());
            }
        }
        let copies = if faults.duplicate { 2 } else { 1 };
        let to = state
            .peers
            .iter_mut()
            .find(|mailbox| mailbox.id == Some(peer));
        if let Some(mailbox) = to.filter(|mailbox| !mailbox.closed) {
            for _ in 0..copies {
                mailbox.inbox.push_back((path, own, datagram.to_vec()));
            }
        }
        Ok(())
    }

    fn receive(&mut self, now: Duration, sink: &mut dyn FnMut(Received<'_>)) {
        let inbox = std::mem::take(&mut self.network.state().peers[self.slot].inbox);
        for (path, from, bytes) in inbox {
            sink(Received {
                path,
                from,
                at: now,
                bytes: &bytes,
            });
        }
    }

    fn candidate_pair(&self, _peer: PeerId) -> Option<CandidatePair> {
        None
    }

    fn close(&mut self) {
        let mut state = self.network.state();
        if std::mem::replace(&mut state.peers[self.slot].closed, true) {
            return;
        }
        if state.relay {
            state.list_members();
            return;
        }
        let own = state.peers[self.slot].id.unwrap();
        for peer in &mut state.peers {
            peer.events.push(NetEvent::DirectClosed(own));
        }
    }
}

/// The rooms of a server by name, for peers that join at run time.
#[derive(Clone, Default)]
pub struct VirtualServer(Arc<Mutex<BTreeMap<String, VirtualNetwork>>>);

impl VirtualServer {
    /// The room called `name`, made for `players` at its first use.
    pub fn room(&self, name: &str, players: usize) -> VirtualNetwork {
        let mut rooms = self.0.lock().unwrap();
        let room = rooms.entry(name.to_owned());
        room.or_insert_with(|| VirtualNetwork::new(players, true))
            .clone()
    }
}
