//! Owns what the observers alone know of a link: the evidence that the game's own transport gave.

use bevy::ecs::system::SystemParam;
use bevy::prelude::*;

use super::LinkVitals;
use crate::rollback::Links;

/// Everything that knows a link.
#[derive(SystemParam)]
pub(super) struct LinkSource<'w> {
    observed: Option<Res<'w, Links>>,
}

impl LinkSource<'_> {
    /// Adds a line per remote player.
    pub(super) fn read(&self, links: &mut Vec<LinkVitals>) {
        super::observed_links(self.observed.as_deref(), links);
    }
}
