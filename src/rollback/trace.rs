//! Owns the pure fold from frame marks (inputs read, state loaded, frame advanced, state saved,
//! frames confirmed) to ordered facts: rollbacks, judged predictions, stalls, confirmed frames.
//! Never reads a clock or Bevy, and never influences what it observes.


mod facts;
pub use facts::{Fact, Inputs, Known, Misprediction, Outcome, RollbackRecord};

/// A frame number, as ggrs counts them: from 0, and -1 is "none yet".
pub type Frame = i32;

/// Players that a trace can hold. Sessions are written for 2 to 4.
pub const MAX_PLAYERS: usize = 4;
