//! Owns the command line: the server, and what is done with files afterwards.
//! Never does what a library user could not do.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use rollback_lab_server::{DEFAULT_PORT, LabServer, ServerError, ServerSettings};
use thiserror::Error;
use tracing_subscriber::{self, EnvFilter};

mod desync;
mod files;
mod merge;
mod report;
mod tables;
mod verify;

/// Tools of `bevy_rollback_lab`.
#[derive(Parser)]
#[command(name = "rollback-lab", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the signaling and relay server until Ctrl-C or a termination signal.
    Serve(Serve),
    /// Put the two halves of a desync side by side.
    Desync(desync::Desync),
    /// Check files: each alone, and those of one episode against each other.
    Verify(verify::Verify),
    /// Put the files of each episode's peers into one document, on one clock.
    Merge(merge::Merge),
    /// Write flat tables of all files, as CSV and Parquet, with a data dictionary.
    Tables(tables::Tables),
    /// Draw episodes as one self-contained page.
    Report(report::Report),
}

#[derive(Args)]
struct Serve {
    /// Address and port to listen at; port 0 takes a free one.
    #[arg(long, value_name = "ADDR:PORT", default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT)))]
    bind: SocketAddr,
    /// Folder for what the server keeps. It is created and tried at the start; nothing is stored
    /// in it yet.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Folder of a page to serve on the same port, with an `index.html`. It is read at the start.
    #[arg(long, value_name = "DIR")]
    page: Option<PathBuf>,
    /// Listen at an address that others can reach, although everybody who reaches it can join
    /// any room.
    #[arg(long)]
    allow_public: bool,
}

#[derive(Debug, Error)]
enum ServeError {
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error("cannot wait for a signal to stop: {0}")]
    Signals(#[from] io::Error),
}

fn main() -> ExitCode {
    let Cli { command } = Cli::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .init();
    let done = match command {
        Command::Serve(options) => serve(options).map_err(|error| error.to_string()),
        Command::Desync(options) => return desync::desync(&options),
        Command::Verify(options) => match verify::verify(&options) {
            Ok(true) => Ok(()),
            // Every fault was told where it was found.
            Ok(false) => return ExitCode::FAILURE,
            Err(error) => Err(error),
        },
        Command::Merge(options) => merge::merge(&options),
        Command::Tables(options) => tables::tables(&options),
        Command::Report(options) => report::report(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rollback-lab: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(options: Serve) -> Result<(), ServeError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let stop = StopSignals::new()?;
        let server = LabServer::start(ServerSettings {
            bind: options.bind,
            allow_public: options.allow_public,
            data_dir: options.data.clone(),
            page: options.page.clone(),
            ..ServerSettings::default()
        })?;
        println!("listening at {}", server.url());
        match &options.data {
            Some(folder) => println!(
                "data folder {} is writable; nothing is stored there yet",
                folder.display()
            ),
            None => println!("nothing is stored"),
        }
        if options.page.is_some() {
            println!("the page is at {}", server.page_url());
        }
        stop.wait().await;
        println!("shutting down");
        server.shutdown();
        Ok(())
    })
}

/// The signals that end the server, caught from its creation on.
#[cfg(unix)]
struct StopSignals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl StopSignals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};

        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn wait(mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The signal that ends the server.
#[cfg(not(unix))]
struct StopSignals;

#[cfg(not(unix))]
impl StopSignals {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn wait(self) {
        if tokio::signal::ctrl_c().await.is_err() {
            // Without Ctrl-C the process is ended from outside.
            std::future::pending::<()>().await;
        }
    }
}
