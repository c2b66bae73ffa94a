//! A running session survives every message that passes validation.

use proptest::{prelude::*, strategy::ValueTree};

use super::{
    super::*,
    rig::{Raw, RawBody, Rig, literal, raw_bytes},
};

/// Edge cases of frames: the ends of the type, and around the running match.
fn frames() -> impl Strategy<Value = Frame> {
    prop_oneof![
        1 => prop_oneof![Just(Frame::MIN), Just(-2), Just(-1), Just(0), Just(Frame::MAX - 1), Just(Frame::MAX)],
        4 => -2..160_i32,
        1 => any::<Frame>(),
    ]
}

fn inputs() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => (1_usize..140, any::<u8>()).prop_map(|(count, value)| literal(&[1, 0, value].repeat(count))),
        1 => prop::collection::vec((0_usize..4, any::<u8>()), 0..20).prop_map(|inputs| {
            let mut bytes = Vec::new();
            for (len, value) in inputs {
                bytes.extend([u8::try_from(len).unwrap(), 0]);
                bytes.extend(vec![value; len]);
            }
            literal(&bytes)
        }),
        1 => any::<Vec<u8>>(),
        1 => prop::collection::vec(Just(0xff), 0..12),
    ]
}

fn bodies() -> impl Strategy<Value = RawBody> {
    let input = (
        prop_oneof![
            9 => prop::collection::vec((prop::bool::weighted(0.02), frames()), 2..3),
            1 => prop::collection::vec((any::<bool>(), frames()), 0..70),
        ],
        prop::bool::weighted(0.02),
        frames(),
        frames(),
        inputs(),
    )
        .prop_map(
            |(statuses, disconnect_requested, start_frame, ack_frame, bytes)| RawBody::Input {
                statuses,
                disconnect_requested,
                start_frame,
                ack_frame,
                bytes,
            },
        );
    prop_oneof![
        6 => input,
        1 => any::<u32>().prop_map(RawBody::SyncRequest),
        1 => any::<u32>().prop_map(RawBody::SyncReply),
        1 => frames().prop_map(RawBody::InputAck),
        1 => any::<(i16, u128)>().prop_map(|(advantage, ping)| RawBody::QualityReport(advantage, ping)),
        1 => any::<u128>().prop_map(RawBody::QualityReply),
        2 => (any::<u128>(), frames()).prop_map(|(sum, frame)| RawBody::ChecksumReport(sum, frame)),
        1 => Just(RawBody::KeepAlive),
    ]
}

/// One attack on peer 0 before it takes a step.
#[derive(Clone, Debug)]
enum Attack {
    /// A forged message; `true` takes the real peer's magic.
    Forge(bool, u16, RawBody),
    /// A bit of a real message flipped.
    Flip(usize, usize),
    /// A truncated real message.
    Cut(usize, usize),
    /// A real message again, of any age.
    Replay(usize),
    /// Random bytes.
    Noise(Vec<u8>),
    /// No attack: the real peer continues.
    Pause,
}

fn attacks() -> impl Strategy<Value = Attack> {
    prop_oneof![
        8 => (prop::bool::weighted(0.9), any::<u16>(), bodies())
            .prop_map(|(real, magic, body)| Attack::Forge(real, magic, body)),
        4 => any::<(usize, usize)>().prop_map(|(which, bit)| Attack::Flip(which, bit)),
        1 => any::<(usize, usize)>().prop_map(|(which, at)| Attack::Cut(which, at)),
        2 => any::<usize>().prop_map(Attack::Replay),
        1 => any::<Vec<u8>>().prop_map(Attack::Noise),
        3 => Just(Attack::Pause),
    ]
}

