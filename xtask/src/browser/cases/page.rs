//! Test cases about the page itself: what it exports, what it shows, and the devices it is played
//! with.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use fantoccini::key::Key;
use serde_json::Value;

use super::{MATCH, PLAYING, START, Setup, WATCHED, agree, holds, same, stayed_direct, wait};
use crate::browser::webdriver::Page;

/// How long a key or a finger is held.
const KEY: Duration = Duration::from_millis(120);
/// A gamepad that a script plays: button 0 jumps.
const GAMEPAD: &str = "\
const button = () => ({ pressed: false, touched: false, value: 0 });
window.pad = { id: 'simulated', index: 0, connected: true, mapping: 'standard', timestamp: 0,
  buttons: Array.from({ length: 17 }, button), axes: [0, 0, 0, 0] };
navigator.getGamepads = () => [window.pad];";
/// A line on which the program needs seconds, in bytes a second.
const SLOW_LINE: u32 = 1_500_000;

/// An episode between two browsers; its document arrives by event, by function and by download.
pub(super) fn two_pages(setup: &Setup<'_>) -> Result<(), String> {
    let alike = "&frames=600&seed=77&inputDelay=3&routePolicy=p2p-first&players=2";
    let recorded = "&hud=1&study=s1&group=g1&trial=t1&conditions=latency=5ms";
    let first = setup.page("two-pages", &format!("{alike}{recorded}"))?;
    let second = setup.page("two-pages", alike)?;
    wait(&first, PLAYING, START)?;
    let running = first.run("return window.exportSessionMetrics()")?;
    same(
        "episode.isPartial while it runs",
        &running["episode"]["isPartial"],
        &true.into(),
    )?;
    first.screenshot(&setup.out.join("page-hud.png"))?;
    second.screenshot(&setup.out.join("page.png"))?;
    let documents = [
        setup.finish(&first, "first")?,
        setup.finish(&second, "second")?,
    ];
    agree(600, [&documents[0], &documents[1]])?;
    stayed_direct(&[&documents[0], &documents[1]])?;

    let document = &documents[0];
    let session = &document["session"];
    same("studyId", &session["studyId"], &"s1".into())?;
    same("groupId", &session["groupId"], &"g1".into())?;
    same(
        "trialLabel",
        &document["episode"]["trialLabel"],
        &"t1".into(),
    )?;
    same(
        "episode.seed",
        &document["episode"]["seed"],
        &format!("{:016x}", 77).into(),
    )?;
    same(
        "episode.inputDelayFrames",
        &document["episode"]["inputDelayFrames"]["0"],
        &3.into(),
    )?;
    same(
        "quality.conditions.spec",
        &document["quality"]["conditions"]["spec"],
        &"latency=5ms".into(),
    )?;
    same(
        "session.routePolicy",
        &session["routePolicy"],
        &"p2p-first".into(),
    )?;
    let player = session["localPlayerId"].as_u64().unwrap_or_default() as usize;
    same(
        "players[].kind",
        &session["players"][player]["kind"],
        &"bot".into(),
    )?;
    holds(
        "software.browser names a family and a version",
        document["software"]["browser"]
            .as_str()
            .is_some_and(|browser| browser.starts_with("Chromium ")),
    )?;
    let by_function = first.run("return window.exportSessionMetrics()")?;
    same("what the function returns", &by_function, document)?;
    let all = first.run("return window.exportSessionMetrics({all: true})")?;
    same("{all: true}", &all, &Value::Array(vec![document.clone()]))?;
    first.run("document.getElementById('download').click()")?;
    let downloaded = download(setup.out)?;
    same(
        "what was downloaded",
        &downloaded["episodes"],
        &Value::Array(vec![document.clone()]),
    )?;
    holds(
        "there was a session document at every phase",
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

/// Participants play: keys on one page, a finger on the other. Both files say when by the devices'
/// own clocks; F3 shows the HUD.
pub(super) fn devices(setup: &Setup<'_>) -> Result<(), String> {
    let link = setup.link("", "devices", "&frames=480");
    let keyboard = setup.browser()?;
    keyboard.prepare(GAMEPAD)?;
    keyboard.open(&link)?;
    let glass = setup.open(&link)?;
    wait(&keyboard, PLAYING, START)?;
    wait(&glass, PLAYING, START)?;
    keyboard.press(Key::F3.into(), KEY)?;
    for key in ['d', 'w', 'a'] {
        keyboard.press(key, KEY)?;
        glass.touch((40, 300), KEY)?;
    }
    for pressed in ["true", "false"] {
        keyboard.run(&format!("window.pad.buttons[0].pressed = {pressed}"))?;
        thread::sleep(KEY);
    }
    keyboard.screenshot(&setup.out.join("keyboard-hud.png"))?;
    glass.screenshot(&setup.out.join("touch.png"))?;
    let documents = [
        setup.finish(&keyboard, "keyboard")?,
        setup.finish(&glass, "touch")?,
    ];
    agree(480, [&documents[0], &documents[1]])?;
    for (document, device, least) in [(&documents[0], "keyboard", 6), (&documents[1], "touch", 2)] {
        let changes = document["inputs"]["localChanges"].as_array();
        let by_device: Vec<&Value> = changes
            .into_iter()
            .flatten()
            .filter(|change| change["device"] == device)
            .collect();
        let delays: Vec<u64> = by_device
            .iter()
            .filter_map(|change| {
                let at = |name: &str| change[name].as_u64();
                at("sampledAtUs")?.checked_sub(at("deviceAtUs")?)
            })
            .collect();
        println!(
            "  {device}: {} changes, from device to sample {delays:?} us",
            by_device.len()
        );
        holds(
            &format!("at least {least} changes by {device}"),
            by_device.len() >= least,
        )?;
        same(
            "changes whose device says when, before they were sampled",
            &delays.len().into(),
            &by_device.len().into(),
        )?;
        let player = document["session"]["localPlayerId"].as_u64();
        let player = player.ok_or("the file has no local player")? as usize;
        same(
            "players[].kind",
            &document["session"]["players"][player]["kind"],
            &"human".into(),
        )?;
    }
    Ok(())
}

/// A native file on a page: watched as its peer saw it, and played back with every state hash
/// compared, in both views. What pages wrote is played back natively after all test cases.
pub(super) fn replay(setup: &Setup<'_>) -> Result<(), String> {
    let browser = setup.open(&format!("{}?replay={WATCHED}&asSeen", setup.page))?;
    browser.until("window.replayEpisode", START)?;
    for view in ["false", "true"] {
        let result = browser.run(&format!(
            "return fetch('{WATCHED}').then(file => file.text())\
             .then(text => window.replayEpisode(text, {{ asSeen: {view} }}))"
        ))?;
        println!("  {}: {} ms", result["message"], result["ms"]);
        same("proven", &result["proven"], &true.into())?;
        same("frames", &result["frames"], &600.into())?;
    }
    thread::sleep(Duration::from_secs(4));
    browser.screenshot(&setup.out.join("replay.png"))?;
    let error = browser.run("return window.seen.errors[0]?.message ?? null")?;
    holds(&format!("nothing went wrong: {error}"), error.is_null())
}

/// A slow line: a bar shows how much of the program has come.
pub(super) fn loading(setup: &Setup<'_>) -> Result<(), String> {
    let browser = setup.browser()?;
    browser.slow_down(SLOW_LINE)?;
    browser.open(&setup.link("", "loading", "&bot=1"))?;
    let share = "(p => p.value / p.max)(document.getElementById('progress'))";
    browser.until(&format!("{share} > 0.3"), START)?;
    let seen = browser.run(&format!("return {share}"))?;
    let text = browser.run("return document.getElementById('loaded').textContent")?;
    println!("  the bar is at {seen}, the page says {text}");
    browser.screenshot(&setup.out.join("loading.png"))?;
    holds(
        "the bar is under way",
        seen.as_f64()
            .is_some_and(|share| (0.3..1.0).contains(&share)),
    )?;
    browser.until("document.getElementById('loading').hidden", START)
}

/// A server that is not there: the page reports it.
pub(super) fn unreachable_server(setup: &Setup<'_>) -> Result<(), String> {
    let page = setup.page("nowhere", "&server=ws://127.0.0.1:1")?;
    page.until("!document.getElementById('error').hidden", START)?;
    let text = page.run("return document.getElementById('error').textContent")?;
    println!("  the page says: {text}");
    page.screenshot(&setup.out.join("unreachable.png"))?;
    holds(
        "the page names the server and what happened",
        text.as_str().is_some_and(|text| {
            text.contains("ws://127.0.0.1:1") && text.contains("cannot be reached")
        }),
    )?;
    let careless = setup.page("nowhere", "&token=secret")?;
    careless.until("!document.getElementById('error').hidden", START)?;
    let text = careless.run("return document.getElementById('error').textContent")?;
    println!("  the page says: {text}");
    holds(
        "a token in the query is refused, and not repeated",
        text.as_str()
            .is_some_and(|text| text.contains("behind the #") && !text.contains("secret")),
    )
}

/// A page around the page gets every document by `postMessage`.
pub(super) fn embedded(setup: &Setup<'_>) -> Result<(), String> {
    let outer = setup.driver.browser(setup.out)?;
    outer.open(&setup.link("embed.html", "embedded", "&bot=1&frames=300"))?;
    let other = setup.page("embedded", "&frames=300")?;
    let document = setup.finish(&other, "other")?;
    outer.until("window.documents.episodes.length > 0", MATCH)?;
    outer.run("document.getElementById('export').click()")?;
    outer.until("window.documents.exported", START)?;
    let documents = outer.run("return window.documents")?;
    setup.save("episode.embedded.json", &documents["episodes"][0])?;
    setup.save("session.embedded.json", &documents["session"])?;
    outer.screenshot(&setup.out.join("embed.png"))?;
    agree(300, [&documents["episodes"][0], &document])?;
    same(
        "what the iframe answers",
        &documents["exported"],
        &documents["episodes"][0],
    )
}
