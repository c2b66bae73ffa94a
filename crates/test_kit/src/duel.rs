//! One measured `bevy_ggrs` app in a real P2P session, against a bare ggrs session that presses by
//! script and whose packets come late by script. Everything is decided by frame numbers: the app
//! with the observers does exactly the work of the app without.
//!
//! It owns the match, never what is measured about it.

#![expect(
    clippy::unwrap_used,
    reason = "a match that cannot be set up is no measurement"
)]
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bevy::prelude::*;
use bevy_ggrs::ggrs::{GgrsRequest, Message as GgrsMessage, NonBlockingSocket, P2PSession};
use bevy_ggrs::ggrs::{PlayerType, SessionBuilder, SessionState};
use bevy_ggrs::{Checksum, GgrsConfig, RollbackFrameCount, Session};
use bevy_rollback_lab::RollbackObserverPlugins;
use bevy_rollback_lab::clock::LabClock;
use bevy_rollback_lab::internals::trace::TraceLog;
use rollback_lab_link::ggrs_wire::{self, MessageKind};
use serde::{Deserialize, Serialize};

pub mod game;

use game::{Simulated, game, pressed};

/// The ggrs config of the measured game.
pub type BenchConfig = GgrsConfig<u8, usize>;

/// One 60 Hz frame, rounded up so that every update has exactly one due step.
pub const STEP: Duration = Duration::from_nanos(16_666_667);

/// The handle and the address of the measured app, and of its peer.
const APP: usize = 0;
const PEER: usize = 1;

/// What the measured app carries besides the game.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observers {
    /// Nothing.
    None,
    /// Observers, metrics and recording; documents stay in memory.
    InMemory,
    /// The same; documents go to a folder, from a thread of its own.
    Folder(PathBuf),
}

/// The match, by frame numbers alone.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    /// Rolled-back entities.
    pub entities: i32,
    /// Frames between two changes of the app's own input.
    pub local_every: i32,
    /// Frames between two changes of the peer's input.
    pub remote_every: i32,
    /// Ticks that the packets of a frame are under way. A change that comes so many ticks late
    /// is a rollback of so many frames.
    pub delay: fn(i32) -> i32,
}

impl Script {
    /// A rollback of 4 frames every 10 frames.
    pub fn steady(entities: i32) -> Self {
        Self {
            entities,
            local_every: 9,
            remote_every: 10,
            delay: |_| 4,
        }
    }

    /// The same rollbacks, but the peer's packets come five at a time: each rollback corrects four
    /// inputs at once.
    pub fn bursts(entities: i32) -> Self {
        Self {
            delay: |tick| 4 - tick % 5,
            ..Self::steady(entities)
        }
    }

    /// A match as it is played: either side's input changes 6.7 times a second, every other change
    /// of the peer comes late by 2 to 5 frames, which is 3.3 rollbacks a second.
    pub fn played(entities: i32) -> Self {
        Self {
            entities,
            local_every: 9,
            remote_every: 9,
            delay: |frame| match frame / 9 % 8 {
                0 => 2,
                2 => 3,
                4 => 4,
                6 => 5,
                _ => 0,
            },
        }
    }
}

#[derive(Default)]
struct Wire {
    tick: i32,
    playing: bool,
    peer_magic: Option<u16>,
    delay: Option<fn(i32) -> i32>,
    flying: [Vec<(i32, GgrsMessage)>; 2],
}

impl Wire {
    fn push(&mut self, to: usize, message: GgrsMessage) {
        let delay = self.delay.filter(|_| self.playing);
        let due = self.tick + delay.map_or(0, |delay| delay(self.tick));
        self.flying[to].push((due, message));
    }

    fn pop(&mut self, to: usize) -> Vec<(usize, GgrsMessage)> {
        let tick = self.tick;
        self.flying[to]
            .extract_if(.., |(due, _)| *due <= tick)
            .map(|(_, message)| (1 - to, message))
            .collect()
    }
}

#[derive(Clone, Default)]
struct Cable(Arc<Mutex<Wire>>);

