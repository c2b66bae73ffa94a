//! The steps of a [`LabRoom`] per update: its network is opened, its events are taken in, and the links
//! get where the game's session stands.

use std::time::Duration;

use bevy::prelude::*;
use bevy_ggrs::{RollbackFrameRate, Session};
use bevy_matchbox::matchbox_socket::PeerId;
use ggrs::Config;

use super::{LabRoom, epoch_of};
use crate::clock::LabClock;
use crate::rollback::Links;
use crate::session::margin::{advice, margins};
use crate::session::room::{Absent, RoomEvent};
use crate::session::routes::report_changes;
use crate::session::standstill::{Standstill, reports};
use crate::session::{PeerNotice, RouteChanged, SessionError, SessionFailed, SessionInfo};
use crate::transport::{InputDeparture, LabNet, MatchboxSettings};
use rollback_lab_link::conditions::Conditions;
use rollback_lab_link::ggrs_wire::MAX_INPUT_DELAY;
use rollback_lab_link::link::{IDLE_EPOCH, LinkSnapshot};
use rollback_lab_link::wire::ControlMessage;

/// Opens the network of a room that is new, and forgets that of one which is gone.
///
/// Runs in [`PreUpdate`] before the network is polled.
pub(super) fn open_room(
    mut commands: Commands,
    room: Option<ResMut<LabRoom>>,
    clock: Res<LabClock>,
    fps: Option<Res<RollbackFrameRate>>,
    links: Option<ResMut<Links>>,
    mut attended: Local<bool>,
) {
    let new = room.as_ref().is_some_and(|room| !room.opened);
    let gone = room.is_none() && std::mem::take(&mut *attended);
    if gone || new {
        commands.remove_resource::<SessionInfo>();
        commands.remove_resource::<LabNet>();
        if let Some(mut links) = links {
            links.clear();
        }
    }
    let Some(mut room) = room.filter(|_| new) else {
        return;
    };
    if let Some(fps) = fps {
        room.link.fps = u32::try_from(fps.0).unwrap_or(u32::MAX);
    }
    let net = room.net.clone().unwrap_or_else(|| {
        let settings = MatchboxSettings {
            ice: room.ice.clone(),
            ..MatchboxSettings::new(&room.url)
        };
        // Conditions are `LabNet`'s to change; without any, no seed matters.
        LabNet::open(
            settings,
            clock.clone(),
            room.link,
            &Conditions::default(),
            0,
        )
    });
    commands.insert_resource(net.clone());
    room.net = Some(net);
    room.opened = true;
    room.opened_at = clock.now();
    *attended = true;
}

/// Sets where the game's session stands for the links: what may come in, and the margin.
///
/// Runs in [`PreUpdate`] after ggrs's steps.
pub(super) fn follow_session<C: Config<Address = PeerId>>(
    room: Option<ResMut<LabRoom>>,
    session: Option<Res<Session<C>>>,
    clock: Res<LabClock>,
    time: Res<Time>,
    mut commands: Commands,
) {
    let (Some(room), Some(session)) = (room, session) else {
        return;
    };
    let room = room.into_inner();
    let (Some(net), Session::P2P(session)) = (&room.net, &*session) else {
        return;
    };
    net.set_current_frame(session.current_frame());
    net.set_skew(session.frames_ahead());
    let margins = margins(net, room.room.remotes());
    if let Some((player, ms)) = room.margin.watch(clock.now(), margins) {
        let link = &room.link;
        warn!(
            "{}",
            advice(
                link.fps,
                (link.input_delay, MAX_INPUT_DELAY.unsigned_abs()),
                player,
                ms
            )
        );
    }
    let stands = (session.current_frame(), session.confirmed_frame());
    let (slots, standstill) = (&room.room, &mut room.standstill);
    if time.delta().is_zero() {
        // A paused game waits for no other player.
        *standstill = Standstill::default();
        return;
    }
    let stuck = standstill.watch(clock.now(), stands, || {
        reports(net, clock.now(), slots.remotes())
    });
    // Whether the match goes on is up to its game.
    if let Some(error) = stuck {
        error!("room {}: {error}", room.room.name());
        commands.trigger(SessionFailed { error });
    }
}

/// Takes in what happened in the room, and reports it to the game.
///
/// Runs in [`PreUpdate`] after ggrs's steps.
pub(super) fn attend(
    room: Option<ResMut<LabRoom>>,
    clock: Res<LabClock>,
    mut commands: Commands,
    mut routes: MessageWriter<RouteChanged>,
    mut notices: MessageWriter<PeerNotice>,
) {
    let Some(room) = room else {
        return;
    };
    let (room, now) = (room.into_inner(), clock.now());
    let Some(net) = room.net.clone() else {
        return;
    };
    let failed = room.failure.is_some();
    room.receive(&net, now, &mut notices);
    report_changes(&net, &room.room, &mut room.changes, |changed| {
        routes.write(changed);
    });
    if room.room.player_slots().is_empty() && room.failure.is_none() {
        room.gather(&net, now, &mut commands);
    }
    if room.sessions == 0 {
        room.find_absent(&net, now, &mut notices, &mut commands);
    } else {
        room.find_gone(&net, now, &mut notices);
    }
    room.judge(&net);
    if let Some(error) = room.failure.clone().filter(|_| !failed) {
        error!("room {}: {error}", room.room.name());
        commands.trigger(SessionFailed { error });
    }
}

/// Throws away the departures of inputs that no record took.
///
/// Runs in [`Last`], after every record.
pub(super) fn drop_departures(
    net: Option<Res<LabNet>>,
    mut departures: Local<Vec<InputDeparture>>,
) {
    let Some(net) = net else {
        return;
    };
    net.drain_departures(&mut departures);
    departures.clear();
}

