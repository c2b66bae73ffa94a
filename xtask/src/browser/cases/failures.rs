//! Test cases in which one thing is broken: the page shows a sentence instead of "loading", and
//! reports the failure once, to its own scripts and to the page around it.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::{START, Setup, WATCH, holds, same};
use crate::browser::faulty_server::{Fault, FaultyServer};
use crate::browser::firefox::Firefox;
use crate::browser::webdriver::Page;

const PROGRAM: &str = "pkg/volley_bg.wasm";
const SCRIPT: &str = "pkg/volley.js";
const INDEX: &str = "index.html";
/// The embedding page, whose frame shows the game.
const EMBED: &str = "embed.html?room=failures&bot=1";
/// The frame's window, as the embedding page has it.
const FRAME: &str = "document.getElementById('game').contentWindow";
/// A second event would follow within a task or two: the trap after a panic, the rejection after an
/// event of the program.
const SECOND_EVENT: Duration = Duration::from_secs(1);
/// Makes the page's timers run faster, so that its patience of a minute ends soon.
const FAST_TIMERS: &str = "\
const set = window.setTimeout;
window.setTimeout = (callback, ms, ...more) => set(callback, ms / 20, ...more);";

/// A file that is broken, and what the page reports.
struct Broken {
    what: &'static str,
    file: &'static str,
    fault: fn() -> Fault,
    phase: &'static str,
    /// Parts of the sentence.
    says: &'static [&'static str],
}

const DOWNLOADS: [Broken; 6] = [
    Broken {
        what: "the program is missing",
        file: PROGRAM,
        fault: || Fault::Missing,
        phase: "download",
        says: &["the server answers 404", "reload this page"],
    },
    Broken {
        what: "the program's download breaks off",
        file: PROGRAM,
        fault: || Fault::CutShort,
        phase: "download",
        says: &["only ", " MB arrived", "reload this page"],
    },
    Broken {
        what: "a page of a Wi-Fi's login stands in the program's place",
        file: PROGRAM,
        fault: || replaced("text/html", "<p>Please accept the terms of use.</p>"),
        phase: "download",
        says: &["only 0.0 MB of ", "reload this page"],
    },
    Broken {
        what: "the script is missing",
        file: SCRIPT,
        fault: || Fault::Missing,
        phase: "download",
        says: &["its script is missing or incomplete", "reload this page"],
    },
    Broken {
        what: "the script's download breaks off",
        file: SCRIPT,
        fault: || Fault::CutShort,
        phase: "download",
        says: &["its script is missing or incomplete", "reload this page"],
    },
    Broken {
        what: "a page of a Wi-Fi's login stands in the script's place",
        file: SCRIPT,
        fault: || replaced("text/html", "<p>Please accept the terms of use.</p>"),
        phase: "download",
        says: &["its script is missing or incomplete", "reload this page"],
    },
];

const STARTS: [Broken; 2] = [
    Broken {
        what: "the script throws while it is loaded",
        file: SCRIPT,
        fault: || replaced("text/javascript", "throw new Error('broken by the test');"),
        phase: "instantiate",
        says: &[
            "could not start the game: broken by the test.",
            "another browser",
        ],
    },
    Broken {
        what: "the script's init throws",
        file: SCRIPT,
        fault: || {
            replaced(
                "text/javascript",
                "export default async () => { throw new Error('broken by the test'); };",
            )
        },
        phase: "instantiate",
        says: &[
            "could not start the game: broken by the test.",
            "another browser",
        ],
    },
];

fn replaced(content_type: &'static str, content: &str) -> Fault {
    Fault::Replaced {
        content_type,
        content: content.to_owned(),
    }
}

/// Files that do not arrive.
pub(super) fn downloads(setup: &Setup<'_>) -> Result<(), String> {
    let browser = setup.browser()?;
    for broken in DOWNLOADS {
        let server = FaultyServer::start(setup.page_folder, broken.file, (broken.fault)())?;
        println!("  {}", broken.what);
        browser.open(&format!("{}{EMBED}", server.url))?;
        reports_once(&browser, broken.phase, broken.says)
            .map_err(|why| format!("{}: {why}", broken.what))?;
    }
    browser.screenshot(&setup.out.join("download.png"))
}

/// Nothing arrives any more, and the connection stays open: the page gives up after its patience.
pub(super) fn stalled_downloads(setup: &Setup<'_>) -> Result<(), String> {
    let browser = setup.browser()?;
    browser.prepare(FAST_TIMERS)?;
    for file in [PROGRAM, SCRIPT] {
        let server = FaultyServer::start(setup.page_folder, file, Fault::Stalls)?;
        browser.open(&format!("{}{EMBED}", server.url))?;
        let says = ["only ", "and nothing for 60 s", "reload this page"];
        reports_once(&browser, "download", &says).map_err(|why| format!("{file}: {why}"))?;
    }
    Ok(())
}

