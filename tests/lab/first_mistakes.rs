//! What a developer gets wrong first is one sentence that says what to do.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bevy::prelude::*;
use bevy::state::app::StatesPlugin;
use bevy_ggrs::ggrs::{PlayerType, SessionBuilder};
use bevy_ggrs::{
    GgrsPlugin, LocalInputs, LocalPlayers, ReadInputs, Rollback, RollbackFrameRate, Session,
};
use bevy_rollback_lab::prelude::*;
use rollback_lab_test_kit::lab::{
    Keys, TestConfig, VirtualNetwork, frame, lab_peer_with, run_until,
};
use rollback_lab_test_kit::logs::logged;

/// The text with which building an app panics.
fn refusal(build: impl FnOnce(&mut App)) -> String {
    let panic = catch_unwind(AssertUnwindSafe(|| {
        let mut app = App::new();
        app.add_plugins(MinimalPlugins);
        build(&mut app);
    }));
    let panic = panic.expect_err("the app is refused");
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
        .expect("a panic has a text")
}

fn lab() -> RollbackLabPlugins<TestConfig> {
    RollbackLabPlugins::new(LabConfig::new("ws://lab", "room").no_files())
}

#[test]
fn two_ggrs_plugins_are_refused_with_the_one_to_remove() {
    let text = refusal(|app| {
        app.add_plugins((StatesPlugin, GgrsPlugin::<TestConfig>::default()))
            .add_plugins(lab());
    });
    assert_eq!(
        text,
        "RollbackLabPlugins adds GgrsPlugin itself: remove the one of this app"
    );
}

#[test]
fn observers_beside_the_whole_plugin_are_refused() {
    let observers = || RollbackObserverPlugins::<TestConfig>::in_memory();
    let beside = refusal(|app| {
        app.add_plugins(StatesPlugin)
            .add_plugins(lab())
            .add_plugins(observers());
    });
    let twice = refusal(|app| {
        app.add_plugins(GgrsPlugin::<TestConfig>::default())
            .add_plugins(observers())
            .add_plugins(observers());
    });
    for text in [beside, twice] {
        assert!(text.contains("has the observers already"), "{text}");
        assert!(text.contains("add one of the two, once"), "{text}");
    }
}

#[test]
fn an_app_without_states_is_refused_with_the_plugin_to_add() {
    let text = refusal(|app| {
        app.add_plugins(lab());
    });
    assert!(text.contains("add Bevy's StatesPlugin"), "{text}");
}

#[test]
fn a_room_with_a_query_is_refused_with_the_allowed_characters() {
    let text = refusal(|app| {
        let config = LabConfig::new("ws://lab", "duel?next=2").no_files();
        app.add_plugins(StatesPlugin)
            .add_plugins(RollbackLabPlugins::<TestConfig>::new(config));
    });
    assert!(text.contains("\"duel?next=2\" is no room name"), "{text}");
}

/// What two peers log in two episodes of a second, their apps changed by `extend`.
fn logged_by_a_match(extend: impl Fn(&mut App) + Copy) -> Vec<String> {
    logged(|| {
        let network = VirtualNetwork::new(2, true);
        let config = || {
            LabConfig::new("ws://lab", "room")
                .frame_limit(60)
                .episodes(2)
                .no_files()
        };
        let mut peers = [1, 2].map(|seed| lab_peer_with(&network, config(), seed, extend));
        let over = run_until(&mut peers, frame(60), 2_000, |peers| {
            peers
                .iter()
                .all(|peer| peer.phase() == SessionPhase::Finished)
        });
        assert!(over);
    })
}

fn with<'a>(lines: &'a [String], part: &str) -> Vec<&'a String> {
    lines.iter().filter(|line| line.contains(part)).collect()
}

#[test]
fn a_match_without_a_mistake_warns_of_nothing() {
    let lines = logged_by_a_match(|_| {});
    assert!(!lines.is_empty(), "routes and episodes are logged");
    assert_eq!(with(&lines, "WARN"), Vec::<&String>::new());
    assert_eq!(with(&lines, "ERROR"), Vec::<&String>::new());
}