/// Runs a match in which `attacks` reach peer 0; returns how many passed validation.
fn play(attacks: &[Attack], warm_up: usize, delay: usize, desync: bool, silent: bool) -> usize {
    let mut rig = Rig::new(delay, desync.then_some(2));
    rig.synchronize();
    for _ in 0..warm_up {
        rig.step();
    }
    let mut passed = 0;
    for attack in attacks {
        {
            let net = &mut *rig.net.lock().unwrap();
            let real = |which: usize| net.sent[which % net.sent.len()].clone();
            let bytes = match attack.clone() {
                Attack::Forge(true, _, body) => Some(raw_bytes(&Raw {
                    magic: net.gates[0].magic.unwrap(),
                    body,
                })),
                Attack::Forge(false, magic, body) => Some(raw_bytes(&Raw { magic, body })),
                Attack::Flip(which, bit) => {
                    let mut bytes = real(which);
                    let bit = bit % (bytes.len() * 8);
                    bytes[bit / 8] ^= 1 << (bit % 8);
                    Some(bytes)
                }
                Attack::Cut(which, at) => {
                    let mut bytes = real(which);
                    bytes.truncate(at % bytes.len());
                    Some(bytes)
                }
                Attack::Replay(which) => Some(real(which)),
                Attack::Noise(bytes) => Some(bytes),
                Attack::Pause => None,
            };
            if let Some(bytes) = bytes {
                passed += usize::from(validate(&bytes, &net.gates[0].limits()).is_ok());
                net.inbox[0].push_back(bytes);
            }
        }
        rig.step_one(0);
        if !silent {
            rig.step_one(1);
        }
    }
    passed
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn session_swallows_whatever_passes(
        attacks in prop::collection::vec(attacks(), 1..60),
        warm_up in 0_usize..40,
        delay in 0_usize..3,
        desync: bool,
        silent: bool,
    ) {
        play(&attacks, warm_up, delay, desync, silent);
    }

    #[test]
    fn any_bytes_are_an_error_or_a_message(bytes: Vec<u8>, frame in frames()) {
        let players = [
            PlayerBounds { last_frame: frame, ..PlayerBounds::new(Owner::Local) },
            PlayerBounds { last_frame: frame, ..PlayerBounds::new(Owner::Sender) },
        ];
        let limits = Limits {
            players: &players,
            input_bytes: None,
            max_prediction: frame,
            max_input_delay: frame,
            desync_interval: Some(u32::MAX),
            current_frame: frame,
            remote_magic: None,
            sent_pings: &SentPings::default(),
        };
        if validate(&bytes, &limits).is_ok() {
            prop_assert!(decode(&bytes, &limits).is_ok(), "what passes also decodes");
        }
    }

    #[test]
    fn whatever_the_mirror_reads_ggrs_reads_the_same(body in bodies(), magic: u16) {
        let bytes = raw_bytes(&Raw { magic, body });
        if read(&bytes).is_ok() {
            let message: ggrs::Message = postcard::from_bytes(&bytes).unwrap();
            let mut again = [0; MAX_MESSAGE];
            let len = encode(&message, &mut again).unwrap();
            prop_assert_eq!(&again[..len], &bytes[..]);
        }
    }
}

/// The attack is real: many forged packets get through, and the match is still on.
#[test]
fn attacks_that_pass_are_many_and_the_match_goes_on() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = prop::collection::vec(attacks(), 50..60);
    let mut passed = 0;
    for _ in 0..20 {
        let attacks = strategy.new_tree(&mut runner).unwrap().current();
        passed += play(&attacks, 20, 2, true, false);
    }
    assert!(passed > 100, "only {passed} attacks passed the gate");
}

/// Refused packets leave no trace: the same match without them has the same confirmed frames.
#[test]
fn refused_attacks_change_nothing() {
    let mut rig = Rig::new(2, Some(2));
    rig.synchronize();
    let noise = [
        RawBody::ChecksumReport(0, Frame::MAX),
        RawBody::InputAck(Frame::MAX),
        RawBody::QualityReply(0),
        RawBody::Input {
            statuses: vec![(false, 0), (true, -1)],
            disconnect_requested: false,
            start_frame: 1_000_000,
            ack_frame: 0,
            bytes: vec![0xff; 40],
        },
    ];
    for tick in 0..300 {
        {
            let mut net = rig.net.lock().unwrap();
            let magic = net.gates[0].magic.unwrap();
            let body = noise[tick % noise.len()].clone();
            net.inbox[0].push_back(raw_bytes(&Raw { magic, body }));
        }
        rig.step();
    }
    assert_eq!(rig.sessions[0].current_frame(), 300);
    assert_eq!(rig.net.lock().unwrap().refused.len(), 300);
    for session in &mut rig.sessions {
        let desyncs = session
            .events()
            .filter(|event| matches!(event, ggrs::GgrsEvent::DesyncDetected { .. }))
            .count();
        assert_eq!(desyncs, 0);
    }
}

/// The rules are needed: without the gate each of these ends the program that receives it.
#[test]
fn without_the_gate_ggrs_panics() {
    let input = |statuses, start_frame, bytes| RawBody::Input {
        statuses,
        disconnect_requested: false,
        start_frame,
        ack_frame: -1,
        bytes,
    };
    let connected = vec![(false, -1), (false, -1)];
    for (name, warm_up, body) in [
        (
            "a first packet that starts far ahead pads the queue until it is full",
            0,
            input(connected.clone(), 200, literal(&[1, 0, 5])),
        ),
        (
            "more inputs than the queue holds",
            0,
            input(connected.clone(), 0, literal(&[1, 0, 5].repeat(140))),
        ),
        (
            "a run length that does not end",
            0,
            input(connected, 0, vec![0xff]),
        ),
        (
            "a player reported disconnected while its newest input is one frame old",
            30,
            input(vec![(false, -1), (true, -1)], 0, Vec::new()),
        ),
    ] {
        let attack = |open: bool| {
            let mut rig = Rig::new(1, None);
            rig.synchronize();
            for _ in 0..warm_up {
                rig.step();
            }
            {
                let mut net = rig.net.lock().unwrap();
                net.open = open;
                let magic = net.gates[0].magic.unwrap();
                net.inbox[0].clear();
                net.inbox[0].push_back(raw_bytes(&Raw {
                    magic,
                    body: body.clone(),
                }));
            }
            for _ in 0..3 {
                rig.step_one(0);
            }
        };
        let panics =
            |open| std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| attack(open))).is_err();
        assert!(panics(true), "{name}: without the gate");
        assert!(!panics(false), "{name}: behind the gate");
    }
}
