//! Stub.
use bevy::prelude::*;
pub const SCHEMA_VERSION: &str = "1.0";
#[derive(Event)]
pub struct EpisodeEnded;
pub struct RecordPlugin<C>(std::marker::PhantomData<fn() -> C>);
impl<C> RecordPlugin<C> {
    pub fn observing(_: Option<std::path::PathBuf>) -> Self {
        Self(std::marker::PhantomData)
    }
    #[cfg(feature = "matchbox")]
    pub fn lab(_: &crate::config::LabConfig) -> Self {
        Self(std::marker::PhantomData)
    }
}
impl<C: 'static> Plugin for RecordPlugin<C> {
    fn build(&self, _: &mut App) {}
}
