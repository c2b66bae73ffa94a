//! Owns the systems inside ggrs's schedules: each notes one mark in [`TraceLog`]. Never writes
//! anything else.

use bevy::prelude::*;
use bevy_ggrs::ggrs::Config;
use bevy_ggrs::{Checksum, ConfirmedFrameCount, PlayerInputs, RollbackFrameCount, Session};

use super::log::TraceLog;
use crate::clock::LabClock;

/// ggrs asks for the local inputs: one tick.
pub(super) fn tick<C: Config>(
    mut log: ResMut<TraceLog<C>>,
    clock: Res<LabClock>,
    frame: Res<RollbackFrameCount>,
    confirmed: Res<ConfirmedFrameCount>,
) {
    // Several steps can share one update: what the step before this one confirmed is told first.
    log.tick(frame.0, confirmed.0, clock.now());
}

/// A state is being loaded; the frame count already holds the target.
pub(super) fn load<C: Config>(
    mut log: ResMut<TraceLog<C>>,
    clock: Res<LabClock>,
    frame: Res<RollbackFrameCount>,
) {
    log.trace_mut().load(frame.0, clock.now());
}

/// A frame starts; the frame count is one ahead of the frame that the inputs belong to.
pub(super) fn advance_begin<C: Config>(
    mut log: ResMut<TraceLog<C>>,
    clock: Res<LabClock>,
    frame: Res<RollbackFrameCount>,
    inputs: Option<Res<PlayerInputs<C>>>,
    session: Option<Res<Session<C>>>,
) {
    let Some(inputs) = inputs else {
        return;
    };
    let now = clock.now();
    log.notice_session(session.as_deref(), now);
    log.advance_begin(frame.0 - 1, &inputs, now);
}

/// A frame ended.
pub(super) fn advance_end<C: Config>(mut log: ResMut<TraceLog<C>>, clock: Res<LabClock>) {
    log.trace_mut().advance_end(clock.now());
}

/// A state was saved; its checksum is in the world.
pub(super) fn saved<C: Config>(
    mut log: ResMut<TraceLog<C>>,
    clock: Res<LabClock>,
    frame: Res<RollbackFrameCount>,
    checksum: Option<Res<Checksum>>,
    session: Option<Res<Session<C>>>,
) {
    log.notice_session(session.as_deref(), clock.now());
    log.trace_mut()
        .saved(frame.0, checksum.map(|checksum| checksum.0));
}
