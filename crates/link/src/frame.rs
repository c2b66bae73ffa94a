//! Frame numbers and player handles, as ggrs counts them.

/// A frame number: the first frame of an episode is 0, and -1 is "none yet".
pub type Frame = ggrs::Frame;

/// Players that evidence and traces are kept for. Sessions have 2 to 4.
pub const MAX_PLAYERS: usize = 4;
