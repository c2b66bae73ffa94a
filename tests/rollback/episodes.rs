//! Which session an episode is, and what ggrs's own events become: sessions that come, go and
//! replace each other, the app's exit, the handshake, a desync.

use bevy::prelude::*;
use bevy_ggrs::{RollbackFrameCount, Session};
use bevy_rollback_lab::internals::trace::Fact;
use bevy_rollback_lab::internals::trace::TraceLog;
use bevy_rollback_lab::rollback::{DesyncDetected, SessionEventKind, SessionKind};
use rollback_lab_test_kit::observed::{
    Duel, Settings, TestConfig, Told, game, p2p, pressed, session, spectator,
};

fn count(told: &Told, wanted: impl Fn(&Fact<u8>) -> bool) -> usize {
    told.facts.iter().filter(|fact| wanted(fact)).count()
}

#[test]
fn a_session_that_goes_and_comes_is_two_episodes() {
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
        for fact in &duel.told(app).facts {
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
fn episodes_delimited_by_hand_ignore_the_sessions_presence() {
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
    let began = count(duel.told(0), |fact| matches!(fact, Fact::Began { .. }));
    let last = duel.told(0).facts.last();
    assert_eq!(began, 1, "a session that lingers is no new episode");
    assert_eq!(
        last,
        Some(&Fact::Closed { at: now }),
        "nothing after the close is told"
    );
}

#[test]
fn the_apps_exit_closes_the_episode() {
    let mut duel = Duel::new(Settings::default());
    duel.until_confirmed(30);
    duel.apps[0].world_mut().write_message(AppExit::Success);
    duel.step();
    assert!(matches!(
        duel.told(0).facts.last(),
        Some(Fact::Closed { .. })
    ));
}

#[test]
fn every_ggrs_event_is_told_once_with_the_players_it_concerns() {
    let mut duel = Duel::new(Settings::default());
    duel.until_confirmed(60);
    for app in 0..2 {
        let events = &duel.told(app).events;
        let synchronized: Vec<_> = events
            .iter()
            .filter(|event| event.kind == SessionEventKind::Synchronized)
            .collect();
        assert_eq!(synchronized.len(), 1);
        assert_eq!(synchronized[0].players, [1 - app]);
        let steps = events
            .iter()
            .filter(|event| matches!(event.kind, SessionEventKind::Synchronizing { .. }));
        assert!(steps.count() > 2, "the handshake's steps are told");
        let left = p2p(&mut duel.apps[app]).events().count();
        assert_eq!(left, 0, "the queue is drained every tick");
    }
}

#[test]
fn a_session_replaced_in_one_update_is_another_episode() {
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
    let facts = &duel.told(0).facts;
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
fn a_desync_is_told_with_both_checksums() {
    let mut duel = Duel::new(Settings::default());
    duel.until_confirmed(40);
    let world = duel.apps[1].world_mut();
    let mut scores = world.query::<&mut rollback_lab_test_kit::observed::Score>();
    scores.single_mut(world).unwrap().spoil();
    duel.until_confirmed(100);
    let desyncs = duel.apps[0].world().resource::<Messages<DesyncDetected>>();
    let told = duel.told(0);
    let event = told.events.iter().find_map(|event| match event.kind {
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
    let (players, frame, local, remote) = event.expect("different states are a desync");
    assert_eq!(players, [1]);
    assert_ne!(local, remote);
    assert_eq!(local, duel.witness(0).checksums[&frame]);
    assert_eq!(remote, duel.witness(1).checksums[&frame]);
    assert!(
        desyncs.oldest_message_count() > 0,
        "it is a message of its own too"
    );
}

/// The inputs of every frame that was told as confirmed, in order.
fn confirmed_inputs(told: &Told) -> Vec<Vec<u8>> {
    let mut history = Vec::new();
    for fact in &told.facts {
        if let Fact::Confirmed { frame, inputs, .. } = fact {
            assert_eq!(*frame, history.len() as i32, "every frame once, in order");
            history.push(inputs.to_vec());
        }
    }
    history
}

#[test]
fn a_spectator_is_told_the_players_history_and_no_rollback() {
    let mut duel = Duel::new(Settings {
        watched: true,
        ..default()
    });
    let mut watcher = game(&duel.clock, true);
    watcher.insert_resource(spectator(&duel.clock, &duel.net));
    for _ in 0..300 {
        duel.step();
        watcher.update();
    }
    let told = watcher.world().resource::<Told>();
    assert!(
        told.rollbacks.is_empty() && told.reloads.is_empty() && told.stalls.is_empty(),
        "a spectator follows confirmed inputs alone: {told:?}"
    );
    assert_eq!(count(told, |fact| matches!(fact, Fact::Tick { .. })), 0);
    assert!(matches!(
        told.facts.first(),
        Some(Fact::Began {
            session: SessionKind::Spectator,
            players: 2,
            local: 0,
            ..
        })
    ));
    assert!(!told.events.is_empty(), "its handshake is told");
    for event in &told.events {
        assert_eq!(event.session, SessionKind::Spectator);
    }

    let seen = confirmed_inputs(told);
    assert!(seen.len() > 200, "the spectator follows: {}", seen.len());
    for app in 0..2 {
        let played = confirmed_inputs(duel.told(app));
        let both = seen.len().min(played.len());
        assert_eq!(seen[..both], played[..both], "player {app} knows the same");
        assert!(!duel.told(app).rollbacks.is_empty(), "players do roll back");
    }
    for (frame, inputs) in seen.iter().enumerate() {
        let real = [0, 1].map(|player| pressed(player, frame as i32));
        assert_eq!(inputs[..], real, "what was pressed at frame {frame}");
    }
}

#[test]
fn every_message_says_which_kind_of_session_it_is_about() {
    let settings = Settings::default();
    let mut duel = Duel::new(settings);
    duel.until_confirmed(60);
    let rolled_back = duel.told(0).rollbacks.len();
    assert!(rolled_back > 0, "the match rolls back");
    let sync_test = bevy_ggrs::prelude::SessionBuilder::<TestConfig>::new()
        .with_num_players(1)
        .unwrap()
        .add_player(bevy_ggrs::prelude::PlayerType::Local, 0)
        .unwrap()
        .start_synctest_session()
        .unwrap();
    // Replaced within one update: the same drain tells of both.
    duel.frozen[1] = true;
    duel.apps[0]
        .insert_resource(Session::SyncTest(sync_test))
        .insert_resource(RollbackFrameCount(0));
    duel.steps(60);
    let told = duel.told(0);
    assert_eq!(told.rollbacks.len(), rolled_back, "a sync test adds none");
    let sessions: Vec<_> = told.reloads.iter().map(|reload| reload.session).collect();
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
        told.rollbacks
            .iter()
            .all(|rollback| rollback.session == SessionKind::P2P),
        "what was told before is still the match's"
    );
}
