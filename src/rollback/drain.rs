//! The systems that run after ggrs's steps, outside the rollback schedules: they delimit episodes
//! by the session's presence, decide causes, and turn the trace and ggrs's event queue into
//! messages.

use std::collections::VecDeque;
use std::time::Duration;

use bevy::prelude::*;
use bevy_ggrs::ggrs::{Config, GgrsEvent, P2PSession};
use bevy_ggrs::{ConfirmedFrameCount, Session};

use super::Links;
use super::cause::{Cause, LateInput};
use super::log::TraceLog;
use super::messages::{
    CauseRevised, DesyncDetected, RollbackCompleted, RollbackReloaded, SessionEvent,
    SessionEventKind, StallEnded,
};
use super::trace::{Fact, RollbackRecord, SessionKind};
use crate::clock::LabClock;

/// What an update reports, kept from update to update so that nothing is allocated.
pub(super) struct Pending<C: Config> {
    facts: VecDeque<Fact<C::Input>>,
    events: Vec<GgrsEvent<C>>,
    /// As [`TraceLog::reads_events`].
    reads_events: bool,
    /// A reported cause may still change.
    undecided: bool,
}

impl<C: Config> FromWorld for Pending<C> {
    fn from_world(world: &mut World) -> Self {
        Self {
            facts: VecDeque::new(),
            events: Vec::new(),
            reads_events: world.resource::<TraceLog<C>>().reads_events(),
            undecided: false,
        }
    }
}

/// What the update's steps came to: begins the episode of a session that was not there before,
/// reports what the last step confirmed, closes the episode of a session that is gone, and writes
/// all messages.
///
/// One exclusive system: most updates have facts alone, and a system that asked for every kind of
/// message beforehand would cost a small game more than the messages do. It also asks the world
/// only once for the log in such an update, because every resource that is asked for costs.
pub(super) fn report_steps<C: Config>(world: &mut World, mut pending: Local<Pending<C>>) {
    let pending = &mut *pending;
    let session = world.get_resource_mut::<Session<C>>();
    let is_there = session.is_some();
    // Draining is no change that a system could react to.
    let frames_ahead =
        session.and_then(|mut session| drain_session(session.bypass_change_detection(), pending));
    let confirmed = world
        .get_resource::<ConfirmedFrameCount>()
        .map(|count| count.0);
    let mut log = world.resource_mut::<TraceLog<C>>();
    if let Some(confirmed) = confirmed {
        log.trace_mut().settle(confirmed);
    }
    if !is_there {
        log.session_gone();
    }
    if is_there && log.awaits_session() {
        world.resource_scope(|world, mut log: Mut<TraceLog<C>>| {
            log.notice_session(world.get_resource::<Session<C>>());
        });
        log = world.resource_mut::<TraceLog<C>>();
    }
    let kind = log.swap_facts(&mut pending.facts);
    report_events(world, &mut pending.events);
    report_facts::<C>(world, pending, kind, frames_ahead);
}

/// Closes the episode when the app exits, unless episodes are delimited by hand, and writes the
/// messages that are left.
pub(super) fn report_exit<C: Config>(world: &mut World, mut pending: Local<Pending<C>>) {
    let mut log = world.resource_mut::<TraceLog<C>>();
    log.session_gone();
    let kind = log.swap_facts(&mut pending.facts);
    report_facts::<C>(world, &mut pending, kind, None);
}

/// Takes ggrs's events, unless they are the game's; returns by how many frames this peer is ahead, for a
/// P2P session.
fn drain_session<C: Config>(session: &mut Session<C>, pending: &mut Pending<C>) -> Option<i32> {
    if pending.reads_events {
        match session {
            Session::P2P(session) => pending.events.extend(session.events()),
            Session::Spectator(session) => pending.events.extend(session.events()),
            Session::SyncTest(_) => {}
        }
    }
    match session {
        Session::P2P(session) => Some(session.frames_ahead()),
        Session::Spectator(_) | Session::SyncTest(_) => None,
    }
}

/// Decides the causes of the facts since the last time and turns the facts into messages, in their
/// order.
fn report_facts<C: Config>(
    world: &mut World,
    pending: &mut Pending<C>,
    mut session: SessionKind,
    frames_ahead: Option<i32>,
) {
    for fact in &mut pending.facts {
        match fact {
            Fact::RollbackRan(record) => {
                decide_cause(world, record, frames_ahead);
                let unix_ms = world.resource::<LabClock>().origin_unix_ms() + millis(record.at);
                world.write_message(RollbackCompleted::new(record, session, unix_ms));
                pending.undecided = true;
            }
            &mut Fact::Reloaded {
                at,
                loaded_frame,
                resimulated,
                resim_time,
            } => {
                world.write_message(RollbackReloaded {
                    session,
                    at,
                    loaded_frame,
                    resimulated_frames: resimulated,
                    resim_time,
                });
            }
            Fact::Stalled {
                frame,
                at,
                ticks,
                cause,
            } => {
                if *cause == Cause::Unknown {
                    *cause = stall_cause::<C>(world, *at);
                }
                world.write_message(StallEnded {
                    session,
                    frame: *frame,
                    at: *at,
                    ticks: *ticks,
                    cause: *cause,
                });
            }
            // ggrs's own event of it is read by the game.
            Fact::PlayerGone { at, player, .. } if !pending.reads_events => {
                world.write_message(SessionEvent {
                    session,
                    at: *at,
                    players: vec![*player],
                    kind: SessionEventKind::Disconnected,
                });
            }
            Fact::Began { session: next, .. } => {
                session = *next;
                world.resource_mut::<Links>().finalize_all();
            }
            Fact::Closed { .. } => world.resource_mut::<Links>().finalize_all(),
            _ => {}
        }
    }
    if pending.undecided {
        pending.undecided = report_revised::<C>(world, &mut pending.facts);
    }
    if !pending.facts.is_empty() {
        world.write_message_batch(pending.facts.drain(..));
    }
}

