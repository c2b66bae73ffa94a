//! Relay frames: bytes, bounds and hostile input.

use proptest::prelude::*;

use super::*;

fn roster(slots: &[u8], own: u8) -> Roster {
    Roster {
        slot: own,
        capacity: 0,
        nonce: [7; 16],
        members: slots
            .iter()
            .map(|&slot| Member {
                slot,
                peer: [slot; 16],
            })
            .collect(),
    }
}

#[test]
fn a_forwarded_packet_has_a_prefix_of_two_bytes() {
    let mut buffer = [0; MAX_FRAME_LEN];
    let length = encode_forwarded(9, &[1, 2, 3], &mut buffer).unwrap();
    assert_eq!(&buffer[..length], &[0x11, 9, 1, 2, 3]);
    assert_eq!(
        decode_server(&buffer[..length]),
        Ok(ServerFrame::Forwarded {
            source: 9,
            payload: &[1, 2, 3]
        })
    );
}

#[test]
fn a_payload_of_1200_bytes_is_accepted_and_1201_are_refused() {
    let mut buffer = [0; MAX_FRAME_LEN + 1];
    let length = encode_forward(0, &[5; MAX_PAYLOAD_LEN], &mut buffer).unwrap();
    assert!(decode_client(&buffer[..length]).is_ok());
    let too_long = RelayFrameError::TooLong {
        len: 1203,
        max: 1202,
    };
    assert_eq!(
        encode_forward(0, &[5; MAX_PAYLOAD_LEN + 1], &mut buffer),
        Err(too_long)
    );
    buffer[0] = 0x11;
    assert_eq!(decode_client(&buffer), Err(too_long));
}

#[test]
fn a_buffer_too_small_for_the_frame_is_an_error_and_not_written() {
    let mut buffer = [0xaa; 4];
    assert_eq!(
        encode_forward(0, &[1, 2, 3], &mut buffer),
        Err(RelayFrameError::Buffer { len: 4, needed: 5 })
    );
    assert_eq!(buffer, [0xaa; 4]);
}

#[test]
fn the_largest_roster_and_notice_fit_their_bounds() {
    let slots: Vec<u8> = (0..64).collect();
    let full = roster(&slots, 63);
    let frame = encode_welcome(&full).unwrap();
    assert!(frame.len() <= MAX_ROSTER_LEN);
    assert_eq!(decode_server(&frame), Ok(ServerFrame::Welcome(full)));
    for reason in DropReason::ALL {
        let notice = Notice::Dropped {
            reason,
            count: u32::MAX,
        };
        let frame = encode_notice(&notice).unwrap();
        assert!(frame.len() <= MAX_NOTICE_LEN);
        assert_eq!(decode_server(&frame), Ok(ServerFrame::Notice(notice)));
    }
}

#[test]
fn the_roster_layout_is_pinned_byte_by_byte() {
    let mut expected = vec![0x13, 4, 2];
    expected.extend([7; 16]);
    expected.extend([1, 4]);
    expected.extend([4; 16]);
    let known = Roster {
        capacity: 2,
        ..roster(&[4], 4)
    };
    assert_eq!(encode_roster(&known).unwrap(), expected);
}

#[test]
fn a_roster_with_contradicting_slots_is_refused() {
    for (slots, own) in [
        (vec![1, 0], 0),
        (vec![1, 1], 1),
        (vec![0, 1], 2),
        (vec![64], 64),
    ] {
        let broken = roster(&slots, own);
        assert!(matches!(
            encode_roster(&broken),
            Err(RelayFrameError::Roster { .. })
        ));
        let bytes = encode_value(TYPE_ROSTER, &broken).unwrap();
        assert!(
            matches!(decode_server(&bytes), Err(RelayFrameError::Roster { .. })),
            "slots {slots:?} of {own} must not decode"
        );
    }
}

#[test]
fn a_member_count_above_the_bound_is_refused_without_allocating() {
    let mut bytes = vec![0x12, 0, 0];
    bytes.extend([0; 16]);
    bytes.extend([0xff, 0xff, 0xff, 0xff, 0x0f]);
    assert_eq!(
        decode_server(&bytes),
        Err(RelayFrameError::Malformed { frame_type: 2 })
    );
}

#[test]
fn another_version_another_type_and_trailing_bytes_are_different_errors() {
    assert_eq!(
        decode_client(&[0x21, 0]),
        Err(RelayFrameError::Version { found: 2 })
    );
    assert_eq!(
        decode_client(&[0x12, 0]),
        Err(RelayFrameError::Type { found: 2 })
    );
    assert_eq!(
        decode_client(&[0x11]),
        Err(RelayFrameError::TooShort { len: 1 })
    );
    let mut frame = encode_notice(&Notice::PeerGone { slot: 1 }).unwrap();
    frame.push(0);
    assert_eq!(
        decode_server(&frame),
        Err(RelayFrameError::Malformed { frame_type: 4 })
    );
}

