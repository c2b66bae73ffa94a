//! ggrs's events belong to the game: with the observers it gets the ones that it got without them.

use std::time::Duration;

use bevy::prelude::*;
use bevy_ggrs::Session;
use bevy_ggrs::ggrs::GgrsEvent;
use bevy_rollback_lab::rollback::SessionEventKind;
use rollback_lab_test_kit::observed::{Duel, Score, Settings, TestConfig};

/// What the game read from `session.events()`, as the public examples of ggrs do.
#[derive(Resource, Default)]
struct Read(Vec<GgrsEvent<TestConfig>>);

fn read_events(mut session: ResMut<Session<TestConfig>>, mut read: ResMut<Read>) {
    if let Session::P2P(session) = &mut *session {
        read.0.extend(session.events());
    }
}

/// A match in which the states differ and then player 1 is gone.
fn eventful(settings: Settings) -> Duel {
    let mut duel = Duel::new(settings);
    for app in &mut duel.apps {
        app.init_resource::<Read>().add_systems(Update, read_events);
    }
    duel.until_confirmed(40);
    let world = duel.apps[1].world_mut();
    let mut scores = world.query::<&mut Score>();
    scores.single_mut(world).expect("one score").corrupt();
    duel.until_confirmed(100);
    duel.suspended[1] = true;
    // ggrs's time-out, 2 s, reads the wall clock.
    for _ in 0..25 {
        duel.steps(3);
        std::thread::sleep(Duration::from_millis(100));
    }
    duel.steps(3);
    duel
}

/// The events that do not depend on the wall clock, each once.
fn kinds(duel: &Duel) -> Vec<String> {
    let read = &duel.apps[0].world().resource::<Read>().0;
    let mut kinds: Vec<String> = Vec::new();
    for event in read {
        let kind = match event {
            GgrsEvent::Synchronizing { total, count, addr } => {
                format!("synchronizing {count} of {total} with {addr}")
            }
            GgrsEvent::Synchronized { addr } => format!("synchronized with {addr}"),
            GgrsEvent::Disconnected { addr } => format!("disconnected {addr}"),
            GgrsEvent::DesyncDetected { frame, addr, .. } => format!("desync {frame} {addr}"),
            GgrsEvent::NetworkInterrupted { addr, .. } => format!("interrupted {addr}"),
            GgrsEvent::NetworkResumed { .. } | GgrsEvent::WaitRecommendation { .. } => continue,
        };
        kinds.push(kind);
    }
    kinds.dedup();
    kinds
}

#[test]
fn a_game_reads_the_same_events_with_and_without_the_observers() {
    let [without, with] = [false, true].map(|observed| {
        eventful(Settings {
            observed,
            read_events: false,
            ..Settings::default()
        })
    });
    let kinds = [kinds(&without), kinds(&with)];
    assert_eq!(kinds[0], kinds[1]);
    for event in ["synchronized with 1", "desync 60 1", "disconnected 1"] {
        assert!(kinds[1].iter().any(|kind| kind == event), "{:?}", kinds[1]);
    }
    let seen: Vec<_> = with.output(0).events.iter().collect();
    let [gone] = &seen[..] else {
        panic!("the observers see that player 1 is gone, and nothing else: {seen:?}");
    };
    assert_eq!(gone.kind, SessionEventKind::Disconnected);
    assert_eq!(gone.players, [1]);
}

#[test]
fn observers_that_read_the_events_leave_none_to_the_game() {
    let mut duel = Duel::new(Settings::default());
    for app in &mut duel.apps {
        app.init_resource::<Read>().add_systems(Update, read_events);
    }
    duel.until_confirmed(40);
    assert!(kinds(&duel).is_empty(), "{:?}", kinds(&duel));
    let events = &duel.output(0).events;
    let synchronized = |kind: SessionEventKind| kind == SessionEventKind::Synchronized;
    assert!(events.iter().any(|event| synchronized(event.kind)));
}
