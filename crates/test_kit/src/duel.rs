//! The workload of the benches: one measured `bevy_ggrs` app in a real P2P session against a bare
//! ggrs session. Inputs and packet delays depend on frame numbers alone, so that the app with the
//! observers does exactly the work of the app without.

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

/// Which plugins of the lab the measured app has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observers {
    /// Nothing.
    None,
    /// Observers, metrics and recorder; documents stay in memory.
    InMemory,
    /// The same; a thread writes the documents to this folder.
    Folder(PathBuf),
}

/// How large the match is, and when inputs change and arrive.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Number of rolled-back entities.
    pub entities: i32,
    /// Frames between two changes of the app's own input.
    pub local_every: i32,
    /// Frames between two changes of the peer's input.
    pub remote_every: i32,
    /// Ticks between sending and delivery of the packets of a tick. A change of input that is
    /// delivered n ticks later is a rollback of n frames.
    pub delay: fn(i32) -> i32,
}

impl Workload {
    /// A rollback of 4 frames every 10 frames.
    pub fn steady(entities: i32) -> Self {
        Self {
            entities,
            local_every: 9,
            remote_every: 10,
            delay: |_| 4,
        }
    }

    /// The same rollbacks, but the peer's packets are delivered five at a time: each rollback
    /// corrects four inputs at once.
    pub fn bursts(entities: i32) -> Self {
        Self {
            delay: |tick| 4 - tick % 5,
            ..Self::steady(entities)
        }
    }

    /// A typical match: the input of either side changes 6.7 times a second, and every other change
    /// of the peer is delivered 2 to 5 frames late, which makes 3.3 rollbacks a second.
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
    in_flight: [Vec<(i32, GgrsMessage)>; 2],
}

impl Wire {
    fn push(&mut self, to: usize, message: GgrsMessage) {
        let delay = self.delay.filter(|_| self.playing);
        let due = self.tick + delay.map_or(0, |delay| delay(self.tick));
        self.in_flight[to].push((due, message));
    }

    fn pop(&mut self, to: usize) -> Vec<(usize, GgrsMessage)> {
        let tick = self.tick;
        self.in_flight[to]
            .extract_if(.., |(due, _)| *due <= tick)
            .map(|(_, message)| (1 - to, message))
            .collect()
    }
}

#[derive(Clone, Default)]
struct SharedWire(Arc<Mutex<Wire>>);

impl SharedWire {
    fn wire(&self) -> MutexGuard<'_, Wire> {
        self.0.lock().unwrap()
    }
}

struct AppSocket(SharedWire);

impl NonBlockingSocket<usize> for AppSocket {
    fn send_to(&mut self, message: &GgrsMessage, _: &usize) {
        self.0.wire().push(PEER, message.clone());
    }

    fn receive_all_messages(&mut self) -> Vec<(usize, GgrsMessage)> {
        self.0.wire().pop(APP)
    }
}

/// The peer's end of the wire. It drops quality reports and replies in both directions: ggrs fills
/// them by the wall clock and paces itself by them, which would make the number of steps depend on
/// the machine.
struct PeerSocket(SharedWire);

