//! Owns the building, checking and writing of the exported files. Never observes a session itself;
//! it turns what `metrics` gathered into the documents of [`rollback_lab_record`].

mod browser;
mod build;
#[cfg(feature = "matchbox")]
mod lab;
#[cfg(feature = "matchbox")]
mod links;
mod recorder;
pub(crate) mod sink;
mod snapshots;

#[cfg(feature = "matchbox")]
pub use lab::SessionDocumentChanged;
#[cfg(feature = "matchbox")]
pub(crate) use lab::{LabRecordPlugin, RecordSettings};
pub(crate) use recorder::software;
pub use recorder::{EpisodeEnded, RecordPlugin};
pub use snapshots::{DesyncApp, DesyncRecorded};

pub use rollback_lab_record::*;
