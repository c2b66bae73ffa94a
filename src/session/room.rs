//! Owns who is in a room, as the server, the data channels and the peers tell it: the members,
//! their seats once everybody is there, and who is gone for good. It notes and orders; it never
//! sends, waits or reads a clock. Lab sessions and rooms of games with sessions of their own share
//! it.

use std::time::Duration;

use bevy::log::{debug, error, warn};
use bevy_matchbox::matchbox_socket::PeerId;
use ggrs::PlayerHandle;

use super::lobby::{self, PlayerSlot};
use super::{SessionError, SessionInfo};
use crate::transport::network::NetEvent;
use rollback_lab_link::wire::ByeReason;
use rollback_lab_link::wire::relay::{DropReason, Notice};

/// A server that took the connection and never says a word. Above the 17 s of three attempts to
/// connect, whose own errors say more.
const CONNECTING_TIMEOUT: Duration = Duration::from_secs(20);
/// Silence on both paths after which the server's word that a peer is gone is believed.
const GONE_SILENCE: Duration = Duration::from_secs(1);
/// Silence of a peer on both paths after which it is gone. Above the 30 s in which a lost server
/// connection may be resumed, so that a fail-over always fits inside; peers that are gone for good
/// are mostly known earlier, by `bye` or the server's word.
const LOST_SILENCE: Duration = Duration::from_secs(35);

/// What an event of the network means beyond who is there.
#[derive(Debug, PartialEq)]
pub(super) enum Heard {
    /// The server is a stock one: it cannot relay.
    NoRelay,
    /// The relay dropped packets.
    RelayDropped {
        /// How many.
        count: u32,
        /// Why.
        reason: DropReason,
    },
    /// The connection to the server was lost; whoever has met is still reachable directly.
    ServerLost {
        /// Why.
        reason: String,
    },
    /// Nobody will be met here.
    Failed(SessionError),
}

impl Heard {
    /// Tells the person at the desk.
    pub(super) fn log(&self) {
        match self {
            Self::NoRelay => {
                warn!("this signaling server cannot relay: if a direct path is lost, the match is");
            }
            Self::RelayDropped { count, reason } => {
                debug!("relay dropped {count} packets: {reason:?}");
            }
            Self::ServerLost { reason } => {
                warn!(
                    "connection to the server lost ({reason}); no fallback path until it is back"
                );
            }
            Self::Failed(error) => error!("{error}"),
        }
    }
}

/// One room, seen by one of its peers.
#[derive(Debug)]
pub(super) struct Room {
    name: String,
    players: usize,
    local: Option<PeerId>,
    members: Vec<(u8, PeerId)>,
    /// The server told who is there; otherwise the open data channels do.
    listed: bool,
    stock: bool,
    nonce: [u8; 16],
    /// Empty until everybody is there; fixed from then on.
    player_slots: Vec<PlayerSlot>,
    left: Vec<(PeerId, ByeReason)>,
    suspected: Vec<PeerId>,
    gone: Vec<(PeerId, &'static str)>,
}

impl Room {
    /// The room called `name`, for so many players.
    pub(super) fn new(name: String, players: usize) -> Self {
        Self {
            name,
            players,
            local: None,
            members: Vec::new(),
            listed: false,
            stock: false,
            nonce: [0; 16],
            player_slots: Vec::new(),
            left: Vec::new(),
            suspected: Vec::new(),
            gone: Vec::new(),
        }
    }

