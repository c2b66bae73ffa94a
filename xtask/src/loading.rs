//! The stage `loading`: matches are played, tables made of them, and pandas and DuckDB must read
//! what the files hold; the page of examples/analysis is run unchanged. The numbers are judged by
//! examples/analysis/check.py.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::process::{empty_folder, program, root, run, run_within, target_folder, works};
use crate::stages::Outcome;
use crate::{debian, native};

/// The folder of the page, its requirements and its check.
const ANALYSIS: &str = "examples/analysis";
/// The page's own matches: two conditions, two seeds each.
const CONDITIONS: [(&str, &str); 2] = [
    ("latency=20ms", "never"),
    ("latency=60ms,jitter=20ms,loss=3%", "240"),
];
const SEEDS: [&str; 2] = ["1", "2"];
const FRAMES: &str = "480";
/// A match of eight seconds, and what is done with its files, on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

pub(crate) fn check() -> Outcome {
    match python() {
        Ok(python) => load(&python).into(),
        Err(why) => Outcome::NotRun(why),
    }
}

/// Installs what the page needs below the target folder.
pub(crate) fn prepare() -> Result<(), String> {
    python().map(drop)
}

/// A Python with what the page needs, in an environment of its own.
fn python() -> Result<PathBuf, String> {
    static PIP: Mutex<()> = Mutex::new(());
    let _one = PIP.lock().unwrap_or_else(PoisonError::into_inner);
    let environment = target_folder()?.join("xtask/python");
    let python = environment.join("bin/python");
    if !works(program(&python.to_string_lossy()).args(["-m", "pip", "--version"])) {
        create(&environment)?;
    }
    let requirements = root().join(ANALYSIS).join("requirements.txt");
    let mut install = program(&python.to_string_lossy());
    install
        .args(["-m", "pip", "install", "--quiet"])
        .args(["--disable-pip-version-check", "--requirement"])
        .arg(requirements);
    run(&mut install)
        .map_err(|error| format!("pandas, duckdb and pyarrow cannot be installed ({error})"))?;
    Ok(python)
}

fn create(environment: &Path) -> Result<(), String> {
    debian::ready_or_installed(&["python3-venv"], "no python3 with venv", || {
        let mut venv = program("python3");
        venv.args(["-m", "venv", "--clear"]).arg(environment);
        works(&mut venv).then_some(())
    })
}

fn load(python: &Path) -> Result<(), String> {
    let built = native::programs()?;
    let folder = target_folder()?.join("xtask/loading");
    empty_folder(&folder)?;
    let inside = |path: PathBuf, arguments: &[&str]| {
        let mut command = program(&path.to_string_lossy());
        command.current_dir(&folder).args(arguments);
        run_within(&mut command, LIMIT)
    };
    let duel = |conditions: &str, cut: &str, seed: &str| {
        let set = ["--conditions", conditions, "--cut-direct-at", cut];
        let common = ["--out", "exports", "--input-delay", "1", "--frames", FRAMES];
        let arguments = [&common[..], &set, &["--seed", seed]].concat();
        inside(built.join("examples/headless_duel"), &arguments)
    };
    // The matches wait for their clock, and their tables are compared with their own files: what
    // two at once do to each other changes no result.
    for (conditions, cut) in CONDITIONS {
        thread::scope(|scope| {
            SEEDS
                .map(|seed| scope.spawn(move || duel(conditions, cut, seed)))
                .into_iter()
                .try_for_each(|duel| duel.join().map_err(|_| "a match's thread panicked")?)
        })?;
    }
    for arguments in [
        &["verify", "exports"][..],
        &["tables", "exports", "--out", "tables"],
        &["merge", "exports", "--out", "merged"],
        &["report", "exports", "--out", "report.html"],
    ] {
        inside(built.join("rollback-lab"), arguments)?;
    }
    let check = root().join(ANALYSIS).join("check.py");
    inside(python.to_path_buf(), &[&check.to_string_lossy()])
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_page_shows_the_commands_that_are_run() {
        let page = fs::read_to_string(root().join(ANALYSIS).join("README.md")).unwrap();
        for (conditions, cut) in CONDITIONS {
            let options = format!("--conditions '{conditions}' --cut-direct-at {cut}");
            assert!(page.contains(&options), "{options}");
        }
        assert!(page.contains(&format!("for seed in {};", SEEDS.join(" "))));
        assert!(page.contains(&format!("--frames {FRAMES} --input-delay 1")));
    }
}
