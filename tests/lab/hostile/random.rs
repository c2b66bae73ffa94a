//! Random attacks: what a network can deliver does not disturb the match, what the peer itself can
//! send panics nothing.

use bevy::prelude::AppExit;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config as ProptestConfig, RngAlgorithm, TestRng, TestRunner};
use rollback_lab_link::wire::WIRE_VERSION;
use rollback_lab_record::check::check_episode;
use rollback_lab_test_kit::lab::run_until;

use super::*;

/// One attack on the victim.
#[derive(Clone, Debug)]
enum Attack {
    /// Random bytes with another wire version.
    Noise(Vec<u8>),
    /// Random bytes and a captured datagram, from an unknown peer.
    UnknownPeer(Vec<u8>, Index),
    /// A captured datagram again.
    Replay(Index),
    /// A random payload under a valid header.
    Payload(Vec<u8>),
    /// The payload of a captured datagram with one bit flipped, under a new header.
    Flip(Index, Index),
    /// A captured datagram with bits flipped, truncated or extended.
    Mutate(Index, Vec<(Index, u8)>, Option<Index>, Vec<u8>),
    /// Random bytes.
    Anything(Vec<u8>),
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..80),
        1 => prop::collection::vec(any::<u8>(), 0..1_300),
    ]
}

/// What a broken network or a third party can deliver.
fn from_the_network() -> impl Strategy<Value = Attack> {
    prop_oneof![
        bytes().prop_map(Attack::Noise),
        (bytes(), any::<Index>()).prop_map(|(bytes, index)| Attack::UnknownPeer(bytes, index)),
        any::<Index>().prop_map(Attack::Replay),
        bytes().prop_map(Attack::Payload),
    ]
}

/// Also what only the peer itself can send: it may end its own match, and nothing else.
fn from_the_peer() -> impl Strategy<Value = Attack> {
    let mutation = (
        any::<Index>(),
        prop::collection::vec((any::<Index>(), 1_u8..), 1..4),
        prop::option::weighted(0.2, any::<Index>()),
        prop_oneof![4 => Just(Vec::new()), 1 => bytes()],
    );
    prop_oneof![
        1 => from_the_network(),
        2 => (any::<Index>(), any::<Index>()).prop_map(|(index, bit)| Attack::Flip(index, bit)),
        3 => mutation.prop_map(|(index, flips, cut, grown)| Attack::Mutate(index, flips, cut, grown)),
        1 => bytes().prop_map(Attack::Anything),
    ]
}

fn inject(network: &VirtualNetwork, forger: &mut Forger, path: Path, attack: &Attack) {
    let known = |bytes: &[u8]| network.inject(VICTIM, path, ATTACKER, bytes);
    match attack {
        Attack::Noise(bytes) => {
            let mut bytes = bytes.clone();
            if let Some(first) = bytes.first_mut()
                && *first >> 4 == WIRE_VERSION
            {
                *first ^= 0x80;
            }
            known(&bytes);
        }
        Attack::UnknownPeer(bytes, index) => {
            let (_, real) = index.get(&forger.captured);
            for bytes in [bytes, real] {
                network.inject_unknown(VICTIM, path, peer_id(99), bytes);
            }
        }
        Attack::Replay(index) => {
            let (path, bytes) = index.get(&forger.captured);
            network.inject(VICTIM, *path, ATTACKER, bytes);
        }
        Attack::Payload(payload) => {
            let length = payload.len().min(MAX_DATAGRAM - HEADER_LEN);
            let bytes = forger.data(path, &payload[..length]);
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
            network.inject(VICTIM, path, ATTACKER, &bytes);
        }
        Attack::Anything(bytes) => known(bytes),
    }
}

/// Frame, whether over the relay, and attack.
type Plan = Vec<(i32, bool, Attack)>;

fn plan(attacks: impl Strategy<Value = Attack>) -> impl Strategy<Value = Plan> {
    prop::collection::vec((1..100_i32, any::<bool>(), attacks), 1..120)
}

/// Plays a match of 120 frames and carries out the plan.
fn attacked(plan: &Plan) -> (VirtualNetwork, Vec<LabPeer>) {
    let (network, mut peers) = match_of(120);
    let mut forger = Forger::new();
    let mut todo: Vec<_> = plan.clone();
    todo.sort_by_key(|(at, ..)| std::cmp::Reverse(*at));
    let both_captured = |forger: &Forger| forger.newest.iter().all(Option::is_some);
    for _ in 0..400 {
        step(&network, &mut peers, &mut forger);
        let now = current_frame(&peers[VICTIM]);
        while todo.last().is_some_and(|(at, ..)| *at <= now) && both_captured(&forger) {
            let (_, relay, attack) = todo.pop().unwrap();
            let path = Path::ALL[usize::from(relay)];
            inject(&network, &mut forger, path, &attack);
        }
    }
    (network, peers)
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
fn random_datagrams_from_the_network_do_not_disturb_the_match() {
    runner(24)
        .run(&plan(from_the_network()), |plan| {
            let (_hub, mut peers) = attacked(&plan);
            let episode = finish_unharmed(&mut peers, 120);
            let refused = plan
                .iter()
                .filter(|(.., attack)| matches!(attack, Attack::Noise(_) | Attack::Payload(_)))
                .count() as u64;
            let counted: u64 = Path::ALL
                .iter()
                .flat_map(|path| malformed(&episode, *path).into_values())
                .sum();
            // A random payload may be a valid message that ggrs ignores.
            prop_assert!(
                counted <= refused && counted * 10 >= refused * 9,
                "{counted} counted of {refused}"
            );
            Ok(())
        })
        .unwrap();
}

#[test]
fn random_datagrams_from_the_peer_panic_nothing_and_the_files_keep_the_invariants() {
    runner(48)
        .run(&plan(from_the_peer()), |plan| {
            let (_hub, mut peers) = attacked(&plan);
            let over = |peer: &LabPeer| {
                matches!(peer.phase(), SessionPhase::Finished | SessionPhase::Failed)
            };
            run_until(&mut peers, frame(60), 600, |peers| peers.iter().all(over));
            for peer in &mut peers {
                peer.app.world_mut().write_message(AppExit::Success);
                peer.step(frame(60));
                let episodes = peer.episodes();
                prop_assert_eq!(episodes.len(), 1, "there is a file, complete or partial");
                prop_assert_eq!(check_episode(&episodes[0]), []);
            }
            Ok(())
        })
        .unwrap();
}
