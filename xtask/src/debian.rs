//! Owns what a stage needs from Debian's packages: installed when this runs as root (containers,
//! CI), else the line to run is told. It never decides what a stage does without them.

use crate::process::{output_of, program, run, works};

/// Something that `packages` bring, as `ready` finds it.
///
/// `without` says what is missing, for the person who must act; the line to run stands behind it.
pub fn ready_or_installed<T>(
    packages: &[&str],
    without: &str,
    ready: impl Fn() -> Option<T>,
) -> Result<T, String> {
    if let Some(found) = ready() {
        return Ok(found);
    }
    let install = format!(
        "apt-get update && apt-get install -y --no-install-recommends {}",
        packages.join(" ")
    );
    let missing = format!("{without}: on Debian run as root `{install}`");
    if !is_root() || !works(program("apt-get").arg("--version")) {
        return Err(missing);
    }
    let mut command = program("sh");
    command
        .args(["-c", &install])
        .env("DEBIAN_FRONTEND", "noninteractive");
    run(&mut command).map_err(|error| format!("{missing} ({error})"))?;
    ready().ok_or(missing)
}

fn is_root() -> bool {
    output_of(program("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}
