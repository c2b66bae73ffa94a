//! What a stage needs from Debian's packages: installed when this runs as root (containers, CI),
//! else the command to run is reported. What a stage does without them is its own decision.

use std::sync::{Mutex, PoisonError};

use crate::process::{output_of, program, run, works};

/// Something that `packages` bring, as `ready` finds it.
///
/// `without` names what is missing, for the person who must act; the command to run follows it.
pub(crate) fn ready_or_installed<T>(
    packages: &[&str],
    without: &str,
    ready: impl Fn() -> Option<T>,
) -> Result<T, String> {
    // One installation at a time: apt locks its database, and does not wait for it.
    static APT: Mutex<()> = Mutex::new(());
    let _one = APT.lock().unwrap_or_else(PoisonError::into_inner);
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
