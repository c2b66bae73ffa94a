//! The state machine of a lab session, from the first answer of the server to the last episode: one
//! step per update. The only place that builds, moves and drops ggrs sessions.
//!
//! `listen.rs` takes in what came, `meet.rs` holds the phases until all players are there and agree,
//! `start.rs` the way into an episode, `play.rs` the episode and its end, `leave.rs` leaving the room.

mod leave;
mod listen;
mod meet;
mod play;
mod start;
mod stuck;
mod waiting;

use std::time::Duration;

use bevy::ecs::message::MessageCursor;
use bevy::prelude::*;
use bevy_ggrs::{ConfirmedFrameCount, Session};
use bevy_matchbox::matchbox_socket::PeerId;
use ggrs::{Config, Frame, NULL_FRAME, P2PSession};

use self::leave::LEAVE_MAX;
pub use self::leave::LeaveLab;
pub(super) use self::leave::{leave_on_exit, request_leave};
pub use self::waiting::{WaitingFor, WaitingForPlayers};
use super::lobby;
use super::margin::MarginWatch;
use super::room::RoomView;
use super::routes::PendingRoutes;
use super::standstill::Standstill;
use super::{
    EpisodeAbandoned, EpisodeStarted, EpisodeStarting, ReadyForEpisode, SessionError,
    SessionFailed, SessionPhase, SessionSettings, episode,
};
use crate::clock::LabClock;
use crate::rollback::SessionEvent;
use crate::transport::LabNet;
use crate::transport::network::NetEvent;
use rollback_lab_link::link::IDLE_EPOCH;
use rollback_lab_link::wire::{ByeReason, ControlMessage};

pub(super) use self::start::begin_when_due;

/// What observers are triggered with after the step, when [`LabSession`] is back in the world: they
/// may read it, and trigger [`ReadyForEpisode`].
enum Trigger {
    Starting(EpisodeStarting),
    Started(EpisodeStarted),
    Failed(SessionFailed),
}

/// A peer's `ready` message.
struct Ready {
    peer: PeerId,
    epoch: u16,
    seed: u64,
}

/// A peer's `ended` message.
struct Ended {
    peer: PeerId,
    epoch: u16,
    end_frame: Frame,
    digest: u64,
}

/// The lab session of this peer.
///
/// ```
/// use bevy::prelude::*;
/// use bevy_ggrs::GgrsConfig;
/// use bevy_matchbox::matchbox_socket::PeerId;
/// use bevy_rollback_lab::prelude::*;
///
/// type Config = GgrsConfig<u8, PeerId>;
///
/// fn quit_when_failed(session: Res<LabSession<Config>>, mut exit: MessageWriter<AppExit>) {
///     if let Some(error) = session.failure() {
///         error!("{error}");
///         exit.write(AppExit::error());
///     }
/// }
/// # bevy::ecs::system::assert_is_system(quit_when_failed);
/// ```
#[derive(Resource)]
pub struct LabSession<C: Config<Address = PeerId>> {
    settings: SessionSettings,
    phase: SessionPhase,
    /// A network belongs to this session: it was joined, and `Idle` has not come since.
    joined: bool,
    /// When the phase began.
    since: Duration,
    /// The first step: how long an app takes to start is not held against the server.
    opened_at: Option<Duration>,
    room: RoomView,
    /// How long the players were waited for before they gathered last, and were not complete again.
    waited: Duration,
    /// Why a player was taken off last, before the first frame.
    taken_off: Option<SessionError>,
    /// Handshakes of the first episode that did not finish.
    failed_handshakes: u32,
    session_id: String,
    /// Peers whose `hello` came and agrees.
    greeted: Vec<PeerId>,
    ready: Vec<Ready>,
    ended: Vec<Ended>,
    /// Number of the running or next episode.
    number: u32,
    game_ready: bool,
    /// The way into the next episode.
    start: start::Start<C>,
    standstill: Standstill,
    /// End frame of an episode that stopped and whose record is not complete.
    stop: Option<Frame>,
    ended_sent: bool,
    /// The epoch of the episode that is starting is open, and the peers know that.
    opened: bool,
    triggers: Vec<Trigger>,
    margin: MarginWatch,
    /// The frame at which a peer ended and this one did not.
    desync: Option<Frame>,
    /// The ggrs session of an episode that stopped here and may go on elsewhere.
    lingering: Option<P2PSession<C>>,
    /// The newest frame confirmed while the game had its ggrs session.
    confirmed: Frame,
    failure: Option<SessionError>,
    /// How the session ended, for its document.
    end: Option<&'static str>,
    /// The game wants to leave, since the last step.
    leave_requested: bool,
    /// Since when this peer is leaving by its own wish: `Idle` follows.
    quit_at: Option<Duration>,
    /// When the room was left.
    closed_at: Option<Duration>,
    session_events: MessageCursor<SessionEvent>,
    events: Vec<NetEvent>,
    control: Vec<(PeerId, ControlMessage)>,
    changes: PendingRoutes,
}

