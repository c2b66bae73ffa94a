//! The writer thread: documents in, outcomes out.

use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Job, Outcome, Writer};

pub(super) struct Thread {
    jobs: Option<Sender<Job>>,
    /// Behind a lock only because a resource must be `Sync`; it is not contended.
    outcomes: Mutex<Receiver<Outcome>>,
    thread: Option<JoinHandle<()>>,
}

impl Thread {
    pub(super) fn start(mut writer: Writer) -> io::Result<Self> {
        let (jobs, todo) = mpsc::channel::<Job>();
        let (finished, outcomes) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("rollback-lab-record".to_owned())
            .spawn(move || {
                for job in todo {
                    // The receiver is gone once the sink is being dropped.
                    let _ = finished.send(writer.process(job));
                }
            })?;
        Ok(Self {
            jobs: Some(jobs),
            outcomes: Mutex::new(outcomes),
            thread: Some(thread),
        })
    }

    pub(super) fn send(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            jobs.send(job)
                .expect("the writer thread lives as long as its sink");
        }
    }

    pub(super) fn try_outcomes(&self) -> impl Iterator<Item = Outcome> {
        let outcomes = self.outcomes();
        std::iter::from_fn(move || outcomes.try_recv().ok())
    }

    pub(super) fn outcome_within(&self, limit: Duration) -> Option<Outcome> {
        self.outcomes().recv_timeout(limit).ok()
    }

    fn outcomes(&self) -> MutexGuard<'_, Receiver<Outcome>> {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        // Without senders the thread ends once every queued job is done.
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            bevy::log::error!("the record's writer thread panicked; its last files may be missing");
        }
    }
}
