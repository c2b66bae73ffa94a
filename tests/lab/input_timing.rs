//! The file records which device changed a local input, and the time stamp of the device.

use std::time::Duration;

use bevy::prelude::*;
use bevy_ggrs::{RollbackFrameCount, RunGgrsSystems};
use bevy_rollback_lab::clock::LabClock;
use bevy_rollback_lab::prelude::*;

use rollback_lab_test_kit::lab::{
    ScriptedKeys, VirtualNetwork, frame, lab_peer, lab_peer_with, play,
};

/// Time between an event of the device and the frame that samples it.
const BEFORE: Duration = Duration::from_millis(4);

/// A keyboard with the keys of [`ScriptedKeys`], on a platform that stamps its events.
fn read_keyboard(
    scripted: Res<ScriptedKeys>,
    frame: Option<Res<RollbackFrameCount>>,
    phase: Res<State<SessionPhase>>,
    clock: Res<LabClock>,
    mut held: Local<u8>,
    mut timing: ResMut<InputTiming>,
) {
    let (Some(frame), SessionPhase::Playing) = (frame, phase.get()) else {
        return;
    };
    let keys = scripted.keys(u64::from(frame.0.unsigned_abs())).0;
    if keys != *held {
        *held = keys;
        timing.platform_event("keyboard", clock.now().saturating_sub(BEFORE));
        timing.changed("keyboard", clock.now());
    }
}

#[test]
fn every_reported_input_change_has_its_device_and_time_stamp() {
    let config = || {
        LabConfig::new("ws://lab", "room")
            .frame_limit(600)
            .episodes(2)
            .conditions("latency=40ms,jitter=10ms")
            .no_files()
    };
    let network = VirtualNetwork::new(2, true);
    let mut peers = vec![
        lab_peer_with(&network, config(), 1, |app| {
            app.add_systems(PreUpdate, read_keyboard.before(RunGgrsSystems));
        }),
        lab_peer(&network, config(), 2),
    ];
    let documents = play(&mut peers, frame(60), 4_000);
    for episode in &documents[0] {
        let changes = &episode.inputs.local_changes;
        assert!(changes.len() > 20, "the keys change");
        let mut explained = 0;
        for change in changes {
            let Some(device) = change.device.as_deref() else {
                continue;
            };
            explained += 1;
            assert_eq!(device, "keyboard");
            let (sampled, stamped) = (change.sampled_at_us.unwrap(), change.device_at_us.unwrap());
            assert!(stamped < sampled, "a key changes before it is sampled");
            assert!(
                sampled - stamped < 40_000,
                "and is sampled soon: {stamped} to {sampled}"
            );
        }
        // The first keys of an episode may have been held since before it.
        assert!(
            explained + 1 >= changes.len(),
            "{explained} of {} changes are explained",
            changes.len()
        );
    }
    let unreported = documents[1]
        .iter()
        .flat_map(|doc| &doc.inputs.local_changes);
    for change in unreported {
        assert_eq!(
            (&change.device, change.device_at_us),
            (&None, None),
            "without a report there is no device"
        );
    }
}
