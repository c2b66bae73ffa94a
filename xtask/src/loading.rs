//! Owns the stage `loading`: matches are played, tables made of them, and pandas and DuckDB must
//! read what the files say; the page of examples/analysis is run as it stands. It judges no number
//! itself; examples/analysis/check.py does.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::debian;
use crate::process::{cargo, program, root, run, run_within, target_folder, works};
use crate::stages::Outcome;

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

pub fn check() -> Outcome {
    let python = match prepare() {
        Ok(python) => python,
        Err(why) => return Outcome::NotRun(why),
    };
    load(&python).into()
}

/// A Python with what the page needs, in an environment of its own below the target folder.
fn prepare() -> Result<PathBuf, String> {
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
    run(&mut cargo(
        "build --locked --release --features tools --example headless_duel --bin rollback-lab",
    ))?;
    let built = target_folder()?.join("release");
    let folder = target_folder()?.join("xtask/loading");
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(|error| format!("old tables: {error}"))?;
    }
    fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let inside = |path: PathBuf, arguments: &[&str]| {
        let mut command = program(&path.to_string_lossy());
        command.current_dir(&folder).args(arguments);
        run_within(&mut command, LIMIT)
    };
    for (conditions, cut) in CONDITIONS {
        for seed in SEEDS {
            let duel = built.join("examples/headless_duel");
            let set = ["--conditions", conditions, "--cut-direct-at", cut];
            let common = ["--out", "exports", "--input-delay", "1", "--frames", FRAMES];
            inside(duel, &[&common[..], &set, &["--seed", seed]].concat())?;
        }
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