/// Decides why the input was late that a rollback corrected, from what is known of the links now.
fn decide_cause<I: Copy + Send + Sync + 'static>(
    world: &mut World,
    record: &mut RollbackRecord<I>,
    frames_ahead: Option<i32>,
) {
    let mut links = world.resource_mut::<Links>();
    let late = LateInput {
        player: record.player,
        frame: record.frame,
        due: record.first_simulated_at,
        corrected: record.at,
    };
    (record.cause, record.evidence) = links.judge_rollback(record.id, record.disconnect, late);
    record.evidence.frames_ahead = record.evidence.frames_ahead.or(frames_ahead);
    let via = links.get(record.player).map(|link| link.via);
    record.via = via.unwrap_or_default();
}

/// Revises causes by the packets that came since. Returns whether a cause may still change.
fn report_revised<C: Config>(world: &mut World, facts: &mut VecDeque<Fact<C::Input>>) -> bool {
    let links = world.resource::<Links>();
    // The scope moves everything that is known of the links: only when something was revised.
    if !links.has_news() {
        return links.is_undecided();
    }
    let now = world.resource::<LabClock>().now();
    world.resource_scope(|world, mut links: Mut<Links>| {
        links
            .bypass_change_detection()
            .revise(now, |rollback_id, cause, evidence| {
                facts.push_back(Fact::CauseRevised {
                    id: rollback_id,
                    cause,
                    evidence,
                });
                world.write_message(CauseRevised {
                    rollback_id,
                    cause,
                    evidence,
                });
            });
        links.is_undecided()
    })
}

/// A stall waits for the oldest input that is missing: why that one was late.
fn stall_cause<C: Config>(world: &World, at: Duration) -> Cause {
    let links = world.resource::<Links>();
    let now = world.resource::<LabClock>().now();
    let judged = links.awaited(at).map(|(player, frame)| {
        let trace = world.resource::<TraceLog<C>>().trace();
        let late = LateInput {
            player,
            frame,
            due: trace.first_simulated_at(frame).unwrap_or(at),
            corrected: now,
        };
        links.judge(false, &late).0
    });
    judged.unwrap_or(Cause::Unknown)
}

/// Re-emits every event of the session as a message of the lab, players by handle.
fn report_events<C: Config>(world: &mut World, drained: &mut Vec<GgrsEvent<C>>) {
    for event in drained.drain(..) {
        let at = world.resource::<LabClock>().now();
        let (kind, address) = translate(event);
        let (of, p2p) = match world.get_resource::<Session<C>>() {
            Some(Session::P2P(session)) => (SessionKind::P2P, Some(session)),
            Some(Session::SyncTest(_)) => (SessionKind::SyncTest, None),
            _ => (SessionKind::Spectator, None),
        };
        let mut players = handles(p2p, address);
        players.sort_unstable();
        if let SessionEventKind::DesyncDetected {
            frame,
            local_checksum,
            remote_checksum,
        } = kind
        {
            world.write_message(DesyncDetected {
                at,
                frame,
                local_checksum,
                remote_checksum,
                players: players.clone(),
            });
        }
        world.write_message(SessionEvent {
            session: of,
            at,
            players,
            kind,
        });
    }
}

fn translate<C: Config>(event: GgrsEvent<C>) -> (SessionEventKind, Option<C::Address>) {
    match event {
        GgrsEvent::Synchronizing { addr, total, count } => {
            (SessionEventKind::Synchronizing { total, count }, Some(addr))
        }
        GgrsEvent::Synchronized { addr } => (SessionEventKind::Synchronized, Some(addr)),
        GgrsEvent::Disconnected { addr } => (SessionEventKind::Disconnected, Some(addr)),
        GgrsEvent::NetworkInterrupted {
            addr,
            disconnect_timeout,
        } => {
            let disconnect_timeout =
                Duration::from_millis(u64::try_from(disconnect_timeout).unwrap_or(u64::MAX));
            (
                SessionEventKind::NetworkInterrupted { disconnect_timeout },
                Some(addr),
            )
        }
        GgrsEvent::NetworkResumed { addr } => (SessionEventKind::NetworkResumed, Some(addr)),
        GgrsEvent::WaitRecommendation { skip_frames } => {
            (SessionEventKind::WaitRecommendation { skip_frames }, None)
        }
        GgrsEvent::DesyncDetected {
            frame,
            local_checksum,
            remote_checksum,
            addr,
        } => (
            SessionEventKind::DesyncDetected {
                frame,
                local_checksum,
                remote_checksum,
            },
            Some(addr),
        ),
    }
}

/// Player handles behind an address; a spectator's host plays under none.
fn handles<C: Config>(session: Option<&P2PSession<C>>, address: Option<C::Address>) -> Vec<usize> {
    match (session, address) {
        (Some(session), Some(address)) => session.handles_by_address(address),
        _ => Vec::new(),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
