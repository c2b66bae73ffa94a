//! Owns `cargo xtask test`: the stages, their order, their times and the closing table. A stage
//! that could not run is never counted as passed.

use std::time::{Duration, Instant};

use crate::process::{cargo, program, run, works};
use crate::{browser, examples, graph, house, wasm, window};

/// How a stage ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
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
pub struct Stage {
    pub name: &'static str,
    pub about: &'static str,
    /// Whether the whole may pass although this stage could not run.
    pub optional: bool,
    run: fn() -> Outcome,
}

/// Cheap stages first; clippy is the check build whose artifacts `doc` uses again, and `test`
/// leaves the examples built.
pub const STAGES: &[Stage] = &[
    Stage {
        name: "house",
        about: "rules of the text: file heads, no machine paths, length of ARCHITECTURE.md, ...",
        optional: false,
        run: || house::check().into(),
    },
    Stage {
        name: "fmt",
        about: "rustfmt changes nothing",
        optional: false,
        run: fmt,
    },
    Stage {
        name: "graph",
        about: "how many crates a build brings, and which it never brings",
        optional: false,
        run: || graph::check().into(),
    },
    Stage {
        name: "clippy",
        about: "every target of the workspace, the demo too, warnings denied",
        optional: false,
        run: clippy,
    },
    Stage {
        name: "doc",
        about: "rustdoc of library and examples, warnings denied",
        optional: false,
        run: doc,
    },
    Stage {
        name: "features",
        about: "the library without default features, warnings denied",
        optional: false,
        run: features,
    },
    Stage {
        name: "wasm",
        about: "the library for wasm32, with and without default features",
        optional: false,
        run: wasm::check,
    },
    Stage {
        name: "test",
        about: "unit, integration and doc tests; JSON Schema and arrow rule among them",
        optional: false,
        run: || run(&mut cargo("test --locked --release --workspace")).into(),
    },
    Stage {
        name: "examples",
        about: "every example runs, and the files it writes are read",
        optional: false,
        run: || examples::check().into(),
    },
    Stage {
        name: "window",
        about: "HUD tests, and the demo in a window on a virtual display with a software renderer",
        optional: false,
        run: window::check,
    },
    Stage {
        name: "browser",
        about: "the demo as a page in headless Chromium: two pages, a native peer, cuts, hidden tabs",
        optional: false,
        run: browser::check,
    },
    Stage {
        name: "deny",
        about: "cargo-deny: licences, bans, sources (where it is installed)",
        optional: true,
        run: deny,
    },
];

struct Row {
    stage: &'static Stage,
    outcome: Outcome,
    took: Duration,
}

/// Runs the stages asked for; an error if one failed, or could not run and is not optional.
pub fn test(arguments: &[String]) -> Result<(), String> {
    let chosen = choose(arguments)?;
    let started = Instant::now();
    let mut rows = Vec::new();
    for stage in chosen {
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
        .filter(|row| match row.outcome {
            Outcome::Passed => false,
            Outcome::Failed(_) => true,
            Outcome::NotRun(_) => !row.stage.optional,
        })
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
    run(&mut cargo(
        "clippy --locked --workspace --all-targets --features demo -- -D warnings",
    ))
    .into()
}

/// With `--examples` cargo resolves the same features as clippy's `--all-targets`, so the
/// dependencies are not checked a second time.
fn doc() -> Outcome {
    let mut command = cargo("doc --locked --no-deps --lib --examples --features demo");
    run(command.env("RUSTDOCFLAGS", "-D warnings")).into()
}

fn features() -> Outcome {
    component("clippy", "clippy --version");
    run(&mut cargo(
        "clippy --locked --lib --no-default-features -- -D warnings",
    ))
    .into()
}

fn deny() -> Outcome {
    if !works(&mut cargo("deny --version")) {
        return Outcome::NotRun(
            "cargo-deny is not installed (cargo install --locked cargo-deny)".into(),
        );
    }
    run(&mut cargo(
        "deny --locked --all-features check licenses bans sources",
    ))
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
    fn a_stage_that_could_not_run_fails_the_whole_unless_optional() {
        let not_run = || Outcome::NotRun("no compiler".into());
        assert!(verdict(&[row("fmt", Outcome::Passed), row("deny", not_run())]).is_ok());
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
        assert!(error("--only lint").contains("unknown stage `lint`; the stages are: house"));
        assert!(error("--fast").contains("unknown option `--fast`"));
        assert!(error("--only").contains("wants the name of a stage"));
    }
}
