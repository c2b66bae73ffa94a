//! Replaying a file in its own game: every hash is equal, a difference is found at its first frame,
//! and a replay shows the same state at a frame whether it was played or seeked to.
#![expect(clippy::unwrap_used, reason = "helpers of a test fail by panicking")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bevy::prelude::*;
use bevy::time::TimeUpdateStrategy;
use bevy_ggrs::ggrs::InputStatus;
use bevy_ggrs::prelude::*;
use bevy_ggrs::{LocalInputs, LocalPlayers, RollbackFrameCount};
use bevy_rollback_lab::clock::LabClock;
use bevy_rollback_lab::internals::offline::Driver;
use bevy_rollback_lab::internals::sink::RecordSink;
use bevy_rollback_lab::offline::OfflinePlugin;
use bevy_rollback_lab::record::{EpisodeDocument, Hex64, RecordPlugin};
use bevy_rollback_lab::replay::{self, DifferenceKind, Replay, ReplayPlugin, ReplayReport, View};
use bevy_rollback_lab::rollback::{ObservePlugin, RollbackCompleted};
use rollback_lab_test_kit::observed::{Duel, Net, STEP, Settings, TestConfig, pressed, session};

#[derive(Component, Clone, Copy, Debug, Hash, PartialEq)]
#[require(Rollback)]
struct Sum(u64);

/// The sine of this platform.
#[derive(Resource, Clone, Copy)]
struct Precision(fn(f64) -> f64);

/// Two platforms whose sines differ in the last bits.
const NATIVE: Precision = Precision(f64::sin);
const OTHER: Precision = Precision(|x| f64::from((x as f32).sin()));

/// A game without any replay code, which spawns its entities at startup.
fn game(precision: Precision) -> App {
    let mut app = App::new();
    app.add_plugins(MinimalPlugins)
        .insert_resource(precision)
        .insert_resource(TimeUpdateStrategy::ManualDuration(STEP))
        .rollback_component_with_copy::<Sum>()
        .checksum_component_with_hash::<Sum>()
        .add_systems(Startup, |mut commands: Commands| {
            commands.spawn(Sum(1));
        })
        .add_systems(GgrsSchedule, add_up);
    app
}

fn add_up(
    inputs: Res<PlayerInputs<TestConfig>>,
    precision: Res<Precision>,
    mut sums: Query<&mut Sum>,
) {
    for mut sum in &mut sums {
        for (input, _) in inputs.iter() {
            sum.0 = sum.0.wrapping_mul(31).wrapping_add(u64::from(*input));
        }
        // Only input 13 uses floats, so the platforms differ from a known frame on.
        if inputs.iter().any(|(input, _)| *input == 13) {
            sum.0 ^= (precision.0)(sum.0 as f64).to_bits();
        }
    }
}

/// The file of a match at 50 ms, played by the same game.
fn file(frames: i32) -> EpisodeDocument {
    let settings = Settings {
        delay: Duration::from_millis(50),
        input_delay: 0,
        ..default()
    };
    let clock = LabClock::manual(1_700_000_000_000);
    let net = Arc::new(Mutex::new(Net::default()));
    net.lock().unwrap().delay = settings.delay;
    let apps = [0, 1].map(|me| {
        let mut app = game(NATIVE);
        app.insert_resource(clock.clone())
            .add_plugins((
                GgrsPlugin::<TestConfig>::default(),
                ObservePlugin::<TestConfig>::default(),
                RecordPlugin::<TestConfig>::observing(None),
            ))
            .add_systems(ReadInputs, press)
            .insert_resource(session(me, settings, &clock, &net));
        app.finish();
        app.cleanup();
        app
    });
    let mut duel = Duel {
        clock,
        net,
        apps,
        suspended: [false; 2],
    };
    duel.until_confirmed(frames);
    let app = &mut duel.apps[0];
    app.world_mut().remove_resource::<Session<TestConfig>>();
    duel.step();
    let files = duel.apps[0].world().resource::<RecordSink>().files();
    let bytes = files.values().next().unwrap();
    let document = EpisodeDocument::parse(str::from_utf8(bytes).unwrap()).unwrap();
    assert!(
        document.rollbacks.count > frames.unsigned_abs() as u64 / 25,
        "the match rolled back: {}",
        document.rollbacks.count
    );
    assert!(document.sync.hashes.values.len() > 1, "states were hashed");
    document
}

fn press(players: Res<LocalPlayers>, frame: Res<RollbackFrameCount>, mut commands: Commands) {
    let inputs = players
        .0
        .iter()
        .map(|&player| (player, pressed(player, frame.0)));
    commands.insert_resource(LocalInputs::<TestConfig>(inputs.collect()));
}

fn check(document: &EpisodeDocument, precision: Precision, view: View) -> ReplayReport {
    replay::check::<TestConfig>(game(precision), document, view).unwrap()
}

