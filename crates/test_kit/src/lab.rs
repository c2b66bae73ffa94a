//! Lab sessions in one process, over an in-memory network in virtual time.
//!
//! A [`VirtualNetwork`] is the server, the relay and the data channels of one room. [`lab_peer`]
//! joins it with an app whose clock is stepped by hand, so that a match of minutes takes a second
//! and plays the same way every time. ggrs alone reads the wall clock, to repeat the packets of its
//! handshake.

#![expect(clippy::unwrap_used, reason = "a failed set-up is a failed test")]

use std::collections::{BTreeMap, VecDeque};
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
use bevy_rollback_lab::internals::life_cycle::OpenNetwork;
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

/// Faults of a [`VirtualNetwork`]; none by default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Direct packets from slot 0 are dropped.
    pub cut_from_first: bool,
    /// Direct packets from the other slots are dropped.
    pub cut_from_others: bool,
    /// Relayed packets are dropped.
    pub relay_dead: bool,
    /// Every packet is delivered twice.
    pub duplicate: bool,
    /// Game packets are dropped on both paths; everything else passes.
    pub game_dead: bool,
    /// No data channel opens to peers that join from now on.
    pub no_direct: bool,
    /// One direct packet in this many is dropped at random; 0 drops none.
    pub lose_one_in: u64,
    /// Direct packets between the peers in these two slots are dropped.
    pub cut_between: Option<[usize; 2]>,
}

#[derive(Default)]
struct Mailbox {
    id: Option<PeerId>,
    events: Vec<NetEvent>,
    inbox: VecDeque<(Path, PeerId, Vec<u8>)>,
    closed: bool,
    /// The server lists it no longer, whatever it does.
    unlisted: bool,
}

#[derive(Default)]
struct NetworkState {
    players: usize,
    relay: bool,
    peers: Vec<Mailbox>,
    faults: Faults,
    random: u64,
    relayed_game_packets: u64,
    relayed_game_bytes: u64,
    captured: Vec<Captured>,
}

/// A datagram that a peer sent, as captured by the [`VirtualNetwork`].
#[derive(Clone, Debug)]
pub struct Captured {
    /// Player slot of its sender.
    pub from: usize,
    /// The path it was sent on.
    pub path: Path,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Capacity of the capture; later datagrams are not kept.
const MAX_CAPTURED: usize = 4_096;

/// The server, the relay and the data channels of one room, in memory. Packets are delivered at the
/// next update of their receiver; delays and losses come from the peers' conditions and from
/// [`Faults`].
#[derive(Clone, Default)]
pub struct VirtualNetwork(Arc<Mutex<NetworkState>>);

impl VirtualNetwork {
    /// A room for `players`, on a lab server (`relay`) or on a stock signaling server.
    pub fn new(players: usize, relay: bool) -> Self {
        let network = Self::default();
        network.state().players = players;
        network.state().relay = relay;
        network
    }

    fn state(&self) -> MutexGuard<'_, NetworkState> {
        self.0.lock().unwrap()
    }

    /// Changes the faults, from the next packet on.
    pub fn faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.state().faults);
    }

    /// Game packets that the relay forwarded, and their payload bytes.
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

    /// The same with a sender that is not in the room.
    pub fn inject_unknown(&self, slot: usize, path: Path, from: PeerId, bytes: &[u8]) {
        self.state().peers[slot]
            .inbox
            .push_back((path, from, bytes.to_vec()));
    }

    /// Queues a network event for the peer in `slot`.
    pub fn emit(&self, slot: usize, event: NetEvent) {
        self.state().peers[slot].events.push(event);
    }

    /// Takes the datagrams that were sent since the last call, at most the first 4096.
    pub fn captured(&self) -> Vec<Captured> {
        std::mem::take(&mut self.state().captured)
    }

    /// The server takes the peer in `slot` off the room, as one whose connection it lost.
    pub fn unlist(&self, slot: usize) {
        let mut state = self.state();
        state.peers[slot].unlisted = true;
        state.list_members();
    }

    /// Whether the peer in `slot` has left the room.
    pub fn closed(&self, slot: usize) -> bool {
        self.state().peers[slot].closed
    }

    /// Joins the room as the next peer, for a game that brings its own session.
    pub fn net(&self, clock: &LabClock, link: LinkSettings, seed: u64) -> LabNet {
        LabNet::new(
            self.join(),
            clock.clone(),
            link,
            &Conditions::default(),
            seed,
        )
    }

    /// Joins the room as the next peer, for a test that wraps the network.
    pub fn join(&self) -> VirtualEndpoint {
        let mut state = self.state();
        let slot = state.peers.len();
        let id = peer_id(slot as u128 + 1);
        state.peers.push(Mailbox {
            id: Some(id),
            events: vec![NetEvent::IdAssigned(id)],
            ..Mailbox::default()
        });
        if state.relay {
            state.list_members();
        } else {
            state.peers[slot].events.push(NetEvent::NoRelay);
        }
        let directs = if state.faults.no_direct { 0 } else { slot };
        for other in (0..directs)
            .filter(|other| !state.peers[*other].closed)
            .collect::<Vec<_>>()
        {
            let other_id = state.peers[other].id.unwrap();
            state.peers[other].events.push(NetEvent::DirectOpened(id));
            state.peers[slot]
                .events
                .push(NetEvent::DirectOpened(other_id));
        }
        VirtualEndpoint {
            network: self.clone(),
            slot,
        }
    }
}

