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
use super::lobby::{self, Seat};
use super::margin::MarginWatch;
use super::{
    EpisodeSettled, EpisodeStarted, EpisodeStarting, EpisodeStopped, Focus, HistoryDigest,
    PeerNotice, ReadyForEpisode, RouteChanged, SessionError, SessionFailed, SessionInfo,
    SessionPhase, SessionSettings,
};
use crate::clock::LabClock;
use crate::rollback::{SessionEvent, SessionEventKind, TraceLog};
use crate::transport::ggrs_wire::{MAX_MESSAGE, MAX_VARIABLE_INPUT};
use crate::transport::link::{IDLE_EPOCH, Link};
use crate::transport::network::NetEvent;
use crate::transport::wire::relay::Notice;
use crate::transport::wire::{ByeReason, ControlMessage};
use crate::transport::{EpisodeBounds, LabNet};

/// A server that took the connection and never says a word. Above the 17 s of three attempts to
/// connect, whose own errors say more.
const CONNECTING_TIMEOUT: Duration = Duration::from_secs(20);
/// Everybody is named and in the room: twice what a path may take to come up.
const MEETING_TIMEOUT: Duration = Duration::from_secs(30);
/// ggrs's own handshake waits for ever; four round trips of a bad link fit into this.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Silence of a peer on both paths after which it is gone. Above the 30 s in which a lost server
/// connection may be resumed, so that a fail-over always fits inside; peers that are gone for good
/// are mostly known earlier, by `bye` or the server's word.
const LOST_SILENCE: Duration = Duration::from_secs(35);
/// Out of ggrs's reach: its own disconnect replaces the inputs of the lost player by defaults and
/// may roll back to a frame that it no longer holds. A day outlasts every silence that counts here.
const GGRS_DISCONNECT: Duration = Duration::from_secs(24 * 60 * 60);
/// ggrs's default; only a notice.
const DISCONNECT_NOTIFY: Duration = Duration::from_millis(500);
/// How long the end of an episode waits for the others before its record is completed without
/// their word: a promotion and several repeats of a lost message fit inside.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);
/// What a peer tells that computes no digest of its history.
const NO_DIGEST: u64 = 0;
/// How long leaving waits at least: the others' last messages want their acknowledgement too.
const FAREWELL: Duration = Duration::from_millis(500);
/// How long it waits at most for the acknowledgement of its own: as long as the others wait for it
/// at the end of an episode. With two seconds, one match of 1,000 on paths that lose a quarter in
/// bursts stayed unverified.
const FAREWELL_MAX: Duration = SETTLE_TIMEOUT;
/// Silence on both paths after which the server's word that a peer is gone is believed.
const GONE_SILENCE: Duration = Duration::from_secs(1);

/// What observers are told once [`LabSession`] is back in the world: they may read it, and trigger
/// [`ReadyForEpisode`].
enum Telling {
    Starting(EpisodeStarting),
    Started(EpisodeStarted),
    Failed(SessionFailed),
}

/// What else stands in an input message: its head and one status per player, and what a run-length
/// encoding adds to bytes that do not repeat.
const INPUT_OVERHEAD: usize = 160;
/// The largest input that one message can carry.
const MAX_INPUT_BYTES: usize = MAX_MESSAGE - INPUT_OVERHEAD;

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
    local: Option<PeerId>,
    members: Vec<(u8, PeerId)>,
    roster_known: bool,
    stock: bool,
    nonce: [u8; 16],
    seats: Vec<Seat>,
    session_id: String,
    greeted: Vec<PeerId>,
    ready: Vec<Ready>,
    ended: Vec<Ended>,
    left: Vec<PeerId>,
    doubted: Vec<PeerId>,
    gone: Vec<(PeerId, &'static str)>,
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
    changes: Vec<(PeerId, Option<Frame>, crate::transport::route::RouteChange)>,
}

impl<C: Config<Address = PeerId>> LabSession<C> {
    pub(super) fn new(settings: SessionSettings) -> Self {
        Self {
            settings,
            phase: SessionPhase::Connecting,
            since: Duration::ZERO,
            opened_at: None,
            local: None,
            members: Vec::new(),
            roster_known: false,
            stock: false,
            nonce: [0; 16],
            seats: Vec::new(),
            session_id: String::new(),
            greeted: Vec::new(),
            ready: Vec::new(),
            ended: Vec::new(),
            left: Vec::new(),
            doubted: Vec::new(),
            gone: Vec::new(),
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
        let room = &self.settings.room;
        let Some(local) = self.local else {
            let nonce = u128::from(origin_unix_ms).to_le_bytes();
            let failed = self.phase == SessionPhase::Failed;
            return failed.then(|| lobby::session_id(room, &[], &nonce));
        };
        let alone = lobby::seats(local, &[(0, local)]);
        Some(lobby::session_id(room, &alone, &self.nonce))
    }

    fn epoch(&self) -> u16 {
        // A remainder fits. The last value stands for no episode at all.
        (self.number % u32::from(IDLE_EPOCH)) as u16
    }

    fn remotes(&self) -> impl Iterator<Item = &Seat> {
        self.seats.iter().filter(|seat| !seat.local)
    }

    /// Tells every other peer that this one's tab or window is hidden, or visible again.
    pub(super) fn tell_hidden(&self, net: &LabNet, hidden: bool) {
        let message = if hidden {
            ControlMessage::Hidden
        } else {
            ControlMessage::Visible
        };
        for seat in self.remotes().filter(|seat| !self.is_gone(seat.peer)) {
            net.send_control(seat.peer, message.clone());
        }
    }

    fn player_of(&self, peer: PeerId) -> Option<usize> {
        self.seats
            .iter()
            .find(|seat| seat.peer == peer)
            .map(|seat| seat.handle)
    }

    fn is_gone(&self, peer: PeerId) -> bool {
        self.gone.iter().any(|(gone, _)| *gone == peer)
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
        for seat in self.remotes() {
            net.send_control(
                seat.peer,
                ControlMessage::Bye {
                    reason: ByeReason::Failed,
                },
            );
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
                world.insert_resource(HistoryDigest::default());
                world.trigger(starting);
            }
            Telling::Started(started) => world.trigger(started),
            Telling::Failed(failed) => world.trigger(failed),
        }
    }
}

/// Larger inputs are taken to have a fixed size; smaller ones may vary, as those of an enum do.
fn fixed_input_bytes<C: Config>() -> Option<usize> {
    let size = bincode::serialized_size(&C::Input::default()).ok()?;
    let size = usize::try_from(size).ok()?;
    (size > MAX_VARIABLE_INPUT).then_some(size)
}

/// An input whose size is fixed and that no datagram holds would never arrive.
pub(super) fn check_input<C: Config>() -> Result<(), String> {
    let size = bincode::serialized_size(&C::Input::default())
        .map_err(|error| format!("its default value cannot be serialized: {error}"))?;
    if size > MAX_INPUT_BYTES as u64 {
        return Err(format!(
            "one serialized input has {size} bytes, at most {MAX_INPUT_BYTES} fit into a datagram"
        ));
    }
    Ok(())
}

pub(super) fn note_ready<C: Config<Address = PeerId>>(
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
        for seat in session.remotes() {
            net.send_control(
                seat.peer,
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
