//! Drives a browser through WebDriver: fantoccini with the few calls that the test cases need, for
//! code that waits. What a page shows is the test cases' business.
//!
//! WebDriver and not a library over the browser's own protocol, for two reasons: it needs nothing
//! but the browser's driver, and it hides a tab as a person does, by opening another one (the
//! libraries emulate focus, and their pages stay visible).

use std::cell::RefCell;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use fantoccini::actions::{
    InputSource, KeyAction, KeyActions, MOUSE_BUTTON_LEFT, PointerAction, TouchActions,
};
use fantoccini::error::CmdError;
use fantoccini::wd::{Capabilities, WebDriverCompatibleCommand, WindowHandle};
use fantoccini::{Client, ClientBuilder};
use http::Method;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use url::{ParseError, Url};

use crate::process::{program, shown, works};

/// Longest that one command may take; a page under a software renderer is slow to answer.
pub(super) const ANSWER: Duration = Duration::from_secs(120);
/// Options of every browser.
const ARGUMENTS: [&str; 8] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-quic",
    "--disable-component-update",
    "--use-gl=angle",
    "--use-angle=gl-egl",
    "--ignore-gpu-blocklist",
    "--window-size=1000,720",
];
/// How often a page is asked whether something holds.
const POLL: Duration = Duration::from_millis(100);

/// A page in a browser that runs scripts.
pub(super) trait Page {
    /// What a script returns.
    fn run(&self, script: &str) -> Result<Value, String>;

    /// Waits until an expression is true.
    fn until(&self, expression: &str, limit: Duration) -> Result<(), String> {
        let started = Instant::now();
        while self.run(&format!("return Boolean({expression})"))? != Value::Bool(true) {
            if started.elapsed() > limit {
                return Err(format!(
                    "`{expression}` did not come true within {} s",
                    limit.as_secs()
                ));
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }
}

/// The driver's process, and the browsers that it started; all of them end with this value.
pub(super) struct Driver {
    process: Child,
    runtime: Runtime,
    port: u16,
    browser: String,
    /// Process ids of the browsers.
    started: RefCell<Vec<u64>>,
}

impl Driver {
    /// Starts it on a port that the system chose.
    pub(super) fn start(driver: &str, browser: &str) -> Result<Self, String> {
        // One worker, so that the connection is served between two commands too.
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| format!("no runtime for the WebDriver client: {error}"))?;
        let mut command = program(driver);
        command.arg("--port=0");
        println!("$ {}", shown(&command));
        let process = command
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{driver} does not start: {error}"))?;
        let mut started = Self {
            process,
            runtime,
            port: 0,
            browser: browser.to_owned(),
            started: RefCell::default(),
        };
        let stdout = started.process.stdout.take().ok_or("it has no output")?;
        for line in BufReader::new(stdout).lines() {
            let line = line.map_err(|error| format!("{driver}: its output ended: {error}"))?;
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                started.port = port
                    .trim_end_matches('.')
                    .parse()
                    .map_err(|_| format!("{driver} names no port: {line}"))?;
                return Ok(started);
            }
        }
        Err(format!("{driver} ended before it listened"))
    }

    /// A browser of its own; its downloads go to `downloads`.
    pub(super) fn browser(&self, downloads: &Path) -> Result<Browser<'_>, String> {
        self.browser_with(downloads, &[])
    }

    /// As [`browser`](Self::browser), with more options.
    pub(super) fn browser_with(
        &self,
        downloads: &Path,
        options: &[&str],
    ) -> Result<Browser<'_>, String> {
        let arguments = [&ARGUMENTS[..], options].concat();
        let options = json!({
            "binary": self.browser,
            "args": arguments,
            "prefs": {
                "download.default_directory": downloads,
                "download.prompt_for_download": false,
            },
        });
        let capabilities: Capabilities = [
            ("browserName".into(), "chrome".into()),
            ("goog:chromeOptions".into(), options),
        ]
        .into_iter()
        .collect();
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(capabilities);
        let url = format!("http://127.0.0.1:{}", self.port);
        let client = self.wait_for(async { builder.connect(&url).await })?;
        let process = client
            .capabilities()
            .and_then(|capabilities| capabilities.get("goog:processID")?.as_u64());
        self.started.borrow_mut().extend(process);
        Ok(Browser {
            driver: self,
            client,
        })
    }

    /// Waits for the answer to a command.
    fn wait_for<T, E: std::fmt::Display>(
        &self,
        command: impl Future<Output = Result<T, E>>,
    ) -> Result<T, String> {
        self.runtime
            .block_on(async { tokio::time::timeout(ANSWER, command).await })
            .map_err(|_| format!("the browser did not answer in {} s", ANSWER.as_secs()))?
            .map_err(|error| first_line(&error.to_string()))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.process.kill();
        let _ = self.process.wait();
        // A driver that is killed leaves its browsers behind.
        for process in self.started.borrow().iter().filter(|id| is_browser(**id)) {
            works(program("kill").args(["-KILL", &process.to_string()]));
        }
    }
}

