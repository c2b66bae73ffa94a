//! What this repository's own tests, benches and test kit reach into. **No semver**: anything here
//! changes or goes without notice. Behind the feature `unstable-internals`.

/// What each layer gets of a configuration.
#[cfg(feature = "matchbox")]
pub mod config {
    use rollback_lab_link::link::LinkSettings;

    use crate::config::LabConfig;
    use crate::transport::MatchboxSettings;

    /// Every link's part.
    #[must_use]
    pub fn link_settings(config: &LabConfig) -> LinkSettings {
        config.link_settings()
    }

    /// The network's part.
    #[must_use]
    pub fn matchbox_settings(config: &LabConfig) -> MatchboxSettings {
        config.matchbox_settings()
    }
}

/// How a session's network is opened.
#[cfg(feature = "matchbox")]
pub mod life_cycle {
    pub use crate::life_cycle::{NetworkOpener, OpenNetwork};
}

/// Driving a world through frames without a session.
pub mod offline {
    pub use crate::offline::driver::*;
}

/// The steps that a replay plays.
pub mod replay {
    pub use crate::replay::script::*;
    pub use crate::replay::script_of;
}

/// The trace of one session, and where it is kept.
pub mod trace {
    pub use crate::rollback::log::*;
    pub use crate::rollback::trace::*;
}

/// What the session and the transport report to the metrics.
pub mod metrics {
    pub use crate::metrics::link::*;
}

/// Writing documents to their storage.
pub mod sink {
    pub use crate::record::sink::*;
}

/// The network task's side: sockets, the server connection, the links of a lab session.
#[cfg(feature = "matchbox")]
pub mod transport {
    pub use crate::transport::*;
}
