//! The scenarios of the two paths between two peers, in virtual time.

mod agreement;
mod grid;
mod healthy;
mod lossy;
mod rates;
mod relay;
mod trouble;
