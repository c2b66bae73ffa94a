//! Hostile bytes at every entry of a running lab session: nothing panics, the match goes on to its
//! end, and the file counts by reason what was dropped.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test may fail like the test itself"
)]

use std::collections::BTreeMap;

use bevy::prelude::AppExit;
use bevy_ggrs::RollbackFrameCount;
use bevy_rollback_lab::internals::transport::network::NetEvent;
use bevy_rollback_lab::prelude::*;
use bevy_rollback_lab::record::EpisodeDocument;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config as ProptestConfig, RngAlgorithm, TestRng, TestRunner};
use rollback_lab_link::wire::relay::{DropReason, Member, Notice, Roster};
use rollback_lab_link::wire::{
    ControlMessage, DatagramKind, HEADER_LEN, Header, MAX_DATAGRAM, Path, PathAck, encode_control,
};
use rollback_lab_record::check::check_episode;
use rollback_lab_test_kit::lab::{Hub, LabPeer, frame, lab_peer, peer_id, play, run_until};
use serde::Serialize;

/// The victim's slot; what is forged comes from the other peer's.
const VICTIM: usize = 0;
/// The slot of the peer in whose name bytes are forged.
const ATTACKER: usize = 1;
/// Updates under attack, in the first second of the match.
const ATTACKED: std::ops::Range<i32> = 20..32;

fn match_of(frames: u32) -> (Hub, Vec<LabPeer>) {
    let hub = Hub::new(2, true);
    let config = || {
        LabConfig::new("ws://lab", "room")
            .frame_limit(frames)
            .episodes(1)
            .no_files()
    };
    let peers = vec![lab_peer(&hub, config(), 1), lab_peer(&hub, config(), 2)];
    (hub, peers)
}

fn current_frame(peer: &LabPeer) -> i32 {
    peer.app.world().resource::<RollbackFrameCount>().0
}

/// One update of everybody; then what the attacker's real peer sent is known to the forger.
fn step(hub: &Hub, peers: &mut [LabPeer], forger: &mut Forger) {
    for peer in peers.iter_mut() {
        peer.step(frame(60));
    }
    forger.learn(hub);
}

/// Plays until the victim is about to simulate `at`.
fn until_frame(hub: &Hub, peers: &mut [LabPeer], forger: &mut Forger, at: i32) {
    for _ in 0..2_000 {
        step(hub, peers, forger);
        if peers[VICTIM].phase() == SessionPhase::Playing && current_frame(&peers[VICTIM]) >= at {
            return;
        }
    }
    panic!("frame {at} is reached");
}

/// Knows what the real peer sent lately, and makes datagrams that pass for its own.
struct Forger {
    newest: [Option<Header>; 2],
    magic: u16,
    captured: Vec<(Path, Vec<u8>)>,
    seq: u16,
}

impl Forger {
    fn new() -> Self {
        Self {
            newest: [None; 2],
            magic: 0,
            captured: Vec::new(),
            // Sequences before the first: new to the victim, and never used by the real peer.
            seq: u16::MAX,
        }
    }

    fn learn(&mut self, hub: &Hub) {
        for tapped in hub.tapped() {
            if tapped.from != ATTACKER {
                continue;
            }
            let (header, payload) = Header::decode(&tapped.bytes).unwrap();
            self.newest[tapped.path.index()] = Some(header);
            if header.kind == DatagramKind::Data {
                self.magic = postcard::take_from_bytes(payload).unwrap().0;
            }
            self.captured.push((tapped.path, tapped.bytes));
        }
    }

    /// A header as the real peer would send it now.
    fn header(&self, path: Path, kind: DatagramKind) -> Header {
        let mut header = self.newest[path.index()].expect("the path was used");
        header.kind = kind;
        header.epoch = 0;
        header
    }

    fn data(&mut self, path: Path, payload: &[u8]) -> Vec<u8> {
        let mut header = self.header(path, DatagramKind::Data);
        header.data_seq = self.seq;
        self.seq -= 1;
        datagram(&header, payload)
    }

