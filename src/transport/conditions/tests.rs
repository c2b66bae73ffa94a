//! Facts about the grammar and the shaper.

use std::time::Duration;

use super::{ConditionError, Conditions, Direction, Shape, Shaper};
use crate::transport::wire::Path;

const MS: Duration = Duration::from_millis(1);

fn shaper(spec: &str, player: usize, seed: u64) -> Shaper<()> {
    Shaper::new(&Conditions::parse(spec).unwrap(), player, seed)
}

#[test]
fn scopes_combine_and_later_segments_win_key_by_key() {
    let spec =
        "latency=50ms,jitter=10ms,loss=15%; p1:latency=80ms; p1:relay:loss=0%;direct:jitter=0.5s";
    let conditions = Conditions::parse(spec).unwrap();
    let all = conditions.shape(0, Path::Relay);
    assert_eq!(
        all,
        Shape {
            latency: 50 * MS,
            jitter: 10 * MS,
            loss: 0.15
        }
    );
    let scoped = conditions.shape(1, Path::Relay);
    assert_eq!((scoped.latency, scoped.loss), (80 * MS, 0.0));
    assert_eq!(conditions.shape(1, Path::Direct).jitter, 500 * MS);
    assert_eq!(conditions.highest_player(), Some(1));
    let written = Conditions::parse(&conditions.to_string()).unwrap();
    assert_eq!(written, conditions, "what is written parses to the same");
}

#[test]
fn an_empty_specification_shapes_nothing() {
    let conditions = Conditions::parse(" ; ").unwrap();
    assert!(conditions.is_empty());
    assert!(conditions.shape(3, Path::Direct).is_clear());
}

#[test]
fn what_is_not_understood_is_named_with_what_would_be() {
    let message = |spec: &str| Conditions::parse(spec).unwrap_err().to_string();
    assert_eq!(
        message("lag=5ms"),
        "unknown condition \"lag\": known are latency, jitter, loss"
    );
    assert_eq!(
        message("p1:sky:latency=5ms"),
        "unknown scope \"sky\" of a condition: known are p0 to p63, direct, relay"
    );
    for spec in [
        "latency=5",
        "latency=-5ms",
        "jitter=NaNms",
        "latency=11s",
        "latency=ms",
        "latency=1e3ms",
    ] {
        assert!(matches!(
            Conditions::parse(spec),
            Err(ConditionError::Value { .. })
        ));
    }
    for spec in ["loss=15", "loss=101%", "loss=-1%", "loss=%", "loss=inf%"] {
        assert!(message(spec).contains("like 15%"), "{spec}");
    }
    assert!(matches!(
        Conditions::parse("latency"),
        Err(ConditionError::NotKeyValue { .. })
    ));
    for spec in ["loss=1%,loss=2%", "direct:relay:loss=1%", "p1:p2:loss=1%"] {
        assert!(matches!(
            Conditions::parse(spec),
            Err(ConditionError::Twice { .. })
        ));
    }
}

#[test]
fn realised_statistics_tell_what_happened() {
    let mut shaper = shaper("latency=50ms,jitter=10ms,loss=15%", 0, 7);
    for at in 0..10_100_u32 {
        if at < 10_000 {
            shaper.push(MS * at, Path::Direct, &[1], ());
        }
        while let Some(packet) = shaper.pop_due(MS * at) {
            shaper.recycle(packet.bytes);
        }
    }
    let realised = shaper.realised(Path::Direct);
    assert_eq!(realised.offered, 10_000);
    let loss = realised.lost as f64 / realised.offered as f64;
    assert!((0.13..0.17).contains(&loss), "{loss}");
    // Taken out every millisecond, a packet waits half a one longer than it was held.
    assert!((50.0..51.0).contains(&realised.mean_delay_ms().unwrap()));
    // Uniform between 40 and 60 ms: the 95th percentile is 59.
    assert!((58.0..=60.0).contains(&realised.p95_delay_ms().unwrap()));
    let relay = shaper.realised(Path::Relay);
    assert_eq!((relay.offered, relay.mean_delay_ms()), (0, None));
}

