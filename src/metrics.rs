//! Stub.
#[derive(bevy::prelude::Resource)]
pub struct EpisodeRecord;
