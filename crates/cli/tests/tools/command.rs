//! `rollback-lab` verify, merge, tables and report, run as processes.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use rollback_lab_record::merge::MergedEpisode;
use serde_json::Value;

use rollback_lab_test_kit::files::{export, folder};

pub(crate) fn run(arguments: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rollback-lab"));
    command.args(arguments).current_dir(folder);
    command.output().expect("the binary runs")
}

pub(crate) fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

pub(crate) fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

/// Changes or removes one value of one file.
fn spoil(folder: &Path, file: &str, pointer: &str, value: Option<Value>) {
    let path = folder.join("00c0ffee").join(file);
    let text = fs::read_to_string(&path).expect("it is there");
    let mut document: Value = serde_json::from_str(&text).expect("it is JSON");
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    let parent = document.pointer_mut(parent).expect("it leads somewhere");
    match value {
        Some(value) => parent[key] = value,
        None => drop(parent.as_object_mut().expect("an object").remove(key)),
    }
    fs::write(&path, document.to_string()).expect("it is writable");
}

/// `true` and `false` are games that agree with every file and with none.
#[cfg(unix)]
#[test]
fn verify_runs_the_games_own_program_on_every_episode_file() {
    let folder = folder(env!("CARGO_TARGET_TMPDIR"), "verify-replay");
    export(&folder);
    let agreed = run(&["verify", ".", "--replay", "true"], &folder);
    let text = out(&agreed);
    assert!(agreed.status.success(), "{text}{}", err(&agreed));
    let replayed = text.lines().filter(|line| line.ends_with(", replayed"));
    assert_eq!(replayed.count(), 2, "only episodes are played: {text}");

    let differs = run(&["verify", ".", "--replay", "false"], &folder);
    assert!(!differs.status.success());
    let faults = out(&differs);
    let failed = faults
        .lines()
        .filter(|line| line.contains("replay: the program ended"));
    assert_eq!(failed.count(), 2, "{faults}");

    let missing = out(&run(
        &["verify", ".", "--replay", "./no-such-game"],
        &folder,
    ));
    assert!(missing.contains("./no-such-game does not run"), "{missing}");
}

#[test]
fn verify_prints_one_line_per_file_of_a_folder() {
    let folder = folder(env!("CARGO_TARGET_TMPDIR"), "verify");
    export(&folder);
    fs::write(folder.join("other.json"), r#"{"schema": {"name": "else"}}"#).unwrap();
    let output = run(&["verify", "."], &folder);
    let text = out(&output);
    assert!(output.status.success(), "{text}{}", err(&output));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 5, "four files and the counts: {text}");
    assert!(
        lines[..4]
            .iter()
            .all(|line| line.starts_with("ok     ./00c0ffee/")),
        "{text}"
    );
    assert!(
        lines[2].contains("300 frames, 11 rollbacks, confirmed-only, agrees with player 1"),
        "{text}"
    );
    assert_eq!(
        lines[4],
        "2 episode files (2 confirmed-only), 1 pairs of them, 2 session files, 1 other JSON files skipped: in order"
    );
    assert!(
        err(&output).is_empty(),
        "there is no progress bar without a terminal"
    );
}

#[test]
fn verify_names_the_broken_file_and_fails() {
    let folder = folder(env!("CARGO_TARGET_TMPDIR"), "broken");
    let broken = |file: &str, pointer: &str, value: Option<Value>, expected: &str| {
        export(&folder);
        spoil(&folder, file, pointer, value);
        let output = run(&["verify", "00c0ffee"], &folder);
        let text = out(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        let faults: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("FAULT"))
            .collect();
        assert!(
            faults
                .iter()
                .any(|line| line.contains(file) && line.contains(expected)),
            "{expected}: {text}"
        );
        faults.len()
    };
    let episode = "episode-0.player-0.json";
    let wrong = Some(Value::from(1));
    assert_eq!(
        broken(
            episode,
            "/frames/total",
            wrong,
            "invariant 1: frames.total is 1"
        ),
        1
    );
    // Reading takes a missing field for `null`; the schema does not.
    assert_eq!(
        broken(episode, "/quality/fallbackCause", None, "schema: /quality"),
        1
    );
    assert_eq!(
        broken(
            episode,
            "/schema/version",
            Some("2.0".into()),
            "version 2.0 is not supported"
        ),
        1
    );
    assert_eq!(
        broken(
            episode,
            "/episode/episodeNum",
            None,
            "missing field `episodeNum`"
        ),
        1
    );
    let session = "session.player-1.json";
    assert_eq!(
        broken(session, "/phases", Some("none".into()), "schema: /phases"),
        1
    );
    let both = broken(
        episode,
        "/episode/seed",
        Some("0000000000000008".into()),
        "pair with player 1: invariant 8: episode.seed",
    );
    assert_eq!(both, 2, "a fault of a pair is reported for both files");
    fs::write(folder.join("00c0ffee").join(episode), "{\"schema\": {\"na").unwrap();
    let output = run(&["verify", "."], &folder);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        out(&output).contains(
            "FAULT  ./00c0ffee/episode-0.player-0.json: read: no document of a rollback match"
        ),
        "{}",
        out(&output)
    );
}

