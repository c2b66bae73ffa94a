//! Lab sessions over real WebRTC on loopback: each peer is an app on a thread of its own, at the
//! wall clock's pace, and a witness stands between it and the network.

#![allow(
    dead_code,
    reason = "shared by several test binaries, none of which uses all of it"
)]

use rollback_lab_record::{RouteCause, RouteState};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bevy::prelude::*;
use bevy::time::TimeUpdateStrategy;
use bevy_ggrs::{GgrsSchedule, RollbackFrameCount};
use bevy_matchbox::matchbox_socket::{CandidatePair, PeerId};
use bevy_rollback_lab::LabNet;
use bevy_rollback_lab::clock::LabClock;
use bevy_rollback_lab::internals::config::{link_settings, matchbox_settings};
use bevy_rollback_lab::internals::sink::RecordSink;
use bevy_rollback_lab::internals::transport::MatchboxNetwork;
use bevy_rollback_lab::internals::transport::network::{NetEvent, Network, Received};
use bevy_rollback_lab::prelude::*;
use bevy_rollback_lab::record::{EpisodeDocument, SessionDocument};
use bevy_rollback_lab::session::PlayerSlot;
use rollback_lab_link::conditions::Conditions;
use rollback_lab_link::link::SendFailed;
use rollback_lab_link::wire::{DatagramKind, Path};

use crate::lab::{TestConfig, add_game, frame};

/// A session that takes this long has failed.
const PATIENCE: Duration = Duration::from_secs(40);
/// How long a finished session goes on: its goodbye is repeated until acknowledged.
const EXIT_WAIT: Duration = Duration::from_millis(700);

/// One peer and what happens to it.
#[derive(Clone, Default)]
pub struct RealPeer {
    /// Cuts every direct path from this frame of episode 0 on.
    pub cut_at: Option<i32>,
    /// Blackholes the direct path between these two players, by handle, from this frame of
    /// episode 0 on. Everybody is told the same; the two peers it names do it.
    pub cut_between: Option<(i32, [usize; 2])>,
    /// The simulation of this episode ends with this state, for the reason "goal".
    pub goal: Option<(u32, i32)>,
    /// Exits the app at this frame of episode 0.
    pub quit_at: Option<i32>,
    /// Is gone without a word from this frame of episode 0 on, as a killed process is.
    pub vanish_at: Option<i32>,
}

/// What a peer came to.
#[derive(Debug)]
pub struct Outcome {
    /// The phase in which it stopped.
    pub phase: SessionPhase,
    /// Why it failed, if it did.
    pub failure: Option<String>,
    /// When it stopped.
    pub stopped: Instant,
    /// Its episodes, in order.
    pub episodes: Vec<EpisodeDocument>,
    /// Its trails, the newest version of each file.
    pub trails: Vec<SessionDocument>,
    /// Whether the server relays.
    pub relay: Option<bool>,
    /// How often it was told that the server does not.
    pub told_no_relay: u64,
    /// Game packets that it handed to the relay.
    pub relayed_game_packets: u64,
    /// The same by the player they were meant for; nobody who got none.
    pub relayed_game_to: BTreeMap<usize, u64>,
    /// Gaps in its own polling that its links noticed.
    pub own_stalls: u64,
    /// The longest time in which this process did not run a thread that wanted to.
    pub longest_pause: Duration,
    /// All such times added up, hiccups shorter than a frame left out.
    pub paused: Duration,
}

impl Outcome {
    /// Transitions of all episodes to `state`, with their causes.
    pub fn changes_to(&self, state: RouteState) -> Vec<RouteCause> {
        self.episodes
            .iter()
            .flat_map(|episode| &episode.quality.route_changes)
            .filter(|change| change.to == state)
            .map(|change| change.cause)
            .collect()
    }
}

/// One real match at a time: two cores have no room for the frames of more.
static MACHINE: Mutex<()> = Mutex::new(());

/// Plays one session to its end, every peer on a thread of its own.
pub fn play_real(config: &LabConfig, peers: Vec<RealPeer>) -> Vec<Outcome> {
    let _alone = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let pulse = Pulse::start();
    let threads: Vec<_> = peers
        .into_iter()
        .enumerate()
        .map(|(number, peer)| {
            let (config, pulse) = (config.clone(), pulse.clone());
            thread::spawn(move || run(config, peer, number as u64 + 1, &pulse))
        })
        .collect();
    let join = |thread: thread::JoinHandle<Outcome>| thread.join().expect("no peer panics");
    threads.into_iter().map(join).collect()
}

