//! What the metrics write into an episode file.

use std::io::Write;

use bevy_rollback_lab::record::{PeerClock, SyncStatus};

use super::*;

#[test]
fn frames_beyond_the_end_are_overrun_and_are_not_in_the_file() {
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
        "the frame that recorded an event decides whether it is in the episode"
    );
    assert_eq!(
        document.episode.end_reason,
        Some(EndReason::Game("goal".into()))
    );
}

#[test]
fn a_rollback_names_the_path_of_its_input_and_not_the_current_route() {
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
    assert_eq!(relayed, [Via::Relay], "as on a suspect route");
    assert_eq!(via(Some(Path::Direct), host), [Via::Direct]);
    assert_eq!(via(Some(Path::Direct), CandidateType::Relay), [Via::Turn]);
    let unknown = via(None, host);
    assert_eq!(unknown, [Via::Direct], "path unknown: the current route");
}

#[test]
fn focus_without_a_window_is_null_and_not_zero() {
    let focus = |setup: fn(&mut SessionMetrics<Pad>)| {
        let plan = Plan::default();
        let mut metrics = SessionMetrics::default();
        metrics.begin(recorded::meta(&plan));
        setup(&mut metrics);
        recorded::play(&plan, &mut metrics);
        metrics.close(Some(300), None, false);
        let focus = metrics.export().unwrap().focus_loss;
        assert_eq!(focus.background_periods, []);
        serde_json::to_value(&focus).unwrap()
    };
    let without_window = json!({
        "backgroundPeriods": [],
        "peerBackgroundPeriods": [], "totalBackgroundMs": null, "periodCount": null,
        "timeoutMs": null, "wasTimeoutTriggered": null,
    });
    assert_eq!(focus(|_| ()), without_window);
    let with_window = focus(SessionMetrics::record_focus_watched);
    assert_eq!(with_window["periodCount"], 0);
    assert_eq!(with_window["wasTimeoutTriggered"], false);
}

#[test]
fn a_running_episode_is_exported_as_partial_next_to_the_finished_one() {
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
fn an_episode_can_last_as_long_as_its_session() {
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
        assert!(
            document.episode.is_partial,
            "the game did not say whether the match was over"
        );
        assert_eq!(document.episode.end_reason, Some(EndReason::SessionRemoved));
        let confirmed = document.sync.confirmed_frame.unwrap() + 1;
        assert!(
            document.episode.end_frame > confirmed,
            "frames in flight were simulated, too"
        );
        assert_eq!(document.frames.overrun, 0);
    }
}

#[test]
fn an_unconfirmed_end_makes_the_file_partial() {
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
fn only_equal_digests_of_all_peers_are_verified() {
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

/// A demanding minute: every player changes a button four times a second, every input is late,
/// every rollback has evidence and every second a clock sample. `RECORD_SAMPLE=FILE` keeps the
/// document.
#[test]
fn a_minute_with_200_rollbacks_is_under_25_kb_gzipped() {
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
