//! Owns the pace of a match on a real machine: one update per frame at the wall clock's pace, and how long the
//! machine kept this process from running. Never knows what is played.

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
/// Ticks a late loop makes up for; after a longer hitch it starts its rhythm anew.
const CATCH_UP: u32 = 8;
/// A match that takes this long has failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the machine's pulse is felt.
const BEAT: Duration = Duration::from_millis(2);

/// A frame. ggrs cuts it off to whole nanoseconds: one more makes every update one frame.
pub(crate) fn tick() -> Duration {
    Duration::from_nanos(1_000_000_000 / u64::from(FPS) + 1)
}

/// Updates the app once per frame until it is over, and closes it: a stall that lasts is told then.
///
/// # Errors
/// It was not over in time.
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
        if start.elapsed() > PATIENCE {
            return Err(format!("the match did not end within {PATIENCE:?}"));
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

/// When the machine did not run a thread of this process that wanted to, and for how long.
pub(crate) struct Pulse(Arc<Mutex<Vec<(Duration, Duration)>>>);

impl Pulse {
    /// Feels the pulse until this is dropped.
    pub(crate) fn start(clock: LabClock) -> Self {
        let pauses = Arc::new(Mutex::new(Vec::new()));
        let watched = Arc::downgrade(&pauses);
        thread::spawn(move || {
            let mut last = Instant::now();
            while let Some(pauses) = watched.upgrade() {
                let pause = last.elapsed().saturating_sub(BEAT);
                if pause > tick() {
                    locked(&pauses).push((clock.now(), pause));
                }
                drop(pauses);
                last = Instant::now();
                thread::sleep(BEAT);
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
