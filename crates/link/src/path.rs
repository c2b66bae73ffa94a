//! The two paths to a peer.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One of the two paths that a datagram can take to a peer: [`Direct`](Path::Direct) or
/// [`Relay`](Path::Relay).
///
/// In options, log lines and files it is written as `direct` or `relay`. Whether the direct path
/// leads through a TURN server is a property of the connection and not of the path:
/// [`Via`](crate::cause::Via) tells the two apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "reflect", derive(bevy_reflect::Reflect))]
pub enum Path {
    /// The data channel between the peers (possibly through TURN).
    Direct,
    /// Binary frames on the server's websocket.
    Relay,
}

impl Path {
    /// Both paths, in the order of [`Path::index`].
    pub const ALL: [Self; 2] = [Self::Direct, Self::Relay];

    /// Position of this path in per-path arrays.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Direct => 0,
            Self::Relay => 1,
        }
    }

    /// The path that is not this one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Direct => Self::Relay,
            Self::Relay => Self::Direct,
        }
    }

    /// Name in logs and files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Relay => "relay",
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
