//! The scenarios of the two paths between two peers, in virtual time.

#[path = "link/grid.rs"]
mod grid;
#[path = "link/world.rs"]
mod world;
