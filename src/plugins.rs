//! The plugin groups: what a game adds.

use std::marker::PhantomData;
use std::path::PathBuf;

use bevy::app::PluginGroupBuilder;
use bevy::prelude::*;
use ggrs::Config;

use crate::record::RecordPlugin;
use crate::rollback::ObservePlugin;

/// Records every rollback of a `bevy_ggrs` game that exists, with any transport.
///
/// Add it after `GgrsPlugin`. It writes the messages of [`rollback`](crate::rollback), triggers
/// [`EpisodeEnded`](crate::record::EpisodeEnded), and leaves one file per ggrs session: an episode is
/// the life of the `Session` resource, and ends when that is removed or the app exits.
///
/// The game goes on as before: `session.events()` stays its own, with every event that it had without
/// the observers. They see from the inputs that a player is gone
/// ([`SessionEvent`](crate::rollback::SessionEvent)), over a [`LabRoom`](crate::LabRoom) that states
/// differ ([`DesyncDetected`](crate::rollback::DesyncDetected)), and over any other transport a desync is
/// found in the two files. A game that does not read ggrs's events leaves them to the observers with
/// [`read_events`](Self::read_events).
///
/// ```no_run
/// use bevy::prelude::*;
/// use bevy_rollback_lab::bevy_ggrs::{GgrsConfig, GgrsPlugin};
/// use bevy_rollback_lab::prelude::*;
///
/// type Config = GgrsConfig<u8>;
///
/// App::new()
///     .add_plugins((MinimalPlugins, GgrsPlugin::<Config>::default()))
///     .add_plugins(RollbackObserverPlugins::<Config>::new("study/files"))
///     .add_observer(|ended: On<EpisodeEnded>| {
///         info!("{} rollbacks", ended.summary.rollbacks);
///     })
///     .run();
/// ```
pub struct RollbackObserverPlugins<C: Config> {
    export_dir: Option<PathBuf>,
    read_events: bool,
    config: PhantomData<fn() -> C>,
}

impl<C: Config> Default for RollbackObserverPlugins<C> {
    /// Writes files to `exports` in the working folder.
    fn default() -> Self {
        Self::new("exports")
    }
}

impl<C: Config> RollbackObserverPlugins<C> {
    /// Writes files to `export_dir`, which is created if it is missing.
    #[must_use]
    pub fn new(export_dir: impl Into<PathBuf>) -> Self {
        Self {
            export_dir: Some(export_dir.into()),
            read_events: false,
            config: PhantomData,
        }
    }

    /// Writes no files: documents come with [`EpisodeEnded`](crate::record::EpisodeEnded) alone.
    #[must_use]
    pub fn in_memory() -> Self {
        Self {
            export_dir: None,
            read_events: false,
            config: PhantomData,
        }
    }

    /// Drains `session.events()` in every update and writes every event as a
    /// [`SessionEvent`](crate::rollback::SessionEvent), a desync as
    /// [`DesyncDetected`](crate::rollback::DesyncDetected) too. ggrs keeps one queue: a game that reads
    /// `session.events()` itself would find it empty. Defaults to leaving it to the game.
    ///
    /// ```
    /// # use bevy::prelude::*;
    /// # use bevy_rollback_lab::bevy_ggrs::{GgrsConfig, GgrsPlugin};
    /// # use bevy_rollback_lab::prelude::*;
    /// # type Config = GgrsConfig<u8>;
    /// # App::new().add_plugins((MinimalPlugins, GgrsPlugin::<Config>::default()))
    /// .add_plugins(RollbackObserverPlugins::<Config>::in_memory().read_events())
    /// # ;
    /// ```
    #[must_use]
    pub fn read_events(mut self) -> Self {
        self.read_events = true;
        self
    }
}

impl<C: Config> PluginGroup for RollbackObserverPlugins<C> {
    fn build(self) -> PluginGroupBuilder {
        let mut observers = ObservePlugin::<C>::default();
        if self.read_events {
            observers = observers.read_events();
        }
        PluginGroupBuilder::start::<Self>()
            .add(observers)
            .add(RecordPlugin::<C>::observing(self.export_dir))
    }
}

#[cfg(feature = "matchbox")]
pub use lab::RollbackLabPlugins;

#[cfg(feature = "matchbox")]
mod lab {
    use std::marker::PhantomData;

    use bevy::app::PluginGroupBuilder;
    use bevy::prelude::*;
    use bevy_ggrs::GgrsPlugin;
    use bevy_matchbox::matchbox_socket::PeerId;
    use ggrs::Config;

    use crate::config::LabConfig;
    use crate::life_cycle::LifeCyclePlugin;
    use crate::record::LabRecordPlugin;
    use crate::rollback::ObservePlugin;
    use crate::session::SessionPlugin;

