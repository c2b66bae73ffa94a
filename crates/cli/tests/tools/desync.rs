//! Halves of a desync among the files of a match: verified with them, and compared.

use std::fs;
use std::path::Path;

use rollback_lab_record::desync::{DESYNC_SCHEMA, DesyncBundle, Snapshot};
use rollback_lab_record::{EpisodeDocument, Hex64};
use serde_json::{Value, json};

use crate::command::{err, out, run};
use rollback_lab_test_kit::files::{export, folder, golden, opponent};

fn half(of: EpisodeDocument, ball: i32) -> DesyncBundle {
    let mut schema = of.schema;
    schema.name = DESYNC_SCHEMA.into();
    let player = of.session.local_player_id.expect("a peer's file");
    let state = |frame, ball: i32| Snapshot {
        frame,
        hash: None,
        state: json!({ "ball": { "x": ball } }),
    };
    DesyncBundle {
        schema,
        software: of.software,
        session: of.session,
        episode_id: of.episode.episode_id,
        episode_num: 0,
        first_differing_frame: Some(20),
        compared_every_frames: 10,
        local_hash: Hex64(1),
        remote_hash: Hex64(2),
        remote_players: vec![1 - player],
        at_us: 5,
        snapshots: vec![state(10, 7), state(20, ball)],
        inputs: Vec::new(),
    }
}

fn export_halves(folder: &Path) -> [DesyncBundle; 2] {
    export(folder);
    let halves = [half(golden(), 3), half(opponent(), 4)];
    for half in &halves {
        let text = serde_json::to_string(half).expect("it serializes");
        fs::write(folder.join(half.path()), text).expect("it is writable");
    }
    halves
}

#[test]
fn verify_checks_halves_of_desyncs_and_other_commands_skip_them() {
    let folder = folder(env!("CARGO_TARGET_TMPDIR"), "verify-desync");
    let [half, _] = export_halves(&folder);
    let output = run(&["verify", "."], &folder);
    let text = out(&output);
    assert!(output.status.success(), "{text}{}", err(&output));
    assert!(text.contains("desync-0.player-1.json: desync\n"), "{text}");
    assert!(
        text.contains("2 session files, 2 halves of desyncs: in order"),
        "{text}"
    );

    let report = out(&run(&["verify", ".", "--json"], &folder));
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["desyncFiles"], 2);
    assert_eq!(report["skipped"], 0);

    let merged = run(&["merge", ".", "--out", "merged"], &folder);
    assert!(merged.status.success(), "{}", err(&merged));

    let path = folder.join(half.path());
    let mut broken = serde_json::to_value(&half).unwrap();
    broken["atUs"] = json!("later");
    fs::write(&path, broken.to_string()).unwrap();
    let output = run(&["verify", "."], &folder);
    assert_eq!(output.status.code(), Some(1));
    let text = out(&output);
    let faults: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("FAULT"))
        .collect();
    assert_eq!(faults.len(), 1, "{text}");
    assert!(
        faults[0].contains("desync-0.player-0.json: schema: /atUs"),
        "{text}"
    );
}

#[test]
fn two_halves_are_compared_in_sentences_or_as_json() {
    let folder = folder(env!("CARGO_TARGET_TMPDIR"), "desync-json");
    let halves = export_halves(&folder);
    let [one, other] = halves
        .each_ref()
        .map(|half| half.path().display().to_string());
    let text = out(&run(&["desync", &one, &other], &folder));
    assert!(text.contains("/ball/x: 3 and 4"), "{text}");
    let comparison = out(&run(&["desync", "--json", &one, &other], &folder));
    let comparison: Value = serde_json::from_str(&comparison).unwrap();
    assert_eq!(
        comparison,
        json!({
            "episodeId": halves[0].episode_id,
            "playerIds": [0, 1],
            "firstDifferingComparedFrame": 20,
            "comparedEveryFrames": 10,
            "lastEqualFrame": 10,
            "firstDifferingFrame": 20,
            "differences": [{ "pointer": "/ball/x", "values": [3, 4] }],
            "differingInputs": [],
        })
    );
}

#[test]
fn one_half_twice_is_not_a_comparison() {
    let folder = folder(env!("CARGO_TARGET_TMPDIR"), "desync-twice");
    let [half, _] = export_halves(&folder);
    let path = half.path().display().to_string();
    let output = run(&["desync", &path, &path], &folder);
    assert_eq!(output.status.code(), Some(1));
    let text = err(&output);
    assert!(text.starts_with("rollback-lab: cannot compare "), "{text}");
}
