//! The measured game: entities with three rolled-back and checksummed components of integers, and
//! inputs that depend on the frame alone.

use bevy::prelude::*;
use bevy::time::TimeUpdateStrategy;
use bevy_ggrs::{
    AdvanceWorld, GgrsPlugin, GgrsSchedule, LoadWorld, LocalInputs, LocalPlayers, PlayerInputs,
    ReadInputs, Rollback, RollbackApp, RollbackFrameCount, SaveWorld,
};

use super::{BenchConfig, STEP, Workload};

/// The input of a player in `frame`: another value every `every` frames, never the default one.
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

/// Number of simulated frames, resimulated ones included. Not rolled back.
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
pub fn game(workload: Workload) -> App {
    let mut app = App::new();
    app.add_plugins((MinimalPlugins, GgrsPlugin::<BenchConfig>::default()))
        .insert_resource(TimeUpdateStrategy::ManualDuration(STEP))
        .insert_resource(LocalEvery(workload.local_every))
        .init_resource::<Simulated>()
        .rollback_component_with_copy::<Position>()
        .rollback_component_with_copy::<Velocity>()
        .rollback_component_with_copy::<Health>()
        .checksum_component_with_hash::<Position>()
        .checksum_component_with_hash::<Velocity>()
        .checksum_component_with_hash::<Health>()
        .add_systems(ReadInputs, press)
        .add_systems(GgrsSchedule, (steer, travel, wear).chain());
    for entity in 0..workload.entities {
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

/// The schedules in which the observers have systems, without those systems. Swap them into a match
/// of the same workload to time it with and without observers
/// ([`Duel::swap_schedules`](super::Duel::swap_schedules)).
pub fn bare_schedules(workload: Workload) -> Vec<Schedule> {
    let mut app = game(workload);
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
