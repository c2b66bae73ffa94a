//! `cargo xtask test`: the stages, their order, their times and the closing table. A stage that
//! could not run does not count as passed.

use std::thread;
use std::time::{Duration, Instant};

use crate::process::{cargo, program, run, works};
use crate::setup::Setup;
use crate::{
    browser, demo, deny, examples, graph, loading, native, network, package, rules, soak, types,
    wasm, window,
};

/// How a stage ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    Passed,
    Failed(String),
    /// It could not run here, and why.
    NotRun(String),
}

impl From<Result<(), String>> for Outcome {
    fn from(result: Result<(), String>) -> Self {
        result.map_or_else(Self::Failed, |()| Self::Passed)
    }
}

/// One row of the table.
pub(crate) struct Stage {
    pub name: &'static str,
    pub about: &'static str,
    run: fn() -> Outcome,
    /// What it downloads and installs, done beside the stages before it; see [`Setup`].
    setup: Option<fn() -> Result<(), String>>,
    /// Whether it plays matches in real time, which other work on this machine would disturb.
    real_time: bool,
}

impl Stage {
    const fn new(name: &'static str, about: &'static str, run: fn() -> Outcome) -> Self {
        Self {
            name,
            about,
            run,
            setup: None,
            real_time: false,
        }
    }

    const fn needs(mut self, setup: fn() -> Result<(), String>) -> Self {
        self.setup = Some(setup);
        self
    }

    const fn in_real_time(mut self) -> Self {
        self.real_time = true;
        self
    }
}

/// Cheap stages first. Then those that compile: `clippy` is the only check build of the workspace,
/// in the profile of the programs, so that build scripts and procedural macros are compiled once;
/// `doc` uses its artifacts; `build` makes every program that the later stages run. Those that
/// play matches come last, with the machine to themselves.
pub(crate) const STAGES: &[Stage] = &[
    Stage::new(
        "rules",
        "rules of the text: file heads, machine paths, counts that may not grow, ...",
        || rules::check().into(),
    ),
    Stage::new("fmt", "rustfmt changes nothing", fmt),
    Stage::new(
        "graph",
        "the layers, how many crates a build brings, and which it must not bring",
        || graph::check().into(),
    ),
    Stage::new(
        "deny",
        "licences, banned crates and sources of every dependency",
        || deny::check().into(),
    ),
    Stage::new(
        "package",
        "every published crate packs, with README, licences and sources",
        || package::check().into(),
    ),
    Stage::new(
        "types",
        "the committed TypeScript declarations are those of the schemas",
        types::check,
    )
    .needs(types::prepare),
    Stage::new(
        "clippy",
        "every target of the workspace, warnings denied",
        clippy,
    ),
    Stage::new(
        "doc",
        "rustdoc of libraries and examples, warnings denied",
        doc,
    ),
    Stage::new(
        "features",
        "each published library without default features, warnings denied",
        features,
    ),
    Stage::new(
        "wasm",
        "the library for wasm32, with and without default features",
        wasm::check,
    ),
    Stage::new(
        "build",
        "every program and test of the workspace, and the page beside them",
        build,
    )
    .needs(demo::prepare),
    Stage::new("test", "unit, integration and doc tests", test_all).in_real_time(),
    Stage::new(
        "examples",
        "every example runs, and the files it writes are read",
        || examples::check().into(),
    )
    .in_real_time(),
    Stage::new(
        "network",
        "matches of real processes in network namespaces, while paths and servers go and come back",
        network::check,
    )
    .needs(network::prepare)
    .in_real_time(),
    Stage::new(
        "soak",
        "matches with conditions, outages and pauses drawn from a seed",
        || soak::check().into(),
    )
    .in_real_time(),
    Stage::new(
        "loading",
        "pandas and DuckDB read tables and files of matches; examples/analysis is run",
        loading::check,
    )
    .needs(loading::prepare)
    .in_real_time(),
    Stage::new(
        "window",
        "the demo in a window on a virtual display with a software renderer",
        window::check,
    )
    .needs(window::prepare)
    .in_real_time(),
    Stage::new(
        "browser",
        "the demo in headless Chromium: two pages, a native peer, a lost path, hidden tabs",
        browser::check,
    )
    .needs(browser::prepare)
    .in_real_time(),
];

