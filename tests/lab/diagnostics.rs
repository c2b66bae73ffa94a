//! The values of Bevy's diagnostics equal those in the file.

use bevy::diagnostic::{DiagnosticPath, DiagnosticsStore};
use bevy::prelude::*;
use bevy_rollback_lab::diagnostics::{
    CONFIRMED_FRAME, DESYNCS, FAILOVER_MARGIN, JITTER, PEERS_NOT_DIRECT, PREDICTION_HIT_RATE,
    ROLLBACK_DEPTH, RTT, STALLED_TICKS,
};
use bevy_rollback_lab::prelude::*;

use rollback_lab_test_kit::lab::{
    TestConfig, VirtualNetwork, frame, lab_peer, lab_peer_with, play,
};

/// Everything measured, by path.
#[derive(Resource, Default)]
struct Seen(Vec<(&'static str, f64)>);

const WATCHED: [(&str, DiagnosticPath); 9] = [
    ("depth", ROLLBACK_DEPTH),
    ("stalled", STALLED_TICKS),
    ("hits", PREDICTION_HIT_RATE),
    ("confirmed", CONFIRMED_FRAME),
    ("rtt", RTT),
    ("jitter", JITTER),
    ("margin", FAILOVER_MARGIN),
    ("notDirect", PEERS_NOT_DIRECT),
    ("desyncs", DESYNCS),
];

fn collect(mut store: ResMut<DiagnosticsStore>, mut seen: ResMut<Seen>) {
    for (name, path) in WATCHED {
        let diagnostic = store.get_mut(&path).expect("the path is registered");
        seen.0
            .extend(diagnostic.values().map(|value| (name, *value)));
        diagnostic.clear_history();
    }
}

#[test]
fn diagnostics_equal_the_numbers_in_the_file() {
    let config = || {
        LabConfig::new("ws://lab", "room")
            .frame_limit(600)
            .episodes(1)
            .conditions("latency=60ms,jitter=15ms")
            .no_files()
    };
    let network = VirtualNetwork::new(2, true);
    let mut peers = vec![
        lab_peer_with(&network, config(), 1, |app| {
            app.add_plugins(LabDiagnosticsPlugin::<TestConfig>::default())
                .init_resource::<Seen>()
                .add_systems(Update, collect);
        }),
        lab_peer(&network, config(), 2),
    ];
    let mut cut = false;
    let by = frame(60);
    rollback_lab_test_kit::lab::run_until(&mut peers, by, 3_000, |peers| {
        if peers[0].frame() > 300 && !cut {
            cut = true;
            network.faults(|faults| {
                faults.cut_from_first = true;
                faults.cut_from_others = true;
            });
        }
        peers[0].frame() > 400
    });
    let documents = play(&mut peers, by, 3_000);
    let episode = &documents[0][0];
    let seen = &peers[0].app.world().resource::<Seen>().0;
    let of = |name: &'static str| {
        let values = seen.iter().filter(move |(of, _)| *of == name);
        values.map(|(_, value)| *value)
    };
    let deepest = of("depth").fold(0.0, f64::max);
    assert!(deepest >= 1.0, "latency makes rollbacks");
    assert_eq!(deepest, f64::from(episode.rollbacks.max_frames));
    let stalled: f64 = of("stalled").sum();
    let recorded = episode.frames.stalled + episode.frames.stalled_overrun;
    assert_eq!(stalled, recorded as f64);
    assert!(of("hits").all(|percent| (0.0..=100.0).contains(&percent)));
    assert!(
        of("hits").count() > 100,
        "the hit rate is measured throughout"
    );
    let confirmed = of("confirmed").fold(0.0, f64::max);
    // The session is gone in the update that confirms the last frames.
    assert!((560.0..=600.0).contains(&confirmed), "{confirmed}");
    assert!(of("rtt").any(|ms| ms > 100.0), "60 ms each way");
    assert!(of("jitter").any(|ms| ms > 0.0));
    assert!(of("margin").count() > 0);
    assert_eq!(of("notDirect").fold(0.0, f64::max), 1.0, "the path was cut");
    assert_eq!(of("notDirect").next(), Some(0.0));
    assert_eq!(of("desyncs").fold(0.0, f64::max), 0.0);
}