#[test]
fn entities_that_are_there_before_the_first_episode_are_named_once() {
    let lines = logged_by_a_match(|app| {
        app.add_systems(Startup, |mut commands: Commands| {
            commands.spawn_batch([Rollback; 3]);
        });
    });
    let named = with(
        &lines,
        "3 rolled-back entities were spawned before the episode",
    );
    assert_eq!(named.len(), 2, "once on each peer: {named:?}");
    assert!(
        named[0].contains("spawn them on EpisodeStarting"),
        "{named:?}"
    );
}

#[test]
fn an_episode_without_rolled_back_entities_is_logged() {
    let lines = logged_by_a_match(|app| {
        app.add_observer(
            |_: On<EpisodeStarted>,
             entities: Query<Entity, With<Rollback>>,
             mut commands: Commands| {
                for entity in &entities {
                    commands.entity(entity).despawn();
                }
            },
        );
    });
    // The observer comes after the look; its entities were there.
    assert_eq!(
        with(&lines, "no entity has the component"),
        Vec::<&String>::new()
    );
    let lines = logged_by_a_match(|app| {
        app.add_systems(
            PreUpdate,
            |entities: Query<Entity, With<Rollback>>, mut commands: Commands| {
                for entity in &entities {
                    commands.entity(entity).despawn();
                }
            },
        );
    });
    let empty = with(&lines, "no entity has the component Rollback at frame 0");
    assert_eq!(empty.len(), 4, "both episodes of both peers: {empty:?}");
}

#[test]
fn another_frame_rate_is_named_with_the_setting_that_counts() {
    let lines = logged_by_a_match(|app| {
        app.insert_resource(RollbackFrameRate(30));
    });
    let rate = with(
        &lines,
        "RollbackFrameRate(30) of this app is replaced by LabConfig::fps, 60",
    );
    assert_eq!(rate.len(), 2, "once on each peer: {rate:?}");
}

#[test]
fn a_room_without_its_plugin_names_the_plugin_once() {
    let lines = logged(|| {
        let mut app = App::new();
        app.add_plugins((MinimalPlugins, GgrsPlugin::<TestConfig>::default()))
            .insert_resource(LabRoom::new("ws://127.0.0.1:1/duel?players=2", 2))
            .add_systems(Update, |room: Res<LabRoom>| assert!(!room.ready()));
        for _ in 0..300 {
            app.update();
        }
    });
    let [line] = &with(&lines, "add LabSocketPlugin::<Config>::default()")[..] else {
        panic!("one line: {lines:?}");
    };
    assert!(line.contains("nothing opens the room duel"), "{line}");
}

#[test]
fn a_sync_test_that_leaves_no_file_is_logged_once() {
    let lines = logged(|| {
        let session = SessionBuilder::<TestConfig>::new()
            .with_num_players(1)
            .and_then(|builder| builder.add_player(PlayerType::Local, 0))
            .and_then(|builder| builder.start_synctest_session())
            .expect("one local player is valid");
        let mut app = App::new();
        app.add_plugins((MinimalPlugins, GgrsPlugin::<TestConfig>::default()))
            .add_plugins(RollbackObserverPlugins::<TestConfig>::in_memory())
            .insert_resource(bevy::time::TimeUpdateStrategy::ManualDuration(frame(60)))
            .insert_resource(Session::SyncTest(session))
            .add_systems(
                ReadInputs,
                |players: Res<LocalPlayers>, mut commands: Commands| {
                    let inputs = players.0.iter().map(|&player| (player, Keys::default()));
                    commands.insert_resource(LocalInputs::<TestConfig>(inputs.collect()));
                },
            );
        for _ in 0..120 {
            app.update();
        }
    });
    let lines = with(&lines, "a SyncTest session leaves no file");
    assert_eq!(lines.len(), 1, "{lines:?}");
}
