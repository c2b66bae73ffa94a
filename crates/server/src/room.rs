//! One room: its slots, its roster, and the way from one member to another.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use axum::body::Bytes;
use axum::extract::ws::Message;
use matchbox_protocol::{JsonPeerEvent, PeerId};
use rollback_lab_link::wire::relay::{
    DropReason, MAX_FRAME_LEN, MAX_MEMBERS, Member, Notice, Roster, encode_forwarded,
    encode_notice, encode_roster, encode_token, encode_welcome,
};

use super::identity::Activity;
use super::limits::TokenBucket;
use super::refusal::Refusal;
use super::request::RoomRequest;
use super::send_queue::SendQueue;
use super::token::{Claims, TokenKey};

/// Events about others that wait for a lost member. A room of 64 that empties and fills again makes
/// fewer.
const MAX_MISSED: usize = 512;
/// Members that were taken off and might still come back, per room. The oldest is forgotten; at worst its
/// token then takes the slot from a newcomer.
const MAX_DEPARTED: usize = 256;

/// One room, shared by its members.
pub(crate) struct Room {
    state: Mutex<RoomState>,
}

/// The members of a room by slot. Grouping and nonce are those of its first member for as long as
/// the room lives.
pub(crate) struct RoomState {
    request: RoomRequest,
    nonce: [u8; 16],
    members: BTreeMap<u8, Occupant>,
    /// Members whose slot was freed: the others know that they left.
    departed: Vec<PeerId>,
    /// Until then the slots of a match that another server, or this one before a restart, knew are kept
    /// for its members.
    restored_until: Option<Instant>,
    key: Arc<TokenKey>,
}

/// A peer that asks for a slot.
pub(crate) struct Newcomer {
    /// Its id.
    pub peer: PeerId,
    /// What it is to receive.
    pub send_queue: Arc<SendQueue>,
    /// Number of its websocket.
    pub connection: u64,
    /// When something came from it.
    pub activity: Arc<Activity>,
    /// When it asks, in Unix milliseconds.
    pub now_ms: u64,
    /// When the token was issued that it presents, and its number of the attempt.
    pub presented: Option<(u64, u32)>,
}

/// How a resumed member got its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resumed {
    /// It was still a member, connected or lost.
    Held,
    /// The slot was free.
    Free,
    /// A newcomer, or the holder of an older token, had to give way.
    Evicted,
}

struct Occupant {
    peer: PeerId,
    /// `None` while the member is lost.
    send_queue: Option<Arc<SendQueue>>,
    /// Number of the websocket, or of the last one of a lost member.
    connection: u64,
    activity: Arc<Activity>,
    /// It has sent a frame of the relay: it is no stock client, and can resume.
    lab: bool,
    /// Its match runs: its slot is kept when it is lost.
    running: bool,
    /// When the token was issued by which it is here, and the number of that attempt; `None` of one
    /// that joined without.
    presented: Option<(u64, u32)>,
    /// When its newest token was issued.
    issued_ms: u64,
    /// What happened to others while it was lost.
    missed: Vec<Message>,
}

impl Occupant {
    fn new(newcomer: &Newcomer, claims: Option<&Claims>) -> Self {
        Self {
            peer: newcomer.peer,
            send_queue: Some(Arc::clone(&newcomer.send_queue)),
            connection: newcomer.connection,
            activity: Arc::clone(&newcomer.activity),
            lab: claims.is_some(),
            running: claims.is_some_and(|claims| claims.running),
            presented: newcomer.presented,
            issued_ms: claims.map_or(0, |claims| claims.issued_ms),
            missed: Vec::new(),
        }
    }

    /// Queues an event about another member; a lost one receives it when it is back.
    fn announce(&mut self, message: Message) {
        match &self.send_queue {
            Some(send_queue) => send_queue.control(message),
            None if self.missed.len() < MAX_MISSED => self.missed.push(message),
            None => {}
        }
    }
}

impl Room {
    /// An empty room, named and grouped as its first member requests.
    pub(crate) fn new(request: RoomRequest, nonce: [u8; 16], key: Arc<TokenKey>) -> Self {
        Self {
            state: Mutex::new(RoomState {
                request,
                nonce,
                members: BTreeMap::new(),
                departed: Vec::new(),
                restored_until: None,
                key,
            }),
        }
    }

