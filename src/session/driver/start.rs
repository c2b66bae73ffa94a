//! The way into an episode, in two phases: every peer builds and synchronizes its ggrs session outside
//! the world and reports it; then all begin at one instant of the common clock.
//!
//! The instant is proposed by the player in slot 0, on its own clock; every other peer converts it by
//! its estimate of that clock. `bevy_ggrs` steps by accumulated time, so what it has accumulated before
//! decides when the first step runs: [`FirstStep`] sees to it that this is the first update at or after
//! the instant.

use std::time::Duration;

use bevy::prelude::*;
use bevy_ggrs::{RollbackFrameRate, Session};
use bevy_matchbox::matchbox_socket::PeerId;
use ggrs::{
    Config, DesyncDetection, Frame, GgrsError, NULL_FRAME, P2PSession, PlayerHandle, PlayerType,
    SessionBuilder, SessionState,
};

use super::{LabSession, Trigger};
use crate::clock::LabClock;
use crate::rollback::TraceLog;
use crate::session::first_step::{FirstStep, Turn};
use crate::session::input::fixed_input_bytes;
use crate::session::margin::MarginWatch;
use crate::session::standstill::Standstill;
use crate::session::{
    Episode, EpisodeStarted, EpisodeStarting, SessionError, SessionInfo, SessionPhase, lobby,
};
use crate::transport::{EpisodeBounds, LabNet};
use rollback_lab_link::link::LinkSnapshot;
use rollback_lab_link::wire::{ByeReason, ControlMessage};

/// ggrs's own handshake has no time limit; four round trips of a bad link fit into this.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a peer that starts by itself may take to be ready: its last episode ends within 10 s, and
/// one that is silent is gone after 35 s.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the peers may take from their handshakes to the instant: as long as the handshakes, for
/// the same messages travel the same links.
const AGREEMENT_TIMEOUT: Duration = Duration::from_secs(10);
/// From the proposal to the instant, beside the longest round trip: a lost proposal is repeated after
/// 100 ms, so two repeats fit, and an update of a page that draws 20 frames a second.
const START_MARGIN: Duration = Duration::from_millis(250);
/// Round trip of a link that has not measured any yet: intercontinental.
const UNKNOWN_RTT: Duration = Duration::from_millis(200);
/// Out of ggrs's reach: its own disconnect replaces the inputs of the lost player by defaults and
/// may roll back to a frame that it no longer holds. A day outlasts every silence that counts here.
const GGRS_DISCONNECT: Duration = Duration::from_secs(24 * 60 * 60);
/// ggrs's default; only a notice.
const DISCONNECT_NOTIFY: Duration = Duration::from_millis(500);
/// The player who proposes the instant.
const PROPOSER: PlayerHandle = 0;

/// How far an episode that starts has come.
pub(super) struct Start<C: Config<Address = PeerId>> {
    /// The ggrs session, until it is in the world.
    session: Option<P2PSession<C>>,
    built_at: Option<Duration>,
    /// When this peer reported that its session is synchronized.
    synchronized_at: Option<Duration>,
    /// Peers that reported it.
    synchronized: Vec<PeerId>,
    /// The instant, in microseconds of the proposer's clock.
    at_us: Option<u64>,
    first_step: FirstStep,
}

impl<C: Config<Address = PeerId>> Default for Start<C> {
    fn default() -> Self {
        Self {
            session: None,
            built_at: None,
            synchronized_at: None,
            synchronized: Vec::new(),
            at_us: None,
            first_step: FirstStep::default(),
        }
    }
}

impl<C: Config<Address = PeerId>> LabSession<C> {
    /// A peer reports that its session is synchronized.
    pub(super) fn record_synchronized(&mut self, peer: PeerId, epoch: u16) {
        if epoch == self.epoch() && !self.start.synchronized.contains(&peer) {
            self.start.synchronized.push(peer);
        }
    }

