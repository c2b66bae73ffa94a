//! Hostile datagrams and server messages during a lab session: nothing panics, the match goes on to
//! its end, and the file counts by reason what was dropped.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test may fail like the test itself"
)]

use std::collections::BTreeMap;

use bevy_ggrs::RollbackFrameCount;
use bevy_rollback_lab::internals::transport::network::NetEvent;
use bevy_rollback_lab::prelude::*;
use bevy_rollback_lab::record::EpisodeDocument;
use rollback_lab_link::wire::relay::{DropReason, Member, Notice, Roster};
use rollback_lab_link::wire::{
    ControlMessage, DatagramKind, HEADER_LEN, MAX_DATAGRAM, Path, PathAck, encode_control,
};
use rollback_lab_test_kit::lab::{LabPeer, VirtualNetwork, frame, lab_peer, peer_id, play};

mod forger;
mod random;

use forger::{Forger, RawBody, datagram, hostile_messages};

/// The slot of the attacked peer.
const VICTIM: usize = 0;
/// The slot of the peer whose datagrams are forged.
const ATTACKER: usize = 1;
/// Frames during which the victim is attacked.
const ATTACKED: std::ops::Range<i32> = 20..32;

fn match_of(frames: u32) -> (VirtualNetwork, Vec<LabPeer>) {
    let network = VirtualNetwork::new(2, true);
    let config = || {
        LabConfig::new("ws://lab", "room")
            .frame_limit(frames)
            .episodes(1)
            .no_files()
    };
    let peers = vec![
        lab_peer(&network, config(), 1),
        lab_peer(&network, config(), 2),
    ];
    (network, peers)
}

fn current_frame(peer: &LabPeer) -> i32 {
    peer.app.world().resource::<RollbackFrameCount>().0
}

/// Updates all peers and passes what they sent to the forger.
fn step(network: &VirtualNetwork, peers: &mut [LabPeer], forger: &mut Forger) {
    for peer in peers.iter_mut() {
        peer.step(frame(60));
    }
    forger.learn(network);
}

/// Plays until the next frame of the victim is `at`.
fn until_frame(network: &VirtualNetwork, peers: &mut [LabPeer], forger: &mut Forger, at: i32) {
    for _ in 0..2_000 {
        step(network, peers, forger);
        if peers[VICTIM].phase() == SessionPhase::Playing && current_frame(&peers[VICTIM]) >= at {
            return;
        }
    }
    panic!("frame {at} is reached");
}

/// The counts of malformed datagrams on a path, by reason.
fn malformed(episode: &EpisodeDocument, path: Path) -> BTreeMap<String, u64> {
    let record = episode
        .quality
        .paths
        .iter()
        .find(|record| record.path == path)
        .expect("the file lists every path");
    record.datagrams.malformed.clone()
}

