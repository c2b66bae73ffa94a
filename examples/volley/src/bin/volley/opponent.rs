//! Bots as opponents of a native window: full peers, each a headless app on a thread of its own. They
//! share nothing with the window but the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bevy::prelude::*;
use bevy::state::app::StatesPlugin;
use bevy::time::TimeUpdateStrategy;

use crate::rounds::{self, Config, Outcome, SharedOutcome};
use crate::settings::Settings;
use volley::bot::BotPlugin;

/// Ticks that a late loop catches up on; after a longer stall it starts a new schedule.
const CATCH_UP: u32 = 8;
/// After the window is closed, a bot waits this long for its match to end by itself.
const EXIT_WAIT: Duration = Duration::from_secs(3);

/// The bots of this process.
pub(crate) struct Opponents {
    leave: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Outcome>>,
}

impl Opponents {
    /// Starts `count` bots in the room of `settings`.
    pub(crate) fn spawn(count: usize, settings: &Settings) -> Self {
        let leave = Arc::new(AtomicBool::new(false));
        let threads = (0..count)
            .map(|number| {
                let (leave, settings) = (leave.clone(), bot_settings(settings));
                thread::Builder::new()
                    .name(format!("bot {number}"))
                    .spawn(move || play(&settings, &leave))
                    .expect("the system has a thread for every bot")
            })
            .collect();
        Self { leave, threads }
    }

    /// Lets the bots leave and write their files, and waits for them.
    pub(crate) fn join(self) -> Vec<Outcome> {
        self.leave.store(true, Ordering::Relaxed);
        self.threads
            .into_iter()
            .map(|thread| {
                thread.join().unwrap_or_else(|_| Outcome {
                    failure: Some("the bot's thread panicked".to_owned()),
                    ..Outcome::default()
                })
            })
            .collect()
    }
}

/// The window's settings for a headless bot.
fn bot_settings(settings: &Settings) -> Settings {
    Settings {
        bot: true,
        quit: true,
        screenshot: None,
        ..settings.clone()
    }
}

fn play(settings: &Settings, leave: &AtomicBool) -> Outcome {
    // ggrs truncates its frame to whole nanoseconds: one more makes every update one frame.
    let tick = Duration::from_nanos(1_000_000_000 / u64::from(settings.fps) + 1);
    let mut app = App::new();
    app.add_plugins((MinimalPlugins, StatesPlugin))
        .insert_resource(TimeUpdateStrategy::ManualDuration(tick));
    rounds::plugin(&mut app, settings, Duration::ZERO);
    // The seed of each episode replaces this one before its first frame.
    app.add_plugins(BotPlugin::<Config>::new(0, settings.fps));
    app.finish();
    app.cleanup();

    let mut next = Instant::now();
    let mut leaving: Option<Instant> = None;
    while app.should_exit().is_none() {
        if leave.load(Ordering::Relaxed) {
            let since = leaving.get_or_insert_with(Instant::now);
            if since.elapsed() > EXIT_WAIT {
                app.world_mut().write_message(AppExit::Success);
            }
        }
        app.update();
        next += tick;
        let now = Instant::now();
        if now > next + tick * CATCH_UP {
            next = now;
        }
        thread::sleep(next.saturating_duration_since(now));
    }
    let outcome = app.world().resource::<SharedOutcome>();
    outcome.get()
}