#[test]
fn what_is_realised_since_a_moment_leaves_out_what_was_before() {
    let mut shaper = shaper("latency=80ms", 0, 1);
    let send = |shaper: &mut Shaper<()>, at: u32, taken: u32, count| {
        (0..count).for_each(|_| shaper.push(MS * at, Path::Direct, &[1], ()));
        while shaper.pop_due(MS * taken).is_some() {}
        shaper.realised(Path::Direct)
    };
    let before = send(&mut shaper, 0, 80, 100);
    let shorter = Shape {
        latency: 20 * MS,
        ..shaper.shape(Path::Direct)
    };
    shaper.set_shape(Path::Direct, shorter);
    let all = send(&mut shaper, 1_000, 1_020, 10);
    let since = all.since(&before);
    assert_eq!((since.offered, since.passed()), (10, 10));
    assert_eq!(since.mean_delay_ms(), Some(20.0));
    assert_eq!(since.p95_delay_ms(), Some(20.0));
    assert_eq!(
        all.p95_delay_ms(),
        Some(80.0),
        "the whole is another number"
    );
    assert_eq!(all.since(&all).p95_delay_ms(), None);
}

#[test]
fn fates_depend_on_the_seed_alone() {
    let fates = |player, seed| {
        let mut shaper = shaper("loss=50%,jitter=5ms,latency=5ms", player, seed);
        (0..200_u8).for_each(|n| shaper.push(MS * u32::from(n), Path::Direct, &[n], ()));
        std::iter::from_fn(|| shaper.pop_due(MS * 1_000))
            .map(|packet| packet.bytes[0])
            .collect::<Vec<_>>()
    };
    assert_eq!(fates(0, 1), fates(0, 1));
    assert_ne!(fates(0, 1), fates(0, 2));
    assert_ne!(fates(0, 1), fates(1, 1));
}

#[test]
fn without_jitter_order_is_kept() {
    let mut shaper = shaper("latency=20ms", 0, 1);
    (0..50).for_each(|n| shaper.push(MS, Path::Relay, &[n], ()));
    assert!(shaper.pop_due(20 * MS).is_none(), "not due yet");
    assert_eq!(shaper.next_due(), Some(21 * MS));
    let order: Vec<_> = std::iter::from_fn(|| shaper.pop_due(21 * MS))
        .map(|packet| packet.bytes[0])
        .collect();
    assert_eq!(order, (0..50).collect::<Vec<_>>());
}

#[test]
fn cuts_are_per_path_and_direction_and_heal() {
    let mut shaper = shaper("latency=20ms", 0, 1);
    shaper.push(MS, Path::Direct, &[1], ());
    shaper.cut(Path::Direct, Direction::Outgoing);
    shaper.push(MS, Path::Direct, &[2], ());
    shaper.push(MS, Path::Relay, &[3], ());
    assert!(shaper.admit(Path::Direct), "the other direction is open");
    let came: Vec<_> = std::iter::from_fn(|| shaper.pop_due(30 * MS))
        .map(|packet| packet.bytes[0])
        .collect();
    assert_eq!(came, [1, 3], "what was on its way arrives");
    shaper.heal(Path::Direct, Direction::Outgoing);
    shaper.push(31 * MS, Path::Direct, &[4], ());
    shaper.lose_in_flight(Path::Direct);
    assert!(shaper.pop_due(90 * MS).is_none());
    assert_eq!(shaper.realised(Path::Direct).cut, 2);
    shaper.cut_direct();
    assert!(!shaper.admit(Path::Direct) && shaper.admit(Path::Relay));
    assert_eq!(shaper.realised(Path::Direct).cut_incoming, 1);
}

#[test]
fn the_wait_for_a_late_tick_is_part_of_the_realised_delay() {
    let mut shaper = shaper("latency=20ms", 0, 1);
    shaper.push(Duration::ZERO, Path::Direct, &[1], ());
    assert!(shaper.pop_due(33 * MS).is_some());
    assert_eq!(shaper.realised(Path::Direct).mean_delay_ms(), Some(33.0));
}
