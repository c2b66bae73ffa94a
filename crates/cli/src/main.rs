//! `rollback-lab`, the command line of `bevy_rollback_lab`: runs the signaling and relay server,
//! and checks, tabulates, merges, draws and compares the files that matches write.
//!
//! Every command is a module of its own over a library: the server over `rollback_lab_server`, all
//! others over `rollback_lab_record`. `rollback-lab --help` and `docs/tools.md` describe them.
//!
//! Results go to stdout, errors, logs and progress to stderr. The exit status is 0 if the command
//! did all it was asked for and found nothing wrong, 1 if not, and 2 if it was called wrongly.

mod desync;
mod error;
mod files;
mod merge;
mod report;
mod serve;
mod tables;
mod verify;

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::error::CommandError;

/// Run the `bevy_rollback_lab` server, and work with the files that matches write.
#[derive(Parser)]
#[command(name = "rollback-lab", version, about = ABOUT, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Commands,
}

const ABOUT: &str = "Run the bevy_rollback_lab server, and work with the files that matches write";
const AFTER_HELP: &str = "\
Examples:
  rollback-lab serve
  rollback-lab verify exports
  rollback-lab tables exports --out tables
  rollback-lab report exports --out report.html

Folders are searched for *.json files. The exit status is 0 if nothing is wrong, 1 if something is,
and 2 for a command line that cannot be read.";

#[derive(Subcommand)]
enum Commands {
    /// Run the signaling and relay server until Ctrl-C or a termination signal
    Serve(serve::ServeOptions),
    /// Check files: each on its own, and the files of one episode against each other
    Verify(verify::VerifyOptions),
    /// Write CSV and Parquet tables of all files, with a data dictionary
    Tables(tables::TablesOptions),
    /// Merge the files of each episode's peers into one document, on one clock
    Merge(merge::MergeOptions),
    /// Draw episodes as one self-contained HTML page
    Report(report::ReportOptions),
    /// Compare the two halves of a desync
    Desync(desync::DesyncOptions),
}

fn main() -> ExitCode {
    let Cli { command } = Cli::parse();
    log_to_stderr();
    run(command).unwrap_or_else(|error| {
        eprintln!("rollback-lab: {error}");
        ExitCode::FAILURE
    })
}

fn run(command: Commands) -> Result<ExitCode, CommandError> {
    match command {
        Commands::Serve(options) => serve::serve(&options)?,
        Commands::Verify(options) => return verify::verify(&options),
        Commands::Tables(options) => tables::tables(&options)?,
        Commands::Merge(options) => merge::merge(&options)?,
        Commands::Report(options) => report::report(&options)?,
        Commands::Desync(options) => desync::desync(&options)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Logs at `info` and above, or what `RUST_LOG` asks for.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .init();
}
