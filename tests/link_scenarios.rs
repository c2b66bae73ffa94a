//! The scenarios of the two paths between two peers, in virtual time.

#[path = "link/agreement.rs"]
mod agreement;
#[path = "link/grid.rs"]
mod grid;
#[path = "link/healthy.rs"]
mod healthy;
#[path = "link/relay.rs"]
mod relay;
#[path = "link/trouble.rs"]
mod trouble;
#[path = "link/world.rs"]
mod world;
