//! Validation of ggrs messages, with real ggrs sessions on both sides.

mod hostile;
mod leaving;
mod rig;

use std::collections::BTreeSet;

use super::*;
use rig::{Raw, RawBody, Rig, literal, raw_bytes};

fn players(local: Frame, remote: Frame) -> [PlayerBounds; 2] {
    let with = |owner, last_frame| PlayerBounds {
        last_frame,
        ..PlayerBounds::new(owner)
    };
    [with(Owner::Local, local), with(Owner::Sender, remote)]
}

fn limits<'a>(players: &'a [PlayerBounds], sent_pings: &'a SentPings) -> Limits<'a> {
    Limits {
        players,
        input_bytes: Some(1),
        max_prediction: 8,
        max_input_delay: 2,
        desync_interval: Some(10),
        current_frame: 101,
        remote_magic: None,
        sent_pings,
    }
}

/// An input packet that is valid for `limits(players(100, 98))`.
fn valid_input() -> Raw {
    Raw {
        magic: 7,
        body: RawBody::Input {
            statuses: vec![(false, 98), (false, 100)],
            disconnect_requested: false,
            start_frame: 99,
            ack_frame: 98,
            bytes: literal(&[1, 0, 5, 1, 0, 0]),
        },
    }
}

fn reason(raw: &Raw) -> &'static str {
    let players = players(100, 98);
    let pings = SentPings::default();
    validate(&raw_bytes(raw), &limits(&players, &pings)).map_or_else(|e| e.reason(), |_| "ok")
}

fn changed(change: impl FnOnce(&mut Raw)) -> &'static str {
    let mut raw = valid_input();
    change(&mut raw);
    reason(&raw)
}

macro_rules! input_field {
    ($field:ident = $value:expr) => {
        changed(|raw| {
            let RawBody::Input { $field, .. } = &mut raw.body else {
                unreachable!("valid_input is an input");
            };
            *$field = $value;
        })
    };
}

#[test]
fn every_message_of_two_real_sessions_is_accepted_and_encodes_to_the_same_bytes() {
    let mut rig = Rig::new(2, Some(2));
    rig.synchronize();
    // ggrs reports quality by the wall clock, every 200 ms.
    let mut frames = 0;
    while !rig.seen(MessageKind::QualityReply) {
        rig.step();
        frames += 1;
        std::thread::yield_now();
    }
    while frames < 100 {
        rig.step();
        frames += 1;
    }
    let net = rig.net.lock().unwrap();
    assert_eq!(net.refused, Vec::<&str>::new());
    let mut kinds: BTreeSet<String> = net.kinds.iter().map(|kind| format!("{kind:?}")).collect();
    for bytes in &net.sent {
        let message: ggrs::Message = postcard::from_bytes(bytes).unwrap();
        let mut again = [0; MAX_MESSAGE];
        let len = encode(&message, &mut again).unwrap();
        assert_eq!(&again[..len], &bytes[..]);
    }
    drop(net);
    // ggrs 0.13 does not send keep-alives: a quality report is always due before one.
    let keep_alive = raw_bytes(&Raw {
        magic: 7,
        body: RawBody::KeepAlive,
    });
    let (players, pings) = (players(100, 98), SentPings::default());
    let (message, checked) = decode(&keep_alive, &limits(&players, &pings)).unwrap();
    assert!(format!("{message:?}").contains("KeepAlive"));
    kinds.insert(format!("{:?}", checked.kind));
    assert_eq!(kinds.len(), 8, "every variant occurred: {kinds:?}");
}

