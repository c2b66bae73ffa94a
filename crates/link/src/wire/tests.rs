//! The header, the control messages and serial arithmetic.

use std::time::Duration;

use proptest::prelude::*;

use super::message::ControlFrame;
use super::*;

fn hello() -> Hello {
    Hello {
        wire_version: u16::from(WIRE_VERSION),
        schema: "1.0".into(),
        game: "volley".into(),
        game_version: "0.1.0".into(),
        players: 2,
        fps: 60,
        input_delay: 2,
        max_prediction: 8,
        desync_interval: 10,
        config_digest: 7,
        settings: vec![
            ("episodes".into(), "2".into()),
            ("config.ball".into(), "3".into()),
        ],
        route_policy: 0,
    }
}

fn full_header() -> Header {
    Header {
        degraded: true,
        failed_over: false,
        hidden: true,
        kind: DatagramKind::Data,
        interval: Some(Duration::from_millis(16)),
        tick_interval: Some(Duration::from_millis(100)),
        tick_age: Some(Duration::from_millis(0x0a0b)),
        epoch: 0x0102,
        data_seq: 0x0304,
        number: 0x0506_0708,
        acks: [
            PathAck {
                highest: 0x0708,
                map: 0x0000_00ff,
            },
            PathAck {
                highest: 9,
                map: 0x8000_0001,
            },
        ],
        silence: Duration::from_millis(40),
        sent: 0xdead_beef,
        echo: Some(Echo {
            sent: 0x0bad_cafe,
            hold: Duration::from_micros(160),
        }),
    }
}

#[test]
fn the_header_layout_is_pinned_byte_by_byte() {
    let mut out = [0; HEADER_LEN];
    full_header().encode(&mut out);
    let expected: [u8; HEADER_LEN] = [
        0x20, 0x05, 8, 50, 0x0b, 0x0a, 0x02, 0x01, 0x04, 0x03, 0x08, 0x07, 0x06, 0x05, 0x08, 0x07,
        0xff, 0, 0, 0, 9, 0, 1, 0, 0, 0x80, 10, 0xef, 0xbe, 0xad, 0xde, 0xfe, 0xca, 0xad, 0x0b, 10,
        0,
    ];
    assert_eq!(out, expected);
}

#[test]
fn a_header_decodes_to_what_was_encoded() {
    let mut datagram = [0; HEADER_LEN + 3];
    full_header().encode(datagram.first_chunk_mut().unwrap());
    let (header, payload) = Header::decode(&datagram).unwrap();
    assert_eq!(header, full_header());
    assert_eq!(payload, [0; 3]);
}

#[test]
fn an_echo_held_for_over_a_second_is_not_encoded() {
    let mut header = full_header();
    header.echo = header.echo.map(|echo| Echo {
        hold: Duration::from_millis(1_050),
        ..echo
    });
    let mut out = [0; HEADER_LEN + 1];
    header.encode(out.first_chunk_mut().unwrap());
    assert_eq!(Header::decode(&out).unwrap().0.echo, None);
}

#[test]
fn an_interval_saturates_and_is_not_rounded_to_unknown() {
    for (interval, expected) in [
        (Duration::from_micros(100), Duration::from_millis(2)),
        (Duration::from_micros(16_667), Duration::from_millis(16)),
        (Duration::from_secs(5), Duration::from_millis(510)),
    ] {
        let mut header = Header::new(DatagramKind::Probe);
        header.interval = Some(interval);
        let mut out = [0; HEADER_LEN];
        header.encode(&mut out);
        assert_eq!(Header::decode(&out).unwrap().0.interval, Some(expected));
    }
}

#[test]
fn refused_datagrams_name_their_reason() {
    let mut out = [0; HEADER_LEN + 1];
    full_header().encode(out.first_chunk_mut().unwrap());
    let reason = |bytes: &[u8]| Header::decode(bytes).unwrap_err().reason();
    assert_eq!(reason(&out[..HEADER_LEN - 1]), "tooShort");
    assert_eq!(reason(&[]), "tooShort");
    assert_eq!(reason(&[0x10; MAX_DATAGRAM + 1]), "tooLong");
    assert_eq!(reason(&out[..HEADER_LEN]), "payloadLength");
    let mut other = out;
    other[0] = 0x20 | DatagramKind::Heartbeat.code();
    assert_eq!(reason(&other), "payloadLength");
    other[0] = 0x24;
    assert_eq!(reason(&other), "kind");
    for flag in 3..8 {
        other = out;
        other[1] |= 1 << flag;
        assert_eq!(reason(&other), "flags");
    }
    other = out;
    other[0] = 0x10;
    assert_eq!(reason(&other), "version");
    assert!(
        Header::decode(&other)
            .unwrap_err()
            .to_string()
            .contains("version 1")
    );
    other = out;
    other[16] = 0xfe;
    assert_eq!(reason(&other), "ackMap");
}

