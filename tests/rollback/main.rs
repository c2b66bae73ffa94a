//! Rollbacks observed in `bevy_ggrs` sessions:
//!
//! - `episodes`: which sessions are episodes, and ggrs's own events
//! - `events`: ggrs's events, which belong to the game
//! - `invariants`: the trace against a model of ggrs that keeps its whole history
//! - `odd_marks`: input to the trace that no healthy session produces
//! - `two_apps`: two real apps against an oracle, with and without the observers

mod episodes;
mod events;
mod invariants;
mod odd_marks;
mod two_apps;
