//! What observers, metrics and recording cost a `bevy_ggrs` app: the same match bare and observed,
//! for a profiler (`run`) and by the clock, in turn within one match (`pair`).
//!
//! `cargo xtask bench` runs it and prints the table; alone it prints one JSON object per line.

use std::process::ExitCode;
use std::time::Instant;

use rollback_lab_test_kit::duel::game::bare_schedules;
use rollback_lab_test_kit::duel::{Duel, Observers, Script};
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
    /// Times the updates of a block, after a cycle that warms it up. Each place in the script's cycle
    /// tells its fastest time: whatever else the machine does only ever makes an update slower.
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

    /// Block by block, so that a machine that slows down for a second takes part in neither side.
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
            "the two did not do the same work: frames, simulated frames and checksum are {:?} bare \
             and {:?} observed",
            work(bare),
            work(observed)
        ))
    }
}
