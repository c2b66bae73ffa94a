//! Players who leave a running session of a [`LabRoom`](super::LabRoom): the survivors agree on their
//! last inputs, and the game is notified when ggrs can disconnect them.

use std::time::Duration;

use bevy::log::{debug, error};
use bevy_matchbox::matchbox_socket::PeerId;
use ggrs::{Frame, NULL_FRAME, PlayerHandle};

use crate::session::lobby::PlayerSlot;
use crate::session::room::RoomView;
use crate::session::{PeerNotice, SessionError};
use crate::transport::LabNet;
use rollback_lab_link::ggrs_wire::{self, Departure, DepartureStep, shares_inputs};
use rollback_lab_link::wire::ControlMessage;

/// Offered packets kept until they may be taken in: what two survivors share of two players.
const MAX_OFFERS: usize = 64;
/// How long a session whose window is a single frame waits before it fails: ggrs 0.13 cannot disconnect
/// a player in it.
const WINDOW_OF_ONE: Duration = Duration::from_secs(2);

/// A player who leaves.
struct Leaver {
    player: PlayerHandle,
    reason: &'static str,
    departure: Departure,
}

/// Inputs of a silent player that another peer offers.
struct Offer {
    player: PlayerHandle,
    start_frame: Frame,
    inputs: Vec<u8>,
}

/// The players who leave one session.
#[derive(Default)]
pub(super) struct Leaving {
    leavers: Vec<Leaver>,
    offers: Vec<Offer>,
    /// The newest input of a silent player that was passed on: player, to whom, frame.
    shared: Vec<(PlayerHandle, PlayerHandle, Frame)>,
    failure: Option<SessionError>,
    /// The failure was reported.
    failed: bool,
}

impl Leaving {
    /// A player is gone.
    pub(super) fn begin(&mut self, now: Duration, player: PlayerHandle, reason: &'static str) {
        self.leavers.push(Leaver {
            player,
            reason,
            departure: Departure::new(now),
        });
    }

    /// Another peer offers inputs of `player`.
    pub(super) fn offer(&mut self, player: PlayerHandle, start_frame: Frame, inputs: Vec<u8>) {
        if self.offers.len() < MAX_OFFERS {
            self.offers.push(Offer {
                player,
                start_frame,
                inputs,
            });
        }
    }

    /// Why no session can go on, if that is so.
    pub(super) fn take_failure(&mut self) -> Option<SessionError> {
        self.failure.take()
    }

    /// One step per update. Outside a session, notices are due at once.
    pub(super) fn attend(
        &mut self,
        net: &LabNet,
        now: Duration,
        epoch: u16,
        room: &mut RoomView,
        mut notify: impl FnMut(PeerNotice),
    ) {
        let Some(stands) = net.leavable() else {
            self.offers.clear();
            for leaver in self.leavers.drain(..) {
                if !leaver.departure.is_noticed() {
                    notify(leaver.notice());
                }
            }
            return;
        };
        self.find_reported(net, now, room);
        self.share(net, now, epoch, room);
        self.take_offers(net, now, room);
        for leaver in &mut self.leavers {
            leaver.step(net, now, room, stands, &mut notify);
        }
        let stuck = |leaver: &&Leaver| {
            !leaver.departure.is_noticed()
                && stands.1 == 1
                && now.saturating_sub(leaver.departure.since()) >= WINDOW_OF_ONE
        };
        let stuck = self.leavers.iter().find(stuck);
        if let Some(leaver) = stuck.filter(|_| !self.failed) {
            self.failed = true;
            error!("ggrs cannot go on without a player in a prediction window of one frame");
            self.failure = Some(SessionError::PeerGone {
                player: leaver.player,
                reason: leaver.reason,
            });
        }
    }

    fn is_leaving(&self, player: PlayerHandle) -> bool {
        self.leavers.iter().any(|leaver| leaver.player == player)
    }

    /// Players that another peer's ggrs has disconnected.
    fn find_reported(&mut self, net: &LabNet, now: Duration, room: &mut RoomView) {
        let found = room.remotes().find(|slot| {
            !room.is_gone(slot.peer)
                && others(room, slot.peer)
                    .any(|other| reported(net, other, slot.handle).is_some_and(|(gone, _)| gone))
        });
        let Some(player) = found.map(|slot| slot.handle) else {
            return;
        };
        let reason = "another player disconnected it";
        if room.give_up(player, reason) {
            self.begin(now, player, reason);
        }
    }

