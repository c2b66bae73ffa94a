//! Frame numbers and the number of players, as ggrs counts them.

/// A frame number: the first frame of an episode is 0, and -1 ([`ggrs::NULL_FRAME`]) means "none
/// yet".
pub type Frame = ggrs::Frame;

/// Players that evidence and traces are kept for, by handle: 0 to 3. Lab sessions have 2 to 4.
pub const MAX_PLAYERS: usize = 4;
