//! The command line, as a process of its own.

mod command;
mod desync;
#[cfg(unix)]
mod serve;
