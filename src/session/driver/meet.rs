//! Owns the phases until everybody is known and agrees: connecting, gathering, meeting.

use super::*;

impl<C: Config<Address = PeerId>> LabSession<C> {
    pub(super) fn connecting(&mut self, world: &mut World, net: &LabNet, now: Duration) {
        let since = *self.opened_at.get_or_insert(now);
        if self.local.is_some() && (self.roster_known || self.stock) {
            self.enter(world, SessionPhase::Gathering, now);
        } else if now.saturating_sub(since) >= CONNECTING_TIMEOUT {
            let missing = if self.local.is_some() {
                "tell who is in the room"
            } else {
                "name this peer"
            };
            let error = format!(
                "the server of room {} did not {missing} within {}s",
                self.settings.room,
                CONNECTING_TIMEOUT.as_secs()
            );
            self.fail(world, net, now, SessionError::ServerUnreachable { error });
        }
    }

    pub(super) fn gathering(&mut self, world: &mut World, net: &LabNet, now: Duration) {
        let Some(local) = self.local else {
            return;
        };
        let mut members = self.members.clone();
        if self.stock {
            members.push((0, local));
        }
        members.sort();
        members.dedup();
        let others: Vec<PeerId> = members
            .iter()
            .map(|(_, peer)| *peer)
            .filter(|peer| *peer != local)
            .collect();
        net.set_peers(&others);
        if members.len() < self.settings.players {
            let waited = now.saturating_sub(self.since);
            if waited >= self.settings.wait_timeout {
                let error = SessionError::WaitTimeout {
                    room: self.settings.room.clone(),
                    waited,
                    present: members.len(),
                    players: self.settings.players,
                };
                self.fail(world, net, now, error);
            }
            return;
        }
        self.seats = lobby::seats(local, &members);
        self.seats.truncate(self.settings.players);
        let Some(own) = self.seats.iter().find(|seat| seat.local) else {
            // More peers than players on a stock server: this one is not among the first.
            let error = SessionError::RoomRefused {
                room: self.settings.room.clone(),
                code: 0,
                reason: format!("it already has {} players", self.settings.players),
            };
            self.fail(world, net, now, error);
            return;
        };
        let local_player = own.handle;
        net.set_player(local_player);
        self.session_id = lobby::session_id(&self.settings.room, &self.seats, &self.nonce);
        world.insert_resource(SessionInfo {
            session_id: self.session_id.clone(),
            local_player,
            seats: self.seats.clone(),
            relay: !self.stock,
        });
        for seat in self.remotes() {
            net.send_control(
                seat.peer,
                ControlMessage::Hello(self.settings.hello.clone()),
            );
        }
        if world.resource::<Focus>().hidden {
            self.tell_hidden(net, true);
        }
        self.enter(world, SessionPhase::Meeting, now);
    }

    /// Without all its players a session cannot go on.
    pub(super) fn fail_if_gone(&mut self, world: &mut World, net: &LabNet, now: Duration) -> bool {
        let Some(&(peer, reason)) = self.gone.first() else {
            return false;
        };
        let player = self.player_of(peer).unwrap_or_default();
        self.fail(world, net, now, SessionError::PeerGone { player, reason });
        true
    }

    pub(super) fn meeting(&mut self, world: &mut World, net: &LabNet, now: Duration) {
        if self.fail_if_gone(world, net, now) {
            return;
        }
        let unreachable = self.remotes().map(|seat| seat.peer).find(|peer| {
            net.link(*peer, |link| link.failed().is_some())
                .unwrap_or(false)
        });
        if let Some(peer) = unreachable {
            self.fail(world, net, now, SessionError::NoPath { peer });
            return;
        }
        let greeted = self.remotes().all(|seat| self.greeted.contains(&seat.peer));
        if greeted && net.all_usable() {
            self.enter(world, SessionPhase::Between, now);
        } else if now.saturating_sub(self.since) >= MEETING_TIMEOUT {
            // Of several, one that said nothing at all; else one whose path broke at once.
            let missing = self
                .remotes()
                .find(|seat| !self.greeted.contains(&seat.peer))
                .or_else(|| {
                    let usable = |peer| net.link(peer, |link| link.usable()).unwrap_or(false);
                    self.remotes().find(|seat| !usable(seat.peer))
                });
            if let Some(player) = missing.map(|seat| seat.handle) {
                let waited = MEETING_TIMEOUT;
                self.fail(world, net, now, SessionError::NoAnswer { player, waited });
            }
        }
    }
}
