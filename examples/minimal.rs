//! The smallest game with `RollbackLabPlugins`: two boxes that move to and fro.
//!
//!     cargo run --release -p rollback-lab -- serve            (in one terminal)
//!     cargo run --release --example minimal [SERVER_URL]      (in two more)

use bevy::platform::collections::HashMap;
use bevy::{app::ScheduleRunnerPlugin, log::LogPlugin, prelude::*, state::app::StatesPlugin};
use bevy_ggrs::{LocalInputs, LocalPlayers, prelude::*};
use bevy_matchbox::matchbox_socket::PeerId;
use bevy_rollback_lab::prelude::*;

type Config = GgrsConfig<u8, PeerId>;

#[derive(Component, Clone, Copy, Hash)]
#[require(Rollback)]
struct Position(usize, i32); // the player's handle, and where its box is

fn main() -> AppExit {
    let server = std::env::args().nth(1);
    let server = server.unwrap_or("ws://127.0.0.1:3536".into());
    let runner = ScheduleRunnerPlugin::run_loop(std::time::Duration::from_millis(4));
    let lab = LabConfig::new(server, "minimal").frame_limit(600);
    App::new()
        .add_plugins((
            MinimalPlugins.set(runner),
            StatesPlugin,
            LogPlugin::default(),
        ))
        .add_plugins(RollbackLabPlugins::<Config>::new(lab.episodes(1)))
        .rollback_component_with_copy::<Position>()
        .checksum_component_with_hash::<Position>()
        .add_systems(ReadInputs, read_inputs)
        .add_systems(GgrsSchedule, step)
        .add_systems(Update, log_rollbacks)
        .add_systems(OnEnter(SessionPhase::Finished), leave)
        .add_systems(OnEnter(SessionPhase::Failed), leave)
        .add_observer(|start: On<EpisodeStarting>, mut commands: Commands| {
            commands.spawn_batch((0..start.players).map(|handle| Position(handle, 0)));
        })
        .run()
}

/// In place of a keyboard: each player changes direction after a number of frames of its own.
fn read_inputs(mut tick: Local<usize>, players: Res<LocalPlayers>, mut commands: Commands) {
    *tick += 1;
    let held = |handle: usize| (handle, (*tick / (20 + 7 * handle) % 3) as u8);
    let inputs: HashMap<_, _> = players.0.iter().copied().map(held).collect();
    commands.insert_resource(LocalInputs::<Config>(inputs));
}

fn step(inputs: Res<PlayerInputs<Config>>, mut players: Query<&mut Position>) {
    for mut at in &mut players {
        at.1 += i32::from(inputs[at.0].0) - 1;
    }
}

fn log_rollbacks(mut rollbacks: MessageReader<RollbackCompleted<u8>>) {
    for r in rollbacks.read() {
        info!(
            "rolled back {} frames to frame {}: {:?}",
            r.rollback_frames, r.frame, r.cause
        );
    }
}

fn leave(phase: Res<State<SessionPhase>>, mut exit: MessageWriter<AppExit>) {
    let failed = *phase.get() == SessionPhase::Failed;
    exit.write(AppExit::from_code(failed.into()));
}