    /// Takes in what happened outside.
    pub(super) fn hear(&mut self, event: NetEvent) -> Option<Heard> {
        match event {
            NetEvent::IdAssigned(id) => {
                // A resumed connection keeps its id; the first one stands.
                self.local.get_or_insert(id);
                None
            }
            NetEvent::Roster(roster) => {
                self.listed = true;
                self.nonce = roster.nonce;
                self.members = roster
                    .members
                    .iter()
                    .map(|member| (member.slot, PeerId(uuid::Uuid::from_bytes(member.peer))))
                    .collect();
                None
            }
            NetEvent::NoRelay => {
                self.stock = true;
                Some(Heard::NoRelay)
            }
            NetEvent::DirectOpened(peer) => {
                // Our server names its members; one that left may open its channel all the same.
                if !self.listed && !self.members.iter().any(|(_, member)| *member == peer) {
                    self.members.push((0, peer));
                }
                None
            }
            NetEvent::DirectClosed(peer) => {
                if self.stock && self.player_slots.is_empty() {
                    self.members.retain(|(_, member)| *member != peer);
                }
                None
            }
            NetEvent::Notice(Notice::PeerGone { slot }) => {
                let gone = self.members.iter().find(|(member, _)| *member == slot);
                self.suspected.extend(gone.map(|(_, peer)| *peer));
                None
            }
            NetEvent::Notice(Notice::Dropped { reason, count }) => {
                Some(Heard::RelayDropped { count, reason })
            }
            NetEvent::Refused { code, reason } => {
                let room = self.name.clone();
                Some(Heard::Failed(SessionError::RoomRefused {
                    room,
                    code,
                    reason,
                }))
            }
            NetEvent::Unreachable { error } => {
                Some(Heard::Failed(SessionError::ServerUnreachable { error }))
            }
            NetEvent::ServerLost { reason } if self.player_slots.is_empty() => {
                let room = self.name.clone();
                Some(Heard::Failed(SessionError::ServerLost { room, reason }))
            }
            NetEvent::ServerLost { reason } => Some(Heard::ServerLost { reason }),
            // For the links, which know it already.
            NetEvent::ClockTold { .. } => None,
        }
    }

    /// Whether the server has said who this peer is and who else is there.
    ///
    /// # Errors
    /// It has `waited` too long for that.
    pub(super) fn joined(&self, waited: Duration) -> Result<bool, SessionError> {
        let missing = match self.local {
            None => "name this peer",
            Some(_) if !self.listed && !self.stock => "tell who is in the room",
            Some(_) => return Ok(true),
        };
        if waited < CONNECTING_TIMEOUT {
            return Ok(false);
        }
        Err(SessionError::ServerUnreachable {
            error: format!(
                "the server of room {} did not {missing} within {}s",
                self.name,
                CONNECTING_TIMEOUT.as_secs()
            ),
        })
    }

    /// Seats everybody once all players are there; they stay what they are from then on.
    ///
    /// # Errors
    /// More peers than players came to a stock server, and this one is not among the first.
    pub(super) fn assign_player_slots(&mut self) -> Result<bool, SessionError> {
        let Some(local) = self.local.filter(|_| self.player_slots.is_empty()) else {
            return Ok(!self.player_slots.is_empty());
        };
        let members = self.present();
        if members.len() < self.players {
            return Ok(false);
        }
        let mut player_slots = lobby::player_slots(local, &members);
        player_slots.truncate(self.players);
        if !player_slots.iter().any(|player_slot| player_slot.local) {
            return Err(SessionError::RoomRefused {
                room: self.name.clone(),
                code: 0,
                reason: format!("it already has {} players", self.players),
            });
        }
        self.player_slots = player_slots;
        Ok(true)
    }

    /// Who is there now, in order, this peer included.
    pub(super) fn present(&self) -> Vec<(u8, PeerId)> {
        let mut members = self.members.clone();
        if self.stock {
            // Our server lists this peer too.
            members.extend(self.local.map(|local| (0, local)));
        }
        members.sort();
        members.dedup();
        members
    }

    /// The others who are there now.
    pub(super) fn others(&self) -> Vec<PeerId> {
        let members = self.present().into_iter().map(|(_, peer)| peer);
        members.filter(|peer| Some(*peer) != self.local).collect()
    }

    /// Everybody by handle; nobody until all are there.
    pub(super) fn player_slots(&self) -> &[PlayerSlot] {
        &self.player_slots
    }

    /// Everybody but this peer.
    pub(super) fn remotes(&self) -> impl Iterator<Item = &PlayerSlot> {
        self.player_slots
            .iter()
            .filter(|player_slot| !player_slot.local)
    }

    /// Who plays each handle; `None` is this peer.
    pub(super) fn owners(&self) -> Vec<Option<PeerId>> {
        let owner = |player_slot: &PlayerSlot| (!player_slot.local).then_some(player_slot.peer);
        self.player_slots.iter().map(owner).collect()
    }

    /// What everybody may know once all are seated.
    pub(super) fn info(&self) -> Option<SessionInfo> {
        let own = self
            .player_slots
            .iter()
            .find(|player_slot| player_slot.local)?;
        Some(SessionInfo {
            session_id: lobby::session_id(&self.name, &self.player_slots, &self.nonce),
            local_player: own.handle,
            player_slots: self.player_slots.clone(),
            relay: !self.stock,
        })
    }