#[test]
fn resume_probe_and_running_have_their_bytes() {
    let token = ResumeToken::new(&[9, 8, 7]).unwrap();
    assert_eq!(
        encode_resume(true, 5, &token),
        [0x15, 1, 5, 0, 0, 0, 9, 8, 7]
    );
    assert_eq!(encode_token(&token), [0x15, 9, 8, 7]);
    assert_eq!(encode_probe(0x0403_0201), [0x16, 1, 2, 3, 4]);
    assert_eq!(encode_running(true), [0x17, 1]);
    assert_eq!(
        decode_client(&[0x15, 1, 5, 0, 0, 0, 9, 8, 7]),
        Ok(ClientFrame::Resume {
            anew: true,
            attempt: 5,
            token
        })
    );
    assert_eq!(decode_client(&[0x17, 0]), Ok(ClientFrame::Running(false)));
    let probe = [0x16, 1, 2, 3, 4];
    let number = 0x0403_0201;
    assert_eq!(decode_client(&probe), Ok(ClientFrame::Probe { number }));
    assert_eq!(
        decode_server(&probe),
        Ok(ServerFrame::ProbeAnswer { number })
    );
    assert_eq!(
        decode_server(&[0x15, 9, 8, 7]),
        Ok(ServerFrame::Token(token))
    );
}

#[test]
fn truncated_overlong_and_odd_frames_of_the_new_types_are_malformed() {
    let longest = [1; 6 + MAX_TOKEN_LEN];
    let mut resume = longest;
    resume[..2].copy_from_slice(&[0x15, 0]);
    assert!(decode_client(&resume).is_ok());
    let mut longer = resume.to_vec();
    longer.push(1);
    let cases: [&[u8]; 9] = [
        &[0x15],
        &[0x15, 0, 0, 0, 0, 0],
        &[0x15, 2, 0, 0, 0, 0, 1],
        &longer,
        &[0x16],
        &[0x16, 1, 2, 3],
        &[0x16, 1, 2, 3, 4, 5],
        &[0x17],
        &[0x17, 2],
    ];
    for bytes in cases {
        assert!(
            matches!(decode_client(bytes), Err(RelayFrameError::Malformed { .. })),
            "{bytes:?}"
        );
    }
    assert!(decode_server(&[0x15]).is_err());
    assert_eq!(
        decode_server(&[0x17, 1]),
        Err(RelayFrameError::Type { found: 7 }),
        "only clients report that a match runs"
    );
}

#[test]
fn a_token_does_not_show_in_debug_output() {
    let token = ResumeToken::new(b"secret").unwrap();
    let frame = ClientFrame::Resume {
        anew: false,
        attempt: 1,
        token,
    };
    assert_eq!(
        format!("{frame:?}"),
        "Resume { anew: false, attempt: 1, token: ResumeToken(6 bytes) }"
    );
}

proptest! {
    #[test]
    fn a_resume_frame_decodes_to_what_was_encoded(
        anew in any::<bool>(), attempt in any::<u32>(),
        token in proptest::collection::vec(any::<u8>(), 1..=MAX_TOKEN_LEN),
    ) {
        let token = ResumeToken::new(&token).unwrap();
        let frame = encode_resume(anew, attempt, &token);
        prop_assert_eq!(
            decode_client(&frame),
            Ok(ClientFrame::Resume { anew, attempt, token })
        );
        let frame = encode_token(&token);
        prop_assert_eq!(decode_server(&frame), Ok(ServerFrame::Token(token)));
    }

    #[test]
    fn any_bytes_decode_or_fail_without_a_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..1400),
        first in prop_oneof![Just(0x11), Just(0x12), Just(0x13), Just(0x14), Just(0x15), Just(0x16), Just(0x17), any::<u8>()],
    ) {
        let mut bytes = bytes;
        if let Some(byte) = bytes.first_mut() {
            *byte = first;
        }
        let _ = decode_client(&bytes);
        if let Ok(ServerFrame::Welcome(roster) | ServerFrame::Roster(roster)) =
            decode_server(&bytes)
        {
            prop_assert!(roster.members.capacity() <= MAX_MEMBERS);
            prop_assert_eq!(roster.check(), Ok(()));
        }
    }

    #[test]
    fn a_truncated_or_flipped_roster_decodes_to_a_consistent_one_or_fails(
        count in 1u8..=64, cut in 0usize..1200, flip in 0usize..1200, bit in 0u8..8,
    ) {
        let slots: Vec<u8> = (0..count).collect();
        let mut frame = encode_roster(&roster(&slots, 0)).unwrap();
        let at = flip % frame.len();
        frame[at] ^= 1 << bit;
        frame.truncate(cut.max(1));
        if let Ok(ServerFrame::Roster(roster)) = decode_server(&frame) {
            prop_assert_eq!(roster.check(), Ok(()));
        }
    }

    #[test]
    fn a_forwarded_packet_decodes_to_what_was_encoded(
        slot in any::<u8>(), payload in proptest::collection::vec(any::<u8>(), 0..=1200),
    ) {
        let mut buffer = [0; MAX_FRAME_LEN];
        let length = encode_forward(slot, &payload, &mut buffer).unwrap();
        prop_assert_eq!(
            decode_client(&buffer[..length]),
            Ok(ClientFrame::Forward { destination: slot, payload: &payload })
        );
    }
}
