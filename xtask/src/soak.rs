//! The stage `soak` and `cargo xtask soak`: real matches on loopback with settings, conditions,
//! outages, pauses and server restarts drawn from a seed. Every match must be played to its end and
//! leave files in order; a seed that does not is printed with its draw.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::matches::{Arguments, Programs};
use crate::process::{create_folder, target_folder};

mod draw;
mod play;
mod random;

use draw::Draw;

/// Matches of the stage: at most three minutes.
const IN_CI: u64 = 12;
/// The first seed of the stage.
const CI_SEED: u64 = 1;
/// Matches of the command.
const MATCHES: u64 = 200;
/// Matches at the same time: one takes up to a third of a core.
const AT_ONCE: usize = 4;

/// What is played.
struct Plan {
    programs: Programs,
    seed: u64,
    matches: u64,
    at_once: usize,
    out: PathBuf,
}

/// The stage.
pub(crate) fn check() -> Result<(), String> {
    Plan {
        programs: Programs::find(None)?,
        seed: CI_SEED,
        matches: IN_CI,
        at_once: AT_ONCE,
        out: folder()?,
    }
    .play()
}

/// `cargo xtask soak [--matches N] [--seed N] [--jobs N] [--programs DIR]`.
pub(crate) fn command(arguments: &[String]) -> Result<(), String> {
    let mut arguments = Arguments::new(arguments);
    let programs = arguments.folder("--programs")?;
    let plan = Plan {
        seed: arguments.value("--seed")?.unwrap_or_else(seed_of_the_clock),
        matches: arguments.value("--matches")?.unwrap_or(MATCHES),
        at_once: arguments.value("--jobs")?.unwrap_or(AT_ONCE).max(1),
        programs: Programs::find(programs.as_deref())?,
        out: folder()?,
    };
    if let Some(unknown) = arguments.names()?.first() {
        return Err(format!("`soak` takes no names, not `{unknown}`"));
    }
    plan.play()
}

fn folder() -> Result<PathBuf, String> {
    Ok(target_folder()?.join("xtask/soak"))
}

/// Small enough to be typed.
fn seed_of_the_clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(CI_SEED, |since| since.as_secs() % 10_000_000 * 100)
}

impl Plan {
    /// Plays all matches, some of them beside each other.
    fn play(&self) -> Result<(), String> {
        create_folder(&self.out)?;
        println!("{} matches from seed {} on", self.matches, self.seed);
        let next = AtomicU64::new(0);
        let failed = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for _ in 0..self.at_once {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= self.matches {
                            return;
                        }
                        let seed = self.seed.wrapping_add(number);
                        if let Err(why) = self.one(seed) {
                            println!("{why}");
                            let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                            failed.push(seed);
                        }
                    }
                });
            }
        });
        let mut failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
        failed.sort_unstable();
        if failed.is_empty() {
            println!("{} matches in order", self.matches);
            return Ok(());
        }
        let seeds: Vec<String> = failed.iter().map(u64::to_string).collect();
        Err(format!(
            "{} of {} matches failed: seeds {}",
            failed.len(),
            self.matches,
            seeds.join(", ")
        ))
    }

    /// Plays one match. Its files stay if something is wrong with them.
    fn one(&self, seed: u64) -> Result<(), String> {
        let draw = Draw::new(seed);
        let folder = self.out.join(seed.to_string());
        let remove = || match fs::remove_dir_all(&folder) {
            Err(error) if folder.exists() => Err(format!("{}: {error}", folder.display())),
            _ => Ok(()),
        };
        remove()?;
        let from = Instant::now();
        let wrong = play::play(&draw, &self.programs, &folder).unwrap_or_else(|why| vec![why]);
        if wrong.is_empty() {
            println!(
                "seed {seed}: in order after {:.1} s",
                from.elapsed().as_secs_f64()
            );
            return remove();
        }
        Err(format!(
            "seed {seed} FAILED: {draw}\n    -> {}\n    again: cargo xtask soak --matches 1 --seed {seed}",
            wrong.join("\n    -> ")
        ))
    }
}
