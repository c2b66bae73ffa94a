//! Stub.

pub mod cause;
pub mod trace;
