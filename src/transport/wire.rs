//! Stub.

pub mod control;
pub mod relay;
