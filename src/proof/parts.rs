//! The checksum of every registered type after a save.

use std::any::TypeId;

use bevy::ecs::component::ComponentId;
use bevy::prelude::*;
use bevy_ggrs::{ChecksumPart, RollbackId, RollbackOrdered};

/// The checksums of one saved state, and the order in which its entities are iterated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    /// Checksums by the component that marks each part, sorted.
    pub(super) sums: Vec<(ComponentId, u128)>,
    /// Spawn order of the rolled-back entities, in the order in which a query visits them.
    pub(super) order: Vec<u64>,
}

impl Parts {
    /// Reads the parts of the last save.
    pub(super) fn read(world: &mut World) -> Self {
        let mut query = world.query::<(EntityRef, &ChecksumPart)>();
        let part = world.component_id::<ChecksumPart>();
        let mut sums: Vec<(ComponentId, u128)> = query
            .iter(world)
            .filter_map(|(entity, sum)| {
                // A part is an entity with two components: the checksum, and a marker with its type.
                let mut markers = entity
                    .archetype()
                    .components()
                    .iter()
                    .copied()
                    .filter(|id| Some(*id) != part);
                // A part that the game wrote itself may have no marker.
                Some((markers.next().or(part)?, sum.0))
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

    /// The parts whose checksums differ, or which only one side has.
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
