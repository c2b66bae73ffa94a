//! Cost of observers, metrics and recorder per frame of a `bevy_ggrs` app: the same match without
//! and with them, at 1,000 and at 20 rolled-back entities.
//!
//! Run: `cargo xtask bench` prints the table of BENCHMARKS.md, with instructions counted by
//! callgrind if valgrind is installed; alone,
//! `cargo bench --bench observer_cost -- [pair|run] [options]`.
//!
//! - `pair` (default) compares wall times within one match: its schedules are swapped every 30
//!   frames for those without the observers. Quote `addedUsPerFrame` with `addedUsOfHalves` beside
//!   it; if the two halves differ by more than the result, the machine was too busy. `--observers
//!   none` compares the bare match with itself, which shows the error of the procedure. Fails
//!   unless a bare match of the same length simulates the same frames to the same checksum.
//! - `run` plays one match for a profiler. Quote the difference between two lengths and between
//!   `--observers none` and `memory`: the start-up cancels out.
//!
//! Prints one line of JSON per number of entities.

use std::process::ExitCode;
use std::time::Instant;

use rollback_lab_test_kit::duel::game::bare_schedules;
use rollback_lab_test_kit::duel::{Duel, Observers, Workload};
use serde_json::json;

/// Frames of a match before timing begins.
const WARM_UP: i32 = 300;
/// Frames of one cycle of the workload.
const CYCLE: i32 = 10;
/// Frames of a timed block: half a second, short compared with disturbances by other processes.
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
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            let number = |text: String| text.parse().map_err(|_| format!("{text} is not a number"));
            match argument.as_str() {
                "pair" | "run" => options.mode = argument,
                "--observers" => options.observers = value()?,
                "--entities" => options.entities = Some(number(value()?)?),
                "--frames" => options.frames = number(value()?)?,
                "--blocks" => options.blocks = number(value()?)?,
                "--out" => options.out = value()?,
                // Added by cargo.
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
            other => Err(format!("unknown observers {other}\n{USAGE}")),
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

/// Plays one match of so many frames, for a profiler.
fn run(entities: i32, observers: &Observers, frames: i32) {
    let mut duel = Duel::new(Workload::steady(entities), observers, None);
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

/// Plays one match whose schedules alternate between those with and those without the observers.
///
/// Two apps side by side differ by their memory layout, and by more than the observers cost; here
/// the game, its snapshots and its inputs are the same. Not measured is what both blocks have:
/// Bevy's bookkeeping of the observers' message types.
fn pair(entities: i32, observers: &Observers, blocks: i32) -> Result<(), String> {
    let workload = Workload::steady(entities);
    let mut duel = Duel::new(workload, observers, None);
    let mut other = bare_schedules(workload);
    let seen = *observers != Observers::None;
    if seen {
        // From now on this function begins and ends the episodes.
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
        // The document of the episode is built in these frames, which are not timed.
        duel.steps(CYCLE);
        duel.swap_schedules(&mut other);
        without.time(&mut duel);
        duel.swap_schedules(&mut other);
    }
    let mut bare = Duel::new(workload, &Observers::None, None);
    bare.steps(duel.frames());
    same_work(&bare, &duel)?;
    let differences = observed.minus(&without);
    let half = differences.len() / 2;
    let (first, second) = (median(&differences[..half]), median(&differences[half..]));
    let bare_us = median(&without.0);
    let added = median(&differences);
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

/// Time per frame of every block.
#[derive(Default)]
struct Times(Vec<f64>);

impl Times {
    /// Times the updates of a block, after a cycle that warms it up. For each position in the cycle
    /// the fastest update counts, since disturbances only make an update slower.
    fn time(&mut self, duel: &mut Duel) {
        duel.steps(CYCLE);
        let mut places = [f64::INFINITY; CYCLE as usize];
        for frame in 0..TIMED {
            duel.step_peer();
            let from = Instant::now();
            duel.step_app();
            let spent = from.elapsed();
            let place = &mut places[(frame % CYCLE) as usize];
            *place = place.min(spent.as_secs_f64() * 1e6);
        }
        self.0.push(places.iter().sum::<f64>() / f64::from(CYCLE));
    }

    /// The differences block by block, so that a machine that slows down for a second slows both
    /// sides.
    fn minus(&self, other: &Self) -> Vec<f64> {
        self.0.iter().zip(&other.0).map(|(a, b)| a - b).collect()
    }
}

fn median(of: &[f64]) -> f64 {
    let mut sorted = of.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn same_work(bare: &Duel, observed: &Duel) -> Result<(), String> {
    let work = |duel: &Duel| (duel.frames(), duel.simulated(), duel.checksum());
    if work(bare) == work(observed) {
        Ok(())
    } else {
        Err(format!(
            "the two matches differ: frames, simulated frames and checksum are {:?} bare \
             and {:?} observed",
            work(bare),
            work(observed)
        ))
    }
}
