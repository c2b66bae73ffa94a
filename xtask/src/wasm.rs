//! Building for wasm32, and checking the library there: it finds or fetches a compiler that can,
//! and reports what is missing where there is none.
//!
//! The check shares the compiler's plugins and build scripts with the native check build, and
//! nothing with the page: a check produces no code, and the page's profile is its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::debian;
use crate::process::{cargo, output_of, program, run, target_folder, works};
use crate::stages::Outcome;

/// The target of browsers.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";

/// Debian packages with a compiler and its own library sources.
const PACKAGES: [&str; 2] = ["rustc-web", "rust-web-src"];
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

enum Toolchain {
    /// The compiler in use has the target's standard library.
    Installed,
    /// Debian's compiler builds the standard library from its sources.
    BuildStd,
}

pub(crate) fn check() -> Outcome {
    let toolchain = match find() {
        Ok(toolchain) => toolchain,
        Err(why) => return Outcome::NotRun(why),
    };
    for features in ["", "--no-default-features"] {
        let checked = match toolchain {
            Toolchain::Installed => run(&mut cargo(&format!(
                "clippy --locked --release --package bevy_rollback_lab --lib --target {TARGET} {features} -- -D warnings"
            ))),
            Toolchain::BuildStd => build_std(features).and_then(|mut command| run(&mut command)),
        };
        if let Err(why) = checked {
            return Outcome::Failed(why);
        }
    }
    Outcome::Passed
}

/// Cargo with a compiler for the target; the arguments name target and folder.
pub(crate) fn cargo_for(arguments: &str) -> Result<Command, String> {
    match find()? {
        Toolchain::Installed => Ok(cargo(arguments)),
        Toolchain::BuildStd => {
            let mut command = cargo(arguments);
            command.arg("-Zbuild-std=std,panic_abort");
            with_debian_compiler(&mut command);
            // Debian's compiler links with a linker of its own packages; rustup's does the same.
            let sysroot = output_of(program("rustc").args(["--print", "sysroot"]))?;
            if let Some(linker) = bundled_linker(&PathBuf::from(sysroot.trim())) {
                command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
            }
            Ok(command)
        }
    }
}

fn bundled_linker(sysroot: &Path) -> Option<PathBuf> {
    let hosts = fs::read_dir(sysroot.join("lib/rustlib")).ok()?;
    hosts
        .flatten()
        .map(|host| host.path().join("bin/rust-lld"))
        .find(|linker| linker.is_file())
}

fn with_debian_compiler(command: &mut Command) {
    command
        .env("RUSTC", DEBIAN_RUSTC)
        .env("RUSTC_BOOTSTRAP", "1");
}

fn find() -> Result<Toolchain, String> {
    if has_target() {
        return Ok(Toolchain::Installed);
    }
    println!("$ rustup target add {TARGET}");
    if works(program("rustup").args(["target", "add", TARGET])) && has_target() {
        return Ok(Toolchain::Installed);
    }
    println!("rustup cannot fetch {TARGET}; looking for Debian's compiler");
    debian::ready_or_installed(
        &PACKAGES,
        &format!("no compiler for {TARGET} (`rustup target add {TARGET}` fetches one)"),
        || debian_is_ready().then_some(Toolchain::BuildStd),
    )
}

/// Whether the compiler in use has the target's library, with or without rustup.
fn has_target() -> bool {
    let Ok(folder) =
        output_of(program("rustc").args(["--print", "target-libdir", "--target", TARGET]))
    else {
        return false;
    };
    fs::read_dir(folder.trim()).is_ok_and(|entries| {
        entries
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-"))
    })
}

/// Debian's compiler is there, has its sources, and is not older than the crate's minimum.
fn debian_is_ready() -> bool {
    let Ok(version) = output_of(program(DEBIAN_RUSTC).arg("--version")) else {
        return false;
    };
    let Ok(sysroot) = output_of(program(DEBIAN_RUSTC).args(["--print", "sysroot"])) else {
        return false;
    };
    let library = PathBuf::from(sysroot.trim()).join("lib/rustlib/src/rust/library");
    let new_enough = minor(&version) >= minor(concat!("rustc ", env!("CARGO_PKG_RUST_VERSION")));
    new_enough && library.is_dir()
}

/// 95 of `rustc 1.95.0 (...)`.
fn minor(version: &str) -> Option<u32> {
    version
        .strip_prefix("rustc 1.")?
        .split(['.', ' '])
        .next()?
        .trim()
        .parse()
        .ok()
}

/// Another compiler shares nothing with the native build: a folder of its own keeps the two from
/// waiting for each other.
fn build_std(features: &str) -> Result<Command, String> {
    let folder = target_folder()?.join("wasm-check");
    let mut command = cargo(&format!(
        "check --locked --package bevy_rollback_lab --lib -Zbuild-std=std,panic_abort --target {TARGET} {features}"
    ));
    command.arg("--target-dir").arg(folder).env(
        "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS",
        "-D warnings",
    );
    with_debian_compiler(&mut command);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compiler_versions_are_compared_by_number() {
        assert_eq!(minor("rustc 1.96.0 (ac68faa20 2026-05-25)"), Some(96));
        assert_eq!(minor("rustc 1.95"), Some(95));
        assert!(minor("rustc 1.100.0") > minor("rustc 1.95.0"));
        assert_eq!(minor("clang 17"), None);
    }
}
