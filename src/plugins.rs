//! Owns the plugin groups: what a user adds, as a table of contents. No logic of its own.

use std::marker::PhantomData;
use std::path::PathBuf;

use bevy::app::PluginGroupBuilder;
use bevy::prelude::*;
use ggrs::Config;

use crate::record::RecordPlugin;
use crate::rollback::ObservePlugin;

/// Observers, metrics and export for a `bevy_ggrs` game that exists, with any transport.
///
/// An episode is the life of the game's ggrs session; it is closed when the session is removed
/// or the app exits.
pub struct RollbackObserverPlugins<C: Config> {
    export_dir: Option<PathBuf>,
    config: PhantomData<fn() -> C>,
}

impl<C: Config> Default for RollbackObserverPlugins<C> {
    /// Files go to `exports` in the working folder.
    fn default() -> Self {
        Self::new("exports")
    }
}

impl<C: Config> RollbackObserverPlugins<C> {
    /// Files go to `export_dir`.
    #[must_use]
    pub fn new(export_dir: impl Into<PathBuf>) -> Self {
        Self {
            export_dir: Some(export_dir.into()),
            config: PhantomData,
        }
    }

    /// Documents stay in memory.
    #[must_use]
    pub fn in_memory() -> Self {
        Self {
            export_dir: None,
            config: PhantomData,
        }
    }
}

impl<C: Config> PluginGroup for RollbackObserverPlugins<C> {
    fn build(self) -> PluginGroupBuilder {
        PluginGroupBuilder::start::<Self>()
            .add(ObservePlugin::<C>::default())
            .add(RecordPlugin::<C>::observing(self.export_dir))
    }
}

#[cfg(feature = "matchbox")]
pub use lab::RollbackLabPlugins;

#[cfg(feature = "matchbox")]
mod lab {
    use super::*;

    use bevy_ggrs::GgrsPlugin;
    use bevy_matchbox::matchbox_socket::PeerId;

    use crate::clock::LabClock;
    use crate::config::LabConfig;
    use crate::record::LabRecordPlugin;
    use crate::session::SessionPlugin;
    use crate::transport::LabNet;
    use rollback_lab_link::conditions::Conditions;

    /// The whole: rooms, routes, episodes, observers, files.
    ///
    /// Adds [`GgrsPlugin`] itself. The game adds its rollback state, `ReadInputs` and
    /// `GgrsSchedule` systems, and spawns its world on
    /// [`EpisodeStarting`](crate::session::EpisodeStarting).
    ///
    /// # Panics
    /// Adding it with a configuration that [`LabConfig::validate`] refuses, with that error.
    pub struct RollbackLabPlugins<C: Config<Address = PeerId>> {
        lab: LabConfig,
        config: PhantomData<fn() -> C>,
    }

    impl<C: Config<Address = PeerId>> RollbackLabPlugins<C> {
        /// A lab session by `config`.
        #[must_use]
        pub fn new(config: LabConfig) -> Self {
            Self {
                lab: config,
                config: PhantomData,
            }
        }
    }

    impl<C: Config<Address = PeerId>> PluginGroup for RollbackLabPlugins<C> {
        fn build(self) -> PluginGroupBuilder {
            if let Err(error) = self.lab.validate() {
                panic!("lab configuration: {error}");
            }
            PluginGroupBuilder::start::<Self>()
                .add(GgrsPlugin::<C>::default())
                .add(ObservePlugin::<C>::default())
                .add(SessionPlugin::<C>::new(self.lab.session_settings()))
                .add(LabRecordPlugin::<C>::new(self.lab.record_settings()))
                .add(NetworkPlugin { lab: self.lab })
        }
    }

    /// Opens the network at start-up, unless the app brought its own [`LabNet`].
    struct NetworkPlugin {
        lab: LabConfig,
    }

    impl Plugin for NetworkPlugin {
        fn build(&self, app: &mut App) {
            app.insert_resource(self.lab.clone())
                .add_systems(PreStartup, open_network);
        }
    }

    fn open_network(
        lab: Res<LabConfig>,
        clock: Res<LabClock>,
        present: Option<Res<LabNet>>,
        mut commands: Commands,
    ) {
        if present.is_some() {
            return;
        }
        let conditions = Conditions::parse(&lab.conditions).unwrap_or_default();
        commands.insert_resource(LabNet::open(
            lab.matchbox_settings(),
            clock.clone(),
            lab.link_settings(),
            &conditions,
            lab.conditions_seed(),
        ));
    }
}
