//! What a lab session takes in at every step: events of the network, messages of its peers, and the
//! silence of those that are gone.

use std::time::Duration;

use bevy::prelude::*;
use bevy_matchbox::matchbox_socket::PeerId;
use ggrs::Config;

use super::{Ended, LabSession, Ready};
use crate::rollback::{SessionEvent, SessionEventKind};
use crate::session::room::{Absent, RoomEvent};
use crate::session::{PeerNotice, SessionError, SessionPhase, routes};
use crate::transport::LabNet;
use crate::transport::network::NetEvent;
use rollback_lab_link::wire::ControlMessage;

/// ggrs has its own idea of a lost peer, a day of silence: `GGRS_DISCONNECT` in `start.rs`.
const GIVEN_UP: &str = "ggrs gave it up";
/// Messages kept until the player slots are assigned: a peer sends a handful until then, and three can.
const KEPT_CONTROL: usize = 256;

impl<C: Config<Address = PeerId>> LabSession<C> {
    pub(super) fn receive(&mut self, world: &mut World, net: &LabNet, now: Duration) {
        let mut events = std::mem::take(&mut self.events);
        net.drain_events(&mut events);
        for event in events.drain(..) {
            self.on_network(world, net, event);
        }
        self.events = events;
        self.receive_control(world, net, now);
        routes::report_changes(net, &self.room, &mut self.changes, |changed| {
            world.write_message(changed);
        });
    }

    /// A peer that was the first to see all players sends its `hello` at once; it waits until the player
    /// slots are assigned here.
    fn receive_control(&mut self, world: &mut World, net: &LabNet, now: Duration) {
        if self.room.player_slots().is_empty() {
            let mut new = Vec::new();
            net.drain_control(&mut new);
            for (peer, message) in new {
                self.keep_control(now, peer, message);
            }
            return;
        }
        let mut control = std::mem::take(&mut self.control);
        net.drain_control(&mut control);
        for (peer, message) in control.drain(..) {
            self.on_control(world, now, peer, message);
        }
        self.control = control;
    }

    /// Keeps a message until the player slots are assigned, or forgets what a peer sent that left again.
    fn keep_control(&mut self, now: Duration, peer: PeerId, message: ControlMessage) {
        match message {
            ControlMessage::Bye { reason } => {
                self.control.retain(|(of, _)| *of != peer);
                self.greeted.retain(|greeted| *greeted != peer);
                self.ready.retain(|ready| ready.peer != peer);
                self.room.record_absence(peer, reason, now);
                return;
            }
            ControlMessage::Hello(_) => self.room.readmit(peer),
            _ => {}
        }
        if self.control.len() >= KEPT_CONTROL {
            self.control.remove(0);
        }
        self.control.push((peer, message));
    }

    fn on_network(&mut self, world: &mut World, net: &LabNet, event: NetEvent) {
        let Some(event) = self.room.apply(event) else {
            return;
        };
        if self.is_over() {
            return;
        }
        match event {
            RoomEvent::Failed(error) => {
                self.failure.get_or_insert(error);
            }
            event => {
                event.log();
                if let Some(notice) = event.notice(net.now()) {
                    world.write_message(notice);
                }
            }
        }
    }

    fn on_control(
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
            // The first one counts; a later one changes nothing about a match that runs. A peer repeats
            // it when it gathered again.
            ControlMessage::Hello(_) if self.greeted.contains(&peer) => self.room.readmit(peer),
            ControlMessage::Hello(theirs) => {
                self.room.readmit(peer);
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
                // A peer cannot end an episode that this one has not begun.
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
            ControlMessage::Synchronized { epoch } => self.record_synchronized(peer, epoch),
            ControlMessage::StartAt { epoch, at_us } => self.record_instant(player, epoch, at_us),
            // A lab session ends when a player leaves.
            ControlMessage::LastInputs { .. } => {}
            ControlMessage::Bye { reason } => {
                debug!("player {player} left: {reason:?}");
                self.room.record_leave(peer, reason);
            }
        }
    }

    /// Reports peers that left by their own message, or from whom nothing comes any more. Before the first
    /// frame the others gather again.
    pub(super) fn notice_gone(&mut self, world: &mut World, net: &LabNet, now: Duration) {
        let silence = |peer| net.link(peer, |link| link.peer_silence(now));
        if self.is_open() {
            // Meeting has a limit of its own.
            let met = self.phase != SessionPhase::Meeting;
            let off = self.room.find_absent(met, now, silence);
            // Settings that differ are the reason of both, not that one of them left.
            if let Some(&Absent { player, reason, .. }) = off.first()
                && self.failure.is_none()
            {
                self.taken_off = Some(SessionError::PeerGone { player, reason });
                self.gather_again(world, net, now, &off);
            }
            return;
        }
        let mut gone = Vec::new();
        if let Some(events) = world.get_resource::<Messages<SessionEvent>>() {
            for event in self.session_events.read(events) {
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
        gone.extend(self.room.find_gone(met, silence));
        for (player, reason) in gone {
            world.write_message(PeerNotice::Gone {
                player,
                at: now,
                reason,
            });
        }
    }
}
