//! Rollback matches over `bevy_ggrs` and matchbox that survive a lost P2P path,
//! and export every rollback as JSON.

pub mod clock;
pub mod metrics;
pub mod record;
pub mod rollback;
#[cfg(all(feature = "server", not(target_arch = "wasm32")))]
pub mod server;
#[cfg(feature = "matchbox")]
pub mod session;
#[cfg(feature = "matchbox")]
pub mod transport;
