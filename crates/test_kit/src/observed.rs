//! Two small `bevy_ggrs` apps over an in-memory network in virtual time, without the lab's session
//! and transport.
//!
//! [`Oracle`] records what ggrs did by systems of its own, [`PluginOutput`] what the plugin
//! reported; tests compare the two.

#![expect(clippy::unwrap_used, reason = "a test may panic")]
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bevy::prelude::*;
use bevy::time::TimeUpdateStrategy;
use bevy_ggrs::ggrs::{
    DesyncDetection, InputStatus, Message as GgrsMessage, NonBlockingSocket, P2PSession,
};
use bevy_ggrs::prelude::*;
use bevy_ggrs::{
    AdvanceWorld, AdvanceWorldSystems, Checksum, ConfirmedFrameCount, LocalInputs, LocalPlayers,
    RollbackFrameCount, SaveWorld, SaveWorldSystems,
};
use bevy_rollback_lab::clock::LabClock;
use bevy_rollback_lab::internals::trace::Fact;
use bevy_rollback_lab::record::RecordPlugin;
use bevy_rollback_lab::rollback::{
    ObservePlugin, RollbackCompleted, RollbackReloaded, SessionEvent, StallEnded,
};

/// The ggrs config of both apps.
pub type TestConfig = GgrsConfig<u8, usize>;

/// One 60 Hz frame, rounded up so that every update has a due step.
pub const STEP: Duration = Duration::from_nanos(16_666_667);

/// The network: packets in flight, which are delivered after the delay.
#[derive(Default)]
pub struct Net {
    /// One-way delay of every packet.
    pub delay: Duration,
    in_flight: Vec<(Duration, usize, usize, GgrsMessage)>,
}

impl Net {
    /// Drops every packet in flight.
    pub fn clear(&mut self) {
        self.in_flight.clear();
    }
}

struct Socket {
    me: usize,
    clock: LabClock,
    net: Arc<Mutex<Net>>,
}

impl NonBlockingSocket<usize> for Socket {
    fn send_to(&mut self, message: &GgrsMessage, to: &usize) {
        let mut net = self.net.lock().unwrap();
        let due = self.clock.now() + net.delay;
        net.in_flight.push((due, self.me, *to, message.clone()));
    }

    fn receive_all_messages(&mut self) -> Vec<(usize, GgrsMessage)> {
        let mut net = self.net.lock().unwrap();
        let now = self.clock.now();
        let mine = |packet: &mut (Duration, usize, usize, GgrsMessage)| {
            packet.2 == self.me && packet.0 <= now
        };
        let arrived = net.in_flight.extract_if(.., mine);
        arrived
            .map(|(_, from, _, message)| (from, message))
            .collect()
    }
}

/// What the app's session did, recorded in full by systems of the test kit.
#[derive(Resource, Default)]
pub struct Oracle {
    /// The inputs of every simulation of every frame, in order.
    pub frames: BTreeMap<i32, Vec<Vec<(u8, InputStatus)>>>,
    /// The checksum of the newest save of every frame.
    pub checksums: BTreeMap<i32, u128>,
    /// Ticks of the session.
    pub ticks: u32,
}

/// Every message that the plugin wrote, in order.
#[derive(Resource, Default, Debug)]
pub struct PluginOutput {
    /// Facts of the trace.
    pub facts: Vec<Fact<u8>>,
    /// Rollbacks that corrected an input.
    pub rollbacks: Vec<RollbackCompleted<u8>>,
    /// Reloads that corrected nothing.
    pub reloads: Vec<RollbackReloaded>,
    /// Stalls that ended.
    pub stalls: Vec<StallEnded>,
    /// ggrs's own events.
    pub events: Vec<SessionEvent>,
}

/// The rolled-back state of the test game: a hash of all inputs.
#[derive(Component, Clone, Copy, Hash)]
pub struct Score(u32);

impl Score {
    /// Changes the state of this peer alone, which is a desync.
    pub fn corrupt(&mut self) {
        self.0 = !self.0;
    }
}

