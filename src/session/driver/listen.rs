//! Owns what a lab session hears: from the network, from its peers, and the silence of those that
//! are gone. It notes, and decides nothing but that.

use super::*;

impl<C: Config<Address = PeerId>> LabSession<C> {
    pub(super) fn take_in(&mut self, world: &mut World, net: &LabNet, now: Duration) {
        let mut events = std::mem::take(&mut self.events);
        net.drain_events(&mut events);
        for event in events.drain(..) {
            self.on_network(world, net, event);
        }
        self.events = events;
        if !self.seats.is_empty() {
            self.take_in_control(world, net, now);
        }
        let mut changes = std::mem::take(&mut self.changes);
        net.drain_route_changes(&mut changes);
        if self.seats.is_empty() {
            // Told once it is known who is who.
            self.changes = changes;
            return;
        }
        for (peer, frame, change) in changes.drain(..) {
            let Some(player) = self.player_of(peer) else {
                continue;
            };
            info!(
                "route to player {player}: {:?} -> {:?} ({:?}, {} {:.1}, threshold {:.1})",
                change.from, change.to, change.cause, change.metric, change.value, change.threshold
            );
            world.write_message(RouteChanged {
                player,
                peer,
                frame,
                change,
            });
        }
        self.changes = changes;
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
        match event {
            NetEvent::IdAssigned(id) => {
                // A resumed connection keeps its id; the first one stands.
                self.local.get_or_insert(id);
            }
            NetEvent::Roster(roster) => {
                self.roster_known = true;
                self.nonce = roster.nonce;
                self.members = roster
                    .members
                    .iter()
                    .map(|member| (member.slot, PeerId(uuid::Uuid::from_bytes(member.peer))))
                    .collect();
            }
            NetEvent::NoRelay => {
                warn!("this signaling server cannot relay: if a direct path is lost, the match is");
                self.stock = true;
            }
            NetEvent::DirectOpened(peer) => {
                // Our server names its members; one that left may open its channel all the same.
                if !self.roster_known && !self.members.iter().any(|(_, member)| *member == peer) {
                    self.members.push((0, peer));
                }
            }
            NetEvent::DirectClosed(peer) => {
                if self.stock && self.seats.is_empty() {
                    self.members.retain(|(_, member)| *member != peer);
                }
            }
            NetEvent::Notice(Notice::PeerGone { slot }) => {
                let gone = self
                    .members
                    .iter()
                    .find(|(s, _)| *s == slot)
                    .map(|(_, peer)| *peer);
                self.doubted.extend(gone);
            }
            NetEvent::Notice(Notice::Dropped { reason, count }) => {
                debug!("relay dropped {count} packets: {reason:?}");
            }
            NetEvent::Refused { code, reason } => {
                let room = self.settings.room.clone();
                self.failure
                    .get_or_insert(SessionError::RoomRefused { room, code, reason });
            }
            NetEvent::Unreachable { error } => {
                self.failure
                    .get_or_insert(SessionError::ServerUnreachable { error });
            }
            NetEvent::ServerLost { .. }
                if matches!(self.phase, SessionPhase::Finished | SessionPhase::Failed) => {}
            NetEvent::ServerLost { reason } => {
                if matches!(
                    self.phase,
                    SessionPhase::Connecting | SessionPhase::Gathering
                ) {
                    let room = self.settings.room.clone();
                    self.failure
                        .get_or_insert(SessionError::ServerLost { room, reason });
                } else {
                    warn!(
                        "connection to the server lost ({reason}); no fallback path until it is back"
                    );
                    world.write_message(PeerNotice::ServerLost { at: net.now() });
                }
            }
        }
    }

    pub(super) fn on_control(
        &mut self,
        world: &mut World,
        now: Duration,
        peer: PeerId,
        message: ControlMessage,
    ) {
        let Some(player) = self.player_of(peer) else {
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
                self.left.push((peer, reason));
            }
        }
    }

    /// Peers that left by their own word, or by the server's while both paths are silent.
    pub(super) fn notice_gone(&mut self, world: &mut World, net: &LabNet, now: Duration) {
        let mut gone: Vec<(PeerId, &'static str)> = Vec::new();
        if let Some(told) = world.get_resource::<Messages<SessionEvent>>() {
            for event in self.told.read(told) {
                if matches!(event.kind, SessionEventKind::Disconnected) {
                    let silent = self
                        .seats
                        .iter()
                        .filter(|s| event.players.contains(&s.handle));
                    gone.extend(silent.map(|seat| (seat.peer, "ggrs gave it up")));
                }
            }
        }
        self.note_goodbyes(&mut gone);
        self.doubted.retain(|peer| {
            let silent = net
                .link(*peer, |link| link.peer_silence(now))
                .is_none_or(|silence| silence >= GONE_SILENCE);
            if silent {
                gone.push((*peer, "the server says it left, and both paths are silent"));
            }
            !silent
        });
        // Before that nobody need have said anything yet; meeting has a limit of its own.
        if matches!(
            self.phase,
            SessionPhase::Between
                | SessionPhase::Starting
                | SessionPhase::Playing
                | SessionPhase::Ending
        ) {
            let silent = self.remotes().filter(|seat| {
                net.link(seat.peer, |link| link.peer_silence(now))
                    .is_none_or(|silence| silence >= LOST_SILENCE)
            });
            gone.extend(silent.map(|seat| (seat.peer, "nothing came from it for 35 s")));
        }
        for (peer, reason) in gone {
            let Some(player) = self.player_of(peer) else {
                continue;
            };
            if !self.is_gone(peer) {
                self.gone.push((peer, reason));
                world.write_message(PeerNotice::Gone {
                    player,
                    at: now,
                    reason,
                });
            }
        }
    }

    /// Notes who said goodbye, and before them who is gone by the word of others: whoever leaves
    /// first takes all others along, and a peer may hear of that only from one of them.
    fn note_goodbyes(&mut self, gone: &mut Vec<(PeerId, &'static str)>) {
        let mut left = std::mem::take(&mut self.left);
        left.sort_by_key(|(_, reason)| matches!(reason, ByeReason::PeerGone { .. }));
        for (peer, reason) in left.drain(..) {
            let why = match reason {
                ByeReason::Finished | ByeReason::Left => "it said goodbye",
                ByeReason::Mismatch | ByeReason::Failed => "its session failed",
                ByeReason::PeerGone { player } => {
                    let first = self.seats.iter().find(|s| s.handle == usize::from(player));
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
        self.left = left;
    }
}
