//! The file tells by which device a local input changed, and when the device says it did.

use std::time::Duration;

use bevy::prelude::*;
use bevy_ggrs::{RollbackFrameCount, RunGgrsSystems};
use bevy_rollback_lab::clock::LabClock;
use bevy_rollback_lab::prelude::*;

use rollback_lab_test_kit::lab::{Hub, Presser, frame, lab_peer, lab_peer_with, play};

/// How long before the game looks an event happens.
const BEFORE: Duration = Duration::from_millis(4);

/// A person at a keyboard: the same keys as the test's presser, and a platform with time stamps.
fn look_at_the_keyboard(
    presser: Res<Presser>,
    frame: Option<Res<RollbackFrameCount>>,
    phase: Res<State<SessionPhase>>,
    clock: Res<LabClock>,
    mut held: Local<u8>,
    mut timing: ResMut<InputTiming>,
) {
    let (Some(frame), SessionPhase::Playing) = (frame, phase.get()) else {
        return;
    };
    let keys = presser.keys(u64::from(frame.0.unsigned_abs())).0;
    if keys != *held {
        *held = keys;
        timing.platform_event("keyboard", clock.now().saturating_sub(BEFORE));
        timing.changed("keyboard", clock.now());
    }
}

#[test]
fn every_change_by_a_person_names_its_device_and_its_moment() {
    let config = || {
        LabConfig::new("ws://lab", "room")
            .frame_limit(600)
            .episodes(2)
            .conditions("latency=40ms,jitter=10ms")
            .no_files()
    };
    let hub = Hub::new(2, true);
    let mut peers = vec![
        lab_peer_with(&hub, config(), 1, |app| {
            app.add_systems(PreUpdate, look_at_the_keyboard.before(RunGgrsSystems));
        }),
        lab_peer(&hub, config(), 2),
    ];
    let documents = play(&mut peers, frame(60), 4_000);
    for episode in &documents[0] {
        let changes = &episode.inputs.local_changes;
        assert!(changes.len() > 20, "the presser presses");
        let mut explained = 0;
        for change in changes {
            let Some(device) = change.device.as_deref() else {
                continue;
            };
            explained += 1;
            assert_eq!(device, "keyboard");
            let (sampled, said) = (change.sampled_at_us.unwrap(), change.device_at_us.unwrap());
            assert!(said < sampled, "a key goes down before the game looks");
            assert!(
                sampled - said < 40_000,
                "and the game looks soon: {said} to {sampled}"
            );
        }
        // The first keys of an episode may have been held since before it.
        assert!(
            explained + 1 >= changes.len(),
            "{explained} of {} changes are explained",
            changes.len()
        );
    }
    let silent = documents[1]
        .iter()
        .flat_map(|doc| &doc.inputs.local_changes);
    for change in silent {
        assert_eq!(
            (&change.device, change.device_at_us),
            (&None, None),
            "what nobody said is not invented"
        );
    }
}
