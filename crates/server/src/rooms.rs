//! Owns who is in which room: joining, leaving, and handing packets and signals to a member.
//! Never touches a socket. Rooms lie in shards that are looked up, never walked through, so a
//! join costs the same however many rooms there are.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use axum::extract::ws::Message;
use matchbox_protocol::{JsonPeerEvent, PeerId};

use super::identity::{new_peer_id, random_bytes};
use super::metrics::Metrics;
use super::refusal::Refusal;
use super::request::{Grouping, RoomRequest};
use super::room::{Room, RoomState};
use super::send_queue::SendQueue;
use rollback_lab_link::wire::relay::{DropReason, Notice, encode_notice};

/// Locks that share the rooms among them; far more than there are threads.
const SHARDS: usize = 64;

/// All rooms of the server.
pub(crate) struct Rooms {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    rooms: AtomicUsize,
    peers: AtomicUsize,
    max_rooms: usize,
    max_peers: usize,
    metrics: Arc<Metrics>,
}

/// Rooms that can be joined. A full group of `?next=N` is not among them any more; its members
/// keep it alive.
type Shard = HashMap<RoomKey, Arc<Room>>;

#[derive(Clone, PartialEq, Eq, Hash)]
struct RoomKey {
    name: String,
    /// Rooms of `?next=N` are apart for each N, as in matchbox's own server.
    next: Option<u8>,
}

/// A peer's place in a room. The peer leaves when the seat is dropped, if not before.
pub(crate) struct PlayerSlot {
    left: AtomicBool,
    rooms: Arc<Rooms>,
    room: Arc<Room>,
    key: RoomKey,
    slot: u8,
    peer: PeerId,
}

impl Rooms {
    /// No rooms yet, and never more than the settings allow.
    pub(crate) fn new(max_rooms: usize, max_peers: usize, metrics: Arc<Metrics>) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            rooms: AtomicUsize::new(0),
            peers: AtomicUsize::new(0),
            max_rooms,
            max_peers,
            metrics,
        }
    }

    /// Gives the client behind `send_queue` a slot in the room that it asks for, queues its id and
    /// welcome, and tells the peers who are there already.
    ///
    /// # Errors
    /// When the room or the server has no place for it; nothing has changed then.
    pub(crate) fn join(
        self: &Arc<Self>,
        request: &RoomRequest,
        send_queue: Arc<SendQueue>,
    ) -> Result<PlayerSlot, Refusal> {
        let key = RoomKey {
            name: request.name.clone(),
            next: match request.grouping {
                Grouping::Next(n) => Some(n),
                Grouping::Open | Grouping::Players(_) => None,
            },
        };
        reserve(&self.peers, self.max_peers, "peers")?;
        let joined = self.enter(&key, request, send_queue);
        if joined.is_err() {
            self.peers.fetch_sub(1, Ordering::Relaxed);
        }
        let (room, slot, peer) = joined?;
        self.metrics.peers.inc();
        self.metrics.joins.inc();
        Ok(PlayerSlot {
            left: AtomicBool::new(false),
            rooms: Arc::clone(self),
            room,
            key,
            slot,
            peer,
        })
    }

    fn enter(
        &self,
        key: &RoomKey,
        request: &RoomRequest,
        send_queue: Arc<SendQueue>,
    ) -> Result<(Arc<Room>, u8, PeerId), Refusal> {
        let mut shard = self.shard(key);
        let room = match shard.entry(key.clone()) {
            Entry::Occupied(entry) => Arc::clone(entry.get()),
            Entry::Vacant(entry) => {
                reserve(&self.rooms, self.max_rooms, "rooms")?;
                self.metrics.rooms.inc();
                let room = Room::new(request, random_bytes());
                Arc::clone(entry.insert(Arc::new(room)))
            }
        };
        let peer = new_peer_id();
        let mut state = self.visit(&room);
        let slot = room.admit(&mut state, request, peer, send_queue)?;
        if key.next.is_some_and(|n| state.len() == usize::from(n)) {
            shard.remove(key);
        }
        drop(state);
        Ok((room, slot, peer))
    }

    fn remove(&self, player_slot: &PlayerSlot) {
        let mut shard = self.shard(&player_slot.key);
        let mut state = self.visit(&player_slot.room);
        let stale = state.remove(player_slot.slot, Instant::now(), |peer, slot| {
            let mut news = vec![Message::Text(
                JsonPeerEvent::PeerLeft(peer).to_string().into(),
            )];
            let gone = encode_notice(&Notice::PeerGone { slot });
            news.extend(gone.ok().map(|frame| Message::Binary(frame.into())));
            news
        });
        player_slot.room.report_roster(&state, None);
        let empty = state.len() == 0;
        drop(state);
        if stale > 0 {
            self.metrics.dropped(DropReason::Stale, stale);
        }
        self.peers.fetch_sub(1, Ordering::Relaxed);
        self.metrics.peers.dec();
        if empty {
            self.rooms.fetch_sub(1, Ordering::Relaxed);
            self.metrics.rooms.dec();
            // A full group has been taken out before, and its key may be another group's by now.
            if shard
                .get(&player_slot.key)
                .is_some_and(|room| Arc::ptr_eq(room, &player_slot.room))
            {
                shard.remove(&player_slot.key);
            }
        }
    }

    fn shard(&self, key: &RoomKey) -> MutexGuard<'_, Shard> {
        let hash = self.hasher.hash_one(key);
        let index = usize::try_from(hash % SHARDS as u64).unwrap_or(0);
        self.shards[index]
            .lock()
            .expect("nothing panics while it holds a shard")
    }

    /// The only way to look into a room for a join or a leave, so that what they cost is counted.
    fn visit<'a>(&self, room: &'a Room) -> MutexGuard<'a, RoomState> {
        self.metrics.room_visits.inc();
        room.lock()
    }
}

