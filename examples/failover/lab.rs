//! One peer over this crate: `RollbackLabPlugins`, with the same outage of the direct path as the plain
//! stack. A tap between the lab and its network counts game packets and passes them on unchanged.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bevy::prelude::*;
use bevy::state::app::StatesPlugin;
use bevy_matchbox::matchbox_socket::{CandidatePair, PeerId};
use bevy_rollback_lab::LabNet;
use bevy_rollback_lab::internals::config::{link_settings, matchbox_settings};
use bevy_rollback_lab::internals::transport::MatchboxNetwork;
use bevy_rollback_lab::internals::transport::network::{NetEvent, Network, Received};
use bevy_rollback_lab::prelude::*;
use rollback_lab_link::conditions::Conditions;
use rollback_lab_link::link::SendFailed;
use rollback_lab_link::route::RouteState;
use rollback_lab_link::wire::{DatagramKind, Path};

use crate::Rules;
use crate::frame_scheduler::{self, FPS, WINDOW};
use crate::measure::{End, MeasurePlugin, Measured, Outage, Peer};
use volley::bot::{BotPlugin, Bots};
use volley::{VolleyConfig, VolleyPlugin, start_court};

type Config = VolleyConfig<PeerId>;

/// How long a finished session goes on: its leave message is repeated until acknowledged.
const EXIT_WAIT: Duration = Duration::from_millis(700);

/// Plays the match to its end, or until the session fails.
///
/// # Errors
/// The match does not end.
pub(crate) fn play(rules: &Rules, policy: RoutePolicy) -> Result<Peer, String> {
    let config = LabConfig::new(&rules.server, &rules.room)
        .fps(FPS)
        .max_prediction(WINDOW)
        .input_delay(rules.input_delay)
        .frame_limit(rules.frames)
        .episodes(1)
        .seed(rules.seed)
        .route_policy(policy)
        .no_files();
    let counts = Arc::new(PacketCounts::default());
    let network = Tap {
        inner: MatchboxNetwork::open(matchbox_settings(&config), rules.clock.clone()),
        outage: rules.outage.clone(),
        rules: rules.clone(),
        counts: counts.clone(),
    };
    let link = link_settings(&config);
    let clear = Conditions::default();
    let net = LabNet::new(network, rules.clock.clone(), link, &clear, rules.seed);

    let mut app = App::new();
    app.add_plugins((MinimalPlugins, StatesPlugin))
        .insert_resource(rules.clock.clone())
        .insert_resource(net)
        .add_plugins(RollbackLabPlugins::<Config>::new(config))
        .add_plugins(VolleyPlugin::<Config>::default())
        .add_plugins(BotPlugin::<Config>::new(rules.seed, FPS))
        .add_plugins(MeasurePlugin(rules.outage.clone()))
        .init_resource::<FailedOver>()
        .add_observer(set_up_episode)
        .add_systems(PostUpdate, (cut_direct, record_failover));

    let mut over = None;
    let ended = frame_scheduler::run(&mut app, |app| {
        if is_over(app) {
            over.get_or_insert_with(|| rules.clock.now());
        }
        over.is_some_and(|since| rules.clock.now() > since + EXIT_WAIT)
    });
    let over = over.unwrap_or_else(|| rules.clock.now());
    Ok(outcome(&app, rules, &counts, ended, over))
}

fn outcome(
    app: &App,
    rules: &Rules,
    counts: &PacketCounts,
    ended: Result<(), String>,
    over: Duration,
) -> Peer {
    let world = app.world();
    let failure = world
        .resource::<LabSession<Config>>()
        .failure()
        .map(ToString::to_string);
    let end = match ended.err().or(failure) {
        Some(error) => End::Failed(error),
        None => End::Complete,
    };
    let net = world.resource::<LabNet>();
    let player_slots = world
        .get_resource::<SessionInfo>()
        .map_or(&[][..], |info| &info.player_slots);
    let own_stalls = player_slots
        .iter()
        .filter_map(|player_slot| net.link(player_slot.peer, |link| link.stats().own_stalls));
    let count = |path: Path| counts.before[path.index()].load(Ordering::Relaxed);
    let failed_over = world.resource::<FailedOver>().0;
    Peer {
        first_relayed: counts.first_relayed.get().copied(),
        failed_over: failed_over.and_then(|at| rules.outage.since_start(at)),
        sent_before: Some(Path::ALL.map(count)),
        own_stalls: own_stalls.sum(),
        ..world.resource::<Measured>().peer(&rules.outage, end, over)
    }
}

fn is_over(app: &App) -> bool {
    let phase = app.world().resource::<State<SessionPhase>>().get();
    matches!(phase, SessionPhase::Finished | SessionPhase::Failed)
}

fn set_up_episode(starting: On<EpisodeStarting>, mut commands: Commands, mut bots: ResMut<Bots>) {
    let EpisodeStarting { players, seed, .. } = *starting.event();
    bots.restart(seed);
    commands.queue(move |world: &mut World| start_court(world, players, seed));
}

/// Drops every direct packet, both ways, from the start of the outage on.
fn cut_direct(outage: Res<Outage>, net: Res<LabNet>, mut done: Local<bool>) {
    if outage.start().is_some() && !std::mem::replace(&mut done, true) {
        net.cut_direct();
    }
}

/// When the route became the relay.
#[derive(Resource, Default)]
struct FailedOver(Option<Duration>);

fn record_failover(mut routes: MessageReader<RouteChanged>, mut failed_over: ResMut<FailedOver>) {
    for changed in routes.read() {
        if changed.change.to == RouteState::Relay {
            failed_over.0.get_or_insert(changed.change.at);
        }
    }
}

/// Counts of the game packets that passed the tap.
#[derive(Default)]
struct PacketCounts {
    /// Before the outage, by path.
    before: [AtomicU64; 2],
    /// From the start of the outage to the first packet sent over the relay.
    first_relayed: OnceLock<Duration>,
}

/// The real network, with its game packets counted.
struct Tap {
    inner: MatchboxNetwork,
    outage: Outage,
    rules: Rules,
    counts: Arc<PacketCounts>,
}

impl Network for Tap {
    fn poll_events(&mut self, events: &mut Vec<NetEvent>) {
        self.inner.poll_events(events);
    }

    fn send(
        &mut self,
        path: Path,
        peer: PeerId,
        kind: DatagramKind,
        datagram: &[u8],
    ) -> Result<(), SendFailed> {
        if kind == DatagramKind::Data {
            match self.outage.since_start(self.rules.clock.now()) {
                None => {
                    self.counts.before[path.index()].fetch_add(1, Ordering::Relaxed);
                }
                Some(after) if path == Path::Relay => {
                    self.counts.first_relayed.get_or_init(|| after);
                }
                Some(_) => {}
            }
        }
        self.inner.send(path, peer, kind, datagram)
    }

    fn receive(&mut self, now: Duration, sink: &mut dyn FnMut(Received<'_>)) {
        self.inner.receive(now, sink);
    }

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.inner.poll_ready(context)
    }

    fn candidate_pair(&self, peer: PeerId) -> Option<CandidatePair> {
        self.inner.candidate_pair(peer)
    }

    fn close(&mut self) {
        self.inner.close();
    }
}
