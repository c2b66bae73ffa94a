//! The episode file: its JSON names, schema and versions. The modules below have its content and
//! its invariants.
#![expect(clippy::unwrap_used, reason = "helpers of a test fail by panicking")]

use bevy_rollback_lab::internals::metrics::LinkReport;
use bevy_rollback_lab::internals::sink::Document;
use bevy_rollback_lab::metrics::{EpisodeRecord, SessionMetrics};
use bevy_rollback_lab::record::{
    CandidateType, Cause, ConnectionPeer, Datagrams, DocumentError, EndReason, EpisodeDocument,
    Evidence, Hex64, Path, PathRecord, RouteCause, RouteState, SessionDocument, Summary, Via,
};
use rollback_lab_link::link::SentBy;
use rollback_lab_link::route::RouteChange;
use rollback_lab_record::check::check_episode;
use rollback_lab_record::schema;
use serde_json::{Value, json};

use rollback_lab_test_kit::recorded::{self, Pad, Plan};

mod content;
mod invariants;

/// JSON names that scripts rely on, with the seven core fields of a rollback event.
const KEPT_NAMES: &[&str] = &[
    "gameId",
    "playerId",
    "connection.type",
    "connection.connectionDetails",
    "inputs.sentViaP2P",
    "inputs.receivedViaP2P",
    "inputs.sentViaRelay",
    "inputs.receivedViaRelay",
    "rollbacks.events",
    "rollbacks.count",
    "rollbacks.maxFrames",
    "sync.p2pHashMismatches",
    "quality.p2pFallbackTriggered",
    "quality.p2pFallbackFrame",
    "frames.total",
    "latency.sampleCount",
    "latency.minMs",
    "latency.maxMs",
    "latency.meanMs",
    "latency.medianMs",
    "latency.samples[].timestamp",
    "latency.samples[].rttMs",
    "reconnection.disconnections",
    "reconnection.attempts",
    "reconnection.totalPauseDurationMs",
    "focusLoss.backgroundPeriods[].start",
    "focusLoss.backgroundPeriods[].end",
    "focusLoss.backgroundPeriods[].durationMs",
    "focusLoss.totalBackgroundMs",
    "focusLoss.periodCount",
    "focusLoss.timeoutMs",
    "focusLoss.wasTimeoutTriggered",
    "rollbacks.events[].frame",
    "rollbacks.events[].currentFrame",
    "rollbacks.events[].rollbackFrames",
    "rollbacks.events[].playerId",
    "rollbacks.events[].predictedAction",
    "rollbacks.events[].actualAction",
    "rollbacks.events[].timestamp",
];

fn ms(ms: u64) -> std::time::Duration {
    std::time::Duration::from_millis(ms)
}

fn written(document: &EpisodeDocument) -> String {
    let bytes = Document::from(document.clone()).to_bytes().unwrap();
    String::from_utf8(bytes).unwrap()
}

fn has(value: &Value, path: &str) -> bool {
    let (key, rest) = path.split_once('.').unwrap_or((path, ""));
    let (key, in_list) = key
        .strip_suffix("[]")
        .map_or((key, false), |key| (key, true));
    let Some(mut found) = value.get(key) else {
        return false;
    };
    if in_list {
        let Some(first) = found.get(0) else {
            return false;
        };
        found = first;
    }
    rest.is_empty() || has(found, rest)
}

fn unused_path(path: Path) -> PathRecord {
    PathRecord {
        player_id: 1,
        path,
        datagrams: Datagrams::default(),
        bytes_sent: 0,
        bytes_received: 0,
        rtt_ms: Summary::default(),
        jitter_ms: Summary::default(),
    }
}

/// An episode that fills every list of the file.
fn eventful() -> SessionMetrics<Pad> {
    let plan = Plan::default();
    let mut metrics = SessionMetrics::default();
    metrics.begin(recorded::meta(&plan));
    let mut record = EpisodeRecord::default();
    record.annotate("difficulty", 3);
    record.event(20, "goal", json!({"by": 1}));
    metrics.record_focus_lost(ms(500));
    metrics.record_focus_gained(ms(900));
    recorded::play(&plan, &mut metrics);
    metrics.fold_record(&mut record);
    let suspect = RouteChange {
        at: ms(2000),
        from: RouteState::Direct,
        to: RouteState::Suspect,
        cause: RouteCause::Silence,
        metric: "silenceMs",
        value: 51.2,
        threshold: 50.0,
    };
    metrics.record_route(1, 90, suspect);
    let to_relay = RouteChange {
        from: RouteState::Suspect,
        to: RouteState::Relay,
        cause: RouteCause::Dead,
        ..suspect
    };
    metrics.record_route(1, 105, to_relay);
    let report = LinkReport {
        connection: ConnectionPeer {
            player_id: 1,
            route: Some(Via::Relay),
            candidate_types: vec![CandidateType::Host, CandidateType::PeerReflexive],
            connect_ms: Some(612.0),
            started_on_relay: Some(false),
        },
        paths: Path::ALL.map(unused_path).into(),
        ..LinkReport::unmeasured(1)
    };
    metrics.record_link(report);
    metrics.close(Some(300), Some(EndReason::FrameLimit), false);
    metrics
}

