//! What the crate allocates while a match runs: nothing per frame beside the growth of its record,
//! and per packet no more than matchbox's own adapter for ggrs.

use allocation_counter::measure;
use bevy_ggrs::ggrs::NonBlockingSocket;
use bevy_matchbox::matchbox_socket::{ChannelConfig, WebRtcSocketBuilder};
use rollback_lab_test_kit::duel::{Observers, Script};
use rollback_lab_test_kit::packets::{Adapter, Lab, count, record};
use rollback_lab_test_kit::steady::{FRAMES, WARM_UP, match_allocations, packet_allocations};

/// Columns of the record that grow with the frames, the rollbacks or the changes of input: 16. Each
/// doubles, from 600 to 3,600 frames three times at most.
const GROWTH: usize = 16 * 3;

#[test]
fn observed_frames_allocate_nothing_but_the_growth_of_the_record() {
    let script = Script::steady(20);
    let (bare, bare_duel) = match_allocations(script, &Observers::None);
    let (observed, observed_duel) = match_allocations(script, &Observers::InMemory);
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
        "4 frames are simulated again in every 10"
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

/// The list of what a rollback corrected beside its first input is made twice: in the fact, and in
/// the message that a game may keep.
#[test]
fn a_rollback_that_corrects_several_inputs_at_once_allocates_twice() {
    let script = Script::bursts(20);
    let sum = |observers| match_allocations(script, observers).0.iter().sum::<u64>();
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
    let mut lab = Lab::new();
    let (ours, our_packets) = packet_allocations(&mut lab, &ticks);
    let (theirs, their_packets) = packet_allocations(&mut Adapter::new(), &ticks);
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
    assert_eq!(ours.count_current, 0, "nothing is kept of a packet");
}

/// The adapter is compared as a copy of its calls; this holds the half of it that can be held.
#[test]
fn the_copy_of_matchboxs_adapter_sends_with_as_many_allocations_as_the_real_one() {
    let ticks = record(300);
    let messages: Vec<_> = ticks[200..].iter().flat_map(|tick| &tick.sent[0]).collect();
    // Nobody ever polls the message loop: what is sent waits in its channel.
    let (mut socket, _message_loop) = WebRtcSocketBuilder::new("ws://127.0.0.1:1")
        .add_channel(ChannelConfig::unreliable())
        .build();
    let mut copy = Adapter::new();
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
