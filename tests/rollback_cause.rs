//! Why an input was late, decided from what is known of the player's link.

use std::time::Duration;

use bevy_rollback_lab::rollback::cause::{Cause, Evidence, LinkEvidence, PlayerLink, Via, decide};
use bevy_rollback_lab::rollback::trace::{MAX_PLAYERS, RollbackRecord};

fn record(first_simulated_ms: u64, corrected_ms: u64, disconnect: bool) -> RollbackRecord<u8> {
    RollbackRecord {
        id: 0,
        at: Duration::from_millis(corrected_ms),
        frame: 10,
        current_frame: 13,
        player: 1,
        predicted: (!disconnect).then_some(0),
        actual: (!disconnect).then_some(1),
        loaded_frame: 10,
        resimulated: 3,
        resim_time: Duration::ZERO,
        also: Vec::new(),
        disconnect,
        first_simulated_at: Duration::from_millis(first_simulated_ms),
        late_by_frames: 3,
    }
}

fn changed(at_ms: u64, rtt_ms: Option<f64>) -> PlayerLink {
    PlayerLink {
        via: Via::Relay,
        evidence: Evidence {
            rtt_ms,
            ..Evidence::default()
        },
        route_changed_at: Some(Duration::from_millis(at_ms)),
    }
}

#[test]
fn a_disconnect_comes_before_every_other_cause() {
    let link = changed(1_010, None);
    assert_eq!(
        decide(&record(1_000, 1_050, true), Some(&link)),
        Cause::Disconnect
    );
    assert_eq!(decide(&record(1_000, 1_050, true), None), Cause::Disconnect);
}

#[test]
fn a_route_change_counts_from_a_round_trip_before_the_frame_to_the_correction() {
    let late = record(1_000, 1_050, false);
    let cause = |at, rtt| decide(&late, Some(&changed(at, rtt)));
    assert_eq!(cause(979, Some(20.0)), Cause::Unknown);
    assert_eq!(cause(980, Some(20.0)), Cause::RouteChange);
    assert_eq!(cause(1_050, Some(20.0)), Cause::RouteChange);
    assert_eq!(
        cause(1_051, Some(20.0)),
        Cause::Unknown,
        "after the correction it explains nothing"
    );
    assert_eq!(
        cause(860, None),
        Cause::RouteChange,
        "an unknown way is taken as a long one"
    );
    assert_eq!(
        cause(860, Some(f64::NAN)),
        Cause::RouteChange,
        "so is a broken measurement"
    );
    assert_eq!(decide(&late, None), Cause::Unknown);
}

#[test]
fn links_are_kept_by_handle_and_forgotten_together() {
    let mut links = LinkEvidence::default();
    links.set(1, changed(5, None));
    links.set(MAX_PLAYERS, changed(6, None));
    assert_eq!(links.get(1), Some(&changed(5, None)));
    assert_eq!((links.get(0), links.get(MAX_PLAYERS)), (None, None));
    links.clear();
    assert_eq!(links.get(1), None);
}

#[test]
fn names_in_the_file_are_the_documented_ones_in_their_order() {
    let names = Cause::ALL.map(Cause::as_str);
    assert_eq!(
        names,
        [
            "disconnect",
            "routeChange",
            "peerHidden",
            "peerStall",
            "packetLoss",
            "reordering",
            "jitterSpike",
            "frameAdvantage",
            "baseLatency",
            "unknown"
        ]
    );
    assert!(Cause::ALL.is_sorted());
    for cause in Cause::ALL {
        assert_eq!(serde_json::to_value(cause).unwrap(), cause.as_str());
    }
    for via in [Via::Direct, Via::Turn, Via::Relay, Via::Unknown] {
        assert_eq!(serde_json::to_value(via).unwrap(), via.as_str());
    }
}
