//! The whole relay path, through the shaper.

use std::time::Duration;

use proptest::{prelude::*, test_runner::RngSeed};

use super::super::{Conditions, Direction, Realised, Shape, Shaped, Shaper, Transport};
use super::{CONTROL_MAX, GAME_MAX, PacketTag, RING_LEN, SENDER_BUFFER};
use crate::wire::{DatagramKind, Path};

const MS: Duration = Duration::from_millis(1);

type Tag = (u8, DatagramKind);

const GAME: Tag = (1, DatagramKind::Data);
const CONTROL: Tag = (1, DatagramKind::Control);

/// A shaper, and what came out with the times.
struct World {
    shaper: Shaper<Tag>,
    out: Vec<(Duration, Tag, u32)>,
}

impl World {
    fn new(spec: &str, seed: u64) -> Self {
        let conditions = Conditions::parse(spec).unwrap();
        let mut shaper = Shaper::new(&conditions, 0, seed);
        shaper.begin_episode(Duration::ZERO);
        Self {
            shaper,
            out: Vec::new(),
        }
    }

    /// Takes out every packet when it is due.
    fn run_to(&mut self, end: Duration) {
        while let Some(at) = self.shaper.next_due().filter(|&at| at <= end) {
            while let Some(Shaped { tag, bytes, .. }) = self.shaper.pop_due(at) {
                let number = bytes[..4].try_into().unwrap();
                self.out.push((at, tag, u32::from_le_bytes(number)));
                self.shaper.recycle(bytes);
            }
        }
    }

    fn send(&mut self, at: Duration, tag: Tag, number: u32, bytes: usize) {
        self.run_to(at);
        let mut packet = number.to_le_bytes().to_vec();
        packet.resize(bytes, 0);
        self.shaper.push(at, Path::Relay, &packet, tag);
    }

    /// A game at 60 Hz from `start` on.
    fn play(&mut self, start: Duration, numbers: std::ops::Range<u32>) {
        for (nth, number) in numbers.enumerate() {
            self.send(start + nth as u32 * MS * 50 / 3, GAME, number, 100);
        }
    }

    fn numbers(&self) -> Vec<u32> {
        self.out.iter().map(|(.., number)| *number).collect()
    }

    fn realised(&self) -> Realised {
        self.shaper.realised(Path::Relay).clone()
    }
}

#[test]
fn losses_delay_and_drop_nothing() {
    let mut world = World::new("latency=20ms; relay:loss=5%", 1);
    world.play(Duration::ZERO, 0..3_600);
    world.run_to(100_000 * MS);
    assert_eq!(world.numbers(), (0..3_600).collect::<Vec<_>>());
    let realised = world.realised();
    assert_eq!(
        (realised.lost, realised.cut, realised.queue_dropped),
        (0, 0, 0)
    );
    assert_eq!((realised.offered, realised.passed()), (3_600, 3_600));
    assert_eq!(realised.reordered, 0);
    // Every lost segment was sent again, one in twenty and those that were lost twice.
    assert!((140..300).contains(&realised.retransmitted), "{realised:?}");
    assert!(
        realised.timeouts < realised.retransmitted / 2,
        "{realised:?}"
    );
    // A loss costs three packets and a round trip of its hop.
    let (mean, late) = (
        realised.mean_delay_ms().unwrap(),
        realised.p95_delay_ms().unwrap(),
    );
    assert!((25.0..60.0).contains(&mean), "{realised:?}");
    assert!(late > 60.0, "{realised:?}");
}

#[test]
fn without_losses_a_packet_takes_the_latency() {
    let mut world = World::new("latency=31ms", 1);
    world.play(Duration::ZERO, 0..600);
    world.run_to(20_000 * MS);
    for (at, _, number) in &world.out {
        assert_eq!(*at, *number * MS * 50 / 3 + 31 * MS);
    }
    assert_eq!(world.out.len(), 600);
    assert_eq!(world.shaper.next_due(), None, "nothing is under way");
}