impl NonBlockingSocket<usize> for PeerSocket {
    fn send_to(&mut self, message: &GgrsMessage, _: &usize) {
        let mut wire = self.0.wire();
        if !by_wall_clock(message) {
            wire.push(APP, message.clone());
        }
        if wire.peer_magic.is_none() {
            let bytes = postcard::to_stdvec(message).unwrap();
            let header: MessageHeader = postcard::from_bytes(&bytes).unwrap();
            wire.peer_magic = Some(header.magic);
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

/// The first field of every ggrs message.
#[derive(Deserialize)]
struct MessageHeader {
    magic: u16,
}

/// ggrs's quality report in its serialized layout; ggrs does not export the type.
#[derive(Serialize)]
struct Report {
    magic: u16,
    /// The variant `MessageBody::QualityReport`.
    body: u8,
    frame_advantage: i16,
    ping: u128,
}

/// The other side of the match: a ggrs session without a Bevy world.
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

/// A running match.
pub struct Duel {
    /// The measured app.
    pub app: App,
    peer: Peer,
    shared_wire: SharedWire,
    ticks: i32,
}

impl Duel {
    /// Starts a match: the handshake is over and no frame is simulated. The observers read `clock`,
    /// or the real one without it.
    pub fn new(workload: Workload, observers: &Observers, clock: Option<LabClock>) -> Self {
        let shared_wire = SharedWire::default();
        shared_wire.wire().delay = Some(workload.delay);
        let peer = Peer {
            session: session(PEER, PeerSocket(shared_wire.clone())),
            every: workload.remote_every,
        };
        let mut app = game(workload);
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
        let session = session(APP, AppSocket(shared_wire.clone()));
        app.insert_resource(Session::P2P(session));
        let mut duel = Self {
            app,
            peer,
            shared_wire,
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
        let mut wire = self.shared_wire.wire();
        // Report the delay as the peer's frame advantage, so that ggrs sees neither side ahead and
        // slows neither down.
        let delay = wire.delay.unwrap();
        let report = frame_advantage_report(wire.peer_magic.unwrap(), -delay(0));
        wire.in_flight[APP].push((0, report));
        wire.playing = true;
    }

    /// Runs one tick of the peer, outside what is measured.
    pub fn step_peer(&mut self) {
        self.peer.step();
    }

    /// Runs one update of the measured app; call [`step_peer`](Self::step_peer) first.
    pub fn step_app(&mut self) {
        measured_update(&mut self.app);
        self.ticks += 1;
        self.shared_wire.wire().tick += 1;
    }

    /// Runs one tick of both.
    pub fn step(&mut self) {
        self.step_peer();
        self.step_app();
    }

    /// Runs `count` ticks of both and asserts that each advanced the app by exactly one frame.
    pub fn steps(&mut self, count: i32) {
        for _ in 0..count {
            self.step();
        }
        assert_eq!(self.frames(), self.ticks, "every update advances one frame");
    }

    /// Swaps `schedules` with the app's schedules of the same labels.
    pub fn swap_schedules(&mut self, schedules: &mut [Schedule]) {
        let mut inside = self.app.world_mut().resource_mut::<Schedules>();
        for schedule in schedules {
            let new = std::mem::take(schedule);
            *schedule = inside.insert(new).unwrap();
        }
    }

    /// Begins an observed episode, or ends it.
    pub fn observe(&mut self, begin: bool) {
        let now = self.app.world().resource::<LabClock>().now();
        let mut log = self.app.world_mut().resource_mut::<TraceLog<BenchConfig>>();
        if begin {
            log.begin(&[true, false], now).unwrap();
        } else {
            log.close(now);
        }
    }

    /// Frames that the app advanced.
    pub fn frames(&self) -> i32 {
        self.app.world().resource::<RollbackFrameCount>().0
    }

    /// Frames that the app simulated, resimulated ones included.
    pub fn simulated(&self) -> u64 {
        self.app.world().resource::<Simulated>().0
    }

    /// Checksum of the newest saved state of the app.
    pub fn checksum(&self) -> u128 {
        self.app.world().resource::<Checksum>().0
    }
}

/// The measured part of a tick: the profiler counts instructions inside this function.
#[inline(never)]
pub fn measured_update(app: &mut App) {
    app.update();
}

fn session(me: usize, socket: impl NonBlockingSocket<usize> + 'static) -> P2PSession<BenchConfig> {
    // A profiler slows the match down a hundredfold, and the wall clock goes on.
    let timeout = Duration::from_secs(3_600);
    let mut builder = SessionBuilder::<BenchConfig>::new()
        .with_num_players(2)
        .unwrap()
        .with_disconnect_timeout(timeout)
        .with_disconnect_notify_delay(timeout);
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

/// The quality report that says that the peer is ahead by so many frames.
fn frame_advantage_report(magic: u16, frames: i32) -> GgrsMessage {
    let report = Report {
        magic,
        body: 4,
        frame_advantage: i16::try_from(frames).unwrap(),
        ping: 0,
    };
    let bytes = postcard::to_stdvec(&report).unwrap();
    postcard::from_bytes(&bytes).unwrap()
}
