//! The frame scheduler of a match on a real machine: one update per frame of the wall clock, and a
//! monitor of the times at which the machine did not run this process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bevy::app::{App, AppExit};
use bevy::time::TimeUpdateStrategy;
use bevy_rollback_lab::clock::LabClock;

/// Frames per second of every match.
pub(crate) const FPS: u32 = 60;
/// Prediction window of every match.
pub(crate) const WINDOW: u32 = 8;
/// Ticks that a late loop catches up on; after a longer stall it starts a new schedule.
const CATCH_UP: u32 = 8;
/// Longest duration of a match; after it the match has failed.
const MATCH_LIMIT: Duration = Duration::from_secs(30);
/// Time that the monitor sleeps between two looks at the clock.
const MONITOR_INTERVAL: Duration = Duration::from_millis(2);

/// A frame. ggrs truncates its frame to whole nanoseconds: one more makes every update one frame.
pub(crate) fn tick() -> Duration {
    Duration::from_nanos(1_000_000_000 / u64::from(FPS) + 1)
}

/// Updates the app once per frame until `over`, and exits it, so that an open stall is reported.
///
/// # Errors
/// The match did not end in time.
pub(crate) fn run(app: &mut App, over: impl FnMut(&App) -> bool) -> Result<(), String> {
    app.insert_resource(TimeUpdateStrategy::ManualDuration(tick()));
    app.finish();
    app.cleanup();
    let ended = until(app, over);
    app.world_mut().write_message(AppExit::Success);
    app.update();
    ended
}

fn until(app: &mut App, mut over: impl FnMut(&App) -> bool) -> Result<(), String> {
    let start = Instant::now();
    let mut next = start;
    while !over(app) {
        if start.elapsed() > MATCH_LIMIT {
            return Err(format!("the match did not end within {MATCH_LIMIT:?}"));
        }
        app.update();
        next += tick();
        let now = Instant::now();
        if now > next + tick() * CATCH_UP {
            next = now;
        }
        thread::sleep(next.saturating_duration_since(now));
    }
    Ok(())
}

/// Pauses in which the machine did not run a thread of this process that was ready to run.
pub(crate) struct PauseMonitor(Arc<Mutex<Vec<(Duration, Duration)>>>);

impl PauseMonitor {
    /// Monitors until it is dropped.
    pub(crate) fn start(clock: LabClock) -> Self {
        let pauses = Arc::new(Mutex::new(Vec::new()));
        let watched = Arc::downgrade(&pauses);
        thread::spawn(move || {
            let mut last = Instant::now();
            while let Some(pauses) = watched.upgrade() {
                let pause = last.elapsed().saturating_sub(MONITOR_INTERVAL);
                if pause > tick() {
                    locked(&pauses).push((clock.now(), pause));
                }
                drop(pauses);
                last = Instant::now();
                thread::sleep(MONITOR_INTERVAL);
            }
        });
        Self(pauses)
    }

    /// The pauses of more than a frame that ended after `since`.
    pub(crate) fn pauses(&self, since: Duration) -> Vec<Duration> {
        let pauses = locked(&self.0);
        let later = pauses.iter().filter(|(ended, _)| *ended >= since);
        later.map(|(_, pause)| *pause).collect()
    }
}

fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
