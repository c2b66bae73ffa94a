//! What the record claims of a game it only observes: what ggrs tells, and nothing beyond it.
#![expect(clippy::unwrap_used, reason = "helpers of a test fail by panicking")]

mod common;

use bevy::prelude::*;
use bevy_ggrs::Session;
use bevy_ggrs::prelude::{PlayerType, SessionBuilder};
use bevy_rollback_lab::record::EpisodeDocument;
use bevy_rollback_lab::record::check::check_episode;
use bevy_rollback_lab::record::sink::RecordSink;
use common::{Duel, STEP, Settings, TestConfig, Witness, game_by, spectator};

const RECORDED: Settings = Settings {
    delay: std::time::Duration::from_millis(50),
    input_delay: 0,
    sparse: false,
    observed: true,
    recorded: true,
    watched: false,
};

/// The files of an app, each without a broken identity.
fn files(app: &App) -> Vec<EpisodeDocument> {
    let files = app.world().resource::<RecordSink>().files();
    let documents = files.values().map(|bytes| {
        let document = EpisodeDocument::parse(str::from_utf8(bytes).unwrap()).unwrap();
        assert_eq!(check_episode(&document), []);
        document
    });
    documents.collect()
}

fn remove_session(app: &mut App) {
    app.world_mut().remove_resource::<Session<TestConfig>>();
}

#[test]
fn an_observed_game_tells_its_prediction_window_and_claims_no_input_delay() {
    let mut duel = Duel::new(Settings {
        input_delay: 2,
        ..RECORDED
    });
    duel.until_confirmed(200);
    remove_session(&mut duel.apps[0]);
    duel.step();
    let documents = files(&duel.apps[0]);
    let [document] = &documents[..] else {
        panic!("one file, not {}", documents.len());
    };
    assert_eq!(
        document.episode.end_reason.as_deref(),
        Some("sessionRemoved")
    );
    assert_eq!(document.episode.max_prediction_frames, 8);
    assert!(document.episode.input_delay_frames.is_empty());
    let changes = &document.inputs.local_changes;
    assert!(changes.len() > 10, "the bots press: {}", changes.len());
    for change in changes {
        assert_eq!(change.sampled_at_us, None, "nobody told the input delay");
    }
}

#[test]
fn a_sync_test_leaves_no_file_and_the_match_after_it_is_episode_zero() {
    let mut duel = Duel::new(RECORDED);
    let session = SessionBuilder::<TestConfig>::new()
        .with_num_players(2)
        .unwrap()
        .add_player(PlayerType::Local, 0)
        .unwrap()
        .add_player(PlayerType::Local, 1)
        .unwrap()
        .start_synctest_session()
        .unwrap();
    let app = &mut duel.apps[0];
    let play = app.world_mut().remove_resource::<Session<TestConfig>>();
    app.insert_resource(Session::SyncTest(session));
    for _ in 0..100 {
        duel.clock.advance(STEP);
        duel.apps[0].update();
    }
    let simulated = duel.witness(0).frames.len();
    assert!(simulated > 90, "the sync test ran: {simulated}");
    remove_session(&mut duel.apps[0]);
    duel.frozen[1] = true;
    duel.step();
    assert_eq!(files(&duel.apps[0]), []);

    duel.frozen[1] = false;
    duel.apps[0].insert_resource(play.unwrap());
    duel.until_confirmed(60);
    remove_session(&mut duel.apps[0]);
    duel.step();
    let numbers: Vec<_> = files(&duel.apps[0])
        .iter()
        .map(|document| document.episode.episode_num)
        .collect();
    assert_eq!(numbers, [0]);
}

#[test]
fn a_spectator_leaves_no_file() {
    let mut duel = Duel::new(Settings {
        watched: true,
        ..RECORDED
    });
    let mut watcher = game_by(&duel.clock, RECORDED);
    watcher.insert_resource(spectator(&duel.clock, &duel.net));
    for _ in 0..300 {
        duel.step();
        watcher.update();
    }
    let seen = watcher.world().resource::<Witness>().frames.len();
    assert!(seen > 100, "the spectator follows: {seen}");
    remove_session(&mut watcher);
    watcher.update();
    assert_eq!(files(&watcher), []);
    remove_session(&mut duel.apps[0]);
    duel.step();
    assert_eq!(files(&duel.apps[0]).len(), 1, "its host is a player");
}

#[test]
fn an_app_that_exits_is_the_reason_in_the_file() {
    let mut duel = Duel::new(RECORDED);
    duel.until_confirmed(60);
    let app = &mut duel.apps[0];
    app.world_mut().write_message(AppExit::Success);
    duel.step();
    let documents = files(&duel.apps[0]);
    let reasons: Vec<_> = documents
        .iter()
        .map(|document| document.episode.end_reason.as_deref())
        .collect();
    assert_eq!(reasons, [Some("appExit")]);
}
