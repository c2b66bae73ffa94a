//! Owns tests of a game's determinism that a game author runs: forced rollbacks at every frame
//! ([`ForcedRollbacks`]), and the names of what differs in a sync test ([`SyncTestNamesPlugin`]).
//! Never part of a match.

mod forced;
mod hints;
mod names;
mod parts;
mod synctest;

pub use forced::{ForcedReport, ForcedRollbacks};
pub use hints::{Divergence, How, Suspicion};
pub use synctest::{DesyncFound, SyncTestNamesPlugin};
