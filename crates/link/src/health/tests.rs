//! Measurements of one path: fates, gaps, delay and round trips.

use std::time::Duration;

use proptest::{prelude::*, test_runner::RngSeed};

use super::sent::AckBeyondSent;
use super::{Delay, ReceivedPackets, Rtt, SentPackets};
use crate::wire::PathAck;

const MS: Duration = Duration::from_millis(1);

fn sent(count: u32) -> SentPackets {
    let mut sent = SentPackets::default();
    (0..count).for_each(|n| sent.record(MS * n * 16, n * 16_000));
    sent
}

#[test]
fn an_acknowledgement_of_a_packet_never_sent_is_refused() {
    let sent = sent(5);
    let ack = |highest| PathAck { highest, map: 1 };
    assert_eq!(sent.check(ack(4)), Ok(()));
    assert_eq!(sent.check(PathAck::EMPTY), Ok(()));
    for beyond in [5, 6, 40_000, u16::MAX] {
        assert_eq!(sent.check(ack(beyond)), Err(AckBeyondSent));
    }
    assert_eq!(SentPackets::default().check(ack(0)), Err(AckBeyondSent));
}

#[test]
fn a_packet_is_lost_when_one_three_later_was_confirmed_and_found_when_it_arrives() {
    let mut sent = sent(8);
    // 0 and 1 arrived, 2 did not, 3 and 4 did.
    sent.confirm(
        PathAck {
            highest: 4,
            map: 0b11011,
        },
        100 * MS,
    );
    assert_eq!(sent.lost(), 0, "only two arrived after it");
    sent.confirm(
        PathAck {
            highest: 5,
            map: 0b110111,
        },
        116 * MS,
    );
    assert_eq!(sent.lost(), 1);
    sent.confirm(
        PathAck {
            highest: 5,
            map: 0b111111,
        },
        120 * MS,
    );
    assert_eq!(sent.lost(), 0, "it was only late");
    assert_eq!(sent.oldest_unacked(200 * MS), Some(200 * MS - 96 * MS));
}

#[test]
fn runs_of_four_losses_are_counted_and_shorter_ones_are_not() {
    let mut sent = sent(20);
    // Of the earlier packets 3 in a row and 4 in a row are missing.
    let missing = [1, 2, 3, 7, 8, 9, 10];
    let map = (0..=19).fold(0, |map, seq| {
        map | (u32::from(!missing.contains(&seq)) << (19 - seq))
    });
    sent.confirm(PathAck { highest: 19, map }, 500 * MS);
    assert_eq!(sent.lost(), 7);
    assert_eq!(sent.loss_runs_since(400 * MS), 1);
    assert_eq!(sent.loss_runs_since(600 * MS), 0);
}

#[test]
fn only_the_newest_confirmed_packet_with_its_own_stamp_is_measured() {
    let sent = sent(5);
    let ack = PathAck { highest: 3, map: 1 };
    assert!(sent.stamped(ack, 48_000));
    assert!(!sent.stamped(ack, 48_001));
    assert!(!sent.stamped(PathAck::EMPTY, 0));
    assert!(
        !sent.stamped(PathAck { highest: 9, map: 1 }, 0),
        "never sent"
    );
}

#[test]
fn a_stretch_is_good_with_nine_in_ten_on_time_and_no_two_lost_in_a_row() {
    let limit = 60 * MS;
    let judge = |missing: &[u16]| {
        let mut sent = sent(40);
        for highest in 0..40_u16 {
            let map = (0..32).fold(0_u32, |map, bit| {
                let came = highest >= bit && !missing.contains(&(highest - bit));
                map | (u32::from(came) << bit)
            });
            if map & 1 == 1 {
                sent.confirm(
                    PathAck { highest, map },
                    MS * u32::from(highest) * 16 + 20 * MS,
                );
            }
        }
        sent.quality(140 * MS, 640 * MS, limit)
    };
    assert!(judge(&[]).good());
    assert!(judge(&[20, 30]).good(), "two apart in thirty are 94 %");
    assert!(!judge(&[20, 21]).good(), "two in a row are not good");
    assert!(
        !judge(&[12, 16, 20, 24]).good(),
        "four in thirty are below 90 %"
    );
}

#[test]
fn silence_inside_a_stretch_or_at_its_start_leaves_it_uncovered() {
    let came = |gap_at: u32, gap: Duration| {
        let mut received = ReceivedPackets::default();
        let mut at = Duration::ZERO;
        for n in 0..60_u32 {
            at += if n == gap_at { gap } else { 16 * MS };
            received.record(n, at, true);
        }
        received.quality(at - 500 * MS, at, 50 * MS)
    };
    assert!(came(0, 16 * MS).good());
    assert!(!came(40, 80 * MS).good(), "a pause inside");
    assert!(!came(36, 500 * MS).good(), "nothing at its beginning");
    assert!(came(2, 500 * MS).good(), "long ago");
}

#[test]
fn gaps_reordering_and_duplicates_are_counted_across_the_wrap() {
    let mut received = ReceivedPackets::default();
    for number in [65_533, 65_535, 65_534, 65_534, 65_538, 65_536, 65_537] {
        received.record(number, MS, true);
    }
    assert_eq!(
        (
            received.missed(),
            received.reordered(),
            received.duplicate()
        ),
        (0, 3, 1)
    );
    received.record(65_545, 2 * MS, true);
    assert_eq!(received.missed(), 6);
    assert_eq!(received.missing_since(MS), 6);
}

#[test]
fn delay_keeps_the_minimum_of_ten_seconds() {
    let mut delay = Delay::default();
    delay.add(Duration::ZERO, 5_000);
    delay.add(500 * MS, 7_000);
    delay.add(3_000 * MS, 9_000);
    assert_eq!(delay.min_over(3_000 * MS, 9), Some(5_000));
    assert_eq!(delay.min_over(11_000 * MS, 9), Some(9_000));
    assert_eq!(delay.min_over(60_000 * MS, 9), None);
}

#[test]
fn a_round_trip_above_five_seconds_is_ignored() {
    let mut rtt = Rtt::default();
    rtt.add(6_000 * MS);
    assert_eq!(rtt.get(), None);
    (0..50).for_each(|_| rtt.add(20 * MS));
    assert_eq!((rtt.get(), rtt.samples), (Some(20 * MS), 50));
    rtt.add(40 * MS);
    assert_eq!((rtt.min, rtt.max), (20 * MS, 40 * MS));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

    /// Losses, confirmations and packets in flight add up to the packets sent, for any
    /// acknowledgements in any order.
    #[test]
    fn confirmed_and_lost_packets_never_exceed_those_sent(
        acks in prop::collection::vec((any::<u16>(), any::<u32>(), 0..40_u32), 1..200),
        start in 0..3_u32,
    ) {
        let mut sent = sent(start * 30_000);
        let mut total = u64::from(start) * 30_000;
        let mut confirmed = 0;
        for (highest, map, more) in acks {
            (0..more).for_each(|_| sent.record(MS, 0));
            total += u64::from(more);
            // Half of them near what was sent, half anywhere.
            let highest = if map & 2 == 0 { (sent.next_number() as u16).wrapping_sub(highest % 300) } else { highest };
            let ack = PathAck { highest, map: map | 1 };
            if sent.check(ack).is_ok() {
                confirmed += u64::from(sent.confirm(ack, MS * 2));
            }
            prop_assert!(confirmed + sent.lost() <= total);
            let _ = sent.oldest_unacked(MS * 3);
            let quality = sent.quality(Duration::ZERO, MS * 3, MS);
            prop_assert!(quality.on_time <= quality.judged);
        }
    }
}