#[test]
fn the_transport_of_datagrams_loses_them() {
    let mut world = World::new("relay:loss=20%,transport=datagram", 1);
    world.play(Duration::ZERO, 0..3_600);
    world.run_to(100_000 * MS);
    let realised = world.realised();
    assert!((600..840).contains(&realised.lost), "{realised:?}");
    assert_eq!(realised.retransmitted, 0);
    // The direct path loses them whatever the key says.
    let conditions = Conditions::parse("loss=100%,transport=tcp").unwrap();
    let mut shaper = Shaper::new(&conditions, 0, 1);
    shaper.push(MS, Path::Direct, &[1], ());
    assert!(shaper.pop_due(20_000 * MS).is_none());
    assert_eq!(shaper.realised(Path::Direct).lost, 1);
}

#[test]
fn an_outage_delays_packets_to_a_retransmission_after_it() {
    let mut world = World::new("latency=10ms; relay:cut=2s..3s", 1);
    world.play(Duration::ZERO, 0..400);
    world.run_to(20_000 * MS);
    assert_eq!(
        world.numbers(),
        (0..400).collect::<Vec<_>>(),
        "none is lost"
    );
    let gap = world
        .out
        .windows(2)
        .max_by_key(|pair| pair[1].0 - pair[0].0)
        .unwrap();
    // Retransmissions 0.2, 0.6 and 1.4 s after the first lost packet, and a little more each.
    let resumed = gap[1].0 - 2_000 * MS;
    assert!(
        (1_400 * MS..1_600 * MS).contains(&resumed),
        "resumed {resumed:?} after the outage began"
    );
    let burst = world
        .out
        .iter()
        .filter(|(at, ..)| (gap[1].0..gap[1].0 + 60 * MS).contains(at));
    assert!(burst.count() > 80, "what was held back comes at once");
    assert_eq!(world.realised().cut, 0);
    assert_eq!(world.realised().timeouts, 3);
}

#[test]
fn a_blackhole_without_an_end_stays_one() {
    let mut world = World::new("relay:cut=0s..", 1);
    world.play(Duration::ZERO, 0..100);
    world.run_to(3_600_000 * MS);
    assert_eq!(world.out, []);
}

#[test]
fn in_a_long_blackhole_the_oldest_game_packets_give_way_and_control_does_not() {
    let mut world = World::new("latency=10ms", 1);
    world.shaper.cut(Path::Relay, Direction::Outgoing);
    // The kernel's buffer holds 47 packets of 1,000 bytes, the queue 64.
    let buffered = (SENDER_BUFFER as u32).div_ceil(1_000);
    let waiting = GAME_MAX as u32;
    for number in 0..200 {
        world.send(number * 10 * MS, GAME, number, 1_000);
    }
    for number in 1_000..1_010 {
        world.send(2_000 * MS, CONTROL, number, 100);
    }
    assert_eq!(
        world.realised().queue_dropped,
        u64::from(200 - buffered - waiting)
    );
    world.shaper.heal(Path::Relay, Direction::Outgoing);
    world.run_to(60_000 * MS);
    let numbers = world.numbers();
    let head = numbers[..buffered as usize].to_vec();
    assert_eq!(
        head,
        (0..buffered).collect::<Vec<_>>(),
        "the kernel drops nothing"
    );
    let rest = &numbers[buffered as usize..];
    assert_eq!(
        rest[..10],
        (1_000..1_010).collect::<Vec<_>>(),
        "control is first"
    );
    assert_eq!(
        rest[10..],
        (200 - waiting..200).collect::<Vec<_>>(),
        "then the newest"
    );
    assert_eq!(world.realised().reordered, u64::from(waiting));
}

