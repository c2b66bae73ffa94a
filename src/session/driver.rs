//! Owns the state machine of a lab session: one step per update, from the server's first word to
//! the last episode. The only place that builds, moves and drops ggrs sessions.

mod listen;
mod meet;
mod play;
mod start;

use std::time::Duration;

use bevy::ecs::message::MessageCursor;
use bevy::prelude::*;
use bevy_ggrs::{ConfirmedFrameCount, RollbackFrameRate, Session};
use bevy_matchbox::matchbox_socket::PeerId;
use ggrs::{Config, DesyncDetection, Frame, P2PSession, PlayerType, SessionBuilder, SessionState};

use super::episode::{self, EndFlags, Episode};
use super::input::fixed_input_bytes;
use super::lobby;
use super::margin::{MarginWatch, advice, margins};
use super::room::{Heard, Room};
use super::routes;
use super::{
    EpisodeSettled, EpisodeStarted, EpisodeStarting, EpisodeStopped, Focus, PeerNotice,
    ReadyForEpisode, SessionError, SessionFailed, SessionInfo, SessionPhase, SessionSettings,
};
use crate::clock::LabClock;
use crate::rollback::{SessionEvent, SessionEventKind, TraceLog};
use crate::transport::network::NetEvent;
use crate::transport::{EpisodeBounds, LabNet};
use rollback_lab_link::link::{IDLE_EPOCH, Link};
use rollback_lab_link::wire::{ByeReason, ControlMessage};

/// Everybody is named and in the room: twice what a path may take to come up.
const MEETING_TIMEOUT: Duration = Duration::from_secs(30);
/// ggrs's own handshake waits for ever; four round trips of a bad link fit into this.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Out of ggrs's reach: its own disconnect replaces the inputs of the lost player by defaults and
/// may roll back to a frame that it no longer holds. A day outlasts every silence that counts here.
const GGRS_DISCONNECT: Duration = Duration::from_secs(24 * 60 * 60);
/// ggrs's default; only a notice.
const DISCONNECT_NOTIFY: Duration = Duration::from_millis(500);
/// How long the end of an episode waits for the others before its record is completed without
/// their word: a promotion and dozens of repeats of a lost message fit inside. With five seconds,
/// two matches of 3,000 stayed unverified on paths that lose a quarter in bursts of eight packets,
/// for little is sent then, and eight packets are seconds.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(10);
/// What a peer tells that computes no digest of its history.
const NO_DIGEST: u64 = 0;
/// How long leaving waits at least: the others' last messages want their acknowledgement too.
const EXIT_WAIT: Duration = Duration::from_millis(500);
/// How long it waits at most for the acknowledgement of its own: as long as the others wait for it
/// at the end of an episode.
const FAREWELL_MAX: Duration = SETTLE_TIMEOUT;

/// What observers are told once [`LabSession`] is back in the world: they may read it, and trigger
/// [`ReadyForEpisode`].
enum Telling {
    Starting(EpisodeStarting),
    Started(EpisodeStarted),
    Failed(SessionFailed),
}

struct Ready {
    peer: PeerId,
    epoch: u16,
    seed: u64,
}

struct Ended {
    peer: PeerId,
    epoch: u16,
    end_frame: Frame,
    digest: u64,
}

/// The lab session of this peer.
#[derive(Resource)]
pub struct LabSession<C: Config<Address = PeerId>> {
    settings: SessionSettings,
    phase: SessionPhase,
    since: Duration,
    /// The first step: how long an app takes to start is not held against the server.
    opened_at: Option<Duration>,
    room: Room,
    session_id: String,
    greeted: Vec<PeerId>,
    ready: Vec<Ready>,
    ended: Vec<Ended>,
    number: u32,
    game_ready: bool,
    built_at: Option<Duration>,
    stop: Option<Frame>,
    ended_sent: bool,
    /// The epoch of the episode that is starting is open, and the peers know that.
    opened: bool,
    tellings: Vec<Telling>,
    margin: MarginWatch,
    /// The frame at which a peer ended and this one did not.
    desync: Option<Frame>,
    lingering: Option<P2PSession<C>>,
    failure: Option<SessionError>,
    quit: bool,
    /// The room is left.
    closed: bool,
    told: MessageCursor<SessionEvent>,
    events: Vec<NetEvent>,
    control: Vec<(PeerId, ControlMessage)>,
    changes: routes::PendingRoutes,
}