/// Plays to the end and asserts that no frame stalled and no state differed; returns the victim's
/// file.
fn finish_unharmed(peers: &mut [LabPeer], frames: i32) -> EpisodeDocument {
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
fn hostile_ggrs_messages_under_a_valid_header_are_counted_by_reason() {
    let (network, mut peers) = match_of(300);
    let mut forger = Forger::new();
    until_frame(&network, &mut peers, &mut forger, ATTACKED.start);
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for _ in ATTACKED {
        for path in Path::ALL {
            for (reason, body) in hostile_messages() {
                let bytes = forger.message(path, &body);
                network.inject(VICTIM, path, ATTACKER, &bytes);
                *expected.entry(reason.to_owned()).or_default() += 1;
            }
            let real = forger.magic;
            for magic in [0, real ^ 1] {
                forger.magic = magic;
                let bytes = forger.message(path, &RawBody::SyncReply(7));
                network.inject(VICTIM, path, ATTACKER, &bytes);
                *expected.entry("magic".to_owned()).or_default() += 1;
            }
            forger.magic = real;
            let bytes = forger.data(path, &[0xff; 40]);
            network.inject(VICTIM, path, ATTACKER, &bytes);
            *expected.entry("notAMessage".to_owned()).or_default() += 1;
            // A valid request of the handshake at the wrong time is ignored, not counted.
            let bytes = forger.message(path, &RawBody::SyncRequest(1));
            network.inject(VICTIM, path, ATTACKER, &bytes);
        }
        step(&network, &mut peers, &mut forger);
    }
    let episode = finish_unharmed(&mut peers, 300);
    let counted = malformed(&episode, Path::Direct);
    for count in expected.values_mut() {
        *count /= 2;
    }
    assert_eq!(counted, expected, "every refusal is counted by its reason");
    assert_eq!(malformed(&episode, Path::Relay), expected);
}

#[test]
fn malformed_and_forged_headers_are_counted_by_reason() {
    let (network, mut peers) = match_of(300);
    let mut forger = Forger::new();
    until_frame(&network, &mut peers, &mut forger, ATTACKED.start);
    let rounds = ATTACKED.len() as u64;
    for _ in ATTACKED {
        for path in Path::ALL {
            let good = datagram(&forger.header(path, DatagramKind::Heartbeat), &[]);
            let mut other_version = good.clone();
            other_version[0] = other_version[0] & 15 | 0x10;
            let mut other_kind = good.clone();
            other_kind[0] |= 8;
            let mut other_flags = good.clone();
            other_flags[1] |= 0x80;
            let mut ack_map = good.clone();
            ack_map[16..20].copy_from_slice(&[2, 0, 0, 0]);
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
                other_kind,
                other_flags,
                ack_map,
                datagram(&never_sent, &[]),
                datagram(&forger.header(path, DatagramKind::Heartbeat), &[1]),
                datagram(&forger.header(path, DatagramKind::Probe), &[1]),
                datagram(&forger.header(path, DatagramKind::Data), &[]),
                datagram(&forger.header(path, DatagramKind::Control), &[]),
            ] {
                network.inject(VICTIM, path, ATTACKER, &bytes);
                // Nothing from an unknown peer is counted, valid or not.
                network.inject_unknown(VICTIM, path, peer_id(99), &bytes);
                network.inject_unknown(VICTIM, path, peer_id(99), &good);
            }
            // A valid packet of another episode is dropped without being counted as malformed.
            let mut other_epoch = forger.header(path, DatagramKind::Data);
            other_epoch.epoch ^= 7;
            network.inject(VICTIM, path, ATTACKER, &datagram(&other_epoch, &[0; 9]));
        }
        step(&network, &mut peers, &mut forger);
    }
    let episode = finish_unharmed(&mut peers, 300);
    let expected = [
        ("ackBeyondSent", rounds),
        ("ackMap", rounds),
        ("flags", rounds),
        ("kind", rounds),
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
fn malformed_control_messages_are_counted_by_reason() {
    let (network, mut peers) = match_of(300);
    let mut forger = Forger::new();
    until_frame(&network, &mut peers, &mut forger, ATTACKED.start);
    let bye = ControlMessage::Bye {
        reason: rollback_lab_link::wire::ByeReason::Finished,
    };
    let mut long_name = encode_control(5, 0, None).unwrap();
    // A hello whose schema name has 17 bytes, one more than allowed.
    long_name.extend([0, 1, 17]);
    long_name.extend([b'x'; 17]);
    long_name.extend([1, b'g', 1, b'v', 2, 60, 2, 8, 10, 0, 0, 0]);
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
                network.inject(VICTIM, path, ATTACKER, &bytes);
                // The leave message of an unknown peer is ignored.
                let bytes = encode_control(4, 0, Some(&bye)).unwrap();
                let bytes = forger.control(path, &bytes);
                network.inject_unknown(VICTIM, path, peer_id(99), &bytes);
            }
            *expected.entry((*reason).to_owned()).or_default() += 1;
        }
        step(&network, &mut peers, &mut forger);
    }
    let episode = finish_unharmed(&mut peers, 300);
    for path in Path::ALL {
        assert_eq!(malformed(&episode, path), expected, "{path}");
    }
}

#[test]
fn nonsense_from_the_server_does_not_disturb_a_running_match() {
    let (network, mut peers) = match_of(300);
    let mut forger = Forger::new();
    until_frame(&network, &mut peers, &mut forger, ATTACKED.start);
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
        // The peer still sends: only the server lost its connection.
        NetEvent::DirectClosed(peer_id(2)),
        NetEvent::NoRelay,
        NetEvent::NoRelay,
    ];
    for _ in ATTACKED {
        for event in &nonsense {
            network.emit(VICTIM, event.clone());
        }
        step(&network, &mut peers, &mut forger);
    }
    finish_unharmed(&mut peers, 300);
}
