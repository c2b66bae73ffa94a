//! A link of two paths for rollback games: peer to peer first, relay in reserve.

pub mod cause;
pub mod conditions;
pub mod frame;
pub mod ggrs_wire;
pub mod health;
pub mod link;
mod path;
pub mod route;
pub mod wire;
