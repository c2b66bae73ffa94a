//! The running server: its thread, its listener, starting and shutting down.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::serve::ListenerExt;
use thiserror::Error;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::connection::ServerState;
use crate::http;
use crate::limits::SEND_BUFFER;
use crate::metrics::Metrics;
use crate::page::Page;
use crate::rooms::{RoomSettings, Rooms};
use crate::secret::{SecretError, ServerSecret};
use crate::settings::ServerSettings;

/// Connections that may wait to be accepted: a class of participants opens the page at once.
const BACKLOG: u32 = 1024;
/// How long a shutdown waits for close frames to be written and answered.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);
/// How long it then waits for tasks that are still running.
const RUNTIME_TIMEOUT: Duration = Duration::from_millis(500);

/// Why a server did not start.
#[non_exhaustive]
#[derive(Debug, Error)]
pub enum ServerError {
    /// The address can be reached from other machines, and the settings do not allow that.
    #[error(
        "cannot listen at {address}: there is no admission yet, so every client that reaches a \
         public address can join any room; use a loopback address, or allow it with \
         `allow_public` (--allow-public)"
    )]
    PublicAddress {
        /// The address.
        address: SocketAddr,
    },
    /// The address cannot be listened at.
    #[error("cannot listen at {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system reported.
        source: io::Error,
    },
    /// The page's folder cannot be read.
    #[error("cannot serve the page in {}: {source}", path.display())]
    Page {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// No secret could be made.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The server's threads cannot be started.
    #[error("cannot start the server's threads: {source}")]
    Threads {
        /// What the system reported.
        source: io::Error,
    },
}