/// Files that arrive, and a program that does not start.
pub(super) fn starts(setup: &Setup<'_>) -> Result<(), String> {
    let browser = setup.browser()?;
    for broken in STARTS {
        let server = FaultyServer::start(setup.page_folder, broken.file, (broken.fault)())?;
        println!("  {}", broken.what);
        browser.open(&format!("{}{EMBED}", server.url))?;
        reports_once(&browser, broken.phase, broken.says)
            .map_err(|why| format!("{}: {why}", broken.what))?;
    }
    let index = setup.page_folder.join(INDEX);
    let text =
        std::fs::read_to_string(&index).map_err(|error| format!("{}: {error}", index.display()))?;
    let first = "<script type=\"module\">\n";
    holds("the page has a module", text.contains(first))?;
    let unreadable = text.replace(first, &format!("{first}a syntax of the future;\n"));
    let fault = replaced("text/html; charset=utf-8", &unreadable);
    let server = FaultyServer::start(setup.page_folder, INDEX, fault)?;
    browser.open(&format!("{}{EMBED}", server.url))?;
    reports_once(
        &browser,
        "instantiate",
        &["it is too old", "another browser"],
    )
    .map_err(|why| format!("a module that the browser cannot read: {why}"))
}

/// A browser without WebGL2.
pub(super) fn no_webgl2(setup: &Setup<'_>) -> Result<(), String> {
    let options = ["--disable-gpu", "--disable-3d-apis"];
    let browser = setup.driver.browser_with(setup.out, &options)?;
    browser.prepare(WATCH)?;
    browser.open(&format!("{}{EMBED}", setup.page))?;
    reports_once(&browser, "graphics", NO_WEBGL2)?;
    browser.screenshot(&setup.out.join("no-webgl2.png"))
}

const NO_WEBGL2: &[&str] = &[
    "offers no WebGL2",
    "hardware acceleration",
    "another browser",
];

/// Firefox where it has no OpenGL.
pub(super) fn firefox_without_webgl2(setup: &Setup<'_>) -> Result<(), String> {
    // Where there is an OpenGL, it is hidden from the page.
    let preferences = [("webgl.disabled", "true")];
    let browser = Firefox::start(setup.firefox, &preferences)?;
    browser.prepare(WATCH)?;
    browser.open(&format!("{}{EMBED}", setup.page))?;
    reports_once(&browser, "graphics", NO_WEBGL2)
}

/// The program panics while it runs.
pub(super) fn panics(setup: &Setup<'_>) -> Result<(), String> {
    let browser = setup.open(&format!("{}{EMBED}", setup.page))?;
    browser.until(&format!("{FRAME}.seen?.sessions.length > 0"), START)?;
    // winit expects that a browser takes the request for the next frame.
    browser.run(&format!(
        "{FRAME}.eval(`requestAnimationFrame = () => {{ throw new Error('broken by the test'); }}`)"
    ))?;
    let says = [
        "The game has stopped: Failed to request animation frame",
        "broken by the test",
        "animation_frame.rs:",
        "Reload this page",
    ];
    reports_once(&browser, "panic", &says)?;
    browser.screenshot(&setup.out.join("panic.png"))
}

/// The driver takes the canvas's context away, as after a crash of the graphics process.
pub(super) fn graphics_lost(setup: &Setup<'_>) -> Result<(), String> {
    let browser = setup.open(&format!("{}{EMBED}", setup.page))?;
    browser.until(&format!("{FRAME}.seen?.sessions.length > 0"), START)?;
    browser.run(&format!(
        "{FRAME}.document.getElementById('game').getContext('webgl2')\
         .getExtension('WEBGL_lose_context').loseContext()"
    ))?;
    reports_once(
        &browser,
        "graphics",
        &["took the graphics away", "Reload this page"],
    )
}

/// The page in the frame shows a sentence with these parts and `failed`, and one event came to it and
/// to the page around it.
fn reports_once(browser: &impl Page, phase: &str, says: &[&str]) -> Result<(), String> {
    let shown = format!("{FRAME}.document.getElementById('error')?.hidden === false");
    browser.until(&shown, START)?;
    thread::sleep(SECOND_EVENT);
    let seen = browser.run(&format!(
        "const {{ document: page, seen: {{ errors }} }} = {FRAME};
         const box = page.getElementById('error').getBoundingClientRect();
         const frame = document.getElementById('game').getBoundingClientRect();
         return {{
           errors, forwarded: window.seen.forwarded,
           visible: box.width > 100 && box.height > 10 && frame.top + box.bottom < innerHeight,
           sentence: page.getElementById('error').textContent,
           state: page.getElementById('state').textContent,
           loading: !page.getElementById('loading').hidden,
         }}"
    ))?;
    println!("    the page says: {}", seen["sentence"]);
    let sentence = seen["sentence"].as_str().unwrap_or_default();
    holds(
        &format!("one line without an address, it is: {sentence}"),
        !sentence.contains("://") && !sentence.contains('\n'),
    )?;
    for part in says {
        holds(
            &format!("the sentence has `{part}`, it is: {sentence}"),
            sentence.contains(part),
        )?;
    }
    let expected: Value = json!([{ "message": sentence, "phase": phase }]);
    same("the events of the page", &seen["errors"], &expected)?;
    same(
        "the events of the page around it",
        &seen["forwarded"],
        &expected,
    )?;
    same(
        "whether the sentence is visible without scrolling",
        &seen["visible"],
        &true.into(),
    )?;
    same(
        "whether it is loading still",
        &seen["loading"],
        &false.into(),
    )?;
    same("#state", &seen["state"], &"failed".into())
}
