//! The names of types in reports: those the author gave, else those Bevy keeps with its `debug`
//! feature.

use std::any::{TypeId, type_name};
use std::collections::HashMap;

use bevy::ecs::component::ComponentId;
use bevy::prelude::*;
use bevy_ggrs::ChecksumFlag;

use super::parts::type_of;

/// Names by type. `bevy_ggrs`'s own part of the checksum, the number of entities, has one from the start.
#[derive(Clone, Debug)]
pub(super) struct Names(HashMap<TypeId, &'static str>);

impl Default for Names {
    fn default() -> Self {
        let entities = (
            TypeId::of::<ChecksumFlag<Entity>>(),
            "Entity (number of entities)",
        );
        Self(HashMap::from([entities]))
    }
}

impl Names {
    /// Names `T` and its part of the checksum.
    pub(super) fn add<T: Send + Sync + 'static>(&mut self) {
        self.0.insert(TypeId::of::<T>(), type_name::<T>());
        self.0
            .insert(TypeId::of::<ChecksumFlag<T>>(), type_name::<T>());
    }

    /// The name of the type behind a component id; of a flag, that of the type it flags.
    pub(super) fn of(&self, world: &World, id: ComponentId) -> String {
        let given = type_of(world, id).and_then(|of| self.0.get(&of));
        if let Some(name) = given {
            return (*name).to_owned();
        }
        let kept = world
            .components()
            .get_info(id)
            .map(|info| info.name().to_string());
        match kept {
            // Without its `debug` feature Bevy returns a placeholder in angle brackets.
            Some(name) if !name.starts_with('<') => flagged(&name).to_owned(),
            _ => format!(
                "type {} (name it with `.name::<T>()`, or enable Bevy's `debug` feature)",
                id.index()
            ),
        }
    }
}

/// `Position` of `bevy_ggrs::snapshot::checksum::ChecksumFlag<game::Position>`.
fn flagged(name: &str) -> &str {
    name.split_once("ChecksumFlag<")
        .and_then(|(_, inner)| inner.strip_suffix('>'))
        .unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_of_a_type_is_named_like_the_type() {
        let flag = "bevy_ggrs::snapshot::checksum::ChecksumFlag<game::Held<game::Item>>";
        assert_eq!(flagged(flag), "game::Held<game::Item>");
        assert_eq!(flagged("game::Wind"), "game::Wind");
    }
}
