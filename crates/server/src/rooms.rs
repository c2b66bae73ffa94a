//! All rooms of the server: who joins or resumes which, and what a member does in its room. Rooms lie in
//! shards by the hash of their name, so that a join costs the same however many rooms there are.
//! Locks are taken in this order: shard, nonces, room.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::extract::ws::Message;
use matchbox_protocol::{JsonPeerEvent, PeerId};
use rollback_lab_link::wire::relay::{DropReason, Notice, ResumeToken, encode_notice};

use super::identity::{Activity, new_peer_id, next_connection, random_bytes};
use super::limits::TokenBucket;
use super::metrics::Metrics;
use super::refusal::Refusal;
use super::request::{Grouping, RoomRequest};
use super::room::{Newcomer, Resumed, Room, RoomState};
use super::secret::ServerSecret;
use super::send_queue::SendQueue;
use super::token::{Claims, TokenKey};

/// Locks among which the rooms are spread; many more than there are threads.
const SHARDS: usize = 64;

/// All rooms of the server.
pub(crate) struct Rooms {
    shards: Vec<Mutex<Shard>>,
    /// Every room, also those that cannot be joined by name.
    nonces: Mutex<HashMap<[u8; 16], Arc<Room>>>,
    hasher: RandomState,
    rooms: AtomicUsize,
    peers: AtomicUsize,
    max_rooms: usize,
    max_peers: usize,
    key: Arc<TokenKey>,
    /// How long the slot of a lost member is kept.
    grace: Duration,
    metrics: Arc<Metrics>,
}

/// What [`Rooms`] needs of the server's settings.
pub(crate) struct RoomSettings<'a> {
    pub max_rooms: usize,
    pub max_peers: usize,
    pub secret: &'a ServerSecret,
    pub grace: Duration,
}

/// Rooms that can be joined: one by a name, and of `?next=N` possibly several groups, of which the first is
/// filled. A full group is taken out; its members keep it alive.
#[derive(Default)]
struct Shard(HashMap<RoomKey, Vec<Arc<Room>>>);

impl Shard {
    fn get(&self, key: &RoomKey) -> Option<&Arc<Room>> {
        self.0.get(key)?.first()
    }

    fn insert(&mut self, key: &RoomKey, room: &Arc<Room>) {
        let rooms = self.0.entry(key.clone()).or_default();
        if !rooms.iter().any(|known| Arc::ptr_eq(known, room)) {
            rooms.push(Arc::clone(room));
        }
    }

    fn remove(&mut self, key: &RoomKey, room: &Arc<Room>) {
        if let Some(rooms) = self.0.get_mut(key) {
            rooms.retain(|known| !Arc::ptr_eq(known, room));
            if rooms.is_empty() {
                self.0.remove(key);
            }
        }
    }
}

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
    connection: u64,
    activity: Arc<Activity>,
    send_queue: Arc<SendQueue>,
}