/// The input of a player at a frame: it changes often for 50 frames, then stays the same for 50.
pub fn pressed(player: usize, frame: i32) -> u8 {
    let busy = frame - (frame % 100 - 50).max(0);
    let held = busy as u32 / (5 + player as u32 * 2);
    (held
        .wrapping_mul(2_654_435_761)
        .wrapping_add(player as u32 * 977)
        >> 28) as u8
}

/// Settings of a [`Duel`].
#[derive(Clone, Copy)]
pub struct Settings {
    /// One-way delay of the network.
    pub delay: Duration,
    /// Input delay in frames.
    pub input_delay: usize,
    /// Whether ggrs saves sparsely.
    pub sparse: bool,
    /// Whether the apps have the observers.
    pub observed: bool,
    /// Whether the observers read ggrs's events.
    pub read_events: bool,
    /// Whether the apps record, in memory.
    pub recorded: bool,
    /// Whether player 0 hosts a spectator at address 2.
    pub spectated: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(50),
            input_delay: 0,
            sparse: false,
            observed: true,
            read_events: true,
            recorded: false,
            spectated: false,
        }
    }
}

/// An app with the game and the oracle, without a session.
pub fn game(clock: &LabClock, observed: bool) -> App {
    game_with(
        clock,
        Settings {
            observed,
            ..default()
        },
    )
}

/// The same with `settings`, of which those of the session do not apply.
pub fn game_with(clock: &LabClock, settings: Settings) -> App {
    let mut app = App::new();
    app.add_plugins((MinimalPlugins, GgrsPlugin::<TestConfig>::default()))
        .insert_resource(TimeUpdateStrategy::ManualDuration(STEP))
        .insert_resource(clock.clone())
        .init_resource::<Oracle>()
        .init_resource::<PluginOutput>()
        .rollback_component_with_copy::<Score>()
        .checksum_component_with_hash::<Score>()
        .add_systems(ReadInputs, press)
        .add_systems(GgrsSchedule, play)
        .add_systems(
            AdvanceWorld,
            record_simulation.in_set(AdvanceWorldSystems::First),
        )
        .add_systems(SaveWorld, record_save.after(SaveWorldSystems::Snapshot));
    if settings.recorded {
        app.add_plugins(RecordPlugin::<TestConfig>::observing(None));
    }
    if settings.observed {
        let mut observers = ObservePlugin::<TestConfig>::default();
        if settings.read_events {
            observers = observers.read_events();
        }
        app.add_plugins(observers).add_systems(
            Last,
            collect.after(bevy_rollback_lab::rollback::RollbackLabSystems::Record),
        );
    }
    app.world_mut().spawn((Score(1), Rollback));
    app.finish();
    app.cleanup();
    app
}

fn press(
    mut commands: Commands,
    players: Res<LocalPlayers>,
    frame: Res<RollbackFrameCount>,
    mut oracle: ResMut<Oracle>,
) {
    oracle.ticks += 1;
    let inputs = players
        .0
        .iter()
        .map(|&player| (player, pressed(player, frame.0)));
    commands.insert_resource(LocalInputs::<TestConfig>(inputs.collect()));
}

fn play(inputs: Res<PlayerInputs<TestConfig>>, mut scores: Query<&mut Score>) {
    for mut score in &mut scores {
        for (input, _) in inputs.iter() {
            score.0 = score.0.wrapping_mul(31).wrapping_add(u32::from(*input));
        }
    }
}

fn record_simulation(
    inputs: Res<PlayerInputs<TestConfig>>,
    frame: Res<RollbackFrameCount>,
    mut oracle: ResMut<Oracle>,
) {
    oracle
        .frames
        .entry(frame.0 - 1)
        .or_default()
        .push(inputs.to_vec());
}

fn record_save(
    checksum: Res<Checksum>,
    frame: Res<RollbackFrameCount>,
    mut oracle: ResMut<Oracle>,
) {
    oracle.checksums.insert(frame.0, checksum.0);
}

fn collect(
    mut output: ResMut<PluginOutput>,
    mut facts: MessageReader<Fact<u8>>,
    mut rollbacks: MessageReader<RollbackCompleted<u8>>,
    mut reloads: MessageReader<RollbackReloaded>,
    mut stalls: MessageReader<StallEnded>,
    mut events: MessageReader<SessionEvent>,
) {
    output.facts.extend(facts.read().cloned());
    output.rollbacks.extend(rollbacks.read().cloned());
    output.reloads.extend(reloads.read().copied());
    output.stalls.extend(stalls.read().copied());
    output.events.extend(events.read().cloned());
}

