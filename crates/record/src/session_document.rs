//! The session document: the trail that a lab session leaves from joining on, so that attrition shows
//! even when no episode was played.

use serde::{Deserialize, Serialize};

use super::{SCHEMA_VERSION, SESSION_SCHEMA, Schema};
use crate::{EndReason, SessionMeta, Software};

/// The content of `session.player-<k>.json`, rewritten at each step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionDocument {
    /// Name and version of the format.
    pub schema: Schema,
    /// What ran.
    pub software: Software,
    /// Who played, as far as it is known yet.
    pub session: SessionMeta,
    /// Unix milliseconds at which `atUs` is 0.
    pub origin_unix_ms: u64,
    /// Every phase entered, in order.
    pub phases: Vec<Phase>,
    /// From joining to the first episode. `null` while none has begun.
    pub waited_ms: Option<f64>,
    /// File names of the episodes, in order.
    pub episodes: Vec<String>,
    /// `completed`, `frameLimit`, `waitTimeout`, `neverConnected`, `peerLeft`, `localQuit`,
    /// `focusTimeout`, `desync`, `refused` or `serverLost`. `null` while the session lives.
    pub end_reason: Option<EndReason>,
}

/// One phase entered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Phase {
    /// Its name.
    pub phase: String,
    /// When it was entered.
    pub at_us: u64,
}

impl SessionDocument {
    /// A document of a session that has just begun.
    #[must_use]
    pub fn new(software: Software, session: SessionMeta, origin_unix_ms: u64) -> Self {
        Self {
            schema: Schema {
                name: SESSION_SCHEMA.to_owned(),
                version: SCHEMA_VERSION.to_owned(),
            },
            software,
            session,
            origin_unix_ms,
            phases: Vec::new(),
            waited_ms: None,
            episodes: Vec::new(),
            end_reason: None,
        }
    }
}