impl Rooms {
    /// No rooms yet, and at most as many rooms and peers as the settings allow.
    pub(crate) fn new(settings: &RoomSettings, metrics: Arc<Metrics>) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            nonces: Mutex::default(),
            hasher: RandomState::new(),
            rooms: AtomicUsize::new(0),
            peers: AtomicUsize::new(0),
            max_rooms: settings.max_rooms,
            max_peers: settings.max_peers,
            key: Arc::new(TokenKey::new(settings.secret)),
            grace: settings.grace,
            metrics,
        }
    }

    /// How long the slot of a lost member is kept.
    pub(crate) fn grace(&self) -> Duration {
        self.grace
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
        let key = RoomKey::of(request);
        let newcomer = newcomer(new_peer_id(), send_queue, Instant::now());
        reserve(&self.peers, self.max_peers, "peers")?;
        match self.enter(&key, request, &newcomer) {
            Ok((room, slot)) => {
                self.metrics.peers.inc();
                self.metrics.joins.inc();
                Ok(self.membership(room, key, slot, newcomer))
            }
            Err(refusal) => {
                self.peers.fetch_sub(1, Ordering::Relaxed);
                Err(refusal)
            }
        }
    }

    fn enter(
        &self,
        key: &RoomKey,
        request: &RoomRequest,
        newcomer: &Newcomer,
    ) -> Result<(Arc<Room>, u8), Refusal> {
        let mut shard = self.shard(key);
        let room = match shard.get(key) {
            Some(room) => Arc::clone(room),
            None => {
                let room = self.open(request, random_bytes())?;
                shard.insert(key, &room);
                room
            }
        };
        let mut state = self.visit(&room);
        let slot = state.admit(request, newcomer, Instant::now())?;
        if key.next.is_some_and(|n| state.len() == usize::from(n)) {
            shard.remove(key, &room);
        }
        drop(state);
        Ok((room, slot))
    }

    /// Gives the member that a token names its slot back, with the same id. Its former websocket is
    /// closed. A server that does not know the room opens it again under its nonce.
    ///
    /// # Errors
    /// When the token is not valid, or its slot has another holder; nothing has changed then.
    pub(crate) fn resume(
        self: &Arc<Self>,
        request: &RoomRequest,
        token: &ResumeToken,
        (anew, attempt): (bool, u32),
        send_queue: Arc<SendQueue>,
    ) -> Result<Membership, Refusal> {
        let claims = self.key.check(request, token, unix_ms())?;
        let now = Instant::now();
        let key = RoomKey::of(request);
        let mut newcomer = newcomer(claims.peer, send_queue, now);
        newcomer.presented = Some((claims.issued_ms, attempt));
        let mut shard = self.shard(&key);
        reserve(&self.peers, self.max_peers, "peers")?;
        let resumed = self.resume_in(&mut shard, &key, request, (&claims, anew), &newcomer);
        let (room, resumed) = match resumed {
            Ok(resumed) => resumed,
            Err(refusal) => {
                self.peers.fetch_sub(1, Ordering::Relaxed);
                return Err(refusal);
            }
        };
        match resumed {
            Resumed::Free => {
                self.metrics.peers.inc();
            }
            // The place of the one it replaces.
            Resumed::Held | Resumed::Evicted => {
                self.peers.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.metrics.resumes.inc();
        Ok(self.membership(room, key, claims.slot, newcomer))
    }

    fn resume_in(
        &self,
        shard: &mut Shard,
        key: &RoomKey,
        request: &RoomRequest,
        (claims, anew): (&Claims, bool),
        newcomer: &Newcomer,
    ) -> Result<(Arc<Room>, Resumed), Refusal> {
        let known = self.nonces().get(&claims.nonce).map(Arc::clone);
        let now = Instant::now();
        let room = match known {
            Some(room) => room,
            // The others of this peer are in the new room, or will come to it.
            None if !claims.running && shard.get(key).is_some() => return Err(Refusal::RoomEnded),
            None => {
                let room = self.open(request, claims.nonce)?;
                if claims.running {
                    room.lock().restore_until(now + self.grace);
                }
                // The group of a match is full: it is not joined by name.
                if !(claims.running && key.next.is_some()) && shard.get(key).is_none() {
                    shard.insert(key, &room);
                }
                room
            }
        };
        let mut state = self.visit(&room);
        if anew && state.leaves_for_reload(claims.slot, newcomer) {
            let stale = state.remove(claims.slot, now, leave_notices);
            self.metrics.dropped(DropReason::Stale, stale);
            self.release_peer();
        }
        let resumed = state.resume(claims, newcomer, now, leave_notices)?;
        drop(state);
        Ok((room, resumed))
    }

    /// Opens a room; the caller puts it where it is found by name.
    fn open(&self, request: &RoomRequest, nonce: [u8; 16]) -> Result<Arc<Room>, Refusal> {
        reserve(&self.rooms, self.max_rooms, "rooms")?;
        self.metrics.rooms.inc();
        let room = Arc::new(Room::new(request.clone(), nonce, Arc::clone(&self.key)));
        self.nonces().insert(nonce, Arc::clone(&room));
        Ok(room)
    }

    fn membership(
        self: &Arc<Self>,
        room: Arc<Room>,
        key: RoomKey,
        slot: u8,
        newcomer: Newcomer,
    ) -> Membership {
        Membership {
            left: AtomicBool::new(false),
            rooms: Arc::clone(self),
            room,
            key,
            slot,
            peer: newcomer.peer,
            connection: newcomer.connection,
            activity: newcomer.activity,
            send_queue: newcomer.send_queue,
        }
    }

    /// Whether a full room may hold a member that is lost and not known to be, because nothing came from
    /// it since `since`.
    pub(crate) fn may_have_ghost(&self, request: &RoomRequest, since: Instant) -> bool {
        let key = RoomKey::of(request);
        let shard = self.shard(&key);
        let room = shard.get(&key);
        room.is_some_and(|room| room.lock().may_have_ghost(since))
    }

    fn remove(&self, member: &Membership) {
        let mut shard = self.shard(&member.key);
        let mut state = self.visit(&member.room);
        // The slot may be another websocket's by now.
        if !state.belongs(member.slot, member.connection) {
            return;
        }
        let nonce = state.nonce();
        let stale = state.remove(member.slot, Instant::now(), leave_notices);
        state.send_roster(None);
        let members = state.len();
        let gathers = state.gathers();
        drop(state);
        if stale > 0 {
            self.metrics.dropped(DropReason::Stale, stale);
        }
        self.release_peer();
        if members == 0 {
            self.rooms.fetch_sub(1, Ordering::Relaxed);
            self.metrics.rooms.dec();
            self.nonces().remove(&nonce);
            shard.remove(&member.key, &member.room);
        } else if gathers && member.key.next.is_some() {
            // A group that was full wants another member before its match begins.
            shard.insert(&member.key, &member.room);
        }
    }

    fn release_peer(&self) {
        self.peers.fetch_sub(1, Ordering::Relaxed);
        self.metrics.peers.dec();
    }

    fn nonces(&self) -> MutexGuard<'_, HashMap<[u8; 16], Arc<Room>>> {
        (self.nonces.lock()).expect("nothing panics while it holds the nonces")
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

impl RoomKey {
    fn of(request: &RoomRequest) -> Self {
        Self {
            name: request.name.clone(),
            next: match request.grouping {
                Grouping::Next(n) => Some(n),
                Grouping::Open | Grouping::Players(_) => None,
            },
        }
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

    /// Keeps the slot of a member that was lost during its match, and reports the loss to the others.
    /// Returns whether there is a slot to keep; otherwise the caller lets it [leave](Self::leave).
    pub(crate) fn hold(&self) -> bool {
        self.room.lock().hold(self.slot, self.connection)
    }

    /// Lets go of the membership without a report to anyone: the server stops.
    pub(crate) fn forget(&self) {
        self.left.store(true, Ordering::Relaxed);
    }

    /// Something came from this client.
    pub(crate) fn activity(&self, now: Instant) {
        self.activity.record(now);
    }

    /// A frame of the relay came from this client: it is no stock client.
    pub(crate) fn set_lab(&self) {
        self.room.lock().set_lab(self.slot, self.connection);
    }

    /// This client reported whether its match runs.
    pub(crate) fn set_running(&self, running: bool) {
        let mut state = self.room.lock();
        state.set_running(self.slot, self.connection, running, unix_ms());
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
            .forward(received, self.place(), destination, payload, allowance);
        if let Err(reason) = forwarded {
            self.drop_own(reason);
        }
    }

    /// Queues a signal for the member with that id.
    pub(crate) fn signal(&self, receiver: PeerId, data: serde_json::Value) {
        match (self.room).signal(self.place(), self.peer, receiver, data) {
            Ok(()) => {
                self.rooms.metrics.signals.inc();
            }
            Err(reason) => self.drop_own(reason),
        }
    }

    fn place(&self) -> (u8, u64) {
        (self.slot, self.connection)
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

fn newcomer(peer: PeerId, send_queue: Arc<SendQueue>, now: Instant) -> Newcomer {
    Newcomer {
        peer,
        send_queue,
        connection: next_connection(),
        activity: Arc::new(Activity::new(now)),
        now_ms: unix_ms(),
        presented: None,
    }
}

/// The wall clock, because tokens are read by other processes; a clock before 1970 counts as 1970.
fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
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
