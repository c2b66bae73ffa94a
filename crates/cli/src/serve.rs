//! `rollback-lab serve`: signaling and relay for the peers of a match, and optionally the game's
//! page, on one port until it is stopped.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use rollback_lab_server::{DEFAULT_PORT, LabServer, ServerSettings};

use crate::error::CommandError;

#[derive(Args)]
pub(crate) struct ServeOptions {
    /// Address and port to listen at; port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT", default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT)))]
    bind: SocketAddr,
    /// Folder of a page to serve on the same port, with an index.html; it is read at the start
    #[arg(long, value_name = "DIR")]
    page: Option<PathBuf>,
    /// Allow --bind to be an address that other machines can reach, although every client that
    /// reaches it can join any room: there is no admission yet
    #[arg(long)]
    allow_public: bool,
}

/// Runs the server until a signal ends it.
///
/// # Errors
/// When it cannot start.
pub(crate) fn serve(options: &ServeOptions) -> Result<(), CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CommandError::Signals)?;
    runtime.block_on(async {
        let stop = stop_signal().map_err(CommandError::Signals)?;
        let server = LabServer::start(ServerSettings {
            bind: options.bind,
            allow_public: options.allow_public,
            page: options.page.clone(),
            ..ServerSettings::default()
        })?;
        println!("listening at {}", server.url());
        println!("nothing is stored");
        if options.page.is_some() {
            println!("the page is at {}", server.page_url());
        }
        stop.await;
        println!("shutting down");
        server.shutdown();
        Ok(())
    })
}

/// Resolves at Ctrl-C or a termination signal; both are caught from this call on.
#[cfg(unix)]
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Resolves at Ctrl-C.
#[cfg(not(unix))]
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    Ok(async {
        if tokio::signal::ctrl_c().await.is_err() {
            // Without Ctrl-C the process is ended from outside.
            std::future::pending::<()>().await;
        }
    })
}
