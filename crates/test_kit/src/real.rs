//! Lab sessions over real WebRTC on loopback. Each peer is an app on its own thread, which updates
//! at the frame rate of the match by the wall clock, beside its network task; a wrapper around its
//! network counts what it sends.
//!
//! This is the one module whose loops sleep. ICE, DTLS and SCTP run on matchbox's threads by timers
//! of their own, so virtual time cannot drive them: an app that updated without sleeping would play
//! through its frames before a packet arrived, and would take the cores that those threads need.

use rollback_lab_record::{RouteCause, RouteState};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
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

/// A session that takes longer than this has failed.
const TIMEOUT: Duration = Duration::from_secs(40);
/// How long an app goes on updating after its session ended: its leave message is repeated until it
/// is acknowledged.
const EXIT_WAIT: Duration = Duration::from_millis(700);

/// What one peer does in the match; by default it plays to the end.
#[derive(Clone, Default)]
pub struct RealPeer {
    /// Blackholes every direct path from this frame of episode 0 on.
    pub cut_at: Option<i32>,
    /// Blackholes the direct path between these two players, by handle, from this frame of
    /// episode 0 on. Every peer of the match gets the same value; those two act on it.
    pub cut_between: Option<(i32, [usize; 2])>,
    /// The episode and the frame in which the simulation ends the episode, with the reason "goal".
    pub goal: Option<(u32, i32)>,
    /// The game stands still for so long at these frames of episode 0, in order.
    pub hitches: Vec<(i32, Duration)>,
    /// Exits the app at this frame of episode 0.
    pub quit_at: Option<i32>,
    /// Stops updating at this frame of episode 0 without a leave message, as a killed process does.
    pub vanish_at: Option<i32>,
}

/// What a peer ended with.
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
    /// Its session documents, the newest version of each file.
    pub sessions: Vec<SessionDocument>,
    /// Whether the server relays.
    pub relay: Option<bool>,
    /// Number of events that reported a server without a relay.
    pub no_relay_events: u64,
    /// Game packets that it sent to the relay.
    pub relayed_game_packets: u64,
    /// The same by destination player; players with no such packet are absent.
    pub relayed_game_to: BTreeMap<usize, u64>,
    /// Gaps in its own polling that its links detected.
    pub polling_gaps: u64,
    /// The longest time for which the machine did not run a thread of this process that was ready.
    pub longest_pause: Duration,
    /// The sum of all such times that are longer than a frame.
    pub paused: Duration,
}

impl Outcome {
    /// The causes of all route changes to `state`, over all episodes.
    pub fn changes_to(&self, state: RouteState) -> Vec<RouteCause> {
        self.episodes
            .iter()
            .flat_map(|episode| &episode.quality.route_changes)
            .filter(|change| change.to == state)
            .map(|change| change.cause)
            .collect()
    }
}

/// Held during a match: two cores cannot keep up with the frames of two matches.
static ONE_MATCH: Mutex<()> = Mutex::new(());

/// Plays one session to its end, each peer on its own thread.
pub fn play_real(config: &LabConfig, peers: Vec<RealPeer>) -> Vec<Outcome> {
    let _only_match = ONE_MATCH.lock().unwrap_or_else(PoisonError::into_inner);
    let pauses = PauseMeter::start();
    let threads: Vec<_> = peers
        .into_iter()
        .enumerate()
        .map(|(number, peer)| {
            let (config, pauses) = (config.clone(), pauses.clone());
            thread::spawn(move || run(config, peer, number as u64 + 1, &pauses))
        })
        .collect();
    let join = |thread: thread::JoinHandle<Outcome>| thread.join().expect("no peer panics");
    threads.into_iter().map(join).collect()
}

fn run(config: LabConfig, peer: RealPeer, seed: u64, pauses: &PauseMeter) -> Outcome {
    let tick = frame(config.fps);
    let clock = LabClock::real();
    let counts = Arc::new(Counts::default());
    let network = CountingNetwork {
        inner: MatchboxNetwork::open(matchbox_settings(&config), clock.clone()),
        counts: counts.clone(),
    };
    let link = link_settings(&config);
    let net = LabNet::spawn(network, clock.clone(), link, &Conditions::default(), seed);
    let mut app = App::new();
    app.insert_resource(clock)
        .insert_resource(net)
        .insert_resource(TimeUpdateStrategy::ManualDuration(tick))
        .insert_resource(SharedCounts(counts.clone()))
        .insert_resource(Actions(peer));
    add_game(&mut app, config, seed);
    app.add_systems(GgrsSchedule, score)
        .add_systems(Update, (cut_direct, cut_between, hitch, quit));
    app.finish();
    app.cleanup();

    let start = Instant::now();
    let mut next = start;
    let mut over: Option<Instant> = None;
    while over.is_none_or(|since| since.elapsed() < EXIT_WAIT) && start.elapsed() < TIMEOUT {
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
        // Wait for the next frame, so that the match runs at the frame rate of its config. An app
        // that is more than eight frames late starts its schedule anew instead of catching up.
        thread::sleep(next.saturating_duration_since(now));
    }
    outcome(&app, &counts, pauses, over.unwrap_or_else(Instant::now))
}

