//! One room: its slots, its roster, and the way from one member to another.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use axum::body::Bytes;
use axum::extract::ws::Message;
use matchbox_protocol::{JsonPeerEvent, PeerId};
use rollback_lab_link::wire::relay::{
    DropReason, MAX_FRAME_LEN, MAX_MEMBERS, Member, Roster, encode_forwarded, encode_roster,
    encode_welcome,
};

use super::limits::TokenBucket;
use super::refusal::Refusal;
use super::request::{Grouping, RoomRequest};
use super::send_queue::SendQueue;

/// One room, shared by its members.
pub(crate) struct Room {
    state: Mutex<RoomState>,
}

/// The members of a room by slot. Grouping and nonce are those of its first member for as long as
/// the room lives.
pub(crate) struct RoomState {
    grouping: Grouping,
    nonce: [u8; 16],
    members: BTreeMap<u8, Occupant>,
}

struct Occupant {
    peer: PeerId,
    send_queue: Arc<SendQueue>,
}

impl Room {
    /// An empty room, grouped as its first member requests.
    pub(crate) fn new(grouping: Grouping, nonce: [u8; 16]) -> Self {
        Self {
            state: Mutex::new(RoomState {
                grouping,
                nonce,
                members: BTreeMap::new(),
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
    /// is locked once, and for two lookups only.
    ///
    /// # Errors
    /// The reason when it, or an older one in its place, is not delivered.
    pub(crate) fn forward(
        &self,
        received: Instant,
        source: u8,
        destination: u8,
        payload: &[u8],
        allowance: &mut TokenBucket,
    ) -> Result<(), DropReason> {
        let receiver = {
            let state = self.lock();
            if !allowance.take(received, state.len()) {
                return Err(DropReason::RateLimited);
            }
            match state.members.get(&destination) {
                Some(occupant) if destination != source => Arc::clone(&occupant.send_queue),
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
        source: u8,
        sender: PeerId,
        receiver: PeerId,
        data: serde_json::Value,
    ) -> Result<(), DropReason> {
        let event = JsonPeerEvent::Signal { sender, data }.to_string();
        let state = self.lock();
        let found = state.members.values().find(|o| o.peer == receiver);
        let Some(occupant) = found.filter(|_| receiver != sender) else {
            return Err(DropReason::UnknownSlot);
        };
        // Under the room's lock, so that no signal follows the notice that its sender left.
        occupant.send_queue.signal(source, event.into())
    }

    /// Counts packets of the member in `source` that were not delivered; its next notice reports
    /// them.
    pub(crate) fn record_dropped(&self, source: u8, reason: DropReason, count: u32) {
        if let Some(occupant) = self.lock().members.get(&source) {
            occupant.send_queue.record_dropped(reason, count);
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
        peer: PeerId,
        send_queue: Arc<SendQueue>,
    ) -> Result<u8, Refusal> {
        if self.grouping != request.grouping {
            return Err(Refusal::PlayersDiffer {
                room: request.name.clone(),
                has: self.grouping.peers(),
                requested: request.grouping.peers(),
            });
        }
        let capacity = self.grouping.peers().map_or(MAX_MEMBERS, usize::from);
        let free = (0..=u8::MAX).find(|slot| !self.members.contains_key(slot));
        let Some(slot) = free.filter(|_| self.len() < capacity) else {
            return Err(Refusal::RoomFull {
                room: request.name.clone(),
                capacity,
            });
        };
        let arrival = text(&JsonPeerEvent::NewPeer(peer));
        for occupant in self.members.values() {
            occupant.send_queue.control(arrival.clone());
        }
        self.members.insert(
            slot,
            Occupant {
                peer,
                send_queue: Arc::clone(&send_queue),
            },
        );
        send_queue.control(text(&JsonPeerEvent::IdAssigned(peer)));
        if let Ok(welcome) = encode_welcome(&self.roster(slot)) {
            send_queue.control(Message::Binary(welcome.into()));
        }
        self.send_roster(Some(slot));
        Ok(slot)
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
        self.members
            .values()
            .map(|occupant| {
                occupant
                    .send_queue
                    .source_left(now, slot, notices(gone.peer, slot))
            })
            .sum()
    }

    /// Queues the roster for all members but the one in `except`, whose welcome carries it.
    pub(crate) fn send_roster(&self, except: Option<u8>) {
        for (slot, occupant) in &self.members {
            if Some(*slot) == except {
                continue;
            }
            if let Ok(frame) = encode_roster(&self.roster(*slot)) {
                occupant.send_queue.control(Message::Binary(frame.into()));
            }
        }
    }

    fn roster(&self, slot: u8) -> Roster {
        Roster {
            slot,
            // The wire has no `Option` here: 0 stands for an open room.
            capacity: self.grouping.peers().unwrap_or(0),
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
