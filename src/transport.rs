//! Two paths, one socket.

pub mod conditions;
pub mod ggrs_wire;
pub mod health;
pub mod link;
pub mod route;
pub mod signaller;
pub mod websocket;
pub mod wire;
