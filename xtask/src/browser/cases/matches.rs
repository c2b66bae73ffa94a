//! Test cases whose match must go on: a page and a native peer, a lost path, hidden tabs.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{
    HIDDEN, MATCH, PLAYING, START, SUSPENDED, Setup, WATCH, agree, holds, same, stayed_direct, wait,
};
use crate::browser::webdriver::{Browser, Page};
use crate::process::{program, run_within};

/// An episode between a browser and a native peer: integer state, equal hashes.
pub(super) fn page_and_native(setup: &Setup<'_>) -> Result<(), String> {
    let server = setup.page.trim_end_matches('/').replace("http", "ws");
    let exports = setup.out.join("native");
    let mut command = program(&setup.native.to_string_lossy());
    command
        .args(["--join", "--server", &server, "--room", "mixed"])
        .args(["--frames", "600", "--cut-direct-at", "never"])
        // The page's own settings: peers must agree on the input delay.
        .args(["--input-delay", "2", "--conditions", "none", "--out"])
        .arg(&exports);
    let native = thread::spawn(move || run_within(&mut command, MATCH));
    let played = setup
        .page("mixed", "&frames=600")
        .and_then(|page| setup.finish(&page, "page"));
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
pub(super) fn direct_path_cut(setup: &Setup<'_>) -> Result<(), String> {
    let first = setup.page("cut", "&frames=600&cutDirectAt=200")?;
    let second = setup.page("cut", "&frames=600")?;
    let documents = [
        setup.finish(&first, "first")?,
        setup.finish(&second, "second")?,
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

/// A page that has next to nothing to draw.
const SMALL: &str = "--window-size=160,120";
/// The largest median round trip over loopback: half a frame, which it exceeded when the game's frames
/// drove the links. On an idle machine two such pages measure 3 ms.
const ROUND_TRIP_MS: f64 = 8.0;

/// Two pages that are nearly idle measure the network, not themselves.
pub(super) fn round_trip(setup: &Setup<'_>) -> Result<(), String> {
    let link = setup.link("", "round-trip", "&bot=1&frames=600");
    let open = || {
        let browser = setup.driver.browser_with(setup.out, &[SMALL])?;
        browser.prepare(WATCH)?;
        browser.open(&link)?;
        Ok::<_, String>(browser)
    };
    let (first, second) = (open()?, open()?);
    let documents = [
        setup.finish(&first, "first")?,
        setup.finish(&second, "second")?,
    ];
    agree(600, [&documents[0], &documents[1]])?;
    stayed_direct(&[&documents[0], &documents[1]])?;
    for document in &documents {
        let median = document["latency"]["medianMs"].as_f64();
        holds(
            &format!("the median round trip of {median:?} ms is the network's"),
            median.is_some_and(|ms| ms <= ROUND_TRIP_MS),
        )?;
    }
    Ok(())
}

/// Keeps the page's peer connections and websockets, and takes its server away on demand.
const NETWORK: &str = "\
window.peers = [];
window.RTCPeerConnection = class extends RTCPeerConnection {
  constructor(...settings) { super(...settings); window.peers.push(this); }
};
window.sockets = [];
window.WebSocket = class extends WebSocket {
  constructor(url, protocols) {
    super(window.offline ? 'ws://127.0.0.1:1' : url, protocols);
    window.sockets.push(this);
  }
};";
/// Two pages that play, and whose [`NETWORK`] can be taken away.
fn play_with_network<'a>(
    setup: &Setup<'a>,
    room: &str,
    frames: u32,
) -> Result<[Browser<'a>; 2], String> {
    let link = setup.link("", room, &format!("&bot=1&frames={frames}"));
    let pages = [setup.browser()?, setup.browser()?];
    for page in &pages {
        page.prepare(NETWORK)?;
        page.open(&link)?;
    }
    for page in &pages {
        wait(page, PLAYING, START)?;
    }
    Ok(pages)
}

/// From the loss of a data channel to the loss of the server: another one is open by then.
const RENEGOTIATED: Duration = Duration::from_secs(4);

/// The data channel ends in the middle, and another one is negotiated; then both pages lose the server.
pub(super) fn data_channel_lost(setup: &Setup<'_>) -> Result<(), String> {
    let pages = play_with_network(setup, "channel", 900)?;
    pages[0].run("window.peers[0].close()")?;
    thread::sleep(RENEGOTIATED);
    for page in &pages {
        page.run("window.offline = true; window.sockets.forEach(socket => socket.close())")?;
    }
    let documents = [
        setup.finish(&pages[0], "first")?,
        setup.finish(&pages[1], "second")?,
    ];
    agree(900, [&documents[0], &documents[1]])?;
    for page in &pages {
        let peers = page.run("return window.peers.length")?;
        println!("  {peers} peer connections");
        holds(
            "another data channel was negotiated",
            peers.as_u64() >= Some(2),
        )?;
    }
    for document in &documents {
        same(
            "quality.p2pFallbackTriggered",
            &document["quality"]["p2pFallbackTriggered"],
            &true.into(),
        )?;
        let longest = document["frames"]["stalls"]
            .as_array()
            .into_iter()
            .flatten();
        let longest = longest.filter_map(|stall| stall["ticks"].as_u64()).max();
        println!("  the longest stall has {longest:?} ticks");
        holds(
            "no stall of a second",
            longest.is_none_or(|ticks| ticks < 60),
        )?;
    }
    Ok(())
}

/// How long a page is without its server.
const OFFLINE: Duration = Duration::from_secs(10);
/// Browsers put off websockets after failed ones.
const RECONNECTED_US: u64 = 5_000_000;

/// A page loses its server for ten seconds, and takes it up again while the match goes on.
pub(super) fn server_lost(setup: &Setup<'_>) -> Result<(), String> {
    let pages = play_with_network(setup, "offline", 1500)?;
    pages[0].run("window.offline = true; window.sockets.forEach(socket => socket.close())")?;
    thread::sleep(OFFLINE);
    pages[0].run("window.offline = false")?;
    let documents = [
        setup.finish(&pages[0], "offline")?,
        setup.finish(&pages[1], "other")?,
    ];
    agree(1500, [&documents[0], &documents[1]])?;
    let reconnection = &documents[0]["reconnection"];
    println!("  {reconnection}");
    let at = |list: &str| reconnection[list][0]["atUs"].as_u64();
    let (Some(lost), Some(resumed)) = (at("disconnections"), at("resumes")) else {
        return Err("the loss of the server and its return are in the file".into());
    };
    let offline = u64::try_from(OFFLINE.as_micros()).unwrap_or(u64::MAX);
    holds(
        "the server is back five seconds after its return at most",
        (offline..=offline + RECONNECTED_US).contains(&resumed.saturating_sub(lost)),
    )?;
    let stalls = documents
        .iter()
        .map(|document| &document["frames"]["stalled"]);
    println!("  stalled frames: {:?}", stalls.collect::<Vec<_>>());
    Ok(())
}

/// A page is reloaded while it waits: it finds its slot again, and the room has no ghost.
pub(super) fn reloaded_page(setup: &Setup<'_>) -> Result<(), String> {
    let first = setup.page("reloaded", "&frames=300&players=2")?;
    // The server has let it in, and it waits for the other one.
    let waits = "sessionStorage.length > 0 && window.seen.sessions.length > 0";
    first.until(waits, START)?;
    for _ in 0..3 {
        first.run("setTimeout(() => location.reload())")?;
        thread::sleep(Duration::from_secs(2));
        first.until(waits, START)?;
    }
    let second = setup.page("reloaded", "&frames=300&players=2")?;
    let documents = [
        setup.finish(&first, "reloaded")?,
        setup.finish(&second, "second")?,
    ];
    agree(300, [&documents[0], &documents[1]])?;
    same(
        "localPlayerId of the reloaded page",
        &documents[0]["session"]["localPlayerId"],
        &0.into(),
    )
}

/// A tab is hidden for five seconds: the match goes on, both files record it, the route stays.
pub(super) fn hidden_tab(setup: &Setup<'_>) -> Result<(), String> {
    let first = setup.page("hidden", "&frames=1200")?;
    let second = setup.page("hidden", "&frames=1200")?;
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
        setup.finish(&first, "hidden")?,
        setup.finish(&second, "watching")?,
    ];
    agree(1200, [&documents[0], &documents[1]])?;
    stayed_direct(&[&documents[0], &documents[1]])?;
    let rate = (after - before) as f64 / hidden.as_secs_f64();
    println!("  while hidden: {rate:.1} frames a second of the other peer");
    // It can be ahead of the hidden one by its prediction window alone.
    holds(
        "the match went on at half its frame rate at least",
        rate > 30.0,
    )?;
    let [hidden, watching] = documents.map(|document| document["focusLoss"].clone());
    println!("  hidden: {hidden}");
    println!("  watching: {watching}");
    let total = hidden["totalBackgroundMs"].as_f64().unwrap_or_default();
    holds(
        "focusLoss records five seconds",
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

/// A browser may suspend a hidden tab, its workers included. Nothing on the page can go on then; the
/// match waits, and goes on over its direct path.
pub(super) fn suspended_tab(setup: &Setup<'_>) -> Result<(), String> {
    let first = setup.page("frozen", "&frames=600")?;
    let second = setup.page("frozen", "&frames=600")?;
    wait(&first, PLAYING, START)?;
    wait(&second, PLAYING, START)?;
    first.suspend(true)?;
    thread::sleep(SUSPENDED);
    first.suspend(false)?;
    let documents = [
        setup.finish(&first, "frozen")?,
        setup.finish(&second, "waiting")?,
    ];
    agree(600, [&documents[0], &documents[1]])?;
    stayed_direct(&[&documents[0], &documents[1]])?;
    let longest = documents[1]["frames"]["stalls"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|stall| stall["ticks"].as_u64())
        .max();
    println!("  the other peer waited for {longest:?} ticks at a stretch");
    holds(
        "the stall is in the waiting peer's file",
        longest.is_some_and(|ticks| ticks >= 90),
    )
}

/// One link in two tabs of one browser: the tab behind plays on, hidden.
pub(super) fn two_tabs(setup: &Setup<'_>) -> Result<(), String> {
    let link = setup.link("", "tabs", "&bot=1&frames=600");
    let browser = setup.open(&link)?;
    let behind = browser.tab()?;
    let front = browser.new_tab()?;
    browser.prepare(WATCH)?;
    browser.open(&link)?;
    let in_front = setup.finish(&browser, "front")?;
    browser.show(&behind)?;
    let hidden = setup.finish(&browser, "behind")?;
    agree(600, [&hidden, &in_front])?;
    stayed_direct(&[&hidden, &in_front])?;
    let share = |document: &Value| {
        let ms = |path: &str| document.pointer(path).and_then(Value::as_f64);
        ms("/focusLoss/totalBackgroundMs").unwrap_or_default() / 10_000.0
    };
    println!(
        "  hidden for {:.2} and {:.2} of the match",
        share(&hidden),
        share(&in_front)
    );
    browser.show(&front)?;
    holds("the tab behind was hidden throughout", share(&hidden) > 0.9)?;
    same(
        "frames drawn by the tab behind",
        &drawn(&hidden).into(),
        &0.into(),
    )?;
    holds("the tab in front drew", drawn(&in_front) > 30)
}

/// How often any frame was drawn.
fn drawn(document: &Value) -> u64 {
    let runs = document["timeline"]["drawnFrames"].as_array();
    runs.into_iter()
        .flatten()
        .filter_map(|run| Some(run.get(0)?.as_u64()? * run.get(1)?.as_u64()?))
        .sum()
}
