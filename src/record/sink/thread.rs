//! Owns the writer thread: documents in, their fates out. Never touches a frame's time.

use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Job, Outcome, Writer};

pub(super) struct Thread {
    jobs: Option<Sender<Job>>,
    /// Behind a lock only because a resource must be shareable; nobody ever waits for it.
    outcomes: Mutex<Receiver<Outcome>>,
    thread: Option<JoinHandle<()>>,
}

impl Thread {
    pub(super) fn start(mut writer: Writer) -> io::Result<Self> {
        let (jobs, todo) = mpsc::channel::<Job>();
        let (tell, outcomes) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("rollback-lab-record".to_owned())
            .spawn(move || {
                for job in todo {
                    // Nobody listens any more once the sink is being dropped.
                    let _ = tell.send(writer.process(job));
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
        // Without senders the thread ends once everything handed over is done.
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            bevy::log::error!("the writer thread of the records panicked");
        }
    }
}