#[test]
fn an_ack_map_distinguishes_new_reordered_duplicate_and_too_old() {
    let mut ack = PathAck::EMPTY;
    assert_eq!(ack.newest(), None);
    assert_eq!(ack.record(65_534), SeqOrder::Newest { skipped: 0 });
    assert_eq!(
        ack.record(1),
        SeqOrder::Newest { skipped: 2 },
        "the sequence wraps"
    );
    assert_eq!(ack.record(65_535), SeqOrder::Reordered);
    assert_eq!(ack.record(65_535), SeqOrder::Duplicate);
    assert_eq!(ack.map, 0b1101, "0 is missing");
    assert_eq!(ack.record(40), SeqOrder::Newest { skipped: 38 });
    assert_eq!(ack.map, 1);
    assert_eq!(ack.record(8), SeqOrder::TooOld);
    assert_eq!(ack.record(9), SeqOrder::Reordered);
}

#[test]
fn packet_numbers_are_restored_from_their_low_bits() {
    for reference in [0, 5, u64::from(u32::MAX) - 1, 1 << 32, (7 << 32) + 3] {
        for ahead in [-3_i64, 0, 1, 2, 1_000, (1 << 31) - 1] {
            let Some(number) = reference.checked_add_signed(ahead) else {
                continue;
            };
            assert_eq!(
                expand_number(reference, number as u32),
                number,
                "{reference} {ahead}"
            );
        }
    }
    assert_eq!(
        expand_number(3, u32::MAX),
        u64::from(u32::MAX),
        "there is none before 0"
    );
}

#[test]
fn serial_numbers_wrap() {
    assert_eq!(seq_diff(0, u16::MAX), 1);
    assert_eq!(seq_diff(u16::MAX, 0), -1);
    assert_eq!(seq_diff(5, 5), 0);
    assert_eq!(seq_diff(2, u16::MAX), 3);
    assert_eq!(seq_diff32(2, u32::MAX), 3);
}

#[test]
fn microseconds_are_unwrapped_to_the_nearest_time() {
    let reference = Duration::from_micros((1 << 32) + 5);
    assert_eq!(
        unwrap_micros(reference, u32::MAX),
        Duration::from_micros(u64::from(u32::MAX))
    );
    assert_eq!(
        unwrap_micros(reference, 105),
        reference + Duration::from_micros(100)
    );
    assert_eq!(
        unwrap_micros(Duration::ZERO, u32::MAX),
        Duration::ZERO,
        "not before the origin"
    );
}

#[test]
fn a_mismatch_names_the_field_and_both_values() {
    let mut other = hello();
    assert_eq!(hello().mismatch(&other), None);
    other.max_prediction = 9;
    let mismatch = hello().mismatch(&other).unwrap();
    assert_eq!(mismatch.field, "max_prediction");
    assert_eq!(
        mismatch.to_string(),
        "max_prediction differs: ours is 8, theirs is 9"
    );
    // In any order, of either side, and where only the digests differ.
    let mismatch = |change: fn(&mut Hello)| {
        let mut other = hello();
        change(&mut other);
        let both = [hello().mismatch(&other), other.mismatch(&hello())];
        both.map(|mismatch| mismatch.map(|of| (of.field, of.ours, of.theirs)))
    };
    let differs = |field: &str, ours: &str, theirs: &str| {
        let [field, ours, theirs] = [field, ours, theirs].map(String::from);
        let other = (field.clone(), theirs.clone(), ours.clone());
        [Some((field, ours, theirs)), Some(other)]
    };
    assert_eq!(mismatch(|hello| hello.settings.reverse()), [None, None]);
    assert_eq!(
        mismatch(|hello| hello.settings[1].1 = "4".into()),
        differs("config.ball", "3", "4")
    );
    assert_eq!(
        mismatch(|hello| hello.settings.truncate(1)),
        differs("config.ball", "3", "not set")
    );
    assert_eq!(
        mismatch(|hello| hello.route_policy = 3),
        differs("route_policy", "p2p-first", "dual-path")
    );
    assert_eq!(
        mismatch(|hello| hello.config_digest = 8),
        differs("config_digest", "0000000000000007", "0000000000000008")
    );
}

