//! Finds the versions of Bevy and ggrs that this build uses, for `software` in the exported files.
//!
//! Neither crate exposes its version. The lock file of the workspace being built has it: the nearest
//! `Cargo.lock` above the output folder. It counts only if it locks this very package and exactly one
//! version of the dependency; otherwise, as with a target folder outside of the workspace, the version
//! is not known and is `null` in the file. `ROLLBACK_LAB_LOCKFILE` names the lock file explicitly.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=ROLLBACK_LAB_LOCKFILE");
    let Some(path) = lock_file() else {
        return;
    };
    println!("cargo:rerun-if-changed={}", path.display());
    let Ok(text) = fs::read_to_string(&path) else {
        return;
    };
    let own = variable("CARGO_PKG_NAME").zip(variable("CARGO_PKG_VERSION"));
    if !own.is_some_and(|(name, version)| versions(&text, &name).contains(&version)) {
        return;
    }
    for (name, variable) in [
        ("bevy", "ROLLBACK_LAB_BEVY_VERSION"),
        ("ggrs", "ROLLBACK_LAB_GGRS_VERSION"),
    ] {
        if let [version] = versions(&text, name).as_slice() {
            println!("cargo:rustc-env={variable}={version}");
        }
    }
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok()
}

fn lock_file() -> Option<PathBuf> {
    if let Some(path) = variable("ROLLBACK_LAB_LOCKFILE") {
        return Some(PathBuf::from(path));
    }
    let out = variable("OUT_DIR")?;
    Path::new(&out)
        .ancestors()
        .map(|folder| folder.join("Cargo.lock"))
        .find(|path| path.is_file())
}

/// The versions of a package in a lock file: a `name` line is followed by its `version` line.
fn versions(lock: &str, package: &str) -> Vec<String> {
    let name = format!("name = \"{package}\"");
    let lines: Vec<&str> = lock.lines().map(str::trim).collect();
    lines
        .windows(2)
        .filter(|pair| pair[0] == name)
        .filter_map(|pair| pair[1].strip_prefix("version = \"")?.strip_suffix('"'))
        .map(str::to_owned)
        .collect()
}