impl<C: Config<Address = PeerId>> LabSession<C> {
    pub(super) fn new(settings: SessionSettings) -> Self {
        Self {
            room: Room::new(settings.room.clone(), settings.players),
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
            built_at: None,
            stop: None,
            ended_sent: false,
            opened: false,
            tellings: Vec::new(),
            margin: MarginWatch::default(),
            desync: None,
            lingering: None,
            failure: None,
            quit: false,
            closed: false,
            told: MessageCursor::default(),
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

    /// The id under which a peer leaves its trail until everybody is known: of the room, those who
    /// are there, and the server's nonce. A session that failed before the server named this peer
    /// is told apart by when it began.
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

    /// Tells every other peer that this one's tab or window is hidden, or visible again.
    pub(super) fn report_hidden(&self, net: &LabNet, hidden: bool) {
        let message = if hidden {
            ControlMessage::Hidden
        } else {
            ControlMessage::Visible
        };
        for player_slot in self
            .room
            .remotes()
            .filter(|player_slot| !self.room.is_gone(player_slot.peer))
        {
            net.send_control(player_slot.peer, message.clone());
        }
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
        let reason = exit_wait(&error);
        for player_slot in self.room.remotes() {
            net.send_control(player_slot.peer, ControlMessage::Bye { reason });
        }
        self.stop_here(world, now, error.end_reason(), true);
        self.settle(world);
        // An episode that was still waiting or shaking hands must not begin after all.
        self.let_go(world, net, now);
        self.failure = Some(error.clone());
        self.enter(world, SessionPhase::Failed, now);
        self.tellings.push(Telling::Failed(SessionFailed { error }));
    }
}

/// One step of the session.
pub(super) fn drive<C: Config<Address = PeerId>>(world: &mut World) {
    let Some(net) = world.get_resource::<LabNet>().cloned() else {
        return;
    };
    let now = world.resource::<LabClock>().now();
    let Some(mut session) = world.remove_resource::<LabSession<C>>() else {
        return;
    };
    session.take_in(world, &net, now);
    session.notice_gone(world, &net, now);
    if let Some(error) = session.failure.take() {
        if matches!(session.phase, SessionPhase::Failed | SessionPhase::Finished) {
            session.failure = Some(error);
        } else {
            session.fail(world, &net, now, error);
        }
    }
    match session.phase {
        SessionPhase::Connecting => session.connecting(world, &net, now),
        SessionPhase::Gathering => session.gathering(world, &net, now),
        SessionPhase::Meeting => session.meeting(world, &net, now),
        SessionPhase::Between => session.between(world, &net, now),
        SessionPhase::Starting => session.starting(world, &net, now),
        SessionPhase::Playing => session.playing(world, &net, now),
        SessionPhase::Ending => session.ending(world, &net, now),
        SessionPhase::Finished | SessionPhase::Failed => session.finished(&net, now),
    }
    let tellings = std::mem::take(&mut session.tellings);
    world.insert_resource(session);
    for telling in tellings {
        match telling {
            Telling::Starting(starting) => {
                episode::reset(world, starting.number, starting.seed);
                world.trigger(starting);
            }
            Telling::Started(started) => world.trigger(started),
            Telling::Failed(failed) => world.trigger(failed),
        }
    }
}

/// What a failed session tells the others: who is gone, if that is why.
fn exit_wait(error: &SessionError) -> ByeReason {
    let gone = match error {
        SessionError::PeerGone { player, .. } => u8::try_from(*player).ok(),
        _ => None,
    };
    gone.map_or(ByeReason::Failed, |player| ByeReason::PeerGone { player })
}

pub(super) fn record_ready<C: Config<Address = PeerId>>(
    _: On<ReadyForEpisode>,
    mut session: ResMut<LabSession<C>>,
) {
    session.game_ready = true;
}

/// Says goodbye when the app exits, and cuts a running episode short so that its file is written.
pub(super) fn leave_on_exit<C: Config<Address = PeerId>>(world: &mut World) {
    let exiting = world
        .get_resource::<Messages<AppExit>>()
        .is_some_and(|exits| !exits.is_empty());
    let Some(net) = world.get_resource::<LabNet>().cloned().filter(|_| exiting) else {
        return;
    };
    let now = world.resource::<LabClock>().now();
    let Some(mut session) = world.remove_resource::<LabSession<C>>() else {
        return;
    };
    if !matches!(session.phase, SessionPhase::Finished | SessionPhase::Failed) {
        for player_slot in session.room.remotes() {
            net.send_control(
                player_slot.peer,
                ControlMessage::Bye {
                    reason: ByeReason::Left,
                },
            );
        }
        session.stop_here(world, now, "localQuit", true);
        session.settle(world);
        session.let_go(world, &net, now);
        session.phase = SessionPhase::Finished;
        session.quit = true;
        net.poll();
    }
    world.insert_resource(session);
}
