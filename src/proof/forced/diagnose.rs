//! Finds out why a resimulation differs: the same frames are simulated again, and what they write is
//! compared with what a load restores.

use std::any::TypeId;
use std::collections::BTreeSet;

use bevy::ecs::change_detection::Tick;
use bevy::ecs::component::ComponentId;
use bevy::ecs::entity::Entity;
use bevy::prelude::*;
use bevy_ggrs::{
    Checksum, ConfirmedFrameCount, GgrsTime, LocalPlayers, MaxPredictionWindow, PlayerInputs,
    RollbackEntityMap, RollbackFrameCount, RollbackId, RollbackOrdered,
};
use ggrs::Config;

use super::{Run, frame_of};
use crate::proof::hints::{Comparison, Divergence, Pitfall};
use crate::proof::names::Names;
use crate::proof::parts::{Parts, type_of};
use crate::rollback::EpisodeRecord;

impl<C: Config> Run<C> {
    /// `seen` holds the first simulation's states from `from` on, `again` those of the second. They
    /// differ for the first time after the last of `inputs`.
    pub(super) fn diagnose(
        mut self,
        names: &Names,
        from: usize,
        seen: &[Parts],
        again: &[Parts],
        inputs: &[Vec<C::Input>],
    ) -> Divergence {
        let place = inputs.len();
        let mut touched = Touched::default();
        // Twice: for what is written, and for whether the result is the same each time.
        let repeats = [(); 2].map(|()| self.repeat(from, inputs, &mut touched));
        let world = self.app.world();
        let mut pitfalls = touched.pitfalls::<C>(world, names);
        let order = (0..=place).find(|&at| seen[at].order != again[at].order);
        if let Some(at) = order {
            pitfalls.push(Pitfall::QueryOrder {
                frame: frame_of(from + at),
            });
        }
        if pitfalls.is_empty() {
            let same = repeats.iter().all(|parts| parts.sums == again[place].sums);
            pitfalls.push(if same {
                Pitfall::IncompleteSnapshot
            } else {
                Pitfall::HiddenState
            });
        }
        let differing = seen[place].differing(&again[place]);
        Divergence {
            frame: frame_of(from + place),
            comparison: Comparison::Resimulation {
                from: frame_of(from),
            },
            parts: differing.iter().map(|id| names.of(world, *id)).collect(),
            pitfalls,
        }
    }

    /// Simulates the frames again, and returns the state after the last one.
    fn repeat(&mut self, from: usize, inputs: &[Vec<C::Input>], touched: &mut Touched) -> Parts {
        let before = self.app.world_mut().increment_change_tick();
        self.load(frame_of(from));
        let restored = changed(self.app.world_mut(), before);
        touched.restored.extend(restored);
        let mut last = Parts::default();
        for inputs in inputs {
            // What a save writes is not state of the game.
            let before = self.app.world_mut().increment_change_tick();
            self.advance(inputs);
            let written = changed(self.app.world_mut(), before);
            touched.written.extend(written);
            last = self.save();
        }
        last
    }
}

/// Resources (`true`) and components of rolled-back entities, written by a load and by frames.
#[derive(Default)]
struct Touched {
    restored: BTreeSet<(bool, ComponentId)>,
    written: BTreeSet<(bool, ComponentId)>,
}

impl Touched {
    fn pitfalls<C: Config>(&self, world: &World, names: &Names) -> Vec<Pitfall> {
        let not_state = bookkeeping::<C>();
        let is_bookkeeping = |id| type_of(world, id).is_some_and(|of| not_state.contains(&of));
        self.written
            .difference(&self.restored)
            .filter(|(_, id)| !is_bookkeeping(*id))
            .map(|&(resource, id)| {
                let name = names.of(world, id);
                if resource {
                    Pitfall::UnregisteredResource(name)
                } else {
                    Pitfall::UnregisteredComponent(name)
                }
            })
            .collect()
    }
}

/// Resources (`true`) and components of rolled-back entities written since `before`.
fn changed(world: &mut World, before: Tick) -> BTreeSet<(bool, ComponentId)> {
    let now = world.change_tick();
    let resources = world
        .resource_entities()
        .iter()
        .map(|(id, _)| id)
        .collect::<Vec<_>>();
    let mut changed: BTreeSet<(bool, ComponentId)> = resources
        .into_iter()
        .filter(|id| {
            world
                .get_resource_change_ticks_by_id(*id)
                .is_some_and(|ticks| ticks.is_changed(before, now))
        })
        .map(|id| (true, id))
        .collect();
    let mut entities = world.query_filtered::<EntityRef, With<RollbackId>>();
    for entity in entities.iter(world) {
        for &id in entity.archetype().components() {
            let ticks = entity.get_change_ticks_by_id(id);
            if ticks.is_some_and(|ticks| ticks.is_changed(before, now)) {
                changed.insert((false, id));
            }
        }
    }
    changed
}

/// What Bevy, `bevy_ggrs` and this crate write in every frame: not state of the game.
fn bookkeeping<C: Config>() -> Vec<TypeId> {
    vec![
        TypeId::of::<Checksum>(),
        TypeId::of::<ConfirmedFrameCount>(),
        TypeId::of::<EpisodeRecord>(),
        TypeId::of::<LocalPlayers>(),
        TypeId::of::<MaxPredictionWindow>(),
        TypeId::of::<PlayerInputs<C>>(),
        TypeId::of::<RollbackEntityMap>(),
        TypeId::of::<RollbackFrameCount>(),
        TypeId::of::<RollbackId>(),
        TypeId::of::<RollbackOrdered>(),
        TypeId::of::<Schedules>(),
        TypeId::of::<Time>(),
        TypeId::of::<Time<GgrsTime>>(),
        TypeId::of::<Time<Virtual>>(),
        TypeId::of::<bevy_ggrs::Rollback>(),
        TypeId::of::<Entity>(),
    ]
}