#[test]
fn a_file_replays_to_its_own_hashes_in_both_views() {
    let document = file(300);
    let canonical = check(&document, NATIVE, View::Canonical);
    assert!(canonical.is_proven(), "{canonical}");
    assert_eq!(canonical.simulated, u64::from(canonical.frames));
    assert_eq!(canonical.rollbacks, 0);
    assert_eq!(
        canonical.hashes_checked as usize,
        document.sync.hashes.values.len()
    );
    let seen = check(&document, NATIVE, View::AsSeen);
    assert!(seen.is_proven(), "{seen}");
    assert!(seen.rollbacks > 10, "its rollbacks run again: {seen}");
    let resimulated = u64::from(seen.frames) + document.rollbacks.resimulated_frames;
    // Frames beyond the last confirmed one are not played.
    assert!(
        (resimulated - 16..=resimulated).contains(&seen.simulated),
        "{} frames of {resimulated}",
        seen.simulated
    );
}

#[test]
fn a_difference_in_float_arithmetic_is_found_at_the_next_hash() {
    let document = file(400);
    let differs_from = first_frame_pressing_13(&document);
    let report = check(&document, OTHER, View::Canonical);
    let difference = report.first_difference.unwrap();
    assert_eq!(difference.kind, DifferenceKind::State);
    let every = document.sync.hashes.every_frames as i32;
    let frame = difference.frame.unwrap();
    assert!(
        frame > differs_from && frame <= differs_from + every,
        "the platforms differ from frame {differs_from}, reported is {frame}"
    );
}

fn first_frame_pressing_13(document: &EpisodeDocument) -> i32 {
    let mut first = i32::MAX;
    for player in &document.inputs.confirmed {
        let mut frame = 0;
        for (input, count) in &player.runs {
            if *input == 13 {
                first = first.min(frame);
            }
            frame += *count as i32;
        }
    }
    assert!(first < 300, "input 13 occurs");
    first
}

#[test]
fn a_difference_in_a_file_of_another_target_names_floats() {
    let mut document = file(400);
    document.software.target = String::from("wasm32-unknown");
    let report = check(&document, OTHER, View::Canonical).to_string();
    assert!(
        report.contains("recorded on wasm32-unknown") && report.contains("floats"),
        "{report}"
    );
}

#[test]
fn an_edited_file_is_reported_by_the_edited_part() {
    let document = file(200);
    let found = |document: &EpisodeDocument| {
        let report = check(document, NATIVE, View::Canonical);
        assert!(!report.is_proven());
        report.first_difference.unwrap()
    };
    let mut edited = document.clone();
    edited.episode.initial_state_hash = Some(Hex64(1));
    assert_eq!(found(&edited).kind, DifferenceKind::InitialState);

    let mut edited = document.clone();
    edited.sync.hashes.values[2] = Some(Hex64(1));
    let difference = found(&edited);
    let every = document.sync.hashes.every_frames as i32;
    assert_eq!(
        (difference.kind, difference.frame),
        (DifferenceKind::State, Some(2 * every))
    );

    let mut edited = document.clone();
    edited.sync.history_digest = Hex64(1);
    assert_eq!(found(&edited).kind, DifferenceKind::HistoryDigest);

    // An input of the last frames changes no hash that is in the file, but the digest.
    let mut edited = document;
    let run = edited.inputs.confirmed[0].runs.last_mut().unwrap();
    run.0 = serde_json::json!(99);
    let difference = found(&edited);
    assert_ne!(
        difference.kind,
        DifferenceKind::InitialState,
        "{difference}"
    );
}

#[test]
fn a_game_without_checksums_proves_nothing() {
    let mut document = file(120);
    document.sync.hashes.values.clear();
    document.episode.initial_state_hash = None;
    let report = check(&document, NATIVE, View::Canonical);
    assert_eq!(report.hashes_checked, 0);
    assert!(!report.is_proven(), "{report}");
}

#[derive(Resource, Default)]
struct Shown(Vec<RollbackCompleted<u8>>);

/// A replay that is paused before frame 0; startup systems have run.
fn paused_replay(document: &EpisodeDocument, view: View) -> App {
    let mut app = game(NATIVE);
    let plugin = ReplayPlugin::<TestConfig>::new(document).unwrap();
    app.add_plugins(plugin.view(view).paused())
        .init_resource::<Shown>()
        .add_systems(
            Update,
            |mut read: MessageReader<RollbackCompleted<u8>>, mut shown: ResMut<Shown>| {
                shown.0.extend(read.read().cloned());
            },
        );
    app.finish();
    app.cleanup();
    app.update();
    app
}

/// Applies a command to the replay and updates once; returns the frame and state shown.
fn control(app: &mut App, command: impl FnOnce(&mut Replay)) -> (i32, Sum) {
    command(&mut app.world_mut().resource_mut::<Replay>());
    app.update();
    state(app)
}

fn state(app: &mut App) -> (i32, Sum) {
    let mut sums = app.world_mut().query::<&Sum>();
    let sum = *sums.single(app.world()).unwrap();
    (app.world().resource::<Replay>().frame(), sum)
}

/// The state at every frame of a view, by single steps.
fn states(document: &EpisodeDocument, view: View) -> Vec<(i32, Sum)> {
    let mut app = paused_replay(document, view);
    let mut states = vec![state(&mut app)];
    while !app.world().resource::<Replay>().is_over() {
        states.push(control(&mut app, |replay| replay.step(1)));
    }
    states
}

