//! The volley game inside `bevy_ggrs`: everything that moves is rolled back and checksummed.

use std::net::SocketAddr;
use std::time::Duration;

use bevy::ecs::system::RunSystemOnce;
use bevy::prelude::*;
use bevy::time::TimeUpdateStrategy;
use bevy_ggrs::prelude::*;
use bevy_rollback_lab::proof::ForcedRollbacks;
use bevy_rollback_lab::session::EpisodeStarting;

use volley::bot::BotPlugin;
use volley::input::VolleyInput;
use volley::{CourtReader, Motion, Scoreboard, VolleyConfig, VolleyPlugin, start_court};

type Config = VolleyConfig<SocketAddr>;

#[derive(Resource, Default)]
struct Mismatches(Vec<SyncTestMismatch>);

fn sync_test(players: usize, distance: usize) -> App {
    let session = SessionBuilder::<Config>::new()
        .with_num_players(players)
        .expect("ggrs takes 1 player or more")
        .with_check_distance(distance)
        .with_input_delay(0);
    let session = (0..players)
        .try_fold(session, |session, handle| {
            session.add_player(PlayerType::Local, handle)
        })
        .expect("handles below the number of players are valid")
        .start_synctest_session()
        .expect("every player was added");
    let mut app = App::new();
    app.add_plugins((
        MinimalPlugins,
        GgrsPlugin::<Config>::default(),
        VolleyPlugin::<Config>::default(),
        BotPlugin::<Config>::new(7, 60),
    ))
    // A frame of ggrs is 16,666,666 ns: every update advances exactly once.
    .insert_resource(TimeUpdateStrategy::ManualDuration(Duration::from_nanos(
        16_666_667,
    )))
    .init_resource::<Mismatches>()
    .add_observer(|on: On<SyncTestMismatch>, mut all: ResMut<Mismatches>| {
        all.0.push(on.event().clone());
    });
    start_court(app.world_mut(), players, 7);
    app.insert_resource(Session::SyncTest(session));
    app
}

fn run(app: &mut App, frames: i32) {
    // The first update only starts the clock.
    for _ in 0..=frames {
        app.update();
    }
}

#[test]
fn resimulating_seven_frames_changes_nothing_in_600() {
    for players in [2, 4] {
        let mut app = sync_test(players, 7);
        run(&mut app, 600);
        let mismatches = &app.world().resource::<Mismatches>().0;
        assert!(mismatches.is_empty(), "{players} players: {mismatches:?}");
        let score = app.world().resource::<Scoreboard>();
        assert!((599..=601).contains(&score.tick), "{} frames", score.tick);
        assert!(score.longest > 0, "the ball must have changed sides");
    }
}

#[test]
fn forced_rollbacks_up_to_eight_frames_change_nothing_in_600() {
    for players in [2, 4] {
        let report = ForcedRollbacks::<Config>::new(7, |bits| VolleyInput::from_bits(bits as u8))
            .players(players)
            .name::<Motion>()
            .name::<Scoreboard>()
            .run(|| {
                let mut app = App::new();
                app.add_plugins((MinimalPlugins, VolleyPlugin::<Config>::default()))
                    .add_observer(set_up);
                app
            })
            .unwrap_or_else(|divergence| panic!("{players} players: {divergence}"));
        assert_eq!(report.rollbacks, 600);
        assert_eq!(report.most_entities, players + 1, "players and the ball");
    }
}

fn set_up(starting: On<EpisodeStarting>, mut commands: Commands) {
    let EpisodeStarting { players, seed, .. } = *starting.event();
    commands.queue(move |world: &mut World| start_court(world, players, seed));
}

/// The guard of the first test: state that is not rolled back is seen as a mismatch.
#[test]
fn a_simulation_that_depends_on_outside_state_is_caught() {
    #[derive(Resource, Default)]
    struct NotRolledBack(u32);

    let mut app = sync_test(2, 7);
    app.init_resource::<NotRolledBack>().add_systems(
        bevy_ggrs::AdvanceWorld,
        (|mut outside: ResMut<NotRolledBack>, mut score: ResMut<Scoreboard>| {
            outside.0 += 1;
            score.rng ^= u64::from(outside.0);
        })
        .in_set(bevy_ggrs::AdvanceWorldSystems::Last),
    );
    run(&mut app, 30);
    assert!(!app.world().resource::<Mismatches>().0.is_empty());
}

#[test]
fn a_new_court_replaces_the_old_one() {
    let mut app = sync_test(2, 7);
    run(&mut app, 100);
    start_court(app.world_mut(), 4, 9);
    let court = app
        .world_mut()
        .run_system_once(|court: CourtReader| court.court())
        .unwrap();
    assert_eq!(court, Some(volley::court::Court::new(4, 9)));
}
