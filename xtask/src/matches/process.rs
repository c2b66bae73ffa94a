//! A program beside this one: started with its output in a file, signalled, waited for, and ended
//! with the value that stands for it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::process::{program, shown};

/// How often a program's state and its output are polled.
const POLL: Duration = Duration::from_millis(20);

/// What is sent to a program with `kill`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Ends it without its knowledge.
    Kill,
    /// Asks it to end.
    Terminate,
    /// Suspends it.
    Stop,
    /// Lets it go on.
    Continue,
}

impl Signal {
    const fn name(self) -> &'static str {
        match self {
            Self::Kill => "KILL",
            Self::Terminate => "TERM",
            Self::Stop => "STOP",
            Self::Continue => "CONT",
        }
    }
}

/// A running program.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// The name of its log.
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts it with stdout and stderr in `log`, which is begun anew.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Result<Self, String> {
        let file = File::create(log).map_err(|error| format!("{}: {error}", log.display()))?;
        let copy = file.try_clone().map_err(|error| error.to_string())?;
        let child = command
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(copy)
            .spawn()
            .map_err(|error| format!("cannot start `{}`: {error}", shown(command)))?;
        let name = log.file_stem().unwrap_or_default();
        Ok(Self {
            child,
            name: name.to_string_lossy().into_owned(),
            log: log.to_owned(),
        })
    }

    /// Sends a signal; one that is over already gets none.
    pub(crate) fn signal(&mut self, signal: Signal) -> Result<(), String> {
        if self.ended()?.is_some() {
            return Ok(());
        }
        if signal == Signal::Kill {
            return self.child.kill().map_err(|error| error.to_string());
        }
        // The shell's own `kill` is on every machine.
        let script = format!("kill -{} {}", signal.name(), self.child.id());
        let status = program("sh").args(["-c", &script]).status();
        match status {
            Ok(status) if status.success() => Ok(()),
            _ => Err(format!("`{script}` failed")),
        }
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>, String> {
        self.child.try_wait().map_err(|error| error.to_string())
    }

    /// Waits for its end until `deadline`.
    pub(crate) fn wait_until(&mut self, deadline: Instant) -> Result<Option<ExitStatus>, String> {
        loop {
            let ended = self.ended()?;
            if ended.is_some() || Instant::now() > deadline {
                return Ok(ended);
            }
            thread::sleep(POLL);
        }
    }

    /// Waits until a line of its output holds `text`, and returns that line.
    pub(crate) fn line_with(&mut self, text: &str, limit: Duration) -> Result<String, String> {
        let deadline = Instant::now() + limit;
        loop {
            let ended = self.ended()?;
            let output = fs::read_to_string(&self.log).map_err(|error| error.to_string())?;
            if let Some(line) = output.lines().find(|line| line.contains(text)) {
                return Ok(line.to_owned());
            }
            if let Some(status) = ended {
                let why = output.lines().find(|line| !line.trim().is_empty());
                return Err(format!(
                    "{} ended with {status}: {}",
                    self.name,
                    why.unwrap_or("no output")
                ));
            }
            if Instant::now() > deadline {
                return Err(format!("{} printed no `{text}`", self.name));
            }
            thread::sleep(POLL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