impl Cable {
    fn wire(&self) -> MutexGuard<'_, Wire> {
        self.0.lock().unwrap()
    }
}

struct AppSocket(Cable);

impl NonBlockingSocket<usize> for AppSocket {
    fn send_to(&mut self, message: &GgrsMessage, _: &usize) {
        self.0.wire().push(PEER, message.clone());
    }

    fn receive_all_messages(&mut self) -> Vec<(usize, GgrsMessage)> {
        self.0.wire().pop(APP)
    }
}

/// ggrs reports its lead and measures round trips by the wall clock, which would make the number
/// of steps depend on the machine: the peer's end leaves these messages out, either way.
struct PeerSocket(Cable);

impl NonBlockingSocket<usize> for PeerSocket {
    fn send_to(&mut self, message: &GgrsMessage, _: &usize) {
        let mut wire = self.0.wire();
        if !by_wall_clock(message) {
            wire.push(APP, message.clone());
        }
        if wire.peer_magic.is_none() {
            let bytes = postcard::to_stdvec(message).unwrap();
            let head: Head = postcard::from_bytes(&bytes).unwrap();
            wire.peer_magic = Some(head.magic);
        }
    }

    fn receive_all_messages(&mut self) -> Vec<(usize, GgrsMessage)> {
        let mut messages = self.0.wire().pop(PEER);
        messages.retain(|(_, message)| !by_wall_clock(message));
        messages
    }
}

fn by_wall_clock(message: &GgrsMessage) -> bool {
    let mut bytes = [0; ggrs_wire::MAX_MESSAGE];
    let length = ggrs_wire::encode(message, &mut bytes).unwrap();
    let kind = ggrs_wire::inspect_outgoing(&bytes[..length]).unwrap().kind;
    matches!(kind, MessageKind::QualityReport | MessageKind::QualityReply)
}

/// What every message of ggrs begins with.
#[derive(Deserialize)]
struct Head {
    magic: u16,
}

/// ggrs's quality report as it is serialized.
#[derive(Serialize)]
struct Report {
    magic: u16,
    /// The variant `MessageBody::QualityReport`.
    body: u8,
    frame_advantage: i16,
    ping: u128,
}

/// The other side of the match: a ggrs session without a world.
struct Peer {
    session: P2PSession<BenchConfig>,
    every: i32,
}

impl Peer {
    fn step(&mut self) {
        let frame = self.session.current_frame();
        let input = pressed(frame, self.every);
        self.session.add_local_input(PEER, input).unwrap();
        for request in self.session.advance_frame().unwrap() {
            if let GgrsRequest::SaveGameState { cell, frame } = request {
                cell.save(frame, Some(0), None);
            }
        }
    }
}

/// A match under way.
pub struct Duel {
    /// The measured app.
    pub app: App,
    peer: Peer,
    cable: Cable,
    ticks: i32,
}

impl Duel {
    /// A match whose handshake is over and that has not simulated a frame. With a `clock` the
    /// observers read that one instead of the real one.
    pub fn new(script: Script, observers: &Observers, clock: Option<LabClock>) -> Self {
        let cable = Cable::default();
        cable.wire().delay = Some(script.delay);
        let peer = Peer {
            session: session(PEER, PeerSocket(cable.clone())),
            every: script.remote_every,
        };
        let mut app = game(script);
        if let Some(clock) = clock {
            app.insert_resource(clock);
        }
        match observers {
            Observers::None => {}
            Observers::InMemory => {
                app.add_plugins(RollbackObserverPlugins::<BenchConfig>::in_memory());
            }
            Observers::Folder(folder) => {
                app.add_plugins(RollbackObserverPlugins::<BenchConfig>::new(folder));
            }
        }
        app.finish();
        app.cleanup();
        // The first update of Bevy's clock advances by nothing: no step is due.
        app.update();
        let session = session(APP, AppSocket(cable.clone()));
        app.insert_resource(Session::P2P(session));
        let mut duel = Self {
            app,
            peer,
            cable,
            ticks: 0,
        };
        duel.shake_hands();
        duel
    }

