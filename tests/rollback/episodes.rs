//! Which sessions are episodes, and ggrs's own events: sessions that start, end and replace each
//! other, the app's exit, the handshake, a desync.

use bevy::prelude::*;
use bevy_ggrs::{RollbackFrameCount, Session};
use bevy_rollback_lab::internals::trace::Fact;
use bevy_rollback_lab::internals::trace::TraceLog;
use bevy_rollback_lab::rollback::{DesyncDetected, SessionEventKind, SessionKind};
use rollback_lab_test_kit::observed::{
    Duel, PluginOutput, Settings, TestConfig, game, p2p, pressed, session, spectator,
};

fn count(output: &PluginOutput, wanted: impl Fn(&Fact<u8>) -> bool) -> usize {
    output.facts.iter().filter(|fact| wanted(fact)).count()
}

#[test]
fn a_session_that_is_replaced_later_is_two_episodes() {
    let settings = Settings::default();
    let mut duel = Duel::new(settings);
    duel.until_confirmed(60);
    for app in &mut duel.apps {
        app.world_mut().remove_resource::<Session<TestConfig>>();
    }
    duel.steps(3);
    for me in 0..2 {
        let next = session(me, settings, &duel.clock, &duel.net);
        duel.apps[me].insert_resource(next);
    }
    duel.steps(2);
    duel.until_confirmed(60);
    for app in 0..2 {
        let mut marks = Vec::new();
        let mut newest_frames = Vec::new();
        for fact in &duel.output(app).facts {
            match fact {
                Fact::Began { players, local, .. } => {
                    assert_eq!((*players, *local), (2, 1 << app));
                    marks.push("began");
                    newest_frames.push(-1);
                }
                Fact::Closed { .. } => marks.push("closed"),
                Fact::FrameAdvanced { frame, .. } => {
                    let newest = newest_frames.last_mut().unwrap();
                    assert_eq!(*frame, *newest + 1, "each episode counts from frame 0");
                    *newest = *frame;
                }
                _ => {}
            }
        }
        assert_eq!(marks, ["began", "closed", "began"]);
        assert!(
            newest_frames.iter().all(|newest| *newest >= 60),
            "both episodes run: {newest_frames:?}"
        );
    }
}

#[test]
fn episodes_begun_by_the_caller_do_not_follow_the_session_resource() {
    let mut duel = Duel::new(Settings::default());
    let now = duel.clock.now();
    let mut log = duel.apps[0]
        .world_mut()
        .resource_mut::<TraceLog<TestConfig>>();
    log.begin(&[true, false], now).unwrap();
    duel.until_confirmed(30);
    let now = duel.clock.now();
    duel.apps[0]
        .world_mut()
        .resource_mut::<TraceLog<TestConfig>>()
        .close(now);
    duel.steps(30);
    let began = count(duel.output(0), |fact| matches!(fact, Fact::Began { .. }));
    let last = duel.output(0).facts.last();
    assert_eq!(
        began, 1,
        "a session that is still there begins no new episode"
    );
    assert_eq!(
        last,
        Some(&Fact::Closed { at: now }),
        "nothing is reported after the close"
    );
}

#[test]
fn app_exit_closes_the_episode() {
    let mut duel = Duel::new(Settings::default());
    duel.until_confirmed(30);
    duel.apps[0].world_mut().write_message(AppExit::Success);
    duel.step();
    assert!(matches!(
        duel.output(0).facts.last(),
        Some(Fact::Closed { .. })
    ));
}

#[test]
fn every_ggrs_event_is_emitted_once_with_its_players() {
    let mut duel = Duel::new(Settings::default());
    duel.until_confirmed(60);
    for app in 0..2 {
        let events = &duel.output(app).events;
        let synchronized: Vec<_> = events
            .iter()
            .filter(|event| event.kind == SessionEventKind::Synchronized)
            .collect();
        assert_eq!(synchronized.len(), 1);
        assert_eq!(synchronized[0].players, [1 - app]);
        let steps = events
            .iter()
            .filter(|event| matches!(event.kind, SessionEventKind::Synchronizing { .. }));
        assert!(steps.count() > 2, "the steps of the handshake are emitted");
        let left = p2p(&mut duel.apps[app]).events().count();
        assert_eq!(left, 0, "the queue is drained every tick");
    }
}

#[test]
fn a_session_replaced_within_one_update_begins_a_new_episode() {
    let settings = Settings::default();
    let mut duel = Duel::new(settings);
    duel.until_confirmed(60);
    duel.net.lock().unwrap().clear();
    for me in 0..2 {
        let next = session(me, settings, &duel.clock, &duel.net);
        duel.apps[me]
            .insert_resource(next)
            .insert_resource(RollbackFrameCount(0));
    }
    duel.steps(100);
    let facts = &duel.output(0).facts;
    let close = facts
        .iter()
        .position(|fact| matches!(fact, Fact::Closed { .. }))
        .unwrap();
    let [
        Fact::Began { at, .. },
        Fact::Tick { at: tick },
        Fact::FrameAdvanced { frame: 0, .. },
    ] = facts[close + 1..close + 4]
    else {
        panic!("the next episode begins: {:?}", &facts[close..close + 5]);
    };
    assert_eq!(at, tick, "its first tick is not lost");
    let first = facts[close..]
        .iter()
        .find(|fact| matches!(fact, Fact::Confirmed { .. }));
    assert!(
        matches!(
            first,
            Some(Fact::Confirmed {
                frame: 0,
                checksum: Some(_),
                ..
            })
        ),
        "its first state is not lost: {first:?}"
    );
}

