//! What a server listens at, what it serves and how much it accepts.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::secret::ServerSecret;

/// Port of `rollback-lab serve`, and of matchbox's own server.
pub const DEFAULT_PORT: u16 = 3536;

/// Above the 30 s after which ICE gives up a path; the time after which a lab session gives a silent peer
/// up.
const RESUME_GRACE: Duration = Duration::from_secs(35);

/// Configures a [`LabServer`](crate::LabServer): where it listens, which page it serves, and how
/// many rooms and peers it accepts. Read once, by [`LabServer::start`](crate::LabServer::start).
///
/// ```
/// use rollback_lab_server::{LabServer, ServerSettings};
///
/// let server = LabServer::start(ServerSettings {
///     max_rooms: 100,
///     max_peers: 200,
///     ..ServerSettings::loopback()
/// })?;
/// assert!(server.local_addr().ip().is_loopback());
/// # Ok::<(), rollback_lab_server::ServerError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// Address to listen at; port 0 takes a free one. Defaults to `127.0.0.1:3536`.
    ///
    /// An address that is not of the loopback interface also needs
    /// [`allow_public`](Self::allow_public).
    pub bind: SocketAddr,
    /// Allows [`bind`](Self::bind) to be an address that other machines can reach, although there
    /// is no admission yet: every client that reaches the server can join any room. Defaults to
    /// `false`.
    pub allow_public: bool,
    /// Folder of a page to serve on the same port, with an `index.html`. Its files are read once,
    /// at the start, at most 512 MiB of them; where `name.br` or `name.gz` lies beside `name`, a
    /// browser that accepts the encoding gets that. Defaults to `None`: no page.
    pub page: Option<PathBuf>,
    /// Most rooms at a time. A client that would open one more is refused with close code 4004.
    /// Defaults to 4096.
    pub max_rooms: usize,
    /// Most peers at a time, in all rooms together. One more is refused with close code 4004.
    /// Defaults to 8192: two per room.
    pub max_peers: usize,
    /// Signs the tokens with which lost peers resume. Servers with the same secret, and this one after
    /// a restart, take each other's peers back. Defaults to `None`: a random one, so that a restart ends
    /// resumption.
    pub secret: Option<ServerSecret>,
    /// How long the slot of a peer is kept that was lost during its match. Before the match, or after a
    /// peer's own leave, a slot is free at once. Defaults to 35 s, after which the other peers give up
    /// too.
    pub resume_grace: Duration,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT)),
            allow_public: false,
            page: None,
            max_rooms: 4096,
            max_peers: 8192,
            secret: None,
            resume_grace: RESUME_GRACE,
        }
    }
}

impl ServerSettings {
    /// Settings of a server on a free port of this machine's loopback address, for tests and for
    /// games that embed their server.
    #[must_use]
    pub fn loopback() -> Self {
        Self {
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            ..Self::default()
        }
    }
}