#[test]
fn control_messages_decode_to_what_was_encoded() {
    for message in [
        ControlMessage::Hello(hello()),
        ControlMessage::Ready {
            epoch: 3,
            seed: u64::MAX,
        },
        ControlMessage::Hidden,
        ControlMessage::Visible,
        ControlMessage::Ended {
            epoch: 3,
            end_frame: -1,
            digest: 1,
        },
        ControlMessage::Bye {
            reason: ByeReason::Failed,
        },
        ControlMessage::Bye {
            reason: ByeReason::PeerGone { player: 3 },
        },
        ControlMessage::Synchronized { epoch: u16::MAX },
        ControlMessage::StartAt {
            epoch: 3,
            at_us: u64::MAX,
        },
        ControlMessage::LastInputs {
            epoch: 3,
            player: 2,
            start_frame: -1,
            inputs: vec![7; MAX_LAST_INPUTS],
        },
    ] {
        let bytes = encode_control(7, 9, Some(&message)).unwrap();
        let frame = decode_control(&bytes).unwrap();
        assert_eq!(
            frame,
            ControlFrame {
                seq: 7,
                ack: 9,
                message: Some(message)
            }
        );
    }
    let pure_ack = decode_control(&encode_control(1, 2, None).unwrap()).unwrap();
    assert_eq!(pure_ack.message, None);
}

#[test]
fn a_hello_outside_its_bounds_is_refused_by_sender_and_receiver() {
    let mut long = hello();
    long.game = "g".repeat(65);
    let message = ControlMessage::Hello(long);
    let refusal = WireError::ControlBounds { field: "game" };
    assert_eq!(encode_control(0, 0, Some(&message)), Err(refusal.clone()));
    let bytes = postcard::to_extend(&message, vec![0; 4]).unwrap();
    assert_eq!(decode_control(&bytes), Err(refusal));
}

#[test]
fn last_inputs_outside_their_bound_are_refused_by_sender_and_receiver() {
    let message = ControlMessage::LastInputs {
        epoch: 0,
        player: 0,
        start_frame: 0,
        inputs: vec![0; MAX_LAST_INPUTS + 1],
    };
    let refusal = WireError::ControlBounds { field: "inputs" };
    assert_eq!(encode_control(0, 0, Some(&message)), Err(refusal.clone()));
    let bytes = postcard::to_extend(&message, vec![0; 4]).unwrap();
    assert_eq!(decode_control(&bytes), Err(refusal));
    // A length that the datagram does not hold.
    let claimed = [&bytes[..bytes.len() - MAX_LAST_INPUTS - 1], &[1]].concat();
    assert_eq!(decode_control(&claimed), Err(WireError::Control));
}

proptest! {
    #[test]
    fn any_bytes_are_an_error_or_a_header_that_encodes_to_them(mut bytes: Vec<u8>, versioned: bool) {
        if let (true, Some(first)) = (versioned, bytes.first_mut()) {
            *first = (WIRE_VERSION << 4) | (*first & 15);
        }
        if let Ok((header, payload)) = Header::decode(&bytes) {
            let mut again = [0; HEADER_LEN];
            header.encode(&mut again);
            let (second, _) = Header::decode(&[&again[..], payload].concat()).unwrap();
            prop_assert_eq!(second, header);
        }
    }

    #[test]
    fn any_header_bytes_survive_a_round_trip(mut bytes: [u8; HEADER_LEN], kind in 0_u8..4, flags in 0_u8..8) {
        bytes[0] = (WIRE_VERSION << 4) | kind;
        bytes[1] = flags;
        bytes[16] |= 1;
        bytes[22] |= 1;
        let datagram = [&bytes[..], &[1]].concat();
        match Header::decode(&datagram) {
            Ok((header, payload)) => {
                prop_assert_eq!(payload, &[1]);
                let mut again = [0; HEADER_LEN];
                header.encode(&mut again);
                if header.echo.is_some() {
                    prop_assert_eq!(again, bytes);
                }
            }
            Err(error) => prop_assert_eq!(error.reason(), "payloadLength"),
        }
    }

    #[test]
    fn any_control_payload_is_an_error_or_a_message(bytes: Vec<u8>) {
        if let Ok(frame) = decode_control(&bytes) {
            let again = encode_control(frame.seq, frame.ack, frame.message.as_ref()).unwrap();
            prop_assert_eq!(decode_control(&again).unwrap(), frame);
        }
    }

    #[test]
    fn an_ack_map_agrees_with_a_set(start: u16, steps in prop::collection::vec(-40_i16..40, 1..80)) {
        let mut ack = PathAck::EMPTY;
        let mut seen = std::collections::BTreeSet::new();
        let mut at = i64::from(start);
        for step in steps {
            at += i64::from(step);
            let newest = seen.last().copied();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sequences wrap")]
            let order = ack.record(at as u16);
            let expected = match newest {
                None => SeqOrder::Newest { skipped: 0 },
                Some(newest) if at > newest => SeqOrder::Newest {
                    skipped: u16::try_from(at - newest - 1).unwrap(),
                },
                Some(newest) if newest - at >= 32 => SeqOrder::TooOld,
                Some(_) if seen.contains(&at) => SeqOrder::Duplicate,
                Some(_) => SeqOrder::Reordered,
            };
            prop_assert_eq!(order, expected);
            seen.insert(at);
        }
    }
}
