//! Links without the lab's transport: the evidence that the game's own transport gave.

use bevy::ecs::system::SystemParam;
use bevy::prelude::*;

use super::LinkStats;
use crate::rollback::Links;

/// Where the numbers of links come from.
#[derive(SystemParam)]
pub(super) struct LinkSource<'w> {
    observed: Option<Res<'w, Links>>,
}

impl LinkSource<'_> {
    /// Adds an entry per remote player.
    pub(super) fn read(&self, links: &mut Vec<LinkStats>) {
        super::observed_links(self.observed.as_deref(), links);
    }
}
