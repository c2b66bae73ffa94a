//! What is made of files: merged documents and tables; the schemas and words of the format.

mod format;
mod merge;
mod tables;
