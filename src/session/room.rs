//! Who is in a room, as the server, the data channels and the peers report it: the members, their
//! player slots once the room is complete, and who is gone for good. No I/O and no clock; lab sessions
//! and rooms of games with sessions of their own share it.

use std::time::Duration;

use bevy::log::{debug, error, info, warn};
use bevy_matchbox::matchbox_socket::PeerId;
use ggrs::PlayerHandle;

use super::PeerNotice;
use super::lobby::{self, PlayerSlot};
use super::{SessionError, SessionInfo};
use crate::transport::network::NetEvent;
use rollback_lab_link::wire::ByeReason;
use rollback_lab_link::wire::relay::{DropReason, Notice};

/// How long a server that took the connection may stay silent. Above the 17 s of three attempts to
/// connect, whose own errors are more precise.
const CONNECTING_TIMEOUT: Duration = Duration::from_secs(20);
/// Silence of a peer on both paths after which it is gone. Above the 30 s after which ICE gives up a
/// path, so that a failover always fits inside. Lost is not left: a peer that left is known earlier by
/// its `bye`, and what the server lost may still play.
const LOST_SILENCE: Duration = Duration::from_secs(35);
/// The reason where that was the sign.
const SILENT: &str = "nothing came from it for 35 s";

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
    /// The same, and it is being taken up again.
    ServerReconnecting {
        /// Why.
        reason: String,
    },
    /// It is back.
    ServerBack {
        /// Attempts that it took.
        attempts: u32,
        /// Time since the loss.
        away: Duration,
    },
    /// The room cannot be joined, or not completed.
    Failed(SessionError),
}

/// A member of the room that does not count as one of its players, before the first frame.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Absence {
    /// It sent `bye`, and counts again when it sends `hello`.
    Left,
    /// It did not answer in time, or this peer did not answer it. It counts again when anything has come
    /// from it since then.
    Silent {
        /// When that was noticed.
        since: Duration,
    },
}

