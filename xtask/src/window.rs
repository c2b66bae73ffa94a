//! The stage `window`: the demo in a real window, on a virtual display with a software renderer,
//! with keys pressed by a program, and with screenshots whose size is checked.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::examples::{Files, episode_files, read_match};
use crate::process::{
    create_folder, empty_folder, program, run_within, shown, target_folder, works,
};
use crate::stages::Outcome;
use crate::{debian, native};

/// A virtual display, a Vulkan driver without a graphics card, a program that presses keys, and
/// what a window under X11 loads when it opens.
const PACKAGES: [&str; 10] = [
    "xvfb",
    "mesa-vulkan-drivers",
    "libvulkan1",
    "xdotool",
    "libx11-6",
    "libx11-xcb1",
    "libxcursor1",
    "libxi6",
    "libxrandr2",
    "libxkbcommon-x11-0",
];
const DRIVERS: &str = "/usr/share/vulkan/icd.d";
/// A match of ten seconds, at the rate of a busy software renderer.
const LIMIT: Duration = Duration::from_secs(180);
/// How often a key is pressed.
const KEY_EVERY: Duration = Duration::from_millis(350);
/// How long a display may take to come up.
const DISPLAY_WITHIN: Duration = Duration::from_secs(20);
/// An empty image of the window's size compresses to less than this.
const SCREENSHOT_BYTES: u64 = 20_000;

struct Run {
    name: &'static str,
    options: &'static str,
    /// Keys are pressed, and the file must record them.
    keys: bool,
    frames: u64,
    fallback: bool,
}

const RUNS: [Run; 2] = [
    Run {
        name: "bot",
        options: "--bot --hud --frames 480 --seed 11 --conditions latency=45ms,jitter=12ms \
                  --cut-direct-at 240 --screenshot-at 330",
        keys: false,
        frames: 480,
        fallback: true,
    },
    Run {
        name: "keyboard",
        options: "--frames 420 --seed 5 --conditions latency=70ms,jitter=20ms --screenshot-at 280",
        keys: true,
        frames: 420,
        fallback: false,
    },
];

pub(crate) fn check() -> Outcome {
    match driver() {
        Ok(driver) => play(&driver).into(),
        Err(why) => Outcome::NotRun(why),
    }
}

/// Installs what the stage needs.
pub(crate) fn prepare() -> Result<(), String> {
    driver().map(drop)
}

fn driver() -> Result<PathBuf, String> {
    debian::ready_or_installed(
        &PACKAGES,
        "no virtual display with a software renderer",
        ready,
    )
}

/// The software renderer's driver, if everything is there.
fn ready() -> Option<PathBuf> {
    let tools = works(program("Xvfb").arg("-help")) && works(program("xdotool").arg("--version"));
    let drivers = fs::read_dir(DRIVERS).ok().filter(|_| tools)?;
    drivers
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("lvp_icd") && name.ends_with(".json")
        })
}

fn play(driver: &Path) -> Result<(), String> {
    let demo = native::programs()?.join("volley");
    let out = target_folder()?.join("xtask/window");
    empty_folder(&out)?;
    let display = Display::start()?;
    for row in &RUNS {
        let folder = out.join(row.name);
        one(row, &demo, &folder, &display, driver)
            .map_err(|error| format!("{}: {error}", row.name))?;
    }
    watch(&demo, &out, &display, driver).map_err(|error| format!("replay: {error}"))
}

/// A file of the first match is watched to its end, as its peer saw it.
fn watch(demo: &Path, out: &Path, display: &Display, driver: &Path) -> Result<(), String> {
    let files = episode_files(&out.join(RUNS[0].name).join("exports"))?;
    let screenshot = out.join("replay.png");
    let mut command = on_display(demo, display, driver);
    command
        .current_dir(out)
        .arg("--replay")
        .arg(&files[0])
        .args([
            "--as-seen",
            "--quit",
            "--screenshot-at",
            "300",
            "--screenshot",
        ])
        .arg(&screenshot);
    run_within(&mut command, LIMIT)?;
    look(&screenshot)
}

