//! The systems inside ggrs's schedules: each records one mark in [`TraceLog`], and the simulated
//! frame in the game's [`EpisodeRecord`]. They write nothing else.
//!
//! They run for every simulated frame, so each is one system that asks for few resources: in a
//! small game a system and a resource cost more than what they record.

use bevy::prelude::*;
use bevy_ggrs::ggrs::Config;
use bevy_ggrs::{Checksum, ConfirmedFrameCount, PlayerInputs, RollbackFrameCount, Session};

use super::EpisodeRecord;
use super::log::TraceLog;
use crate::clock::LabClock;

/// The log reads the same clock as the rest of the lab, whichever the app inserted.
pub(super) fn follow_clock<C: Config>(mut log: ResMut<TraceLog<C>>, clock: Res<LabClock>) {
    log.follow(&clock);
}

/// ggrs asks for the local inputs: one tick.
pub(super) fn tick<C: Config>(
    mut log: ResMut<TraceLog<C>>,
    frame: Res<RollbackFrameCount>,
    confirmed: Res<ConfirmedFrameCount>,
) {
    // Several steps can share one update: what the step before this one confirmed comes first.
    log.tick(frame.0, confirmed.0);
}

/// A state is being loaded; the frame count already holds the target.
pub(super) fn load<C: Config>(mut log: ResMut<TraceLog<C>>, frame: Res<RollbackFrameCount>) {
    log.load(frame.0);
}

/// A frame starts; the frame count is one ahead of the frame that the inputs belong to.
pub(super) fn advance_begin<C: Config>(
    mut log: ResMut<TraceLog<C>>,
    frame: Res<RollbackFrameCount>,
    inputs: Option<Res<PlayerInputs<C>>>,
    session: Option<Res<Session<C>>>,
    record: Option<ResMut<EpisodeRecord>>,
) {
    let frame = frame.0 - 1;
    if let Some(inputs) = inputs {
        log.notice_session(session.as_deref());
        log.advance_begin(frame, &inputs);
    }
    if let Some(mut record) = record {
        record.begin_frame(frame);
    }
}

/// A frame ended.
pub(super) fn advance_end<C: Config>(
    mut log: ResMut<TraceLog<C>>,
    record: Option<ResMut<EpisodeRecord>>,
) {
    log.advance_end();
    if let Some(mut record) = record {
        record.end_frame();
    }
}

/// A state was saved; its checksum is in the world.
pub(super) fn saved<C: Config>(
    mut log: ResMut<TraceLog<C>>,
    frame: Res<RollbackFrameCount>,
    checksum: Option<Res<Checksum>>,
) {
    log.saved(frame.0, checksum.map(|checksum| checksum.0));
}
