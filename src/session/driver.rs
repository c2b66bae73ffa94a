//! The state machine of a lab session, from the first answer of the server to the last episode: one
//! step per update. The only place that builds, moves and drops ggrs sessions.
//!
//! `listen.rs` takes in what came, `meet.rs` holds the phases until all players are there and agree,
//! `start.rs` the way into an episode, `play.rs` the episode, its end and leaving the room.

mod listen;
mod meet;
mod play;
mod start;
mod stuck;

use std::time::Duration;

use bevy::ecs::message::MessageCursor;
use bevy::prelude::*;
use bevy_matchbox::matchbox_socket::PeerId;
use ggrs::{Config, Frame, P2PSession};

use super::lobby;
use super::margin::MarginWatch;
use super::room::RoomView;
use super::routes::PendingRoutes;
use super::standstill::Standstill;
use super::{
    EpisodeStarted, EpisodeStarting, ReadyForEpisode, SessionError, SessionFailed, SessionPhase,
    SessionSettings, episode,
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
    /// When the phase began.
    since: Duration,
    /// The first step: how long an app takes to start is not held against the server.
    opened_at: Option<Duration>,
    room: RoomView,
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
    failure: Option<SessionError>,
    quit: bool,
    /// The room is left.
    closed: bool,
    session_events: MessageCursor<SessionEvent>,
    events: Vec<NetEvent>,
    control: Vec<(PeerId, ControlMessage)>,
    changes: PendingRoutes,
}

impl<C: Config<Address = PeerId>> LabSession<C> {
    pub(super) fn new(settings: SessionSettings) -> Self {
        Self {
            room: RoomView::new(settings.room.clone(), settings.players),
            settings,
            phase: SessionPhase::Connecting,
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
            failure: None,
            quit: false,
            closed: false,
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
        match (self.phase, &self.failure) {
            (SessionPhase::Finished | SessionPhase::Failed, Some(error)) => {
                Some(error.end_reason())
            }
            (SessionPhase::Finished, None) if self.quit => Some("localQuit"),
            (SessionPhase::Finished, None) => Some("completed"),
            _ => None,
        }
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

    fn epoch(&self) -> u16 {
        // A remainder fits. The last value stands for no episode at all.
        (self.number % u32::from(IDLE_EPOCH)) as u16
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
        self.receive(world, net, now);
        self.notice_gone(world, net, now);
        if let Some(error) = self.failure.take() {
            if self.is_over() {
                self.failure = Some(error);
            } else {
                self.fail(world, net, now, error);
            }
        }
        match self.phase {
            SessionPhase::Connecting => self.connecting(world, net, now),
            SessionPhase::Gathering => self.gathering(world, net, now),
            SessionPhase::Meeting => self.meeting(world, net, now),
            SessionPhase::Between => self.between(world, net, now),
            SessionPhase::Starting => self.starting(world, net, now),
            SessionPhase::Playing => self.playing(world, net, now),
            SessionPhase::Ending => self.ending(world, net, now),
            SessionPhase::Finished | SessionPhase::Failed => self.finished(net, now),
        }
    }

    fn is_over(&self) -> bool {
        matches!(self.phase, SessionPhase::Finished | SessionPhase::Failed)
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

    fn fail(&mut self, world: &mut World, net: &LabNet, now: Duration, error: SessionError) {
        error!("lab session failed: {error}");
        let reason = bye_reason(&error);
        self.send_to_all(net, &ControlMessage::Bye { reason });
        self.stop_here(world, now, error.end_reason(), true);
        self.finalize(world);
        // An episode that was still waiting or shaking hands must not begin after all.
        self.close_episode(world, net, now);
        self.failure = Some(error.clone());
        self.enter(world, SessionPhase::Failed, now);
        self.triggers.push(Trigger::Failed(SessionFailed { error }));
    }

    /// The app exits: cuts a running episode short and leaves.
    fn leave(&mut self, world: &mut World, net: &LabNet, now: Duration) {
        if self.is_over() {
            return;
        }
        let reason = ByeReason::Left;
        self.send_to_all(net, &ControlMessage::Bye { reason });
        self.stop_here(world, now, "localQuit", true);
        self.finalize(world);
        self.close_episode(world, net, now);
        self.phase = SessionPhase::Finished;
        self.quit = true;
        net.flush_and_wait();
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
    let Some(net) = world.get_resource::<LabNet>().cloned() else {
        return;
    };
    let now = world.resource::<LabClock>().now();
    let triggers = world.try_resource_scope(|world, mut session: Mut<LabSession<C>>| {
        session.step(world, &net, now);
        std::mem::take(&mut session.triggers)
    });
    for trigger in triggers.unwrap_or_default() {
        match trigger {
            Trigger::Starting(starting) => {
                episode::reset(world, starting.number, starting.seed);
                world.trigger(starting);
            }
            Trigger::Started(started) => world.trigger(started),
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

/// Leaves the room when the app exits, so that the file of a running episode is written.
pub(super) fn leave_on_exit<C: Config<Address = PeerId>>(world: &mut World) {
    let exiting = world
        .get_resource::<Messages<AppExit>>()
        .is_some_and(|exits| !exits.is_empty());
    let Some(net) = world.get_resource::<LabNet>().cloned().filter(|_| exiting) else {
        return;
    };
    let now = world.resource::<LabClock>().now();
    world.try_resource_scope(|world, mut session: Mut<LabSession<C>>| {
        session.leave(world, &net, now);
    });
}