/// The demo on a virtual display, drawn by the software renderer.
fn on_display(demo: &Path, display: &Display, driver: &Path) -> Command {
    let mut command = program(&demo.to_string_lossy());
    command
        .env("DISPLAY", &display.name)
        .env_remove("WAYLAND_DISPLAY")
        .env("VK_DRIVER_FILES", driver)
        .env("WGPU_BACKEND", "vulkan");
    command
}

fn one(
    row: &Run,
    demo: &Path,
    folder: &Path,
    display: &Display,
    driver: &Path,
) -> Result<(), String> {
    create_folder(folder)?;
    let screenshot = folder.with_extension("png");
    let exports = folder.join("exports");
    let mut command = on_display(demo, display, driver);
    command
        .current_dir(folder)
        .args(row.options.split_whitespace())
        .args(["--episodes", "1", "--quit", "--out"])
        .arg(&exports)
        .arg("--screenshot")
        .arg(&screenshot);
    let keys = row.keys.then(|| Keys::start(&display.name));
    let played = run_within(&mut command, LIMIT);
    drop(keys);
    played?;
    look(&screenshot)?;
    let files = Files {
        episodes: 1,
        players: 2,
        frames: row.frames,
        fallback: row.fallback,
    };
    read_match(&exports, &files)?;
    seen_in_files(&exports, row.keys)
}

/// The screenshot is an image, and too large to be empty; the demo itself counted what is on it.
fn look(screenshot: &Path) -> Result<(), String> {
    let bytes = fs::read(screenshot).map_err(|error| format!("no screenshot: {error}"))?;
    if !bytes.starts_with(b"\x89PNG\r\n") || (bytes.len() as u64) < SCREENSHOT_BYTES {
        return Err(format!(
            "{} is no screenshot of a match: {} bytes",
            screenshot.display(),
            bytes.len()
        ));
    }
    println!("{} ({} bytes)", screenshot.display(), bytes.len());
    Ok(())
}

/// One of the two files is the window's: it records a display and drawn frames, the other none.
fn seen_in_files(exports: &Path, keys: bool) -> Result<(), String> {
    let session = fs::read_dir(exports)
        .ok()
        .and_then(|mut entries| entries.next()?.ok())
        .ok_or("no session's folder")?;
    let mut windows = 0;
    for player in 0..2 {
        let name = format!("episode-0.player-{player}.json");
        let text = fs::read_to_string(session.path().join(&name))
            .map_err(|error| format!("{name}: {error}"))?;
        let document: Value =
            serde_json::from_str(&text).map_err(|error| format!("{name}: {error}"))?;
        if window_seen(&document, keys).map_err(|error| format!("{name}: {error}"))? {
            windows += 1;
        }
    }
    match windows {
        1 => Ok(()),
        other => Err(format!(
            "one of two peers has a window, {other} files record one"
        )),
    }
}

/// Whether a file is that of a window, and holds what a window's file must.
fn window_seen(document: &Value, keys: bool) -> Result<bool, String> {
    let width = document.pointer("/display/width").and_then(Value::as_u64);
    let drawn = document
        .pointer("/timeline/drawnFrames")
        .and_then(Value::as_array);
    let (Some(width), Some(drawn)) = (width, drawn) else {
        return Ok(false);
    };
    let times: u64 = drawn
        .iter()
        .filter_map(|run| Some(run.get(0)?.as_u64()? * run.get(1)?.as_u64()?))
        .sum();
    let kind = document
        .pointer("/session/localPlayerId")
        .and_then(Value::as_u64)
        .and_then(|player| document.pointer(&format!("/session/players/{player}/kind")));
    let changes = document
        .pointer("/inputs/localChanges")
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    let by_keyboard = changes
        .iter()
        .filter(|change| change["device"] == "keyboard")
        .count();
    println!(
        "a window of {width} pixels drew {times} times; {by_keyboard} of {} changes by keyboard",
        changes.len()
    );
    if times == 0 {
        return Err("nothing was drawn".into());
    }
    let wanted = if keys { "human" } else { "bot" };
    if kind.and_then(Value::as_str) != Some(wanted) {
        return Err(format!("the window's player is {kind:?}, not a {wanted}"));
    }
    if keys && by_keyboard == 0 {
        return Err("keys were pressed, and no change records one".into());
    }
    Ok(true)
}

