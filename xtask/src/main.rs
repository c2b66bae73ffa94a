//! The command line of `cargo xtask`: its commands and their exit status.

use std::process::ExitCode;

mod bench;
mod browser;
mod clocks;
mod counts;
mod debian;
mod demo;
mod deny;
mod examples;
mod files;
mod graph;
mod loading;
mod matches;
mod native;
mod network;
mod package;
mod process;
mod rules;
mod setup;
mod soak;
mod stages;
mod types;
mod wasm;
mod window;

struct Command {
    name: &'static str,
    usage: &'static str,
    about: &'static str,
    run: fn(&[String]) -> Result<(), String>,
}

const COMMANDS: &[Command] = &[
    Command {
        name: "test",
        usage: "test [--only STAGE]...",
        about: "run every check that CI runs, or only the stages named",
        run: stages::test,
    },
    Command {
        name: "bench",
        usage: "bench [--quick]",
        about: "measure what the crate costs, as Markdown; --quick: instructions and allocations",
        run: bench::bench,
    },
    Command {
        name: "demo",
        usage: "demo [--release] [--port N] [--bind ADDR] [--build-only]",
        about: "build the page of examples/volley and serve it; --release: as small as it gets",
        run: demo::demo,
    },
    Command {
        name: "browser",
        usage: "browser [--page FOLDER] [--programs FOLDER] [CASE]...",
        about: "drive the page with headless Chromium: all test cases, or only those named",
        run: browser::command,
    },
    Command {
        name: "network",
        usage: "network [ROW]...",
        about: "matches in network namespaces: all rows, or those named; --list, --jobs N, \
                --programs DIR",
        run: network::command,
    },
    Command {
        name: "soak",
        usage: "soak [--matches N] [--seed N]",
        about: "matches drawn from a seed (200, seeds from the clock); --jobs N, --programs DIR",
        run: soak::command,
    },
    Command {
        name: "types",
        usage: "types",
        about: "write the TypeScript declarations of the exported documents anew",
        run: types::write,
    },
    Command {
        name: "counts",
        usage: "counts",
        about: "print what grows unnoticed: public types, long functions, unwanted words, ...",
        run: counts::print,
    },
    Command {
        name: "help",
        usage: "help",
        about: "list the commands and the stages of `test`",
        run: help,
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (name, rest) = match arguments.split_first() {
        None => ("help", &[][..]),
        Some((first, _)) if first == "--help" || first == "-h" => ("help", &[][..]),
        Some((first, rest)) => (first.as_str(), rest),
    };
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        let known: Vec<&str> = COMMANDS.iter().map(|command| command.name).collect();
        eprintln!(
            "error: unknown command `{name}`; the commands are: {}",
            known.join(", ")
        );
        return ExitCode::from(2);
    };
    match (command.run)(rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn help(_: &[String]) -> Result<(), String> {
    println!("cargo xtask COMMAND\n");
    for command in COMMANDS {
        println!("  {:<26} {}", command.usage, command.about);
    }
    println!("\nstages of `test`:\n");
    for stage in stages::STAGES {
        println!("  {:<26} {}", stage.name, stage.about);
    }
    Ok(())
}
