//! The measured game: entities with three rolled-back and checksummed components of integers, and
//! inputs that depend on the frame alone.
//!
//! It owns the game, never the match.

use bevy::prelude::*;
use bevy::time::TimeUpdateStrategy;
use bevy_ggrs::{
    AdvanceWorld, GgrsPlugin, GgrsSchedule, LoadWorld, LocalInputs, LocalPlayers, PlayerInputs,
    ReadInputs, Rollback, RollbackApp, RollbackFrameCount, SaveWorld,
};

use super::{BenchConfig, STEP, Script};

/// What a player presses: another value at every change.
pub fn pressed(frame: i32, every: i32) -> u8 {
    u8::try_from(frame / every % 255).unwrap() + 1
}

#[derive(Component, Clone, Copy, Hash)]
struct Position {
    x: i32,
    y: i32,
}

#[derive(Component, Clone, Copy, Hash)]
struct Velocity {
    x: i32,
    y: i32,
}

#[derive(Component, Clone, Copy, Hash)]
struct Health {
    owner: u32,
    points: u32,
}

/// Simulated frames, those simulated again among them. Not rolled back.
#[derive(Resource, Default)]
pub struct Simulated(pub u64);

#[derive(Resource, Clone, Copy)]
struct LocalEvery(i32);

fn press(
    mut commands: Commands,
    players: Res<LocalPlayers>,
    frame: Res<RollbackFrameCount>,
    every: Res<LocalEvery>,
) {
    let inputs = players
        .0
        .iter()
        .map(|&player| (player, pressed(frame.0, every.0)));
    commands.insert_resource(LocalInputs::<BenchConfig>(inputs.collect()));
}

fn steer(
    inputs: Res<PlayerInputs<BenchConfig>>,
    mut entities: Query<(&Health, &mut Velocity)>,
    mut simulated: ResMut<Simulated>,
) {
    simulated.0 += 1;
    for (health, mut velocity) in &mut entities {
        let input = i32::from(inputs[health.owner as usize].0);
        velocity.x = (velocity.x + (input & 7) - 3).clamp(-50, 50);
        velocity.y = (velocity.y + (input >> 5) - 3).clamp(-50, 50);
    }
}

fn travel(mut entities: Query<(&mut Position, &Velocity)>) {
    for (mut position, velocity) in &mut entities {
        position.x = (position.x + velocity.x).rem_euclid(10_000);
        position.y = (position.y + velocity.y).rem_euclid(10_000);
    }
}

fn wear(mut entities: Query<(&mut Health, &Position)>) {
    for (mut health, position) in &mut entities {
        if position.x < position.y {
            health.points = health.points.wrapping_mul(31).wrapping_add(1);
        }
    }
}

/// The game, without a session.
pub fn game(script: Script) -> App {
    let mut app = App::new();
    app.add_plugins((MinimalPlugins, GgrsPlugin::<BenchConfig>::default()))
        .insert_resource(TimeUpdateStrategy::ManualDuration(STEP))
        .insert_resource(LocalEvery(script.local_every))
        .init_resource::<Simulated>()
        .rollback_component_with_copy::<Position>()
        .rollback_component_with_copy::<Velocity>()
        .rollback_component_with_copy::<Health>()
        .checksum_component_with_hash::<Position>()
        .checksum_component_with_hash::<Velocity>()
        .checksum_component_with_hash::<Health>()
        .add_systems(ReadInputs, press)
        .add_systems(GgrsSchedule, (steer, travel, wear).chain());
    for entity in 0..script.entities {
        app.world_mut().spawn((
            Position {
                x: entity * 7 % 10_000,
                y: entity * 13 % 10_000,
            },
            Velocity { x: 1, y: -1 },
            Health {
                owner: entity.unsigned_abs() % 2,
                points: 100,
            },
            Rollback,
        ));
    }
    app
}

/// The schedules in which observers have systems, as the game alone fills them: to be exchanged
/// against those of a match of the same script.
pub fn bare_schedules(script: Script) -> Vec<Schedule> {
    let mut app = game(script);
    app.finish();
    app.cleanup();
    let mut schedules = app.world_mut().resource_mut::<Schedules>();
    [
        schedules.remove(PreUpdate),
        schedules.remove(ReadInputs),
        schedules.remove(LoadWorld),
        schedules.remove(AdvanceWorld),
        schedules.remove(SaveWorld),
        schedules.remove(Last),
    ]
    .map(Option::unwrap)
    .into()
}