    /// Exclusive access to the members.
    pub(crate) fn lock(&self) -> MutexGuard<'_, RoomState> {
        self.state
            .lock()
            .expect("nothing panics while it holds a room")
    }

    /// Queues a packet from one slot for another, if the sender's `allowance` admits it. The room
    /// is locked once, and for three lookups only.
    ///
    /// # Errors
    /// The reason when it, or an older one in its place, is not delivered.
    pub(crate) fn forward(
        &self,
        received: Instant,
        (source, connection): (u8, u64),
        destination: u8,
        payload: &[u8],
        allowance: &mut TokenBucket,
    ) -> Result<(), DropReason> {
        let receiver = {
            let mut state = self.lock();
            if !allowance.take(received, state.len()) {
                return Err(DropReason::RateLimited);
            }
            let Some(sender) = state.connected(source, connection) else {
                return Err(DropReason::UnknownSlot);
            };
            sender.lab = true;
            match state.members.get(&destination) {
                Some(occupant) if destination != source => {
                    let receiver = occupant.send_queue.as_ref();
                    Arc::clone(receiver.ok_or(DropReason::ReceiverLost)?)
                }
                Some(_) | None => return Err(DropReason::UnknownSlot),
            }
        };
        let mut frame = [0; MAX_FRAME_LEN];
        let length =
            encode_forwarded(source, payload, &mut frame).map_err(|_| DropReason::TooLarge)?;
        if receiver.packet(source, received, Bytes::copy_from_slice(&frame[..length])) {
            return Err(DropReason::RingFull);
        }
        Ok(())
    }

    /// Queues a signal from one member for another.
    ///
    /// # Errors
    /// The reason when it is not delivered.
    pub(crate) fn signal(
        &self,
        (source, connection): (u8, u64),
        sender: PeerId,
        receiver: PeerId,
        data: serde_json::Value,
    ) -> Result<(), DropReason> {
        let event = JsonPeerEvent::Signal { sender, data }.to_string();
        let mut state = self.lock();
        if state.connected(source, connection).is_none() {
            return Err(DropReason::UnknownSlot);
        }
        let found = state.members.values().find(|o| o.peer == receiver);
        let Some(occupant) = found.filter(|_| receiver != sender) else {
            return Err(DropReason::UnknownSlot);
        };
        let send_queue = occupant.send_queue.as_ref();
        // Under the room's lock, so that no signal follows the notice that its sender left.
        send_queue
            .ok_or(DropReason::ReceiverLost)?
            .signal(source, event.into())
    }

    /// Counts packets of the member in `source` that were not delivered; its next notice reports
    /// them.
    pub(crate) fn record_dropped(&self, source: u8, reason: DropReason, count: u32) {
        if let Some(occupant) = self.lock().members.get(&source)
            && let Some(send_queue) = &occupant.send_queue
        {
            send_queue.record_dropped(reason, count);
        }
    }
}

impl RoomState {
    /// How many members there are.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// Gives a peer the smallest free slot, queues its id and welcome, and announces it to the
    /// other members.
    ///
    /// # Errors
    /// When there is no slot, or the peer expects another number of players.
    pub(crate) fn admit(
        &mut self,
        request: &RoomRequest,
        newcomer: &Newcomer,
        now: Instant,
    ) -> Result<u8, Refusal> {
        let grouping = self.request.grouping;
        if grouping != request.grouping {
            return Err(Refusal::PlayersDiffer {
                room: request.name.clone(),
                has: grouping.peers(),
                requested: request.grouping.peers(),
            });
        }
        let capacity = self.capacity();
        let kept = grouping.peers().is_some() && self.restored_until.is_some_and(|t| now < t);
        let free = (0..=u8::MAX).find(|slot| !self.members.contains_key(slot));
        let Some(slot) = free.filter(|_| self.len() < capacity && !kept) else {
            return Err(Refusal::RoomFull {
                room: request.name.clone(),
                capacity,
            });
        };
        let peer = newcomer.peer;
        self.announce_new(peer, |_| true);
        self.members.insert(slot, Occupant::new(newcomer, None));
        newcomer
            .send_queue
            .control(text(&JsonPeerEvent::IdAssigned(peer)));
        self.welcome(slot, newcomer.now_ms);
        self.send_roster(Some(slot));
        Ok(slot)
    }

