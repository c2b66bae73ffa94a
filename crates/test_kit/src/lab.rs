//! Lab sessions in one process, over an in-memory network in virtual time: a hub that is server,
//! relay and every data channel at once, and apps that are stepped by hand.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "shared by several test binaries, none of which uses all of it; a failed set-up is a failed test"
)]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bevy::prelude::*;
use bevy::state::app::StatesPlugin;
use bevy::time::TimeUpdateStrategy;
use bevy_ggrs::{
    GgrsConfig, GgrsSchedule, LocalInputs, LocalPlayers, PlayerInputs, ReadInputs, Rollback,
    RollbackApp, RollbackFrameCount, Session,
};
use bevy_matchbox::matchbox_socket::{CandidatePair, PeerId};
use bevy_rollback_lab::LabNet;
use bevy_rollback_lab::clock::LabClock;
use bevy_rollback_lab::internals::config::link_settings;
use bevy_rollback_lab::internals::sink::RecordSink;
use bevy_rollback_lab::internals::transport::network::{NetEvent, Network, Received};
use bevy_rollback_lab::prelude::*;
use bevy_rollback_lab::record::{EpisodeDocument, SessionDocument};
use rollback_lab_link::conditions::Conditions;
use rollback_lab_link::link::{LinkSettings, SendFailed};
use rollback_lab_link::wire::relay::{Member, Roster};
use rollback_lab_link::wire::{DatagramKind, HEADER_LEN, Path};
use rollback_lab_record::check::{check_episode, check_pair};
use serde::{Deserialize, Serialize};

/// What a test does to the network between two peers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Direct packets from slot 0 to others vanish.
    pub cut_from_first: bool,
    /// Direct packets from other slots vanish.
    pub cut_from_others: bool,
    /// Relayed packets vanish.
    pub relay_dead: bool,
    /// Every packet is delivered twice.
    pub duplicate: bool,
    /// Game packets vanish on both paths; everything else passes.
    pub game_dead: bool,
    /// No data channel opens to peers that join from now on.
    pub no_direct: bool,
    /// One direct packet in so many is lost; 0 loses none.
    pub lose_one_in: u64,
    /// No direct packet passes between the peers in these two slots.
    pub cut_between: Option<[usize; 2]>,
}

#[derive(Default)]
struct Mailbox {
    id: Option<PeerId>,
    events: Vec<NetEvent>,
    inbox: VecDeque<(Path, PeerId, Vec<u8>)>,
    closed: bool,
}

#[derive(Default)]
struct HubState {
    players: usize,
    relay: bool,
    peers: Vec<Mailbox>,
    faults: Faults,
    dice: u64,
    relayed_game_packets: u64,
    relayed_game_bytes: u64,
    tapped: Vec<Tapped>,
}

/// A datagram that passed the hub.
#[derive(Clone, Debug)]
pub struct Tapped {
    /// Slot of its sender.
    pub from: usize,
    /// Its path.
    pub path: Path,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Datagrams that the hub remembers at most.
const TAPPED: usize = 4_096;

/// Server, relay and data channels of one room.
#[derive(Clone, Default)]
pub struct Hub(Arc<Mutex<HubState>>);

impl Hub {
    /// A room for `players`, on our server (`relay`) or on a stock one.
    pub fn new(players: usize, relay: bool) -> Self {
        let hub = Self::default();
        hub.state().players = players;
        hub.state().relay = relay;
        hub
    }

    fn state(&self) -> MutexGuard<'_, HubState> {
        self.0.lock().unwrap()
    }

