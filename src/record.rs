//! The exported files: documents are built from what [`metrics`](crate::metrics) gathered and written
//! off the frame path. Observe [`EpisodeEnded`] to get an episode's document and the path of its file;
//! the types of the documents are those of [`rollback_lab_record`].

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
pub(crate) use lab::{LabRecordPlugin, RecordSettings, begin_session};
pub(crate) use recorder::software;
pub use recorder::{EpisodeEnded, RecordPlugin};
pub use sink::WriteError;
pub use snapshots::{DesyncApp, DesyncRecorded};

pub use rollback_lab_record::*;