#[test]
fn the_mirror_decodes_the_same_fields_as_ggrs() {
    let (players, pings) = (players(100, 98), SentPings::default());
    let (message, checked) = decode(&raw_bytes(&valid_input()), &limits(&players, &pings)).unwrap();
    assert_eq!(checked.first_input_frame, Some(99));
    assert_eq!(checked.newest_input_frame, Some(100));
    let text = format!("{message:?}");
    for part in [
        "magic: 7",
        "start_frame: 99",
        "ack_frame: 98",
        "last_frame: 100",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn an_input_packet_outside_its_bounds_is_refused_with_its_reason() {
    assert_eq!(changed(|_| ()), "ok");
    assert_eq!(changed(|raw| raw.magic = 0), "magic");
    assert_eq!(
        input_field!(disconnect_requested = true),
        "disconnectRequested"
    );
    assert_eq!(input_field!(start_frame = -1), "startFrame");
    assert_eq!(input_field!(start_frame = 100), "startFrame");
    assert_eq!(input_field!(start_frame = Frame::MAX), "startFrame");
    assert_eq!(input_field!(ack_frame = 101), "ackFrame");
    assert_eq!(input_field!(ack_frame = -2), "ackFrame");
    assert_eq!(input_field!(statuses = vec![(false, 98)]), "statusCount");
    assert_eq!(
        input_field!(statuses = vec![(false, 98); 65]),
        "notAMessage"
    );
    assert_eq!(
        input_field!(statuses = vec![(false, 101), (false, 100)]),
        "statusFrame"
    );
    assert_eq!(
        input_field!(statuses = vec![(false, 98), (false, Frame::MAX)]),
        "statusFrame"
    );
    for handle in 0..2 {
        let mut reported = vec![(false, 98), (false, 100)];
        reported[handle].0 = true;
        assert_eq!(input_field!(statuses = reported), "statusDisconnected");
    }
    assert_eq!(input_field!(bytes = Vec::new()), "inputCount");
    assert_eq!(input_field!(bytes = literal(&[2, 0, 1, 1])), "inputSize");
    assert_eq!(input_field!(bytes = literal(&[1, 0])), "inputEncoding");
    assert_eq!(input_field!(bytes = literal(&[1, 0, 0].repeat(14))), "ok");
    assert_eq!(
        input_field!(bytes = literal(&[1, 0, 0].repeat(15))),
        "inputTooFarAhead",
        "newest local 100 + window 8 + delay 2 + 2 = 112"
    );
    assert_eq!(
        input_field!(bytes = literal(&[1, 0, 0].repeat(129))),
        "inputCount"
    );
}

#[test]
fn run_lengths_that_claim_memory_are_refused_without_expansion() {
    for claim in [
        vec![0xff],
        vec![0x80, 0x80, 0x80, 0x01],
        vec![0xff; 40],
        vec![0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        vec![0x7e, 1, 2],
    ] {
        assert_eq!(input_field!(bytes = claim), "inputEncoding");
    }
    // Two million zero bytes: the first of a million empty inputs is refused.
    assert_eq!(input_field!(bytes = vec![0xfd, 0xff, 0x7f]), "inputSize");
}

#[test]
fn fill_runs_are_walked_like_literals() {
    // Three inputs of one byte (0, 0 and 255), with their zeros in fill runs.
    let fills = [0x02, 1, 0x09, 0x02, 1, 0x09, 0x04, 1, 0, 0x07];
    assert_eq!(count_inputs(&fills, 9, |len| len == 1), Ok(3));
    assert_eq!(
        count_inputs(&fills, 2, |len| len == 1),
        Err(Malformed::TooMany)
    );
}

#[test]
fn the_first_packet_starts_no_later_than_the_input_delay() {
    let (players, pings) = (players(-1, -1), SentPings::default());
    let mut limits = limits(&players, &pings);
    limits.current_frame = 0;
    for (start_frame, expected) in [(0, true), (2, true), (3, false), (1_000, false)] {
        let raw = Raw {
            magic: 1,
            body: RawBody::Input {
                statuses: vec![(false, -1), (false, 2)],
                disconnect_requested: false,
                start_frame,
                ack_frame: -1,
                bytes: literal(&[1, 0, 5]),
            },
        };
        assert_eq!(validate(&raw_bytes(&raw), &limits).is_ok(), expected);
    }
}

#[test]
fn other_messages_outside_their_bounds_are_refused_with_their_reason() {
    let of = |body| reason(&Raw { magic: 7, body });
    assert_eq!(of(RawBody::InputAck(100)), "ok");
    assert_eq!(of(RawBody::InputAck(101)), "ackFrame");
    assert_eq!(of(RawBody::QualityReport(3_600, u128::MAX)), "ok");
    assert_eq!(of(RawBody::QualityReport(i16::MIN, 0)), "frameAdvantage");
    assert_eq!(of(RawBody::QualityReply(0)), "pong");
    assert_eq!(of(RawBody::ChecksumReport(1, 100)), "ok");
    assert_eq!(of(RawBody::ChecksumReport(1, 101)), "checksumFrame");
    assert_eq!(of(RawBody::ChecksumReport(1, -1)), "checksumFrame");
    assert_eq!(of(RawBody::ChecksumReport(1, Frame::MIN)), "checksumFrame");

    let (players, mut pings) = (players(100, 98), SentPings::default());
    pings.record(5);
    let pong = raw_bytes(&Raw {
        magic: 7,
        body: RawBody::QualityReply(5),
    });
    assert!(validate(&pong, &limits(&players, &pings)).is_ok());
    (0..32).for_each(|ping| pings.record(100 + ping));
    assert_eq!(
        validate(&pong, &limits(&players, &pings)),
        Err(GgrsWireError::Pong),
        "a pong older than 32 pings is refused"
    );
    let mut off = limits(&players, &pings);
    off.desync_interval = None;
    let checksum = raw_bytes(&Raw {
        magic: 7,
        body: RawBody::ChecksumReport(1, 100),
    });
    assert_eq!(validate(&checksum, &off), Err(GgrsWireError::ChecksumOff));
    off.remote_magic = Some(8);
    assert_eq!(
        validate(&pong, &off),
        Err(GgrsWireError::Magic { magic: 7 })
    );
}

#[test]
fn trailing_or_missing_bytes_are_not_a_message() {
    let mut bytes = raw_bytes(&valid_input());
    let (players, pings) = (players(100, 98), SentPings::default());
    let limits = limits(&players, &pings);
    for len in 0..bytes.len() {
        assert!(validate(&bytes[..len], &limits).is_err());
    }
    bytes.push(0);
    assert_eq!(validate(&bytes, &limits), Err(GgrsWireError::NotAMessage));
    let long = vec![0; MAX_MESSAGE + 1];
    assert_eq!(validate(&long, &limits), Err(GgrsWireError::TooLong));
}

/// ggrs reads a report about a third player only where it may act upon it, and never its frame.
#[test]
fn a_report_about_a_third_player_is_hidden_until_it_may_be_read() {
    let with = |owner, last_frame| PlayerBounds {
        last_frame,
        ..PlayerBounds::new(owner)
    };
    let mut players = [
        with(Owner::Local, 100),
        with(Owner::Sender, 98),
        with(Owner::Other, 97),
    ];
    let pings = SentPings::default();
    for last_frame in [96, 97, 98] {
        let bytes = raw_bytes(&Raw {
            magic: 7,
            body: RawBody::Input {
                statuses: vec![(false, 98), (false, 100), (true, last_frame)],
                disconnect_requested: false,
                start_frame: 99,
                ack_frame: 98,
                bytes: literal(&[1, 0, 5]),
            },
        });
        for may_read in [false, true] {
            players[2].disconnected = may_read;
            let (message, checked) = decode(&bytes, &limits(&players, &pings)).unwrap();
            assert_eq!(checked.disconnected, 0b100);
            let status = |disconnected: bool, frame: Frame| {
                format!("disconnected: {disconnected}, last_frame: {frame}")
            };
            let text = format!("{message:?}");
            assert!(text.contains(&status(may_read, Frame::MAX)), "{text}");
            assert!(text.contains(&status(false, 98)), "{text}");
            assert!(text.contains("start_frame: 99"), "{text}");
        }
    }
    for (own, reported) in [(0, "this peer"), (1, "the sender")] {
        let mut reports = vec![(false, 98), (false, 98)];
        reports[own].0 = true;
        let refused = input_field!(statuses = reports);
        assert_eq!(refused, "statusDisconnected", "{reported}");
    }
}

#[test]
fn inputs_of_a_silent_peer_are_read_like_its_own() {
    let (players, pings) = (players(100, 98), SentPings::default());
    let sent = raw_bytes(&valid_input());
    let (start, bytes) = inputs(&sent).unwrap();
    let mut out = [0; MAX_MESSAGE];
    let len = stand_in(9, 2, (start, bytes), &mut out).unwrap();
    let mut limits = limits(&players, &pings);
    limits.remote_magic = Some(9);
    let (_, checked) = decode(&out[..len], &limits).unwrap();
    assert_eq!(checked.first_input_frame, Some(99));
    assert_eq!(checked.newest_input_frame, Some(100));
    assert!(format!("{:?}", keep_alive(9).unwrap()).contains("KeepAlive"));
}