    /// Changes the faults.
    pub fn faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.state().faults);
    }

    /// Game packets and bytes that the relay forwarded.
    pub fn relayed_game(&self) -> (u64, u64) {
        let state = self.state();
        (state.relayed_game_packets, state.relayed_game_bytes)
    }

    /// Puts bytes into the inbox of the peer in `slot`, as if `from` had sent them.
    pub fn inject(&self, slot: usize, path: Path, from: usize, bytes: &[u8]) {
        let mut state = self.state();
        let from = state.peers[from].id.unwrap();
        state.peers[slot]
            .inbox
            .push_back((path, from, bytes.to_vec()));
    }

    /// The same from a peer that nobody knows.
    pub fn inject_unknown(&self, slot: usize, path: Path, from: PeerId, bytes: &[u8]) {
        self.state().peers[slot]
            .inbox
            .push_back((path, from, bytes.to_vec()));
    }

    /// Tells the peer in `slot` of something outside.
    pub fn tell(&self, slot: usize, event: NetEvent) {
        self.state().peers[slot].events.push(event);
    }

    /// The datagrams that passed since the last call, the first few thousand at most.
    pub fn tapped(&self) -> Vec<Tapped> {
        std::mem::take(&mut self.state().tapped)
    }

    /// Whether the peer in `slot` has left the room.
    pub fn closed(&self, slot: usize) -> bool {
        self.state().peers[slot].closed
    }

    /// The next peer's way into the room.
    pub fn net(&self, clock: &LabClock, link: LinkSettings, seed: u64) -> LabNet {
        LabNet::new(
            self.join(),
            clock.clone(),
            link,
            &Conditions::default(),
            seed,
        )
    }

    /// The next peer's network, for a test that puts one of its own around it.
    pub fn join(&self) -> MemoryNetwork {
        let mut state = self.state();
        let slot = state.peers.len();
        let id = peer_id(slot as u128 + 1);
        state.peers.push(Mailbox {
            id: Some(id),
            events: vec![NetEvent::IdAssigned(id)],
            ..Mailbox::default()
        });
        let members: Vec<Member> = state
            .peers
            .iter()
            .enumerate()
            .map(|(slot, peer)| Member {
                slot: slot as u8,
                peer: *peer.id.unwrap().0.as_bytes(),
            })
            .collect();
        let (players, relay) = (state.players as u8, state.relay);
        for (own, peer) in state.peers.iter_mut().enumerate() {
            if relay {
                peer.events.push(NetEvent::Roster(Roster {
                    slot: own as u8,
                    capacity: players,
                    nonce: [7; 16],
                    members: members.clone(),
                }));
            } else if own == slot {
                peer.events.push(NetEvent::NoRelay);
            }
        }
        let directs = if state.faults.no_direct { 0 } else { slot };
        for other in 0..directs {
            let other_id = state.peers[other].id.unwrap();
            state.peers[other].events.push(NetEvent::DirectOpened(id));
            state.peers[slot]
                .events
                .push(NetEvent::DirectOpened(other_id));
        }
        MemoryNetwork {
            hub: self.clone(),
            slot,
        }
    }
}

/// An LCG is enough to press buttons and to lose packets; the constants are Knuth's.
fn lcg(state: u64) -> u64 {
    state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407)
}

/// The id of the n-th test peer.
pub fn peer_id(n: u128) -> PeerId {
    PeerId(uuid::Uuid::from_u128(n))
}

/// One peer's way into the room.
pub struct MemoryNetwork {
    hub: Hub,
    slot: usize,
}

impl Network for MemoryNetwork {
    fn poll_events(&mut self, events: &mut Vec<NetEvent>) {
        events.append(&mut self.hub.state().peers[self.slot].events);
    }

