//! Two small `bevy_ggrs` apps over an in-memory network in virtual time, with a witness that keeps
//! everything their sessions did.

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

pub type TestConfig = GgrsConfig<u8, usize>;

/// One 60 Hz frame, rounded up so that every update has a due step.
pub const STEP: Duration = Duration::from_nanos(16_666_667);

/// Packets under way, delivered when their time has come.
#[derive(Default)]
pub struct Net {
    pub delay: Duration,
    flying: Vec<(Duration, usize, usize, GgrsMessage)>,
}

impl Net {
    /// Loses everything under way.
    pub fn clear(&mut self) {
        self.flying.clear();
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
        net.flying.push((due, self.me, *to, message.clone()));
    }

    fn receive_all_messages(&mut self) -> Vec<(usize, GgrsMessage)> {
        let mut net = self.net.lock().unwrap();
        let now = self.clock.now();
        let mine = |packet: &mut (Duration, usize, usize, GgrsMessage)| {
            packet.2 == self.me && packet.0 <= now
        };
        let arrived = net.flying.extract_if(.., mine);
        arrived
            .map(|(_, from, _, message)| (from, message))
            .collect()
    }
}

/// What an app's session did, kept whole by systems of the test's own.
#[derive(Resource, Default)]
pub struct Witness {
    /// Every simulation of every frame.
    pub frames: BTreeMap<i32, Vec<Vec<(u8, InputStatus)>>>,
    /// The newest save of every frame.
    pub checksums: BTreeMap<i32, u128>,
    pub ticks: u32,
}

/// Every message that the plugin wrote.
#[derive(Resource, Default, Debug)]
pub struct Told {
    pub facts: Vec<Fact<u8>>,
    pub rollbacks: Vec<RollbackCompleted<u8>>,
    pub reloads: Vec<RollbackReloaded>,
    pub stalls: Vec<StallEnded>,
    pub events: Vec<SessionEvent>,
}

#[derive(Component, Clone, Copy, Hash)]
pub struct Score(u32);

impl Score {
    /// Makes this peer's state differ from the other's.
    pub fn spoil(&mut self) {
        self.0 = !self.0;
    }
}

/// What a player presses at a frame: half the time busily, half the time holding one button.
pub fn pressed(player: usize, frame: i32) -> u8 {
    let busy = frame - (frame % 100 - 50).max(0);
    let held = busy as u32 / (5 + player as u32 * 2);
    (held
        .wrapping_mul(2_654_435_761)
        .wrapping_add(player as u32 * 977)
        >> 28) as u8
}

#[derive(Clone, Copy)]
pub struct Settings {
    pub delay: Duration,
    pub input_delay: usize,
    pub sparse: bool,
    pub observed: bool,
    /// Records in memory what is observed.
    pub recorded: bool,
    /// Player 0 hosts a spectator at address 2.
    pub watched: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(50),
            input_delay: 0,
            sparse: false,
            observed: true,
            recorded: false,
            watched: false,
        }
    }
}

/// An app with the game and the witness, without a session.
pub fn game(clock: &LabClock, observed: bool) -> App {
    game_by(
        clock,
        Settings {
            observed,
            ..default()
        },
    )
}

