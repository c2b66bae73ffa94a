//! Rollback matches over `bevy_ggrs` and matchbox that survive a lost P2P path, and export every
//! rollback as JSON.
//!
//! # One line for a game that exists
//!
//! Any `bevy_ggrs` game gets its files by adding the observers; an episode is then the life of
//! its ggrs session:
//!
//! ```no_run
//! use bevy::prelude::*;
//! use bevy_ggrs::GgrsConfig;
//! use bevy_rollback_lab::prelude::*;
//!
//! type Config = GgrsConfig<u8>;
//!
//! App::new()
//!     .add_plugins(MinimalPlugins)
//!     .add_plugins(bevy_ggrs::GgrsPlugin::<Config>::default())
//!     .add_plugins(RollbackObserverPlugins::<Config>::default())
//!     .run();
//! ```
//!
//! # The whole: rooms, two paths, episodes
//!
//! [`RollbackLabPlugins`] joins a room, meets the other peers, and plays episodes over a socket
//! that keeps the match alive when the direct path is lost. See `ARCHITECTURE.md` for how the
//! rooms of this crate hang together; data goes one way, and so do the modules:
//! [`transport`] -> [`session`] -> [`rollback`] -> [`metrics`] -> [`record`].

pub mod checksum;
pub mod clock;
#[cfg(feature = "matchbox")]
pub mod config;
pub mod diagnostics;
#[cfg(feature = "window")]
pub mod display;
#[cfg(feature = "hud")]
pub mod hud;
pub mod metrics;
pub mod offline;
mod plugins;
pub mod proof;
pub mod record;
pub mod replay;
pub mod rollback;
#[cfg(feature = "matchbox")]
pub mod session;
#[cfg(feature = "matchbox")]
pub mod transport;
#[cfg(all(feature = "matchbox", target_arch = "wasm32"))]
pub mod web;

#[cfg(feature = "matchbox")]
pub use plugins::RollbackLabPlugins;
pub use plugins::RollbackObserverPlugins;
pub use rollback::RollbackLabSystems;

/// What a game uses, and nothing more.
pub mod prelude {
    pub use crate::RollbackLabSystems;
    pub use crate::RollbackObserverPlugins;
    pub use crate::checksum::portable_hash;
    pub use crate::diagnostics::RollbackLabDiagnosticsPlugin;
    #[cfg(feature = "window")]
    pub use crate::display::LabDisplayPlugin;
    #[cfg(feature = "hud")]
    pub use crate::hud::RollbackLabHudPlugin;
    pub use crate::metrics::{EpisodeRecord, InputTiming};
    pub use crate::record::{DesyncApp, DesyncRecorded, EpisodeEnded};
    pub use crate::rollback::{RollbackCompleted, StallEnded};
    #[cfg(feature = "matchbox")]
    pub use crate::{
        RollbackLabPlugins,
        config::LabConfig,
        session::{
            Episode, EpisodeApp, EpisodeStarted, EpisodeStarting, LabRoom, LabSession,
            LabSocketPlugin, ReadyForEpisode, RouteChanged, SessionFailed, SessionInfo,
            SessionPhase,
        },
    };
    pub use rollback_lab_link::route::RoutePolicy;
}
