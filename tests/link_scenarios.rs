//! The scenarios of the two paths between two peers, in virtual time.

#[path = "link/agreement.rs"]
mod agreement;
#[path = "link/cuts.rs"]
mod cuts;
#[path = "link/grid.rs"]
mod grid;
#[path = "link/healthy.rs"]
mod healthy;
#[path = "link/lossy.rs"]
mod lossy;
#[path = "link/rates.rs"]
mod rates;
#[path = "link/relay.rs"]
mod relay;
#[path = "link/trouble.rs"]
mod trouble;
#[path = "link/world.rs"]
mod world;
