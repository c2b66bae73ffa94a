//! What observers, metrics and recording cost a `bevy_ggrs` app: the same match bare and observed,
//! for a profiler (`run`) and by the clock, in turn within one match (`pair`).
//!
//! `cargo xtask bench` runs it and prints the table; alone it prints one JSON object per line.

#[path = "support/duel.rs"]
mod duel;

use std::process::ExitCode;
use std::time::Instant;

use duel::game::bare_schedules;
use duel::{Duel, Observers, Script};
use serde_json::json;

/// Frames of a match before its time counts.
const WARM_UP: i32 = 300;
/// Frames of one cycle of the script.
const CYCLE: i32 = 10;
/// Frames timed together: short beside what disturbs a desk.
const TIMED: i32 = 3 * CYCLE;

const USAGE: &str = "observer_cost [pair|run] [--observers none|memory|folder] [--entities N] \
                     [--frames N] [--blocks N] [--out DIR]";

struct Options {
    mode: String,
    observers: String,
    entities: Option<i32>,
    frames: i32,
    blocks: i32,
    out: String,
}

impl Options {
    fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            mode: "pair".into(),
            observers: "memory".into(),
            entities: None,
            frames: 600,
            blocks: 200,
            out: std::env::temp_dir()
                .join("rollback-lab-bench")
                .to_string_lossy()
                .into_owned(),
        };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} wants a value"));
            let number = |text: String| text.parse().map_err(|_| format!("{text} is no number"));
            match argument.as_str() {
                "pair" | "run" => options.mode = argument,
                "--observers" => options.observers = value()?,
                "--entities" => options.entities = Some(number(value()?)?),
                "--frames" => options.frames = number(value()?)?,
                "--blocks" => options.blocks = number(value()?)?,
                "--out" => options.out = value()?,
                // What cargo adds of its own accord.
                "--bench" => {}
                _ => return Err(format!("unknown option {argument}\n{USAGE}")),
            }
        }
        Ok(options)
    }

    fn observers(&self) -> Result<Observers, String> {
        match self.observers.as_str() {
            "none" => Ok(Observers::None),
            "memory" => Ok(Observers::InMemory),
            "folder" => Ok(Observers::Folder(self.out.clone().into())),
            other => Err(format!("{other} are no observers\n{USAGE}")),
        }
    }
}

fn main() -> ExitCode {
    match Options::parse(std::env::args().skip(1)).and_then(|options| measure(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<(), String> {
    let observers = options.observers()?;
    let sizes = options.entities.map_or(vec![1_000, 20], |one| vec![one]);
    for entities in sizes {
        if options.mode == "run" {
            run(entities, &observers, options.frames);
        } else {
            pair(entities, &observers, options.blocks)?;
        }
    }
    Ok(())
}

/// One match of so many frames; a profiler looks on.
fn run(entities: i32, observers: &Observers, frames: i32) {
    let mut duel = Duel::new(Script::steady(entities), observers, None);
    duel.steps(frames);
    println!(
        "{}",
        json!({
            "entities": entities,
            "frames": duel.frames(),
            "simulated": duel.simulated(),
            "checksum": format!("{:016x}", duel.checksum()),
        })
    );
}

/// One match whose schedules are exchanged in turn, with the observers' systems and without.
///
/// Two apps side by side differ by more than what is measured, by where they happen to lie in
/// memory; here the game, its snapshots and its inputs are the very same. What both blocks have is
/// not seen: Bevy's bookkeeping of the observers' message types.
fn pair(entities: i32, observers: &Observers, blocks: i32) -> Result<(), String> {
    let script = Script::steady(entities);
    let mut duel = Duel::new(script, observers, None);
    let mut outside = bare_schedules(script);
    let seen = *observers != Observers::None;
    if seen {
        // From now on episodes are delimited by hand.
        duel.observe(false);
    }
    duel.steps(WARM_UP);
    let (mut observed, mut without) = (Times::default(), Times::default());
    for _ in 0..blocks {
        if seen {
            duel.observe(true);
        }
        observed.time(&mut duel);
        if seen {
            duel.observe(false);
        }
        // The document of the episode is built here.
        duel.steps(CYCLE);
        duel.exchange(&mut outside);
        without.time(&mut duel);
        duel.exchange(&mut outside);
    }
    let mut bare = Duel::new(script, &Observers::None, None);
    bare.steps(duel.frames());
    same_work(&bare, &duel)?;
    let half = blocks as usize / 2;
    let added = |from, to| observed.us(from, to) - without.us(from, to);
    let (first, second) = (added(0, half), added(half, 2 * half));
    let bare_us = without.us(0, 2 * half);
    let added = added(0, 2 * half);
    println!(
        "{}",
        json!({
            "entities": entities,
            "observers": format!("{observers:?}"),
            "blocks": blocks,
            "framesPerBlock": TIMED,
            "bareUsPerFrame": bare_us,
            "addedUsPerFrame": added,
            "addedUsOfHalves": [first, second],
            "addedPercent": 100.0 * added / bare_us,
        })
    );
    Ok(())
}

/// The times of single updates, by their place in the script's cycle.
#[derive(Default)]
struct Times([Vec<f64>; CYCLE as usize]);

impl Times {
    /// Times the updates of a block, after a cycle that warms it up.
    fn time(&mut self, duel: &mut Duel) {
        duel.steps(CYCLE);
        for frame in 0..TIMED {
            duel.step_peer();
            let from = Instant::now();
            duel.step_app();
            let spent = from.elapsed();
            self.0[(frame % CYCLE) as usize].push(spent.as_secs_f64() * 1e6);
        }
    }

    /// Time per frame over a whole cycle in the blocks of a range. Each place tells its lower
    /// quartile: whatever else the machine does only ever makes an update slower.
    fn us(&self, from_block: usize, to_block: usize) -> f64 {
        let per_block = (TIMED / CYCLE) as usize;
        let places = self.0.iter().map(|times| {
            let mut times = times[from_block * per_block..to_block * per_block].to_vec();
            times.sort_by(f64::total_cmp);
            times.get(times.len() / 4).copied().unwrap_or(f64::NAN)
        });
        places.sum::<f64>() / f64::from(CYCLE)
    }
}

fn same_work(bare: &Duel, observed: &Duel) -> Result<(), String> {
    let work = |duel: &Duel| (duel.frames(), duel.simulated(), duel.checksum());
    if work(bare) == work(observed) {
        Ok(())
    } else {
        Err(format!(
            "the two did not do the same work: frames, simulated frames and checksum are {:?} bare \
             and {:?} observed",
            work(bare),
            work(observed)
        ))
    }
}
