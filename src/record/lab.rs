//! Owns what a lab session adds to the record: links, routes and digests are noted, an episode
//! closes when the session says so, and the session document is kept up to date.

use std::marker::PhantomData;
use std::path::PathBuf;
use std::time::Duration;

use bevy::prelude::*;
use bevy_matchbox::matchbox_socket::{CandidateType, PeerId};
use ggrs::{Config, PlayerHandle};

use super::recorder::{Outbox, RecordPlugin, RecordSchedule, tell_outcomes};
use super::sink::RecordSink;
use super::{Phase, SessionDocument};
use crate::clock::LabClock;
use crate::metrics::{
    Carrier, ConditionRealised, Datagrams, EpisodeMeta, LinkReport, PathReport, PeerClock,
    RouteNote, SessionMetrics, Summary, micros,
};
use crate::rollback::RollbackLabSystems;
use crate::session::{
    EpisodeSettled, EpisodeStarting, EpisodeStopped, Focus, FocusChanged, HistoryDigest,
    LabSession, PeerNotice, RouteChanged, SessionFailed, SessionInfo, SessionPhase,
};
use crate::transport::conditions::Realised;
use crate::transport::link::{Link, LinkStats, PathStats};
use crate::transport::route::RouteState;
use crate::transport::wire::Path;
use crate::transport::{InputArrival, InputDeparture, LabNet};

/// Round trips and margins are sampled once a second.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// What is known of every episode of this lab session.
#[derive(Resource)]
struct Template(EpisodeMeta);

/// One remote player's link since the episode began.
struct Watched {
    player: PlayerHandle,
    peer: PeerId,
    before: LinkStats,
    started_on_relay: bool,
    rtt_ms: [Vec<f64>; 2],
    jitter_ms: [Vec<f64>; 2],
}

#[derive(Resource, Default)]
struct LinkWatch {
    links: Vec<Watched>,
    /// What the conditions had done when the episode began, by path.
    conditions: [Realised; 2],
    next_sample: Duration,
    arrivals: Vec<InputArrival>,
    departures: Vec<InputDeparture>,
}

/// The session document, as far as it was written.
#[derive(Resource)]
struct Trail {
    document: SessionDocument,
    phase: Option<SessionPhase>,
    joined: Option<Duration>,
    /// Where it was written last: before everybody is known, under an id of its own.
    written: Option<PathBuf>,
}

/// The session document changed; it is on its way to its file.
#[derive(Event, Clone, Debug)]
pub struct SessionDocumentChanged {
    /// The document as it is now.
    pub document: Box<SessionDocument>,
}

/// What the record of a lab session needs to know before it begins.
#[derive(Clone, Debug, Default)]
pub struct RecordSettings {
    /// Folder of the files; none keeps them in memory.
    pub export_dir: Option<PathBuf>,
    /// What is known of every episode.
    pub template: EpisodeMeta,
}

/// Folds the metrics of a lab session and writes its files.
///
/// # Panics
/// Adding it with a folder that cannot be written: better before the match than after.
pub struct LabRecordPlugin<C> {
    settings: RecordSettings,
    config: PhantomData<fn() -> C>,
}

impl<C> LabRecordPlugin<C> {
    /// A record by `settings`.
    #[must_use]
    pub fn new(settings: RecordSettings) -> Self {
        Self {
            settings,
            config: PhantomData,
        }
    }
}

impl<C: Config<Address = PeerId>> Plugin for LabRecordPlugin<C> {
    fn build(&self, app: &mut App) {
        app.add_plugins(RecordPlugin::<C>::lab(self.settings.export_dir.clone()));
        build::<C>(app, self.settings.template.clone());
    }
}

fn build<C: Config<Address = PeerId>>(app: &mut App, mut template: EpisodeMeta) {
    let clock = app.world().resource::<LabClock>().clone();
    template.origin_unix_ms = clock.origin_unix_ms();
    let trail = Trail {
        document: SessionDocument::new(
            template.software.clone(),
            template.session.clone(),
            clock.origin_unix_ms(),
        ),
        phase: None,
        joined: None,
        written: None,
    };
    app.insert_resource(SessionMetrics::<C::Input>::default())
        .insert_resource(Template(template))
        .insert_resource(trail)
        .init_resource::<LinkWatch>()
        .add_observer(begin_episode::<C>)
        .add_observer(note_failure);
    app.add_systems(
        RecordSchedule,
        (
            (note_links::<C>, close_stopped::<C>)
                .chain()
                .after(crate::metrics::fold_metrics::<C::Input>)
                .in_set(RollbackLabSystems::Measure),
            (write_settled::<C>, keep_trail::<C>)
                .chain()
                .in_set(RollbackLabSystems::Record)
                .before(tell_outcomes),
        ),
    );
}

