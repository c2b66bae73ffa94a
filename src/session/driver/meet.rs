//! The phases until all players are there and agree: connecting, gathering, meeting. Until the first frame
//! the room stays open: players who leave or do not answer are taken off, and the others gather again.

use std::time::Duration;

use bevy::prelude::*;
use bevy_matchbox::matchbox_socket::PeerId;
use ggrs::{Config, PlayerHandle};

use super::LabSession;
use crate::rollback::Links;
use crate::session::room::Absent;
use crate::session::{Focus, PeerNotice, SessionError, SessionInfo, SessionPhase};
use crate::transport::LabNet;
use rollback_lab_link::link::LinkSnapshot;
use rollback_lab_link::wire::{ByeReason, ControlMessage};

/// How long the players of a complete room may take to meet: twice what a path may take to come up.
pub(super) const MEETING_TIMEOUT: Duration = Duration::from_secs(30);
/// Handshakes of the first episode that may fail before the session does: once may be an outage, and each
/// is ten seconds of a participant's patience.
const HANDSHAKES: u32 = 3;
/// Silence that shows which player a handshake waits for. Outside of an episode there is one probe a
/// second, of which two may get lost.
const HANDSHAKE_SILENCE: Duration = Duration::from_millis(2_500);

impl<C: Config<Address = PeerId>> LabSession<C> {
    pub(super) fn connecting(&mut self, world: &mut World, net: &LabNet, now: Duration) {
        let since = *self.opened_at.get_or_insert(now);
        match self.room.joined(now.saturating_sub(since)) {
            Ok(true) => self.enter(world, SessionPhase::Gathering, now),
            Ok(false) => {}
            Err(error) => self.fail(world, net, now, error),
        }
    }

    pub(super) fn gathering(&mut self, world: &mut World, net: &LabNet, now: Duration) {
        net.set_peers(&self.room.others());
        // A member that never answers does not prolong the wait.
        if self.taken_off.is_some() && self.waited(now) >= self.settings.wait_timeout {
            let error = self.wait_timeout(now);
            self.fail(world, net, now, error);
            return;
        }
        let silence = |peer| net.link(peer, |link| link.peer_silence(now));
        self.room.readmit_returned(now, silence);
        match self.room.assign_player_slots() {
            Ok(true) => {}
            Ok(false) => {
                if self.waited(now) >= self.settings.wait_timeout {
                    let error = self.wait_timeout(now);
                    self.fail(world, net, now, error);
                }
                return;
            }
            Err(error) => {
                self.fail(world, net, now, error);
                return;
            }
        }
        let Some(info) = self.room.info() else {
            return;
        };
        net.set_player(info.local_player);
        self.session_id.clone_from(&info.session_id);
        world.insert_resource(info);
        self.send_to_all(net, &ControlMessage::Hello(self.settings.hello.clone()));
        if world.resource::<Focus>().hidden {
            self.report_hidden(net, true);
        }
        self.waited = self.waited(now);
        self.enter(world, SessionPhase::Meeting, now);
    }

    /// The wait for players is over. Where a member did not answer, the reason is more than how many
    /// came.
    fn wait_timeout(&self, now: Duration) -> SessionError {
        let silent = self.taken_off.clone();
        silent
            .filter(|_| self.room.has_silent_members())
            .unwrap_or_else(|| SessionError::WaitTimeout {
                room: self.settings.room.clone(),
                waited: self.waited(now),
                present: self.room.attending().len(),
                players: self.settings.players,
            })
    }