impl<C: Config<Address = PeerId>> LabSession<C> {
    /// A session that connects by `settings`.
    pub(crate) fn new(settings: SessionSettings) -> Self {
        Self {
            phase: SessionPhase::Connecting,
            joined: true,
            ..Self::idle(settings)
        }
    }

    /// No session yet.
    pub(crate) fn idle(settings: SessionSettings) -> Self {
        Self {
            room: RoomView::new(settings.room.clone(), settings.players),
            settings,
            phase: SessionPhase::Idle,
            joined: false,
            waited: Duration::ZERO,
            taken_off: None,
            failed_handshakes: 0,
            since: Duration::ZERO,
            opened_at: None,
            session_id: String::new(),
            greeted: Vec::new(),
            ready: Vec::new(),
            ended: Vec::new(),
            number: 0,
            game_ready: false,
            start: start::Start::default(),
            standstill: Standstill::default(),
            stop: None,
            ended_sent: false,
            opened: false,
            triggers: Vec::new(),
            margin: MarginWatch::default(),
            desync: None,
            lingering: None,
            confirmed: NULL_FRAME,
            failure: None,
            end: None,
            leave_requested: false,
            quit_at: None,
            closed_at: None,
            session_events: MessageCursor::default(),
            events: Vec::new(),
            control: Vec::new(),
            changes: Vec::new(),
        }
    }

    /// The phase as of the last update.
    #[must_use]
    pub fn phase(&self) -> SessionPhase {
        self.phase
    }

