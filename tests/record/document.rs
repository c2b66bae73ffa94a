//! The episode file: its names, its schema, its invariants on episodes of a modelled network.
#![expect(clippy::unwrap_used, reason = "helpers of a test fail by panicking")]

use std::io::Write;

use bevy_rollback_lab::internals::metrics::LinkReport;
use bevy_rollback_lab::internals::sink::Document;
use bevy_rollback_lab::metrics::{EpisodeRecord, SessionMetrics};
use bevy_rollback_lab::record::{
    CandidateType, Cause, ConnectionPeer, Datagrams, DocumentError, EndReason, EpisodeDocument,
    Evidence, Hex64, Path, PathRecord, PeerClock, RouteCause, RouteState, SessionDocument, Summary,
    SyncStatus, Via,
};
use proptest::prelude::*;
use rollback_lab_link::link::SentBy;
use rollback_lab_link::route::RouteChange;
use rollback_lab_record::check::{check_episode, check_pair};
use rollback_lab_record::schema;
use serde_json::{Value, json};

use rollback_lab_test_kit::recorded::{self, Pad, Plan, finished};

/// "Names kept" of the format, with the seven core fields of a rollback event.
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

/// An episode in which everything happened that fills a list.
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
fn every_kept_name_stands_in_a_written_file() {
    let text = written(&eventful().export().unwrap());
    let value: Value = serde_json::from_str(&text).unwrap();
    let missing: Vec<_> = KEPT_NAMES
        .iter()
        .filter(|name| !has(&value, name))
        .collect();
    assert!(
        missing.is_empty(),
        "names that scripts rely on are gone: {missing:?}"
    );
    assert!(!has(&value, "frames.nothing"), "the search itself can fail");
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
        "the schema refuses a digest as a number"
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

/// Compares a committed JSON file with a generated one; `UPDATE_GOLDEN=1` writes it anew.
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
        "{} is not what the types say; run with UPDATE_GOLDEN=1 and tell it in the changelog",
        path.display(),
    );
}

#[test]
fn the_format_is_the_golden_files() {
    let document = eventful().export().unwrap();
    assert_eq!(check_episode(&document), []);
    same_as_committed(
        "crates/record/tests/golden/episode.json",
        &serde_json::to_value(document).unwrap(),
    );
}