    fn send(
        &mut self,
        path: Path,
        peer: PeerId,
        kind: DatagramKind,
        datagram: &[u8],
    ) -> Result<(), SendFailed> {
        let mut state = self.hub.state();
        let own = state.peers[self.slot].id.unwrap();
        let faults = state.faults;
        let game = kind == DatagramKind::Data;
        if state.tapped.len() < TAPPED {
            state.tapped.push(Tapped {
                from: self.slot,
                path,
                bytes: datagram.to_vec(),
            });
        }
        if game && faults.game_dead {
            return Ok(());
        }
        let to = state.peers.iter().position(|known| known.id == Some(peer));
        let between =
            |cut: [usize; 2]| cut.contains(&self.slot) && to.is_some_and(|to| cut.contains(&to));
        if path == Path::Direct && faults.cut_between.is_some_and(between) {
            return Ok(());
        }
        match path {
            Path::Direct if self.slot == 0 && faults.cut_from_first => return Ok(()),
            Path::Direct if self.slot != 0 && faults.cut_from_others => return Ok(()),
            Path::Relay if faults.relay_dead => return Ok(()),
            Path::Relay if game => {
                state.relayed_game_packets += 1;
                state.relayed_game_bytes += (datagram.len() - HEADER_LEN) as u64;
            }
            _ => {}
        }
        if path == Path::Direct && faults.lose_one_in > 0 {
            state.dice = lcg(state.dice);
            if (state.dice >> 33).is_multiple_of(faults.lose_one_in) {
                return Ok(());
            }
        }
        let copies = if faults.duplicate { 2 } else { 1 };
        let to = state
            .peers
            .iter_mut()
            .find(|mailbox| mailbox.id == Some(peer));
        if let Some(mailbox) = to.filter(|mailbox| !mailbox.closed) {
            for _ in 0..copies {
                mailbox.inbox.push_back((path, own, datagram.to_vec()));
            }
        }
        Ok(())
    }

    fn receive(&mut self, now: Duration, sink: &mut dyn FnMut(Received<'_>)) {
        let inbox = std::mem::take(&mut self.hub.state().peers[self.slot].inbox);
        for (path, from, bytes) in inbox {
            sink(Received {
                path,
                from,
                at: now,
                bytes: &bytes,
            });
        }
    }

    fn candidate_pair(&self, _peer: PeerId) -> Option<CandidatePair> {
        None
    }

    fn close(&mut self) {
        self.hub.state().peers[self.slot].closed = true;
    }
}

/// Buttons of the test game.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys(pub u8);

/// The ggrs config of the test game.
pub type TestConfig = GgrsConfig<Keys, PeerId>;

/// Where a player of the test game is: every input changes it, so that any wrong input shows.
#[derive(Component, Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub struct Walker {
    /// The player's handle.
    pub player: usize,
    /// A hash of all inputs so far.
    pub state: u64,
}

/// How the local player presses: by the frame alone, so that a stall changes nothing.
#[derive(Resource, Clone, Copy)]
pub struct Presser {
    /// Seed of the presses.
    pub seed: u64,
    /// Changes of the buttons in so many frames.
    pub per: (u64, u64),
}

impl Presser {
    /// The keys held in `frame`.
    pub fn keys(self, frame: u64) -> Keys {
        let (changes, frames) = self.per;
        let slot = (frame + self.seed * 5) * changes / frames;
        Keys((lcg(lcg(slot ^ (self.seed << 32))) >> 40) as u8 & 0x0f)
    }
}

/// One peer: its app and its clock.
pub struct LabPeer {
    /// The app.
    pub app: App,
    /// Its virtual clock.
    pub clock: LabClock,
}

/// A peer of `hub` with `config`; its network is in memory, its time is virtual.
pub fn lab_peer(hub: &Hub, config: LabConfig, seed: u64) -> LabPeer {
    lab_peer_with(hub, config, seed, |_| {})
}

/// The same with more plugins than the test game has.
pub fn lab_peer_with(
    hub: &Hub,
    config: LabConfig,
    seed: u64,
    extend: impl FnOnce(&mut App),
) -> LabPeer {
    let clock = LabClock::manual(1_700_000_000_000 + seed);
    let mut app = App::new();
    let net = LabNet::new(
        hub.join(),
        clock.clone(),
        link_settings(&config),
        &Conditions::parse(&config.conditions).unwrap(),
        seed,
    );
    app.insert_resource(clock.clone())
        .insert_resource(net)
        .insert_resource(TimeUpdateStrategy::ManualDuration(Duration::ZERO));
    add_game(&mut app, config, seed);
    extend(&mut app);
    app.finish();
    app.cleanup();
    LabPeer { app, clock }
}