#[test]
fn a_desync_is_emitted_with_both_checksums() {
    let mut duel = Duel::new(Settings::default());
    duel.until_confirmed(40);
    let world = duel.apps[1].world_mut();
    let mut scores = world.query::<&mut rollback_lab_test_kit::observed::Score>();
    scores.single_mut(world).unwrap().corrupt();
    duel.until_confirmed(100);
    let desyncs = duel.apps[0].world().resource::<Messages<DesyncDetected>>();
    let output = duel.output(0);
    let event = output.events.iter().find_map(|event| match event.kind {
        SessionEventKind::DesyncDetected {
            frame,
            local_checksum,
            remote_checksum,
        } => Some((
            event.players.clone(),
            frame,
            local_checksum,
            remote_checksum,
        )),
        _ => None,
    });
    let (players, frame, local, remote) = event.expect("different states cause a desync event");
    assert_eq!(players, [1]);
    assert_ne!(local, remote);
    assert_eq!(local, duel.oracle(0).checksums[&frame]);
    assert_eq!(remote, duel.oracle(1).checksums[&frame]);
    assert!(
        desyncs.oldest_message_count() > 0,
        "it is a message as well"
    );
}

/// The inputs of every frame that was reported as confirmed, in order.
fn confirmed_inputs(output: &PluginOutput) -> Vec<Vec<u8>> {
    let mut history = Vec::new();
    for fact in &output.facts {
        if let Fact::Confirmed { frame, inputs, .. } = fact {
            assert_eq!(*frame, history.len() as i32, "every frame once, in order");
            history.push(inputs.to_vec());
        }
    }
    history
}

#[test]
fn a_spectator_gets_the_confirmed_history_and_no_rollback() {
    let mut duel = Duel::new(Settings {
        spectated: true,
        ..default()
    });
    let mut watching = game(&duel.clock, true);
    watching.insert_resource(spectator(&duel.clock, &duel.net));
    for _ in 0..300 {
        duel.step();
        watching.update();
    }
    let output = watching.world().resource::<PluginOutput>();
    assert!(
        output.rollbacks.is_empty() && output.reloads.is_empty() && output.stalls.is_empty(),
        "a spectator simulates confirmed inputs only: {output:?}"
    );
    assert_eq!(count(output, |fact| matches!(fact, Fact::Tick { .. })), 0);
    assert!(matches!(
        output.facts.first(),
        Some(Fact::Began {
            session: SessionKind::Spectator,
            players: 2,
            local: 0,
            ..
        })
    ));
    assert!(!output.events.is_empty(), "its handshake is emitted");
    for event in &output.events {
        assert_eq!(event.session, SessionKind::Spectator);
    }

    let seen = confirmed_inputs(output);
    assert!(seen.len() > 200, "the spectator follows: {}", seen.len());
    for app in 0..2 {
        let played = confirmed_inputs(duel.output(app));
        let both = seen.len().min(played.len());
        assert_eq!(
            seen[..both],
            played[..both],
            "player {app} confirmed the same"
        );
        assert!(
            !duel.output(app).rollbacks.is_empty(),
            "players do roll back"
        );
    }
    for (frame, inputs) in seen.iter().enumerate() {
        let real = [0, 1].map(|player| pressed(player, frame as i32));
        assert_eq!(inputs[..], real, "what was pressed at frame {frame}");
    }
}

#[test]
fn every_message_has_the_kind_of_its_session() {
    let settings = Settings::default();
    let mut duel = Duel::new(settings);
    duel.until_confirmed(60);
    let rolled_back = duel.output(0).rollbacks.len();
    assert!(rolled_back > 0, "the match rolls back");
    let sync_test = bevy_ggrs::prelude::SessionBuilder::<TestConfig>::new()
        .with_num_players(1)
        .unwrap()
        .add_player(bevy_ggrs::prelude::PlayerType::Local, 0)
        .unwrap()
        .start_synctest_session()
        .unwrap();
    // Replaced within one update, so that one drain has facts of both sessions.
    duel.suspended[1] = true;
    duel.apps[0]
        .insert_resource(Session::SyncTest(sync_test))
        .insert_resource(RollbackFrameCount(0));
    duel.steps(60);
    let output = duel.output(0);
    assert_eq!(output.rollbacks.len(), rolled_back, "a sync test adds none");
    let sessions: Vec<_> = output.reloads.iter().map(|reload| reload.session).collect();
    assert!(
        sessions.len() > 30,
        "a sync test reloads: {}",
        sessions.len()
    );
    assert!(
        sessions
            .iter()
            .all(|session| *session == SessionKind::SyncTest)
    );
    assert!(
        output
            .rollbacks
            .iter()
            .all(|rollback| rollback.session == SessionKind::P2P),
        "the earlier rollbacks are still the match's"
    );
}