#[test]
fn the_queue_of_control_packets_is_bounded_too() {
    let mut world = World::new("", 1);
    world.shaper.cut(Path::Relay, Direction::Outgoing);
    let buffered = (SENDER_BUFFER as u32).div_ceil(1_000);
    for number in 0..300 {
        world.send(number * MS, CONTROL, number, 1_000);
    }
    let dropped = 300 - buffered - CONTROL_MAX as u32;
    assert_eq!(world.realised().queue_dropped, u64::from(dropped));
}

/// The server forwards 600 packets a second for every other member, 150 of them at once: what comes
/// in a burst after an outage of seconds exceeds that, and the newest packets are dropped.
#[test]
fn the_servers_limit_drops_from_a_burst_after_an_outage() {
    let mut world = World::new("relay:cut=1s..4s", 1);
    for number in 0..1_200 {
        world.send(number * 5 * MS, GAME, number, 60);
    }
    world.run_to(60_000 * MS);
    let realised = world.realised();
    assert!(realised.queue_dropped > 100, "{realised:?}");
    let mut sorted = world.numbers();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), world.out.len());
}

/// The way from the server to the receiver is blocked, the one to the server is not.
#[test]
fn the_servers_ring_keeps_the_newest_that_are_fresh() {
    let mut lane =
        super::RelayLane::new(&Shape::default(), rand_core::SeedableRng::seed_from_u64(1));
    let mut realised = Realised::empty();
    let parcel = |number: u64| super::Parcel {
        tag: GAME,
        bytes: vec![0; 1_000],
        pushed: Duration::ZERO,
        number,
    };
    // The server's kernel takes 33 packets, the ring 16.
    lane.push(Duration::ZERO, parcel(0), &mut realised);
    lane.advance(Duration::ZERO, &mut realised);
    lane.emitted.arrived.clear();
    lane.hops[1].loss = 1.0;
    for number in 1..=100 {
        let now = number as u32 * MS;
        lane.advance(now, &mut realised);
        lane.push(now, parcel(number), &mut realised);
    }
    lane.advance(101 * MS, &mut realised);
    assert_eq!(lane.down[0].ring.len(), RING_LEN);
    assert_eq!(realised.queue_dropped, 100 - 33 - RING_LEN as u64);
    // A packet that waited for more than 150 ms is not sent.
    lane.advance(400 * MS, &mut realised);
    lane.hops[1].loss = 0.0;
    lane.advance(10_000 * MS, &mut realised);
    assert_eq!(lane.emitted.arrived.len(), 33);
    assert_eq!(realised.queue_dropped, 100 - 33);
}

#[test]
fn each_receiver_has_a_connection_of_its_own() {
    let other: Tag = (2, DatagramKind::Data);
    assert!(GAME.same_receiver(&CONTROL) && !GAME.same_receiver(&other));
    let mut world = World::new("latency=10ms", 1);
    world.send(Duration::ZERO, GAME, 0, 100);
    world.send(Duration::ZERO, other, 1, 100);
    world.send(Duration::ZERO, CONTROL, 2, 100);
    world.run_to(100 * MS);
    let mut numbers = world.numbers();
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2]);
    assert_eq!(world.shaper.relay.down.len(), 2);
}

#[test]
fn the_outcome_does_not_depend_on_how_often_packets_are_taken_out() {
    let run = |step: u32| {
        let mut world = World::new("latency=20ms,jitter=5ms,loss=10%", 5);
        let mut due = Vec::new();
        for at in 0..10_000_u32 {
            if at % 16 == 0 {
                world
                    .shaper
                    .push(at * MS, Path::Relay, &at.to_le_bytes(), GAME);
            }
            if at % step == 0 {
                while let Some(packet) = world.shaper.pop_due(at * MS) {
                    due.push((packet.due, packet.bytes));
                }
            }
        }
        while let Some(packet) = world.shaper.pop_due(1_000_000 * MS) {
            due.push((packet.due, packet.bytes));
        }
        due
    };
    assert_eq!(run(1), run(50));
    assert_eq!(run(1), run(1_000));
}