    /// Gives a slot back to the peer of a valid token, and queues its welcome. The others see a new peer
    /// only where they learned before that it left, or never knew it.
    ///
    /// # Errors
    /// The slot was given to another member.
    pub(crate) fn resume(
        &mut self,
        claims: &Claims,
        newcomer: &Newcomer,
        now: Instant,
        notices: impl Fn(PeerId, u8) -> Vec<Message>,
    ) -> Result<Resumed, Refusal> {
        let (slot, peer) = (claims.slot, claims.peer);
        let departed = self.departed.contains(&peer);
        let resumed = match self.members.get(&slot) {
            // A frame of an earlier attempt, delayed until now, must not close the later websocket.
            Some(held) if held.peer == peer && held.presented >= newcomer.presented => {
                return Err(Refusal::Superseded);
            }
            Some(held) if held.peer == peer => Resumed::Held,
            Some(other) => {
                let later = other.presented < newcomer.presented;
                if departed || !later {
                    return Err(Refusal::SlotTaken {
                        room: self.request.name.clone(),
                        slot,
                    });
                }
                Resumed::Evicted
            }
            None => Resumed::Free,
        };
        if resumed == Resumed::Held {
            self.take_over(claims, newcomer);
            return Ok(resumed);
        }
        if resumed == Resumed::Evicted {
            self.remove(slot, now, notices);
        }
        // Members that are here by a token met this peer before; others are to connect to it.
        self.announce_new(peer, |other| departed || other.presented.is_none());
        self.departed.retain(|gone| *gone != peer);
        let occupant = Occupant::new(newcomer, Some(claims));
        self.members.insert(slot, occupant);
        self.welcome(slot, newcomer.now_ms);
        self.send_roster(Some(slot));
        Ok(resumed)
    }

    /// Whether a reload before the match is a leave and a new join: the others are to connect anew.
    pub(crate) fn leaves_for_reload(&self, slot: u8, newcomer: &Newcomer) -> bool {
        let held = self.members.get(&slot);
        let held = held.filter(|held| held.peer == newcomer.peer && !held.running);
        held.is_some_and(|held| held.presented < newcomer.presented)
    }

    /// The room's nonce.
    pub(crate) fn nonce(&self) -> [u8; 16] {
        self.nonce
    }

    /// Moves a membership to another websocket. Nothing that the former one still sends counts.
    fn take_over(&mut self, claims: &Claims, newcomer: &Newcomer) {
        let slot = claims.slot;
        let Some(occupant) = self.members.get_mut(&slot) else {
            return;
        };
        let former = occupant
            .send_queue
            .replace(Arc::clone(&newcomer.send_queue));
        occupant.connection = newcomer.connection;
        occupant.activity = Arc::clone(&newcomer.activity);
        occupant.lab = true;
        occupant.presented = newcomer.presented;
        occupant.issued_ms = occupant.issued_ms.max(claims.issued_ms);
        let missed = std::mem::take(&mut occupant.missed);
        self.welcome(slot, newcomer.now_ms);
        for message in missed {
            newcomer.send_queue.control(message);
        }
        match former {
            Some(former) => former.close(super::refusal::replaced()),
            None => self.notify(Notice::Back { slot }, slot),
        }
    }

    /// Queues roster and token for the member in `slot`, and which others are lost.
    fn welcome(&mut self, slot: u8, now_ms: u64) {
        let Some(send_queue) = self.send_queue(slot) else {
            return;
        };
        if let Ok(welcome) = encode_welcome(&self.roster(slot)) {
            send_queue.control(Message::Binary(welcome.into()));
        }
        self.send_token(slot, now_ms);
        for (&other, occupant) in &self.members {
            if occupant.send_queue.is_none() {
                send_queue.control_frame(encode_notice(&Notice::Lost { slot: other }).ok());
            }
        }
    }

    /// Every token of a member is newer than the one before it, whatever the wall clock does.
    fn send_token(&mut self, slot: u8, now_ms: u64) {
        let Some(occupant) = self.members.get_mut(&slot) else {
            return;
        };
        occupant.issued_ms = now_ms.max(occupant.issued_ms.saturating_add(1));
        let Some(send_queue) = &occupant.send_queue else {
            return;
        };
        let claims = Claims {
            peer: occupant.peer,
            nonce: self.nonce,
            slot,
            running: occupant.running,
            issued_ms: occupant.issued_ms,
        };
        let token = self.key.issue(&self.request, &claims);
        send_queue.control_frame(Some(encode_token(&token)));
    }

    /// A member's report whether its match runs. A match that has begun has begun for all who take part;
    /// stock clients do not, for they could not resume.
    pub(crate) fn set_running(&mut self, slot: u8, connection: u64, running: bool, now_ms: u64) {
        let Some(reporter) = self.connected(slot, connection) else {
            return;
        };
        reporter.lab = true;
        if !running {
            reporter.running = false;
            return;
        }
        let begin: Vec<u8> = (self.members.iter())
            .filter(|(at, occupant)| !occupant.running && (occupant.lab || **at == slot))
            .map(|(at, _)| *at)
            .collect();
        for at in begin {
            if let Some(occupant) = self.members.get_mut(&at) {
                occupant.running = true;
            }
            self.send_token(at, now_ms);
        }
    }

    /// A frame of the relay came from this member.
    pub(crate) fn set_lab(&mut self, slot: u8, connection: u64) {
        if let Some(occupant) = self.connected(slot, connection) {
            occupant.lab = true;
        }
    }