/// The test game and its lab session, over whichever network the app has.
pub fn add_game(app: &mut App, config: LabConfig, seed: u64) {
    app.add_plugins((MinimalPlugins, StatesPlugin))
        .add_plugins(RollbackLabPlugins::<TestConfig>::new(config))
        .add_observer(|starting: On<EpisodeStarting>, mut commands: Commands| {
            spawn_walkers(&mut commands, starting.players, starting.seed);
        });
    add_walkers(app, seed);
}

/// The test game alone, over whichever session the app has.
pub fn add_walkers(app: &mut App, seed: u64) {
    app.insert_resource(Presser { seed, per: (1, 12) })
        .rollback_component_with_copy::<Walker>()
        .checksum_component_with_hash::<Walker>()
        .add_systems(ReadInputs, press)
        .add_systems(GgrsSchedule, walk);
}

/// One walker for each player.
pub fn spawn_walkers(commands: &mut Commands, players: usize, seed: u64) {
    for player in 0..players {
        let state = seed;
        commands.spawn((Walker { player, state }, Rollback));
    }
}

fn press(
    presser: Res<Presser>,
    frame: Res<RollbackFrameCount>,
    local: Res<LocalPlayers>,
    mut commands: Commands,
) {
    let keys = presser.keys(u64::from(frame.0.unsigned_abs()));
    commands.insert_resource(LocalInputs::<TestConfig>(
        local.0.iter().map(|handle| (*handle, keys)).collect(),
    ));
}

/// Moves every walker by its player's input.
pub fn walk(inputs: Res<PlayerInputs<TestConfig>>, mut walkers: Query<&mut Walker>) {
    for mut walker in &mut walkers {
        let (keys, _) = inputs[walker.player];
        walker.state = walker
            .state
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_add(u64::from(keys.0) + 1);
    }
}

impl LabPeer {
    /// One update after `by` of virtual time.
    pub fn step(&mut self, by: Duration) {
        self.clock.advance(by);
        self.app
            .insert_resource(TimeUpdateStrategy::ManualDuration(by));
        self.app.update();
    }

    /// One update after `by` of virtual time in which the game's own time stands still.
    pub fn poll_paused(&mut self, by: Duration) {
        self.clock.advance(by);
        self.app
            .insert_resource(TimeUpdateStrategy::ManualDuration(Duration::ZERO));
        self.app.update();
    }

    /// Puts `conditions` in force once everybody is synchronized: ggrs repeats the packets of its
    /// handshake by the wall clock, which virtual time outruns.
    pub fn once_playing(&mut self, conditions: &Conditions) {
        let conditions = conditions.clone();
        self.app
            .add_observer(move |_: On<EpisodeStarted>, net: Res<LabNet>| {
                net.set_conditions(&conditions);
            });
    }

    /// The episode documents written so far.
    pub fn episodes(&self) -> Vec<EpisodeDocument> {
        let files = self.app.world().resource::<RecordSink>().files();
        files
            .iter()
            .filter(|(path, _)| path.to_string_lossy().contains("episode-"))
            .map(|(_, bytes)| EpisodeDocument::parse(std::str::from_utf8(bytes).unwrap()).unwrap())
            .collect()
    }

    /// The session documents written so far, by the newest version of each file.
    pub fn sessions(&self) -> Vec<SessionDocument> {
        let files = self.app.world().resource::<RecordSink>().files();
        files
            .iter()
            .filter(|(path, _)| path.to_string_lossy().contains("session.player"))
            .map(|(_, bytes)| SessionDocument::parse(std::str::from_utf8(bytes).unwrap()).unwrap())
            .collect()
    }

    /// The next frame to simulate; 0 outside an episode.
    pub fn frame(&self) -> i32 {
        match self.app.world().get_resource::<Session<TestConfig>>() {
            Some(Session::P2P(session)) => session.current_frame(),
            _ => 0,
        }
    }

