//! Forced rollbacks and named sync tests: each kind of desync that `bevy_ggrs` lists as a pitfall
//! is planted, detected, and reported with its likely cause.
#![expect(clippy::unwrap_used, reason = "helpers of a test fail by panicking")]

use std::collections::HashMap;
use std::time::Duration;

use bevy::prelude::*;
use bevy::time::TimeUpdateStrategy;
use bevy_ggrs::prelude::*;
use bevy_ggrs::{LocalInputs, LocalPlayers, RollbackOrdered};
use bevy_rollback_lab::proof::{
    Comparison, DesyncFound, Divergence, ForcedReport, ForcedRollbacks, Pitfall,
    SyncTestNamesPlugin,
};

type Config = GgrsConfig<u8>;

#[derive(Component, Clone, Copy, Debug, Hash)]
#[require(Rollback)]
struct Position(i64);

/// A short-lived entity, which a load must restore.
#[derive(Component, Clone, Copy, Debug, Hash)]
#[require(Rollback)]
struct Bullet {
    power: u32,
    left: u32,
}

#[derive(Resource, Clone, Copy, Debug, Default, Hash)]
struct Score(u64);

/// Two walkers that shoot on odd inputs; everything is registered for rollback.
fn game() -> App {
    let mut app = App::new();
    app.add_plugins(MinimalPlugins)
        .init_resource::<Score>()
        .rollback_component_with_copy::<Position>()
        .rollback_component_with_copy::<Bullet>()
        .rollback_resource_with_copy::<Score>()
        .checksum_component_with_hash::<Position>()
        .checksum_component_with_hash::<Bullet>()
        .checksum_resource_with_hash::<Score>()
        .add_systems(Startup, |mut commands: Commands| {
            commands.spawn_batch([Position(0), Position(100)]);
        })
        .add_systems(GgrsSchedule, (walk, shoot, fly).chain());
    app
}

fn walk(inputs: Res<PlayerInputs<Config>>, mut walkers: Query<&mut Position>) {
    let step: i64 = inputs.iter().map(|(input, _)| i64::from(*input)).sum();
    for mut position in &mut walkers {
        position.0 += step;
    }
}

fn shoot(inputs: Res<PlayerInputs<Config>>, score: Res<Score>, mut commands: Commands) {
    for (input, _) in inputs.iter().filter(|(input, _)| input & 1 == 1) {
        commands.spawn(Bullet {
            power: u32::from(*input),
            left: 2 + (score.0 % 5) as u32,
        });
    }
}

/// A sum that does not depend on the order of the bullets.
fn fly(
    mut bullets: Query<(Entity, &mut Bullet)>,
    mut score: ResMut<Score>,
    mut commands: Commands,
) {
    score.0 = score.0.wrapping_add(1);
    for (entity, mut bullet) in &mut bullets {
        bullet.left -= 1;
        score.0 = score.0.wrapping_add(u64::from(bullet.power));
        if bullet.left == 0 {
            commands.entity(entity).despawn();
        }
    }
}

fn forced(build: impl Fn() -> App) -> Result<ForcedReport, Divergence> {
    ForcedRollbacks::<Config>::new(11, |bits| (bits % 7) as u8)
        .frames(200)
        .name::<Position>()
        .name::<Bullet>()
        .name::<Score>()
        .name::<Wind>()
        .name::<Fuel>()
        .name::<Target>()
        .run(build)
}

/// The divergence that a planted fault causes; its message is printed.
fn caught(plant: impl Fn(&mut App)) -> Divergence {
    let divergence = forced(|| {
        let mut app = game();
        plant(&mut app);
        app
    })
    .expect_err("a planted fault is caught");
    println!("{divergence}");
    divergence
}

fn names(divergence: &Divergence, part: &str) -> bool {
    divergence.parts.iter().any(|name| name.ends_with(part))
}

#[test]
fn a_sound_game_passes_200_mispredictions() {
    let report = forced(game).unwrap_or_else(|divergence| panic!("{divergence}"));
    assert_eq!(report.rollbacks, 200);
    assert_eq!(
        report.types, 4,
        "three of the game and the count of entities"
    );
    assert!(
        report.most_entities > 2,
        "the walkers, and bullets that come and go: {report:?}"
    );
    assert!(
        report.simulated > 200 * 5,
        "every frame is simulated again several times: {report:?}"
    );
}

#[test]
fn a_fixed_depth_rolls_back_the_same_number_of_frames_each_time() {
    let report = ForcedRollbacks::<Config>::new(11, |bits| (bits % 7) as u8)
        .frames(50)
        .depth(3)
        .run(game)
        .unwrap();
    // Every frame once, then 1, 2 and 48 times 3 frames, each mispredicted and corrected.
    assert_eq!(report.simulated, 50 + 2 * (1 + 2 + 48 * 3));
}

