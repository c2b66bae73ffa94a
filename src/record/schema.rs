//! Owns the JSON Schemas of the files, generated from the types (draft 2020-12). The committed
//! copies under `assets/` are compared with these by a test.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::merge::MergedEpisode;
use super::{DesyncBundle, EpisodeDocument, SessionDocument};

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
