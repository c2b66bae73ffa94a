//! What the tests, the scenarios and the benches of `bevy_rollback_lab` share. Not published.
//!
//! Everything here is a harness: it builds matches and plays them to their end. What a match must
//! look like is asserted by its callers; the exceptions are `lab::checked` and `agreed`, which
//! hold what is true of every match: files that keep the invariants and agree with each other.
//!
//! # Which module to use
//!
//! | module | what is simulated | time |
//! |---|---|---|
//! | [`link_world`] | two links and a model of ggrs's traffic; no Bevy | virtual |
//! | [`outages`] | outages of the direct path over a grid of delays, by [`link_world`] | virtual |
//! | [`files`] | nothing: the golden episode file and that of its opponent | none |
//! | `lab` | whole lab sessions over an in-memory network | virtual |
//! | `observed` | two `bevy_ggrs` apps with the rollback observers, without the lab's transport | virtual |
//! | `recorded` | a model of ggrs that drives the trace and the metrics; no app | virtual |
//! | `real` | lab sessions over real WebRTC on loopback, a thread for each peer | wall clock |
//! | `agreed` | nothing: assertions about the outcomes of `real` | |
//! | `duel`, `packets`, `steady` | the workloads of the benches and of the allocation tests | by frame number |
//!
//! Seeds and clocks are arguments: a match in virtual time plays the same way every time. Only
//! `real` depends on the machine.
//!
//! # Features
//!
//! Without features there is no Bevy in the dependency tree, and the crate builds in seconds. The
//! feature `lab` brings whole apps: Bevy, `bevy_ggrs`, matchbox and the plugin.

#[cfg(feature = "lab")]
pub mod agreed;
#[cfg(feature = "lab")]
pub mod duel;
pub mod files;
#[cfg(feature = "lab")]
pub mod lab;
pub mod link_world;
#[cfg(feature = "lab")]
pub mod logs;
#[cfg(feature = "lab")]
pub mod observed;
pub mod outages;
#[cfg(feature = "lab")]
pub mod packets;
#[cfg(feature = "lab")]
pub mod real;
#[cfg(feature = "lab")]
pub mod recorded;
#[cfg(feature = "lab")]
pub mod steady;