/// A player who is not there any more, before the first frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Absent {
    /// The player's handle among those who had gathered.
    pub(super) player: PlayerHandle,
    /// The peer.
    pub(super) peer: PeerId,
    /// How that was noticed.
    pub(super) reason: &'static str,
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
            Self::ServerReconnecting { reason } => {
                warn!("connection to the server lost ({reason}); reconnecting");
            }
            Self::ServerBack { attempts, away } => {
                let ms = away.as_millis();
                info!("connection to the server is back after {attempts} attempts and {ms} ms");
            }
            Self::Failed(error) => error!("{error}"),
        }
    }

    /// What the game learns of it.
    pub(super) const fn notice(&self, at: Duration) -> Option<PeerNotice> {
        match *self {
            Self::ServerLost { .. } | Self::ServerReconnecting { .. } => {
                Some(PeerNotice::ServerLost { at })
            }
            Self::ServerBack { attempts, away } => {
                Some(PeerNotice::ServerBack { at, attempts, away })
            }
            _ => None,
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
    absent: Vec<(PeerId, Absence)>,
    /// Why the connection to the server was lost, while it is.
    server_lost: Option<String>,
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
            absent: Vec::new(),
            server_lost: None,
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
                self.server_lost = None;
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
                // The slots of a match that runs do not follow from the members.
                if self.stock {
                    self.members.retain(|(_, member)| *member != peer);
                }
                None
            }
            // Lost is not left: the server's connection to a peer is no evidence about the others', and
            // before the first frame the roster lists the members.
            NetEvent::Notice(Notice::PeerGone { .. }) => None,
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
            NetEvent::ServerLost { reason } => {
                self.server_lost = Some(reason.clone());
                Some(RoomEvent::ServerLost { reason })
            }
            NetEvent::TaskFailed { error } => {
                Some(RoomEvent::Failed(SessionError::NetworkTask { error }))
            }
            NetEvent::ServerReconnecting { reason } => {
                Some(RoomEvent::ServerReconnecting { reason })
            }
            NetEvent::ServerResumed { attempts, away } => {
                Some(RoomEvent::ServerBack { attempts, away })
            }
            NetEvent::Notice(Notice::Lost { .. } | Notice::Back { .. }) => None,
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
        let members = self.attending();
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

    /// Who is there and counts as a player, in order, this peer included.
    pub(super) fn attending(&self) -> Vec<(u8, PeerId)> {
        let mut members = self.present();
        members.retain(|(_, peer)| !self.absent.iter().any(|(absent, _)| absent == peer));
        members
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

    /// Opens the slots of a room that had been complete, for players who are there then.
    ///
    /// # Errors
    /// Without the server no player can come.
    pub(super) fn reopen(&mut self) -> Result<(), SessionError> {
        self.player_slots.clear();
        self.gone.clear();
        self.left.clear();
        match self.server_lost.clone() {
            None => Ok(()),
            Some(reason) => {
                let room = self.name.clone();
                Err(SessionError::ServerLost { room, reason })
            }
        }
    }

    /// A member does not count as a player until anything comes from it after `now`.
    pub(super) fn set_aside(&mut self, peer: PeerId, now: Duration) {
        self.readmit(peer);
        self.absent.push((peer, Absence::Silent { since: now }));
    }

    /// A member sent `bye` while no slots are assigned, or before the first frame.
    pub(super) fn record_absence(&mut self, peer: PeerId, reason: ByeReason, now: Duration) {
        self.readmit(peer);
        let absence = match reason {
            // It is there, and took this peer for gone.
            ByeReason::PeerGone { .. } => Absence::Silent { since: now },
            _ => Absence::Left,
        };
        self.absent.push((peer, absence));
    }

    /// A member sent `hello`: it counts as a player, whatever it sent before.
    pub(super) fn readmit(&mut self, peer: PeerId) {
        self.absent.retain(|(absent, _)| *absent != peer);
        self.left.retain(|(left, _)| *left != peer);
    }

    /// Members count again that were silent and are not any more; those who are not listed any more
    /// are forgotten.
    pub(super) fn readmit_returned(
        &mut self,
        now: Duration,
        silence: impl Fn(PeerId) -> Option<Duration>,
    ) {
        let present = self.present();
        self.absent.retain(|&(peer, absence)| {
            let listed = present.iter().any(|(_, member)| *member == peer);
            let returned = match absence {
                Absence::Left => false,
                Absence::Silent { since } => {
                    silence(peer).is_some_and(|silence| silence < now.saturating_sub(since))
                }
            };
            listed && !returned
        });
    }

    /// Whether a member is there that did not answer.
    pub(super) fn has_silent_members(&self) -> bool {
        let silent = |absence: &Absence| matches!(absence, Absence::Silent { .. });
        self.absent.iter().any(|(_, absence)| silent(absence))
    }

    /// Players who are not there any more before the first frame: they left, the server lists them no
    /// longer, or, once all have `met`, nothing came from them for 35 s. Silence does not count for
    /// those who are still meeting, which has a limit of its own.
    pub(super) fn find_absent(
        &mut self,
        met: bool,
        now: Duration,
        silence: impl Fn(PeerId) -> Option<Duration>,
    ) -> Vec<Absent> {
        let left = std::mem::take(&mut self.left);
        let present = self.present();
        let mut absent = Vec::new();
        for player_slot in self.player_slots.clone() {
            let (player, peer) = (player_slot.handle, player_slot.peer);
            if player_slot.local {
                continue;
            }
            let bye = left.iter().find(|(left, _)| *left == peer);
            let listed = present.iter().any(|(_, member)| *member == peer);
            let silent = || silence(peer).is_none_or(|silence| silence >= LOST_SILENCE);
            let reason = if let Some(&(_, reason)) = bye {
                self.record_absence(peer, reason, now);
                leave_reason(reason)
            } else if !listed {
                "it is not in the room any more"
            } else if met && silent() {
                self.set_aside(peer, now);
                SILENT
            } else {
                continue;
            };
            absent.push(Absent {
                player,
                peer,
                reason,
            });
        }
        absent
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
            let mut why = leave_reason(reason);
            if let ByeReason::PeerGone { player } = reason {
                let first = self
                    .player_slots
                    .iter()
                    .find(|s| s.handle == usize::from(player));
                if let Some(first) = first.filter(|first| !first.local && first.peer != peer) {
                    gone.push((first.peer, "another player reports it"));
                    why = "it does not go on without another player";
                }
            }
            gone.push((peer, why));
        }
        gone
    }

    pub(super) fn is_gone(&self, peer: PeerId) -> bool {
        self.gone.iter().any(|(gone, _)| *gone == peer)
    }

    /// Whether a member has closed its connection to the room, be it without a `bye` that arrived.
    pub(super) fn is_off(&self, peer: PeerId) -> bool {
        !self.members.iter().any(|(_, member)| *member == peer)
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

    /// Players who are gone since the last call: by their own message, or, once all have `met`, after
    /// 35 s of silence on every path.
    pub(super) fn find_gone(
        &mut self,
        met: bool,
        silence: impl Fn(PeerId) -> Option<Duration>,
    ) -> Vec<(PlayerHandle, &'static str)> {
        let mut gone = self.take_leaves();
        let silent = |peer: PeerId| silence(peer).is_none_or(|s| s >= LOST_SILENCE);
        // Before that a peer need not have sent anything yet.
        if met {
            let peers = self
                .player_slots
                .iter()
                .filter(|player_slot| !player_slot.local);
            let lost = peers
                .map(|player_slot| player_slot.peer)
                .filter(|&peer| silent(peer));
            gone.extend(lost.map(|peer| (peer, SILENT)));
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

/// What a peer's `bye` means for this one.
fn leave_reason(reason: ByeReason) -> &'static str {
    match reason {
        ByeReason::Finished | ByeReason::Left => "it left",
        ByeReason::Mismatch | ByeReason::Failed => "its session failed",
        ByeReason::PeerGone { .. } => "it took this player for gone",
    }
}
