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
mod faulty_server;
mod firefox;
mod webdriver;

use cases::{CASES, Case, Setup, WATCHED};
use webdriver::Driver;

/// Debian's browsers, the program that drives the first, and what it draws with where no graphics
/// card is.
const PACKAGES: [&str; 7] = [
    "chromium",
    "chromium-driver",
    "firefox-esr",
    "libegl1",
    "libegl-mesa0",
    "libgl1-mesa-dri",
    "libgles2",
];
/// Mesa's software renderer draws the demo four times as often as the browser's own one.
const RENDERER: &str = "/usr/share/glvnd/egl_vendor.d/50_mesa.json";
const BROWSERS: [&str; 3] = ["chromium", "google-chrome", "chromium-browser"];
const DRIVER: &str = "chromedriver";
const FIREFOXES: [&str; 2] = ["firefox-esr", "firefox"];

/// The programs of the browsers.
struct Browsers {
    chromium: String,
    firefox: String,
}

/// What the test cases are played with; what is not named is built.
#[derive(Default)]
struct Options {
    /// Names of the test cases; all of them if there is none.
    cases: Vec<String>,
    /// A page that is built already, that of `cargo xtask demo --release` for one.
    page: Option<PathBuf>,
    /// Folder of native programs that are built already.
    programs: Option<PathBuf>,
}

/// Every test case.
pub(crate) fn check() -> Outcome {
    match find_browsers() {
        Ok(browsers) => play(&browsers, &Options::default()).into(),
        Err(why) => Outcome::NotRun(why),
    }
}

/// Installs what the stage needs.
pub(crate) fn prepare() -> Result<(), String> {
    find_browsers().map(drop)
}

/// A duel of ten seconds, and what surrounds it.
const DUEL: Duration = Duration::from_secs(60);

/// Plays the test cases named, or all of them:
/// `cargo xtask browser [--page FOLDER] [--programs FOLDER] [CASE]...`.
pub(crate) fn command(arguments: &[String]) -> Result<(), String> {
    let options = parse(arguments)?;
    play(&find_browsers()?, &options)
}

fn parse(arguments: &[String]) -> Result<Options, String> {
    let mut options = Options::default();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut folder = || {
            let folder = rest.next().ok_or(format!("{argument} wants a folder"))?;
            std::path::absolute(folder).map_err(|error| format!("{argument} {folder}: {error}"))
        };
        match argument.as_str() {
            "--page" => options.page = Some(folder()?),
            "--programs" => options.programs = Some(folder()?),
            name if CASES.iter().any(|case| case.name == name) => {
                options.cases.push(name.to_owned());
            }
            unknown => {
                let known: Vec<&str> = CASES.iter().map(|case| case.name).collect();
                return Err(format!(
                    "unknown test case `{unknown}`; the test cases are: {}",
                    known.join(", ")
                ));
            }
        }
    }
    Ok(options)
}

/// The browsers' paths. As root on Debian they are installed, else the command to run is reported.
fn find_browsers() -> Result<Browsers, String> {
    debian::ready_or_installed(
        &PACKAGES,
        &format!("no Chromium with a {DRIVER}, or no Firefox"),
        ready_browsers,
    )
}

fn ready_browsers() -> Option<Browsers> {
    if !works(program(DRIVER).arg("--version")) || !Path::new(RENDERER).exists() {
        return None;
    }
    Some(Browsers {
        chromium: BROWSERS.iter().find_map(|name| on_path(name))?,
        firefox: FIREFOXES.iter().find_map(|name| on_path(name))?,
    })
}

fn on_path(name: &str) -> Option<String> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .map(|file| file.to_string_lossy().into_owned())
}

fn play(browsers: &Browsers, options: &Options) -> Result<(), String> {
    let page = options.page.clone().map_or_else(demo::built, Ok)?;
    let built = options.programs.clone().map_or_else(native::programs, Ok)?;
    let out = target_folder()?.join("browser");
    empty_folder(&out)?;
    let watched = duel(&built, &out)?;
    fs::copy(&watched, page.join(WATCHED)).map_err(|error| format!("{WATCHED}: {error}"))?;
    let server = PageServer::start(&built, &page, IpAddr::V4(Ipv4Addr::LOCALHOST), 0)?;
    let driver = Driver::start(DRIVER, &browsers.chromium)?;
    let mut failures = Vec::new();
    let names = &options.cases;
    let chosen = |case: &&Case| names.is_empty() || names.iter().any(|of| of == case.name);
    for case in CASES.iter().filter(chosen) {
        println!("\n-- {}", case.name);
        let folder = out.join(case.name);
        create_folder(&folder)?;
        let setup = Setup {
            driver: &driver,
            page: &server.url,
            page_folder: &page,
            firefox: &browsers.firefox,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_and_folders_are_read_and_unknown_ones_are_refused_by_name() {
        let words = |text: &str| {
            text.split_whitespace()
                .map(String::from)
                .collect::<Vec<_>>()
        };
        let options = parse(&words("--page p panic --programs q replay")).unwrap();
        assert_eq!(options.cases, ["panic", "replay"]);
        assert!(options.page.unwrap().ends_with("p"));
        assert!(options.programs.unwrap().ends_with("q"));
        let error = |text: &str| parse(&words(text)).err().unwrap();
        assert!(error("panik").contains("unknown test case `panik`"));
        assert!(error("--page").contains("wants a folder"));
    }
}
