//! Forged datagrams: captured headers with other payloads, and ggrs messages that would harm ggrs.

use rollback_lab_link::ggrs_wire::{Bundle, messages};
use rollback_lab_link::link::IDLE_EPOCH;
use rollback_lab_link::wire::{DatagramKind, HEADER_LEN, Header, Path};
use rollback_lab_test_kit::lab::VirtualNetwork;
use serde::Serialize;

use super::ATTACKER;

/// Captures what the real peer sends, and builds datagrams that pass as its own.
pub(super) struct Forger {
    pub(super) newest: [Option<Header>; 2],
    pub(super) magic: u16,
    pub(super) captured: Vec<(Path, Vec<u8>)>,
    /// The episode in which the real peer plays.
    epoch: u16,
    seq: u16,
}

impl Forger {
    pub(super) fn new() -> Self {
        Self {
            newest: [None; 2],
            magic: 0,
            captured: Vec::new(),
            epoch: IDLE_EPOCH,
            // Counts down from the last sequence number: new to the victim and unused by the real
            // peer.
            seq: u16::MAX,
        }
    }

    pub(super) fn learn(&mut self, network: &VirtualNetwork) {
        for sent in network.captured() {
            if sent.from != ATTACKER {
                continue;
            }
            let (header, payload) = Header::decode(&sent.bytes).unwrap();
            self.newest[sent.path.index()] = Some(header);
            if header.kind == DatagramKind::Data {
                let message = messages(payload).next().unwrap().unwrap();
                self.epoch = header.epoch;
                self.magic = postcard::take_from_bytes(message).unwrap().0;
            }
            self.captured.push((sent.path, sent.bytes));
        }
    }

    /// A header as the real peer would send it now.
    pub(super) fn header(&self, path: Path, kind: DatagramKind) -> Header {
        let mut header = self.newest[path.index()].expect("the path was used");
        header.kind = kind;
        header.epoch = self.epoch;
        header
    }

    pub(super) fn data(&mut self, path: Path, payload: &[u8]) -> Vec<u8> {
        let mut header = self.header(path, DatagramKind::Data);
        header.data_seq = self.seq;
        self.seq -= 1;
        datagram(&header, payload)
    }

    pub(super) fn message(&mut self, path: Path, body: &RawBody) -> Vec<u8> {
        let magic = self.magic;
        let raw = Raw { magic, body };
        let mut bundle = Bundle::default();
        assert!(bundle.push(&postcard::to_stdvec(&raw).unwrap()));
        self.data(path, bundle.bytes())
    }

    pub(super) fn control(&self, path: Path, payload: &[u8]) -> Vec<u8> {
        datagram(&self.header(path, DatagramKind::Control), payload)
    }
}

pub(super) fn datagram(header: &Header, payload: &[u8]) -> Vec<u8> {
    let mut head = [0; HEADER_LEN];
    header.encode(&mut head);
    [&head, payload].concat()
}

/// ggrs's messages in their serialized layout; ggrs exports no constructors.
#[derive(Serialize)]
struct Raw<'a> {
    magic: u16,
    body: &'a RawBody,
}

#[derive(Clone, Debug, Serialize)]
pub(super) enum RawBody {
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
pub(super) struct RawInput {
    statuses: Vec<(bool, i32)>,
    disconnect_requested: bool,
    start_frame: i32,
    ack_frame: i32,
    bytes: Vec<u8>,
}

/// A valid input packet, changed by the test.
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

/// Run-length encodes `count` times the byte 0 or 255: a decompression bomb.
fn bomb(count: usize, ones: bool) -> Vec<u8> {
    varint(count << 2 | usize::from(ones) << 1 | 1, &[])
}

fn varint(mut code: usize, rest: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::new();
    while code > 127 {
        encoded.push((code & 127) as u8 | 128);
        code >>= 7;
    }
    encoded.push(code as u8);
    encoded.extend_from_slice(rest);
    encoded
}

/// Messages that would make ggrs panic, overflow, allocate without bound or desync, with the reason
/// for which each is refused.
pub(super) fn hostile_messages() -> Vec<(&'static str, RawBody)> {
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
