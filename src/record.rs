//! Owns the building, checking and writing of the exported files. Never observes a session itself;
//! it turns what `metrics` gathered into the documents of [`rollback_lab_record`].

mod browser;
mod build;
#[cfg(feature = "matchbox")]
mod lab;
#[cfg(feature = "matchbox")]
mod links;
mod recorder;
pub mod sink;
mod snapshots;

#[cfg(feature = "matchbox")]
pub use lab::{LabRecordPlugin, RecordSettings, SessionDocumentChanged};
pub use recorder::{EpisodeEnded, RecordPlugin, software};
pub use snapshots::{DesyncApp, DesyncRecorded};

pub use rollback_lab_record::*;
