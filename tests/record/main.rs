//! The record as the plugin writes it:
//!
//! - `document`: names, schema, versions and invariants of episode files
//! - `observed`: what is recorded of a game that is only observed
//! - `sink`: writing files to a folder, failures included

mod document;
mod observed;
mod sink;