/// Runs signaling, relay and page on threads of its own until it is dropped or
/// [shut down](Self::shutdown).
///
/// ```
/// use rollback_lab_server::{LabServer, ServerSettings};
///
/// let server = LabServer::start(ServerSettings::loopback())?;
/// let room = format!("{}/lobby?players=2", server.url());
/// assert!(room.starts_with("ws://127.0.0.1:"));
/// server.shutdown();
/// # Ok::<(), rollback_lab_server::ServerError>(())
/// ```
#[derive(Debug)]
pub struct LabServer {
    address: SocketAddr,
    shutdown: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl LabServer {
    /// Starts a server on threads of its own and returns once it listens. It brings its own
    /// runtime, so the caller needs none.
    ///
    /// # Errors
    /// - [`ServerError::PublicAddress`] if other machines can reach the address and
    ///   [`ServerSettings::allow_public`] is not set.
    /// - [`ServerError::Bind`] if the address is taken or not one of this machine.
    /// - [`ServerError::Page`] if the page cannot be read or has no `index.html`.
    /// - [`ServerError::Secret`] if there is none in the settings, and the system gives no random bytes.
    /// - [`ServerError::Threads`] if the system gives no thread.
    pub fn start(settings: ServerSettings) -> Result<Self, ServerError> {
        if !settings.bind.ip().is_loopback() && !settings.allow_public {
            return Err(ServerError::PublicAddress {
                address: settings.bind,
            });
        }
        let page = settings.page.as_deref().map(|path| {
            Page::read(path)
                .map(Arc::new)
                .map_err(|source| ServerError::Page {
                    path: path.to_owned(),
                    source,
                })
        });
        let page = page.transpose()?;
        let secret = match &settings.secret {
            Some(secret) => secret.clone(),
            None => {
                info!("no secret is set: a restart of this server ends resumption");
                ServerSecret::random()?
            }
        };
        let (shutdown, stop) = watch::channel(false);
        let (started, start) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("rollback-lab server".to_owned())
            .spawn(move || run(&settings, &secret, page, stop, &started))
            .map_err(|source| ServerError::Threads { source })?;
        let address = start
            .recv()
            .expect("the server's thread reports before it ends")?;
        Ok(Self {
            address,
            shutdown,
            thread: Some(thread),
        })
    }

    /// The address that the server listens at, with the port it got.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The address for clients without a room, `ws://127.0.0.1:PORT`. A server that is bound to
    /// `0.0.0.0` is reached under another address than this one.
    #[must_use]
    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// The address of the page for a browser, `http://127.0.0.1:PORT/`, if
    /// [`ServerSettings::page`] is set.
    #[must_use]
    pub fn page_url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Closes every connection with code 4007, so that no client takes another for gone, and frees the port. Returns when all clients have
    /// answered the close frame, or after 3 s. Dropping the server does the same.
    pub fn shutdown(self) {
        drop(self);
    }
}

impl Drop for LabServer {
    fn drop(&mut self) {
        self.shutdown.send_replace(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("the server's thread panicked");
        }
    }
}

type Started = mpsc::SyncSender<Result<SocketAddr, ServerError>>;

fn run(
    settings: &ServerSettings,
    secret: &ServerSecret,
    page: Option<Arc<Page>>,
    stop: watch::Receiver<bool>,
    started: &Started,
) {
    // Sending fails only if the thread that called `start` is gone, and with it the caller.
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("rollback-lab server worker")
        .build()
    {
        Ok(runtime) => runtime,
        Err(source) => {
            let _ = started.send(Err(ServerError::Threads { source }));
            return;
        }
    };
    match bind(&runtime, settings.bind) {
        Ok((listener, address)) => {
            info!("listening at {address}");
            let _ = started.send(Ok(address));
            runtime.block_on(serve(settings, secret, page, stop, listener));
            info!("stopped listening at {address}");
        }
        Err(source) => {
            let address = settings.bind;
            let _ = started.send(Err(ServerError::Bind { address, source }));
        }
    }
    runtime.shutdown_timeout(RUNTIME_TIMEOUT);
}

fn bind(runtime: &Runtime, address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let _context = runtime.enter();
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // A restarted server gets its port back while old connections linger; on Windows the option
    // would let two servers share it.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    // Accepted connections inherit it.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

async fn serve(
    settings: &ServerSettings,
    secret: &ServerSecret,
    page: Option<Arc<Page>>,
    stop: watch::Receiver<bool>,
    listener: TcpListener,
) {
    let metrics = Arc::new(Metrics::default());
    let (open, mut still_open) = watch::channel(0);
    let rooms = RoomSettings {
        max_rooms: settings.max_rooms,
        max_peers: settings.max_peers,
        secret,
        grace: settings.resume_grace,
    };
    let rooms = Rooms::new(&rooms, Arc::clone(&metrics));
    let router = http::router(ServerState {
        rooms: Arc::new(rooms),
        metrics,
        shutdown: stop.clone(),
        open: Arc::new(open),
        page,
    });
    let listener = listener.tap_io(|stream| {
        // With Nagle's algorithm a relayed packet would wait for the acknowledgement of the one
        // before.
        if let Err(error) = stream.set_nodelay(true) {
            warn!("cannot set TCP_NODELAY: {error}");
        }
    });
    let mut stopping = stop.clone();
    let stopped = async move {
        // An error means that the handle is gone, which is a shutdown as well.
        let _ = stopping.wait_for(|stop| *stop).await;
    };
    let serving = axum::serve(listener, router).with_graceful_shutdown(stopped);
    let mut deadline = stop;
    let bounded = async move {
        let _ = deadline.wait_for(|stop| *stop).await;
        tokio::time::sleep(SHUTDOWN_TIMEOUT).await;
    };
    let served = async {
        if let Err(error) = serving.await {
            warn!("serving ended with an error: {error}");
        }
        // axum does not wait for upgraded connections.
        let _ = still_open.wait_for(|open| *open == 0).await;
    };
    tokio::select! {
        () = served => {}
        () = bounded => warn!("some clients did not answer the close frame within {SHUTDOWN_TIMEOUT:?}"),
    }
}