#[test]
fn seeking_shows_the_same_state_as_playing() {
    let document = file(300);
    for view in [View::Canonical, View::AsSeen] {
        let states = states(&document, view);
        assert!(states.len() > 290);
        let mut app = paused_replay(&document, view);
        for target in [250, 7, 7, 120, 121, 60, 0, 299, 61, 180, 179] {
            let shown = control(&mut app, |replay| replay.seek(target));
            assert_eq!(shown, states[target as usize], "{view:?}, frame {target}");
        }
        let back = control(&mut app, |replay| replay.step(-30));
        assert_eq!(back, states[149], "{view:?}");
    }
}

#[test]
fn the_lateness_of_the_newest_input_equals_the_file() {
    let document = file(200);
    let runs = &document.timeline.lateness[0];
    let mut late = runs
        .runs
        .iter()
        .flat_map(|&(late, count)| std::iter::repeat_n(late, count as usize));
    let mut app = paused_replay(&document, View::AsSeen);
    control(&mut app, |replay| replay.seek(120));
    let lateness = app.world().resource::<Replay>().lateness().to_vec();
    assert_eq!(lateness, [(1, late.nth(119).unwrap())]);
}

#[test]
fn the_views_differ_where_inputs_were_mispredicted() {
    let document = file(300);
    let (canonical, seen) = (
        states(&document, View::Canonical),
        states(&document, View::AsSeen),
    );
    let wrong = canonical.iter().zip(&seen).filter(|(a, b)| a != b).count();
    assert!(wrong > 50, "{wrong} frames were mispredicted");
    let mut app = paused_replay(&document, View::AsSeen);
    let before = control(&mut app, |replay| replay.seek(200));
    assert_eq!(before, seen[200]);
    let after = control(&mut app, |replay| replay.show(View::Canonical));
    assert_eq!(after, canonical[200], "the same frame, as it was confirmed");
    let again = control(&mut app, |replay| replay.show(View::AsSeen));
    assert_eq!(again, seen[200]);
}

#[test]
fn replayed_rollbacks_are_emitted_and_skipped_ones_are_not() {
    let document = file(200);
    let mut app = paused_replay(&document, View::AsSeen);
    control(&mut app, |replay| replay.seek(100));
    app.update();
    assert!(app.world().resource::<Shown>().0.is_empty(), "skipped");
    for _ in 100..190 {
        control(&mut app, |replay| replay.step(1));
    }
    let emitted: Vec<(i32, i32)> = app
        .world()
        .resource::<Shown>()
        .0
        .iter()
        .map(|rollback| (rollback.frame, rollback.current_frame))
        .filter(|&(frame, _)| frame >= 100)
        .collect();
    let listed: Vec<(i32, i32)> = document
        .rollbacks
        .events
        .iter()
        // A prediction in a skipped frame was not simulated, so nothing corrects it.
        .filter(|event| event.frame >= 100 && event.current_frame < 190)
        .map(|event| (event.frame, event.current_frame))
        .collect();
    assert!(listed.len() > 3, "{listed:?}");
    assert_eq!(emitted, listed);
}

#[test]
fn the_driver_loads_a_state_of_2000_frames_ago() {
    const FRAMES: i32 = 2_000;
    let mut app = game(NATIVE);
    app.add_plugins(OfflinePlugin::<TestConfig>::default());
    app.finish();
    app.cleanup();
    app.update();
    let mut driver = Driver::<TestConfig>::new(FRAMES as usize + 1, vec![0]);
    let world = app.world_mut();
    let mut sums = Vec::new();
    for _ in 0..FRAMES {
        driver.save(world);
        sums.push(*world.query::<&Sum>().single(world).unwrap());
        driver.advance(world, [(3, InputStatus::Confirmed)]);
    }
    for frame in [1_999, 60, 0] {
        driver.load(world, frame);
        assert_eq!(driver.frame(), frame);
        let loaded = *world.query::<&Sum>().single(world).unwrap();
        assert_eq!(loaded, sums[frame as usize], "frame {frame}");
    }
}

#[test]
fn a_replay_runs_at_its_speed_factor_and_pauses_at_the_end() {
    let document = file(200);
    for (speed, frames) in [(1.0, 60), (2.0, 120), (0.5, 30)] {
        let mut app = paused_replay(&document, View::Canonical);
        control(&mut app, |replay| {
            replay.set_speed(speed);
            replay.resume();
        });
        // The game's clock is virtual: every update is a frame at 60 Hz.
        for _ in 0..59 {
            app.update();
        }
        let frame = state(&mut app).0;
        assert!((frame - frames).abs() <= 1, "speed {speed}: frame {frame}");
    }
    let mut app = paused_replay(&document, View::Canonical);
    control(&mut app, |replay| {
        replay.set_speed(100.0);
        replay.resume();
    });
    for _ in 0..10 {
        app.update();
    }
    let replay = app.world().resource::<Replay>();
    assert!(replay.is_over() && replay.is_paused(), "{replay:?}");
}