fn begin_episode<C: Config<Address = PeerId>>(
    starting: On<EpisodeStarting>,
    template: Res<Template>,
    info: Res<SessionInfo>,
    net: Res<LabNet>,
    clock: Res<LabClock>,
    mut metrics: ResMut<SessionMetrics<C::Input>>,
    mut watch: ResMut<LinkWatch>,
    focus: Res<Focus>,
) {
    let mut meta = template.0.clone();
    meta.episode_num = starting.number;
    meta.seed = Some(starting.seed);
    meta.predictor = Some(super::recorder::predictor::<C>());
    describe_session(&mut meta.session, &info);
    let delay = meta
        .input_delay_frames
        .values()
        .next()
        .copied()
        .unwrap_or(0);
    meta.input_delay_frames = (0..starting.players)
        .map(|player| (player, delay))
        .collect();
    metrics.begin(meta);
    let now = clock.now();
    if focus.watched {
        metrics.note_focus_watched();
    }
    if focus.hidden {
        metrics.note_focus_lost(now);
    }
    for seat in info.seats.iter().filter(|seat| !seat.local) {
        if net.link(seat.peer, Link::peer_hidden).unwrap_or_default() {
            metrics.note_peer_hidden(seat.handle, now);
        }
    }
    watch.links = info
        .seats
        .iter()
        .filter(|seat| !seat.local)
        .map(|seat| Watched {
            player: seat.handle,
            peer: seat.peer,
            started_on_relay: net
                .link(seat.peer, |link| on_relay(link.route()))
                .unwrap_or_default(),
            before: net
                .link(seat.peer, |link| link.stats().clone())
                .unwrap_or_default(),
            rtt_ms: default(),
            jitter_ms: default(),
        })
        .collect();
    watch.conditions = Path::ALL.map(|path| net.realised(path));
    watch.next_sample = now + SAMPLE_EVERY;
}

/// The players of the template are this peer's own settings; here they get their seats.
fn describe_session(session: &mut crate::metrics::Session, info: &SessionInfo) {
    session.session_id.clone_from(&info.session_id);
    session.player_ids = info.seats.iter().map(|seat| seat.handle).collect();
    session.local_player_id = Some(info.local_player);
    let own = session.players.first().cloned();
    session.players = info
        .seats
        .iter()
        .map(|seat| match &own {
            Some(own) if seat.local => crate::metrics::Player {
                player_id: seat.handle,
                ..own.clone()
            },
            // The others' kind and policy stand in their own files.
            _ => crate::metrics::Player {
                player_id: seat.handle,
                kind: None,
                policy_name: None,
                policy_version: None,
                policy_digest: None,
                pseudonym: None,
            },
        })
        .collect();
}

fn note_links<C: Config<Address = PeerId>>(
    net: Option<Res<LabNet>>,
    clock: Res<LabClock>,
    mut watch: ResMut<LinkWatch>,
    mut metrics: ResMut<SessionMetrics<C::Input>>,
    mut routes: MessageReader<RouteChanged>,
    mut notices: MessageReader<PeerNotice>,
    mut focus: MessageReader<FocusChanged>,
) {
    for change in focus.read() {
        if change.hidden {
            metrics.note_focus_lost(change.at);
        } else {
            metrics.note_focus_gained(change.at);
        }
    }
    let Some(net) = net else {
        return;
    };
    let watch = &mut *watch;
    let player_of = |links: &[Watched], peer| {
        links
            .iter()
            .find(|link| link.peer == peer)
            .map(|link| link.player)
    };
    net.drain_arrivals(&mut watch.arrivals);
    for arrival in watch.arrivals.drain(..) {
        if let Some(player) = player_of(&watch.links, arrival.peer) {
            let by = match arrival.via {
                Path::Direct => Carrier::P2p,
                Path::Relay => Carrier::Relay,
            };
            metrics.note_received(player, arrival.first, arrival.last, by);
        }
    }
    net.drain_departures(&mut watch.departures);
    for departure in watch.departures.drain(..) {
        if let Some(player) = player_of(&watch.links, departure.peer) {
            let by = match (departure.by.direct, departure.by.relay) {
                (true, true) => Carrier::Both,
                (true, false) => Carrier::P2p,
                (false, true) => Carrier::Relay,
                (false, false) => Carrier::Nothing,
            };
            metrics.note_sent(player, departure.first, departure.last, by);
        }
    }
    for changed in routes.read() {
        let change = &changed.change;
        // Before the first tick of an episode its next frame is 0.
        let frame = changed.frame.unwrap_or(0);
        let note = RouteNote {
            at: change.at,
            from: change.from.as_str(),
            to: change.to.as_str(),
            cause: change.cause.as_str(),
            metric: change.metric,
            value: change.value,
            threshold: change.threshold,
        };
        if note.is_fallback() && net.conditions_are_direct_only() {
            metrics.note_condition_interrupted();
        }
        metrics.note_route(changed.player, frame, note);
    }
    for notice in notices.read() {
        match notice {
            PeerNotice::Gone { player, at, reason } => {
                metrics.note_disconnected(Some(*player), *at, Some(reason));
            }
            PeerNotice::ServerLost { at } => {
                metrics.note_disconnected(None, *at, Some("the connection to the server was lost"));
            }
            PeerNotice::Hidden { player, at } => metrics.note_peer_hidden(*player, *at),
            PeerNotice::Visible { player, at } => metrics.note_peer_visible(*player, *at),
        }
    }
    let now = clock.now();
    if metrics.is_running() && now >= watch.next_sample {
        watch.next_sample = now + SAMPLE_EVERY;
        for link in &mut watch.links {
            sample::<C>(&net, now, link, &mut metrics);
        }
    }
}

