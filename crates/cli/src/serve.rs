//! `rollback-lab serve`: signaling and relay for the peers of a match, and optionally the game's
//! page, on one port until it is stopped.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use rollback_lab_server::{DEFAULT_PORT, LabServer, ServerSecret, ServerSettings};

use crate::error::CommandError;

/// Environment variable with the secret, for platforms that keep secrets there.
const SECRET_VARIABLE: &str = "ROLLBACK_LAB_SECRET";

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
    /// File with the secret that signs resume tokens; it is created, for its owner alone, if it does not
    /// exist. Peers of a server that was restarted with the same secret get their slots back. Without it
    /// the environment variable `ROLLBACK_LAB_SECRET` is the secret, and without both it is random
    #[arg(long, value_name = "FILE")]
    secret: Option<PathBuf>,
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
        let secret = secret(options)?;
        let resumable = secret.is_some();
        let server = LabServer::start(ServerSettings {
            secret,
            bind: options.bind,
            allow_public: options.allow_public,
            page: options.page.clone(),
            ..ServerSettings::default()
        })?;
        println!("listening at {}", server.url());
        println!("nothing is stored");
        if !resumable {
            println!(
                "a restart ends resumption: there is neither --secret FILE nor {SECRET_VARIABLE}"
            );
        }
        if options.page.is_some() {
            println!("the page is at {}", server.page_url());
        }
        stop.await;
        println!("shutting down");
        server.shutdown();
        Ok(())
    })
}

/// The secret of the option, or else of the environment. An empty variable counts as none.
fn secret(options: &ServeOptions) -> Result<Option<ServerSecret>, CommandError> {
    if let Some(path) = &options.secret {
        return Ok(Some(ServerSecret::read_or_create(path)?));
    }
    match std::env::var_os(SECRET_VARIABLE) {
        Some(secret) if !secret.is_empty() => ServerSecret::new(secret.as_encoded_bytes())
            .map(Some)
            .map_err(CommandError::SecretVariable),
        Some(_) | None => Ok(None),
    }
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
