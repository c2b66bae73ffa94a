//! What is done with files afterwards: tables, merged documents, and the commands of `rollback-lab`
//! that make them. One binary, because every test binary links Bevy anew.

mod command;
mod desync;
mod merge;
mod pair;
mod tables;