impl NetworkState {
    /// Sends the members of the room to all of them, as a server that relays does at every change.
    fn list_members(&mut self) {
        let listed = |peer: &Mailbox| !peer.closed && !peer.unlisted;
        let members: Vec<Member> = self
            .peers
            .iter()
            .enumerate()
            .filter(|(_, peer)| listed(peer))
            .map(|(slot, peer)| Member {
                slot: slot as u8,
                peer: *peer.id.unwrap().0.as_bytes(),
            })
            .collect();
        let capacity = self.players as u8;
        for (own, peer) in self.peers.iter_mut().enumerate() {
            if listed(peer) {
                peer.events.push(NetEvent::Roster(Roster {
                    slot: own as u8,
                    capacity,
                    nonce: [7; 16],
                    members: members.clone(),
                }));
            }
        }
    }
}

/// A linear congruential generator with Knuth's constants: enough to press buttons and to drop
/// packets.
fn lcg(state: u64) -> u64 {
    state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407)
}

/// The id of the n-th peer, counted from 1 in the order of joining.
pub fn peer_id(n: u128) -> PeerId {
    PeerId(uuid::Uuid::from_u128(n))
}

/// One peer's connection to a [`VirtualNetwork`].
pub struct VirtualEndpoint {
    network: VirtualNetwork,
    slot: usize,
}

impl Network for VirtualEndpoint {
    fn poll_events(&mut self, events: &mut Vec<NetEvent>) {
        events.append(&mut self.network.state().peers[self.slot].events);
    }

