//! Replay of episode files:
//!
//! - `play`: checking a file against the game, and watching it
//! - `script`: the steps read from a file against what ggrs simulated

mod play;
mod script;
