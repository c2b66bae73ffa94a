//! The native programs and tests: one release build of the whole workspace with one set of
//! features, so that Bevy is compiled once, rendering included.

use std::path::PathBuf;
use std::sync::OnceLock;

use crate::process::{cargo, run, target_folder};

/// All packages but this one, whose dependencies are of no use to the library. Cargo unites the
/// features of the packages it builds: another selection would compile Bevy again.
pub(crate) const PACKAGES: &str = "--locked --release --workspace --exclude xtask";

/// Builds every binary and example once per run, and returns the folder that holds them.
///
/// `cargo test` alone is not enough: it builds the binaries of those packages only that have
/// integration tests.
pub(crate) fn programs() -> Result<PathBuf, String> {
    static BUILT: OnceLock<Result<(), String>> = OnceLock::new();
    BUILT
        .get_or_init(|| run(&mut cargo(&format!("build {PACKAGES} --bins --examples"))))
        .clone()?;
    Ok(target_folder()?.join("release"))
}

/// Builds the tests that `tests_command` runs.
pub(crate) fn tests() -> Result<(), String> {
    run(&mut cargo(&tests_command("--no-run")))
}

/// The command that runs every test but xtask's.
pub(crate) fn tests_command(options: &str) -> String {
    format!("test {PACKAGES} {options}")
}
