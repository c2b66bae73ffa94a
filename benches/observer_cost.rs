//! What observers, metrics and recording cost a `bevy_ggrs` app: the same match bare and observed,
//! for a profiler (`run`) and by the clock, both in one process (`pair`).
//!
//! `cargo xtask bench` runs it and prints the table; alone it prints one JSON object per line.

#[path = "support/duel.rs"]
mod duel;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use duel::{Duel, Observers, Script};
use serde_json::json;

/// Frames before anything counts: the columns have grown, the caches are warm.
const WARM_UP: i32 = 300;
/// Frames per block: whole cycles of the script, short beside what disturbs a desk.
const BLOCK: i32 = 50;

const USAGE: &str = "observer_cost [pair|run] [--observers none|memory|folder] [--entities N] \
                     [--frames N] [--out DIR]";

struct Options {
    mode: String,
    observers: String,
    entities: Option<i32>,
    frames: i32,
    out: String,
}

impl Options {
    fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            mode: "pair".into(),
            observers: "memory".into(),
            entities: None,
            frames: 3_000,
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
            pair(entities, &observers, options.frames)?;
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

/// Both matches, block by block in turn: whatever the machine does besides meets both alike.
fn pair(entities: i32, observers: &Observers, frames: i32) -> Result<(), String> {
    let script = Script::steady(entities);
    let mut bare = Duel::new(script, &Observers::None, None);
    let mut observed = Duel::new(script, observers, None);
    bare.steps(WARM_UP);
    observed.steps(WARM_UP);
    let blocks = frames / BLOCK;
    let (mut without, mut added) = (Vec::new(), Vec::new());
    for block in 0..blocks {
        // Who comes first has the colder caches: they take turns.
        let (bare_us, observed_us) = if block % 2 == 0 {
            let bare_us = block_us(&mut bare);
            (bare_us, block_us(&mut observed))
        } else {
            let observed_us = block_us(&mut observed);
            (block_us(&mut bare), observed_us)
        };
        without.push(bare_us);
        added.push(observed_us - bare_us);
    }
    same_work(&bare, &observed)?;
    let (without, added) = (median(without), median(added));
    println!(
        "{}",
        json!({
            "entities": entities,
            "frames": blocks * BLOCK,
            "simulated": bare.simulated(),
            "bareUsPerFrame": without,
            "addedUsPerFrame": added,
            "addedPercent": 100.0 * added / without,
        })
    );
    Ok(())
}

/// A block's time in the app's updates alone, per frame.
fn block_us(duel: &mut Duel) -> f64 {
    let mut spent = Duration::ZERO;
    for _ in 0..BLOCK {
        duel.step_peer();
        let from = Instant::now();
        duel.step_app();
        spent += from.elapsed();
    }
    spent.as_secs_f64() * 1e6 / f64::from(BLOCK)
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

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
