//! Tests of a game's determinism, for its author: [`ForcedRollbacks`] rolls back at every frame and
//! names the state that was not restored; [`SyncTestNamesPlugin`] names what differs in a ggrs sync
//! test. Both belong in the game's test suite, not in a match.

mod forced;
mod hints;
mod names;
mod parts;
mod synctest;

pub use forced::{ForcedReport, ForcedRollbacks};
pub use hints::{Comparison, Divergence, Pitfall};
pub use synctest::{DesyncFound, SyncTestNamesPlugin};
