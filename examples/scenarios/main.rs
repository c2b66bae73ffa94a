//! The scenarios that must hold, in virtual time, as one table.
//!
//!     cargo run --release --example scenarios                 (all, about five minutes)
//!     cargo run --release --example scenarios -- --quick      (fewer seeds: what CI runs)
//!     cargo run --release --example scenarios -- --only hard-case --seeds 100
//!
//! Scenarios of the routes run two links over a model of a ggrs game; those about rollbacks run
//! whole apps with real ggrs sessions and read the episode files that these wrote. The exit status
//! is non-zero if anything that must hold does not.

use std::process::ExitCode;
use std::time::Instant;

mod causes;
mod options;
mod play;
mod routes;
mod table;

use options::Options;
use table::Row;

/// A scenario: its name, and the function that runs it.
type Scenario = (&'static str, fn(&Options) -> Vec<Row>);

const SCENARIOS: &[Scenario] = &[
    ("1-cut", routes::cuts),
    ("2-one-way", routes::one_way),
    ("3-spike", routes::spikes),
    ("4-healthy", routes::healthy),
    ("5-peer", routes::peers),
    ("6-heal", routes::heals),
    ("8-agree", routes::agreement),
    ("8-agree", play::agreement),
    ("9-ladder", play::ladder),
    ("hard-case", play::hard_case),
    ("always-both", play::always_both),
    ("causes", causes::causes),
];

fn main() -> ExitCode {
    let names: Vec<&str> = SCENARIOS.iter().map(|(name, _)| *name).collect();
    let options = match Options::parse(std::env::args().skip(1), &names) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    table::print_head();
    let mut broken = 0;
    let chosen = SCENARIOS.iter().filter(|(name, _)| options.runs(name));
    for (name, run) in chosen {
        let started = Instant::now();
        let rows = run(&options);
        for row in &rows {
            row.print(name);
            broken += usize::from(row.broken.is_some());
        }
        eprintln!("{name}: {:.1} s", started.elapsed().as_secs_f64());
    }
    if let Some(matrix) = causes::matrix() {
        println!("\n{matrix}");
    }
    if broken == 0 {
        println!("\nEverything that must hold does.");
        ExitCode::SUCCESS
    } else {
        println!("\n{broken} rows do not hold.");
        ExitCode::FAILURE
    }
}
