//! Owns what is played in the browser, and what must hold afterwards. It judges what pages and
//! files say; that a file is whole is `rollback-lab verify`'s business.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::webdriver::{Browser, Driver};
use crate::process::{program, run_within};

/// Where and with what a scene is played.
pub struct Stage<'a> {
    pub driver: &'a Driver,
    /// The page's address.
    pub page: &'a str,
    /// A program that joins a room as a native peer.
    pub native: &'a Path,
    /// Folder for documents and pictures.
    pub out: &'a Path,
}

pub struct Scene {
    pub name: &'static str,
    pub play: fn(&Stage<'_>) -> Result<(), String>,
}

pub const SCENES: &[Scene] = &[
    Scene {
        name: "two-pages",
        play: two_pages,
    },
    Scene {
        name: "page-and-native",
        play: page_and_native,
    },
    Scene {
        name: "direct-path-cut",
        play: direct_path_cut,
    },
    Scene {
        name: "hidden-tab",
        play: hidden_tab,
    },
    Scene {
        name: "unreachable-server",
        play: unreachable_server,
    },
    Scene {
        name: "embedded",
        play: embedded,
    },
];

/// A match, connecting and a software renderer included.
const MATCH: Duration = Duration::from_secs(120);
/// From opening the page to the first frame.
const START: Duration = Duration::from_secs(60);
/// How long a tab is hidden.
const HIDDEN: Duration = Duration::from_secs(5);

/// Runs before the page's scripts: it keeps what the page is told.
const WATCH: &str = "\
window.seen = { episodes: [], sessions: [], errors: [] };
for (const [list, type] of Object.entries({
  episodes: 'rollbacklab:episode', sessions: 'rollbacklab:session', errors: 'rollbacklab:error' }))
  addEventListener(type, ({ detail }) => window.seen[list].push(detail));";

const PLAYING: &str = "window.exportSessionMetrics?.()?.frames.total > 60";
const ENDED: &str = "window.seen.episodes.length > 0";
const OVER: &str = "window.seen.sessions.at(-1)?.endReason";

impl<'a> Stage<'a> {
    /// A browser with the page open, a bot at its side.
    fn page(&self, room: &str, more: &str) -> Result<Browser<'a>, String> {
        let browser = self.driver.browser(self.out)?;
        browser.prepare(WATCH)?;
        browser.open(&self.link("", room, more))?;
        Ok(browser)
    }

    fn link(&self, file: &str, room: &str, more: &str) -> String {
        format!("{}{file}?room={room}&bot=1&episodes=1{more}", self.page)
    }

    fn save(&self, name: &str, document: &Value) -> Result<(), String> {
        let file = self.out.join(name);
        std::fs::write(&file, document.to_string())
            .map_err(|error| format!("{}: {error}", file.display()))
    }

    /// Waits for the end of the session and keeps its documents; returns the episode's.
    fn finish(&self, browser: &Browser<'_>, who: &str) -> Result<Value, String> {
        wait(browser, ENDED, MATCH)?;
        wait(browser, OVER, START)?;
        let episode = browser.run("return window.seen.episodes[0]")?;
        let session = browser.run("return window.seen.sessions.at(-1)")?;
        self.save(&format!("episode.{who}.json"), &episode)?;
        self.save(&format!("session.{who}.json"), &session)?;
        same("endReason", &session["endReason"], &"completed".into())?;
        Ok(episode)
    }
}

/// Like [`Browser::until`], but a page that says why there is no match ends the wait with its words.
fn wait(browser: &Browser<'_>, expression: &str, limit: Duration) -> Result<(), String> {
    let or_error = format!("({expression}) || window.seen.errors.length > 0");
    let waited = browser.until(&or_error, limit);
    let error = browser.run("return window.seen.errors[0]?.message ?? null")?;
    match error.as_str() {
        Some(error) => Err(format!("the page says: {error}")),
        None => waited.map_err(|why| {
            let state = browser.run("return document.getElementById('state')?.textContent");
            format!("{why}; the page says {state:?}")
        }),
    }
}

fn same(what: &str, found: &Value, expected: &Value) -> Result<(), String> {
    if found == expected && !found.is_null() {
        return Ok(());
    }
    let short = |value: &Value| value.to_string().chars().take(120).collect::<String>();
    Err(format!(
        "{what} is {}, expected {}",
        short(found),
        short(expected)
    ))
}

fn holds(what: &str, holds: bool) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

