//! Players who leave a session that goes on: what of their inputs ggrs gets, and when it may learn that
//! they are gone. The decisions are in `rollback_lab_link::ggrs_wire`.

use bevy::log::debug;
use bevy_matchbox::matchbox_socket::PeerId;
use ggrs::Frame;

use super::GameSide;
use rollback_lab_link::ggrs_wire::{self, MAX_MESSAGE};

impl GameSide {
    /// The running session goes on when a player leaves: a game's own, until the next epoch.
    pub(in crate::transport) fn let_players_leave(&mut self) {
        self.players_may_leave = true;
    }

    /// Where the running session stands, if players may leave it: its current frame and its window.
    pub(in crate::transport) fn leavable(&self) -> Option<(Frame, Frame)> {
        let bounds = self.bounds.as_ref().filter(|_| self.players_may_leave)?;
        Some((self.current_frame, bounds.max_prediction))
    }

    /// From now on no input of `id` reaches ggrs.
    pub(in crate::transport) fn close_inputs(&mut self, id: PeerId) {
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.id == id) {
            peer.inputs.close();
        }
    }

    /// Hands over inputs of `id` that another peer got from it: `inputs` as ggrs encodes them.
    pub(in crate::transport) fn take_in_for(
        &mut self,
        id: PeerId,
        start_frame: Frame,
        inputs: &[u8],
    ) {
        let (now, current_frame) = (self.clock.now(), self.current_frame);
        let Some(bounds) = self.bounds.as_ref().filter(|_| self.players_may_leave) else {
            return;
        };
        let Some(index) = self.peers.iter().position(|peer| peer.id == id) else {
            return;
        };
        let peer = &mut self.peers[index];
        let Some(magic) = peer.magic else {
            return;
        };
        let mut packet = [0; MAX_MESSAGE];
        let players = bounds.player_slots.len();
        let written = ggrs_wire::stand_in(magic, players, (start_frame, inputs), &mut packet);
        let Ok(length) = written else {
            return;
        };
        let payload = &packet[..length];
        if peer.inputs.is_closed() {
            return;
        }
        // The peer itself stays as silent as it was: more of its inputs may be passed on.
        let heard = now.saturating_sub(peer.inputs.silence(now));
        let Ok((message, checked)) = peer.check(payload, bounds, current_frame, heard) else {
            return;
        };
        let Some(newest) = checked.newest_input_frame else {
            return;
        };
        debug!("inputs {start_frame} to {newest} of a silent peer came from another one");
        peer.record_received(&checked);
        for other in self.peers.iter_mut().filter(|other| other.id != id) {
            other.record_other(bounds, id, newest);
        }
        self.inbox.push((id, message));
    }

    /// Lets ggrs read what the other peers report of `id`: it disconnects the player if the game has
    /// not done it.
    pub(in crate::transport) fn release(&mut self, id: PeerId) {
        let (now, current_frame) = (self.clock.now(), self.current_frame);
        let Some(bounds) = self.bounds.as_ref().filter(|_| self.players_may_leave) else {
            return;
        };
        let mut handle = None;
        for peer in &mut self.peers {
            for (at, slot) in bounds.player_slots.iter().enumerate() {
                if *slot == Some(id) {
                    peer.players[at].disconnected = true;
                    handle = Some(at);
                }
            }
        }
        let Some(handle) = handle else {
            return;
        };
        for peer in &mut self.peers {
            let reports = peer
                .inputs
                .reported(handle)
                .is_some_and(|(disconnected, _)| disconnected);
            if peer.id == id || !reports {
                continue;
            }
            let Some(packet) = peer.inputs.newest_packet().map(<[u8]>::to_vec) else {
                continue;
            };
            let again = peer.check(&packet, bounds, current_frame, now);
            self.inbox
                .extend(again.ok().map(|(message, _)| (peer.id, message)));
        }
    }

    /// Keeps ggrs from counting its time-out while it could not disconnect a silent peer without a
    /// failed assertion.
    pub(super) fn hold_time_outs(&mut self) {
        let Some((current_frame, window)) = self.leavable() else {
            return;
        };
        let now = self.clock.now();
        for peer in &self.peers {
            let Some(magic) = peer.magic else {
                continue;
            };
            if !peer.inputs.holds_time_out(now, current_frame, window) {
                continue;
            }
            if let Ok(message) = ggrs_wire::keep_alive(magic) {
                self.inbox.push((peer.id, message));
            }
        }
    }
}
