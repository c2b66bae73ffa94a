//! Workarounds for `bevy_ggrs` 0.22, for games that build their own sessions.

use std::marker::PhantomData;

use bevy::prelude::*;
use bevy_ggrs::RunGgrsSystems;
use ggrs::Config;

mod depth;
mod order;

/// Works around two faults of `bevy_ggrs` 0.22 in a game that builds its own sessions. Add it after
/// `GgrsPlugin`; [`LabSocketPlugin`](crate::LabSocketPlugin) and
/// [`RollbackLabPlugins`](crate::RollbackLabPlugins) bring it.
///
/// - A game without input delay panics with "Could not rollback to 0" when the first remote input takes
///   longer than the prediction window: the state of frame 0 is kept as long as it may be loaded.
/// - The second session of an app desyncs against an app that plays its first one: entities of the old
///   session still count in the order that is hashed into component checksums. They are forgotten when
///   a session begins.
///
/// Neither changes what the game simulates. The observers alone do not add it, because they change
/// nothing.
///
/// ```
/// use bevy::prelude::*;
/// use bevy_rollback_lab::GgrsFixesPlugin;
/// use bevy_rollback_lab::bevy_ggrs::{GgrsConfig, GgrsPlugin};
///
/// type Config = GgrsConfig<u8>;
///
/// App::new()
///     .add_plugins((MinimalPlugins, GgrsPlugin::<Config>::default()))
///     .add_plugins(GgrsFixesPlugin::<Config>::default());
/// ```
pub struct GgrsFixesPlugin<C>(PhantomData<fn() -> C>);

impl<C> Default for GgrsFixesPlugin<C> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<C: Config> Plugin for GgrsFixesPlugin<C> {
    /// A game may add it although another plugin has.
    fn is_unique(&self) -> bool {
        false
    }

    fn build(&self, app: &mut App) {
        if app.is_plugin_added::<Self>() {
            return;
        }
        app.add_plugins(depth::plugin::<C>).add_systems(
            PreUpdate,
            order::forget_former_entities::<C>.before(RunGgrsSystems),
        );
    }
}