/// Two apps with a P2P session each.
pub struct Duel {
    /// The virtual clock of both apps.
    pub clock: LabClock,
    /// The network between them.
    pub net: Arc<Mutex<Net>>,
    /// The apps of player 0 and player 1.
    pub apps: [App; 2],
    /// Which apps [`step`](Self::step) leaves out, as if their process were blocked.
    pub suspended: [bool; 2],
}

impl Duel {
    /// Starts a match.
    pub fn new(settings: Settings) -> Self {
        let clock = LabClock::manual(1_700_000_000_000);
        let net = Arc::new(Mutex::new(Net {
            delay: settings.delay,
            ..default()
        }));
        let apps = [0, 1].map(|me| {
            let mut app = game_with(&clock, settings);
            app.insert_resource(session(me, settings, &clock, &net));
            app
        });
        Self {
            clock,
            net,
            apps,
            suspended: [false; 2],
        }
    }

    /// Advances the clock by one frame and updates both apps.
    pub fn step(&mut self) {
        self.clock.advance(STEP);
        for (app, suspended) in self.apps.iter_mut().zip(self.suspended) {
            if !suspended {
                app.update();
            }
        }
    }

    /// Runs `count` steps.
    pub fn steps(&mut self, count: usize) {
        for _ in 0..count {
            self.step();
        }
    }

    /// Steps until app 0 has confirmed `frame`.
    pub fn until_confirmed(&mut self, frame: i32) {
        for _ in 0..frame * 2 + 600 {
            if self.apps[0].world().resource::<ConfirmedFrameCount>().0 >= frame {
                return;
            }
            self.step();
        }
        panic!("frame {frame} was not confirmed");
    }

    /// What the plugin reported in this app.
    pub fn output(&self, app: usize) -> &PluginOutput {
        self.apps[app].world().resource()
    }

    /// What the session of this app did.
    pub fn oracle(&self, app: usize) -> &Oracle {
        self.apps[app].world().resource()
    }

    /// The newest frame that this app has confirmed.
    pub fn confirmed(&self, app: usize) -> i32 {
        self.apps[app].world().resource::<ConfirmedFrameCount>().0
    }
}

/// Starts the P2P session of player `me`.
pub fn session(
    me: usize,
    settings: Settings,
    clock: &LabClock,
    net: &Arc<Mutex<Net>>,
) -> Session<TestConfig> {
    let mut builder = SessionBuilder::<TestConfig>::new()
        .with_num_players(2)
        .unwrap()
        .with_input_delay(settings.input_delay)
        .with_sparse_saving_mode(settings.sparse)
        .with_desync_detection_mode(DesyncDetection::On { interval: 10 });
    for player in 0..2 {
        let kind = if player == me {
            PlayerType::Local
        } else {
            PlayerType::Remote(player)
        };
        builder = builder.add_player(kind, player).unwrap();
    }
    if settings.spectated && me == 0 {
        builder = builder.add_player(PlayerType::Spectator(2), 2).unwrap();
    }
    let socket = Socket {
        me,
        clock: clock.clone(),
        net: net.clone(),
    };
    Session::P2P(builder.start_p2p_session(socket).unwrap())
}

/// Starts the session of a spectator at address 2, hosted by player 0.
pub fn spectator(clock: &LabClock, net: &Arc<Mutex<Net>>) -> Session<TestConfig> {
    let socket = Socket {
        me: 2,
        clock: clock.clone(),
        net: net.clone(),
    };
    let builder = SessionBuilder::<TestConfig>::new()
        .with_num_players(2)
        .unwrap();
    Session::Spectator(builder.start_spectator_session(0, socket))
}

/// The P2P session of an app.
pub fn p2p(app: &mut App) -> &mut P2PSession<TestConfig> {
    match app
        .world_mut()
        .resource_mut::<Session<TestConfig>>()
        .into_inner()
    {
        Session::P2P(session) => session,
        _ => unreachable!("the duel is P2P"),
    }
}
