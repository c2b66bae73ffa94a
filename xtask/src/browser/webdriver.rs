//! Owns talking to a browser: the parts of the WebDriver protocol that the scenes need, over plain
//! HTTP. It knows nothing of the page.
//!
//! WebDriver and not a library over the browser's own protocol, for two reasons: it needs nothing
//! but the browser's driver, and it hides a tab as a person does, by opening another one (the
//! libraries emulate focus, and their pages are never hidden).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::process::{program, shown};

/// Longest that one command may take; a page under a software renderer is slow to answer.
const ANSWER: Duration = Duration::from_secs(120);
/// How often a page is asked whether something holds.
const POLL: Duration = Duration::from_millis(100);

/// The driver's process. The browsers that it started end with it.
pub struct Driver {
    process: Child,
    port: u16,
    browser: String,
}

impl Driver {
    /// Starts it on a port that the system chose.
    pub fn start(driver: &str, browser: &str) -> Result<Self, String> {
        let mut command = program(driver);
        command.arg("--port=0");
        println!("$ {}", shown(&command));
        let process = command
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{driver} does not start: {error}"))?;
        let mut started = Self {
            process,
            port: 0,
            browser: browser.to_owned(),
        };
        let stdout = started.process.stdout.take().ok_or("it has no output")?;
        for line in BufReader::new(stdout).lines() {
            let line = line.map_err(|error| format!("{driver} says nothing: {error}"))?;
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
    pub fn browser(&self, downloads: &Path) -> Result<Browser<'_>, String> {
        let options = json!({
            "binary": self.browser,
            "args": [
                "--headless=new", "--no-sandbox", "--disable-quic", "--disable-component-update",
                "--use-gl=angle", "--use-angle=gl-egl", "--ignore-gpu-blocklist",
                "--window-size=1000,720",
            ],
            "prefs": {
                "download.default_directory": downloads,
                "download.prompt_for_download": false,
            },
        });
        let capabilities = json!({ "alwaysMatch": {
            "browserName": "chrome", "goog:chromeOptions": options,
        }});
        let session = request(
            self.port,
            "POST",
            "/session",
            &json!({ "capabilities": capabilities }),
        )?;
        let id = session["sessionId"]
            .as_str()
            .ok_or("the driver opened no session")?;
        Ok(Browser {
            driver: self,
            path: format!("/session/{id}"),
        })
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One browser; closed with this value.
pub struct Browser<'a> {
    driver: &'a Driver,
    path: String,
}

impl Browser<'_> {
    fn post(&self, what: &str, body: &Value) -> Result<Value, String> {
        request(
            self.driver.port,
            "POST",
            &format!("{}{what}", self.path),
            body,
        )
    }

    fn get(&self, what: &str) -> Result<Value, String> {
        let path = format!("{}{what}", self.path);
        request(self.driver.port, "GET", &path, &Value::Null)
    }

    /// Runs a script before any of the page's own, in every page from now on.
    pub fn prepare(&self, script: &str) -> Result<(), String> {
        let script = json!({ "source": script });
        self.cdp("Page.addScriptToEvaluateOnNewDocument", &script)
    }

    /// Opens an address.
    pub fn open(&self, url: &str) -> Result<(), String> {
        println!("  open {url}");
        self.post("/url", &json!({ "url": url })).map(drop)
    }

    /// What a script returns.
    pub fn run(&self, script: &str) -> Result<Value, String> {
        self.post("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Waits until an expression is true.
    pub fn until(&self, expression: &str, limit: Duration) -> Result<(), String> {
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

    /// Saves a picture of the page.
    pub fn picture(&self, file: &Path) -> Result<(), String> {
        let picture = self.get("/screenshot")?;
        let bytes = base64(picture.as_str().ok_or("the driver took no picture")?)?;
        std::fs::write(file, bytes).map_err(|error| format!("{}: {error}", file.display()))
    }

    /// Holds a key down for a moment, as a person does.
    pub fn press(&self, key: &str, held: Duration) -> Result<(), String> {
        let wait = json!({ "type": "pause", "duration": held.as_millis() });
        let keys = json!({ "type": "key", "id": "keyboard", "actions": [
            { "type": "keyDown", "value": key }, wait, { "type": "keyUp", "value": key },
        ]});
        self.post("/actions", &json!({ "actions": [keys] }))
            .map(drop)
    }

    /// Holds a finger on the page for a moment, at a place of the view in CSS pixels.
    pub fn touch(&self, at: (u32, u32), held: Duration) -> Result<(), String> {
        let finger = json!({
            "type": "pointer", "id": "finger", "parameters": { "pointerType": "touch" },
            "actions": [
                { "type": "pointerMove", "duration": 0, "x": at.0, "y": at.1 },
                { "type": "pointerDown", "button": 0 },
                { "type": "pause", "duration": held.as_millis() },
                { "type": "pointerUp", "button": 0 },
            ],
        });
        self.post("/actions", &json!({ "actions": [finger] }))
            .map(drop)
    }

    /// Stops everything on the page, or lets it go on, as a browser does that saves power.
    pub fn freeze(&self, frozen: bool) -> Result<(), String> {
        let state = if frozen { "frozen" } else { "active" };
        self.cdp("Page.setWebLifecycleState", &json!({ "state": state }))
    }

    /// Makes everything that is downloaded from now on arrive no faster than this.
    pub fn slow_down(&self, bytes_per_second: u32) -> Result<(), String> {
        self.cdp("Network.enable", &json!({}))?;
        let line = json!({
            "offline": false, "latency": 20,
            "downloadThroughput": bytes_per_second, "uploadThroughput": bytes_per_second,
        });
        self.cdp("Network.emulateNetworkConditions", &line)
    }

    fn cdp(&self, command: &str, parameters: &Value) -> Result<(), String> {
        let body = json!({ "cmd": command, "params": parameters });
        self.post("/goog/cdp/execute", &body).map(drop)
    }

    /// The tab in front.
    pub fn tab(&self) -> Result<Value, String> {
        self.get("/window")
    }

    /// Opens an empty tab in front of the present one, which is hidden by that.
    pub fn new_tab(&self) -> Result<Value, String> {
        let tab = self.post("/window/new", &json!({ "type": "tab" }))?;
        let handle = tab["handle"].clone();
        self.show(&handle)?;
        Ok(handle)
    }

    /// Brings a tab to the front.
    pub fn show(&self, tab: &Value) -> Result<(), String> {
        self.post("/window", &json!({ "handle": tab }))?;
        self.cdp("Page.bringToFront", &json!({}))
    }
}

impl Drop for Browser<'_> {
    fn drop(&mut self) {
        // A browser that is gone already needs no end.
        let _ = request(self.driver.port, "DELETE", &self.path, &Value::Null);
    }
}

/// One command and the value of its answer.
fn request(port: u16, method: &str, path: &str, body: &Value) -> Result<Value, String> {
    let failed = |error: std::io::Error| format!("{method} {path}: {error}");
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(failed)?;
    stream.set_read_timeout(Some(ANSWER)).map_err(failed)?;
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .map_err(failed)?;
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).map_err(failed)?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut answer = vec![0; length];
    reader.read_exact(&mut answer).map_err(failed)?;
    let answer: Value = serde_json::from_slice(&answer)
        .map_err(|error| format!("{method} {path}: no JSON: {error}"))?;
    let value = &answer["value"];
    match value["error"].as_str() {
        Some(error) => Err(format!(
            "{method} {path}: {error}: {}",
            value["message"]
                .as_str()
                .and_then(|text| text.lines().next())
                .unwrap_or_default()
        )),
        None => Ok(value.clone()),
    }
}

/// Pictures come so (RFC 4648, section 4).
fn base64(text: &str) -> Result<Vec<u8>, String> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0_u32, 0);
    for byte in text.bytes().filter(|byte| *byte != b'=') {
        let place = ALPHABET.iter().position(|letter| *letter == byte);
        let six = u32::try_from(place.ok_or("a picture is no base64")?)
            .map_err(|error| error.to_string())?;
        bits = (bits << 6) | six;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_with_and_without_padding() {
        assert_eq!(base64("aGVsbG8=").unwrap(), b"hello");
        assert_eq!(base64("Zm9vYmE=").unwrap(), b"fooba");
        assert_eq!(base64("Zm9v").unwrap(), b"foo");
        assert!(base64("no picture").is_err());
    }
}
