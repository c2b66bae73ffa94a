//! A lossy direct path fails over to the relay, and the file records why.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test may fail like the test itself"
)]

use bevy_rollback_lab::record::EpisodeDocument;

use rollback_lab_record::RouteCause;
use rollback_lab_test_kit::lab::play_under;

/// Plays 40 seconds.
fn played(conditions: &str) -> Vec<EpisodeDocument> {
    play_under(conditions, 2_400, 3)
}

/// The file of the peer that failed over by its own evidence.
fn decided(files: &[EpisodeDocument], cause: RouteCause) -> &EpisodeDocument {
    let causes: Vec<_> = files
        .iter()
        .map(|file| file.quality.fallback_cause.unwrap())
        .collect();
    assert!(
        causes
            .iter()
            .all(|of| [cause, RouteCause::PeerPromoted].contains(of)),
        "{causes:?}"
    );
    let own = files
        .iter()
        .find(|file| file.quality.fallback_cause == Some(cause));
    own.unwrap()
}

#[test]
fn thirty_percent_loss_fails_over_and_the_file_records_the_trigger() {
    let files = played("latency=10ms; direct:loss=30%");
    let quality = &decided(&files, RouteCause::Lossy).quality;
    let trigger = quality.fallback_trigger.as_ref().unwrap();
    assert!(
        ["bothPathsMs", "bothPathsOf10sMs", "lossRunsOf10s"].contains(&trigger.metric.as_str()),
        "{trigger:?}"
    );
    assert!(trigger.value >= trigger.threshold, "{trigger:?}");
    for file in &files {
        assert_eq!(file.quality.p2p_fallback_triggered, Some(true));
        let relayed = file.inputs.sent_via_relay.unwrap();
        assert!(relayed > 0, "the rest of the match is sent over the relay");
        assert_eq!(file.frames.stalled, 0, "{:?}", file.frames.stalls);
    }
}

#[test]
fn one_percent_loss_does_not_fail_over() {
    for file in played("latency=10ms; direct:loss=1%") {
        assert_eq!(file.quality.p2p_fallback_triggered, Some(false));
        assert_eq!(file.inputs.sent_via_relay, Some(0));
    }
}