fn vanishes(app: &App) -> bool {
    let world = app.world();
    reached(
        world.resource::<Actions>().0.vanish_at,
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

fn outcome(app: &App, counts: &Counts, pauses: &PauseMeter, stopped: Instant) -> Outcome {
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
    let relayed = counts.relayed();
    let relayed_to =
        |player_slot: &PlayerSlot| Some((player_slot.handle, *relayed.get(&player_slot.peer)?));
    Outcome {
        phase: session.phase(),
        failure: session.failure().map(ToString::to_string),
        stopped,
        episodes: named("episode-")
            .map(|text| EpisodeDocument::parse(&text).expect("a written file is read"))
            .collect(),
        sessions: named("session.player")
            .map(|text| SessionDocument::parse(&text).expect("a written file is read"))
            .collect(),
        relay: info.map(|info| info.relay),
        no_relay_events: counts.no_relay.load(Ordering::Relaxed),
        relayed_game_packets: relayed.values().sum(),
        relayed_game_to: player_slots.iter().filter_map(relayed_to).collect(),
        polling_gaps: player_slots
            .iter()
            .filter_map(|player_slot| net.link(player_slot.peer, |link| link.stats().own_stalls))
            .sum(),
        longest_pause: PauseMeter::read(&pauses.longest),
        paused: PauseMeter::read(&pauses.all),
    }
}

#[derive(Resource)]
struct Actions(RealPeer);

#[derive(Resource)]
struct SharedCounts(Arc<Counts>);

fn score(actions: Res<Actions>, frame: Res<RollbackFrameCount>, mut episode: ResMut<Episode>) {
    if actions
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
    mut actions: ResMut<Actions>,
    episode: Res<Episode>,
    phase: Res<State<SessionPhase>>,
    frame: Res<RollbackFrameCount>,
    net: Res<LabNet>,
) {
    if reached(actions.0.cut_at, &episode, &phase, &frame) {
        net.cut_direct();
        actions.0.cut_at = None;
    }
}

fn cut_between(
    mut actions: ResMut<Actions>,
    counts: Res<SharedCounts>,
    episode: Res<Episode>,
    phase: Res<State<SessionPhase>>,
    frame: Res<RollbackFrameCount>,
    info: Option<Res<SessionInfo>>,
) {
    let (Some((at, pair)), Some(info)) = (actions.0.cut_between, info) else {
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
            counts.0.cut_off().extend(lost);
        }
        actions.0.cut_between = None;
    }
}

fn hitch(
    mut actions: ResMut<Actions>,
    episode: Res<Episode>,
    phase: Res<State<SessionPhase>>,
    frame: Res<RollbackFrameCount>,
) {
    let Some(&(at, span)) = actions.0.hitches.first() else {
        return;
    };
    if reached(Some(at), &episode, &phase, &frame) {
        actions.0.hitches.remove(0);
        thread::sleep(span);
    }
}

fn quit(
    actions: Res<Actions>,
    episode: Res<Episode>,
    phase: Res<State<SessionPhase>>,
    frame: Res<RollbackFrameCount>,
    mut exits: MessageWriter<AppExit>,
) {
    if reached(actions.0.quit_at, &episode, &phase, &frame) {
        exits.write(AppExit::Success);
    }
}

/// What [`CountingNetwork`] counts and drops.
#[derive(Default)]
struct Counts {
    no_relay: AtomicU64,
    /// Game packets sent to the relay, by destination.
    relayed_game: Mutex<HashMap<PeerId, u64>>,
    /// Direct packets to and from these peers are dropped.
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

/// The real network, with counters and a blackhole for single peers.
struct CountingNetwork {
    inner: MatchboxNetwork,
    counts: Arc<Counts>,
}

impl Network for CountingNetwork {
    fn poll_events(&mut self, events: &mut Vec<NetEvent>) {
        let known = events.len();
        self.inner.poll_events(events);
        let no_relay = events[known..]
            .iter()
            .filter(|event| **event == NetEvent::NoRelay)
            .count();
        self.counts
            .no_relay
            .fetch_add(no_relay as u64, Ordering::Relaxed);
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

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.inner.poll_ready(context)
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

/// Measures for how long the machine does not run this process, in microseconds. A peer cannot
/// measure it: WebRTC's threads may wait for a core while the app's thread runs.
#[derive(Default)]
struct PauseMeter {
    longest: AtomicU64,
    all: AtomicU64,
}

impl PauseMeter {
    fn start() -> Arc<Self> {
        let meter = Arc::new(Self::default());
        let measured = Arc::downgrade(&meter);
        thread::spawn(move || {
            // Sleep, and read how much longer than asked it took. The thread ends with the last
            // meter.
            let interval = Duration::from_millis(2);
            let mut last = Instant::now();
            while let Some(meter) = measured.upgrade() {
                let gap = last.elapsed().saturating_sub(interval);
                let micros = u64::try_from(gap.as_micros()).unwrap_or(u64::MAX);
                meter.longest.fetch_max(micros, Ordering::Relaxed);
                if gap > frame(60) {
                    meter.all.fetch_add(micros, Ordering::Relaxed);
                }
                drop(meter);
                last = Instant::now();
                thread::sleep(interval);
            }
        });
        meter
    }

    fn read(micros: &AtomicU64) -> Duration {
        Duration::from_micros(micros.load(Ordering::Relaxed))
    }
}
