//! A running episode and its end: on confirmed frames, lingering until all peers have ended.

use std::time::Duration;

use bevy::prelude::*;
use bevy_ggrs::Session;
use bevy_matchbox::matchbox_socket::PeerId;
use ggrs::{Config, Frame};

use super::LabSession;
use super::leave::QUIT_MAX;
use crate::clock::LabClock;
use crate::config::MAX_INPUT_DELAY;
use crate::metrics::SessionMetrics;
use crate::rollback::TraceLog;
use crate::session::episode::EndFlags;
use crate::session::margin::{advice, margins};
use crate::session::{EpisodeFinalized, EpisodeStopped, SessionError, SessionPhase};
use crate::transport::LabNet;
use rollback_lab_link::wire::{ByeReason, ControlMessage};

/// How long the end of an episode waits for the reports of the others before its record is completed
/// without them: a failover and dozens of repeats of a lost message fit inside. With five seconds,
/// two matches of 3,000 stayed unverified on paths that lose a quarter in bursts of eight packets,
/// for little is sent then, and eight packets are seconds.
pub(super) const END_REPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a peer that is there may take to reach the end, until the session fails: after the wait for its
/// report as long as one that is silent.
const ENDING_MAX: Duration = Duration::from_secs(45);
/// The digest in the `ended` message of a peer that computes none.
const NO_DIGEST: u64 = 0;
/// Reason of an episode whose ggrs session the game removed.
const SESSION_REMOVED: &str = "sessionRemoved";

impl<C: Config<Address = PeerId>> LabSession<C> {
    pub(super) fn playing(&mut self, world: &mut World, net: &LabNet, now: Duration) {
        let running = world.get_resource::<Session<C>>();
        let removed = running.is_none();
        if let Some(Session::P2P(session)) = running {
            net.set_current_frame(session.current_frame());
            net.set_skew(session.frames_ahead());
            let margins = margins(net, self.room.remotes());
            if let Some((player, ms)) = self.margin.watch(now, margins) {
                let (fps, delay) = (self.settings.fps, self.settings.input_delay);
                warn!("{}", advice(fps, (delay, MAX_INPUT_DELAY), player, ms));
            }
        }
        let confirmed = self.confirmed;
        let end = world
            .resource::<EndFlags>()
            .end(confirmed, self.settings.frame_limit);
        if let Some((end_frame, reason)) = end {
            self.stop_at(world, end_frame, reason, false);
            self.enter(world, SessionPhase::Ending, now);
        } else if let Some(frame) = self.disputed_end(world, confirmed) {
            // The other peer sends no inputs beyond its end: waiting would last for ever.
            self.stop_at(world, frame, "desync", true);
            self.desync = Some(frame);
            self.enter(world, SessionPhase::Ending, now);
        } else if removed {
            self.leave_removed(world, net, now);
        } else if !self.fail_if_gone(world, net, now) {
            self.fail_if_stuck(world, net, now);
        }
    }

    /// The game removed `bevy_ggrs`'s session, as games quit to a menu that delimit their own: this peer
    /// leaves, as by [`LeaveLab`](super::LeaveLab), and the file names that as the reason.
    fn leave_removed(&mut self, world: &mut World, net: &LabNet, now: Duration) {
        warn!(
            "the game removed the ggrs session of episode {}: leaving room {}; `LeaveLab` does so too",
            self.number, self.settings.room
        );
        self.quit_at = Some(now);
        self.stop_here(world, now, SESSION_REMOVED, true);
        self.depart(world, net, now, ByeReason::Left, "localQuit");
    }

    /// The end that a peer reports, if the same state is confirmed here and does not end.
    fn disputed_end(&self, world: &World, confirmed: Frame) -> Option<Frame> {
        let flags = world.resource::<EndFlags>();
        self.ended
            .iter()
            .filter(|ended| ended.epoch == self.epoch())
            .map(|ended| ended.end_frame)
            .filter(|&frame| flags.goes_on(frame, confirmed))
            .min()
    }

