//! Downloads and installations that later stages need, done beside the stages that compile. A
//! stage does not rely on it: it prepares itself again, and finds everything in place.

use std::thread::{self, JoinHandle};
use std::time::Instant;

use crate::process::{logged, target_folder};

/// One stage's name, and what prepares it.
type Step = (&'static str, fn() -> Result<(), String>);

/// A thread that works through the steps, one after the other.
pub(crate) struct Setup {
    thread: Option<JoinHandle<()>>,
}

impl Setup {
    /// Begins with the first step. A single stage prepares itself.
    pub(crate) fn begin(steps: Vec<Step>) -> Result<Self, String> {
        if steps.len() < 2 {
            return Ok(Self { thread: None });
        }
        let logs = target_folder()?.join("xtask/setup");
        let work = move || {
            for (stage, step) in steps {
                let log = logs.join(format!("{stage}.log"));
                let from = Instant::now();
                let outcome = match logged(&log, step) {
                    Ok(()) => "done".into(),
                    Err(error) => format!("failed ({error}), see {}", log.display()),
                };
                let took = from.elapsed().as_secs_f64();
                println!("-- set-up of {stage}: {outcome} in {took:.1} s");
            }
        };
        Ok(Self {
            thread: Some(thread::spawn(work)),
        })
    }

    /// Waits until nothing is left to do.
    pub(crate) fn finish(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic in it costs what was to be prepared; the stage prepares itself again.
            let _ = thread.join();
        }
    }
}