    /// Why the session failed, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<&SessionError> {
        self.failure.as_ref()
    }

    /// How the session ended, for its document; none while it lives.
    pub(crate) fn end_reason(&self) -> Option<&'static str> {
        self.end
    }

    /// Whether a network belongs to this session.
    pub(crate) fn has_joined(&self) -> bool {
        self.joined
    }

    /// Name of the room.
    pub(crate) fn room(&self) -> &str {
        &self.settings.room
    }

    /// Fails without ever having had a network.
    pub(crate) fn refuse(&mut self, error: SessionError) {
        self.phase = SessionPhase::Failed;
        self.joined = false;
        self.end = Some(error.end_reason());
        self.failure = Some(error);
    }

    /// The id under which a peer writes its session document until all players are known: of the
    /// room, this peer, and the server's nonce. A session that failed before the server assigned an
    /// id is identified by the time it began.
    pub(crate) fn provisional_id(&self, origin_unix_ms: u64) -> Option<String> {
        let room = self.room.name();
        let Some(local) = self.room.local() else {
            let nonce = u128::from(origin_unix_ms).to_le_bytes();
            let failed = self.phase == SessionPhase::Failed;
            return failed.then(|| lobby::session_id(room, &[], &nonce));
        };
        let alone = lobby::player_slots(local, &[(0, local)]);
        Some(lobby::session_id(room, &alone, self.room.nonce()))
    }

    /// The epoch of the running or next episode. It counts from a number that only those share who have
    /// gathered together: before the first frame another player may take the place of one who left, and
    /// what was on its way to the old group is none of the new one's.
    fn epoch(&self) -> u16 {
        // Remainders fit. The last value stands for no episode at all.
        let first = lobby::first_epoch(&self.session_id, IDLE_EPOCH);
        ((u32::from(first) + self.number % u32::from(IDLE_EPOCH)) % u32::from(IDLE_EPOCH)) as u16
    }

    /// Reports to every other peer that this one's tab or window is hidden, or visible again.
    pub(super) fn report_hidden(&self, net: &LabNet, hidden: bool) {
        let message = if hidden {
            ControlMessage::Hidden
        } else {
            ControlMessage::Visible
        };
        let present = |peer: &PeerId| !self.room.is_gone(*peer);
        for peer in self.room.remotes().map(|slot| slot.peer).filter(present) {
            net.send_control(peer, message.clone());
        }
    }

    /// Sends a control message to every other player.
    fn send_to_all(&self, net: &LabNet, message: &ControlMessage) {
        for player_slot in self.room.remotes() {
            net.send_control(player_slot.peer, message.clone());
        }
    }

    /// One step, from what came to what is due.
    fn step(&mut self, world: &mut World, net: &LabNet, now: Duration) {
        if self.phase == SessionPhase::Idle {
            // A network in the world is for the session to come.
            self.leave_requested = false;
            return;
        }
        self.follow_session(world);
        self.receive(world, net, now);
        self.notice_gone(world, net, now);
        if let Some(error) = self.failure.take() {
            if self.is_over() {
                self.failure = Some(error);
            } else {
                self.fail(world, net, now, error);
            }
        }
        if std::mem::take(&mut self.leave_requested) {
            self.quit(world, net, now);
        }
        match self.phase {
            SessionPhase::Idle => {}
            SessionPhase::Connecting => self.connecting(world, net, now),
            SessionPhase::Gathering => self.gathering(world, net, now),
            SessionPhase::Meeting => self.meeting(world, net, now),
            SessionPhase::Between => self.between(world, net, now),
            SessionPhase::Starting => self.starting(world, net, now),
            SessionPhase::Playing => self.playing(world, net, now),
            SessionPhase::Ending => self.ending(world, net, now),
            SessionPhase::Leaving => self.leaving(world, net, now),
            SessionPhase::Finished | SessionPhase::Failed => {
                self.close_when_acknowledged(net, now, LEAVE_MAX);
            }
        }
        self.show_waiting(world, net, now);
    }

    /// Keeps how far the episode is confirmed: `bevy_ggrs` starts its counts again when its session is
    /// gone.
    fn follow_session(&mut self, world: &World) {
        if world.contains_resource::<Session<C>>() {
            self.confirmed = world.resource::<ConfirmedFrameCount>().0;
        }
    }

    /// Whether nothing that comes can change how the session ends.
    fn is_over(&self) -> bool {
        matches!(
            self.phase,
            SessionPhase::Idle
                | SessionPhase::Leaving
                | SessionPhase::Finished
                | SessionPhase::Failed
        )
    }

    /// Whether players may still come and go: before the first frame, once a group has gathered.
    fn is_open(&self) -> bool {
        let met = matches!(
            self.phase,
            SessionPhase::Meeting | SessionPhase::Between | SessionPhase::Starting
        );
        met && self.number == 0
    }

    fn enter(&mut self, world: &mut World, phase: SessionPhase, now: Duration) {
        debug!(
            "session phase {} -> {}",
            self.phase.as_str(),
            phase.as_str()
        );
        self.phase = phase;
        self.since = now;
        world.resource_mut::<NextState<SessionPhase>>().set(phase);
    }

    /// The session cannot go on, unless the room is open: then the players who did not answer are taken
    /// off, and the others gather again.
    fn fail(&mut self, world: &mut World, net: &LabNet, now: Duration, error: SessionError) {
        let off = self.unanswering(net, now, &error);
        if !off.is_empty() {
            self.taken_off = Some(error);
            self.take_off_silent(world, net, now, &off);
            return;
        }
        error!("lab session failed: {error}");
        let reason = bye_reason(&error);
        self.send_to_all(net, &ControlMessage::Bye { reason });
        self.stop_here(world, now, error.end_reason(), true);
        self.finalize(world);
        // An episode that was still waiting or shaking hands must not begin after all.
        self.abandon(world, net, now);
        self.end = Some(error.end_reason());
        self.failure = Some(error.clone());
        self.enter(world, SessionPhase::Failed, now);
        self.triggers.push(Trigger::Failed(SessionFailed { error }));
    }

    /// Ends the ggrs session, and drops the record of an episode that did not begin.
    fn abandon(&mut self, world: &mut World, net: &LabNet, now: Duration) {
        if self.phase == SessionPhase::Starting {
            world.write_message(EpisodeAbandoned);
        }
        self.close_episode(world, net, now);
    }
}

/// What a failed session reports to the others: who is gone, if that is why.
fn bye_reason(error: &SessionError) -> ByeReason {
    let gone = match error {
        SessionError::PeerGone { player, .. } => u8::try_from(*player).ok(),
        _ => None,
    };
    gone.map_or(ByeReason::Failed, |player| ByeReason::PeerGone { player })
}

/// Steps the session, then triggers the observers of what happened.
pub(super) fn drive<C: Config<Address = PeerId>>(world: &mut World) {
    let net = world.get_resource::<LabNet>().cloned();
    let now = world.resource::<LabClock>().now();
    let triggers = world.try_resource_scope(|world, mut session: Mut<LabSession<C>>| {
        match &net {
            Some(net) => session.step(world, net, now),
            None => session.step_offline(world, now),
        }
        std::mem::take(&mut session.triggers)
    });
    for trigger in triggers.unwrap_or_default() {
        match trigger {
            Trigger::Starting(starting) => {
                episode::reset(world, starting.number, starting.seed);
                world.trigger(starting);
            }
            Trigger::Started(started) => {
                episode::warn_if_empty(world);
                world.trigger(started);
            }
            Trigger::Failed(failed) => world.trigger(failed),
        }
    }
}

/// Notes that the game wants the next episode.
pub(super) fn record_ready<C: Config<Address = PeerId>>(
    _: On<ReadyForEpisode>,
    mut session: ResMut<LabSession<C>>,
) {
    session.game_ready = true;
}