    /// Takes the ggrs session out of the world; it keeps answering until all peers have ended.
    fn stop_at(
        &mut self,
        world: &mut World,
        end_frame: Frame,
        reason: &'static str,
        partial: bool,
    ) {
        if let Some(Session::P2P(session)) = world.remove_resource::<Session<C>>() {
            self.lingering = Some(session);
        }
        let now = world.resource::<LabClock>().now();
        world.resource_mut::<TraceLog<C>>().close(now);
        self.stop = Some(end_frame);
        world.write_message(EpisodeStopped {
            end_frame,
            reason,
            partial,
        });
    }

    /// Cuts a running episode short at its newest confirmed state.
    pub(super) fn stop_here(
        &mut self,
        world: &mut World,
        now: Duration,
        reason: &'static str,
        partial: bool,
    ) {
        if self.phase != SessionPhase::Playing {
            return;
        }
        let confirmed = self.confirmed;
        let saved = world.resource::<EndFlags>().newest().unwrap_or(0);
        self.stop_at(
            world,
            saved.min(confirmed.saturating_add(1)).max(0),
            reason,
            partial,
        );
        self.since = now;
    }

    pub(super) fn ending(&mut self, world: &mut World, net: &LabNet, now: Duration) {
        if let Some(session) = &mut self.lingering {
            session.poll_remote_clients();
        }
        let epoch = self.epoch();
        if !self.ended_sent
            && let Some(end_frame) = self.stop
        {
            // The record has closed the episode in the update that stopped it.
            let digest = world
                .get_resource::<SessionMetrics<C::Input>>()
                .and_then(|metrics| metrics.digest_at(end_frame))
                .unwrap_or(NO_DIGEST);
            self.send_to_all(
                net,
                &ControlMessage::Ended {
                    epoch,
                    end_frame,
                    digest,
                },
            );
            self.ended_sent = true;
        }
        let missing = self
            .room
            .remotes()
            .find(|player_slot| {
                !self.room.is_gone(player_slot.peer)
                    && !self
                        .ended
                        .iter()
                        .any(|e| e.peer == player_slot.peer && e.epoch == epoch)
            })
            .map(|player_slot| player_slot.handle);
        let waited = now.saturating_sub(self.since);
        let impatient = self
            .quit_at
            .is_some_and(|at| now.saturating_sub(at) >= QUIT_MAX);
        if self.ended_sent && (missing.is_none() || impatient) {
            self.finalize(world);
            self.close_episode(world, net, now);
            if let Some(frame) = self.desync.take() {
                self.fail(world, net, now, SessionError::Desync { frame });
                return;
            }
            self.number += 1;
            if self.quit_at.is_some() {
                self.depart(world, net, now, ByeReason::Left, "localQuit");
                return;
            }
            // Whether a player is missing matters only if another episode follows.
            self.enter(world, SessionPhase::Between, now);
        } else if let Some(player) = missing.filter(|_| waited >= ENDING_MAX) {
            self.finalize(world);
            self.close_episode(world, net, now);
            self.fail(world, net, now, SessionError::NoAnswer { player, waited });
        } else if self.stop.is_some() && waited >= END_REPORT_TIMEOUT {
            warn!(
                "episode {}: not every peer reported its end; its file says so",
                self.number
            );
            // The file does not wait any longer. A peer that stood still does: it needs the last
            // inputs of this one to reach the end.
            self.finalize(world);
        }
    }

    /// Completes the record of the stopped episode with the reports of the peers.
    pub(super) fn finalize(&mut self, world: &mut World) {
        if self.stop.take().is_none() {
            return;
        }
        let epoch = self.epoch();
        let digests = self
            .ended
            .iter()
            .filter(|ended| ended.epoch == epoch && ended.digest != NO_DIGEST)
            .filter_map(|e| Some((self.room.player_of(e.peer)?, e.end_frame, e.digest)))
            .collect();
        world.write_message(EpisodeFinalized { digests });
    }

    /// Ends the ggrs session, running or lingering, and closes the packets of its episode.
    pub(super) fn close_episode(&mut self, world: &mut World, net: &LabNet, now: Duration) {
        self.lingering = None;
        self.start = super::start::Start::default();
        if world.remove_resource::<Session<C>>().is_some() {
            world.resource_mut::<TraceLog<C>>().close(now);
        }
        net.end_epoch();
    }
}
