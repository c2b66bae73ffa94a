//! Rollbacks observed in `bevy_ggrs` sessions.

mod episodes;
mod invariants;
mod odd_marks;
mod two_apps;
