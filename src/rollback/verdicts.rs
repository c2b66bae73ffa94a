//! Owns what an update told beside the facts of the trace, for whoever folds both: in one place,
//! since most updates tell none of it and every kind of message that is asked for costs a frame
//! more than what it tells. The messages themselves are for everybody else. A desync is not among
//! them: a game may tell of one itself.

use bevy::prelude::Resource;

use super::cause::{Cause, Evidence, Via};
use super::trace::Frame;

/// One thing told, of a session that plays.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub(crate) enum Verdict {
    /// Why a rollback ran: [`RollbackCompleted`](super::RollbackCompleted).
    Rollback {
        /// Its number in the episode.
        id: u64,
        /// Why the input was late.
        cause: Cause,
        /// The route in use.
        via: Via,
        /// What the cause was decided from.
        evidence: Evidence,
    },
    /// What came later changed a cause: [`CauseRevised`](super::CauseRevised).
    Revised {
        /// Number of the rollback in the episode.
        id: u64,
        /// The cause now.
        cause: Cause,
        /// What it was decided from.
        evidence: Evidence,
    },
    /// Why a simulation had to wait: [`StallEnded`](super::StallEnded).
    Stall {
        /// The frame that waited.
        frame: Frame,
        /// Why its input was late.
        cause: Cause,
    },
}

/// What the last update told; whoever folds it takes it, and what nobody took is forgotten in the
/// next one.
#[derive(Resource, Clone, Debug, Default)]
pub(crate) struct Verdicts(pub(crate) Vec<Verdict>);

impl Verdicts {
    /// Takes what was told, in its order.
    pub(crate) fn drain(&mut self) -> std::vec::Drain<'_, Verdict> {
        self.0.drain(..)
    }

    /// Whether nothing was told.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
