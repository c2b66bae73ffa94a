//! Owns a running episode and its end: on confirmed frames, lingering until everybody has ended,
//! and leaving the room at last.

use super::*;
use crate::metrics::SessionMetrics;

impl<C: Config<Address = PeerId>> LabSession<C> {
    pub(super) fn playing(&mut self, world: &mut World, net: &LabNet, now: Duration) {
        if let Some(Session::P2P(session)) = world.get_resource::<Session<C>>() {
            net.set_current_frame(session.current_frame());
            net.set_skew(session.frames_ahead());
            let margins = margins(net, self.room.remotes());
            if let Some((player, ms)) = self.margin.watch(now, margins) {
                let (fps, delay) = (self.settings.fps, self.settings.input_delay);
                warn!("{}", advice(fps, delay, player, ms));
            }
        }
        let confirmed = world.resource::<ConfirmedFrameCount>().0;
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
        } else {
            self.fail_if_gone(world, net, now);
        }
    }

    /// The end that a peer told, if the same state is confirmed here and does not end.
    pub(super) fn disputed_end(&self, world: &World, confirmed: Frame) -> Option<Frame> {
        let flags = world.resource::<EndFlags>();
        self.ended
            .iter()
            .filter(|ended| ended.epoch == self.epoch())
            .map(|ended| ended.end_frame)
            .filter(|&frame| flags.goes_on(frame, confirmed))
            .min()
    }

    /// Takes the ggrs session out of the world; it keeps answering until everybody has ended.
    pub(super) fn stop_at(
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
            number: self.number,
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
        let confirmed = world.resource::<ConfirmedFrameCount>().0;
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
            let digest = world
                .get_resource::<SessionMetrics<C::Input>>()
                .and_then(|metrics| metrics.digest_at(end_frame))
                .unwrap_or(NO_DIGEST);
            for player_slot in self.room.remotes() {
                net.send_control(
                    player_slot.peer,
                    ControlMessage::Ended {
                        epoch,
                        end_frame,
                        digest,
                    },
                );
            }
            self.ended_sent = true;
        }
        let all_ended = self.room.remotes().all(|player_slot| {
            self.room.is_gone(player_slot.peer)
                || self
                    .ended
                    .iter()
                    .any(|e| e.peer == player_slot.peer && e.epoch == epoch)
        });
        if self.ended_sent && all_ended {
            self.settle(world);
            self.let_go(world, net, now);
            if let Some(frame) = self.desync.take() {
                self.fail(world, net, now, SessionError::Desync { frame });
                return;
            }
            self.number += 1;
            // Whether somebody is missing matters only if another episode follows.
            self.enter(world, SessionPhase::Between, now);
        } else if self.stop.is_some() && now.saturating_sub(self.since) >= SETTLE_TIMEOUT {
            warn!(
                "episode {}: not every peer told its end; its file says so",
                self.number
            );
            // The file does not wait any longer. A peer that stood still does: it needs the last
            // inputs of this one to reach the end.
            self.settle(world);
        }
    }

    /// Completes the record of the stopped episode with what the peers said.
    pub(super) fn settle(&mut self, world: &mut World) {
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
        world.write_message(EpisodeSettled {
            number: self.number,
            digests,
        });
    }

    /// Ends the ggrs session, running or lingering, and closes the packets of its episode.
    pub(super) fn let_go(&mut self, world: &mut World, net: &LabNet, now: Duration) {
        self.lingering = None;
        if world.remove_resource::<Session<C>>().is_some() {
            world.resource_mut::<TraceLog<C>>().close(now);
        }
        net.end_epoch();
    }

    pub(super) fn finished(&mut self, net: &LabNet, now: Duration) {
        let waited = now.saturating_sub(self.since);
        let heard = self.room.remotes().all(|player_slot| {
            self.room.is_gone(player_slot.peer)
                || net
                    .link(player_slot.peer, Link::unacked_control)
                    .unwrap_or(0)
                    == 0
        });
        if !self.closed && (waited >= FAREWELL_MAX || (heard && waited >= EXIT_WAIT)) {
            net.close();
            self.closed = true;
        }
    }
}
