//! Owns reading the checksum of every registered type after a save. Never decides what a difference
//! means.

use std::any::TypeId;

use bevy::ecs::component::ComponentId;
use bevy::prelude::*;
use bevy_ggrs::{ChecksumPart, RollbackId, RollbackOrdered};

/// The checksums of one saved state, and the order in which its entities are iterated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    /// By the component that flags each part, in its order.
    pub(super) sums: Vec<(ComponentId, u128)>,
    /// Places of the rolled-back entities in the order of their spawning, as a query visits them.
    pub(super) order: Vec<u64>,
}

impl Parts {
    /// Reads the parts that the last save left in the world.
    pub(super) fn read(world: &mut World) -> Self {
        let mut query = world.query::<(EntityRef, &ChecksumPart)>();
        let part = world.component_id::<ChecksumPart>();
        let mut sums: Vec<(ComponentId, u128)> = query
            .iter(world)
            .filter_map(|(entity, sum)| {
                // A part is an entity of two components: the sum, and the flag with its type.
                let mut flags = entity
                    .archetype()
                    .components()
                    .iter()
                    .copied()
                    .filter(|id| Some(*id) != part);
                // One that the game wrote itself may have no flag.
                Some((flags.next().or(part)?, sum.0))
            })
            .collect();
        sums.sort_unstable();
        let mut entities = world.query::<&RollbackId>();
        let order = world
            .get_resource::<RollbackOrdered>()
            .map(|ordered| {
                let ids = entities.query(world);
                ids.iter().map(|id| ordered.order(*id)).collect()
            })
            .unwrap_or_default();
        Self { sums, order }
    }

    /// The flags whose sums differ, those that only one side has among them.
    pub(super) fn differing(&self, other: &Self) -> Vec<ComponentId> {
        let only = |a: &Self, b: &Self| -> Vec<ComponentId> {
            let missing = |sum: &&(ComponentId, u128)| !b.sums.contains(sum);
            a.sums.iter().filter(missing).map(|sum| sum.0).collect()
        };
        let mut differing = only(self, other);
        differing.extend(only(other, self));
        differing.sort_unstable();
        differing.dedup();
        differing
    }
}

/// The type behind a component id.
pub(super) fn type_of(world: &World, id: ComponentId) -> Option<TypeId> {
    world.components().get_info(id)?.type_id()
}
