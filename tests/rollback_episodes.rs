//! Which session an episode is, and what ggrs's own events become: sessions that come, go and
//! replace each other, the app's exit, the handshake, a desync.

mod common;

use bevy::prelude::*;
use bevy_ggrs::{RollbackFrameCount, Session};
use bevy_rollback_lab::rollback::trace::Fact;
use bevy_rollback_lab::rollback::{DesyncDetected, SessionEventKind, TraceLog};
use common::{Duel, Settings, TestConfig, Told, p2p, session};

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
    let mut scores = world.query::<&mut common::Score>();
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