    fn message(&mut self, path: Path, body: &RawBody) -> Vec<u8> {
        let magic = self.magic;
        let raw = Raw { magic, body };
        self.data(path, &postcard::to_stdvec(&raw).unwrap())
    }

    fn control(&self, path: Path, payload: &[u8]) -> Vec<u8> {
        datagram(&self.header(path, DatagramKind::Control), payload)
    }
}

fn datagram(header: &Header, payload: &[u8]) -> Vec<u8> {
    let mut head = [0; HEADER_LEN];
    header.encode(&mut head);
    [&head, payload].concat()
}

/// ggrs's messages as postcard writes them, to be built at will.
#[derive(Serialize)]
struct Raw<'a> {
    magic: u16,
    body: &'a RawBody,
}

#[derive(Clone, Debug, Serialize)]
enum RawBody {
    SyncRequest(u32),
    SyncReply(u32),
    Input(RawInput),
    InputAck(i32),
    QualityReport(i16, u128),
    QualityReply(u128),
    ChecksumReport(u128, i32),
    #[expect(dead_code, reason = "its place in the order of ggrs's messages")]
    KeepAlive,
}

#[derive(Clone, Debug, Serialize)]
struct RawInput {
    statuses: Vec<(bool, i32)>,
    disconnect_requested: bool,
    start_frame: i32,
    ack_frame: i32,
    bytes: Vec<u8>,
}

/// An input packet with nothing wrong but what the test changes.
fn input(change: impl FnOnce(&mut RawInput)) -> RawBody {
    let mut input = RawInput {
        statuses: vec![(false, 0), (false, 0)],
        disconnect_requested: false,
        start_frame: 2,
        ack_frame: 0,
        bytes: literal(&[1, 0, 3]),
    };
    change(&mut input);
    RawBody::Input(input)
}

/// Run-length encodes `bytes` as one literal run.
fn literal(bytes: &[u8]) -> Vec<u8> {
    varint(bytes.len() << 1, bytes)
}

/// `count` times the byte 0 or 255, in a few bytes.
fn bomb(count: usize, ones: bool) -> Vec<u8> {
    varint(count << 2 | usize::from(ones) << 1 | 1, &[])
}

fn varint(mut code: usize, behind: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::new();
    while code > 127 {
        encoded.push((code & 127) as u8 | 128);
        code >>= 7;
    }
    encoded.push(code as u8);
    encoded.extend_from_slice(behind);
    encoded
}

/// Messages that would make ggrs panic, allocate, overflow or go wrong, by why they are refused.
fn hostile_messages() -> Vec<(&'static str, RawBody)> {
    vec![
        ("statusCount", input(|input| input.statuses.truncate(1))),
        (
            "statusCount",
            input(|input| input.statuses = vec![(false, 0); 40]),
        ),
        ("statusFrame", input(|input| input.statuses[0].1 = i32::MAX)),
        ("statusFrame", input(|input| input.statuses[1].1 = i32::MIN)),
        (
            "statusDisconnected",
            input(|input| input.statuses[0].0 = true),
        ),
        (
            "statusDisconnected",
            input(|input| input.statuses[1].0 = true),
        ),
        (
            "disconnectRequested",
            input(|input| input.disconnect_requested = true),
        ),
        ("startFrame", input(|input| input.start_frame = i32::MAX)),
        ("startFrame", input(|input| input.start_frame = 10_000)),
        ("startFrame", input(|input| input.start_frame = -1)),
        ("ackFrame", input(|input| input.ack_frame = i32::MAX)),
        ("ackFrame", RawBody::InputAck(10_000)),
        ("ackFrame", RawBody::InputAck(i32::MIN)),
        (
            "inputEncoding",
            input(|input| input.bytes = bomb(1 << 30, false)),
        ),
        ("inputEncoding", input(|input| input.bytes = vec![0xff; 12])),
        (
            "inputEncoding",
            input(|input| input.bytes = literal(&[9, 0, 1])),
        ),
        (
            "inputCount",
            input(|input| input.bytes = bomb(400_000, false)),
        ),
        ("inputCount", input(|input| input.bytes.clear())),
        (
            "inputSize",
            input(|input| input.bytes = bomb(400_000, true)),
        ),
        (
            "inputTooFarAhead",
            input(|input| input.bytes = literal(&[1, 0, 3].repeat(120))),
        ),
        ("frameAdvantage", RawBody::QualityReport(i16::MIN, 0)),
        ("pong", RawBody::QualityReply(u128::MAX)),
        ("pong", RawBody::QualityReply(1)),
        ("checksumFrame", RawBody::ChecksumReport(1, i32::MAX)),
        ("checksumFrame", RawBody::ChecksumReport(1, i32::MIN)),
    ]
}

