//! The grammar and the shaper.

use std::time::Duration;

use super::{
    ConditionError, Conditions, Direction, Outage, QUEUE_LIMIT, Realised, Shape, Shaper,
    preset::PRESETS,
};
use crate::wire::Path;

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
            loss: 0.15,
            ..Shape::default()
        }
    );
    let scoped = conditions.shape(1, Path::Relay);
    assert_eq!((scoped.latency, scoped.loss), (80 * MS, 0.0));
    assert_eq!(conditions.shape(1, Path::Direct).jitter, 500 * MS);
    assert_eq!(conditions.highest_player(), Some(1));
    let written = Conditions::parse(&conditions.to_string()).unwrap();
    assert_eq!(
        written, conditions,
        "a written specification parses to the same conditions"
    );
}

#[test]
fn an_empty_specification_shapes_nothing() {
    let conditions = Conditions::parse(" ; ").unwrap();
    assert!(conditions.is_empty());
    assert!(conditions.shape(3, Path::Direct).is_clear());
}

#[test]
fn an_error_names_the_invalid_part_and_the_valid_ones() {
    let message = |spec: &str| Conditions::parse(spec).unwrap_err().to_string();
    assert_eq!(
        message("lag=5ms"),
        "unknown condition \"lag\": known are latency, jitter, loss, burst, duplicate, reorder, rate, \
         cut, transport, preset"
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
fn realised_statistics_match_the_conditions() {
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
    // Taken out every millisecond, a packet waits half of one longer than it was held.
    assert!((50.0..51.0).contains(&realised.mean_delay_ms().unwrap()));
    // Uniform between 40 and 60 ms: the 95th percentile is 59.
    assert!((58.0..=60.0).contains(&realised.p95_delay_ms().unwrap()));
    let relay = shaper.realised(Path::Relay);
    assert_eq!((relay.offered, relay.mean_delay_ms()), (0, None));
}

#[test]
fn realised_statistics_since_a_moment_exclude_those_before() {
    let mut shaper = shaper("latency=80ms", 0, 1);
    let send = |shaper: &mut Shaper<()>, at: u32, taken: u32, count| {
        (0..count).for_each(|_| shaper.push(MS * at, Path::Direct, &[1], ()));
        while shaper.pop_due(MS * taken).is_some() {}
        shaper.realised(Path::Direct).clone()
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
fn the_fate_of_a_packet_depends_on_the_seed_alone() {
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
fn without_jitter_packets_keep_their_order() {
    let mut shaper = shaper("latency=20ms", 0, 1);
    (0..50).for_each(|n| shaper.push(MS, Path::Direct, &[n], ()));
    assert!(shaper.pop_due(20 * MS).is_none(), "not due yet");
    assert!(shaper.pop_due(20_999 * MS / 1_000).is_none());
    let order: Vec<_> = std::iter::from_fn(|| shaper.pop_due(21 * MS))
        .map(|packet| packet.bytes[0])
        .collect();
    assert_eq!(order, (0..50).collect::<Vec<_>>());
}

#[test]
fn an_outage_affects_one_path_and_direction_until_it_heals() {
    let mut shaper = shaper("latency=20ms", 0, 1);
    shaper.push(MS, Path::Direct, &[1], ());
    shaper.cut(Path::Direct, Direction::Outgoing);
    shaper.push(MS, Path::Direct, &[2], ());
    shaper.push(MS, Path::Relay, &[3], ());
    assert!(shaper.admit(Path::Direct), "the other direction is open");
    let came: Vec<_> = std::iter::from_fn(|| shaper.pop_due(30 * MS))
        .map(|packet| packet.bytes[0])
        .collect();
    assert_eq!(came, [1, 3], "packets in flight arrive");
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
fn the_wait_for_a_late_tick_counts_as_realised_delay() {
    let mut shaper = shaper("latency=20ms", 0, 1);
    shaper.push(Duration::ZERO, Path::Direct, &[1], ());
    assert!(shaper.pop_due(33 * MS).is_some());
    assert_eq!(shaper.realised(Path::Direct).mean_delay_ms(), Some(33.0));
}

#[test]
fn a_written_specification_parses_to_the_same_conditions() {
    for spec in [
        "burst=5%/4,duplicate=1%,reorder=2%/30ms,rate=256kbit,cut=10s..12s",
        "p0:direct:cut=10s..;p1:relay:rate=1.5Mbit;preset=lte,loss=3%",
        "preset=bad-wifi; relay:burst=none,rate=none,reorder=none,cut=none",
    ] {
        let conditions = Conditions::parse(spec).unwrap();
        let written = conditions.to_string();
        assert_eq!(Conditions::parse(&written), Ok(conditions), "{written}");
    }
}

#[test]
fn impossible_values_are_refused_with_an_example() {
    let message = |spec: &str| Conditions::parse(spec).unwrap_err().to_string();
    for (spec, example) in [
        ("burst=5%", "5%/4"),
        ("burst=100%/4", "5%/4"),
        ("burst=5%/0.5", "5%/4"),
        // Bursts of one packet with one packet between them lose half.
        ("burst=60%/1", "5%/4"),
        ("reorder=2%", "2%/30ms"),
        ("reorder=2%/11s", "2%/30ms"),
        ("rate=256", "256kbit"),
        ("rate=0kbit", "256kbit"),
        ("cut=12s..10s", "10s..12s"),
        ("cut=10s", "10s..12s"),
        ("duplicate=1", "15%"),
        ("preset=5g", "cable, dsl, lte"),
    ] {
        assert!(message(spec).contains(example), "{}", message(spec));
    }
}

#[test]
fn a_preset_sets_its_figures_and_the_segment_overrides_them() {
    let shape = |spec: &str| Conditions::parse(spec).unwrap().shape(0, Path::Direct);
    assert_eq!(
        shape("duplicate=1%;preset=dsl,jitter=4ms"),
        Shape {
            latency: 25 * MS,
            jitter: 4 * MS,
            duplicate: 0.01,
            rate: Some(384_000),
            ..Shape::default()
        }
    );
    for preset in PRESETS {
        let shape = shape(&format!("preset={}", preset.name));
        assert_eq!(shape.latency * 2, MS * preset.rtt_ms as u32);
        assert_eq!((shape.burst, shape.rate), (preset.burst, preset.rate));
    }
}

/// Sends a packet of `bytes` every millisecond and takes out what is due.
fn sent_every_ms(spec: &str, packets: u32, bytes: usize) -> (Realised, Vec<u32>) {
    let mut shaper = shaper(spec, 0, 7);
    shaper.begin_episode(Duration::ZERO);
    let mut out = Vec::new();
    for at in 0..packets + 2_000 {
        if at < packets {
            let mut packet = at.to_le_bytes().to_vec();
            packet.resize(bytes, 0);
            shaper.push(MS * at, Path::Direct, &packet, ());
        }
        while let Some(packet) = shaper.pop_due(MS * at) {
            let number = packet.bytes[..4].try_into().unwrap();
            out.push(u32::from_le_bytes(number));
            shaper.recycle(packet.bytes);
        }
    }
    let realised = shaper.realised(Path::Direct).clone();
    assert_eq!(
        realised.offered,
        realised.lost + realised.cut + realised.queue_dropped + realised.passed(),
        "every packet is accounted for"
    );
    assert_eq!(out.len() as u64, realised.passed() + realised.duplicated);
    (realised, out)
}

#[test]
fn bursts_lose_their_share_in_runs_of_their_mean_length() {
    let (realised, _) = sent_every_ms("burst=12%/4", 100_000, 4);
    let share = realised.lost as f64 / realised.offered as f64;
    assert!((0.11..0.13).contains(&share), "{share}");
    let length = realised.lost as f64 / realised.loss_runs as f64;
    assert!((3.7..4.3).contains(&length), "{length}");
    let (alone, _) = sent_every_ms("loss=12%", 100_000, 4);
    let length = alone.lost as f64 / alone.loss_runs as f64;
    assert!((1.0..1.3).contains(&length), "independent losses: {length}");
}

#[test]
fn a_share_of_packets_is_duplicated() {
    let (realised, out) = sent_every_ms("duplicate=10%,latency=5ms", 10_000, 4);
    let share = realised.duplicated as f64 / realised.offered as f64;
    assert!((0.09..0.11).contains(&share), "{share}");
    assert_eq!(realised.passed(), 10_000);
    let mut numbers = out;
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 10_000, "only copies were added");
}

#[test]
fn packets_held_back_are_overtaken() {
    let (realised, out) = sent_every_ms("reorder=5%/10ms,latency=5ms", 10_000, 4);
    let share = realised.reordered as f64 / realised.offered as f64;
    assert!((0.04..0.06).contains(&share), "{share}");
    let behind = out.windows(2).filter(|pair| pair[0] > pair[1]).count();
    assert!(behind > 0);
    assert_eq!(sent_every_ms("latency=5ms", 1_000, 4).0.reordered, 0);
}

#[test]
fn a_rate_limit_delays_packets_and_drops_those_beyond_its_queue() {
    // 100 bytes a millisecond are 800 kbit a second.
    let (within, _) = sent_every_ms("rate=900kbit", 2_000, 100);
    assert_eq!(within.queue_dropped, 0);
    assert!(within.mean_delay_ms().unwrap() <= 1.0);
    let (above, _) = sent_every_ms("rate=400kbit", 10_000, 100);
    let passed = above.passed() as f64 / above.offered as f64;
    assert!((0.5..0.52).contains(&passed), "half is delivered: {passed}");
    let longest = above.p95_delay_ms().unwrap();
    let limit = QUEUE_LIMIT.as_millis() as f64;
    assert!((limit - 5.0..limit + 5.0).contains(&longest), "{longest}");
}

#[test]
fn an_outage_counts_from_the_start_of_the_episode() {
    let outage = Outage {
        from: 100 * MS,
        to: Some(150 * MS),
    };
    assert!(!outage.covers(99 * MS) && outage.covers(100 * MS) && !outage.covers(150 * MS));
    let (realised, out) = sent_every_ms("cut=100ms..150ms", 300, 4);
    assert_eq!(realised.cut, 50);
    assert!(!out.iter().any(|number| (100..150).contains(number)));
    let mut lobby = shaper("cut=0s..", 0, 1);
    lobby.push(MS, Path::Direct, &[1], ());
    assert!(lobby.pop_due(MS).is_some(), "no episode, no outage");
    lobby.begin_episode(MS);
    lobby.push(MS, Path::Direct, &[2], ());
    assert!(lobby.pop_due(MS).is_none());
}

#[test]
fn duplicates_and_reordering_do_not_change_the_losses_of_a_seed() {
    let kept = |spec| {
        let mut out = sent_every_ms(spec, 500, 4).1;
        out.sort_unstable();
        out.dedup();
        out
    };
    assert_eq!(
        kept("loss=20%,jitter=5ms"),
        kept("loss=20%,jitter=5ms,duplicate=10%,reorder=10%/30ms")
    );
}
