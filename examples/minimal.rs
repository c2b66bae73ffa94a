//! The whole plugin in the smallest game: `minimal [SERVER_URL]` in two terminals, beside
//! `cargo run --release --features server --bin rollback-lab -- serve`.

use bevy::platform::collections::HashMap;
use bevy::{app::ScheduleRunnerPlugin, log::LogPlugin, prelude::*, state::app::StatesPlugin};
use bevy_ggrs::{LocalInputs, LocalPlayers, prelude::*};
use bevy_matchbox::matchbox_socket::PeerId;
use bevy_rollback_lab::prelude::*;

type Config = GgrsConfig<u8, PeerId>;

#[derive(Component, Clone, Copy, Hash)]
#[require(Rollback)]
struct Position(usize, i32); // the player's handle, and where it stands

fn main() -> AppExit {
    let server = std::env::args().nth(1);
    let server = server.unwrap_or("ws://127.0.0.1:3536".into());
    let pace = ScheduleRunnerPlugin::run_loop(std::time::Duration::from_millis(4));
    let lab = LabConfig::new(server, "minimal").frame_limit(600);
    App::new()
        .add_plugins((MinimalPlugins.set(pace), StatesPlugin, LogPlugin::default()))
        .add_plugins(RollbackLabPlugins::<Config>::new(lab.episodes(1)))
        .rollback_component_with_copy::<Position>()
        .checksum_component_with_hash::<Position>()
        .add_systems(ReadInputs, read_inputs)
        .add_systems(GgrsSchedule, step)
        .add_systems(Update, show_rollbacks)
        .add_systems(OnEnter(SessionPhase::Finished), leave)
        .add_systems(OnEnter(SessionPhase::Failed), leave)
        .add_observer(|start: On<EpisodeStarting>, mut commands: Commands| {
            commands.spawn_batch((0..start.players).map(|handle| Position(handle, 0)));
        })
        .run()
}

/// Instead of a keyboard: each player turns around now and then, at its own pace.
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

fn show_rollbacks(mut rollbacks: MessageReader<RollbackCompleted<u8>>) {
    for r in rollbacks.read() {
        info!("frame {} went back {} frames", r.frame, r.rollback_frames);
    }
}

fn leave(phase: Res<State<SessionPhase>>, mut exit: MessageWriter<AppExit>) {
    let failed = *phase.get() == SessionPhase::Failed;
    exit.write(AppExit::from_code(failed.into()));
}