/// The same, recorded if the settings say so.
pub fn game_by(clock: &LabClock, settings: Settings) -> App {
    let mut app = App::new();
    app.add_plugins((MinimalPlugins, GgrsPlugin::<TestConfig>::default()))
        .insert_resource(TimeUpdateStrategy::ManualDuration(STEP))
        .insert_resource(clock.clone())
        .init_resource::<Witness>()
        .init_resource::<Told>()
        .rollback_component_with_copy::<Score>()
        .checksum_component_with_hash::<Score>()
        .add_systems(ReadInputs, press)
        .add_systems(GgrsSchedule, play)
        .add_systems(
            AdvanceWorld,
            witness_frame.in_set(AdvanceWorldSystems::First),
        )
        .add_systems(SaveWorld, witness_save.after(SaveWorldSystems::Snapshot));
    if settings.recorded {
        app.add_plugins(RecordPlugin::<TestConfig>::observing(None));
    }
    if settings.observed {
        app.add_plugins(ObservePlugin::<TestConfig>::default())
            .add_systems(
                Last,
                listen.after(bevy_rollback_lab::rollback::RollbackLabSystems::Record),
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
    mut witness: ResMut<Witness>,
) {
    witness.ticks += 1;
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

fn witness_frame(
    inputs: Res<PlayerInputs<TestConfig>>,
    frame: Res<RollbackFrameCount>,
    mut witness: ResMut<Witness>,
) {
    witness
        .frames
        .entry(frame.0 - 1)
        .or_default()
        .push(inputs.to_vec());
}

fn witness_save(
    checksum: Res<Checksum>,
    frame: Res<RollbackFrameCount>,
    mut witness: ResMut<Witness>,
) {
    witness.checksums.insert(frame.0, checksum.0);
}

fn listen(
    mut told: ResMut<Told>,
    mut facts: MessageReader<Fact<u8>>,
    mut rollbacks: MessageReader<RollbackCompleted<u8>>,
    mut reloads: MessageReader<RollbackReloaded>,
    mut stalls: MessageReader<StallEnded>,
    mut events: MessageReader<SessionEvent>,
) {
    told.facts.extend(facts.read().cloned());
    told.rollbacks.extend(rollbacks.read().cloned());
    told.reloads.extend(reloads.read().copied());
    told.stalls.extend(stalls.read().copied());
    told.events.extend(events.read().cloned());
}

/// Two apps with a P2P session each.
pub struct Duel {
    pub clock: LabClock,
    pub net: Arc<Mutex<Net>>,
    pub apps: [App; 2],
    pub frozen: [bool; 2],
}

impl Duel {
    pub fn new(settings: Settings) -> Self {
        let clock = LabClock::manual(1_700_000_000_000);
        let net = Arc::new(Mutex::new(Net {
            delay: settings.delay,
            ..default()
        }));
        let apps = [0, 1].map(|me| {
            let mut app = game_by(&clock, settings);
            app.insert_resource(session(me, settings, &clock, &net));
            app
        });
        Self {
            clock,
            net,
            apps,
            frozen: [false; 2],
        }
    }

    /// One 60 Hz step of both apps.
    pub fn step(&mut self) {
        self.clock.advance(STEP);
        for (app, frozen) in self.apps.iter_mut().zip(self.frozen) {
            if !frozen {
                app.update();
            }
        }
    }

    pub fn steps(&mut self, count: usize) {
        for _ in 0..count {
            self.step();
        }
    }

    /// Steps until app 0 has confirmed a frame.
    pub fn until_confirmed(&mut self, frame: i32) {
        for _ in 0..frame * 2 + 600 {
            if self.apps[0].world().resource::<ConfirmedFrameCount>().0 >= frame {
                return;
            }
            self.step();
        }
        panic!("frame {frame} was not confirmed");
    }

    pub fn told(&self, app: usize) -> &Told {
        self.apps[app].world().resource()
    }

    pub fn witness(&self, app: usize) -> &Witness {
        self.apps[app].world().resource()
    }

    pub fn confirmed(&self, app: usize) -> i32 {
        self.apps[app].world().resource::<ConfirmedFrameCount>().0
    }
}

/// A P2P session between player 0 and player 1, each on a peer of its own.
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
    if settings.watched && me == 0 {
        builder = builder.add_player(PlayerType::Spectator(2), 2).unwrap();
    }
    let socket = Socket {
        me,
        clock: clock.clone(),
        net: net.clone(),
    };
    Session::P2P(builder.start_p2p_session(socket).unwrap())
}

/// The session of a spectator at address 2 whom player 0 hosts.
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