impl LabRoom {
    fn receive(&mut self, net: &LabNet, now: Duration, notices: &mut MessageWriter<PeerNotice>) {
        net.drain_events(&mut self.events);
        for event in self.events.drain(..) {
            match self.room.apply(event) {
                None => {}
                Some(RoomEvent::Failed(error)) => {
                    self.failure.get_or_insert(error);
                }
                Some(event) => {
                    event.log();
                    if let Some(notice) = event.notice(now) {
                        notices.write(notice);
                    }
                }
            }
        }
        if self.room.player_slots().is_empty() {
            // Messages of peers wait until the player slots are assigned.
            return;
        }
        net.drain_control(&mut self.control);
        for (peer, message) in self.control.drain(..) {
            let Some(player) = self.room.player_of(peer) else {
                continue;
            };
            match message {
                ControlMessage::Bye { reason } => self.room.record_leave(peer, reason),
                ControlMessage::Hidden => {
                    notices.write(PeerNotice::Hidden { player, at: now });
                }
                ControlMessage::Visible => {
                    notices.write(PeerNotice::Visible { player, at: now });
                }
                // Only lab sessions send it, and they wait for an answer that no game's own gives.
                ControlMessage::Hello(_) => {
                    self.failure.get_or_insert(SessionError::Mismatch {
                        player,
                        field: String::from("plugin"),
                        ours: String::from("LabSocketPlugin"),
                        theirs: String::from("RollbackLabPlugins"),
                    });
                }
                ControlMessage::LastInputs {
                    epoch,
                    player,
                    start_frame,
                    inputs,
                } => {
                    if epoch == epoch_of(self.sessions.wrapping_sub(1)) {
                        self.leaving.offer(usize::from(player), start_frame, inputs);
                    }
                }
                ControlMessage::Ready { .. }
                | ControlMessage::Ended { .. }
                | ControlMessage::Synchronized { .. }
                | ControlMessage::StartAt { .. } => {}
            }
        }
    }

    /// Links to all members who are there, and player slots once the room is complete.
    fn gather(&mut self, net: &LabNet, now: Duration, commands: &mut Commands) {
        let waited = now.saturating_sub(self.opened_at);
        let assigned = self.room.joined(waited).and_then(|joined| {
            if !joined {
                return Ok(false);
            }
            net.set_peers(&self.room.others());
            let silence = |peer| net.link(peer, |link| link.peer_silence(now));
            self.room.readmit_returned(now, silence);
            self.room.assign_player_slots()
        });
        if let Err(error) = assigned {
            self.failure = Some(error);
        }
        if let Some(info) = self.room.info() {
            net.set_player(info.local_player);
            commands.insert_resource(info);
        }
    }

    /// Before the first session the room is open: who leaves is taken off, and the others wait for another
    /// player.
    fn find_absent(
        &mut self,
        net: &LabNet,
        now: Duration,
        notices: &mut MessageWriter<PeerNotice>,
        commands: &mut Commands,
    ) {
        if self.failure.is_some() {
            return;
        }
        let others = self.room.others();
        let begun = |peer: &PeerId| {
            let epoch = net.link(*peer, LinkSnapshot::peer_epoch);
            epoch.is_some_and(|epoch| epoch != IDLE_EPOCH)
        };
        if self.room.player_slots().is_empty() {
            // Packets of a match between others look like those of a match with this peer.
            if self.reopened && others.iter().any(begun) {
                self.failure = Some(SessionError::RoomRefused {
                    room: self.room.name().to_owned(),
                    code: 0,
                    reason: String::from("the others began their match while a player left"),
                });
            }
            return;
        }
        let silence = |peer| net.link(peer, |link| link.peer_silence(now));
        let off = self.room.find_absent(self.met, now, silence);
        let Some(&Absent { player, reason, .. }) = off.first() else {
            return;
        };
        let left = |peer: &PeerId| off.iter().any(|of| of.peer == *peer);
        if others.iter().any(|peer| !left(peer) && begun(peer)) {
            self.failure = Some(SessionError::PeerGone { player, reason });
            return;
        }
        for &Absent { player, reason, .. } in &off {
            info!("player {player} is taken off: {reason}; waiting for another one");
            let at = now;
            notices.write(PeerNotice::TakenOff { player, at, reason });
        }
        (self.ready, self.met, self.reopened) = (false, false, true);
        commands.remove_resource::<SessionInfo>();
        if let Err(error) = self.room.reopen() {
            self.failure = Some(error);
        }
    }

    fn find_gone(&mut self, net: &LabNet, now: Duration, notices: &mut MessageWriter<PeerNotice>) {
        let silence = |peer| net.link(peer, |link| link.peer_silence(now));
        for (player, reason) in self.room.find_gone(self.met, silence) {
            warn!("player {player} is gone: {reason}");
            self.leaving.begin(now, player, reason);
        }
        let epoch = epoch_of(self.sessions.wrapping_sub(1));
        let (leaving, room) = (&mut self.leaving, &mut self.room);
        leaving.attend(net, now, epoch, room, |notice| {
            notices.write(notice);
        });
        // Whether a match goes on without them is up to its game.
        if let Some(error) = self.leaving.take_failure() {
            self.failure.get_or_insert(error);
        }
    }

    fn judge(&mut self, net: &LabNet) {
        let no_path = |peer| net.link(peer, |link| link.failed().is_some()) == Some(true);
        if self.failure.is_none() {
            self.failure = self.room.unreachable(no_path);
        }
        self.ready = !self.room.player_slots().is_empty()
            && self.failure.is_none()
            && self.room.first_gone().is_none()
            && net.all_usable();
        self.met |= self.ready;
    }
}
