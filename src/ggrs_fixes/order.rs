//! `bevy_ggrs` 0.22 numbers rolled-back entities in the order in which they were registered, counts those
//! that are gone, and hashes the numbers into component checksums. An app that has played before
//! computes other checksums than one that has not, from the first frame on.

use bevy::ecs::entity_disabling::Disabled;
use bevy::ecs::query::Allow;
use bevy::platform::collections::HashMap;
use bevy::prelude::*;
use bevy_ggrs::{Rollback, RollbackDespawned, RollbackId, RollbackOrdered, Session};
use ggrs::Config;

/// Registers the entities that are there anew when a session begins, in their order.
///
/// Runs in [`PreUpdate`] before ggrs's first step of the session.
pub(super) fn forget_former_entities<C: Config>(world: &mut World, mut had_session: Local<bool>) {
    let has = world.contains_resource::<Session<C>>();
    let begins = has && !*had_session;
    *had_session = has;
    if !begins {
        return;
    }
    let entities: HashMap<RollbackId, Entity> = world
        .query_filtered::<(&RollbackId, Entity), (Allow<RollbackDespawned>, Allow<Disabled>)>()
        .iter(world)
        .map(|(id, entity)| (*id, entity))
        .collect();
    let ordered = world.resource::<RollbackOrdered>();
    if ordered.len() == entities.len() {
        return;
    }
    let present: Vec<Entity> = ordered
        .iter_sorted()
        .filter_map(|id| entities.get(&id).copied())
        .collect();
    world.insert_resource(RollbackOrdered::default());
    for entity in present {
        // The hook of `Rollback` registers an entity that has no id.
        let mut entity = world.entity_mut(entity);
        entity.remove::<(Rollback, RollbackId)>().insert(Rollback);
    }
    world.flush();
}