/// Two files of one episode tell the same history, to its end, and know it.
fn agree(frames: u64, documents: [&Value; 2]) -> Result<(), String> {
    for document in documents {
        same(
            "episode.endFrame",
            &document["episode"]["endFrame"],
            &frames.into(),
        )?;
        same(
            "sync.status",
            &document["sync"]["status"],
            &"verified".into(),
        )?;
        println!(
            "  player {}: {} frames, {} rollbacks, {} stalled, route {}, both paths for {} ms, RTT {} ms",
            document["session"]["localPlayerId"],
            document["frames"]["total"],
            document["rollbacks"]["count"],
            document["frames"]["stalled"],
            document["connection"]["peers"][0]["route"],
            document["quality"]["bothPathsMs"],
            document["latency"]["medianMs"],
        );
        for change in document["quality"]["routeChanges"]
            .as_array()
            .into_iter()
            .flatten()
        {
            println!(
                "    frame {}: {} -> {} ({} {} of {})",
                change["frame"],
                change["from"],
                change["to"],
                change["metric"],
                change["value"],
                change["threshold"],
            );
        }
    }
    let [one, other] = documents;
    for path in ["/session/sessionId", "/sync/historyDigest", "/sync/hashes"] {
        let of = |document: &Value| document.pointer(path).cloned().unwrap_or_default();
        same(path, &of(one), &of(other))?;
    }
    Ok(())
}

/// Nothing was wrong with the direct path: it was the route from its opening to the end.
fn stayed_direct(documents: &[&Value]) -> Result<(), String> {
    for document in documents {
        same(
            "quality.p2pFallbackTriggered",
            &document["quality"]["p2pFallbackTriggered"],
            &false.into(),
        )?;
        same(
            "connection.peers[0].route",
            &document["connection"]["peers"][0]["route"],
            &"direct".into(),
        )?;
    }
    Ok(())
}

/// An episode between two browsers; its document arrives by event, by function and by download.
fn two_pages(stage: &Stage<'_>) -> Result<(), String> {
    let first = stage.page("two-pages", "&frames=600&hud=1&study=s1&group=g1&trial=t1")?;
    let second = stage.page("two-pages", "&frames=600")?;
    wait(&first, PLAYING, START)?;
    let running = first.run("return window.exportSessionMetrics()")?;
    same(
        "episode.isPartial while it runs",
        &running["episode"]["isPartial"],
        &true.into(),
    )?;
    first.picture(&stage.out.join("page-hud.png"))?;
    second.picture(&stage.out.join("page.png"))?;
    let documents = [
        stage.finish(&first, "first")?,
        stage.finish(&second, "second")?,
    ];
    agree(600, [&documents[0], &documents[1]])?;
    stayed_direct(&[&documents[0], &documents[1]])?;

    let told = &documents[0];
    let session = &told["session"];
    same("studyId", &session["studyId"], &"s1".into())?;
    same("groupId", &session["groupId"], &"g1".into())?;
    same("trialLabel", &told["episode"]["trialLabel"], &"t1".into())?;
    let player = session["localPlayerId"].as_u64().unwrap_or_default() as usize;
    same(
        "players[].kind",
        &session["players"][player]["kind"],
        &"bot".into(),
    )?;
    holds(
        "software.browser names a family and a version",
        told["software"]["browser"]
            .as_str()
            .is_some_and(|browser| browser.starts_with("Chromium ")),
    )?;
    let by_function = first.run("return window.exportSessionMetrics()")?;
    same("what the function returns", &by_function, told)?;
    let all = first.run("return window.exportSessionMetrics({all: true})")?;
    same("{all: true}", &all, &Value::Array(vec![told.clone()]))?;
    first.run("document.getElementById('download').click()")?;
    let downloaded = download(stage.out)?;
    same(
        "what was downloaded",
        &downloaded["episodes"],
        &Value::Array(vec![told.clone()]),
    )?;
    holds(
        "the session document was told at every phase",
        first.run("return window.seen.sessions.length")?.as_u64() >= Some(6),
    )
}

