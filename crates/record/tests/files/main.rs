//! What is made of files: merged documents and tables.

mod merge;
mod tables;