/// What the victim's file counted as malformed on a path.
fn malformed(episode: &EpisodeDocument, path: Path) -> BTreeMap<String, u64> {
    let record = episode
        .quality
        .paths
        .iter()
        .find(|record| record.path == path)
        .expect("every path stands in the file");
    record.datagrams.malformed.clone()
}

/// The match goes on to its end, unharmed; returns the victim's file.
fn unharmed(peers: &mut [LabPeer], frames: i32) -> EpisodeDocument {
    let mut documents = play(peers, frame(60), 3_000);
    for episodes in &documents {
        let [episode] = episodes.as_slice() else {
            panic!("one episode, not {}", episodes.len());
        };
        assert_eq!(episode.episode.end_frame, frames);
        assert_eq!(episode.frames.stalled, 0);
        assert_eq!(episode.sync.desyncs.len(), 0);
    }
    documents.swap_remove(VICTIM).swap_remove(0)
}

#[test]
fn hostile_ggrs_messages_behind_a_valid_header_are_refused_by_reason() {
    let (hub, mut peers) = match_of(300);
    let mut forger = Forger::new();
    until_frame(&hub, &mut peers, &mut forger, ATTACKED.start);
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for _ in ATTACKED {
        for path in Path::ALL {
            for (reason, body) in hostile_messages() {
                let bytes = forger.message(path, &body);
                hub.inject(VICTIM, path, ATTACKER, &bytes);
                *expected.entry(reason.to_owned()).or_default() += 1;
            }
            let real = forger.magic;
            for magic in [0, real ^ 1] {
                forger.magic = magic;
                let bytes = forger.message(path, &RawBody::SyncReply(7));
                hub.inject(VICTIM, path, ATTACKER, &bytes);
                *expected.entry("magic".to_owned()).or_default() += 1;
            }
            forger.magic = real;
            let bytes = forger.data(path, &[0xff; 40]);
            hub.inject(VICTIM, path, ATTACKER, &bytes);
            *expected.entry("notAMessage".to_owned()).or_default() += 1;
            // Nothing is wrong with a question of the handshake but its time.
            let bytes = forger.message(path, &RawBody::SyncRequest(1));
            hub.inject(VICTIM, path, ATTACKER, &bytes);
        }
        step(&hub, &mut peers, &mut forger);
    }
    let episode = unharmed(&mut peers, 300);
    let counted = malformed(&episode, Path::Direct);
    for count in expected.values_mut() {
        *count /= 2;
    }
    assert_eq!(counted, expected, "every refusal is counted by its reason");
    assert_eq!(malformed(&episode, Path::Relay), expected);
}

