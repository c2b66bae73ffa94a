//! Lab sessions in one process, over an in-memory network in virtual time.
//!
//! A [`VirtualNetwork`] is the server, the relay and the data channels of one room. [`lab_peer`]
//! joins it with an app whose clock is stepped by hand, so that a match of minutes takes a second
//! and plays the same way every time. ggrs alone reads the wall clock, to repeat the packets of its
//! handshake.

#![expect(clippy::unwrap_used, reason = "a failed set-up is a failed test")]

mod network;

use std::time::Duration;

use bevy::prelude::*;
use bevy::state::app::StatesPlugin;
use bevy::time::TimeUpdateStrategy;
use bevy_ggrs::{
    GgrsConfig, GgrsSchedule, LocalInputs, LocalPlayers, PlayerInputs, ReadInputs, Rollback,
    RollbackApp, RollbackFrameCount, Session,
};
use bevy_matchbox::matchbox_socket::PeerId;
use bevy_rollback_lab::LabNet;
use bevy_rollback_lab::clock::LabClock;
use bevy_rollback_lab::internals::config::link_settings;
use bevy_rollback_lab::internals::life_cycle::OpenNetwork;
use bevy_rollback_lab::internals::sink::RecordSink;
use bevy_rollback_lab::prelude::*;
use bevy_rollback_lab::record::{EpisodeDocument, SessionDocument};
use rollback_lab_link::conditions::Conditions;
use rollback_lab_record::check::{check_episode, check_pair};
use serde::{Deserialize, Serialize};

use network::lcg;
pub use network::{Captured, Faults, VirtualEndpoint, VirtualNetwork, VirtualServer, peer_id};

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