    /// Keeps the slot of a member whose websocket ended during its match, and reports the loss to the
    /// others. `false` where there is nothing to keep.
    pub(crate) fn hold(&mut self, slot: u8, connection: u64) -> bool {
        let Some(occupant) = self.connected(slot, connection).filter(|o| o.running) else {
            return false;
        };
        occupant.send_queue = None;
        self.notify(Notice::Lost { slot }, slot);
        true
    }

    /// Whether this websocket is, or was when it was lost, that of the member in `slot`.
    pub(crate) fn belongs(&self, slot: u8, connection: u64) -> bool {
        (self.members.get(&slot)).is_some_and(|occupant| occupant.connection == connection)
    }

    /// Whether a member that could resume has been silent since `since`: it may be one that is lost, and
    /// the room not as full as it looks.
    pub(crate) fn may_have_ghost(&self, since: Instant) -> bool {
        (self.members.values())
            .any(|occupant| occupant.lab && !occupant.running && !occupant.activity.since(since))
    }

    /// Whether its members wait for a match: all are peers of the lab, and no match runs. Of other clients
    /// that is not known.
    pub(crate) fn gathers(&self) -> bool {
        (self.members.values()).all(|occupant| occupant.lab && !occupant.running)
    }

    /// Keeps the slots of a match that began on a server that this one does not remember.
    pub(crate) fn restore_until(&mut self, until: Instant) {
        self.restored_until = Some(until);
    }

    /// The member in `slot`, if this is its websocket and it is not lost.
    fn connected(&mut self, slot: u8, connection: u64) -> Option<&mut Occupant> {
        (self.members.get_mut(&slot))
            .filter(|o| o.connection == connection && o.send_queue.is_some())
    }

    fn send_queue(&self, slot: u8) -> Option<Arc<SendQueue>> {
        self.members.get(&slot)?.send_queue.clone()
    }

    fn capacity(&self) -> usize {
        (self.request.grouping.peers()).map_or(MAX_MEMBERS, usize::from)
    }

    /// Announces `peer` to those members who are to connect to it.
    fn announce_new(&mut self, peer: PeerId, to: impl Fn(&Occupant) -> bool) {
        let arrival = text(&JsonPeerEvent::NewPeer(peer));
        for occupant in self.members.values_mut() {
            if to(occupant) {
                occupant.announce(arrival.clone());
            }
        }
    }

    /// Queues a notice for all members but the one in `except`.
    fn notify(&self, notice: Notice, except: u8) {
        for (slot, occupant) in &self.members {
            if *slot != except
                && let Some(send_queue) = &occupant.send_queue
            {
                send_queue.control_frame(encode_notice(&notice).ok());
            }
        }
    }

    /// Takes a member out and queues its last packets and then `notices` for every other member.
    /// Returns how many of its packets were stale.
    pub(crate) fn remove(
        &mut self,
        slot: u8,
        now: Instant,
        notices: impl Fn(PeerId, u8) -> Vec<Message>,
    ) -> u32 {
        let Some(gone) = self.members.remove(&slot) else {
            return 0;
        };
        if let Some(send_queue) = gone.send_queue {
            send_queue.close(super::refusal::replaced());
        }
        if self.departed.len() == MAX_DEPARTED {
            self.departed.remove(0);
        }
        self.departed.push(gone.peer);
        let mut stale = 0;
        for occupant in self.members.values_mut() {
            let notices = notices(gone.peer, slot);
            match &occupant.send_queue {
                Some(send_queue) => stale += send_queue.source_left(now, slot, notices),
                None => notices.into_iter().for_each(|m| occupant.announce(m)),
            }
        }
        stale
    }

    /// Queues the roster for all members but the one in `except`, whose welcome carries it.
    pub(crate) fn send_roster(&self, except: Option<u8>) {
        for (slot, occupant) in &self.members {
            if Some(*slot) == except {
                continue;
            }
            if let Some(send_queue) = &occupant.send_queue {
                send_queue.control_frame(encode_roster(&self.roster(*slot)).ok());
            }
        }
    }

    fn roster(&self, slot: u8) -> Roster {
        Roster {
            slot,
            // The wire has no `Option` here: 0 stands for an open room.
            capacity: self.request.grouping.peers().unwrap_or(0),
            nonce: self.nonce,
            members: self
                .members
                .iter()
                .map(|(slot, occupant)| Member {
                    slot: *slot,
                    peer: *occupant.peer.0.as_bytes(),
                })
                .collect(),
        }
    }
}

fn text(event: &JsonPeerEvent) -> Message {
    Message::Text(event.to_string().into())
}