    fn send(
        &mut self,
        path: Path,
        peer: PeerId,
        kind: DatagramKind,
        datagram: &[u8],
    ) -> Result<(), SendFailed> {
        let mut state = self.network.state();
        if state.peers[self.slot].closed {
            return Err(SendFailed);
        }
        let own = state.peers[self.slot].id.unwrap();
        let faults = state.faults;
        let game = kind == DatagramKind::Data;
        if state.captured.len() < MAX_CAPTURED {
            state.captured.push(Captured {
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
            state.random = lcg(state.random);
            if (state.random >> 33).is_multiple_of(faults.lose_one_in) {
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
        let inbox = std::mem::take(&mut self.network.state().peers[self.slot].inbox);
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
        let mut state = self.network.state();
        if std::mem::replace(&mut state.peers[self.slot].closed, true) {
            return;
        }
        if state.relay {
            state.list_members();
            return;
        }
        let own = state.peers[self.slot].id.unwrap();
        for peer in &mut state.peers {
            peer.events.push(NetEvent::DirectClosed(own));
        }
    }
}

/// The rooms of a server by name, for peers that join at run time.
#[derive(Clone, Default)]
pub struct VirtualServer(Arc<Mutex<BTreeMap<String, VirtualNetwork>>>);

impl VirtualServer {
    /// The room called `name`, made for `players` at its first use.
    pub fn room(&self, name: &str, players: usize) -> VirtualNetwork {
        let mut rooms = self.0.lock().unwrap();
        let room = rooms.entry(name.to_owned());
        room.or_insert_with(|| VirtualNetwork::new(players, true))
            .clone()
    }
}

/// A peer in a menu: it joins rooms of `server` when [`JoinLab`] is triggered.
pub fn menu_peer(server: &VirtualServer, seed: u64) -> LabPeer {
    let clock = LabClock::manual(1_700_000_000_000 + seed);
    let mut app = App::new();
    let server = server.clone();
    let open = move |config: &LabConfig, clock: &LabClock| {
        LabNet::new(
            server.room(&config.room, config.players).join(),
            clock.clone(),
            link_settings(config),
            &Conditions::parse(&config.conditions).unwrap(),
            seed,
        )
    };
    app.insert_resource(clock.clone())
        .insert_resource(OpenNetwork(Box::new(open)))
        .insert_resource(TimeUpdateStrategy::ManualDuration(Duration::ZERO));
    add_lab(&mut app, RollbackLabPlugins::idle(), seed);
    app.finish();
    app.cleanup();
    LabPeer { app, clock }
}

/// Buttons of the test game.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys(pub u8);

/// The ggrs config of the test game.
pub type TestConfig = GgrsConfig<Keys, PeerId>;

/// The state of a player of the test game. Every input changes it, so that a wrong input is a
/// different checksum.
#[derive(Component, Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub struct Walker {
    /// The player's handle.
    pub player: usize,
    /// A hash of the seed and of all inputs so far.
    pub state: u64,
}

/// Generates the keys of the local player from the frame alone, so that a stall does not change
/// them.
#[derive(Resource, Clone, Copy)]
pub struct ScriptedKeys {
    /// Seed of the keys.
    pub seed: u64,
    /// Number of changes of the keys, and of the frames in which they happen.
    pub per: (u64, u64),
}

impl ScriptedKeys {
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
    /// Its virtual clock, which [`step`](Self::step) advances.
    pub clock: LabClock,
}

/// Joins `network` with a peer that plays the test game under `config`.
pub fn lab_peer(network: &VirtualNetwork, config: LabConfig, seed: u64) -> LabPeer {
    lab_peer_with(network, config, seed, |_| {})
}

/// The same, with `extend` applied to the app before it is finished.
pub fn lab_peer_with(
    network: &VirtualNetwork,
    config: LabConfig,
    seed: u64,
    extend: impl FnOnce(&mut App),
) -> LabPeer {
    let clock = LabClock::manual(1_700_000_000_000 + seed);
    let mut app = App::new();
    let net = LabNet::new(
        network.join(),
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

/// Adds the test game and a lab session, over the [`LabNet`] resource of the app or a real network.
pub fn add_game(app: &mut App, config: LabConfig, seed: u64) {
    add_lab(app, RollbackLabPlugins::new(config), seed);
}

fn add_lab(app: &mut App, plugins: RollbackLabPlugins<TestConfig>, seed: u64) {
    let plugins = plugins.build();
    // A signal ends the test, which does not look for an `AppExit`.
    #[cfg(unix)]
    let plugins = plugins.disable::<bevy_rollback_lab::ExitOnSignalPlugin>();
    app.add_plugins((MinimalPlugins, StatesPlugin))
        .add_plugins(plugins)
        .add_observer(|starting: On<EpisodeStarting>, mut commands: Commands| {
            spawn_walkers(&mut commands, starting.players, starting.seed);
        });
    add_walkers(app, seed);
}

/// Adds the test game alone, for an app that starts its own ggrs session.
pub fn add_walkers(app: &mut App, seed: u64) {
    app.insert_resource(ScriptedKeys { seed, per: (1, 12) })
        .rollback_component_with_copy::<Walker>()
        .checksum_component_with_hash::<Walker>()
        .add_systems(ReadInputs, press)
        .add_systems(GgrsSchedule, walk);
}

/// Spawns one walker for each player.
pub fn spawn_walkers(commands: &mut Commands, players: usize, seed: u64) {
    for player in 0..players {
        let state = seed;
        commands.spawn((Walker { player, state }, Rollback));
    }
}

fn press(
    scripted: Res<ScriptedKeys>,
    frame: Res<RollbackFrameCount>,
    local: Res<LocalPlayers>,
    mut commands: Commands,
) {
    let keys = scripted.keys(u64::from(frame.0.unsigned_abs()));
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
    /// Advances the clock by `by` and updates the app.
    pub fn step(&mut self, by: Duration) {
        self.clock.advance(by);
        self.update(by);
    }

    /// Updates the app, for which `by` has passed; the clock is where it is.
    pub fn update(&mut self, by: Duration) {
        self.app
            .insert_resource(TimeUpdateStrategy::ManualDuration(by));
        self.app.update();
    }

    /// The same as [`step`](Self::step) while the game is paused: Bevy's time does not advance.
    pub fn poll_paused(&mut self, by: Duration) {
        self.clock.advance(by);
        self.update(Duration::ZERO);
    }

    /// Triggers an event, as a menu does between two updates.
    pub fn trigger<'a, E: Event<Trigger<'a>: Default>>(&mut self, event: E) {
        self.app.world_mut().trigger(event);
    }

    /// Applies `conditions` when the episode has started. ggrs repeats the packets of its handshake
    /// by the wall clock, which virtual time outruns.
    pub fn once_playing(&mut self, conditions: &Conditions) {
        let conditions = conditions.clone();
        self.app
            .add_observer(move |_: On<EpisodeStarted>, net: Res<LabNet>| {
                net.set_conditions(&conditions);
            });
    }

    /// The episode documents that were written so far.
    pub fn episodes(&self) -> Vec<EpisodeDocument> {
        let files = self.app.world().resource::<RecordSink>().files();
        files
            .iter()
            .filter(|(path, _)| path.to_string_lossy().contains("episode-"))
            .map(|(_, bytes)| EpisodeDocument::parse(std::str::from_utf8(bytes).unwrap()).unwrap())
            .collect()
    }

    /// The session documents that were written so far, the newest version of each file.
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

    /// The phase of the session, and why it failed.
    pub fn failure(&self) -> (SessionPhase, Option<String>) {
        let session = self.app.world().resource::<LabSession<TestConfig>>();
        (session.phase(), session.failure().map(ToString::to_string))
    }

    /// The phase of the session.
    pub fn phase(&self) -> SessionPhase {
        self.app
            .world()
            .resource::<LabSession<TestConfig>>()
            .phase()
    }
}

/// The length of a frame at `fps`, rounded up so that every update runs one ggrs step.
pub fn frame(fps: u32) -> Duration {
    Duration::from_nanos(1_000_000_000 / u64::from(fps) + 1)
}

/// Steps all peers until `done`, for at most `limit` updates; returns whether it was done.
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

/// Plays a session to its end and returns the documents of every peer, [`checked`].
pub fn play(peers: &mut [LabPeer], by: Duration, limit: usize) -> Vec<Vec<EpisodeDocument>> {
    let done = run_until(peers, by, limit, |peers| {
        peers
            .iter()
            .all(|peer| peer.phase() == SessionPhase::Finished)
    });
    let phases: Vec<_> = peers.iter().map(LabPeer::failure).collect();
    assert!(
        done,
        "all sessions finish within {limit} updates, phases are {phases:?}"
    );
    checked(peers)
}

/// Plays an episode of two players at 60 Hz under the conditions of `spec`; returns the files in
/// the order of players, [`checked`].
pub fn play_under(spec: &str, frames: u32, input_delay: u32) -> Vec<EpisodeDocument> {
    let network = VirtualNetwork::new(2, true);
    let conditions = Conditions::parse(spec).unwrap();
    let mut peers = [1, 2].map(|seed| {
        let config = LabConfig::new("ws://lab", "room")
            .frame_limit(frames)
            .input_delay(input_delay)
            .episodes(1)
            .no_files();
        let mut peer = lab_peer(&network, config, seed);
        peer.once_playing(&conditions);
        peer
    });
    let documents = play(&mut peers, frame(60), frames as usize * 2 + 3_000);
    let mut files: Vec<_> = documents.into_iter().flatten().collect();
    files.sort_by_key(|file| file.session.local_player_id);
    files
}

/// The documents of every peer, which must fit their schema, keep the invariants and agree with
/// those of the first peer.
pub fn checked(peers: &[LabPeer]) -> Vec<Vec<EpisodeDocument>> {
    let documents: Vec<_> = peers.iter().map(LabPeer::episodes).collect();
    assert_schemas(peers);
    for episode in documents.iter().flatten() {
        let violations = check_episode(episode);
        assert!(
            violations.is_empty(),
            "the invariants hold: {violations:#?}"
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

/// Every file that was written so far is valid under its committed schema.
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