fn run(config: LabConfig, peer: RealPeer, seed: u64, pulse: &Pulse) -> Outcome {
    let tick = frame(config.fps);
    let clock = LabClock::real();
    let witness = Arc::new(Counts::default());
    let network = Witness {
        inner: MatchboxNetwork::open(matchbox_settings(&config), clock.clone()),
        counts: witness.clone(),
    };
    let link = link_settings(&config);
    let net = LabNet::new(network, clock.clone(), link, &Conditions::default(), seed);
    let mut app = App::new();
    app.insert_resource(clock)
        .insert_resource(net)
        .insert_resource(TimeUpdateStrategy::ManualDuration(tick))
        .insert_resource(Watch(witness.clone()))
        .insert_resource(Script(peer));
    add_game(&mut app, config, seed);
    app.add_systems(GgrsSchedule, score)
        .add_systems(Update, (cut_direct, cut_between, quit));
    app.finish();
    app.cleanup();

    let start = Instant::now();
    let mut next = start;
    let mut over: Option<Instant> = None;
    while over.is_none_or(|since| since.elapsed() < EXIT_WAIT) && start.elapsed() < PATIENCE {
        app.update();
        if app.should_exit().is_some() || vanishes(&app) {
            break;
        }
        if is_over(&app) {
            over.get_or_insert_with(Instant::now);
        }
        next += tick;
        let now = Instant::now();
        if now > next + tick * 8 {
            next = now;
        }
        thread::sleep(next.saturating_duration_since(now));
    }
    outcome(&app, &witness, pulse, over.unwrap_or_else(Instant::now))
}

fn vanishes(app: &App) -> bool {
    let world = app.world();
    reached(
        world.resource::<Script>().0.vanish_at,
        world.resource::<Episode>(),
        world.resource::<State<SessionPhase>>(),
        world.resource::<RollbackFrameCount>(),
    )
}

fn is_over(app: &App) -> bool {
    matches!(
        app.world().resource::<LabSession<TestConfig>>().phase(),
        SessionPhase::Finished | SessionPhase::Failed
    )
}

fn outcome(app: &App, witness: &Counts, pulse: &Pulse, stopped: Instant) -> Outcome {
    let world = app.world();
    let files = world.resource::<RecordSink>().files();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("files are text");
    let named = |part: &'static str| {
        files
            .iter()
            .filter(move |(path, _)| path.to_string_lossy().contains(part))
            .map(|(_, bytes)| text(bytes))
    };
    let session = world.resource::<LabSession<TestConfig>>();
    let info = world.get_resource::<SessionInfo>();
    let net = world.resource::<LabNet>();
    let player_slots = info.map_or(&[][..], |info| &info.player_slots);
    let relayed = witness.relayed();
    let relayed_to =
        |player_slot: &PlayerSlot| Some((player_slot.handle, *relayed.get(&player_slot.peer)?));
    Outcome {
        phase: session.phase(),
        failure: session.failure().map(ToString::to_string),
        stopped,
        episodes: named("episode-")
            .map(|text| EpisodeDocument::parse(&text).expect("a written file is read"))
            .collect(),
        trails: named("session.player")
            .map(|text| SessionDocument::parse(&text).expect("a written file is read"))
            .collect(),
        relay: info.map(|info| info.relay),
        told_no_relay: witness.no_relay.load(Ordering::Relaxed),
        relayed_game_packets: relayed.values().sum(),
        relayed_game_to: player_slots.iter().filter_map(relayed_to).collect(),
        own_stalls: player_slots
            .iter()
            .filter_map(|player_slot| net.link(player_slot.peer, |link| link.stats().own_stalls))
            .sum(),
        longest_pause: Pulse::read(&pulse.longest),
        paused: Pulse::read(&pulse.all),
    }
}

#[derive(Resource)]
struct Script(RealPeer);

#[derive(Resource)]
struct Watch(Arc<Counts>);

fn score(script: Res<Script>, frame: Res<RollbackFrameCount>, mut episode: ResMut<Episode>) {
    if script
        .0
        .goal
        .is_some_and(|(number, at)| episode.number() == number && frame.0 >= at)
    {
        episode.end("goal");
    }
}

fn reached(
    at: Option<i32>,
    episode: &Episode,
    phase: &State<SessionPhase>,
    frame: &RollbackFrameCount,
) -> bool {
    *phase.get() == SessionPhase::Playing
        && episode.number() == 0
        && at.is_some_and(|at| frame.0 >= at)
}

