//! The format: committed schemas, and files whose words or fields this build does not know.
#![expect(clippy::unwrap_used, reason = "helpers of a test fail by panicking")]

use std::path::Path;

use rollback_lab_record::{DocumentError, EndReason, EpisodeDocument, RouteCause, schema};
use rollback_lab_test_kit::files::{golden, session};
use serde_json::{Value, json};

/// Compares a committed schema with the generated one; `UPDATE_GOLDEN=1` writes it anew.
fn same_as_committed(name: &str, generated: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("schema")
        .join(format!("{name}.schema.json"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let text = serde_json::to_string_pretty(generated).unwrap() + "\n";
        std::fs::write(&path, text).unwrap();
    }
    let committed: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert!(
        committed == *generated,
        "{} is not what the types say; run with UPDATE_GOLDEN=1 and note it in the changelog",
        path.display(),
    );
}

#[test]
fn committed_schemas_are_the_generated_ones() {
    same_as_committed("episode", &schema::episode_schema());
    same_as_committed("session", &schema::session_schema());
    same_as_committed("desync", &schema::desync_schema());
    same_as_committed("merged", &schema::merged_schema());
}

#[test]
fn documents_validate_against_their_schemas() {
    let episodes = jsonschema::validator_for(&schema::episode_schema()).unwrap();
    let value = serde_json::to_value(golden()).unwrap();
    assert!(episodes.is_valid(&value));
    let sessions = jsonschema::validator_for(&schema::session_schema()).unwrap();
    let value = serde_json::to_value(session(0)).unwrap();
    assert!(sessions.is_valid(&value));
    let mut unknown = serde_json::to_value(golden()).unwrap();
    unknown["quality"]["routeChanges"][0]["to"] = json!("pigeon");
    assert!(!episodes.is_valid(&unknown), "a state is one of the listed");
}

#[test]
fn a_games_own_end_reason_is_kept_and_a_known_one_is_recognised() {
    let mut value = serde_json::to_value(golden()).unwrap();
    for (text, reason) in [
        ("goal", EndReason::Game("goal".into())),
        ("peerLeft", EndReason::PeerLeft),
    ] {
        value["episode"]["endReason"] = json!(text);
        let document = EpisodeDocument::parse(&value.to_string()).unwrap();
        assert_eq!(document.episode.end_reason, Some(reason));
        assert_eq!(serde_json::to_value(document).unwrap(), value);
    }
}

#[test]
fn an_unknown_route_cause_is_read_and_an_unknown_state_names_its_place() {
    let mut value = serde_json::to_value(golden()).unwrap();
    value["quality"]["routeChanges"][0]["cause"] = json!("solarFlare");
    let document = EpisodeDocument::parse(&value.to_string()).unwrap();
    let cause = document.quality.route_changes[0].cause;
    assert_eq!(cause, RouteCause::Unknown);

    value["quality"]["routeChanges"][0]["to"] = json!("pigeon");
    let text = serde_json::to_string_pretty(&value).unwrap();
    let error = EpisodeDocument::parse(&text).unwrap_err();
    assert!(matches!(error, DocumentError::Content { .. }), "{error}");
    let line = 1 + text
        .lines()
        .position(|line| line.contains("pigeon"))
        .unwrap();
    let message = error.to_string();
    assert!(message.contains("unknown variant `pigeon`"), "{message}");
    assert!(message.contains(&format!("line {line} ")), "{message}");
}