/// Letters of a reason in the table; the whole is printed where the stage ends.
const NOTE: usize = 100;

struct Row {
    stage: &'static Stage,
    outcome: Outcome,
    took: Duration,
}

/// Runs the stages asked for; an error if one failed or could not run.
pub(crate) fn test(arguments: &[String]) -> Result<(), String> {
    let chosen = choose(arguments)?;
    let started = Instant::now();
    let setups = chosen
        .iter()
        .filter_map(|stage| Some((stage.name, stage.setup?)));
    let mut setup = Setup::begin(setups.collect())?;
    let mut rows = Vec::new();
    for stage in chosen {
        if stage.real_time {
            setup.finish();
        }
        println!("\n== {}: {}", stage.name, stage.about);
        let from = Instant::now();
        let outcome = (stage.run)();
        let took = from.elapsed();
        println!(
            "== {}: {} in {:.1} s",
            stage.name,
            word(&outcome),
            took.as_secs_f64()
        );
        if let Outcome::Failed(why) | Outcome::NotRun(why) = &outcome {
            println!("{why}");
        }
        rows.push(Row {
            stage,
            outcome,
            took,
        });
    }
    setup.finish();
    print_table(&rows, started.elapsed());
    verdict(&rows)
}

fn choose(arguments: &[String]) -> Result<Vec<&'static Stage>, String> {
    let mut names = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let name = match argument.strip_prefix("--only") {
            Some("") => rest.next().ok_or("--only wants the name of a stage")?,
            Some(joined) if joined.starts_with('=') => &joined[1..],
            _ => {
                return Err(format!(
                    "unknown option `{argument}`; `test` knows --only STAGE"
                ));
            }
        };
        if !STAGES.iter().any(|stage| stage.name == name) {
            let known: Vec<&str> = STAGES.iter().map(|stage| stage.name).collect();
            return Err(format!(
                "unknown stage `{name}`; the stages are: {}",
                known.join(", ")
            ));
        }
        names.push(name);
    }
    Ok(STAGES
        .iter()
        .filter(|stage| names.is_empty() || names.contains(&stage.name))
        .collect())
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "passed",
        Outcome::Failed(_) => "FAILED",
        Outcome::NotRun(_) => "NOT RUN",
    }
}

fn print_table(rows: &[Row], took: Duration) {
    println!("\nstage      outcome     time");
    for row in rows {
        let note = match &row.outcome {
            Outcome::Passed => "",
            Outcome::Failed(why) | Outcome::NotRun(why) => why.lines().next().unwrap_or_default(),
        };
        let note: String = note.chars().take(NOTE).collect();
        let line = format!(
            "{:<10} {:<8} {:>6.1} s  {note}",
            row.stage.name,
            word(&row.outcome),
            row.took.as_secs_f64()
        );
        println!("{}", line.trim_end());
    }
    let count = |kind: &str| rows.iter().filter(|row| word(&row.outcome) == kind).count();
    println!(
        "stages: {} passed, {} failed, {} not run, in {:.1} s",
        count("passed"),
        count("FAILED"),
        count("NOT RUN"),
        took.as_secs_f64()
    );
}

fn verdict(rows: &[Row]) -> Result<(), String> {
    let bad: Vec<&str> = rows
        .iter()
        .filter(|row| row.outcome != Outcome::Passed)
        .map(|row| row.stage.name)
        .collect();
    if bad.is_empty() {
        Ok(())
    } else {
        Err(format!("not passed: {}", bad.join(", ")))
    }
}

/// Asks rustup for a component that a minimal toolchain lacks.
fn component(name: &str, probe: &str) {
    if !works(&mut cargo(probe)) {
        works(program("rustup").args(["component", "add", name]));
    }
}

