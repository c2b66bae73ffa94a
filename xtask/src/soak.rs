//! The stage `soak` and `cargo xtask soak`: real matches on loopback with settings, conditions,
//! outages, pauses and server restarts drawn from a seed. Every match must be played to its end and
//! leave files in order; a seed that does not is printed with its draw.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::matches::{Arguments, Programs, Unknown};
use crate::process::{create_folder, empty_folder, target_folder};

mod draw;
mod play;
mod random;

use draw::Draw;
use play::{Outcome, play};

/// Matches of the stage: at most three minutes.
const IN_CI: u64 = 12;
/// The first seed of the stage; the first one whose matches have every kind of thing in them.
const CI_SEED: u64 = 24;
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
    let seed = arguments.value("--seed")?;
    let matches = arguments.value("--matches")?.unwrap_or(MATCHES);
    let at_once: usize = arguments.value("--jobs")?.unwrap_or(AT_ONCE).max(1);
    if let Some(unknown) = arguments.names()?.first() {
        return Err(format!("`soak` takes no names, not `{unknown}`"));
    }
    let plan = Plan {
        programs: Programs::find(programs.as_deref())?,
        seed: seed.unwrap_or_else(seed_of_the_clock),
        matches,
        at_once,
        out: folder()?,
    };
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
        let tally = Mutex::new(Tally::default());
        thread::scope(|scope| {
            for _ in 0..self.at_once {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= self.matches {
                            return;
                        }
                        let seed = self.seed.wrapping_add(number);
                        let outcome = self.one(seed);
                        let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                        tally.add(seed, &outcome);
                    }
                });
            }
        });
        let tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
        println!("unknown causes in all matches: {}", tally.unknown);
        match tally.wrong() {
            None => {
                println!("{} matches in order", self.matches);
                Ok(())
            }
            Some(why) => Err(why),
        }
    }

    /// Plays one match. Its files stay if something is wrong with them.
    fn one(&self, seed: u64) -> Outcome {
        let draw = Draw::new(seed);
        let folder = self.out.join(seed.to_string());
        let from = Instant::now();
        let played = empty_folder(&folder).and_then(|()| play(&draw, &self.programs, &folder));
        let took = from.elapsed().as_secs_f64();
        let mut outcome = played.unwrap_or_else(|why| Outcome {
            wrong: vec![why],
            ..Outcome::default()
        });
        let in_order = outcome.wrong.is_empty();
        if in_order && outcome.unknown.unknown == 0 {
            println!("seed {seed}: in order after {took:.1} s");
            let removed = fs::remove_dir_all(&folder);
            let why = |error| format!("{}: {error}", folder.display());
            outcome.wrong.extend(removed.map_err(why).err());
            return outcome;
        }
        let result = if in_order { "in order" } else { "FAILED" };
        println!("seed {seed}: {result} after {took:.1} s: {draw}");
        if outcome.unknown.unknown > 0 {
            println!("    unknown causes: {}", outcome.unknown);
        }
        for why in &outcome.wrong {
            println!("    -> {why}");
        }
        println!("    again: cargo xtask soak --matches 1 --seed {seed}");
        outcome
    }
}

/// The outcomes of all matches.
#[derive(Default)]
struct Tally {
    matches: usize,
    failed: Vec<u64>,
    unknown: Unknown,
}

impl Tally {
    fn add(&mut self, seed: u64, outcome: &Outcome) {
        self.matches += 1;
        if !outcome.wrong.is_empty() {
            self.failed.push(seed);
        }
        self.unknown.add(outcome.unknown);
    }

    /// Which seeds failed, and whether too many causes are unknown.
    fn wrong(mut self) -> Option<String> {
        self.failed.sort_unstable();
        let seeds = (!self.failed.is_empty()).then(|| {
            let seeds: Vec<String> = self.failed.iter().map(u64::to_string).collect();
            let (failed, seeds) = (seeds.len(), seeds.join(", "));
            format!("{failed} of {} matches failed: seeds {seeds}", self.matches)
        });
        let wrong: Vec<String> = seeds.into_iter().chain(self.unknown.exceeded()).collect();
        (!wrong.is_empty()).then(|| wrong.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::draw::{POLICIES, What};
    use super::*;

    /// Whether the stage's matches from this seed on have all numbers of players and policies, and
    /// servers that are killed and stopped.
    fn has_every_kind(seed: u64) -> bool {
        let draws: Vec<Draw> = (seed..seed + IN_CI).map(Draw::new).collect();
        let some = |of: &dyn Fn(&Draw) -> bool| draws.iter().any(of);
        let happens = |what: What| some(&|draw| draw.events.iter().any(|event| event.what == what));
        (2..=4).all(|players| some(&|draw| draw.players == players))
            && POLICIES
                .iter()
                .all(|policy| some(&|draw| draw.policy == *policy))
            && happens(What::KillServer)
            && happens(What::TerminateServer)
            && happens(What::Stop(0))
            && some(&|draw| draw.cut_direct_at.is_some())
            && some(&|draw| draw.episodes > 1)
    }

    #[test]
    fn the_stage_plays_every_kind() {
        assert_eq!((1..).find(|seed| has_every_kind(*seed)), Some(CI_SEED));
    }

    #[test]
    fn failed_seeds_are_named_in_order_and_unknown_causes_summed() {
        let outcome = |wrong: &[&str], unknown| Outcome {
            wrong: wrong.iter().map(ToString::to_string).collect(),
            unknown: Unknown { unknown, of: 60 },
        };
        let mut tally = Tally::default();
        tally.add(9, &outcome(&[], 1));
        tally.add(3, &outcome(&[], 0));
        assert!(tally.wrong().is_none());
        let mut tally = Tally::default();
        for (seed, why) in [(9, "a"), (3, "b")] {
            tally.add(seed, &outcome(&[why], 1));
        }
        let wrong = tally.wrong().unwrap();
        assert!(
            wrong.starts_with("2 of 2 matches failed: seeds 3, 9; more"),
            "{wrong}"
        );
    }
}
