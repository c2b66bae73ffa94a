//! Firefox, driven through the bidirectional WebDriver, which it serves by itself: five commands over a
//! websocket. The program for the older one, geckodriver, is in no Debian package and builds for
//! minutes; the crates for the newer one bring it, or a whole async stack.

use std::cell::{Cell, RefCell};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use super::webdriver::{ANSWER, Page};
use crate::process::{empty_folder, program, shown, target_folder};

/// From its start until it listens.
const START: Duration = Duration::from_secs(60);
/// What Firefox writes once it can be driven.
const LISTENING: &str = "WebDriver BiDi listening on ws://";
/// Neither telemetry nor pages of its own at the first start.
const PREFERENCES: [(&str, &str); 3] = [
    ("datareporting.policy.dataSubmissionEnabled", "false"),
    ("browser.aboutwelcome.enabled", "false"),
    ("app.update.enabled", "false"),
];

/// A headless browser with one tab; ended with this value.
pub(super) struct Firefox {
    process: Child,
    socket: RefCell<WebSocket<TcpStream>>,
    /// Number of the last command.
    last: Cell<u64>,
    tab: String,
}

impl Firefox {
    /// Starts it with a new profile and these preferences.
    pub(super) fn start(browser: &str, preferences: &[(&str, &str)]) -> Result<Self, String> {
        // Not among the documents of the test cases: a profile has files of such names.
        let profile = target_folder()?.join("xtask/firefox-profile");
        empty_folder(&profile)?;
        let lines: String = PREFERENCES
            .iter()
            .chain(preferences)
            .map(|(name, value)| format!("user_pref(\"{name}\", {value});\n"))
            .collect();
        let file = profile.join("user.js");
        fs::write(&file, lines).map_err(|error| format!("{}: {error}", file.display()))?;
        let mut command = program(browser);
        command
            .args(["--headless", "--no-remote", "--remote-debugging-port=0"])
            .arg("--profile")
            .arg(&profile)
            // It keeps caches and crash reports in the home folder.
            .env("HOME", &profile)
            .env("MOZ_CRASHREPORTER_DISABLE", "1")
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        println!("$ {}", shown(&command));
        let mut process = command
            .spawn()
            .map_err(|error| format!("{browser} does not start: {error}"))?;
        let connected = listening(&mut process)
            .and_then(|address| connect(&address))
            .inspect_err(|_| end(&mut process))?;
        let mut firefox = Self {
            process,
            socket: RefCell::new(connected),
            last: Cell::new(0),
            tab: String::new(),
        };
        firefox.command("session.new", &json!({ "capabilities": {} }))?;
        let tabs = firefox.command("browsingContext.getTree", &json!({}))?;
        firefox.tab = tabs["contexts"][0]["context"]
            .as_str()
            .ok_or("Firefox has no tab")?
            .to_owned();
        Ok(firefox)
    }

    /// Runs a script before any of the page's own, in every page from now on.
    pub(super) fn prepare(&self, script: &str) -> Result<(), String> {
        let function = json!({ "functionDeclaration": format!("() => {{ {script} }}") });
        self.command("script.addPreloadScript", &function).map(drop)
    }

    /// Opens an address.
    pub(super) fn open(&self, url: &str) -> Result<(), String> {
        println!("  open {url}");
        let target = json!({ "context": self.tab, "url": url, "wait": "complete" });
        self.command("browsingContext.navigate", &target).map(drop)
    }

    fn command(&self, method: &str, parameters: &Value) -> Result<Value, String> {
        let failed = |error: tungstenite::Error| format!("Firefox: {method}: {error}");
        let id = self.last.get() + 1;
        self.last.set(id);
        let command = json!({ "id": id, "method": method, "params": parameters });
        let mut socket = self.socket.borrow_mut();
        socket
            .send(Message::text(command.to_string()))
            .map_err(failed)?;
        loop {
            let message = socket.read().map_err(failed)?;
            let Message::Text(text) = message else {
                continue;
            };
            let mut answer: Value = serde_json::from_str(&text)
                .map_err(|error| format!("Firefox: {method}: the answer is no JSON: {error}"))?;
            // Events have no id.
            if answer["id"] != id {
                continue;
            }
            return match answer["type"].as_str() {
                Some("success") => Ok(answer["result"].take()),
                _ => Err(format!("Firefox: {method}: {}", answer["message"])),
            };
        }
    }
}

impl Page for Firefox {
    fn run(&self, script: &str) -> Result<Value, String> {
        let expression = format!("JSON.stringify((() => {{ {script} }})() ?? null)");
        let evaluated = self.command(
            "script.evaluate",
            &json!({
                "expression": expression, "awaitPromise": false, "target": { "context": self.tab },
            }),
        )?;
        let Some(text) = evaluated["result"]["value"].as_str() else {
            let text = &evaluated["exceptionDetails"]["text"];
            return Err(format!("Firefox: `{script}` ends with {text}"));
        };
        serde_json::from_str(text).map_err(|error| format!("Firefox: {text} is no JSON: {error}"))
    }
}

impl Drop for Firefox {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

/// Its other processes end when they lose it.
fn end(process: &mut Child) {
    // It may have ended by itself; then there is nothing to end.
    let _ = process.kill();
    let _ = process.wait();
}

/// Host and port that Firefox reports. Its output is read to the end: a full pipe would stop it.
fn listening(process: &mut Child) -> Result<String, String> {
    let stderr = process.stderr.take().ok_or("Firefox has no output")?;
    let (report, reported) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if let Some((_, address)) = line.split_once(LISTENING) {
                // The receiver is gone when it took too long.
                let _ = report.send(address.trim().to_owned());
            }
        }
    });
    reported
        .recv_timeout(START)
        .map_err(|_| format!("Firefox did not listen within {} s", START.as_secs()))
}

fn connect(address: &str) -> Result<WebSocket<TcpStream>, String> {
    let stream = TcpStream::connect(address)
        .and_then(|stream| {
            stream.set_read_timeout(Some(ANSWER))?;
            Ok(stream)
        })
        .map_err(|error| format!("Firefox at {address}: {error}"))?;
    let (socket, _) = tungstenite::client(format!("ws://{address}/session"), stream)
        .map_err(|error| format!("Firefox at {address}: {error}"))?;
    Ok(socket)
}
