//! Owns what a lab session hears: from the network, from its peers, and the silence of those that
//! are gone. It notes, and decides nothing but that.

use super::*;

/// ggrs has its own idea of a lost peer, a day of silence; see [`GGRS_DISCONNECT`].
const GIVEN_UP: &str = "ggrs gave it up";

impl<C: Config<Address = PeerId>> LabSession<C> {
    pub(super) fn take_in(&mut self, world: &mut World, net: &LabNet, now: Duration) {
        let mut events = std::mem::take(&mut self.events);
        net.drain_events(&mut events);
        for event in events.drain(..) {
            self.on_network(world, net, event);
        }
        self.events = events;
        if !self.room.player_slots().is_empty() {
            self.take_in_control(world, net, now);
        }
        routes::report_changes(net, &self.room, &mut self.changes, |changed| {
            world.write_message(changed);
        });
    }

    /// A peer that saw everybody first greets at once; its words wait until it is known who is who.
    pub(super) fn take_in_control(&mut self, world: &mut World, net: &LabNet, now: Duration) {
        let mut control = std::mem::take(&mut self.control);
        net.drain_control(&mut control);
        for (peer, message) in control.drain(..) {
            self.on_control(world, now, peer, message);
        }
        self.control = control;
    }

    pub(super) fn on_network(&mut self, world: &mut World, net: &LabNet, event: NetEvent) {
        let Some(heard) = self.room.hear(event) else {
            return;
        };
        if matches!(self.phase, SessionPhase::Finished | SessionPhase::Failed) {
            return;
        }
        match heard {
            Heard::Failed(error) => {
                self.failure.get_or_insert(error);
            }
            Heard::ServerLost { .. } => {
                heard.log();
                world.write_message(PeerNotice::ServerLost { at: net.now() });
            }
            Heard::NoRelay | Heard::RelayDropped { .. } => heard.log(),
        }
    }

    pub(super) fn on_control(
        &mut self,
        world: &mut World,
        now: Duration,
        peer: PeerId,
        message: ControlMessage,
    ) {
        let Some(player) = self.room.player_of(peer) else {
            return;
        };
        match message {
            // Said once; whatever comes later changes nothing about a match that runs.
            ControlMessage::Hello(_) if self.greeted.contains(&peer) => {}
            ControlMessage::Hello(theirs) => {
                if let Some(mismatch) = self.settings.hello.mismatch(&theirs) {
                    self.failure.get_or_insert(SessionError::Mismatch {
                        player,
                        field: mismatch.field,
                        ours: mismatch.ours,
                        theirs: mismatch.theirs,
                    });
                } else {
                    self.greeted.push(peer);
                }
            }
            ControlMessage::Ready { epoch, seed } => {
                self.ready.retain(|ready| ready.peer != peer);
                self.ready.push(Ready { peer, epoch, seed });
            }
            ControlMessage::Hidden => {
                world.write_message(PeerNotice::Hidden { player, at: now });
            }
            ControlMessage::Visible => {
                world.write_message(PeerNotice::Visible { player, at: now });
            }
            ControlMessage::Ended {
                epoch,
                end_frame,
                digest,
            } => {
                // Nobody can end an episode that this peer has not begun.
                if epoch != self.epoch() {
                    return;
                }
                self.ended.retain(|ended| ended.peer != peer);
                self.ended.push(Ended {
                    peer,
                    epoch,
                    end_frame,
                    digest,
                });
            }
            ControlMessage::Bye { reason } => {
                debug!("player {player} says bye: {reason:?}");
                self.room.record_leave(peer, reason);
            }
        }
    }

    /// Peers that left by their own word, or by the server's while both paths are silent.
    pub(super) fn notice_gone(&mut self, world: &mut World, net: &LabNet, now: Duration) {
        let mut gone = Vec::new();
        if let Some(told) = world.get_resource::<Messages<SessionEvent>>() {
            for event in self.told.read(told) {
                if matches!(event.kind, SessionEventKind::Disconnected) {
                    gone.extend(event.players.iter().map(|&player| (player, GIVEN_UP)));
                }
            }
        }
        gone.retain(|&(player, reason)| self.room.give_up(player, reason));
        // Meeting has a limit of its own.
        let met = matches!(
            self.phase,
            SessionPhase::Between
                | SessionPhase::Starting
                | SessionPhase::Playing
                | SessionPhase::Ending
        );
        gone.extend(
            self.room
                .find_gone(met, |peer| net.link(peer, |link| link.peer_silence(now))),
        );
        for (player, reason) in gone {
            world.write_message(PeerNotice::Gone {
                player,
                at: now,
                reason,
            });
        }
    }
}