#[test]
fn a_written_file_has_every_promised_name() {
    let text = written(&eventful().export().unwrap());
    let value: Value = serde_json::from_str(&text).unwrap();
    let missing: Vec<_> = KEPT_NAMES
        .iter()
        .filter(|name| !has(&value, name))
        .collect();
    assert!(
        missing.is_empty(),
        "names that scripts rely on are missing: {missing:?}"
    );
    assert!(
        !has(&value, "frames.nothing"),
        "the search finds no other name"
    );
}

#[test]
fn written_files_validate_against_the_schema_and_read_back_the_same() {
    let validator = jsonschema::validator_for(&schema::episode_schema()).unwrap();
    let mut open = SessionMetrics::<Pad>::default();
    open.begin(recorded::meta(&Plan::default()));
    for document in [eventful().export().unwrap(), open.export().unwrap()] {
        let text = written(&document);
        let value: Value = serde_json::from_str(&text).unwrap();
        let errors: Vec<_> = validator
            .iter_errors(&value)
            .map(|error| error.to_string())
            .collect();
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(EpisodeDocument::parse(&text).unwrap(), document);
    }
    let mut broken = serde_json::to_value(eventful().export().unwrap()).unwrap();
    broken["sync"]["historyDigest"] = json!(12);
    assert!(
        !validator.is_valid(&broken),
        "the schema rejects a digest as a number"
    );
}

#[test]
fn a_session_document_validates_and_reads_back_the_same() {
    let validator = jsonschema::validator_for(&schema::session_schema()).unwrap();
    let document = SessionDocument::new(Default::default(), Default::default(), 1);
    let bytes = Document::from(document.clone()).to_bytes().unwrap();
    let text = String::from_utf8(bytes).unwrap();
    assert!(validator.is_valid(&serde_json::from_str(&text).unwrap()));
    assert_eq!(SessionDocument::parse(&text).unwrap(), document);
}

/// Compares a committed JSON file with a generated one; `UPDATE_GOLDEN=1` overwrites it.
fn same_as_committed(path: &str, generated: &Value) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let text = serde_json::to_string_pretty(generated).unwrap() + "\n";
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let committed: Value = serde_json::from_str(&text).unwrap();
    assert!(
        committed == *generated,
        "{} differs from the types; run with UPDATE_GOLDEN=1 and add it to the changelog",
        path.display(),
    );
}

#[test]
fn the_written_file_equals_the_golden_file() {
    let document = eventful().export().unwrap();
    assert_eq!(check_episode(&document), []);
    same_as_committed(
        "crates/record/tests/golden/episode.json",
        &serde_json::to_value(document).unwrap(),
    );
}

#[test]
fn a_file_of_another_major_version_is_refused_with_its_version() {
    let mut value = serde_json::to_value(eventful().export().unwrap()).unwrap();
    value["schema"]["version"] = json!("2.3");
    value["frames"] = json!("other content");
    let error = EpisodeDocument::parse(&value.to_string()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "schema version 2.3 is not supported, this build reads version 1.1"
    );
    value["schema"]["version"] = json!("1.9");
    let error = EpisodeDocument::parse(&value.to_string()).unwrap_err();
    assert!(matches!(error, DocumentError::Content { .. }), "{error}");
    let error = SessionDocument::parse(&value.to_string()).unwrap_err();
    assert!(
        matches!(error, DocumentError::WrongSchema { .. }),
        "{error}"
    );
    let error = EpisodeDocument::parse("{}").unwrap_err();
    assert!(matches!(error, DocumentError::NotADocument(_)), "{error}");
}

#[test]
fn a_later_minor_version_with_more_fields_is_read() {
    let document = eventful().export().unwrap();
    let mut value = serde_json::to_value(&document).unwrap();
    value["schema"]["version"] = json!("1.7");
    value["frames"]["somethingNew"] = json!(1);
    let read = EpisodeDocument::parse(&value.to_string()).unwrap();
    assert_eq!(read.frames, document.frames);
}