impl PlayerSlot {
    /// Id that the peer was given.
    pub(crate) fn peer(&self) -> PeerId {
        self.peer
    }

    /// Name of the room.
    pub(crate) fn room_name(&self) -> &str {
        &self.key.name
    }

    /// Peers in the room, this one included.
    pub(crate) fn room_size(&self) -> usize {
        self.room.lock().len()
    }

    /// Gives the slot back and tells the others; only the first call does anything.
    pub(crate) fn leave(&self) {
        if !self.left.swap(true, Ordering::Relaxed) {
            self.rooms.remove(self);
        }
    }

    /// Queues a packet for the member in `destination`.
    pub(crate) fn forward(&self, received: Instant, destination: u8, payload: &[u8]) {
        let dropped = self
            .room
            .forward(received, self.slot, destination, payload)
            .err();
        if let Some(reason) = dropped {
            self.drop_own(reason);
        }
    }

    /// Queues a signal for the member with that id.
    pub(crate) fn signal(&self, receiver: PeerId, data: serde_json::Value) {
        match self.room.signal(self.slot, self.peer, receiver, data) {
            Ok(()) => {
                self.rooms.metrics.signals.inc();
            }
            Err(reason) => self.drop_own(reason),
        }
    }

    /// Counts something that this client sent and that was not delivered; it will be told.
    pub(crate) fn drop_own(&self, reason: DropReason) {
        self.drop_of(self.slot, reason, 1);
    }

    /// Counts packets from the member in `source` that were not delivered to this client.
    pub(crate) fn drop_of(&self, source: u8, reason: DropReason, count: u32) {
        self.rooms.metrics.dropped(reason, count);
        self.room.record_dropped(source, reason, count);
    }
}

impl Drop for PlayerSlot {
    fn drop(&mut self) {
        self.leave();
    }
}

fn reserve(counter: &AtomicUsize, limit: usize, what: &'static str) -> Result<(), Refusal> {
    counter
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
            (n < limit).then_some(n + 1)
        })
        .map(|_| ())
        .map_err(|_| Refusal::ServerFull { what, limit })
}

#[cfg(test)]
mod tests;