    /// The players whose silence is what `error` is about, while the room is open.
    pub(super) fn unanswering(
        &mut self,
        net: &LabNet,
        now: Duration,
        error: &SessionError,
    ) -> Vec<Absent> {
        if !self.is_open() {
            return Vec::new();
        }
        let usable = |peer| net.link(peer, LinkSnapshot::usable).unwrap_or_default();
        let quiet = |peer| {
            net.link(peer, |link| link.peer_silence(now))
                .is_none_or(|silence| silence >= HANDSHAKE_SILENCE)
        };
        let remotes = || self.room.remotes().map(|slot| (slot.handle, slot.peer));
        let (mut off, reason): (Vec<(PlayerHandle, PeerId)>, _) = match error {
            SessionError::NoPath { peer } => {
                let off = remotes().filter(|(_, remote)| remote == peer);
                (off.collect(), "no path leads to it")
            }
            SessionError::NoAnswer { .. } => {
                let answered = |peer: PeerId| self.greeted.contains(&peer) && usable(peer);
                let off = remotes().filter(|&(_, peer)| !answered(peer));
                (off.collect(), "it did not answer")
            }
            SessionError::HandshakeTimeout { .. } => {
                let off = remotes().filter(|&(_, peer)| quiet(peer));
                (off.collect(), "its handshake did not finish")
            }
            _ => return Vec::new(),
        };
        if matches!(error, SessionError::HandshakeTimeout { .. }) {
            if off.is_empty() {
                off = remotes().collect();
            }
            self.failed_handshakes += 1;
            if self.failed_handshakes >= HANDSHAKES {
                return Vec::new();
            }
        }
        off.into_iter()
            .map(|(player, peer)| Absent {
                player,
                peer,
                reason,
            })
            .collect()
    }

    /// Takes off players who are in the room and do not answer. They are notified, so that they gather again
    /// when they wake up, and count again when anything comes from them.
    pub(super) fn take_off_silent(
        &mut self,
        world: &mut World,
        net: &LabNet,
        now: Duration,
        off: &[Absent],
    ) {
        for absent in off {
            let Ok(player) = u8::try_from(absent.player) else {
                continue;
            };
            let reason = ByeReason::PeerGone { player };
            net.send_control(absent.peer, ControlMessage::Bye { reason });
            self.room.set_aside(absent.peer, now);
        }
        self.gather_again(world, net, now, off);
    }

    /// Players are off before the first frame: the others wait for players in their place.
    pub(super) fn gather_again(
        &mut self,
        world: &mut World,
        net: &LabNet,
        now: Duration,
        off: &[Absent],
    ) {
        for &Absent {
            player,
            peer,
            reason,
        } in off
        {
            info!("player {player} is taken off: {reason}; gathering again");
            world.write_message(PeerNotice::TakenOff {
                player,
                at: now,
                reason,
            });
            self.greeted.retain(|greeted| *greeted != peer);
            self.ready.retain(|ready| ready.peer != peer);
        }
        self.abandon(world, net, now);
        self.waited = match self.phase {
            SessionPhase::Meeting => self.waited(now),
            // All had met: this is another wait.
            _ => Duration::ZERO,
        };
        self.game_ready = false;
        self.start = super::start::Start::default();
        self.opened = false;
        self.ended.clear();
        self.session_id.clear();
        world.remove_resource::<SessionInfo>();
        if let Some(mut links) = world.get_resource_mut::<Links>() {
            links.clear();
        }
        self.enter(world, SessionPhase::Gathering, now);
        if let Err(error) = self.room.reopen() {
            self.fail(world, net, now, error);
        }
    }

    /// Without all its players a session cannot go on.
    pub(super) fn fail_if_gone(&mut self, world: &mut World, net: &LabNet, now: Duration) -> bool {
        let Some(error) = self.room.first_gone() else {
            return false;
        };
        self.fail(world, net, now, error);
        true
    }

    pub(super) fn meeting(&mut self, world: &mut World, net: &LabNet, now: Duration) {
        if self.fail_if_gone(world, net, now) {
            return;
        }
        let failed = |peer| net.link(peer, |link| link.failed().is_some());
        if let Some(error) = self.room.unreachable(|peer| failed(peer) == Some(true)) {
            self.fail(world, net, now, error);
            return;
        }
        let greeted = self
            .room
            .remotes()
            .all(|player_slot| self.greeted.contains(&player_slot.peer));
        if greeted && net.all_usable() {
            self.enter(world, SessionPhase::Between, now);
        } else if now.saturating_sub(self.since) >= MEETING_TIMEOUT {
            // Of several, one whose `hello` is missing; else one whose path broke at once.
            let missing = self
                .room
                .remotes()
                .find(|player_slot| !self.greeted.contains(&player_slot.peer))
                .or_else(|| {
                    let usable = |peer| net.link(peer, LinkSnapshot::usable).unwrap_or(false);
                    self.room
                        .remotes()
                        .find(|player_slot| !usable(player_slot.peer))
                });
            if let Some(player) = missing.map(|player_slot| player_slot.handle) {
                let waited = MEETING_TIMEOUT;
                self.fail(world, net, now, SessionError::NoAnswer { player, waited });
            }
        }
    }
}
