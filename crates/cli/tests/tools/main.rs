//! The command line, run as a process.

mod command;
mod desync;
#[cfg(unix)]
mod serve;
