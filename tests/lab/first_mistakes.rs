//! What a developer gets wrong first is one sentence that says what to do.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bevy::prelude::*;
use bevy::state::app::StatesPlugin;
use bevy_ggrs::GgrsPlugin;
use bevy_rollback_lab::prelude::*;
use rollback_lab_test_kit::lab::TestConfig;

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
