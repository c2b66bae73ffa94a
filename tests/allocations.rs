//! Allocations during a match: per frame only the growth of the record, and per packet no more than
//! matchbox's own adapter for ggrs.

use allocation_counter::measure;
use bevy_ggrs::ggrs::NonBlockingSocket;
use bevy_matchbox::matchbox_socket::{ChannelConfig, WebRtcSocketBuilder};
use rollback_lab_test_kit::duel::{Observers, Workload};
use rollback_lab_test_kit::packets::{AdapterPair, LabPair, count, record};
use rollback_lab_test_kit::steady::{FRAMES, WARM_UP, match_allocations, packet_allocations};

/// Reallocations of the record: 16 columns grow with the frames, the rollbacks or the changes of
/// input, and each doubles at most three times between 600 and 3,600 frames.
const GROWTH: usize = 16 * 3;

#[test]
fn observed_frames_allocate_nothing_but_the_growth_of_the_record() {
    let workload = Workload::steady(20);
    let (bare, bare_duel) = match_allocations(workload, &Observers::None);
    let (observed, observed_duel) = match_allocations(workload, &Observers::InMemory);
    assert_eq!(
        (
            bare_duel.frames(),
            bare_duel.simulated(),
            bare_duel.checksum()
        ),
        (
            observed_duel.frames(),
            observed_duel.simulated(),
            observed_duel.checksum()
        ),
        "both did the same work"
    );
    let again = bare_duel.simulated() - u64::from(bare_duel.frames().unsigned_abs());
    assert_eq!(
        again,
        u64::from((WARM_UP + FRAMES).unsigned_abs() / 10) * 4,
        "4 of every 10 frames are resimulated"
    );
    let more = bare
        .iter()
        .zip(&observed)
        .filter(|(bare, observed)| observed > bare);
    let more = more.count();
    assert!(
        more <= GROWTH,
        "{more} of {FRAMES} frames allocated more than without observers"
    );
    let sum = |frames: &[u64]| frames.iter().sum::<u64>();
    let (bare, observed) = (sum(&bare), sum(&observed));
    assert!(
        observed <= bare + GROWTH as u64,
        "{observed} allocations in {FRAMES} frames, {bare} without observers"
    );
}

/// The list of further inputs that a rollback corrected is allocated twice: in the fact of the
/// trace and in the message, which a game may keep.
#[test]
fn a_rollback_that_corrects_several_inputs_at_once_allocates_twice() {
    let workload = Workload::bursts(20);
    let sum = |observers| match_allocations(workload, observers).0.iter().sum::<u64>();
    let (bare, observed) = (sum(&Observers::None), sum(&Observers::InMemory));
    let rollbacks = u64::from(FRAMES.unsigned_abs()) / 10;
    let more = observed - bare;
    assert!(
        (2 * rollbacks..=2 * rollbacks + GROWTH as u64).contains(&more),
        "{more} more allocations with {rollbacks} rollbacks"
    );
}

#[test]
fn a_packet_of_the_lab_allocates_no_more_than_one_of_matchboxs_adapter() {
    let ticks = record(1_200);
    let expected = count(&ticks[600..]);
    let mut lab = LabPair::default();
    let (ours, our_packets) = packet_allocations(&mut lab, &ticks);
    let (theirs, their_packets) = packet_allocations(&mut AdapterPair::default(), &ticks);
    assert_eq!(our_packets, expected, "every packet of the lab arrives");
    assert_eq!(
        their_packets, expected,
        "every packet of the adapter arrives"
    );
    assert!(lab.is_direct(), "the lab plays over the direct path");
    assert!(
        ours.count_total <= theirs.count_total,
        "{expected} packets: {ours:?} by the lab, {theirs:?} by matchbox's adapter"
    );
    assert_eq!(
        ours.count_current, 0,
        "every allocation of a packet is freed"
    );
}

/// `AdapterPair` is a copy of matchbox's adapter. Its sending half can be compared with the
/// original, which needs a socket.
#[test]
fn the_copy_of_matchboxs_adapter_sends_with_as_many_allocations_as_the_real_one() {
    let ticks = record(300);
    let messages: Vec<_> = ticks[200..].iter().flat_map(|tick| &tick.sent[0]).collect();
    // The message loop is not polled, so packets stay in its channel.
    let (mut socket, _message_loop) = WebRtcSocketBuilder::new("ws://127.0.0.1:1")
        .add_channel(ChannelConfig::unreliable())
        .build();
    let mut copy = AdapterPair::default();
    let peer = rollback_lab_test_kit::packets::ids()[1];
    let real = measure(|| {
        for message in &messages {
            socket.channel_mut(0).send_to(message, &peer);
        }
    });
    let copied = measure(|| {
        for message in &messages {
            copy.first().send_to(message, &peer);
        }
    });
    assert!(messages.len() > 150, "{} messages", messages.len());
    assert_eq!(
        (real.count_total, real.bytes_total),
        (copied.count_total, copied.bytes_total)
    );
}
