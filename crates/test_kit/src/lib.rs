//! What the tests, scenarios and benches of `bevy_rollback_lab` share: virtual networks, virtual
//! time, matches that are played to the end.
//!
//! Without features there is no Bevy here: two links over a simulated network. The feature `lab`
//! brings whole apps.

#[cfg(feature = "lab")]
pub mod agreed;
#[cfg(feature = "lab")]
pub mod duel;
pub mod files;
#[cfg(feature = "lab")]
pub mod lab;
pub mod link_cuts;
pub mod link_world;
#[cfg(feature = "lab")]
pub mod observed;
#[cfg(feature = "lab")]
pub mod packets;
#[cfg(feature = "lab")]
pub mod real;
#[cfg(feature = "lab")]
pub mod recorded;
#[cfg(feature = "lab")]
pub mod steady;