#[test]
fn headers_that_lie_or_break_are_refused_by_reason() {
    let (hub, mut peers) = match_of(300);
    let mut forger = Forger::new();
    until_frame(&hub, &mut peers, &mut forger, ATTACKED.start);
    let rounds = ATTACKED.len() as u64;
    for _ in ATTACKED {
        for path in Path::ALL {
            let good = datagram(&forger.header(path, DatagramKind::Heartbeat), &[]);
            let mut other_version = good.clone();
            other_version[0] = other_version[0] & 15 | 0x20;
            let mut ack_map = good.clone();
            ack_map[10..14].copy_from_slice(&[2, 0, 0, 0]);
            let mut never_sent = forger.header(path, DatagramKind::Heartbeat);
            never_sent.acks[0] = PathAck {
                highest: never_sent.acks[0].highest.wrapping_add(5_000),
                map: 1,
            };
            for bytes in [
                Vec::new(),
                good[..HEADER_LEN - 1].to_vec(),
                vec![0x10; MAX_DATAGRAM + 1],
                other_version,
                ack_map,
                datagram(&never_sent, &[]),
                datagram(&forger.header(path, DatagramKind::Heartbeat), &[1]),
                datagram(&forger.header(path, DatagramKind::Probe), &[1]),
                datagram(&forger.header(path, DatagramKind::Data), &[]),
                datagram(&forger.header(path, DatagramKind::Control), &[]),
            ] {
                hub.inject(VICTIM, path, ATTACKER, &bytes);
                // From a peer of no room, not even the good one counts.
                hub.inject_unknown(VICTIM, path, peer_id(99), &bytes);
                hub.inject_unknown(VICTIM, path, peer_id(99), &good);
            }
            // Good data of another episode is no bytes' fault: dropped, and no reason in the file.
            let mut elsewhere = forger.header(path, DatagramKind::Data);
            elsewhere.epoch = 7;
            hub.inject(VICTIM, path, ATTACKER, &datagram(&elsewhere, &[0; 9]));
        }
        step(&hub, &mut peers, &mut forger);
    }
    let episode = unharmed(&mut peers, 300);
    let expected = [
        ("ackBeyondSent", rounds),
        ("ackMap", rounds),
        ("payloadLength", 4 * rounds),
        ("tooLong", rounds),
        ("tooShort", 2 * rounds),
        ("version", rounds),
    ];
    let expected: BTreeMap<_, _> = expected.map(|(reason, n)| (reason.to_owned(), n)).into();
    for path in Path::ALL {
        assert_eq!(malformed(&episode, path), expected, "{path}");
    }
}

#[test]
fn garbage_on_the_control_channel_is_refused_by_reason() {
    let (hub, mut peers) = match_of(300);
    let mut forger = Forger::new();
    until_frame(&hub, &mut peers, &mut forger, ATTACKED.start);
    let bye = ControlMessage::Bye {
        reason: rollback_lab_link::wire::ByeReason::Finished,
    };
    let mut long_name = encode_control(5, 0, None).unwrap();
    // A hello whose schema has 17 bytes: one more than fits.
    long_name.extend([0, 1, 17]);
    long_name.extend([b'x'; 17]);
    long_name.extend([1, b'g', 1, b'v', 2, 60, 2, 8, 10, 0, 0]);
    let mut tail = encode_control(5, 0, Some(&ControlMessage::Hidden)).unwrap();
    tail.push(0);
    let garbage: [(&str, Vec<u8>); 7] = [
        ("control", vec![1]),
        ("control", vec![1, 0, 0]),
        ("control", vec![5, 0, 0, 0, 0xff, 0xff]),
        ("control", tail),
        ("controlBounds", long_name),
        ("controlAck", encode_control(5, 20_000, None).unwrap()),
        (
            "controlSequence",
            encode_control(20_000, 0, Some(&bye)).unwrap(),
        ),
    ];
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for _ in ATTACKED {
        for (reason, payload) in &garbage {
            for path in Path::ALL {
                let bytes = forger.control(path, payload);
                hub.inject(VICTIM, path, ATTACKER, &bytes);
                // Unknown peers say goodbye in vain.
                let bytes = encode_control(4, 0, Some(&bye)).unwrap();
                let bytes = forger.control(path, &bytes);
                hub.inject_unknown(VICTIM, path, peer_id(99), &bytes);
            }
            *expected.entry((*reason).to_owned()).or_default() += 1;
        }
        step(&hub, &mut peers, &mut forger);
    }
    let episode = unharmed(&mut peers, 300);
    for path in Path::ALL {
        assert_eq!(malformed(&episode, path), expected, "{path}");
    }
}

