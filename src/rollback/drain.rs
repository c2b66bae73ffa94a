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
use super::trace::Fact;
use crate::clock::LabClock;

/// The messages about a trace.
#[derive(SystemParam)]
pub(super) struct TraceMessages<'w, I: Send + Sync + 'static> {
    facts: MessageWriter<'w, Fact<I>>,
    rollbacks: MessageWriter<'w, RollbackCompleted<I>>,
    reloads: MessageWriter<'w, RollbackReloaded>,
    stalls: MessageWriter<'w, StallEnded>,
}

/// The messages about ggrs's own events.
#[derive(SystemParam)]
pub(super) struct SessionMessages<'w> {
    events: MessageWriter<'w, SessionEvent>,
    desyncs: MessageWriter<'w, DesyncDetected>,
}

/// What the update's steps came to: begins the episode of a session that was not there before,
/// tells what the last step confirmed, closes the episode of a session that is gone, and writes
/// all messages.
///
/// One system and not one for each of these: in a small game it is their number that costs.
pub(super) fn tell_steps<C: Config>(
    mut log: ResMut<TraceLog<C>>,
    clock: Res<LabClock>,
    links: Res<Links>,
    confirmed: Option<Res<ConfirmedFrameCount>>,
    session: Option<ResMut<Session<C>>>,
    mut drained: Local<Vec<GgrsEvent<C>>>,
    mut trace_messages: TraceMessages<C::Input>,
    mut session_messages: SessionMessages,
) {
    if let Some(confirmed) = confirmed {
        log.trace_mut().settle(confirmed.0);
    }
    let mut ahead = None;
    match session {
        None => log.session_gone(),
        Some(mut session) => {
            // Draining is no change that anybody has to react to.
            let session = session.bypass_change_detection();
            log.notice_session(Some(session));
            match session {
                Session::P2P(session) => {
                    ahead = Some(session.frames_ahead());
                    drained.extend(session.events());
                }
                Session::Spectator(session) => drained.extend(session.events()),
                Session::SyncTest(_) => {}
            }
            let p2p = match session {
                Session::P2P(session) => Some(&*session),
                _ => None,
            };
            for event in drained.drain(..) {
                session_messages.write(event, p2p, clock.now());
            }
        }
    }
    trace_messages.write(&mut log, &clock, &links, ahead);
}

/// Closes the episode when the app ends, unless somebody delimits episodes by hand, and writes
/// what is left to tell.
pub(super) fn tell_exit<C: Config>(
    mut log: ResMut<TraceLog<C>>,
    clock: Res<LabClock>,
    links: Res<Links>,
    session: Option<Res<Session<C>>>,
    mut messages: TraceMessages<C::Input>,
) {
    log.session_gone();
    let ahead = match session.as_deref() {
        Some(Session::P2P(session)) => Some(session.frames_ahead()),
        _ => None,
    };
    messages.write(&mut log, &clock, &links, ahead);
}

impl<I: Copy + PartialEq + Send + Sync + 'static> TraceMessages<'_, I> {
    /// Turns the facts told since the last time into messages, in their order.
    fn write<C: Config<Input = I>>(
        &mut self,
        log: &mut TraceLog<C>,
        clock: &LabClock,
        links: &Links,
        frames_ahead: Option<i32>,
    ) {
        for fact in log.trace_mut().drain() {
            match &fact {
                Fact::RollbackRan(record) => {
                    let timestamp = clock.origin_unix_ms() + millis(record.at);
                    let mut rollback =
                        RollbackCompleted::new(record, links.get(record.player), timestamp);
                    rollback.evidence.frames_ahead =
                        rollback.evidence.frames_ahead.or(frames_ahead);
                    self.rollbacks.write(rollback);
                }
                &Fact::Reloaded {
                    at,
                    loaded_frame,
                    resimulated,
                    resim_time,
                } => {
                    self.reloads.write(RollbackReloaded {
                        at,
                        loaded_frame,
                        resimulated_frames: resimulated,
                        resim_time,
                    });
                }
                &Fact::Stalled { frame, at, ticks } => {
                    self.stalls.write(StallEnded { frame, at, ticks });
                }
                _ => {}
            }
            self.facts.write(fact);
        }
    }
}

impl SessionMessages<'_> {
    /// Re-emits an event of the session as a message of the lab, players by handle.
    fn write<C: Config>(
        &mut self,
        event: GgrsEvent<C>,
        session: Option<&P2PSession<C>>,
        at: Duration,
    ) {
        let (kind, address) = translate(event);
        let mut players = handles(session, address);
        players.sort_unstable();
        if let SessionEventKind::DesyncDetected {
            frame,
            local_checksum,
            remote_checksum,
        } = kind
        {
            self.desyncs.write(DesyncDetected {
                at,
                frame,
                local_checksum,
                remote_checksum,
                players: players.clone(),
            });
        }
        self.events.write(SessionEvent { at, players, kind });
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