    /// A player to whom no path leads, if there is one.
    pub(super) fn unreachable(&self, failed: impl Fn(PeerId) -> bool) -> Option<SessionError> {
        let peer = self
            .remotes()
            .map(|player_slot| player_slot.peer)
            .find(|&p| failed(p))?;
        Some(SessionError::NoPath { peer })
    }

    pub(super) fn player_of(&self, peer: PeerId) -> Option<PlayerHandle> {
        let player_slot = self
            .player_slots
            .iter()
            .find(|player_slot| player_slot.peer == peer);
        player_slot.map(|player_slot| player_slot.handle)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn players(&self) -> usize {
        self.players
    }

    pub(super) fn local(&self) -> Option<PeerId> {
        self.local
    }

    pub(super) fn nonce(&self) -> &[u8; 16] {
        &self.nonce
    }

    /// A peer said goodbye.
    pub(super) fn record_leave(&mut self, peer: PeerId, reason: ByeReason) {
        self.left.push((peer, reason));
    }

    /// Who said goodbye, and before them who is gone by the word of others: whoever leaves first
    /// takes all others along, and a peer may hear of that only from one of them.
    fn take_leaves(&mut self) -> Vec<(PeerId, &'static str)> {
        let mut left = std::mem::take(&mut self.left);
        left.sort_by_key(|(_, reason)| matches!(reason, ByeReason::PeerGone { .. }));
        let mut gone = Vec::new();
        for (peer, reason) in left {
            let why = match reason {
                ByeReason::Finished | ByeReason::Left => "it said goodbye",
                ByeReason::Mismatch | ByeReason::Failed => "its session failed",
                ByeReason::PeerGone { player } => {
                    let first = self
                        .player_slots
                        .iter()
                        .find(|s| s.handle == usize::from(player));
                    match first {
                        Some(first) if !first.local && first.peer != peer => {
                            gone.push((first.peer, "another player says so"));
                            "it does not go on without another player"
                        }
                        _ => "it took this player for gone",
                    }
                }
            };
            gone.push((peer, why));
        }
        gone
    }

    pub(super) fn is_gone(&self, peer: PeerId) -> bool {
        self.gone.iter().any(|(gone, _)| *gone == peer)
    }

    /// The first player who is gone for good, if one is.
    pub(super) fn first_gone(&self) -> Option<SessionError> {
        let &(peer, reason) = self.gone.first()?;
        let player = self.player_of(peer).unwrap_or_default();
        Some(SessionError::PeerGone { player, reason })
    }

    /// Books a player as gone; tells whether that is new.
    pub(super) fn give_up(&mut self, player: PlayerHandle, reason: &'static str) -> bool {
        let player_slot = self
            .player_slots
            .iter()
            .find(|player_slot| player_slot.handle == player);
        let Some(peer) = player_slot
            .map(|player_slot| player_slot.peer)
            .filter(|p| !self.is_gone(*p))
        else {
            return false;
        };
        self.gone.push((peer, reason));
        true
    }

    /// Players who are gone since the last call: by their own word, by the server's while both
    /// paths are silent, or, once everybody has `met`, by silence alone.
    pub(super) fn find_gone(
        &mut self,
        met: bool,
        silence: impl Fn(PeerId) -> Option<Duration>,
    ) -> Vec<(PlayerHandle, &'static str)> {
        let mut gone = self.take_leaves();
        let silent = |peer: PeerId, limit: Duration| silence(peer).is_none_or(|s| s >= limit);
        self.suspected.retain(|&peer| {
            let believed = silent(peer, GONE_SILENCE);
            if believed {
                gone.push((peer, "the server says it left, and both paths are silent"));
            }
            !believed
        });
        // Before that nobody need have said anything yet.
        if met {
            let peers = self
                .player_slots
                .iter()
                .filter(|player_slot| !player_slot.local);
            let lost = peers
                .map(|player_slot| player_slot.peer)
                .filter(|&peer| silent(peer, LOST_SILENCE));
            gone.extend(lost.map(|peer| (peer, "nothing came from it for 35 s")));
        }
        let mut told = Vec::new();
        for (peer, reason) in gone {
            let Some(player) = self.player_of(peer) else {
                continue;
            };
            if self.give_up(player, reason) {
                told.push((player, reason));
            }
        }
        told
    }
}