/// A display without a screen, on a number that it chose; ended with this value.
struct Display {
    process: Child,
    name: String,
}

impl Display {
    fn start() -> Result<Self, String> {
        let mut command = program("Xvfb");
        command
            .args(["-displayfd", "1", "-screen", "0", "1280x800x24"])
            .args(["-nolisten", "tcp"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        println!("$ {}", shown(&command));
        let mut process = command
            .spawn()
            .map_err(|error| format!("the display does not start: {error}"))?;
        let stdout = process.stdout.take();
        let reader = thread::spawn(move || {
            let mut line = String::new();
            let read = stdout.map(|stdout| BufReader::new(stdout).read_line(&mut line));
            read.map(|_| line.trim().to_owned()).unwrap_or_default()
        });
        let mut display = Self {
            process,
            name: String::new(),
        };
        let started = Instant::now();
        while !reader.is_finished() {
            if started.elapsed() > DISPLAY_WITHIN {
                return Err("the display does not print its number".into());
            }
            thread::sleep(Duration::from_millis(50));
        }
        let number = reader.join().unwrap_or_default();
        if number.parse::<u32>().is_err() {
            return Err(format!(
                "the display prints {number:?} instead of its number"
            ));
        }
        display.name = format!(":{number}");
        Ok(display)
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Keys pressed on a display, until this value is dropped.
struct Keys {
    stopped: std::sync::Arc<std::sync::atomic::AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Keys {
    fn start(display: &str) -> Self {
        let stopped = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (stop, display) = (stopped.clone(), display.to_owned());
        let thread = thread::spawn(move || {
            let tool = |arguments: &[&str]| -> Command {
                let mut command = program("xdotool");
                command.args(arguments).env("DISPLAY", &display);
                command
            };
            for keys in ["d", "w", "a", "space"].iter().cycle() {
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                // Without a window manager a window does not get the keyboard by itself.
                works(&mut tool(&["search", "--name", "volley", "windowfocus"]));
                works(&mut tool(&["keydown", keys]));
                thread::sleep(KEY_EVERY);
                works(&mut tool(&["keyup", keys]));
            }
        });
        Self {
            stopped,
            thread: Some(thread),
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.stopped
            .store(true, std::sync::atomic::Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // After a panic in it no key is pressed, which the files show.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document() -> Value {
        json!({
            "display": {"width": 1120},
            "timeline": {"drawnFrames": [[1, 300], [2, 20], [0, 4]]},
            "session": {"localPlayerId": 1, "players": [{"kind": null}, {"kind": "human"}]},
            "inputs": {"localChanges": [{"device": "keyboard"}, {"device": null}]}
        })
    }

    #[test]
    fn a_file_without_a_window_is_recognized() {
        assert_eq!(window_seen(&document(), true), Ok(true));
        let mut headless = document();
        headless["timeline"]["drawnFrames"] = Value::Null;
        assert_eq!(window_seen(&headless, true), Ok(false));
    }

    #[test]
    fn a_window_that_drew_nothing_or_got_no_key_is_refused() {
        let mut blank = document();
        blank["timeline"]["drawnFrames"] = json!([[0, 324]]);
        assert!(window_seen(&blank, true).is_err());
        let mut keyless = document();
        keyless["inputs"]["localChanges"][0]["device"] = Value::Null;
        assert!(window_seen(&keyless, true).is_err());
        assert!(
            window_seen(&document(), false).is_err(),
            "no bot plays here"
        );
    }
}
