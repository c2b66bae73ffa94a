//! Owns the command line of `cargo xtask`: which commands there are, and their exit status.
//! It never checks or builds anything itself.

use std::process::ExitCode;

mod bench;
mod browser;
mod clocks;
mod debian;
mod demo;
mod examples;
mod graph;
mod house;
mod loading;
mod process;
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
        usage: "demo [--port N] [--bind ADDR] [--build-only]",
        about: "build the page of examples/volley and serve it with signaling and relay",
        run: demo::demo,
    },
    Command {
        name: "browser",
        usage: "browser [SCENE]...",
        about: "drive the page with headless Chromium: all scenes, or only those named",
        run: browser::command,
    },
    Command {
        name: "types",
        usage: "types",
        about: "write the TypeScript declarations of the exported documents anew",
        run: types::write,
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
        println!("  {:<24} {}", command.usage, command.about);
    }
    println!("\nstages of `test`:\n");
    for stage in stages::STAGES {
        println!("  {:<24} {}", stage.name, stage.about);
    }
    Ok(())
}