#[test]
fn the_seed_alone_decides() {
    let run = |seed| {
        let mut world = World::new("loss=10%,latency=20ms", seed);
        world.play(Duration::ZERO, 0..600);
        world.run_to(60_000 * MS);
        world.out
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

/// A shape that is clear again does not let packets pass those that wait for a retransmission.
#[test]
fn a_path_is_clear_once_everything_held_back_has_arrived() {
    let mut world = World::new("", 1);
    assert!(world.shaper.is_clear(Path::Relay));
    world.shaper.cut(Path::Relay, Direction::Outgoing);
    world.send(MS, GAME, 1, 100);
    world.shaper.heal(Path::Relay, Direction::Outgoing);
    assert!(!world.shaper.is_clear(Path::Relay));
    assert!(world.shaper.is_clear(Path::Direct));
    world.run_to(1_000 * MS);
    assert_eq!(world.numbers(), [1]);
    assert!(world.shaper.is_clear(Path::Relay));
}

#[test]
fn the_transport_alone_is_no_condition() {
    let shape = |spec: &str| Conditions::parse(spec).unwrap().shape(0, Path::Relay);
    assert!(shape("transport=datagram").is_clear());
    assert_eq!(shape("loss=1%").transport, Transport::Tcp);
    assert_eq!(
        shape("transport=datagram;transport=tcp").transport,
        Transport::Tcp
    );
    let error = Conditions::parse("transport=udp").unwrap_err().to_string();
    assert!(error.contains("tcp or datagram"), "{error}");
    let written = Conditions::parse("relay:transport=datagram")
        .unwrap()
        .to_string();
    assert_eq!(written, "relay:transport=datagram");
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(9), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_invented_and_each_receiver_reads_in_order(
        seed in any::<u64>(),
        loss in 0..40_u32,
        jitter in 0..40_u32,
        down in (0..4_000_u32, 1..4_000_u32),
        packets in prop::collection::vec((1..4_u8, any::<bool>(), 4..1_200_usize, 0..30_u32), 1..400),
    ) {
        let (from, to) = (down.0, down.0 + down.1);
        let spec = format!(
            "latency=30ms,jitter={jitter}ms,loss={loss}%,duplicate=10%,cut={from}ms..{to}ms"
        );
        let mut world = World::new(&spec, seed);
        let mut at = Duration::ZERO;
        for (number, (receiver, control, bytes, wait)) in packets.iter().enumerate() {
            at += *wait * MS;
            let kind = if *control { DatagramKind::Control } else { DatagramKind::Data };
            world.send(at, (*receiver, kind), number as u32, *bytes);
            let lane = &world.shaper.relay;
            prop_assert!(lane.game.len() <= GAME_MAX && lane.control.len() <= CONTROL_MAX);
            prop_assert!(lane.up.len() * 4 < SENDER_BUFFER + 1_200);
            prop_assert!(lane.down.iter().all(|down| down.ring.len() <= RING_LEN));
        }
        world.run_to(at + Duration::from_secs(600));
        // Half an hour without losses, for a timer that has doubled often.
        world.shaper.set_shape(Path::Relay, Shape::default());
        world.run_to(at + Duration::from_secs(2_400));
        for receiver in 1..4 {
            for control in [false, true] {
                let read = world.out.iter().filter(|(_, tag, _)| {
                    tag.0 == receiver && tag.is_game() != control
                });
                let numbers: Vec<u32> = read.map(|(.., number)| *number).collect();
                prop_assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", numbers);
            }
        }
        for (_, tag, number) in &world.out {
            let (receiver, control, ..) = packets[*number as usize];
            prop_assert_eq!((tag.0, !tag.is_game()), (receiver, control));
        }
        let realised = world.realised();
        prop_assert_eq!(realised.offered, packets.len() as u64);
        prop_assert_eq!(realised.offered, realised.passed() + realised.queue_dropped);
        prop_assert_eq!((realised.lost, realised.cut, realised.duplicated), (0, 0, 0));
        prop_assert_eq!(world.shaper.next_due(), None);
    }
}
