//! What the record reads of the lab's links while an episode runs: send paths, routes, round trips,
//! and a report of every link at the end.

use std::time::Duration;

use bevy::ecs::message::MessageCursor;
use bevy::ecs::schedule::ScheduleLabel;
use bevy::prelude::*;
use bevy_matchbox::matchbox_socket::{self, PeerId};
use ggrs::{Config, PlayerHandle};

use super::recorder::write_closed;
use crate::clock::LabClock;
use crate::metrics::{LinkReport, ObservedSession, SessionMetrics, fold_metrics, micros};
use crate::rollback::RollbackLabSystems;
use crate::rollback::trace::MAX_PLAYERS;
use crate::rollback::trace::{Fact, SessionKind};
use crate::session::{FocusChanged, PeerNotice, RouteChanged, SessionInfo};
use crate::transport::{InputDeparture, InputPacket, LabNet, PacketCursor};
use rollback_lab_link::conditions::Realised;
use rollback_lab_link::link::{LinkStats, PathStats, drift_ppm};
use rollback_lab_record::{
    CandidateType, ConditionRealised, ConnectionPeer, Datagrams, Path, PathRecord, PeerClock,
    Summary, Via,
};

/// Round trips and margins are sampled once a second.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// Inputs between two samples at most: those beyond are left out.
const INPUTS_A_SECOND: usize = 256;

/// One remote player's link since the episode began.
struct Watched {
    player: PlayerHandle,
    peer: PeerId,
    before: LinkStats,
    started_on_relay: bool,
    /// From reading an input there to simulating with it here, since the last sample.
    input_ms: Vec<f64>,
    rtt_ms: [Vec<f64>; 2],
    jitter_ms: [Vec<f64>; 2],
}

/// What the links have brought since the episode began.
#[derive(Resource, Default)]
pub(super) struct LinkWatch {
    links: Vec<Watched>,
    /// What the conditions had done when the episode began, by path.
    conditions: [Realised; 2],
    next_sample: Duration,
    /// How far the packets of every player were read.
    packets: [PacketCursor; MAX_PLAYERS],
    departures: Vec<InputDeparture>,
    /// How far the messages were read. Kept here and not in a system, because systems of two
    /// schedules read them and each message counts once.
    routes: MessageCursor<RouteChanged>,
    notices: MessageCursor<PeerNotice>,
    focus: MessageCursor<FocusChanged>,
}

impl LinkWatch {
    /// An episode begins: what the links did before is none of it.
    pub(super) fn begin(&mut self, net: &LabNet, info: &SessionInfo, now: Duration) {
        self.links = info
            .player_slots
            .iter()
            .filter(|player_slot| !player_slot.local)
            .map(|player_slot| Watched {
                player: player_slot.handle,
                peer: player_slot.peer,
                started_on_relay: net
                    .link(player_slot.peer, |link| link.route().prefers_relay())
                    .unwrap_or_default(),
                before: net
                    .link(player_slot.peer, |link| link.stats().clone())
                    .unwrap_or_default(),
                input_ms: Vec::with_capacity(INPUTS_A_SECOND),
                rtt_ms: default(),
                jitter_ms: default(),
            })
            .collect();
        self.conditions = Path::ALL.map(|path| net.realised(path));
        self.next_sample = now + SAMPLE_EVERY;
    }

    /// Another lab session begins, with other peers.
    pub(super) fn restart(&mut self) {
        self.links.clear();
        self.departures.clear();
    }