#[test]
fn equal_seeds_force_equal_rollbacks() {
    assert_eq!(forced(game), forced(game));
}

#[derive(Resource, Clone, Copy, Default)]
struct Wind(i64);

#[test]
fn an_unregistered_resource_is_named() {
    let divergence = caught(|app| {
        app.init_resource::<Wind>().add_systems(
            GgrsSchedule,
            (|mut wind: ResMut<Wind>, mut walkers: Query<&mut Position>| {
                wind.0 += 1;
                for mut position in &mut walkers {
                    position.0 += wind.0;
                }
            })
            .after(walk)
            .before(shoot),
        );
    });
    assert!(names(&divergence, "Position"), "{divergence}");
    let wind = std::any::type_name::<Wind>().to_owned();
    assert_eq!(
        divergence.pitfalls,
        [Pitfall::UnregisteredResource(wind.clone())]
    );
    let message = divergence.to_string();
    assert!(
        message.contains("Position` differs after resimulation from frame")
            && message.contains(&wind),
        "{message}"
    );
}

#[derive(Component, Clone, Copy, Default)]
struct Fuel(i64);

#[test]
fn an_unregistered_component_is_named() {
    let divergence = caught(|app| {
        app.register_required_components::<Position, Fuel>();
        app.add_systems(
            GgrsSchedule,
            (|mut walkers: Query<(&mut Position, &mut Fuel)>| {
                for (mut position, mut fuel) in &mut walkers {
                    fuel.0 += 1;
                    position.0 += fuel.0;
                }
            })
            .after(walk)
            .before(shoot),
        );
    });
    assert!(names(&divergence, "Position"), "{divergence}");
    let fuel = std::any::type_name::<Fuel>().to_owned();
    assert_eq!(divergence.pitfalls, [Pitfall::UnregisteredComponent(fuel)]);
}

#[test]
fn a_result_that_depends_on_query_order_is_reported_as_query_order() {
    let divergence = caught(|app| {
        app.add_systems(
            GgrsSchedule,
            (|bullets: Query<&Bullet>, mut score: ResMut<Score>| {
                for bullet in &bullets {
                    score.0 = score
                        .0
                        .wrapping_mul(31)
                        .wrapping_add(u64::from(bullet.power));
                }
            })
            .after(fly),
        );
    });
    assert!(names(&divergence, "Score"), "{divergence}");
    assert!(
        matches!(divergence.pitfalls[..], [Pitfall::QueryOrder { frame }] if frame <= divergence.frame),
        "{divergence}"
    );
}

#[test]
fn a_system_that_sorts_its_query_passes() {
    let report = forced(|| {
        let mut app = game();
        app.add_systems(
            GgrsSchedule,
            (|bullets: Query<(&bevy_ggrs::RollbackId, &Bullet)>,
              order: Res<RollbackOrdered>,
              mut score: ResMut<Score>| {
                let mut sorted: Vec<_> = bullets.iter().collect();
                sorted.sort_by_key(|(id, _)| order.order(**id));
                for (_, bullet) in sorted {
                    score.0 = score
                        .0
                        .wrapping_mul(31)
                        .wrapping_add(u64::from(bullet.power));
                }
            })
            .after(fly),
        );
        app
    });
    assert!(report.is_ok(), "{report:?}");
}

#[test]
fn a_local_is_reported_as_hidden_state() {
    let divergence = caught(|app| {
        app.add_systems(
            GgrsSchedule,
            (|mut calls: Local<i64>, mut walkers: Query<&mut Position>| {
                *calls += 1;
                for mut position in &mut walkers {
                    position.0 += *calls;
                }
            })
            .after(walk)
            .before(shoot),
        );
    });
    assert!(names(&divergence, "Position"), "{divergence}");
    assert_eq!(divergence.pitfalls, [Pitfall::HiddenState]);
    assert!(divergence.to_string().contains("`Local`"));
}

#[test]
fn a_local_that_is_empty_only_in_the_first_simulation_is_caught() {
    let divergence = caught(|app| {
        app.add_systems(
            GgrsSchedule,
            (|mut greeted: Local<bool>, mut walkers: Query<&mut Position>| {
                if !std::mem::replace(&mut *greeted, true) {
                    for mut position in &mut walkers {
                        position.0 += 1000;
                    }
                }
            })
            .after(walk)
            .before(shoot),
        );
    });
    assert_eq!(divergence.frame, 1);
    assert_eq!(divergence.pitfalls, [Pitfall::IncompleteSnapshot]);
}