    /// Passes inputs of silent players on to those who have fewer of them.
    fn share(&mut self, net: &LabNet, now: Duration, epoch: u16, room: &RoomView) {
        for &PlayerSlot {
            handle: player,
            peer,
            ..
        } in room.remotes()
        {
            let silence = net.peer_inputs(peer, |peer_inputs| peer_inputs.silence(now));
            let leaving = self.is_leaving(player);
            if !silence.is_some_and(|silence| shares_inputs(silence, leaving)) {
                continue;
            }
            for other in others(room, peer) {
                // One that has sent no inputs yet does not show what it has.
                let Some((_, theirs)) = reported(net, other, player) else {
                    continue;
                };
                let (to, other) = (other.handle, other.peer);
                let after = self.passed_on(player, to).max(theirs);
                let packets = net.peer_inputs(peer, |peer_inputs| {
                    let packets = peer_inputs
                        .packets_after(after)
                        .filter_map(ggrs_wire::inputs);
                    packets
                        .map(|(start, inputs)| (start, inputs.to_vec()))
                        .collect::<Vec<_>>()
                });
                let newest = net.peer_inputs(peer, ggrs_wire::PeerInputs::last_frame);
                for (start_frame, inputs) in packets.unwrap_or_default() {
                    debug!("passing on inputs of player {player} to player {to}");
                    let message = ControlMessage::LastInputs {
                        epoch,
                        // Rooms have at most 64 members.
                        player: u8::try_from(player).unwrap_or(u8::MAX),
                        start_frame,
                        inputs,
                    };
                    net.send_control(other, message);
                }
                self.record_passed_on(player, to, newest.unwrap_or(NULL_FRAME));
            }
        }
    }

    fn passed_on(&self, player: PlayerHandle, to: PlayerHandle) -> Frame {
        let mut shared = self.shared.iter();
        let known = shared.find(|(of, known, _)| (*of, *known) == (player, to));
        known.map_or(NULL_FRAME, |(_, _, frame)| *frame)
    }

    fn record_passed_on(&mut self, player: PlayerHandle, to: PlayerHandle, newest: Frame) {
        self.shared
            .retain(|(of, known, _)| (*of, *known) != (player, to));
        self.shared.push((player, to, newest));
    }

    /// Takes in what others offer of players who are silent here as well.
    fn take_offers(&mut self, net: &LabNet, now: Duration, room: &RoomView) {
        let offers = std::mem::take(&mut self.offers);
        for offer in offers {
            let slot = room.remotes().find(|slot| slot.handle == offer.player);
            let Some(&PlayerSlot {
                handle: player,
                peer,
                ..
            }) = slot
            else {
                continue;
            };
            let silence = net.peer_inputs(peer, |peer_inputs| peer_inputs.silence(now));
            // A player who is heard brings its inputs itself.
            if silence.is_some_and(|silence| shares_inputs(silence, true)) {
                net.take_in(peer, offer.start_frame, &offer.inputs);
            } else if self.is_leaving(player) {
                self.offers.push(offer);
            }
        }
    }
}

impl Leaver {
    fn notice(&self) -> PeerNotice {
        PeerNotice::Gone {
            player: self.player,
            at: self.departure.since(),
            reason: self.reason,
        }
    }

    fn step(
        &mut self,
        net: &LabNet,
        now: Duration,
        room: &RoomView,
        stands: (Frame, Frame),
        notify: &mut impl FnMut(PeerNotice),
    ) {
        let player = self.player;
        let Some(peer) = room
            .remotes()
            .find(|slot| slot.handle == player)
            .map(|slot| slot.peer)
        else {
            return;
        };
        let known: Vec<Option<Frame>> = others(room, peer)
            .map(|other| reported(net, other, player).map(|(_, frame)| frame))
            .collect();
        let departure = &mut self.departure;
        let due = net.peer_inputs(peer, |peer_inputs| {
            departure.step(now, peer_inputs, known.into_iter(), stands)
        });
        let Some((close, due)) = due else {
            return;
        };
        if close {
            net.close_inputs(peer);
        }
        match due {
            DepartureStep::Wait => {}
            DepartureStep::Notice => notify(self.notice()),
            DepartureStep::Release => net.release(peer),
        }
    }
}

/// The other survivors.
fn others(room: &RoomView, peer: PeerId) -> impl Iterator<Item = &PlayerSlot> {
    room.remotes()
        .filter(move |slot| slot.peer != peer && !room.is_gone(slot.peer))
}

/// Whether `other` reports `player` as disconnected, and the newest input of that player that it has.
fn reported(net: &LabNet, other: &PlayerSlot, player: PlayerHandle) -> Option<(bool, Frame)> {
    net.peer_inputs(other.peer, |peer_inputs| peer_inputs.reported(player))?
}
