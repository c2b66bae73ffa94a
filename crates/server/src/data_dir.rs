//! Owns the check that the data folder exists and can be written. Never keeps anything there.

use std::fs;
use std::io;
use std::path::Path;

/// Creates the folder if need be, and writes and removes a file in it.
///
/// # Errors
/// What the system said.
pub(crate) fn probe(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    let probe = path.join(format!(".rollback-lab-probe-{}", std::process::id()));
    fs::write(&probe, b"probe")?;
    fs::remove_file(&probe)
}