#[test]
fn hash_map_order_is_caught_by_two_runs_without_a_rollback() {
    let divergence = caught(|app| {
        app.add_systems(
            GgrsSchedule,
            (|mut walkers: Query<&mut Position>| {
                let map: HashMap<i64, ()> = (0..64).map(|key| (key, ())).collect();
                let first = map.keys().next().copied().unwrap_or_default();
                for mut position in &mut walkers {
                    position.0 += first;
                }
            })
            .after(walk)
            .before(shoot),
        );
    });
    assert!(names(&divergence, "Position"), "{divergence}");
    assert_eq!(divergence.comparison, Comparison::TwoRuns);
    assert_eq!(divergence.pitfalls, [Pitfall::Randomness]);
    assert!(divergence.to_string().contains("`HashMap`"));
}

#[derive(Component, Clone, Copy)]
struct Target(Entity);

#[test]
fn an_unmapped_entity_id_is_caught() {
    let divergence = caught(|app| {
        app.rollback_component_with_copy::<Target>().add_systems(
            GgrsSchedule,
            (
                |bullets: Query<Entity, (With<Bullet>, Without<Target>)>,
                 mut commands: Commands| {
                    for bullet in &bullets {
                        commands.entity(bullet).insert(Target(bullet));
                    }
                },
                |bullets: Query<&Target>, others: Query<&Bullet>, mut score: ResMut<Score>| {
                    let lost = bullets.iter().filter(|of| !others.contains(of.0)).count();
                    score.0 = score.0.wrapping_add(1_000 * lost as u64);
                },
            )
                .chain()
                .after(fly),
        );
    });
    assert!(names(&divergence, "Score"), "{divergence}");
}

#[test]
fn an_unnamed_type_is_reported_with_the_way_to_name_it() {
    let divergence = ForcedRollbacks::<Config>::new(11, |bits| (bits % 7) as u8)
        .frames(60)
        .run(|| {
            let mut app = game();
            app.add_systems(
                GgrsSchedule,
                (|mut calls: Local<u64>, mut score: ResMut<Score>| {
                    *calls += 1;
                    score.0 = score.0.wrapping_add(*calls);
                })
                .after(fly),
            );
            app
        })
        .expect_err("a planted fault is caught");
    let message = divergence.to_string();
    assert!(
        message.contains("Score") || message.contains("`.name::<T>()`"),
        "{message}"
    );
}

#[derive(Resource, Default)]
struct Found(Vec<DesyncFound>);

/// Runs ggrs's own sync test, which checks eight frames at a time.
fn sync_test(app: &mut App) {
    let session = SessionBuilder::<Config>::new()
        .with_num_players(2)
        .unwrap()
        .with_check_distance(7)
        .with_input_delay(0)
        .add_player(PlayerType::Local, 0)
        .unwrap()
        .add_player(PlayerType::Local, 1)
        .unwrap()
        .start_synctest_session()
        .unwrap();
    app.add_plugins((
        GgrsPlugin::<Config>::default(),
        SyncTestNamesPlugin::<Config>::default()
            .name::<Position>()
            .name::<Score>(),
    ))
    .insert_resource(TimeUpdateStrategy::ManualDuration(Duration::from_nanos(
        16_666_667,
    )))
    .insert_resource(Session::SyncTest(session))
    .init_resource::<Found>()
    .add_observer(|found: On<DesyncFound>, mut all: ResMut<Found>| {
        all.0.push(found.event().clone());
    })
    .add_systems(
        ReadInputs,
        |players: Res<LocalPlayers>, mut commands: Commands| {
            let inputs = players.0.iter().map(|&player| (player, 3));
            commands.insert_resource(LocalInputs::<Config>(inputs.collect()));
        },
    );
    for _ in 0..60 {
        app.update();
    }
}

#[test]
fn a_sync_test_names_the_first_differing_component() {
    let mut app = game();
    app.add_systems(
        GgrsSchedule,
        (|mut calls: Local<i64>, mut walkers: Query<&mut Position>| {
            *calls += 1;
            for mut position in &mut walkers {
                position.0 += *calls;
            }
        })
        .after(walk)
        .before(shoot),
    );
    sync_test(&mut app);
    let found = &app.world().resource::<Found>().0;
    assert_eq!(found.len(), 1, "only the first one is reported: {found:?}");
    let position = std::any::type_name::<Position>().to_owned();
    assert_eq!(found[0].parts, [position]);
    assert!(found[0].frame > 0);
}

#[test]
fn a_sync_test_of_a_sound_game_names_nothing() {
    let mut app = game();
    sync_test(&mut app);
    assert!(app.world().resource::<Score>().0 > 0, "it was played");
    assert!(app.world().resource::<Found>().0.is_empty());
}