#[test]
fn a_server_that_talks_nonsense_harms_no_running_match() {
    let (hub, mut peers) = match_of(300);
    let mut forger = Forger::new();
    until_frame(&hub, &mut peers, &mut forger, ATTACKED.start);
    let member = |slot, n: u8| Member {
        slot,
        peer: [n; 16],
    };
    let roster = |slot, capacity, members| {
        NetEvent::Roster(Roster {
            slot,
            capacity,
            nonce: [9; 16],
            members,
        })
    };
    let nonsense = [
        NetEvent::IdAssigned(peer_id(77)),
        roster(9, 0, Vec::new()),
        roster(0, 64, (0..64).map(|slot| member(slot, slot)).collect()),
        roster(0, 2, vec![member(0, 5); 64]),
        NetEvent::Notice(Notice::PeerGone { slot: 0 }),
        NetEvent::Notice(Notice::PeerGone { slot: 200 }),
        NetEvent::Notice(Notice::Dropped {
            reason: DropReason::RateLimited,
            count: u32::MAX,
        }),
        NetEvent::DirectOpened(peer_id(77)),
        NetEvent::DirectClosed(peer_id(77)),
        // Data still comes from it: only the server lost sight of it.
        NetEvent::DirectClosed(peer_id(2)),
        NetEvent::NoRelay,
        NetEvent::NoRelay,
    ];
    for _ in ATTACKED {
        for event in &nonsense {
            hub.tell(VICTIM, event.clone());
        }
        step(&hub, &mut peers, &mut forger);
    }
    unharmed(&mut peers, 300);
}

/// One thing to inject at the victim.
#[derive(Clone, Debug)]
enum Attack {
    /// Bytes that claim another wire version.
    Noise(Vec<u8>),
    /// Anything from a peer that nobody knows, real datagrams included.
    Stranger(Vec<u8>, Index),
    /// A real datagram again, however old.
    Replay(Index),
    /// Any payload behind a valid header.
    Payload(Vec<u8>),
    /// The payload of a real game packet, a bit flipped, as a packet of its own.
    Flip(Index, Index),
    /// A real datagram with bits flipped anywhere and its end cut off or grown.
    Mutate(Index, Vec<(Index, u8)>, Option<Index>, Vec<u8>),
    /// Bytes, whatever they claim.
    Anything(Vec<u8>),
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..80),
        1 => prop::collection::vec(any::<u8>(), 0..1_300),
    ]
}

/// What a peer that plays by the rules could meet in a broken network.
fn harmless() -> impl Strategy<Value = Attack> {
    prop_oneof![
        bytes().prop_map(Attack::Noise),
        (bytes(), any::<Index>()).prop_map(|(bytes, index)| Attack::Stranger(bytes, index)),
        any::<Index>().prop_map(Attack::Replay),
        bytes().prop_map(Attack::Payload),
    ]
}

/// Also what only the peer itself could say: it may ruin its own match, and nothing else.
fn ruinous() -> impl Strategy<Value = Attack> {
    let mutation = (
        any::<Index>(),
        prop::collection::vec((any::<Index>(), 1_u8..), 1..4),
        prop::option::weighted(0.2, any::<Index>()),
        prop_oneof![4 => Just(Vec::new()), 1 => bytes()],
    );
    prop_oneof![
        1 => harmless(),
        2 => (any::<Index>(), any::<Index>()).prop_map(|(index, bit)| Attack::Flip(index, bit)),
        3 => mutation.prop_map(|(index, flips, cut, grown)| Attack::Mutate(index, flips, cut, grown)),
        1 => bytes().prop_map(Attack::Anything),
    ]
}