fn sample<C: Config<Address = PeerId>>(
    net: &LabNet,
    now: Duration,
    watched: &mut Watched,
    metrics: &mut SessionMetrics<C::Input>,
) {
    let player = watched.player;
    net.link(watched.peer, |link| {
        if let Some(rtt) = link.srtt() {
            metrics.note_rtt(player, now, millis(rtt));
        }
        if let Some(margin) = link.margin() {
            metrics.note_margin(player, margin);
        }
        for path in Path::ALL {
            if let Some(rtt) = link.path_rtt(path) {
                watched.rtt_ms[path.index()].push(millis(rtt));
                watched.jitter_ms[path.index()].push(millis(link.stats().path(path).jitter));
            }
        }
        if let Some(offset) = link.clock_offset() {
            metrics.note_clock(PeerClock {
                player_id: player,
                offset_us: Some(offset.offset_us),
                uncertainty_us: Some(micros(offset.uncertainty)),
                drift_ppm: None,
                samples: Vec::new(),
            });
        }
    });
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The simulation stopped: the last reports are taken and the numbers are closed.
fn close_stopped<C: Config<Address = PeerId>>(
    mut stopped: MessageReader<EpisodeStopped>,
    net: Option<Res<LabNet>>,
    watch: Res<LinkWatch>,
    mut metrics: ResMut<SessionMetrics<C::Input>>,
    mut digest: ResMut<HistoryDigest>,
) {
    for stop in stopped.read() {
        if let Some(net) = &net {
            for watched in &watch.links {
                metrics.link(watched.player, report(net, watched));
            }
            for path in Path::ALL {
                let before = &watch.conditions[path.index()];
                let realised = net.realised(path).since(before);
                metrics.note_conditions(
                    path.as_str(),
                    ConditionRealised {
                        offered: realised.offered,
                        dropped: realised.lost + realised.cut + realised.queue_dropped,
                        lost: realised.lost,
                        loss_runs: realised.loss_runs,
                        cut: realised.cut,
                        queue_dropped: realised.queue_dropped,
                        duplicated: realised.duplicated,
                        reordered: realised.reordered,
                        mean_delay_ms: realised.mean_delay_ms(),
                        p95_delay_ms: realised.p95_delay_ms(),
                    },
                );
            }
        }
        digest.0 = metrics.digest_at(stop.end_frame).or(digest.0);
        metrics.close(Some(stop.end_frame), Some(stop.reason), stop.partial);
    }
}

/// Whether game packets go by the relay: because there was no direct path yet, or no more.
fn on_relay(route: RouteState) -> bool {
    match route {
        RouteState::Connecting | RouteState::Direct | RouteState::Suspect => false,
        RouteState::Provisional | RouteState::Relay | RouteState::Survival => true,
    }
}

fn report(net: &LabNet, watched: &Watched) -> LinkReport {
    let turn = net
        .candidate_pair(watched.peer)
        .is_some_and(|pair| pair.is_relayed());
    let link = net.link(watched.peer, |link| {
        let route = match link.route() {
            RouteState::Connecting => None,
            route if on_relay(route) => Some("relay"),
            _ if turn => Some("turn"),
            _ => Some("direct"),
        };
        (route, link.stats().clone())
    });
    let Some((route, stats)) = link else {
        return LinkReport::default();
    };
    let path = |path: Path| {
        let (before, after) = (watched.before.path(path), stats.path(path));
        Some(PathReport {
            datagrams: since(before, after),
            bytes_sent: after.bytes_sent.saturating_sub(before.bytes_sent),
            bytes_received: after.bytes_received.saturating_sub(before.bytes_received),
            rtt_ms: Summary::of(watched.rtt_ms[path.index()].iter().copied()),
            jitter_ms: Summary::of(watched.jitter_ms[path.index()].iter().copied()),
        })
    };
    LinkReport {
        route,
        candidate_types: net
            .candidate_pair(watched.peer)
            .map(|pair| (candidate(pair.local), candidate(pair.remote))),
        connect_time: net.connect_time(watched.peer),
        started_on_relay: Some(watched.started_on_relay),
        direct: path(Path::Direct),
        relay: path(Path::Relay),
        direct_send_failures: stats
            .direct_send_failures
            .saturating_sub(watched.before.direct_send_failures),
        both_paths: stats.both_paths.saturating_sub(watched.before.both_paths),
    }
}

fn since(before: &PathStats, after: &PathStats) -> Datagrams {
    let malformed = after.malformed.iter().filter_map(|(reason, count)| {
        let new = count - before.malformed.get(reason).unwrap_or(&0);
        (new > 0).then(|| ((*reason).to_owned(), new))
    });
    Datagrams {
        sent: after.sent.saturating_sub(before.sent),
        received: after.received.saturating_sub(before.received),
        lost: after.lost.saturating_sub(before.lost),
        reordered: after.reordered.saturating_sub(before.reordered),
        duplicate: after.duplicate.saturating_sub(before.duplicate),
        malformed: malformed.collect(),
    }
}

/// Types only: no address stands in any file.
fn candidate(kind: CandidateType) -> String {
    String::from(match kind {
        CandidateType::Host => "host",
        CandidateType::ServerReflexive => "srflx",
        CandidateType::PeerReflexive => "prflx",
        CandidateType::Relay => "relay",
    })
}

/// Everybody has told its end, or will not: the document is complete.
fn write_settled<C: Config<Address = PeerId>>(
    mut settled: MessageReader<EpisodeSettled>,
    mut metrics: ResMut<SessionMetrics<C::Input>>,
    mut sink: ResMut<RecordSink>,
    mut outbox: ResMut<Outbox>,
    mut trail: ResMut<Trail>,
) {
    for settled in settled.read() {
        for &(player, end_frame, digest) in &settled.digests {
            metrics.note_peer_digest(player, end_frame, digest);
        }
        for (document, summary) in metrics.take_finished() {
            if let Some(name) = document.path().file_name() {
                trail
                    .document
                    .episodes
                    .push(name.to_string_lossy().into_owned());
            }
            outbox.post(&mut sink, document, summary);
            trail.phase = None;
        }
    }
}

/// Rewrites the session document whenever the session takes a step.
fn keep_trail<C: Config<Address = PeerId>>(
    session: Res<LabSession<C>>,
    info: Option<Res<SessionInfo>>,
    clock: Res<LabClock>,
    mut trail: ResMut<Trail>,
    mut sink: ResMut<RecordSink>,
    mut commands: Commands,
) {
    let phase = session.phase();
    if trail.phase == Some(phase) {
        return;
    }
    let now = clock.now();
    trail.phase = Some(phase);
    let entered = trail
        .document
        .phases
        .last()
        .is_none_or(|last| last.phase != phase.as_str());
    if entered {
        trail.document.phases.push(Phase {
            phase: phase.as_str().to_owned(),
            at_us: micros(now),
        });
    }
    match phase {
        SessionPhase::Gathering => trail.joined = Some(now),
        SessionPhase::Playing if trail.document.waited_ms.is_none() => {
            trail.document.waited_ms = trail.joined.map(|joined| millis(now - joined));
        }
        _ => {}
    }
    if let Some(reason) = session.end_reason() {
        let end_reason = &mut trail.document.end_reason;
        end_reason.get_or_insert_with(|| reason.to_owned());
    }
    match &info {
        Some(info) => describe_session(&mut trail.document.session, info),
        // Nobody but this peer is known: the trail stands under an id of its own.
        None => {
            let Some(id) = session.provisional_id(clock.origin_unix_ms()) else {
                return;
            };
            trail.document.session.session_id = id;
            trail.document.session.local_player_id = Some(0);
        }
    }
    let document = trail.document.clone();
    commands.trigger(SessionDocumentChanged {
        document: Box::new(document.clone()),
    });
    let path = document.path();
    match trail.written.replace(path.clone()) {
        Some(old) if old != path => sink.supersede(old, document),
        _ => sink.write(document),
    }
}

fn note_failure(failed: On<SessionFailed>, mut trail: ResMut<Trail>) {
    trail.document.end_reason = Some(failed.error.end_reason().to_owned());
}