fn fmt() -> Outcome {
    component("rustfmt", "fmt --version");
    run(&mut cargo("fmt --all --check")).into()
}

fn clippy() -> Outcome {
    component("clippy", "clippy --version");
    run(&mut cargo(&format!(
        "clippy {} --all-targets -- -D warnings",
        native::PACKAGES
    )))
    .and_then(|()| {
        run(&mut cargo(
            "clippy --locked --package xtask --profile xtask --all-targets -- -D warnings",
        ))
    })
    .into()
}

/// With `--examples` cargo resolves the same features as clippy's `--all-targets`, so the
/// dependencies are not checked a second time.
fn doc() -> Outcome {
    let mut command = cargo(&format!(
        "doc {} --no-deps --lib --examples",
        native::PACKAGES
    ));
    run(command.env("RUSTDOCFLAGS", "-D warnings")).into()
}

/// One crate at a time: together they would share each other's features.
fn features() -> Outcome {
    component("clippy", "clippy --version");
    let libraries = match package::published_libraries() {
        Ok(libraries) => libraries,
        Err(why) => return Outcome::Failed(why),
    };
    libraries
        .iter()
        .try_for_each(|library| {
            run(&mut cargo(&format!(
                "clippy --locked --release --package {library} --lib --no-default-features -- -D warnings"
            )))
        })
        .into()
}

/// The two long builds beside each other: while one of them links or compiles its last crate on
/// one core, the other one uses the rest.
fn build() -> Outcome {
    thread::scope(|scope| {
        let page = scope.spawn(demo::built_beside);
        let programs = native::programs().map(drop).and_then(|()| native::tests());
        let page = page
            .join()
            .unwrap_or_else(|_| Err("the page's thread panicked".into()));
        programs.and(page.map(drop))
    })
    .into()
}

/// xtask is tested as the program it is, in its own profile: its dependencies are built already,
/// and their features stay out of what the library's tests link.
fn test_all() -> Outcome {
    run(&mut cargo("test --locked --package xtask --profile xtask"))
        .and_then(|()| run(&mut cargo(&native::tests_command(""))))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, outcome: Outcome) -> Row {
        let stage = STAGES
            .iter()
            .find(|stage| stage.name == name)
            .expect("the stage exists");
        Row {
            stage,
            outcome,
            took: Duration::ZERO,
        }
    }

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(String::from).collect()
    }

    #[test]
    fn a_stage_that_could_not_run_fails_the_whole() {
        let not_run = || Outcome::NotRun("no compiler".into());
        assert!(verdict(&[row("fmt", Outcome::Passed), row("deny", Outcome::Passed)]).is_ok());
        assert!(verdict(&[row("fmt", Outcome::Passed), row("wasm", not_run())]).is_err());
        assert!(verdict(&[row("deny", Outcome::Failed("banned".into()))]).is_err());
    }

    #[test]
    fn only_names_the_stages_to_run_in_their_own_order() {
        let chosen = choose(&words("--only test --only=fmt")).unwrap();
        let names: Vec<&str> = chosen.iter().map(|stage| stage.name).collect();
        assert_eq!(names, ["fmt", "test"]);
        assert_eq!(choose(&[]).unwrap().len(), STAGES.len());
    }

    #[test]
    fn an_unknown_stage_or_option_is_refused_by_name() {
        let error = |text: &str| choose(&words(text)).err().unwrap();
        assert!(error("--only lint").contains("unknown stage `lint`; the stages are: rules"));
        assert!(error("--fast").contains("unknown option `--fast`"));
        assert!(error("--only").contains("wants the name of a stage"));
    }

    #[test]
    fn nothing_compiles_after_the_first_stage_in_real_time() {
        let first = STAGES.iter().position(|stage| stage.real_time).unwrap();
        assert!(STAGES[first..].iter().all(|stage| stage.real_time));
        assert!(STAGES[..first].iter().any(|stage| stage.name == "build"));
    }
}
