//! Owns one room: its slots, its roster, and the way from one member to another.
//! Never knows of other rooms.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use axum::body::Bytes;
use axum::extract::ws::Message;
use matchbox_protocol::{JsonPeerEvent, PeerId};

use super::refusal::Refusal;
use super::request::{Grouping, RoomRequest};
use super::send_queue::SendQueue;
use rollback_lab_link::wire::relay::{
    DropReason, MAX_FRAME_LEN, MAX_MEMBERS, Member, Roster, encode_forwarded, encode_roster,
    encode_welcome,
};

/// One room; its members change, its nonce and grouping never.
pub(crate) struct Room {
    grouping: Grouping,
    nonce: [u8; 16],
    state: Mutex<RoomState>,
}

/// The members of a room by slot.
#[derive(Default)]
pub(crate) struct RoomState {
    members: BTreeMap<u8, Occupant>,
}

struct Occupant {
    peer: PeerId,
    send_queue: Arc<SendQueue>,
}

impl Room {
    /// An empty room as its first member asks for it.
    pub(crate) fn new(request: &RoomRequest, nonce: [u8; 16]) -> Self {
        Self {
            grouping: request.grouping,
            nonce,
            state: Mutex::default(),
        }
    }

    /// Who is there.
    pub(crate) fn lock(&self) -> MutexGuard<'_, RoomState> {
        self.state
            .lock()
            .expect("nothing panics while it holds a room")
    }

    /// Gives a peer the smallest free slot, queues its id and welcome, and tells the others.
    ///
    /// # Errors
    /// When there is no slot, or the peer expects another number of players.
    pub(crate) fn admit(
        &self,
        state: &mut RoomState,
        request: &RoomRequest,
        peer: PeerId,
        send_queue: Arc<SendQueue>,
    ) -> Result<u8, Refusal> {
        if self.grouping != request.grouping {
            return Err(Refusal::PlayersDiffer {
                room: request.name.clone(),
                has: self.grouping.capacity(),
                asked: request.grouping.capacity(),
            });
        }
        let capacity = match self.grouping.capacity() {
            0 => MAX_MEMBERS,
            n => usize::from(n),
        };
        let free = (0..=u8::MAX).find(|slot| !state.members.contains_key(slot));
        let Some(slot) = free.filter(|_| state.len() < capacity) else {
            return Err(Refusal::RoomFull {
                room: request.name.clone(),
                capacity,
            });
        };
        let arrival = text(&JsonPeerEvent::NewPeer(peer));
        for occupant in state.members.values() {
            occupant.send_queue.control(arrival.clone());
        }
        state.members.insert(
            slot,
            Occupant {
                peer,
                send_queue: Arc::clone(&send_queue),
            },
        );
        send_queue.control(text(&JsonPeerEvent::IdAssigned(peer)));
        if let Ok(welcome) = encode_welcome(&self.roster(state, slot)) {
            send_queue.control(Message::Binary(welcome.into()));
        }
        self.report_roster(state, Some(slot));
        Ok(slot)
    }

    /// Queues the roster for everybody but the one in `except`, who has just been welcomed.
    pub(crate) fn report_roster(&self, state: &RoomState, except: Option<u8>) {
        for (slot, occupant) in &state.members {
            if Some(*slot) == except {
                continue;
            }
            if let Ok(frame) = encode_roster(&self.roster(state, *slot)) {
                occupant.send_queue.control(Message::Binary(frame.into()));
            }
        }
    }

    /// Queues a packet from one slot for another.
    ///
    /// # Errors
    /// The reason when it, or an older one in its place, is not delivered.
    pub(crate) fn forward(
        &self,
        received: Instant,
        source: u8,
        destination: u8,
        payload: &[u8],
    ) -> Result<(), DropReason> {
        let mut frame = [0; MAX_FRAME_LEN];
        let length =
            encode_forwarded(source, payload, &mut frame).map_err(|_| DropReason::TooLarge)?;
        let send_queue = {
            let state = self.lock();
            match state.members.get(&destination) {
                Some(occupant) if destination != source => Arc::clone(&occupant.send_queue),
                Some(_) | None => return Err(DropReason::UnknownSlot),
            }
        };
        if send_queue.packet(source, received, Bytes::copy_from_slice(&frame[..length])) {
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
        // Under the room's lock, so that no signal follows the news that its sender left.
        occupant.send_queue.signal(source, event.into())
    }

    /// The member in `source` will be told that packets of it were dropped.
    pub(crate) fn record_dropped(&self, source: u8, reason: DropReason, count: u32) {
        if let Some(occupant) = self.lock().members.get(&source) {
            occupant.send_queue.record_dropped(reason, count);
        }
    }

    fn roster(&self, state: &RoomState, slot: u8) -> Roster {
        Roster {
            slot,
            capacity: self.grouping.capacity(),
            nonce: self.nonce,
            members: state
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

impl RoomState {
    /// How many members there are.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// Takes a member out and queues its last packets and then `news` for everybody else. Returns
    /// how many of its packets had grown stale.
    pub(crate) fn remove(
        &mut self,
        slot: u8,
        now: Instant,
        news: impl Fn(PeerId, u8) -> Vec<Message>,
    ) -> u32 {
        let Some(gone) = self.members.remove(&slot) else {
            return 0;
        };
        self.members
            .values()
            .map(|occupant| {
                occupant
                    .send_queue
                    .source_left(now, slot, news(gone.peer, slot))
            })
            .sum()
    }
}

fn text(event: &JsonPeerEvent) -> Message {
    Message::Text(event.to_string().into())
}