    /// Plays lab sessions: room, routes, episodes, rollback messages, files.
    ///
    /// Adds `GgrsPlugin` itself; the app brings `StatesPlugin` (or `DefaultPlugins`). The game adds
    /// its rollback state, its systems in `ReadInputs` and `GgrsSchedule`, and spawns its world on
    /// [`EpisodeStarting`](crate::session::EpisodeStarting). It ends an episode with
    /// [`Episode::end`](crate::session::Episode::end) or
    /// [`LabConfig::frame_limit`](method@crate::config::LabConfig::frame_limit).
    ///
    /// [`new`](Self::new) joins a room when the app starts; with [`idle`](Self::idle) the game joins with
    /// [`JoinLab`](crate::JoinLab). Both leave with [`LeaveLab`](crate::LeaveLab) and can join again.
    ///
    /// ```no_run
    /// use bevy::{prelude::*, state::app::StatesPlugin};
    /// use bevy_rollback_lab::bevy_ggrs::GgrsConfig;
    /// use bevy_rollback_lab::prelude::*;
    ///
    /// type Config = GgrsConfig<u8, PeerId>;
    ///
    /// App::new()
    ///     .add_plugins((MinimalPlugins, StatesPlugin))
    ///     .add_plugins(RollbackLabPlugins::<Config>::new(
    ///         LabConfig::new("ws://127.0.0.1:3536", "my-room").frame_limit(1_800).episodes(2),
    ///     ))
    ///     .add_observer(|starting: On<EpisodeStarting>| {
    ///         info!("episode {} begins with seed {}", starting.number, starting.seed);
    ///     })
    ///     .add_observer(|failed: On<SessionFailed>| error!("{}", failed.error))
    ///     .run();
    /// ```
    ///
    /// On Unix it also makes an `AppExit` of SIGTERM, SIGHUP and Ctrl-C, so that a process that is ended
    /// leaves its files: [`ExitOnSignalPlugin`](crate::ExitOnSignalPlugin), which can be disabled in the
    /// group.
    ///
    /// # Panics
    /// Adding it with a configuration that [`LabConfig::validate`] refuses, with that error; with a
    /// folder that cannot be written; or to a game whose input does not fit into a datagram.
    pub struct RollbackLabPlugins<C: Config<Address = PeerId>> {
        lab: Option<LabConfig>,
        config: PhantomData<fn() -> C>,
    }

    impl<C: Config<Address = PeerId>> Default for RollbackLabPlugins<C> {
        /// The same as [`idle`](Self::idle).
        fn default() -> Self {
            Self::idle()
        }
    }

    impl<C: Config<Address = PeerId>> RollbackLabPlugins<C> {
        /// Plays a lab session with this configuration, from the start of the app on.
        #[must_use]
        pub fn new(config: LabConfig) -> Self {
            Self {
                lab: Some(config),
                config: PhantomData,
            }
        }

        /// Begins in [`SessionPhase::Idle`](crate::session::SessionPhase::Idle): the game joins a room
        /// with [`JoinLab`](crate::JoinLab), from a menu for example.
        #[must_use]
        pub fn idle() -> Self {
            Self {
                lab: None,
                config: PhantomData,
            }
        }
    }

    /// Adds `GgrsPlugin`.
    struct OwnGgrs<C>(PhantomData<fn() -> C>);

    impl<C: Config<Address = PeerId>> Plugin for OwnGgrs<C> {
        fn build(&self, app: &mut App) {
            assert!(
                !app.is_plugin_added::<GgrsPlugin<C>>(),
                "RollbackLabPlugins adds GgrsPlugin itself: remove the one of this app"
            );
            app.add_plugins(GgrsPlugin::<C>::default());
        }
    }

    impl<C: Config<Address = PeerId>> PluginGroup for RollbackLabPlugins<C> {
        fn build(self) -> PluginGroupBuilder {
            let (session, record) = match &self.lab {
                None => (
                    SessionPlugin::<C>::default(),
                    LabRecordPlugin::<C>::default(),
                ),
                Some(lab) => {
                    if let Err(error) = lab.validate() {
                        panic!("lab configuration: {error}");
                    }
                    (
                        SessionPlugin::<C>::new(lab.session_settings()),
                        LabRecordPlugin::<C>::new(lab.record_settings()),
                    )
                }
            };
            let group = PluginGroupBuilder::start::<Self>()
                .add(OwnGgrs::<C>(PhantomData))
                .add(ObservePlugin::<C>::default().read_events())
                .add(session)
                .add(record)
                .add(LifeCyclePlugin::<C>::new(self.lab));
            #[cfg(unix)]
            let group = group.add(crate::ExitOnSignalPlugin);
            group
        }
    }
}
