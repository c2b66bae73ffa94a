//! Whole matches of two links over simulated networks, in virtual time.

mod agreement;
mod grid;
mod healthy;
mod lossy;
mod rates;
mod relay;
mod renegotiation;
mod trouble;