#[test]
fn verify_lists_every_fault_as_json() {
    let folder = folder(env!("CARGO_TARGET_TMPDIR"), "json");
    export(&folder);
    fs::remove_file(folder.join("00c0ffee/episode-0.player-0.json")).unwrap();
    spoil(
        &folder,
        "episode-0.player-1.json",
        "/frames/ticks",
        Some(1.into()),
    );
    let output = run(&["verify", "--json", "."], &folder);
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_str(&out(&output)).expect("one JSON document");
    assert_eq!(report["inOrder"], false);
    assert_eq!(report["episodeFiles"], 1);
    assert_eq!(report["incompleteEpisodes"], 1);
    let files = report["files"].as_array().expect("a list");
    let file = files
        .iter()
        .find(|file| file["kind"] == "episode")
        .expect("the episode is listed");
    assert_eq!(file["missingPlayers"], serde_json::json!([0]));
    assert_eq!(file["faults"][0]["check"], "identities");
    assert_eq!(file["faults"][0]["identity"], 1);
}

#[test]
fn merge_writes_one_document_per_episode() {
    let folder = folder(env!("CARGO_TARGET_TMPDIR"), "merge");
    export(&folder);
    let output = run(&["merge", "00c0ffee", "--out", "merged"], &folder);
    assert!(output.status.success(), "{}", err(&output));
    assert!(
        out(&output).contains("2 files, which agree, 11 rollbacks; player 1: -"),
        "{}",
        out(&output)
    );
    let path = folder.join("merged/00c0ffee/episode-0.merged.json");
    let text = fs::read_to_string(path).expect("it is there");
    let merged: MergedEpisode = serde_json::from_str(&text).expect("it reads back");
    assert_eq!(merged.peers.len(), 2);
}

#[test]
fn tables_are_written_of_readable_files_and_the_others_are_listed() {
    let folder = folder(env!("CARGO_TARGET_TMPDIR"), "tables");
    export(&folder);
    fs::write(folder.join("00c0ffee/half.json"), "{").unwrap();
    let episode = folder.join("00c0ffee/episode-0.player-1.json");
    fs::copy(&episode, folder.join("00c0ffee/copy.json")).unwrap();
    let output = run(&["tables", ".", "--out", "out", "--format", "csv"], &folder);
    assert_eq!(output.status.code(), Some(1));
    let text = err(&output);
    assert!(text.contains("2 files are not in the tables"), "{text}");
    assert!(
        text.contains("half.json: no document of a rollback match"),
        "{text}"
    );
    assert!(
        text.contains("another file of the same episode and player"),
        "{text}"
    );
    assert!(
        out(&output).contains("frames              600 rows"),
        "{}",
        out(&output)
    );
    let names: Vec<_> = fs::read_dir(folder.join("out"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        names.iter().any(|name| name == "rollbacks.csv"),
        "{names:?}"
    );
    assert!(
        names
            .iter()
            .all(|name| !name.to_string_lossy().ends_with("parquet")),
        "{names:?}"
    );
}

#[test]
fn a_report_is_one_page_that_fetches_nothing() {
    let folder = folder(env!("CARGO_TARGET_TMPDIR"), "report");
    export(&folder);
    let output = run(&["report", "00c0ffee", "--out", "report.html"], &folder);
    assert!(output.status.success(), "{}", err(&output));
    let page = fs::read_to_string(folder.join("report.html")).expect("it is there");
    assert!(page.contains("\"id\":\"00c0ffee-0\""), "the data is inside");
    for fetch in ["src=", "@import", "fetch(", "<link", "XMLHttpRequest"] {
        assert!(!page.contains(fetch), "{fetch} would load a resource");
    }
    assert_eq!(
        page.matches("://").count(),
        1,
        "the only address is the name of SVG"
    );
    assert_eq!(
        page.matches("</script>").count(),
        2,
        "a file's text cannot end the script"
    );
    assert!(
        page.contains("\\u003c/script>\\u003cb>1"),
        "a pseudonym stays text"
    );
}

#[test]
fn a_path_that_does_not_exist_is_an_error() {
    let folder = folder(env!("CARGO_TARGET_TMPDIR"), "nothing");
    for command in ["verify", "merge", "tables", "report"] {
        let output = run(&[command, "nowhere", "--out", "out"], &folder);
        assert!(!output.status.success(), "{command}");
    }
    let output = run(&["tables", "nowhere", "--out", "out"], &folder);
    let text = err(&output);
    assert!(
        text.starts_with("rollback-lab: cannot read nowhere: "),
        "{text}"
    );
}