#[test]
fn a_file_of_another_major_version_is_refused_by_its_version() {
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

#[test]
fn frames_beyond_the_end_are_overrun_and_leave_nothing_in_the_file() {
    let plan = Plan {
        overrun: 40,
        ..Plan::default()
    };
    let mut metrics = SessionMetrics::default();
    metrics.begin(recorded::meta(&plan));
    let mut record = EpisodeRecord::default();
    record.begin_frame(299);
    record.event(300, "goal", Value::Null);
    record.begin_frame(300);
    record.event(300, "too late", Value::Null);
    record.end_frame();
    recorded::play(&plan, &mut metrics);
    metrics.fold_record(&mut record);
    metrics.close(Some(300), Some("goal".into()), false);
    let document = metrics.export().unwrap();
    assert_eq!(check_episode(&document), []);
    assert_eq!((document.frames.total, document.frames.overrun), (300, 40));
    let names: Vec<_> = document
        .custom
        .events
        .iter()
        .map(|event| event.name.as_str())
        .collect();
    assert_eq!(
        names,
        ["goal"],
        "the frame that raised an event decides where it belongs"
    );
    assert_eq!(
        document.episode.end_reason,
        Some(EndReason::Game("goal".into()))
    );
}

#[test]
fn a_rollback_names_the_path_that_brought_its_input_and_not_the_route_in_use() {
    let via = |path: Option<Path>, ours: CandidateType| {
        let plan = Plan {
            frames: 100,
            path,
            ..Plan::default()
        };
        let mut metrics = SessionMetrics::default();
        metrics.begin(recorded::meta(&plan));
        recorded::play_with(&plan, &mut metrics, |record| record.via = Via::Direct);
        let mut report = LinkReport::unmeasured(1);
        report.connection.candidate_types = vec![ours, CandidateType::Host];
        metrics.record_link(report);
        metrics.close(Some(100), None, false);
        let events = metrics.export().unwrap().rollbacks.events;
        assert!(events.len() > 2, "the plan rolls back");
        let mut vias: Vec<_> = events.iter().map(|event| event.via).collect();
        vias.dedup();
        vias
    };
    let host = CandidateType::Host;
    let relayed = via(Some(Path::Relay), host);
    assert_eq!(relayed, [Via::Relay], "as while suspected");
    assert_eq!(via(Some(Path::Direct), host), [Via::Direct]);
    assert_eq!(via(Some(Path::Direct), CandidateType::Relay), [Via::Turn]);
    let unseen = via(None, host);
    assert_eq!(unseen, [Via::Direct], "no copy was seen: the route in use");
}

#[test]
fn focus_that_nobody_watches_is_null_and_never_zero() {
    let focus = |note: fn(&mut SessionMetrics<Pad>)| {
        let plan = Plan::default();
        let mut metrics = SessionMetrics::default();
        metrics.begin(recorded::meta(&plan));
        note(&mut metrics);
        recorded::play(&plan, &mut metrics);
        metrics.close(Some(300), None, false);
        let focus = metrics.export().unwrap().focus_loss;
        assert_eq!(focus.background_periods, []);
        serde_json::to_value(&focus).unwrap()
    };
    let unwatched = json!({
        "backgroundPeriods": [],
            "peerBackgroundPeriods": [], "totalBackgroundMs": null, "periodCount": null,
        "timeoutMs": null, "wasTimeoutTriggered": null,
    });
    assert_eq!(focus(|_| ()), unwatched);
    let watched = focus(SessionMetrics::record_focus_watched);
    assert_eq!(watched["periodCount"], 0);
    assert_eq!(watched["wasTimeoutTriggered"], false);
}

#[test]
fn the_running_episode_is_exported_as_partial_and_the_last_one_stays() {
    let plan = Plan::default();
    let mut metrics = SessionMetrics::<Pad>::default();
    assert!(metrics.export().is_none());
    metrics.begin(recorded::meta(&plan));
    recorded::play(&plan, &mut metrics);
    let partial = metrics.export().unwrap();
    assert_eq!(check_episode(&partial), []);
    assert!(partial.episode.is_partial && partial.sync.status == SyncStatus::Partial);
    assert!(
        partial.frames.open > 0,
        "frames in flight are open predictions"
    );
    metrics.close(Some(300), None, false);
    metrics.begin(recorded::meta(&plan));
    assert!(metrics.export().unwrap().episode.is_partial);
    assert_eq!(metrics.export_all().len(), 2);
}

#[test]
fn an_episode_can_be_the_life_of_a_session() {
    let plan = Plan::default();
    let mut metrics = SessionMetrics::<Pad>::closing_with_session(recorded::meta(&plan));
    recorded::play(&plan, &mut metrics);
    recorded::play(&plan, &mut metrics);
    assert!(!metrics.is_running(), "it closes when the trace does");
    let documents = metrics.export_all();
    let numbers: Vec<_> = documents
        .iter()
        .map(|document| document.episode.episode_num)
        .collect();
    assert_eq!(numbers, [0, 1]);
    for document in &documents {
        assert_eq!(check_episode(document), []);
        assert!(!document.episode.is_partial);
        assert_eq!(document.episode.end_reason, Some(EndReason::SessionRemoved));
        let confirmed = document.sync.confirmed_frame.unwrap() + 1;
        assert_eq!(
            document.episode.end_frame, confirmed,
            "only confirmed frames count"
        );
        assert!(document.frames.overrun > 0, "frames in flight are overrun");
    }
}

#[test]
fn an_end_that_is_not_confirmed_makes_the_file_partial() {
    let plan = Plan {
        overrun: 0,
        ..Plan::default()
    };
    let mut metrics = SessionMetrics::<Pad>::default();
    metrics.begin(recorded::meta(&plan));
    recorded::play(&plan, &mut metrics);
    metrics.close(Some(300), Some(EndReason::FrameLimit), false);
    let document = metrics.export().unwrap();
    assert!(document.episode.is_partial);
    assert_eq!(check_episode(&document), []);
}

#[test]
fn only_equal_digests_of_every_peer_are_called_verified() {
    let status = |digest: Option<(i32, u64)>| {
        let mut metrics = eventful();
        if let Some((end, digest)) = digest {
            metrics.record_peer_digest(1, end, digest);
        }
        let document = metrics.export().unwrap();
        assert_eq!(check_episode(&document), []);
        (document.sync.status, document.sync.agreed_through_frame)
    };
    let digest = eventful().digest_at(300).unwrap();
    assert_eq!(
        eventful().export().unwrap().sync.history_digest,
        Hex64(digest)
    );
    assert_eq!(
        status(Some((300, digest))),
        (SyncStatus::Verified, Some(299))
    );
    assert_eq!(status(None), (SyncStatus::ConfirmedOnly, None));
    assert_eq!(status(Some((300, digest ^ 1))).0, SyncStatus::Disputed);
    assert_eq!(status(Some((301, digest))).0, SyncStatus::Disputed);
}

/// A way to falsify a document.
type Lie = fn(&mut EpisodeDocument);

#[test]
fn a_falsified_number_is_found_by_the_invariant_it_breaks() {
    let lies: [(u8, Lie); 17] = [
        (1, |d| d.frames.ticks += 1),
        (1, |d| d.frames.advanced -= 1),
        (1, |d| d.frames.stalled += 1),
        (2, |d| d.rollbacks.count += 1),
        (2, |d| d.rollbacks.max_frames += 1),
        (2, |d| d.rollbacks.events[0].loaded_frame += 1),
        (2, |d| d.frames.resimulated += 1),
        (3, |d| d.frames.prediction_hits += 1),
        (3, |d| drop(d.rollbacks.events.pop())),
        (4, |d| {
            d.rollbacks.events[0].actual_action = d.rollbacks.events[0].predicted_action.clone();
        }),
        (4, |d| d.rollbacks.events[0].player_id = 0),
        (5, |d| d.inputs.unsent = Some(17)),
        (6, |d| d.rollbacks.events[0].frame = 300),
        (6, |d| d.inputs.confirmed[0].runs[0].1 += 1),
        (7, |d| d.quality.p2p_fallback_frame = None),
        (8, |d| d.sync.history_digest.0 ^= 1),
        (8, |d| d.sync.status = SyncStatus::Verified),
    ];
    let honest = eventful().export().unwrap();
    assert_eq!(check_episode(&honest), []);
    for (index, (invariant, lie)) in lies.into_iter().enumerate() {
        let mut document = honest.clone();
        lie(&mut document);
        let found = check_episode(&document);
        assert!(
            found
                .iter()
                .any(|violation| violation.invariant == invariant),
            "lie {index} has to break invariant {invariant}, found {found:?}",
        );
    }
}

#[test]
fn relayed_inputs_without_a_doubt_break_invariant_seven() {
    let plan = Plan::default();
    let mut metrics = SessionMetrics::default();
    metrics.begin(recorded::meta(&plan));
    let both = SentBy {
        direct: true,
        relay: true,
    };
    metrics.record_sent(1, 0, 10, both);
    recorded::play(&plan, &mut metrics);
    metrics.close(Some(300), None, false);
    let found = check_episode(&metrics.export().unwrap());
    assert_eq!(
        found
            .iter()
            .map(|violation| violation.invariant)
            .collect::<Vec<_>>(),
        [7]
    );
}

#[test]
fn files_that_disagree_break_invariant_eight() {
    let document = |local: usize| {
        let plan = Plan {
            local,
            net_seed: local as u64,
            ..Plan::default()
        };
        finished(&plan).export().unwrap()
    };
    let (a, b) = (document(0), document(1));
    assert_eq!(check_pair(&a, &b), []);
    let mut other_input = b.clone();
    other_input.inputs.confirmed[0].runs[3].0 = json!({"buttons": 99});
    let mut other_hash = b.clone();
    other_hash.sync.hashes.values[2] = Some(Hex64(1));
    let mut other_digest = b.clone();
    other_digest.sync.history_digest = Hex64(1);
    for changed in [other_input, other_hash, other_digest] {
        assert!(!check_pair(&a, &changed).is_empty());
        assert!(!check_pair(&changed, &a).is_empty());
    }
    assert!(!check_pair(&a, &a).is_empty(), "one peer's file is no pair");
}

#[test]
fn what_was_not_measured_is_null() {
    let plan = Plan::default();
    let mut meta = recorded::meta(&plan);
    meta.has_transport = false;
    let mut metrics = SessionMetrics::<Pad>::default();
    metrics.begin(meta);
    recorded::play(&plan, &mut metrics);
    metrics.close(Some(300), None, false);
    let document = metrics.export().unwrap();
    assert_eq!(check_episode(&document), []);
    let value = serde_json::to_value(document).unwrap();
    for path in [
        "/inputs/sentViaP2P",
        "/inputs/unsent",
        "/quality/p2pFallbackTriggered",
        "/connection/type",
        "/display/width",
        "/sync/hashVerifications",
        "/completeness/gaps",
    ] {
        assert_eq!(value.pointer(path), Some(&Value::Null), "{path}");
    }
}

/// This minute is a hard one: everybody changes a button four times a second, nothing comes in
/// time, every rollback has its evidence and every second its sample of the other's clock.
/// `RECORD_SAMPLE` names a file to look at.
#[test]
fn a_minute_of_a_lively_match_stays_under_25_kb_gzipped() {
    let minute = Plan {
        frames: 3600,
        change_every: 15,
        ..Plan::default()
    };
    let mut metrics = SessionMetrics::default();
    metrics.begin(recorded::meta(&minute));
    let mut random = recorded::Random(5);
    recorded::play_with(&minute, &mut metrics, |record| {
        (record.cause, record.via) = (Cause::BaseLatency, Via::Direct);
        let mut ms = |from: u32, width| f64::from(from * 10 + random.below(width)) / 10.0;
        record.evidence = Evidence {
            rtt_ms: Some(ms(50, 200)),
            jitter_ms: Some(ms(3, 40)),
            lost_packets: Some(u32::from(record.id % 7 == 0)),
            frames_ahead: Some((record.id % 3) as i32),
            peer_silence_ms: Some(ms(0, 170)),
            route_changed: Some(false),
            peer_hidden: Some(false),
            peer_pause_ms: Some(0.0),
            packet_lost: Some(false),
            overtaken: Some(false),
            late_ms: Some(ms(16, 170)),
            over_usual_ms: Some(0.0),
            ahead_ms: Some(ms(0, 80)),
        };
    });
    metrics.close(Some(3600), Some(EndReason::FrameLimit), false);
    let mut number = |from: i64, width| from + i64::from(random.below(width));
    let samples = (0..32).map(|second| {
        let at = 2_000_000 * second + number(0, 20_000);
        (
            at.unsigned_abs(),
            number(1_600, 300),
            number(450, 300).unsigned_abs(),
        )
    });
    metrics.record_clock(PeerClock {
        player_id: 1,
        at_us: Some(62_011_828),
        offset_us: Some(1_728),
        uncertainty_us: Some(597),
        drift_ppm: Some(-0.38),
        samples: samples.collect(),
    });
    let document = metrics.export().unwrap();
    assert!(
        document.rollbacks.count > 200,
        "{}",
        document.rollbacks.count
    );
    let text = written(&document);
    if let Some(path) = std::env::var_os("RECORD_SAMPLE") {
        std::fs::write(path, &text).unwrap();
    }
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    gzip.write_all(text.as_bytes()).unwrap();
    let packed = gzip.finish().unwrap().len();
    assert!(
        packed < 25_000,
        "{} rollbacks, {packed} of {} bytes",
        document.rollbacks.count,
        text.len()
    );
}

fn plans() -> impl Strategy<Value = Plan> {
    let who = (2..=4_usize, 0..4_usize, 1..250_u32, 0..20_u32);
    let net = (any::<u64>(), any::<u64>(), 0..10_u32, 0..12_u32, 1..30_u32);
    (who, net, proptest::option::of((1..4_usize, 0..250_u32))).prop_map(
        |(
            (players, local, frames, overrun),
            (input_seed, net_seed, late, spread, change_every),
            disconnect,
        )| Plan {
            players,
            local: local % players,
            frames,
            overrun,
            input_seed,
            net_seed,
            late,
            spread,
            change_every,
            path: Some(Path::Direct),
            disconnect: disconnect
                .map(|(by, at)| ((local + by) % players, at))
                .filter(|&(player, _)| player != local % players),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_episode_satisfies_the_invariants(plan in plans(), cut in 0..300_i32) {
        let mut metrics = SessionMetrics::<Pad>::default();
        metrics.begin(recorded::meta(&plan));
        recorded::play(&plan, &mut metrics);
        prop_assert_eq!(check_episode(&metrics.export().unwrap()), []);
        metrics.close(Some(cut), Some("goal".into()), false);
        let document = metrics.export().unwrap();
        prop_assert_eq!(check_episode(&document), []);
        let live = metrics.live();
        prop_assert_eq!(u64::from(live.frames), document.frames.total);
        prop_assert_eq!(live.rollbacks, document.rollbacks.count);
        prop_assert_eq!(live.max_rollback_frames, document.rollbacks.max_frames);
        prop_assert_eq!(live.resimulated_frames, document.frames.resimulated);
        prop_assert_eq!(live.stalled_ticks, document.frames.stalled);
        prop_assert_eq!(EpisodeDocument::parse(&written(&document)).unwrap(), document);
    }

    #[test]
    fn two_peers_files_of_one_episode_agree(plan in plans(), other_net in any::<u64>()) {
        let a = Plan { disconnect: None, overrun: plan.overrun + 8, ..plan };
        let b = Plan { local: (a.local + 1) % a.players, net_seed: other_net, ..a.clone() };
        let (a, b) = (finished(&a).export().unwrap(), finished(&b).export().unwrap());
        prop_assert_eq!(check_pair(&a, &b), []);
        if !a.episode.is_partial && !b.episode.is_partial {
            prop_assert_eq!(a.sync.history_digest, b.sync.history_digest);
        }
    }
}