    /// The links as they stand: the last report of an episode counts.
    pub(super) fn report<I>(&self, net: &LabNet, metrics: &mut SessionMetrics<I>)
    where
        I: Copy + PartialEq + Send + Sync + 'static,
    {
        for watched in &self.links {
            metrics.record_link(report(net, watched));
        }
        for path in Path::ALL {
            let before = &self.conditions[path.index()];
            let realised = net.realised(path).since(before);
            metrics.record_conditions(
                path,
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
}

/// Reads the links beside a game that delimits its own sessions over a room of the lab's.
pub(super) fn observe_links<C: Config>(app: &mut App) {
    app.init_resource::<LinkWatch>().add_systems(
        PreUpdate,
        (share_session::<C>, begin_links::<C>)
            .chain()
            .after(RollbackLabSystems::Session)
            .before(RollbackLabSystems::Measure),
    );
    // Once more when the app exits, like everything that is measured and recorded.
    add_watching::<C>(app, PreUpdate);
    add_watching::<C>(app, Last);
}

fn add_watching<C: Config>(app: &mut App, schedule: impl ScheduleLabel) {
    app.add_systems(
        schedule,
        (
            record_links::<C>
                .run_if(resource_exists::<SessionInfo>)
                .after(fold_metrics::<C::Input>)
                .in_set(RollbackLabSystems::Measure),
            report_ended::<C>
                .before(write_closed::<C>)
                .in_set(RollbackLabSystems::Record),
        ),
    );
}

/// In a room of the lab's all peers know one id, so that files of the same match lie together, and count
/// its matches alike, whatever each of them has played before.
fn share_session<C: Config>(
    info: Option<Res<SessionInfo>>,
    mut metrics: ResMut<SessionMetrics<C::Input>>,
    mut alone: Local<Option<ObservedSession>>,
) {
    match info {
        Some(info) if info.is_changed() && metrics.session_id() != info.session_id => {
            let room = ObservedSession {
                id: info.session_id.clone(),
                begun: 0,
            };
            let before = metrics.set_session(room);
            alone.get_or_insert(before);
        }
        Some(_) => {}
        None => {
            if let Some(alone) = alone.take() {
                metrics.set_session(alone);
            }
        }
    }
}

/// A session that begins is one over the lab's links exactly where there are some.
fn begin_links<C: Config>(
    mut facts: MessageReader<Fact<C::Input>>,
    net: Option<Res<LabNet>>,
    info: Option<Res<SessionInfo>>,
    clock: Res<LabClock>,
    mut watch: ResMut<LinkWatch>,
    mut metrics: ResMut<SessionMetrics<C::Input>>,
) {
    let begins = |fact: &Fact<C::Input>| {
        matches!(
            fact,
            Fact::Began {
                session: SessionKind::P2P,
                ..
            }
        )
    };
    if !facts.read().fold(false, |found, fact| found | begins(fact)) {
        return;
    }
    let linked = net.zip(info);
    metrics.set_has_transport(linked.is_some());
    watch.links.clear();
    if let Some((net, info)) = linked {
        watch.begin(&net, &info, clock.now());
    }
}

/// An episode that closed with its session gets its report before it is written.
fn report_ended<C: Config>(
    net: Option<Res<LabNet>>,
    watch: Res<LinkWatch>,
    mut metrics: ResMut<SessionMetrics<C::Input>>,
) {
    if let Some(net) = net.filter(|_| metrics.has_pending()) {
        watch.report(&net, &mut metrics);
    }
}

/// Records what the links brought since the last update, and samples them once a second.
pub(super) fn record_links<C: Config>(
    net: Option<Res<LabNet>>,
    clock: Res<LabClock>,
    mut watch: ResMut<LinkWatch>,
    mut metrics: ResMut<SessionMetrics<C::Input>>,
    routes: Res<Messages<RouteChanged>>,
    notices: Res<Messages<PeerNotice>>,
    focus: Option<Res<Messages<FocusChanged>>>,
) {
    if let Some(focus) = focus {
        for change in watch.focus.read(&focus) {
            if change.hidden {
                metrics.record_focus_lost(change.at);
            } else {
                metrics.record_focus_gained(change.at);
            }
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
    let now = clock.now();
    let frame_ms = metrics.frame_ms();
    let current = net.current_frame();
    for watched in &mut watch.links {
        let (player, peer) = (watched.player, watched.peer);
        let Some(cursor) = watch.packets.get_mut(player) else {
            continue;
        };
        let link = net.link(peer, |link| (link.clock_offset(), link.lacks_second_path()));
        let (clock, lacks_second_path) = link.unwrap_or_default();
        if lacks_second_path {
            metrics.record_no_second_path();
        }
        let offset_us = clock.map(|estimate| estimate.offset_us);
        net.input_packets(peer, cursor, |_, packet| {
            if let InputPacket::First {
                arrival,
                new: Some((first, last)),
            } = *packet
            {
                let by = if arrival.relay {
                    Path::Relay
                } else {
                    Path::Direct
                };
                metrics.record_received(player, first, last, by);
                // A packet that was sent again says nothing about when its input was read.
                if !arrival.behind
                    && let Some(offset_us) = offset_us
                    && watched.input_ms.len() < INPUTS_A_SECOND
                {
                    let read_us = micros_i64(arrival.sent) - offset_us;
                    let waited_ms = (micros_i64(now) - read_us) as f64 / 1e3;
                    let ahead = f64::from((last - current).max(0));
                    watched.input_ms.push(waited_ms + ahead * frame_ms);
                }
            }
        });
    }
    net.drain_departures(&mut watch.departures);
    for departure in watch.departures.drain(..) {
        if let Some(player) = player_of(&watch.links, departure.peer) {
            metrics.record_sent(player, departure.first, departure.last, departure.by);
        }
    }
    for changed in watch.routes.read(&routes) {
        let change = &changed.change;
        // Before the first tick of an episode its next frame is 0.
        let frame = changed.frame.unwrap_or(0);
        if change.is_fallback() && net.conditions_are_direct_only() {
            metrics.record_condition_interrupted();
        }
        metrics.record_route(changed.player, frame, *change);
    }
    for notice in watch.notices.read(&notices) {
        match notice {
            PeerNotice::Gone { player, at, reason } => {
                metrics.record_disconnected(Some(*player), *at, Some(reason));
            }
            PeerNotice::ServerLost { at } => {
                metrics.record_disconnected(
                    None,
                    *at,
                    Some("the connection to the server was lost"),
                );
            }
            // No episode has begun.
            PeerNotice::TakenOff { .. } => {}
            PeerNotice::ServerBack { at, attempts, away } => {
                metrics.record_server_back(*at, *attempts, *away);
            }
            PeerNotice::Hidden { player, at } => metrics.record_peer_hidden(*player, *at),
            PeerNotice::Visible { player, at } => metrics.record_peer_visible(*player, *at),
        }
    }
    if metrics.is_running() && now >= watch.next_sample {
        watch.next_sample = now + SAMPLE_EVERY;
        for link in &mut watch.links {
            sample::<C>(&net, now, link, &mut metrics);
        }
    }
}

fn sample<C: Config>(
    net: &LabNet,
    now: Duration,
    watched: &mut Watched,
    metrics: &mut SessionMetrics<C::Input>,
) {
    let player = watched.player;
    net.link(watched.peer, |link| {
        if let Some(rtt) = link.srtt() {
            metrics.record_latency(player, now, millis(rtt), median(&mut watched.input_ms));
        }
        if let Some(margin) = link.margin() {
            metrics.record_margin(player, margin);
        }
        for path in Path::ALL {
            if let Some(rtt) = link.path_rtt(path) {
                watched.rtt_ms[path.index()].push(millis(rtt));
                watched.jitter_ms[path.index()].push(millis(link.stats().path(path).jitter));
            }
        }
        if let Some(estimate) = link.peer_clock().estimate() {
            let samples: Vec<_> = link.peer_clock().samples().collect();
            metrics.record_clock(PeerClock {
                player_id: player,
                at_us: Some(micros(estimate.at)),
                offset_us: Some(estimate.offset_us),
                uncertainty_us: Some(estimate.uncertainty_us),
                drift_ppm: drift_ppm(&samples).map(|ppm| (ppm * 100.0).round() / 100.0),
                samples,
            });
        }
    });
}

/// The median of `values`, which are forgotten.
fn median(values: &mut Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let median = values.get(values.len() / 2).copied();
    values.clear();
    median
}

fn micros_i64(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX / 4)
}

pub(super) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn report(net: &LabNet, watched: &Watched) -> LinkReport {
    let pair = net.candidate_pair(watched.peer);
    let turn = pair.is_some_and(|pair| pair.is_relayed());
    let link = net.link(watched.peer, |link| {
        (link.route().via(turn), link.stats().clone())
    });
    let Some((route, stats)) = link else {
        return LinkReport::unmeasured(watched.player);
    };
    let record = |path: Path| {
        let (before, after) = (watched.before.path(path), stats.path(path));
        PathRecord {
            player_id: watched.player,
            path,
            datagrams: since(before, after),
            bytes_sent: after.bytes_sent.saturating_sub(before.bytes_sent),
            bytes_received: after.bytes_received.saturating_sub(before.bytes_received),
            rtt_ms: Summary::of(watched.rtt_ms[path.index()].iter().copied()),
            jitter_ms: Summary::of(watched.jitter_ms[path.index()].iter().copied()),
        }
    };
    LinkReport {
        connection: ConnectionPeer {
            player_id: watched.player,
            route: Some(route).filter(|route| *route != Via::Unknown),
            candidate_types: pair
                .iter()
                .flat_map(|pair| [candidate(pair.local), candidate(pair.remote)])
                .collect(),
            connect_ms: net.connect_time(watched.peer).map(whole_micros_as_millis),
            started_on_relay: Some(watched.started_on_relay),
        },
        paths: Path::ALL.map(record).into(),
        direct_send_failures: stats
            .direct_send_failures
            .saturating_sub(watched.before.direct_send_failures),
        both_paths: stats.both_paths.saturating_sub(watched.before.both_paths),
    }
}

/// Milliseconds with three digits, as times in files are.
fn whole_micros_as_millis(time: Duration) -> f64 {
    micros(time) as f64 / 1000.0
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
fn candidate(kind: matchbox_socket::CandidateType) -> CandidateType {
    match kind {
        matchbox_socket::CandidateType::Host => CandidateType::Host,
        matchbox_socket::CandidateType::ServerReflexive => CandidateType::ServerReflexive,
        matchbox_socket::CandidateType::PeerReflexive => CandidateType::PeerReflexive,
        matchbox_socket::CandidateType::Relay => CandidateType::Relay,
    }
}
