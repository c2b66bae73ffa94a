//! The JSON Schemas of the files (draft 2020-12): as published, and generated from the types.
//!
//! The published texts lie in `schema/` of this crate; a test compares them with the generated ones.

/// The published schema of an episode file.
pub const EPISODE: &str = include_str!("../schema/episode.schema.json");
/// The published schema of a session file.
pub const SESSION: &str = include_str!("../schema/session.schema.json");
/// The published schema of a desync bundle.
pub const DESYNC: &str = include_str!("../schema/desync.schema.json");
/// The published schema of a merged document.
pub const MERGED: &str = include_str!("../schema/merged.schema.json");

#[cfg(feature = "schema")]
pub use generated::{desync_schema, episode_schema, merged_schema, session_schema};

#[cfg(feature = "schema")]
mod generated {
    use schemars::generate::SchemaSettings;
    use serde_json::Value;

    use crate::merge::MergedEpisode;
    use crate::{DesyncBundle, EpisodeDocument, SessionDocument};

    /// The schema of an episode file.
    #[must_use]
    pub fn episode_schema() -> Value {
        schema_of::<EpisodeDocument>()
    }

    /// The schema of a session file.
    #[must_use]
    pub fn session_schema() -> Value {
        schema_of::<SessionDocument>()
    }

    /// The schema of a desync bundle.
    #[must_use]
    pub fn desync_schema() -> Value {
        schema_of::<DesyncBundle>()
    }

    /// The schema of a merged document.
    #[must_use]
    pub fn merged_schema() -> Value {
        schema_of::<MergedEpisode>()
    }

    fn schema_of<T: schemars::JsonSchema>() -> Value {
        // What is written has every field, so every field is required; readers are more lenient.
        let settings = SchemaSettings::draft2020_12().for_serialize();
        settings
            .into_generator()
            .into_root_schema_for::<T>()
            .to_value()
    }
}
