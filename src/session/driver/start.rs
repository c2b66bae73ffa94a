//! The way into an episode: a clean world, the start barrier, the ggrs session.

use std::time::Duration;

use bevy::prelude::*;
use bevy_ggrs::{RollbackFrameRate, Session};
use bevy_matchbox::matchbox_socket::PeerId;
use ggrs::{
    Config, DesyncDetection, Frame, GgrsError, NULL_FRAME, P2PSession, PlayerType, SessionBuilder,
    SessionState,
};

use super::{LabSession, Trigger};
use crate::rollback::TraceLog;
use crate::session::input::fixed_input_bytes;
use crate::session::margin::MarginWatch;
use crate::session::{
    Episode, EpisodeStarted, EpisodeStarting, SessionError, SessionInfo, SessionPhase, lobby,
};
use crate::transport::{EpisodeBounds, LabNet};
use rollback_lab_link::wire::{ByeReason, ControlMessage};

/// ggrs's own handshake has no time limit; four round trips of a bad link fit into this.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Out of ggrs's reach: its own disconnect replaces the inputs of the lost player by defaults and
/// may roll back to a frame that it no longer holds. A day outlasts every silence that counts here.
const GGRS_DISCONNECT: Duration = Duration::from_secs(24 * 60 * 60);
/// ggrs's default; only a notice.
const DISCONNECT_NOTIFY: Duration = Duration::from_millis(500);

impl<C: Config<Address = PeerId>> LabSession<C> {
    pub(super) fn between(&mut self, world: &mut World, net: &LabNet, now: Duration) {
        if self
            .settings
            .episodes
            .is_some_and(|episodes| self.number >= episodes)
        {
            self.depart(world, net, now, ByeReason::Finished, "completed");
            return;
        }
        if self.fail_if_gone(world, net, now) {
            return;
        }
        if !self.settings.auto_start && !self.game_ready {
            return;
        }
        self.game_ready = false;
        let seed = lobby::episode_seed(self.settings.seed, &self.session_id, self.number);
        self.stop = None;
        self.ended_sent = false;
        self.confirmed = NULL_FRAME;
        self.built_at = None;
        self.opened = false;
        self.margin = MarginWatch::default();
        // Reports of episodes long over; epochs wrap.
        self.ended.clear();
        let local_player = world.resource::<SessionInfo>().local_player;
        self.triggers.push(Trigger::Starting(EpisodeStarting {
            number: self.number,
            seed,
            players: self.room.player_slots().len(),
            local_player,
        }));
        self.enter(world, SessionPhase::Starting, now);
    }

    /// The game has its world: opens the epoch and reports to the others that this peer is ready.
    fn open(&mut self, world: &World, net: &LabNet) {
        let (epoch, seed) = (self.epoch(), world.resource::<Episode>().seed());
        // Open before the barrier falls: a peer that passes it first may already send.
        net.start_epoch(
            epoch,
            EpisodeBounds {
                player_slots: self.room.owners(),
                input_bytes: fixed_input_bytes::<C>(),
                // Validated: both are small.
                max_prediction: self.settings.max_prediction as Frame,
                max_input_delay: self.settings.input_delay as Frame,
                desync_interval: Some(self.settings.desync_interval),
            },
        );
        self.send_to_all(net, &ControlMessage::Ready { epoch, seed });
        self.opened = true;
    }

    pub(super) fn starting(&mut self, world: &mut World, net: &LabNet, now: Duration) {
        if self.fail_if_gone(world, net, now) {
            return;
        }
        if !self.opened {
            self.open(world, net);
        }
        let Some(built_at) = self.built_at else {
            self.build_when_all_ready(world, net, now);
            return;
        };
        let running = matches!(
            world.get_resource::<Session<C>>(),
            Some(Session::P2P(session)) if session.current_state() == SessionState::Running
        );
        if running {
            self.triggers.push(Trigger::Started(EpisodeStarted {
                number: self.number,
            }));
            self.enter(world, SessionPhase::Playing, now);
        } else if now.saturating_sub(built_at) >= HANDSHAKE_TIMEOUT {
            let error = SessionError::HandshakeTimeout {
                episode: self.number,
                waited: HANDSHAKE_TIMEOUT,
            };
            self.fail(world, net, now, error);
        }
    }

    /// Builds the ggrs session once every peer is ready for this episode.
    fn build_when_all_ready(&mut self, world: &mut World, net: &LabNet, now: Duration) {
        let epoch = self.epoch();
        let all_ready = self.room.remotes().all(|player_slot| {
            self.ready
                .iter()
                .any(|r| r.peer == player_slot.peer && r.epoch == epoch)
        });
        if !all_ready {
            return;
        }
        let seed = world.resource::<Episode>().seed();
        if let Some(other) = self
            .ready
            .iter()
            .find(|r| r.epoch == epoch && r.seed != seed)
        {
            let error = SessionError::Mismatch {
                player: self.room.player_of(other.peer).unwrap_or_default(),
                field: "seed",
                ours: seed.to_string(),
                theirs: other.seed.to_string(),
            };
            self.fail(world, net, now, error);
            return;
        }
        match self.build(net) {
            Ok(session) => {
                let local: Vec<bool> = self
                    .room
                    .player_slots()
                    .iter()
                    .map(|player_slot| player_slot.local)
                    .collect();
                world.insert_resource(RollbackFrameRate(self.settings.fps as usize));
                let begun = world.resource_mut::<TraceLog<C>>().begin(&local, now);
                if begun.is_err() {
                    let players = local.len();
                    self.fail(world, net, now, SessionError::TooManyPlayers { players });
                    return;
                }
                world.insert_resource(Session::P2P(session));
                self.built_at = Some(now);
            }
            Err(error) => self.fail(world, net, now, SessionError::Ggrs(error)),
        }
    }

    fn build(&self, net: &LabNet) -> Result<P2PSession<C>, GgrsError> {
        let settings = &self.settings;
        let mut builder = SessionBuilder::<C>::new()
            .with_num_players(self.room.player_slots().len())?
            .with_fps(settings.fps as usize)?
            .with_max_prediction_window(settings.max_prediction as usize)
            .with_input_delay(settings.input_delay as usize)
            .with_disconnect_timeout(GGRS_DISCONNECT)
            .with_disconnect_notify_delay(DISCONNECT_NOTIFY)
            .with_desync_detection_mode(DesyncDetection::On {
                interval: settings.desync_interval,
            });
        for player_slot in self.room.player_slots() {
            let player = if player_slot.local {
                PlayerType::Local
            } else {
                PlayerType::Remote(player_slot.peer)
            };
            builder = builder.add_player(player, player_slot.handle)?;
        }
        builder.start_p2p_session(net.socket())
    }
}