/// The one file that the page saved.
fn download(folder: &Path) -> Result<Value, String> {
    let started = Instant::now();
    loop {
        let found = std::fs::read_dir(folder)
            .map_err(|error| error.to_string())?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.to_string_lossy().ends_with(".metrics.json"));
        if let Some(file) = found {
            let text = std::fs::read_to_string(&file).map_err(|error| error.to_string())?;
            return serde_json::from_str(&text)
                .map_err(|error| format!("the download is no JSON: {error}"));
        }
        if started.elapsed() > START {
            return Err(String::from("nothing was downloaded"));
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// An episode between a browser and a native peer: integer state, equal hashes.
fn page_and_native(stage: &Stage<'_>) -> Result<(), String> {
    let server = stage.page.trim_end_matches('/').replace("http", "ws");
    let exports = stage.out.join("native");
    let mut command = program(&stage.native.to_string_lossy());
    command
        .args(["--join", "--server", &server, "--room", "mixed"])
        .args(["--frames", "600", "--cut-direct-at", "never", "--out"])
        .arg(&exports);
    let native = thread::spawn(move || run_within(&mut command, MATCH));
    let played = stage
        .page("mixed", "&frames=600")
        .and_then(|page| stage.finish(&page, "page"));
    let native = native
        .join()
        .map_err(|_| "the native peer's thread panicked")?;
    let page = played?;
    native?;
    let session = page["session"]["sessionId"].as_str().unwrap_or_default();
    let other = 1 - page["session"]["localPlayerId"]
        .as_u64()
        .unwrap_or_default();
    let file = exports
        .join(session)
        .join(format!("episode-0.player-{other}.json"));
    let text = std::fs::read_to_string(&file)
        .map_err(|error| format!("the native peer's file: {error}"))?;
    let native = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    agree(600, [&page, &native])?;
    stayed_direct(&[&page, &native])
}

/// The direct path is lost in the middle, and the match goes on over the relay.
fn direct_path_cut(stage: &Stage<'_>) -> Result<(), String> {
    let first = stage.page("cut", "&frames=600&cutDirectAt=200")?;
    let second = stage.page("cut", "&frames=600")?;
    let documents = [
        stage.finish(&first, "first")?,
        stage.finish(&second, "second")?,
    ];
    agree(600, [&documents[0], &documents[1]])?;
    for document in &documents {
        let quality = &document["quality"];
        same(
            "quality.p2pFallbackTriggered",
            &quality["p2pFallbackTriggered"],
            &true.into(),
        )?;
        let frame = quality["p2pFallbackFrame"].as_u64();
        holds(
            "the fallback came soon after frame 200",
            frame.is_some_and(|frame| (200..400).contains(&frame)),
        )?;
        same(
            "connection.type",
            &document["connection"]["type"],
            &"relay".into(),
        )?;
    }
    Ok(())
}

/// A tab is hidden for five seconds: the match goes on, both files say so, nothing is promoted.
fn hidden_tab(stage: &Stage<'_>) -> Result<(), String> {
    let first = stage.page("hidden", "&frames=1200")?;
    let second = stage.page("hidden", "&frames=1200")?;
    wait(&first, PLAYING, START)?;
    wait(&second, PLAYING, START)?;
    let frame = || -> Result<u64, String> {
        let frame = second.run("return window.exportSessionMetrics().frames.total")?;
        frame.as_u64().ok_or(String::from("no frame is counted"))
    };
    let tab = first.tab()?;
    first.new_tab()?;
    let before = frame()?;
    let since = Instant::now();
    thread::sleep(HIDDEN);
    let after = frame()?;
    let hidden = since.elapsed();
    first.show(&tab)?;
    let documents = [
        stage.finish(&first, "hidden")?,
        stage.finish(&second, "watching")?,
    ];
    agree(1200, [&documents[0], &documents[1]])?;
    stayed_direct(&[&documents[0], &documents[1]])?;
    let pace = (after - before) as f64 / hidden.as_secs_f64();
    println!("  while hidden: {pace:.1} frames a second of the other peer");
    // It can be ahead of the hidden one by its prediction window alone.
    holds("the match went on at half its pace at least", pace > 30.0)?;
    let [hidden, watching] = documents.map(|document| document["focusLoss"].clone());
    println!("  hidden: {hidden}");
    println!("  watching: {watching}");
    let total = hidden["totalBackgroundMs"].as_f64().unwrap_or_default();
    holds(
        "focusLoss tells of five seconds",
        (4_500.0..8_000.0).contains(&total),
    )?;
    same(
        "peerBackgroundPeriods of the other peer",
        &watching["peerBackgroundPeriods"]
            .as_array()
            .map(Vec::len)
            .into(),
        &1.into(),
    )?;
    same(
        "periodCount of the other peer",
        &watching["periodCount"],
        &0.into(),
    )?;
    Ok(())
}

/// A server that is not there: the page says so.
fn unreachable_server(stage: &Stage<'_>) -> Result<(), String> {
    let page = stage.page("nowhere", "&server=ws://127.0.0.1:1")?;
    page.until("!document.getElementById('error').hidden", START)?;
    let text = page.run("return document.getElementById('error').textContent")?;
    println!("  the page says: {text}");
    page.picture(&stage.out.join("unreachable.png"))?;
    holds(
        "the page names the server and what happened",
        text.as_str().is_some_and(|text| {
            text.contains("ws://127.0.0.1:1") && text.contains("cannot be reached")
        }),
    )
}

/// A page around the page gets every document by `postMessage`.
fn embedded(stage: &Stage<'_>) -> Result<(), String> {
    let outer = stage.driver.browser(stage.out)?;
    outer.open(&stage.link("embed.html", "embedded", "&frames=300"))?;
    let other = stage.page("embedded", "&frames=300")?;
    let told = stage.finish(&other, "other")?;
    outer.until("window.documents.episodes.length > 0", MATCH)?;
    outer.run("document.getElementById('export').click()")?;
    outer.until("window.documents.exported", START)?;
    let documents = outer.run("return window.documents")?;
    stage.save("episode.embedded.json", &documents["episodes"][0])?;
    stage.save("session.embedded.json", &documents["session"])?;
    outer.picture(&stage.out.join("embed.png"))?;
    agree(300, [&documents["episodes"][0], &told])?;
    same(
        "what the iframe answers",
        &documents["exported"],
        &documents["episodes"][0],
    )
}