fn inject(hub: &Hub, forger: &mut Forger, path: Path, attack: &Attack) {
    let known = |bytes: &[u8]| hub.inject(VICTIM, path, ATTACKER, bytes);
    match attack {
        Attack::Noise(bytes) => {
            let mut bytes = bytes.clone();
            if let Some(first) = bytes.first_mut()
                && *first >> 4 == 1
            {
                *first ^= 0x80;
            }
            known(&bytes);
        }
        Attack::Stranger(bytes, index) => {
            let (_, real) = index.get(&forger.captured);
            for bytes in [bytes, real] {
                hub.inject_unknown(VICTIM, path, peer_id(99), bytes);
            }
        }
        Attack::Replay(index) => {
            let (path, bytes) = index.get(&forger.captured);
            hub.inject(VICTIM, *path, ATTACKER, bytes);
        }
        Attack::Payload(payload) => {
            let room = payload.len().min(MAX_DATAGRAM - HEADER_LEN);
            let bytes = forger.data(path, &payload[..room]);
            known(&bytes);
        }
        Attack::Flip(index, bit) => {
            let (_, real) = index.get(&forger.captured);
            let mut payload = real[HEADER_LEN..].to_vec();
            if !payload.is_empty() {
                let bit = bit.index(payload.len() * 8);
                payload[bit / 8] ^= 1 << (bit % 8);
            }
            let bytes = forger.data(path, &payload);
            known(&bytes);
        }
        Attack::Mutate(index, flips, cut, grown) => {
            let (path, mut bytes) = index.get(&forger.captured).clone();
            for (at, flip) in flips {
                let at = at.index(bytes.len());
                bytes[at] ^= flip;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            bytes.extend(grown);
            hub.inject(VICTIM, path, ATTACKER, &bytes);
        }
        Attack::Anything(bytes) => known(bytes),
    }
}

/// When, over which path, and what.
type Plan = Vec<(i32, bool, Attack)>;

fn plan(attacks: impl Strategy<Value = Attack>) -> impl Strategy<Value = Plan> {
    prop::collection::vec((1..100_i32, any::<bool>(), attacks), 1..120)
}

/// A match of 120 frames during which the plan is carried out.
fn attacked(plan: &Plan) -> (Hub, Vec<LabPeer>) {
    let (hub, mut peers) = match_of(120);
    let mut forger = Forger::new();
    let mut todo: Vec<_> = plan.clone();
    todo.sort_by_key(|(at, ..)| std::cmp::Reverse(*at));
    let both_heard = |forger: &Forger| forger.newest.iter().all(Option::is_some);
    for _ in 0..400 {
        step(&hub, &mut peers, &mut forger);
        let now = current_frame(&peers[VICTIM]);
        while todo.last().is_some_and(|(at, ..)| *at <= now) && both_heard(&forger) {
            let (_, relay, attack) = todo.pop().unwrap();
            let path = Path::ALL[usize::from(relay)];
            inject(&hub, &mut forger, path, &attack);
        }
    }
    (hub, peers)
}

fn runner(cases: u32) -> TestRunner {
    let config = ProptestConfig {
        cases,
        failure_persistence: None,
        max_shrink_iters: 64,
        ..ProptestConfig::default()
    };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

#[test]
fn whatever_a_broken_network_delivers_the_match_goes_on_to_its_end() {
    runner(24)
        .run(&plan(harmless()), |plan| {
            let (_hub, mut peers) = attacked(&plan);
            let episode = unharmed(&mut peers, 120);
            let refused = plan
                .iter()
                .filter(|(.., attack)| matches!(attack, Attack::Noise(_) | Attack::Payload(_)))
                .count() as u64;
            let counted: u64 = Path::ALL
                .iter()
                .flat_map(|path| malformed(&episode, *path).into_values())
                .sum();
            // A payload may happen to be a message that ggrs takes and ignores.
            prop_assert!(
                counted <= refused && counted * 10 >= refused * 9,
                "{counted} counted of {refused}"
            );
            Ok(())
        })
        .unwrap();
}

#[test]
fn whatever_the_peer_itself_says_nothing_panics_and_the_files_are_in_order() {
    runner(48)
        .run(&plan(ruinous()), |plan| {
            let (_hub, mut peers) = attacked(&plan);
            let over = |peer: &LabPeer| {
                matches!(peer.phase(), SessionPhase::Finished | SessionPhase::Failed)
            };
            run_until(&mut peers, frame(60), 600, |peers| peers.iter().all(over));
            for peer in &mut peers {
                peer.app.world_mut().write_message(AppExit::Success);
                peer.step(frame(60));
                let episodes = peer.episodes();
                prop_assert_eq!(episodes.len(), 1, "a file is there, whole or partial");
                prop_assert_eq!(check_episode(&episodes[0]), []);
            }
            Ok(())
        })
        .unwrap();
}
