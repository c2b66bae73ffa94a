//! All rooms of the server: who joins which, and what a member does in its room. Rooms lie in
//! shards by the hash of their name, so that a join costs the same however many rooms there are.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use axum::extract::ws::Message;
use matchbox_protocol::{JsonPeerEvent, PeerId};
use rollback_lab_link::wire::relay::{DropReason, Notice, encode_notice};

use super::identity::{new_peer_id, random_bytes};
use super::limits::TokenBucket;
use super::metrics::Metrics;
use super::refusal::Refusal;
use super::request::{Grouping, RoomRequest};
use super::room::{Room, RoomState};
use super::send_queue::SendQueue;

/// Locks among which the rooms are spread; many more than there are threads.
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

/// Rooms that can be joined. A full group of `?next=N` is taken out; its members keep it alive.
type Shard = HashMap<RoomKey, Arc<Room>>;

#[derive(Clone, PartialEq, Eq, Hash)]
struct RoomKey {
    name: String,
    /// Rooms of `?next=N` are apart for each N, as in matchbox's own server.
    next: Option<u8>,
}

/// A peer's membership of a room, and what it may do there. Dropping it leaves the room.
pub(crate) struct Membership {
    left: AtomicBool,
    rooms: Arc<Rooms>,
    room: Arc<Room>,
    key: RoomKey,
    slot: u8,
    peer: PeerId,
    send_queue: Arc<SendQueue>,
}

impl Rooms {
    /// No rooms yet, and at most as many rooms and peers as the settings allow.
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

    /// Gives the client behind `send_queue` a slot in the room that it requests, queues its id and
    /// welcome, and announces it to the peers in the room.
    ///
    /// # Errors
    /// When the room or the server has no place for it; nothing has changed then.
    pub(crate) fn join(
        self: &Arc<Self>,
        request: &RoomRequest,
        send_queue: Arc<SendQueue>,
    ) -> Result<Membership, Refusal> {
        let key = RoomKey {
            name: request.name.clone(),
            next: match request.grouping {
                Grouping::Next(n) => Some(n),
                Grouping::Open | Grouping::Players(_) => None,
            },
        };
        reserve(&self.peers, self.max_peers, "peers")?;
        let joined = self.enter(&key, request, Arc::clone(&send_queue));
        if joined.is_err() {
            self.peers.fetch_sub(1, Ordering::Relaxed);
        }
        let (room, slot, peer) = joined?;
        self.metrics.peers.inc();
        self.metrics.joins.inc();
        Ok(Membership {
            left: AtomicBool::new(false),
            rooms: Arc::clone(self),
            room,
            key,
            slot,
            peer,
            send_queue,
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
                let room = Room::new(request.grouping, random_bytes());
                Arc::clone(entry.insert(Arc::new(room)))
            }
        };
        let peer = new_peer_id();
        let mut state = self.visit(&room);
        let slot = state.admit(request, peer, send_queue)?;
        if key.next.is_some_and(|n| state.len() == usize::from(n)) {
            shard.remove(key);
        }
        drop(state);
        Ok((room, slot, peer))
    }

    fn remove(&self, member: &Membership) {
        let mut shard = self.shard(&member.key);
        let mut state = self.visit(&member.room);
        let stale = state.remove(member.slot, Instant::now(), leave_notices);
        state.send_roster(None);
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
                .get(&member.key)
                .is_some_and(|room| Arc::ptr_eq(room, &member.room))
            {
                shard.remove(&member.key);
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

    /// Locks a room for a join or a leave, and counts it: the metric shows what they cost.
    fn visit<'a>(&self, room: &'a Room) -> MutexGuard<'a, RoomState> {
        self.metrics.room_visits.inc();
        room.lock()
    }
}

impl Membership {
    /// Id that the peer was given.
    pub(crate) fn peer(&self) -> PeerId {
        self.peer
    }

    /// Name of the room.
    pub(crate) fn room_name(&self) -> &str {
        &self.key.name
    }

    /// Gives the slot back and announces that to the other members; only the first call does
    /// anything.
    pub(crate) fn leave(&self) {
        if !self.left.swap(true, Ordering::Relaxed) {
            self.rooms.remove(self);
        }
    }

    /// Takes a token for a message that is not a packet for another member.
    pub(crate) fn allows(&self, now: Instant, allowance: &mut TokenBucket) -> bool {
        allowance.take(now, self.room.lock().len())
    }

    /// Queues a packet for the member in `destination`, if `allowance` has a token for it.
    pub(crate) fn forward(
        &self,
        received: Instant,
        destination: u8,
        payload: &[u8],
        allowance: &mut TokenBucket,
    ) {
        let forwarded = self
            .room
            .forward(received, self.slot, destination, payload, allowance);
        if let Err(reason) = forwarded {
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

    /// Counts a message of this client that was not delivered; its next notice reports it.
    pub(crate) fn drop_own(&self, reason: DropReason) {
        self.rooms.metrics.dropped(reason, 1);
        self.send_queue.record_dropped(reason, 1);
    }

    /// Counts packets from the member in `source` that were not delivered to this client.
    pub(crate) fn drop_of(&self, source: u8, reason: DropReason, count: u32) {
        self.rooms.metrics.dropped(reason, count);
        self.room.record_dropped(source, reason, count);
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.leave();
    }
}

/// What the others receive when a peer left: matchbox's event, and the relay's notice that the
/// slot is free.
fn leave_notices(peer: PeerId, slot: u8) -> Vec<Message> {
    let event = JsonPeerEvent::PeerLeft(peer).to_string();
    let mut notices = vec![Message::Text(event.into())];
    let gone = encode_notice(&Notice::PeerGone { slot });
    notices.extend(gone.ok().map(|frame| Message::Binary(frame.into())));
    notices
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