/// Whether a process of this id is a browser still; the system may have given the id away.
fn is_browser(process: u64) -> bool {
    fs::read_to_string(format!("/proc/{process}/comm")).is_ok_and(|name| name.starts_with("chrom"))
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// One browser; closed with this value.
pub(super) struct Browser<'a> {
    driver: &'a Driver,
    client: Client,
}

impl Browser<'_> {
    fn wait_for<T>(&self, command: impl Future<Output = Result<T, CmdError>>) -> Result<T, String> {
        self.driver.wait_for(command)
    }

    /// Runs a script before any of the page's own, in every page from now on.
    pub(super) fn prepare(&self, script: &str) -> Result<(), String> {
        let script = json!({ "source": script });
        self.cdp("Page.addScriptToEvaluateOnNewDocument", script)
    }

    /// Opens an address.
    pub(super) fn open(&self, url: &str) -> Result<(), String> {
        println!("  open {url}");
        self.wait_for(self.client.goto(url))
    }

    /// Saves a screenshot of the page.
    pub(super) fn screenshot(&self, file: &Path) -> Result<(), String> {
        let bytes = self.wait_for(self.client.screenshot())?;
        fs::write(file, bytes).map_err(|error| format!("{}: {error}", file.display()))
    }

    /// Holds a key down for a moment, as a person does.
    pub(super) fn press(&self, key: char, held: Duration) -> Result<(), String> {
        let keys = KeyActions::new("keyboard".into())
            .then(KeyAction::Down { value: key })
            .then(KeyAction::Pause { duration: held })
            .then(KeyAction::Up { value: key });
        self.wait_for(self.client.perform_actions(keys))
    }

    /// Holds a finger on the page for a moment, at a place of the view in CSS pixels.
    pub(super) fn touch(&self, at: (u32, u32), held: Duration) -> Result<(), String> {
        let finger = TouchActions::new("finger".into())
            .then(PointerAction::MoveTo {
                duration: Some(Duration::ZERO),
                x: at.0.into(),
                y: at.1.into(),
            })
            .then(PointerAction::Down {
                button: MOUSE_BUTTON_LEFT,
            })
            .then(PointerAction::Pause { duration: held })
            .then(PointerAction::Up {
                button: MOUSE_BUTTON_LEFT,
            });
        self.wait_for(self.client.perform_actions(finger))
    }

    /// Suspends everything on the page, or resumes it, as a browser does that saves power.
    pub(super) fn suspend(&self, suspended: bool) -> Result<(), String> {
        let state = if suspended { "frozen" } else { "active" };
        self.cdp("Page.setWebLifecycleState", json!({ "state": state }))
    }

    /// Makes everything that is downloaded from now on arrive no faster than this.
    pub(super) fn slow_down(&self, bytes_per_second: u32) -> Result<(), String> {
        self.cdp("Network.enable", json!({}))?;
        let line = json!({
            "offline": false, "latency": 20,
            "downloadThroughput": bytes_per_second, "uploadThroughput": bytes_per_second,
        });
        self.cdp("Network.emulateNetworkConditions", line)
    }

    /// A command of Chromium's own protocol, for what WebDriver has no word for.
    fn cdp(&self, command: &'static str, parameters: Value) -> Result<(), String> {
        let command = Cdp {
            command,
            parameters,
        };
        self.wait_for(self.client.issue_cmd(command)).map(drop)
    }

    /// The tab in front.
    pub(super) fn tab(&self) -> Result<WindowHandle, String> {
        self.wait_for(self.client.window())
    }

    /// Opens an empty tab in front of the present one, which is hidden by that.
    pub(super) fn new_tab(&self) -> Result<WindowHandle, String> {
        let tab = self.wait_for(self.client.new_window(true))?.handle;
        self.show(&tab)?;
        Ok(tab)
    }

    /// Brings a tab to the front.
    pub(super) fn show(&self, tab: &WindowHandle) -> Result<(), String> {
        self.wait_for(self.client.switch_to_window(tab.clone()))?;
        self.cdp("Page.bringToFront", json!({}))
    }
}

impl Page for Browser<'_> {
    fn run(&self, script: &str) -> Result<Value, String> {
        self.wait_for(self.client.execute(script, Vec::new()))
    }
}

impl Drop for Browser<'_> {
    fn drop(&mut self) {
        // A browser that is gone already needs no end.
        let _ = self.wait_for(self.client.clone().close());
    }
}

/// A command of Chromium's own protocol, as chromedriver takes them.
#[derive(Debug)]
struct Cdp {
    command: &'static str,
    parameters: Value,
}

impl WebDriverCompatibleCommand for Cdp {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        base.join(&format!(
            "session/{}/goog/cdp/execute",
            session.unwrap_or_default()
        ))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        let body = json!({ "cmd": self.command, "params": self.parameters });
        (Method::POST, Some(body.to_string()))
    }
}
