//! Owns the server's life: its settings, its thread, starting and shutting down. Signaling that
//! unmodified matchbox clients can use, and the relay on the same websocket.
//! Never knows the game; of the rest of the crate it knows the relay frames only.
//!
//! ```
//! use rollback_lab_server::{LabServer, ServerSettings};
//!
//! let server = LabServer::start(ServerSettings::loopback())?;
//! println!("rooms are at {}/<room>?players=2", server.url());
//! server.shutdown();
//! # Ok::<(), rollback_lab_server::ServerError>(())
//! ```
//!
//! | URL | what it is |
//! |---|---|
//! | `/<room>` | one room for up to 64 peers |
//! | `/<room>?players=N` | one room for N peers, all of whom name the same N |
//! | `/<room>?next=N` | rooms of N peers, in the order of arrival |
//! | `/healthz` | `ok` |
//! | `/metrics` | counters for Prometheus |
//!
//! With [`ServerSettings::page`] every other request that is none for a websocket gets a file of
//! that folder, so that a page, its signaling and its relay are one address.
//!
//! A client that is refused gets its websocket opened and closed again with one of the codes of
//! [`relay`](rollback_lab_link::wire::relay) and a reason in words.

mod connection;
mod data_dir;
mod http;
mod identity;
mod limits;
mod metrics;
mod page;
mod refusal;
mod request;
mod ring;
mod room;
mod rooms;
mod send_queue;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
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

use self::connection::Shared;
use self::metrics::Metrics;
use self::page::Page;
use self::rooms::Rooms;

/// Port of `rollback-lab serve`, and of matchbox's own server.
pub const DEFAULT_PORT: u16 = 3536;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;
/// How long a shutdown waits for close frames to be written and answered.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);
/// How long it then waits for what is still running.
const RUNTIME_TIMEOUT: Duration = Duration::from_millis(500);

/// How a [`LabServer`] runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// Address to listen at; port 0 takes a free one. Defaults to `127.0.0.1:3536`.
    pub bind: SocketAddr,
    /// Allows an address that others can reach, although nobody is asked for admission yet.
    /// Defaults to `false`.
    pub allow_public: bool,
    /// Folder for what the server keeps. It is created and tried before the start; nothing is
    /// stored in it yet. Defaults to `None`.
    pub data_dir: Option<PathBuf>,
    /// Folder of a page to serve, with an `index.html`; its files are read once, at the start, and
    /// `name.br` and `name.gz` beside a file are what browsers get that accept them. Defaults to
    /// `None`.
    pub page: Option<PathBuf>,
    /// Most rooms at a time. Defaults to 4096.
    pub max_rooms: usize,
    /// Most peers at a time, in all rooms. Defaults to 8192.
    pub max_peers: usize,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT)),
            allow_public: false,
            data_dir: None,
            page: None,
            max_rooms: 4096,
            max_peers: 8192,
        }
    }
}

impl ServerSettings {
    /// A server on a free port of this machine's loopback address.
    #[must_use]
    pub fn loopback() -> Self {
        Self {
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            ..Self::default()
        }
    }
}

/// Why a server did not start.
#[non_exhaustive]
#[derive(Debug, Error)]
pub enum ServerError {
    /// Others could reach the address, and nothing said that they may.
    #[error(
        "refused to listen at {address}: whoever reaches a public address could join any room, \
         because signed admission does not exist yet; \
         use a loopback address, or allow it with --allow-public"
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
        /// What the system said.
        source: io::Error,
    },
    /// The data folder cannot be created or written.
    #[error("cannot write to data folder {}: {source}", path.display())]
    DataDir {
        /// The folder.
        path: PathBuf,
        /// What the system said.
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
    /// The system gives no thread.
    #[error("cannot start the server's threads: {source}")]
    Threads {
        /// What the system said.
        source: io::Error,
    },
}

/// A running server. Dropping it shuts it down.
#[derive(Debug)]
pub struct LabServer {
    address: SocketAddr,
    shutdown: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl LabServer {
    /// Starts a server on threads of its own and returns once it listens.
    ///
    /// # Errors
    /// When the address is public without permission or taken, the data folder is not writable, or
    /// the page cannot be read.
    pub fn start(settings: ServerSettings) -> Result<Self, ServerError> {
        if !settings.bind.ip().is_loopback() && !settings.allow_public {
            return Err(ServerError::PublicAddress {
                address: settings.bind,
            });
        }
        if let Some(path) = &settings.data_dir {
            data_dir::probe(path).map_err(|source| ServerError::DataDir {
                path: path.clone(),
                source,
            })?;
        }
        let page = match &settings.page {
            None => None,
            Some(path) => {
                let page = Page::read(path).map_err(|source| ServerError::Page {
                    path: path.clone(),
                    source,
                })?;
                Some(Arc::new(page))
            }
        };
        let (shutdown, stop) = watch::channel(false);
        let (started, start) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("rollback-lab server".to_owned())
            .spawn(move || run(&settings, page, stop, &started))
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

    /// The address that the server listens at.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The address as clients want it, `ws://127.0.0.1:PORT`, without a room.
    #[must_use]
    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Where a browser finds the page, if there is one.
    #[must_use]
    pub fn page_url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Tells every client that the server goes, waits a few seconds at most, and ends.
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
    page: Option<Arc<Page>>,
    stop: watch::Receiver<bool>,
    started: &Started,
) {
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("rollback-lab server worker")
        .build()
    {
        Ok(runtime) => runtime,
        Err(source) => {
            // Nobody listens only if the starting thread is gone, and then nobody is to be told.
            let _ = started.send(Err(ServerError::Threads { source }));
            return;
        }
    };
    match bind(&runtime, settings.bind) {
        Ok((listener, address)) => {
            info!("listening at {address}");
            let _ = started.send(Ok(address));
            runtime.block_on(serve(settings, page, stop, listener));
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
    socket.set_send_buffer_size(limits::SEND_BUFFER)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

async fn serve(
    settings: &ServerSettings,
    page: Option<Arc<Page>>,
    stop: watch::Receiver<bool>,
    listener: TcpListener,
) {
    let metrics = Arc::new(Metrics::default());
    let (open, mut still_open) = watch::channel(0);
    let rooms = Rooms::new(settings.max_rooms, settings.max_peers, Arc::clone(&metrics));
    let router = http::router(Shared {
        rooms: Arc::new(rooms),
        metrics,
        shutdown: stop.clone(),
        open: Arc::new(open),
        page,
    });
    let listener = listener.tap_io(|stream| {
        // The relay is worth nothing if the kernel waits to fill its segments.
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
        // Upgraded connections are not among those that axum waits for.
        let _ = still_open.wait_for(|open| *open == 0).await;
    };
    tokio::select! {
        () = served => {}
        () = bounded => warn!("some clients did not answer the close frame in time"),
    }
}
