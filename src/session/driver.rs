//! Owns the state machine of a lab session: one step per update, from the server's first word to
//! the last episode. The only place that builds, moves and drops ggrs sessions.

use std::time::Duration;

use bevy::ecs::message::MessageCursor;
use bevy::prelude::*;
use bevy_ggrs::{ConfirmedFrameCount, RollbackFrameRate, Session};
use bevy_matchbox::matchbox_socket::PeerId;
use ggrs::{Config, DesyncDetection, Frame, P2PSession, PlayerType, SessionBuilder, SessionState};

use super::episode::{self, EndFlags};
use super::lobby::{self, Seat};
use super::margin::MarginWatch;
use super::{
    EpisodeSettled, EpisodeStarted, EpisodeStarting, EpisodeStopped, HistoryDigest, PeerNotice,
    ReadyForEpisode, RouteChanged, SessionError, SessionFailed, SessionInfo, SessionPhase,
    SessionSettings,
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
/// How long it waits at most for the acknowledgement of its own.
const FAREWELL_MAX: Duration = Duration::from_secs(2);
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

    fn take_in(&mut self, world: &mut World, net: &LabNet, now: Duration) {
        let mut events = std::mem::take(&mut self.events);
        net.drain_events(&mut events);
        for event in events.drain(..) {
            self.on_network(world, net, event);
        }
        self.events = events;
        if !self.seats.is_empty() {
            self.take_in_control(world, net, now);
        }
        let mut changes = std::mem::take(&mut self.changes);
        net.drain_route_changes(&mut changes);
        if self.seats.is_empty() {
            // Told once it is known who is who.
            self.changes = changes;
            return;
        }
        for (peer, frame, change) in changes.drain(..) {
            let Some(player) = self.player_of(peer) else {
                continue;
            };
            info!(
                "route to player {player}: {:?} -> {:?} ({:?}, {} {:.1}, threshold {:.1})",
                change.from, change.to, change.cause, change.metric, change.value, change.threshold
            );
            world.write_message(RouteChanged {
                player,
                peer,
                frame,
                change,
            });
        }
        self.changes = changes;
    }

    /// A peer that saw everybody first greets at once; its words wait until it is known who is who.
    fn take_in_control(&mut self, world: &mut World, net: &LabNet, now: Duration) {
        let mut control = std::mem::take(&mut self.control);
        net.drain_control(&mut control);
        for (peer, message) in control.drain(..) {
            self.on_control(world, now, peer, message);
        }
        self.control = control;
    }

    fn on_network(&mut self, world: &mut World, net: &LabNet, event: NetEvent) {
        match event {
            NetEvent::IdAssigned(id) => {
                // A resumed connection keeps its id; the first one stands.
                self.local.get_or_insert(id);
            }
            NetEvent::Roster(roster) => {
                self.roster_known = true;
                self.nonce = roster.nonce;
                self.members = roster
                    .members
                    .iter()
                    .map(|member| (member.slot, PeerId(uuid::Uuid::from_bytes(member.peer))))
                    .collect();
            }
            NetEvent::NoRelay => {
                warn!("this signaling server cannot relay: if a direct path is lost, the match is");
                self.stock = true;
            }
            NetEvent::DirectOpened(peer) => {
                // Our server names its members; one that left may open its channel all the same.
                if !self.roster_known && !self.members.iter().any(|(_, member)| *member == peer) {
                    self.members.push((0, peer));
                }
            }
            NetEvent::DirectClosed(peer) => {
                if self.stock && self.seats.is_empty() {
                    self.members.retain(|(_, member)| *member != peer);
                }
            }
            NetEvent::Notice(Notice::PeerGone { slot }) => {
                let gone = self
                    .members
                    .iter()
                    .find(|(s, _)| *s == slot)
                    .map(|(_, peer)| *peer);
                self.doubted.extend(gone);
            }
            NetEvent::Notice(Notice::Dropped { reason, count }) => {
                debug!("relay dropped {count} packets: {reason:?}");
            }
            NetEvent::Refused { code, reason } => {
                let room = self.settings.room.clone();
                self.failure
                    .get_or_insert(SessionError::RoomRefused { room, code, reason });
            }
            NetEvent::Unreachable { error } => {
                self.failure
                    .get_or_insert(SessionError::ServerUnreachable { error });
            }
            NetEvent::ServerLost { .. }
                if matches!(self.phase, SessionPhase::Finished | SessionPhase::Failed) => {}
            NetEvent::ServerLost { reason } => {
                if matches!(
                    self.phase,
                    SessionPhase::Connecting | SessionPhase::Gathering
                ) {
                    let room = self.settings.room.clone();
                    self.failure
                        .get_or_insert(SessionError::ServerLost { room, reason });
                } else {
                    warn!(
                        "connection to the server lost ({reason}); no fallback path until it is back"
                    );
                    world.write_message(PeerNotice::ServerLost { at: net.now() });
                }
            }
        }
    }

    fn on_control(
        &mut self,
        world: &mut World,
        now: Duration,
        peer: PeerId,
        message: ControlMessage,
    ) {
        let Some(player) = self.player_of(peer) else {
            return;
        };
        match message {
            // Said once; whatever comes later changes nothing about a match that runs.
            ControlMessage::Hello(_) if self.greeted.contains(&peer) => {}
            ControlMessage::Hello(theirs) => {
                if let Some(mismatch) = self.settings.hello.mismatch(&theirs) {
                    self.failure.get_or_insert(SessionError::Mismatch {
                        player,
                        field: mismatch.field,
                        ours: mismatch.ours,
                        theirs: mismatch.theirs,
                    });
                } else {
                    self.greeted.push(peer);
                }
            }
            ControlMessage::Ready { epoch, seed } => {
                self.ready.retain(|ready| ready.peer != peer);
                self.ready.push(Ready { peer, epoch, seed });
            }
            ControlMessage::Hidden => {
                world.write_message(PeerNotice::Hidden { player, at: now });
            }
            ControlMessage::Visible => {
                world.write_message(PeerNotice::Visible { player, at: now });
            }
            ControlMessage::Ended {
                epoch,
                end_frame,
                digest,
            } => {
                // Nobody can end an episode that this peer has not begun.
                if epoch != self.epoch() {
                    return;
                }
                self.ended.retain(|ended| ended.peer != peer);
                self.ended.push(Ended {
                    peer,
                    epoch,
                    end_frame,
                    digest,
                });
            }
            ControlMessage::Bye { reason } => {
                debug!("player {player} says bye: {reason:?}");
                self.left.push(peer);
            }
        }
    }

    /// Peers that left by their own word, or by the server's while both paths are silent.
    fn notice_gone(&mut self, world: &mut World, net: &LabNet, now: Duration) {
        let mut gone: Vec<(PeerId, &'static str)> = Vec::new();
        if let Some(told) = world.get_resource::<Messages<SessionEvent>>() {
            for event in self.told.read(told) {
                if matches!(event.kind, SessionEventKind::Disconnected) {
                    let silent = self
                        .seats
                        .iter()
                        .filter(|s| event.players.contains(&s.handle));
                    gone.extend(silent.map(|seat| (seat.peer, "ggrs gave it up")));
                }
            }
        }
        for peer in self.left.drain(..) {
            gone.push((peer, "it said goodbye"));
        }
        self.doubted.retain(|peer| {
            let silent = net
                .link(*peer, |link| link.peer_silence(now))
                .is_none_or(|silence| silence >= GONE_SILENCE);
            if silent {
                gone.push((*peer, "the server says it left, and both paths are silent"));
            }
            !silent
        });
        // Before that nobody need have said anything yet; meeting has a limit of its own.
        if matches!(
            self.phase,
            SessionPhase::Between
                | SessionPhase::Starting
                | SessionPhase::Playing
                | SessionPhase::Ending
        ) {
            let silent = self.remotes().filter(|seat| {
                net.link(seat.peer, |link| link.peer_silence(now))
                    .is_none_or(|silence| silence >= LOST_SILENCE)
            });
            gone.extend(silent.map(|seat| (seat.peer, "nothing came from it for 35 s")));
        }
        for (peer, reason) in gone {
            let Some(player) = self.player_of(peer) else {
                continue;
            };
            if !self.is_gone(peer) {
                self.gone.push((peer, reason));
                world.write_message(PeerNotice::Gone {
                    player,
                    at: now,
                    reason,
                });
            }
        }
    }

    fn connecting(&mut self, world: &mut World, net: &LabNet, now: Duration) {
        let since = *self.opened_at.get_or_insert(now);
        if self.local.is_some() && (self.roster_known || self.stock) {
            self.enter(world, SessionPhase::Gathering, now);
        } else if now.saturating_sub(since) >= CONNECTING_TIMEOUT {
            let missing = if self.local.is_some() {
                "tell who is in the room"
            } else {
                "name this peer"
            };
            let error = format!(
                "the server of room {} did not {missing} within {}s",
                self.settings.room,
                CONNECTING_TIMEOUT.as_secs()
            );
            self.fail(world, net, now, SessionError::ServerUnreachable { error });
        }
    }

    fn gathering(&mut self, world: &mut World, net: &LabNet, now: Duration) {
        let Some(local) = self.local else {
            return;
        };
        let mut members = self.members.clone();
        if self.stock {
            members.push((0, local));
        }
        members.sort();
        members.dedup();
        let others: Vec<PeerId> = members
            .iter()
            .map(|(_, peer)| *peer)
            .filter(|peer| *peer != local)
            .collect();
        net.set_peers(&others);
        if members.len() < self.settings.players {
            let waited = now.saturating_sub(self.since);
            if waited >= self.settings.wait_timeout {
                let error = SessionError::WaitTimeout {
                    room: self.settings.room.clone(),
                    waited,
                    present: members.len(),
                    players: self.settings.players,
                };
                self.fail(world, net, now, error);
            }
            return;
        }
        self.seats = lobby::seats(local, &members);
        self.seats.truncate(self.settings.players);
        let Some(own) = self.seats.iter().find(|seat| seat.local) else {
            // More peers than players on a stock server: this one is not among the first.
            let error = SessionError::RoomRefused {
                room: self.settings.room.clone(),
                code: 0,
                reason: format!("it already has {} players", self.settings.players),
            };
            self.fail(world, net, now, error);
            return;
        };
        let local_player = own.handle;
        net.set_player(local_player);
        self.session_id = lobby::session_id(&self.settings.room, &self.seats, &self.nonce);
        world.insert_resource(SessionInfo {
            session_id: self.session_id.clone(),
            local_player,
            seats: self.seats.clone(),
            relay: !self.stock,
        });
        for seat in self.remotes() {
            net.send_control(
                seat.peer,
                ControlMessage::Hello(self.settings.hello.clone()),
            );
        }
        self.enter(world, SessionPhase::Meeting, now);
    }

    /// Without all its players a session cannot go on.
    fn fail_if_gone(&mut self, world: &mut World, net: &LabNet, now: Duration) -> bool {
        let Some(&(peer, reason)) = self.gone.first() else {
            return false;
        };
        let player = self.player_of(peer).unwrap_or_default();
        self.fail(world, net, now, SessionError::PeerGone { player, reason });
        true
    }

    fn meeting(&mut self, world: &mut World, net: &LabNet, now: Duration) {
        if self.fail_if_gone(world, net, now) {
            return;
        }
        let unreachable = self.remotes().map(|seat| seat.peer).find(|peer| {
            net.link(*peer, |link| link.failed().is_some())
                .unwrap_or(false)
        });
        if let Some(peer) = unreachable {
            self.fail(world, net, now, SessionError::NoPath { peer });
            return;
        }
        let greeted = self.remotes().all(|seat| self.greeted.contains(&seat.peer));
        if greeted && net.all_usable() {
            self.enter(world, SessionPhase::Between, now);
        } else if now.saturating_sub(self.since) >= MEETING_TIMEOUT {
            // Of several, one that said nothing at all; else one whose path broke at once.
            let missing = self
                .remotes()
                .find(|seat| !self.greeted.contains(&seat.peer))
                .or_else(|| {
                    let usable = |peer| net.link(peer, |link| link.usable()).unwrap_or(false);
                    self.remotes().find(|seat| !usable(seat.peer))
                });
            if let Some(player) = missing.map(|seat| seat.handle) {
                let waited = MEETING_TIMEOUT;
                self.fail(world, net, now, SessionError::NoAnswer { player, waited });
            }
        }
    }

    fn between(&mut self, world: &mut World, net: &LabNet, now: Duration) {
        if self
            .settings
            .episodes
            .is_some_and(|episodes| self.number >= episodes)
        {
            for seat in self.remotes() {
                net.send_control(
                    seat.peer,
                    ControlMessage::Bye {
                        reason: ByeReason::Finished,
                    },
                );
            }
            self.enter(world, SessionPhase::Finished, now);
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
        self.built_at = None;
        self.opened = false;
        self.margin = MarginWatch::default();
        // What was said about episodes long over; epochs wrap.
        self.ended.clear();
        let local_player = world.resource::<SessionInfo>().local_player;
        self.tellings.push(Telling::Starting(EpisodeStarting {
            number: self.number,
            seed,
            players: self.seats.len(),
            local_player,
        }));
        self.enter(world, SessionPhase::Starting, now);
    }

    /// The game has its world: its packets may come.
    fn open(&mut self, world: &World, net: &LabNet) {
        let (epoch, seed) = (self.epoch(), world.resource::<super::Episode>().seed());
        // Open before the barrier falls: a peer that passes it first may already send.
        net.start_epoch(
            epoch,
            EpisodeBounds {
                seats: self
                    .seats
                    .iter()
                    .map(|seat| (!seat.local).then_some(seat.peer))
                    .collect(),
                input_bytes: fixed_input_bytes::<C>(),
                // Validated: both are small.
                max_prediction: self.settings.max_prediction as Frame,
                max_input_delay: self.settings.input_delay as Frame,
                desync_interval: Some(self.settings.desync_interval),
            },
        );
        for seat in self.remotes() {
            net.send_control(seat.peer, ControlMessage::Ready { epoch, seed });
        }
        self.opened = true;
    }

    fn starting(&mut self, world: &mut World, net: &LabNet, now: Duration) {
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
            self.tellings.push(Telling::Started(EpisodeStarted {
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

    fn build_when_all_ready(&mut self, world: &mut World, net: &LabNet, now: Duration) {
        let epoch = self.epoch();
        let all_ready = self.remotes().all(|seat| {
            self.ready
                .iter()
                .any(|r| r.peer == seat.peer && r.epoch == epoch)
        });
        if !all_ready {
            return;
        }
        let seed = world.resource::<super::Episode>().seed();
        if let Some(other) = self
            .ready
            .iter()
            .find(|r| r.epoch == epoch && r.seed != seed)
        {
            let error = SessionError::Mismatch {
                player: self.player_of(other.peer).unwrap_or_default(),
                field: "seed",
                ours: seed.to_string(),
                theirs: other.seed.to_string(),
            };
            self.fail(world, net, now, error);
            return;
        }
        match self.build(net) {
            Ok(session) => {
                let local: Vec<bool> = self.seats.iter().map(|seat| seat.local).collect();
                world.insert_resource(RollbackFrameRate(self.settings.fps as usize));
                let begun = world.resource_mut::<TraceLog<C>>().begin(&local, now);
                if let Err(error) = begun {
                    self.fail(world, net, now, SessionError::Ggrs(error.to_string()));
                    return;
                }
                world.insert_resource(Session::P2P(session));
                self.built_at = Some(now);
            }
            Err(error) => self.fail(world, net, now, SessionError::Ggrs(error.to_string())),
        }
    }

    fn build(&self, net: &LabNet) -> Result<P2PSession<C>, ggrs::GgrsError> {
        let settings = &self.settings;
        let mut builder = SessionBuilder::<C>::new()
            .with_num_players(self.seats.len())?
            .with_fps(settings.fps as usize)?
            .with_max_prediction_window(settings.max_prediction as usize)
            .with_input_delay(settings.input_delay as usize)
            .with_disconnect_timeout(GGRS_DISCONNECT)
            .with_disconnect_notify_delay(DISCONNECT_NOTIFY)
            .with_desync_detection_mode(DesyncDetection::On {
                interval: settings.desync_interval,
            });
        for seat in &self.seats {
            let player = if seat.local {
                PlayerType::Local
            } else {
                PlayerType::Remote(seat.peer)
            };
            builder = builder.add_player(player, seat.handle)?;
        }
        builder.start_p2p_session(net.socket())
    }

    fn playing(&mut self, world: &mut World, net: &LabNet, now: Duration) {
        if let Some(Session::P2P(session)) = world.get_resource::<Session<C>>() {
            net.set_current_frame(session.current_frame());
            net.set_skew(session.frames_ahead());
            self.watch_margin(net, now);
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

    /// Says once per episode when a lost direct path would stall the game, and what would help.
    fn watch_margin(&mut self, net: &LabNet, now: Duration) {
        let Self {
            seats,
            margin,
            settings,
            ..
        } = self;
        for seat in seats.iter().filter(|seat| !seat.local) {
            // After a promotion there is no failover left to judge.
            let left = net
                .link(seat.peer, |link| {
                    link.p2p_healthy().then(|| link.margin()).flatten()
                })
                .flatten();
            if let Some(margin_ms) = margin.note(now, seat.handle, left) {
                warn!("{}", settings.margin_advice(seat.handle, margin_ms));
            }
        }
    }

    /// The end that a peer told, if the same state is confirmed here and does not end.
    fn disputed_end(&self, world: &World, confirmed: Frame) -> Option<Frame> {
        let flags = world.resource::<EndFlags>();
        self.ended
            .iter()
            .filter(|ended| ended.epoch == self.epoch())
            .map(|ended| ended.end_frame)
            .filter(|&frame| flags.goes_on(frame, confirmed))
            .min()
    }

    /// Takes the ggrs session out of the world; it keeps answering until everybody has ended.
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
            number: self.number,
            end_frame,
            reason,
            partial,
        });
    }

    /// Cuts a running episode short at its newest confirmed state.
    fn stop_here(&mut self, world: &mut World, now: Duration, reason: &'static str, partial: bool) {
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

    fn ending(&mut self, world: &mut World, net: &LabNet, now: Duration) {
        if let Some(session) = &mut self.lingering {
            session.poll_remote_clients();
        }
        let epoch = self.epoch();
        if !self.ended_sent
            && let Some(end_frame) = self.stop
        {
            // The record has closed the episode in the update that stopped it.
            let digest = world.resource::<HistoryDigest>().0.unwrap_or(NO_DIGEST);
            for seat in self.remotes() {
                net.send_control(
                    seat.peer,
                    ControlMessage::Ended {
                        epoch,
                        end_frame,
                        digest,
                    },
                );
            }
            self.ended_sent = true;
        }
        let all_ended = self.remotes().all(|seat| {
            self.is_gone(seat.peer)
                || self
                    .ended
                    .iter()
                    .any(|e| e.peer == seat.peer && e.epoch == epoch)
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
    fn settle(&mut self, world: &mut World) {
        if self.stop.take().is_none() {
            return;
        }
        let epoch = self.epoch();
        let digests = self
            .ended
            .iter()
            .filter(|ended| ended.epoch == epoch && ended.digest != NO_DIGEST)
            .filter_map(|e| Some((self.player_of(e.peer)?, e.end_frame, e.digest)))
            .collect();
        world.write_message(EpisodeSettled {
            number: self.number,
            digests,
        });
    }

    /// Ends the ggrs session, running or lingering, and closes the packets of its episode.
    fn let_go(&mut self, world: &mut World, net: &LabNet, now: Duration) {
        self.lingering = None;
        if world.remove_resource::<Session<C>>().is_some() {
            world.resource_mut::<TraceLog<C>>().close(now);
        }
        net.end_epoch();
    }

    fn finished(&mut self, net: &LabNet, now: Duration) {
        let waited = now.saturating_sub(self.since);
        let heard = self.remotes().all(|seat| {
            self.is_gone(seat.peer) || net.link(seat.peer, Link::unacked_control).unwrap_or(0) == 0
        });
        if !self.closed && (waited >= FAREWELL_MAX || (heard && waited >= FAREWELL)) {
            net.close();
            self.closed = true;
        }
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