    fn session(&mut self) -> &mut P2PSession<BenchConfig> {
        match self
            .app
            .world_mut()
            .resource_mut::<Session<BenchConfig>>()
            .into_inner()
        {
            Session::P2P(session) => session,
            _ => unreachable!("the duel is P2P"),
        }
    }

    fn shake_hands(&mut self) {
        let running = SessionState::Running;
        while self.session().current_state() != running
            || self.peer.session.current_state() != running
        {
            self.peer.session.poll_remote_clients();
            self.session().poll_remote_clients();
        }
        let mut wire = self.cable.wire();
        // Both sides see the other one's inputs as late: neither is ahead, neither slows down.
        let delay = wire.delay.unwrap();
        let report = lead_report(wire.peer_magic.unwrap(), -delay(0));
        wire.flying[APP].push((0, report));
        wire.playing = true;
    }

    /// One tick of the peer, not measured.
    pub fn step_peer(&mut self) {
        self.peer.step();
    }

    /// One update of the measured app, after [`step_peer`](Self::step_peer).
    pub fn step_app(&mut self) {
        measured_update(&mut self.app);
        self.ticks += 1;
        self.cable.wire().tick += 1;
    }

    /// One tick of both.
    pub fn step(&mut self) {
        self.step_peer();
        self.step_app();
    }

    /// So many ticks of both; each must have advanced the app by exactly one frame.
    pub fn steps(&mut self, count: i32) {
        for _ in 0..count {
            self.step();
        }
        assert_eq!(self.frames(), self.ticks, "every update advances one frame");
    }

    /// Puts other schedules of the same labels in force and takes out those that were.
    pub fn exchange(&mut self, schedules: &mut [Schedule]) {
        let mut inside = self.app.world_mut().resource_mut::<Schedules>();
        for schedule in schedules {
            let new = std::mem::take(schedule);
            *schedule = inside.insert(new).unwrap();
        }
    }

    /// Begins the episode that the observers see, or ends it.
    pub fn observe(&mut self, seen: bool) {
        let now = self.app.world().resource::<LabClock>().now();
        let mut log = self.app.world_mut().resource_mut::<TraceLog<BenchConfig>>();
        if seen {
            log.begin(&[true, false], now).unwrap();
        } else {
            log.close(now);
        }
    }

    /// Frames advanced.
    pub fn frames(&self) -> i32 {
        self.app.world().resource::<RollbackFrameCount>().0
    }

    /// Frames simulated, those simulated again among them.
    pub fn simulated(&self) -> u64 {
        self.app.world().resource::<Simulated>().0
    }

    /// Checksum of the newest saved state.
    pub fn checksum(&self) -> u128 {
        self.app.world().resource::<Checksum>().0
    }
}

/// All that is measured: the profiler counts what runs inside of it.
#[inline(never)]
pub fn measured_update(app: &mut App) {
    app.update();
}

fn session(me: usize, socket: impl NonBlockingSocket<usize> + 'static) -> P2PSession<BenchConfig> {
    // A profiler makes time pass slowly: nobody is given up on.
    let patience = Duration::from_secs(3_600);
    let mut builder = SessionBuilder::<BenchConfig>::new()
        .with_num_players(2)
        .unwrap()
        .with_disconnect_timeout(patience)
        .with_disconnect_notify_delay(patience);
    for player in [APP, PEER] {
        let kind = if player == me {
            PlayerType::Local
        } else {
            PlayerType::Remote(player)
        };
        builder = builder.add_player(kind, player).unwrap();
    }
    builder.start_p2p_session(socket).unwrap()
}

/// The message by which the peer would tell its lead.
fn lead_report(magic: u16, frames: i32) -> GgrsMessage {
    let report = Report {
        magic,
        body: 4,
        frame_advantage: i16::try_from(frames).unwrap(),
        ping: 0,
    };
    let bytes = postcard::to_stdvec(&report).unwrap();
    postcard::from_bytes(&bytes).unwrap()
}
