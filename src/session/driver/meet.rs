//! The phases until all players are there and agree: connecting, gathering, meeting.

use std::time::Duration;

use bevy::prelude::*;
use bevy_matchbox::matchbox_socket::PeerId;
use ggrs::Config;

use super::LabSession;
use crate::session::{Focus, SessionError, SessionPhase};
use crate::transport::LabNet;
use rollback_lab_link::link::LinkSnapshot;
use rollback_lab_link::wire::ControlMessage;

/// How long the players of a complete room may take to meet: twice what a path may take to come up.
const MEETING_TIMEOUT: Duration = Duration::from_secs(30);

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
        match self.room.assign_player_slots() {
            Ok(true) => {}
            Ok(false) => {
                let waited = now.saturating_sub(self.since);
                if waited >= self.settings.wait_timeout {
                    let error = SessionError::WaitTimeout {
                        room: self.settings.room.clone(),
                        waited,
                        present: self.room.present().len(),
                        players: self.settings.players,
                    };
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
        self.enter(world, SessionPhase::Meeting, now);
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
