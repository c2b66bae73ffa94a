//! The test cases that are played in the browser, and what all of them ask of pages and files.
//! The invariants of a file are checked by `rollback-lab verify`.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::webdriver::{Browser, Driver, Page};

mod failures;
mod matches;
mod page;

/// Where and with what a test case is played.
pub(super) struct Setup<'a> {
    pub driver: &'a Driver,
    /// The page's address.
    pub page: &'a str,
    /// The page's files.
    pub page_folder: &'a Path,
    /// The program of the second browser.
    pub firefox: &'a str,
    /// A program that joins a room as a native peer.
    pub native: &'a Path,
    /// Folder for documents and screenshots.
    pub out: &'a Path,
}

pub(super) struct Case {
    pub name: &'static str,
    pub play: fn(&Setup<'_>) -> Result<(), String>,
}

pub(super) const CASES: &[Case] = &[
    Case {
        name: "loading",
        play: page::loading,
    },
    Case {
        name: "two-pages",
        play: page::two_pages,
    },
    Case {
        name: "round-trip",
        play: matches::round_trip,
    },
    Case {
        name: "page-and-native",
        play: matches::page_and_native,
    },
    Case {
        name: "direct-path-cut",
        play: matches::direct_path_cut,
    },
    Case {
        name: "data-channel-lost",
        play: matches::data_channel_lost,
    },
    Case {
        name: "server-lost",
        play: matches::server_lost,
    },
    Case {
        name: "reloaded-page",
        play: matches::reloaded_page,
    },
    Case {
        name: "hidden-tab",
        play: matches::hidden_tab,
    },
    Case {
        name: "frozen-tab",
        play: matches::suspended_tab,
    },
    Case {
        name: "two-tabs",
        play: matches::two_tabs,
    },
    Case {
        name: "devices",
        play: page::devices,
    },
    Case {
        name: "replay",
        play: page::replay,
    },
    Case {
        name: "unreachable-server",
        play: page::unreachable_server,
    },
    Case {
        name: "embedded",
        play: page::embedded,
    },
    Case {
        name: "failed-downloads",
        play: failures::downloads,
    },
    Case {
        name: "stalled-downloads",
        play: failures::stalled_downloads,
    },
    Case {
        name: "failed-starts",
        play: failures::starts,
    },
    Case {
        name: "no-webgl2",
        play: failures::no_webgl2,
    },
    Case {
        name: "firefox-without-webgl2",
        play: failures::firefox_without_webgl2,
    },
    Case {
        name: "panic",
        play: failures::panics,
    },
    Case {
        name: "graphics-lost",
        play: failures::graphics_lost,
    },
];

/// A match, connecting and a software renderer included.
const MATCH: Duration = Duration::from_secs(120);
/// From opening the page to the first frame.
const START: Duration = Duration::from_secs(60);
/// How long a tab is hidden.
const HIDDEN: Duration = Duration::from_secs(5);
/// How long a tab is suspended.
const SUSPENDED: Duration = Duration::from_secs(3);

/// A native file beside the page, for pages to watch.
pub(super) const WATCHED: &str = "match.json";

/// Runs before the page's scripts: it keeps the events that the page gets, and the failures that a
/// page in a frame forwards to it.
const WATCH: &str = "\
window.seen = { episodes: [], sessions: [], errors: [], forwarded: [] };
for (const [list, type] of Object.entries({
  episodes: 'rollbacklab:episode', sessions: 'rollbacklab:session', errors: 'rollbacklab:error' }))
  addEventListener(type, ({ detail }) => window.seen[list].push(detail));
addEventListener('message', ({ data }) => {
  if (data?.type === 'rollbacklab:error') window.seen.forwarded.push(data.detail);
});";

const PLAYING: &str = "window.exportSessionMetrics?.()?.frames.total > 60";
const ENDED: &str = "window.seen.episodes.length > 0";
const OVER: &str = "window.seen.sessions.at(-1)?.endReason";

impl<'a> Setup<'a> {
    /// A browser with the page open, a bot at its side.
    fn page(&self, room: &str, more: &str) -> Result<Browser<'a>, String> {
        self.open(&self.link("", room, &format!("&bot=1{more}")))
    }

    fn open(&self, link: &str) -> Result<Browser<'a>, String> {
        let browser = self.browser()?;
        browser.open(link)?;
        Ok(browser)
    }

    /// A browser that keeps the events of its pages.
    fn browser(&self) -> Result<Browser<'a>, String> {
        let browser = self.driver.browser(self.out)?;
        browser.prepare(WATCH)?;
        Ok(browser)
    }

    fn link(&self, file: &str, room: &str, more: &str) -> String {
        format!("{}{file}?room={room}&episodes=1{more}", self.page)
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

/// Like [`Page::until`], but a page that reports why there is no match ends the wait with its
/// message.
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

/// Two files of one episode hold the same history, to its end, and are marked as verified.
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

/// The direct path was the route from its opening to the end.
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
