//! Owns the systems that run beside ggrs's steps: they delimit episodes by the session's presence
//! and turn the trace and ggrs's event queue into messages. Never runs in a rollback schedule.

use std::time::Duration;

use bevy::ecs::system::SystemParam;
use bevy::prelude::*;
use bevy_ggrs::ggrs::{Config, GgrsEvent, P2PSession};
use bevy_ggrs::{ConfirmedFrameCount, Session};

use super::Links;
use super::log::TraceLog;
use super::messages::{
    DesyncDetected, RollbackCompleted, RollbackReloaded, SessionEvent, SessionEventKind, StallEnded,
};
use super::trace::{Fact, SessionKind};
use crate::clock::LabClock;

/// The messages about a trace.
#[derive(SystemParam)]
pub(super) struct TraceMessages<'w, I: Send + Sync + 'static> {
    facts: MessageWriter<'w, Fact<I>>,
    rollbacks: MessageWriter<'w, RollbackCompleted<I>>,
    reloads: MessageWriter<'w, RollbackReloaded>,
    stalls: MessageWriter<'w, StallEnded>,
}

/// Begins an episode when a session is there that was not before.
pub(super) fn begin_new_session<C: Config>(
    mut log: ResMut<TraceLog<C>>,
    clock: Res<LabClock>,
    session: Option<Res<Session<C>>>,
) {
    if log.awaits_session()
        && let Some(session) = session
    {
        log.begin_session(&session, clock.now());
    }
}

/// Tells what the update's last step confirmed; closes the episode of a session that is gone.
pub(super) fn settle_trace<C: Config>(
    mut log: ResMut<TraceLog<C>>,
    clock: Res<LabClock>,
    confirmed: Option<Res<ConfirmedFrameCount>>,
    session: Option<Res<Session<C>>>,
) {
    if let Some(confirmed) = confirmed {
        log.trace_mut().settle(confirmed.0);
    }
    if session.is_none() {
        log.session_gone(clock.now());
    }
}

/// Closes the episode when the app ends, unless somebody delimits episodes by hand.
pub(super) fn close_on_exit<C: Config>(mut log: ResMut<TraceLog<C>>, clock: Res<LabClock>) {
    log.session_gone(clock.now());
}

/// Turns the facts told since the last time into messages, in their order.
pub(super) fn drain_trace<C: Config>(
    mut log: ResMut<TraceLog<C>>,
    clock: Res<LabClock>,
    links: Res<Links>,
    session: Option<Res<Session<C>>>,
    mut messages: TraceMessages<C::Input>,
) {
    let ahead = match session.as_deref() {
        Some(Session::P2P(session)) => Some(session.frames_ahead()),
        _ => None,
    };
    for (kind, fact) in log.drain() {
        match &fact {
            Fact::RollbackRan(record) => {
                let timestamp = clock.origin_unix_ms() + millis(record.at);
                let mut rollback =
                    RollbackCompleted::new(record, kind, links.get(record.player), timestamp);
                rollback.evidence.frames_ahead = rollback.evidence.frames_ahead.or(ahead);
                messages.rollbacks.write(rollback);
            }
            &Fact::Reloaded {
                at,
                loaded_frame,
                resimulated,
                resim_time,
            } => {
                messages.reloads.write(RollbackReloaded {
                    session: kind,
                    at,
                    loaded_frame,
                    resimulated_frames: resimulated,
                    resim_time,
                });
            }
            &Fact::Stalled { frame, at, ticks } => {
                messages.stalls.write(StallEnded {
                    session: kind,
                    frame,
                    at,
                    ticks,
                });
            }
            _ => {}
        }
        messages.facts.write(fact);
    }
}

/// Re-emits every event of the session as a message of the lab, players by handle.
pub(super) fn drain_ggrs_events<C: Config>(
    session: Option<ResMut<Session<C>>>,
    clock: Res<LabClock>,
    mut drained: Local<Vec<GgrsEvent<C>>>,
    mut events: MessageWriter<SessionEvent>,
    mut desyncs: MessageWriter<DesyncDetected>,
) {
    let Some(mut session) = session else {
        return;
    };
    // Draining is no change that anybody has to react to.
    let session = session.bypass_change_detection();
    let of = match session {
        Session::P2P(session) => {
            drained.extend(session.events());
            SessionKind::P2P
        }
        Session::Spectator(session) => {
            drained.extend(session.events());
            SessionKind::Spectator
        }
        Session::SyncTest(_) => SessionKind::SyncTest,
    };
    let p2p = match session {
        Session::P2P(session) => Some(&*session),
        _ => None,
    };
    let at = clock.now();
    for event in drained.drain(..) {
        let (kind, address) = translate(event);
        let mut players = handles(p2p, address);
        players.sort_unstable();
        if let SessionEventKind::DesyncDetected {
            frame,
            local_checksum,
            remote_checksum,
        } = kind
        {
            desyncs.write(DesyncDetected {
                at,
                frame,
                local_checksum,
                remote_checksum,
                players: players.clone(),
            });
        }
        events.write(SessionEvent {
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