fn cut_direct(
    mut script: ResMut<Script>,
    episode: Res<Episode>,
    phase: Res<State<SessionPhase>>,
    frame: Res<RollbackFrameCount>,
    net: Res<LabNet>,
) {
    if reached(script.0.cut_at, &episode, &phase, &frame) {
        net.cut_direct();
        script.0.cut_at = None;
    }
}

fn cut_between(
    mut script: ResMut<Script>,
    watch: Res<Watch>,
    episode: Res<Episode>,
    phase: Res<State<SessionPhase>>,
    frame: Res<RollbackFrameCount>,
    info: Option<Res<SessionInfo>>,
) {
    let (Some((at, pair)), Some(info)) = (script.0.cut_between, info) else {
        return;
    };
    if reached(Some(at), &episode, &phase, &frame) {
        let cut =
            |player_slot: &&PlayerSlot| !player_slot.local && pair.contains(&player_slot.handle);
        if pair.contains(&info.local_player) {
            let lost = info
                .player_slots
                .iter()
                .filter(cut)
                .map(|player_slot| player_slot.peer);
            watch.0.cut_off().extend(lost);
        }
        script.0.cut_between = None;
    }
}

fn quit(
    script: Res<Script>,
    episode: Res<Episode>,
    phase: Res<State<SessionPhase>>,
    frame: Res<RollbackFrameCount>,
    mut exits: MessageWriter<AppExit>,
) {
    if reached(script.0.quit_at, &episode, &phase, &frame) {
        exits.write(AppExit::Success);
    }
}

/// What went by between a lab session and its network, and what was kept from going by.
#[derive(Default)]
struct Counts {
    no_relay: AtomicU64,
    /// Game packets handed to the relay, by whom they were meant for.
    relayed_game: Mutex<HashMap<PeerId, u64>>,
    /// No direct packet passes to or from these peers.
    cut_off: Mutex<Vec<PeerId>>,
}

impl Counts {
    fn relayed(&self) -> MutexGuard<'_, HashMap<PeerId, u64>> {
        self.relayed_game
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn cut_off(&self) -> MutexGuard<'_, Vec<PeerId>> {
        self.cut_off.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The real network, watched.
struct Witness {
    inner: MatchboxNetwork,
    counts: Arc<Counts>,
}

impl Network for Witness {
    fn poll_events(&mut self, events: &mut Vec<NetEvent>) {
        let known = events.len();
        self.inner.poll_events(events);
        let told = events[known..]
            .iter()
            .filter(|event| **event == NetEvent::NoRelay)
            .count();
        self.counts
            .no_relay
            .fetch_add(told as u64, Ordering::Relaxed);
    }

    fn send(
        &mut self,
        path: Path,
        peer: PeerId,
        kind: DatagramKind,
        datagram: &[u8],
    ) -> Result<(), SendFailed> {
        if path == Path::Relay && kind == DatagramKind::Data {
            *self.counts.relayed().entry(peer).or_default() += 1;
        }
        if path == Path::Direct && self.counts.cut_off().contains(&peer) {
            return Ok(());
        }
        self.inner.send(path, peer, kind, datagram)
    }

    fn receive(&mut self, now: Duration, sink: &mut dyn FnMut(Received<'_>)) {
        let cut_off = self.counts.cut_off().clone();
        self.inner.receive(now, &mut |received| {
            if received.path == Path::Relay || !cut_off.contains(&received.from) {
                sink(received);
            }
        });
    }

    fn candidate_pair(&self, peer: PeerId) -> Option<CandidatePair> {
        self.inner.candidate_pair(peer)
    }

    fn close(&mut self) {
        self.inner.close();
    }
}

/// Measures how long this process is kept from running, in microseconds: what a busy machine does
/// to WebRTC's threads, no peer can see.
#[derive(Default)]
struct Pulse {
    longest: AtomicU64,
    all: AtomicU64,
}

impl Pulse {
    fn start() -> Arc<Self> {
        let pulse = Arc::new(Self::default());
        let watched = Arc::downgrade(&pulse);
        thread::spawn(move || {
            let beat = Duration::from_millis(2);
            let mut last = Instant::now();
            while let Some(pulse) = watched.upgrade() {
                let gap = last.elapsed().saturating_sub(beat);
                let micros = u64::try_from(gap.as_micros()).unwrap_or(u64::MAX);
                pulse.longest.fetch_max(micros, Ordering::Relaxed);
                if gap > frame(60) {
                    pulse.all.fetch_add(micros, Ordering::Relaxed);
                }
                drop(pulse);
                last = Instant::now();
                thread::sleep(beat);
            }
        });
        pulse
    }

    fn read(micros: &AtomicU64) -> Duration {
        Duration::from_micros(micros.load(Ordering::Relaxed))
    }
}