    /// A peer proposes an instant. The first one of the proposer counts.
    pub(super) fn record_instant(&mut self, player: PlayerHandle, epoch: u16, at_us: u64) {
        if player == PROPOSER && epoch == self.epoch() {
            self.start.at_us.get_or_insert(at_us);
        }
    }

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
        self.start = Start::default();
        self.standstill = Standstill::default();
        self.confirmed = NULL_FRAME;
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
        if self.start.built_at.is_some() {
            self.start.first_step.restore(world, self.settings.fps);
            self.synchronize(net, now);
            self.propose(net, now);
            if self.start.first_step.begins_after() {
                self.begin(world, now);
            }
        } else if !self.build_when_all_ready(world, net, now) {
            return;
        }
        if world.contains_resource::<Session<C>>() {
            self.triggers.push(Trigger::Started(EpisodeStarted {
                number: self.number,
            }));
            self.enter(world, SessionPhase::Playing, now);
        } else if let Some(error) = self.overdue(now) {
            self.fail(world, net, now, error);
        }
    }

    /// Keeps the handshakes going, and reports once that all of them are done.
    fn synchronize(&mut self, net: &LabNet, now: Duration) {
        let Some(session) = &mut self.start.session else {
            return;
        };
        session.poll_remote_clients();
        if session.current_state() == SessionState::Running && self.start.synchronized_at.is_none()
        {
            let epoch = self.epoch();
            self.send_to_all(net, &ControlMessage::Synchronized { epoch });
            self.start.synchronized_at = Some(now);
        }
    }

    /// Proposes the instant, if that is up to this peer and all are synchronized.
    fn propose(&mut self, net: &LabNet, now: Duration) {
        let proposes = self
            .room
            .player_slots()
            .iter()
            .any(|player_slot| player_slot.local && player_slot.handle == PROPOSER);
        let all = self.start.synchronized_at.is_some() && self.missing_synchronized().is_empty();
        if !proposes || !all || self.start.at_us.is_some() {
            return;
        }
        let rtt = |peer| {
            net.link(peer, LinkSnapshot::srtt)
                .flatten()
                .unwrap_or(UNKNOWN_RTT)
        };
        let longest = self.room.remotes().map(|player_slot| rtt(player_slot.peer));
        let at = now + longest.max().unwrap_or_default() + START_MARGIN;
        let at_us = u64::try_from(at.as_micros()).unwrap_or(u64::MAX);
        let epoch = self.epoch();
        self.send_to_all(net, &ControlMessage::StartAt { epoch, at_us });
        self.start.at_us = Some(at_us);
    }

    /// Players who did not report that their session is synchronized.
    fn missing_synchronized(&self) -> Vec<PlayerHandle> {
        let missing = |peer: &PeerId| !self.start.synchronized.contains(peer);
        let slots = self.room.remotes();
        slots
            .filter(|player_slot| missing(&player_slot.peer))
            .map(|player_slot| player_slot.handle)
            .collect()
    }

    /// The instant by this peer's clock, once it is known.
    fn instant(&self, net: &LabNet) -> Option<Duration> {
        let at_us = self.start.at_us?;
        let proposer = self
            .room
            .player_slots()
            .iter()
            .find(|player_slot| player_slot.handle == PROPOSER)?;
        if proposer.local {
            return Some(Duration::from_micros(at_us));
        }
        // The estimate of now: it became better since the proposal came.
        let clock = net
            .link(proposer.peer, LinkSnapshot::clock_offset)
            .flatten()?;
        let own_us = i128::from(at_us) - i128::from(clock.offset_us);
        // An instant before this peer's origin is long past.
        let own_us = u64::try_from(own_us.max(0)).unwrap_or(u64::MAX);
        Some(Duration::from_micros(own_us))
    }

    /// What took too long, and who is missing.
    fn overdue(&self, now: Duration) -> Option<SessionError> {
        let late = |since: Option<Duration>, limit| {
            since.is_some_and(|since| now.saturating_sub(since) >= limit)
        };
        let episode = self.number;
        if late(self.start.synchronized_at, AGREEMENT_TIMEOUT) {
            let missing = self.missing_synchronized();
            let players = match missing[..] {
                [] => vec![PROPOSER],
                _ => missing,
            };
            let waited = AGREEMENT_TIMEOUT;
            return Some(SessionError::StartTimeout {
                episode,
                players,
                waited,
            });
        }
        let shaking = self.start.synchronized_at.is_none();
        if shaking && late(self.start.built_at, HANDSHAKE_TIMEOUT) {
            // A peer that has finished needs only answers of this one.
            let players = match &self.missing_synchronized()[..] {
                [] => self.room.remotes().map(|slot| slot.handle).collect(),
                missing => missing.to_vec(),
            };
            let waited = HANDSHAKE_TIMEOUT;
            return Some(SessionError::HandshakeTimeout {
                episode,
                players,
                waited,
            });
        }
        None
    }

    /// Puts the synchronized session into the world at the instant, before `bevy_ggrs` steps, or
    /// prepares the time that it accumulates.
    fn begin_when_due(&mut self, world: &mut World, net: &LabNet, now: Duration) {
        let Some(at) = self.instant(net) else {
            return;
        };
        let delta = world.resource::<Time>().delta();
        let turn = self
            .start
            .first_step
            .turn(now, at, delta, self.settings.fps);
        if turn == Turn::Begin {
            self.start.first_step.restore(world, self.settings.fps);
            // From its first frame on a match waits for players who are lost.
            net.set_running(true);
            net.frame_zero();
            self.begin(world, now);
        } else {
            self.start.first_step.apply(world);
        }
    }

    fn begin(&mut self, world: &mut World, now: Duration) {
        let Some(session) = self.start.session.take() else {
            return;
        };
        let slots = self.room.player_slots();
        let local: Vec<bool> = slots.iter().map(|player_slot| player_slot.local).collect();
        let players = local.len();
        if world
            .resource_mut::<TraceLog<C>>()
            .begin(&local, now)
            .is_err()
        {
            self.failure
                .get_or_insert(SessionError::TooManyPlayers { players });
            return;
        }
        world.insert_resource(Session::P2P(session));
    }

    /// Builds the ggrs session once every peer is ready for this episode; returns whether it is built.
    fn build_when_all_ready(&mut self, world: &mut World, net: &LabNet, now: Duration) -> bool {
        let epoch = self.epoch();
        let missing: Vec<PlayerHandle> = self
            .room
            .remotes()
            .filter(|player_slot| {
                let mut ready = self.ready.iter();
                !ready.any(|r| r.peer == player_slot.peer && r.epoch == epoch)
            })
            .map(|player_slot| player_slot.handle)
            .collect();
        if let Some(&player) = missing.first() {
            // A game that starts its episodes itself may wait for its player as long as it likes.
            if self.settings.auto_start && now.saturating_sub(self.since) >= READY_TIMEOUT {
                let waited = READY_TIMEOUT;
                self.fail(world, net, now, SessionError::NoAnswer { player, waited });
            }
            return false;
        }
        let seed = world.resource::<Episode>().seed();
        if let Some(other) = self
            .ready
            .iter()
            .find(|r| r.epoch == epoch && r.seed != seed)
        {
            let error = SessionError::Mismatch {
                player: self.room.player_of(other.peer).unwrap_or_default(),
                field: String::from("seed"),
                ours: seed.to_string(),
                theirs: other.seed.to_string(),
            };
            self.fail(world, net, now, error);
            return false;
        }
        match self.build(net) {
            Ok(session) => {
                self.set_frame_rate(world);
                self.start.session = Some(session);
                self.start.built_at = Some(now);
                true
            }
            Err(error) => {
                self.fail(world, net, now, SessionError::Ggrs(error));
                false
            }
        }
    }

    /// The rate is the session's: one that the game set is replaced.
    fn set_frame_rate(&self, world: &mut World) {
        let fps = self.settings.fps as usize;
        let before = world.get_resource::<RollbackFrameRate>().map(|rate| rate.0);
        // `GgrsPlugin` inserts a default of its own.
        let default = RollbackFrameRate::default().0;
        if let Some(rate) = before.filter(|&rate| rate != fps && rate != default) {
            warn!(
                "RollbackFrameRate({rate}) of this app is replaced by LabConfig::fps, {fps}: set \
                 the frame rate there"
            );
        }
        world.insert_resource(RollbackFrameRate(fps));
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

/// Begins an episode whose instant has come.
///
/// Runs in [`PreUpdate`] before `bevy_ggrs` steps.
pub(in crate::session) fn begin_when_due<C: Config<Address = PeerId>>(world: &mut World) {
    let waits = |session: &LabSession<C>| session.start.session.is_some();
    if !world.get_resource::<LabSession<C>>().is_some_and(waits) {
        return;
    }
    let Some(net) = world.get_resource::<LabNet>().cloned() else {
        return;
    };
    let now = world.resource::<LabClock>().now();
    world.try_resource_scope(|world, mut session: Mut<LabSession<C>>| {
        session.begin_when_due(world, &net, now);
    });
}