    /// Where the session stands.
    pub fn phase(&self) -> SessionPhase {
        self.app
            .world()
            .resource::<LabSession<TestConfig>>()
            .phase()
    }
}

/// A frame at `fps`, rounded up so that every update runs one ggrs step.
pub fn frame(fps: u32) -> Duration {
    Duration::from_nanos(1_000_000_000 / u64::from(fps) + 1)
}

/// Steps all peers alike until `done` or `limit` updates; tells whether it was done.
pub fn run_until(
    peers: &mut [LabPeer],
    by: Duration,
    limit: usize,
    mut done: impl FnMut(&[LabPeer]) -> bool,
) -> bool {
    for _ in 0..limit {
        for peer in peers.iter_mut() {
            peer.step(by);
        }
        if done(peers) {
            return true;
        }
    }
    false
}

/// Plays a session to its end and returns the documents of every peer, checked: the identities
/// hold in each, and all of them agree.
pub fn play(peers: &mut [LabPeer], by: Duration, limit: usize) -> Vec<Vec<EpisodeDocument>> {
    let done = run_until(peers, by, limit, |peers| {
        peers
            .iter()
            .all(|peer| peer.phase() == SessionPhase::Finished)
    });
    let phases: Vec<_> = peers.iter().map(LabPeer::phase).collect();
    assert!(
        done,
        "all sessions finish within {limit} updates, but stand in {phases:?}"
    );
    checked(peers)
}

/// Plays an episode of two at 60 Hz under the conditions of `spec`; the files by player, checked.
pub fn play_under(spec: &str, frames: u32, input_delay: u32) -> Vec<EpisodeDocument> {
    let hub = Hub::new(2, true);
    let conditions = Conditions::parse(spec).unwrap();
    let mut peers = [1, 2].map(|seed| {
        let config = LabConfig::new("ws://lab", "room")
            .frame_limit(frames)
            .input_delay(input_delay)
            .episodes(1)
            .no_files();
        let mut peer = lab_peer(&hub, config, seed);
        peer.once_playing(&conditions);
        peer
    });
    let documents = play(&mut peers, frame(60), frames as usize * 2 + 3_000);
    let mut files: Vec<_> = documents.into_iter().flatten().collect();
    files.sort_by_key(|file| file.session.local_player_id);
    files
}

/// The documents of every peer, after the identities were checked in each and between them.
pub fn checked(peers: &[LabPeer]) -> Vec<Vec<EpisodeDocument>> {
    let documents: Vec<_> = peers.iter().map(LabPeer::episodes).collect();
    assert_schemas(peers);
    for episode in documents.iter().flatten() {
        let violations = check_episode(episode);
        assert!(
            violations.is_empty(),
            "the identities hold: {violations:#?}"
        );
    }
    for others in &documents[1..] {
        for (ours, theirs) in documents[0].iter().zip(others) {
            let violations = check_pair(ours, theirs);
            assert!(violations.is_empty(), "the files agree: {violations:#?}");
        }
    }
    documents
}

/// Every file written so far is what its committed schema says.
fn assert_schemas(peers: &[LabPeer]) {
    let schema = |text| jsonschema::validator_for(&serde_json::from_str(text).unwrap()).unwrap();
    let episode = schema(rollback_lab_record::schema::EPISODE);
    let session = schema(rollback_lab_record::schema::SESSION);
    for (path, bytes) in peers
        .iter()
        .flat_map(|peer| peer.app.world().resource::<RecordSink>().files())
    {
        let validator = if path.to_string_lossy().contains("episode-") {
            &episode
        } else {
            &session
        };
        let document = serde_json::from_slice(&bytes).unwrap();
        let errors: Vec<_> = validator
            .iter_errors(&document)
            .map(|error| error.to_string())
            .collect();
        assert!(
            errors.is_empty(),
            "{} fits its schema: {errors:#?}",
            path.display()
        );
    }
}
