//! Who is in a room, as the server, the data channels and the peers report it: the members, their
//! player slots once the room is complete, and who is gone for good. No I/O and no clock; lab sessions
//! and rooms of games with sessions of their own share it.

use std::time::Duration;

use bevy::log::{debug, error, warn};
use bevy_matchbox::matchbox_socket::PeerId;
use ggrs::PlayerHandle;

use super::lobby::{self, PlayerSlot};
use super::{SessionError, SessionInfo};
use crate::transport::network::NetEvent;
use rollback_lab_link::wire::ByeReason;
use rollback_lab_link::wire::relay::{DropReason, Notice};

/// How long a server that took the connection may stay silent. Above the 17 s of three attempts to
/// connect, whose own errors are more precise.
const CONNECTING_TIMEOUT: Duration = Duration::from_secs(20);
/// Silence on both paths after which the server's report that a peer is gone is believed.
const GONE_SILENCE: Duration = Duration::from_secs(1);
/// Silence of a peer on both paths after which it is gone. Above the 30 s after which ICE gives up a
/// path, so that a failover always fits inside; peers that are gone for good are mostly known earlier,
/// by `bye` or the server's report.
const LOST_SILENCE: Duration = Duration::from_secs(35);

/// What an event of the network means beyond who is there.
#[derive(Debug, PartialEq)]
pub(super) enum RoomEvent {
    /// The server is a stock one: it cannot relay.
    NoRelay,
    /// The relay dropped packets.
    RelayDropped {
        /// How many.
        count: u32,
        /// Why.
        reason: DropReason,
    },
    /// The connection to the server was lost; peers that have met still reach each other directly.
    ServerLost {
        /// Why.
        reason: String,
    },
    /// The room cannot be joined, or not completed.
    Failed(SessionError),
}

impl RoomEvent {
    /// Logs it for the experimenter.
    pub(super) fn log(&self) {
        match self {
            Self::NoRelay => {
                warn!(
                    "this signaling server cannot relay: a match ends with its direct path; \
                     `rollback-lab serve` can"
                );
            }
            Self::RelayDropped { count, reason } => {
                debug!("relay dropped {count} packets: {reason:?}");
            }
            Self::ServerLost { reason } => {
                warn!(
                    "connection to the server lost ({reason}): there is no relay to fail over to"
                );
            }
            Self::Failed(error) => error!("{error}"),
        }
    }
}

/// One room, as one of its peers sees it.
#[derive(Debug)]
pub(super) struct RoomView {
    name: String,
    players: usize,
    local: Option<PeerId>,
    members: Vec<(u8, PeerId)>,
    /// The server lists the members; otherwise the open data channels show who is there.
    listed: bool,
    stock: bool,
    nonce: [u8; 16],
    /// Empty until the room is complete; fixed from then on.
    player_slots: Vec<PlayerSlot>,
    left: Vec<(PeerId, ByeReason)>,
    suspected: Vec<PeerId>,
    gone: Vec<(PeerId, &'static str)>,
}

impl RoomView {
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

    /// Updates the view by what happened outside.
    pub(super) fn apply(&mut self, event: NetEvent) -> Option<RoomEvent> {
        match event {
            NetEvent::IdAssigned(id) => {
                // A peer has one id; a server that sends another one changes nothing.
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
                Some(RoomEvent::NoRelay)
            }
            NetEvent::DirectOpened(peer) => {
                // A server that relays lists its members; one that left may open its channel all the same.
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
                Some(RoomEvent::RelayDropped { count, reason })
            }
            NetEvent::Refused { code, reason } => {
                let room = self.name.clone();
                Some(RoomEvent::Failed(SessionError::RoomRefused {
                    room,
                    code,
                    reason,
                }))
            }
            NetEvent::Unreachable { error } => {
                Some(RoomEvent::Failed(SessionError::ServerUnreachable { error }))
            }
            NetEvent::ServerLost { reason } if self.player_slots.is_empty() => {
                let room = self.name.clone();
                Some(RoomEvent::Failed(SessionError::ServerLost { room, reason }))
            }
            NetEvent::ServerLost { reason } => Some(RoomEvent::ServerLost { reason }),
            NetEvent::TaskFailed { error } => {
                Some(RoomEvent::Failed(SessionError::NetworkTask { error }))
            }
            NetEvent::Notice(Notice::Lost { .. } | Notice::Back { .. })
            | NetEvent::ServerResumed { .. } => None,
            // For the links, which have taken it.
            NetEvent::ClockAnswered { .. } => None,
        }
    }

    /// Whether the server has sent this peer's id and the members of the room.
    ///
    /// # Errors
    /// This peer has `waited` for that longer than 20 s.
    pub(super) fn joined(&self, waited: Duration) -> Result<bool, SessionError> {
        let missing = match self.local {
            None => "assign an id",
            Some(_) if !self.listed && !self.stock => "list the members of the room",
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

    /// Assigns the player slots once all players are there; they are fixed from then on.
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

    /// All players by handle; empty until all are there.
    pub(super) fn player_slots(&self) -> &[PlayerSlot] {
        &self.player_slots
    }

    /// All players but this peer's.
    pub(super) fn remotes(&self) -> impl Iterator<Item = &PlayerSlot> {
        self.player_slots
            .iter()
            .filter(|player_slot| !player_slot.local)
    }

    /// The peer behind every handle; `None` is this peer.
    pub(super) fn owners(&self) -> Vec<Option<PeerId>> {
        let owner = |player_slot: &PlayerSlot| (!player_slot.local).then_some(player_slot.peer);
        self.player_slots.iter().map(owner).collect()
    }

    /// The lab session, once all players are there.
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

    /// A peer sent `bye`.
    pub(super) fn record_leave(&mut self, peer: PeerId, reason: ByeReason) {
        self.left.push((peer, reason));
    }

    /// Peers that sent `bye`, and before them those that others report as gone: the first one that
    /// leaves ends the session of all others, and only one of those may still reach this peer.
    fn take_leaves(&mut self) -> Vec<(PeerId, &'static str)> {
        let mut left = std::mem::take(&mut self.left);
        left.sort_by_key(|(_, reason)| matches!(reason, ByeReason::PeerGone { .. }));
        let mut gone = Vec::new();
        for (peer, reason) in left {
            let why = match reason {
                ByeReason::Finished | ByeReason::Left => "it left",
                ByeReason::Mismatch | ByeReason::Failed => "its session failed",
                ByeReason::PeerGone { player } => {
                    let first = self
                        .player_slots
                        .iter()
                        .find(|s| s.handle == usize::from(player));
                    match first {
                        Some(first) if !first.local && first.peer != peer => {
                            gone.push((first.peer, "another player reports it"));
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

    /// Records a player as gone; returns whether that is new.
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

    /// Players who are gone since the last call: by their own message, by the server's while both
    /// paths are silent, or, once all have `met`, by silence alone.
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
                gone.push((
                    peer,
                    "the server reports that it left, and both paths are silent",
                ));
            }
            !believed
        });
        // Before that a peer need not have sent anything yet.
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
        let mut new = Vec::new();
        for (peer, reason) in gone {
            let Some(player) = self.player_of(peer) else {
                continue;
            };
            if self.give_up(player, reason) {
                new.push((player, reason));
            }
        }
        new
    }
}
