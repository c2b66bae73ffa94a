//! The stage `browser`: a real browser plays the page of `cargo xtask demo`, against itself and
//! against a native peer, and what it exports passes the checks of native files. The test cases
//! are listed in `browser/cases.rs`.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::demo::{self, PageServer};
use crate::process::{create_folder, empty_folder, program, run, run_within, target_folder, works};
use crate::stages::Outcome;
use crate::{debian, native};

mod cases;
mod webdriver;

use cases::{CASES, Case, Setup, WATCHED};
use webdriver::Driver;

/// Debian's browser, the program that drives it, and what it draws with where no graphics card is.
const PACKAGES: [&str; 6] = [
    "chromium",
    "chromium-driver",
    "libegl1",
    "libegl-mesa0",
    "libgl1-mesa-dri",
    "libgles2",
];
/// Mesa's software renderer draws the demo four times as often as the browser's own one.
const RENDERER: &str = "/usr/share/glvnd/egl_vendor.d/50_mesa.json";
const BROWSERS: [&str; 3] = ["chromium", "google-chrome", "chromium-browser"];
const DRIVER: &str = "chromedriver";

/// Every test case.
pub(crate) fn check() -> Outcome {
    match find_browser() {
        Ok(browser) => play(&browser, &[]).into(),
        Err(why) => Outcome::NotRun(why),
    }
}

/// Installs what the stage needs.
pub(crate) fn prepare() -> Result<(), String> {
    find_browser().map(drop)
}

/// A duel of ten seconds, and what surrounds it.
const DUEL: Duration = Duration::from_secs(60);

/// Plays the test cases named, or all of them: `cargo xtask browser [CASE]...`.
pub(crate) fn command(names: &[String]) -> Result<(), String> {
    if let Some(unknown) = names
        .iter()
        .find(|name| !CASES.iter().any(|case| case.name == name.as_str()))
    {
        let known: Vec<&str> = CASES.iter().map(|case| case.name).collect();
        return Err(format!(
            "unknown test case `{unknown}`; the test cases are: {}",
            known.join(", ")
        ));
    }
    play(&find_browser()?, names)
}

/// The browser's path. As root on Debian it is installed, else the command to run is reported.
fn find_browser() -> Result<String, String> {
    debian::ready_or_installed(
        &PACKAGES,
        &format!("no browser with a {DRIVER}"),
        ready_browser,
    )
}

fn ready_browser() -> Option<String> {
    if !works(program(DRIVER).arg("--version")) || !Path::new(RENDERER).exists() {
        return None;
    }
    BROWSERS.iter().find_map(|name| on_path(name))
}

fn on_path(name: &str) -> Option<String> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .map(|file| file.to_string_lossy().into_owned())
}

fn play(browser: &str, names: &[String]) -> Result<(), String> {
    let page = demo::built()?;
    let built = native::programs()?;
    let out = target_folder()?.join("browser");
    empty_folder(&out)?;
    let watched = duel(&built, &out)?;
    fs::copy(&watched, page.join(WATCHED)).map_err(|error| format!("{WATCHED}: {error}"))?;
    let server = PageServer::start(&page, IpAddr::V4(Ipv4Addr::LOCALHOST), 0)?;
    let driver = Driver::start(DRIVER, browser)?;
    let mut failures = Vec::new();
    let chosen = |case: &&Case| names.is_empty() || names.iter().any(|of| of == case.name);
    for case in CASES.iter().filter(chosen) {
        println!("\n-- {}", case.name);
        let folder = out.join(case.name);
        create_folder(&folder)?;
        let setup = Setup {
            driver: &driver,
            page: &server.url,
            native: &built.join("examples/headless_duel"),
            out: &folder,
        };
        if let Err(why) = (case.play)(&setup) {
            println!("FAILED: {why}");
            failures.push(format!("{}: {why}", case.name));
        }
    }
    verify(&built, &out)?;
    if failures.is_empty() {
        Ok(())
    } else {
        Err(failures.join("\n"))
    }
}

/// A short match of two native peers with rollbacks; the file of one, for pages to replay.
fn duel(built: &Path, out: &Path) -> Result<PathBuf, String> {
    let exports = out.join("duel");
    let mut command = program(&built.join("examples/headless_duel").to_string_lossy());
    command
        .args(["--frames", "600", "--seed", "5", "--input-delay", "1"])
        .args(["--conditions", "latency=40ms,jitter=8ms,loss=2%", "--out"])
        .arg(&exports);
    run_within(&mut command, DUEL)?;
    let mut files = Vec::new();
    gather(&exports, &mut files)?;
    let of_player_0 = |path: &PathBuf| path.to_string_lossy().ends_with("episode-0.player-0.json");
    files
        .into_iter()
        .find(of_player_0)
        .ok_or(String::from("the duel left no file"))
}

/// The same checks that the tests make on native files, and every episode is played back natively: the
/// same states, to the last hash.
fn verify(built: &Path, out: &Path) -> Result<(), String> {
    let mut files = Vec::new();
    gather(out, &mut files)?;
    if files.is_empty() {
        return Err(String::from("no document came from any page"));
    }
    let mut command = program(&built.join("rollback-lab").to_string_lossy());
    let player = built.join("examples/replay");
    run(command
        .arg("verify")
        .args(files)
        .arg("--replay")
        .arg(player))
}

fn gather(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for entry in entries {
        let path = entry.map_err(|error| error.to_string())?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            gather(&path, files)?;
        } else if name.starts_with("episode") || name.starts_with("session") {
            files.push(path);
        }
    }
    Ok(())
}
