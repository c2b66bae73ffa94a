//! Writes documents off the frame path: whole or not at all, and kept in memory while a disk is full.
//!
//! On native targets a thread of its own serializes and writes. In a browser, and for tests, the
//! same interface keeps the files in memory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bevy::prelude::Resource;

use super::{DesyncBundle, EpisodeDocument, SessionDocument};

mod storage;
#[cfg(not(target_arch = "wasm32"))]
mod thread;

#[cfg(not(target_arch = "wasm32"))]
pub use storage::FolderStorage;
pub use storage::Storage;

/// A document on its way to a file, shared with the event that reports it.
#[derive(Clone, Debug, PartialEq)]
pub enum Document {
    /// One episode.
    Episode(Arc<EpisodeDocument>),
    /// The trail of the lab session so far.
    Session(Arc<SessionDocument>),
    /// One peer's half of a desync.
    Desync(Arc<DesyncBundle>),
}

impl From<EpisodeDocument> for Document {
    fn from(document: EpisodeDocument) -> Self {
        Self::Episode(Arc::new(document))
    }
}

impl From<Arc<EpisodeDocument>> for Document {
    fn from(document: Arc<EpisodeDocument>) -> Self {
        Self::Episode(document)
    }
}

impl From<SessionDocument> for Document {
    fn from(document: SessionDocument) -> Self {
        Self::Session(Arc::new(document))
    }
}

impl From<Arc<SessionDocument>> for Document {
    fn from(document: Arc<SessionDocument>) -> Self {
        Self::Session(document)
    }
}

impl Document {
    /// Where it belongs below the output folder: see [`EpisodeDocument::path`],
    /// [`SessionDocument::path`] and [`DesyncBundle::path`].
    #[must_use]
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Episode(document) => document.path(),
            Self::Session(document) => document.path(),
            Self::Desync(bundle) => bundle.path(),
        }
    }

    /// The bytes of the file.
    ///
    /// # Errors
    /// When an annotation or event of the game cannot be serialized.
    pub fn to_bytes(&self) -> serde_json::Result<Vec<u8>> {
        let mut bytes = match self {
            Self::Episode(document) => serde_json::to_vec(&**document),
            Self::Session(document) => serde_json::to_vec(&**document),
            Self::Desync(bundle) => serde_json::to_vec(&**bundle),
        }?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

/// Why the output folder cannot be used, reported before the match starts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// It cannot be made, or nothing can be written into it.
    #[error("output folder {} cannot be written: {source}; choose another `export_dir`", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The writer thread could not be started.
    #[error("writer thread could not be started: {0}")]
    Thread(#[source] std::io::Error),
}

/// Why a document was not written.
///
/// It is kept in memory until [`RecordSink::retry`] succeeds.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// It could not be serialized: an annotation, an event or an input of the game is no JSON.
    #[error("{} could not be serialized: {source}", path.display())]
    Serialize {
        /// Where its file should be.
        path: PathBuf,
        /// The serializer's error.
        source: Arc<serde_json::Error>,
    },
    /// It could not be stored.
    #[error(
        "{} could not be written: {source}; it is kept in memory, make room and call `RecordSink::retry`",
        path.display()
    )]
    Store {
        /// Where its file should be.
        path: PathBuf,
        /// The storage's error.
        source: Arc<std::io::Error>,
    },
}

impl WriteError {
    /// Where the file should be.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Serialize { path, .. } | Self::Store { path, .. } => path,
        }
    }
}

/// The outcome of writing a document.
#[derive(Clone, Debug)]
pub enum SinkEvent {
    /// The file is there, whole.
    Written {
        /// Where.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// It is not.
    Failed(WriteError),
}

/// Takes documents and writes them, in the order in which they come.
///
/// Dropping it waits until every document is written or has failed.
#[derive(Resource)]
pub struct RecordSink {
    backend: Backend,
    folder: Option<PathBuf>,
    events: Vec<SinkEvent>,
    /// Jobs whose outcome is still to come.
    waiting: usize,
    kept: usize,
}

enum Backend {
    Inline(Writer),
    #[cfg(not(target_arch = "wasm32"))]
    Thread(thread::Thread),
}

enum Job {
    Write(Document),
    Secure(Document),
    Supersede { old: PathBuf, by: Document },
    Retry,
}

/// The outcome of one job.
struct Outcome {
    events: Vec<SinkEvent>,
    /// Documents kept in memory afterwards.
    kept: usize,
}

impl RecordSink {
    /// A sink that writes below `folder`, from a thread of its own. The folder is made and tried
    /// with a small file now, so that an unwritable folder is known before the match.
    ///
    /// # Errors
    /// [`SinkError`] naming the folder and the cause.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, SinkError> {
        let folder = folder.into();
        let storage = FolderStorage::probed(&folder).map_err(|source| SinkError::Folder {
            folder: folder.clone(),
            source,
        })?;
        let mut sink = Self::with_storage(Box::new(storage))?;
        sink.folder = Some(folder);
        Ok(sink)
    }

    /// A sink that writes to any storage, from a thread of its own.
    ///
    /// # Errors
    /// [`SinkError::Thread`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn with_storage(storage: Box<dyn Storage>) -> Result<Self, SinkError> {
        let thread = thread::Thread::start(Writer::new(storage)).map_err(SinkError::Thread)?;
        Ok(Self::new(Backend::Thread(thread)))
    }

    /// A sink that keeps its files in memory; see [`files`](Self::files).
    #[must_use]
    pub fn in_memory() -> Self {
        Self::new(Backend::Inline(Writer::new(
            Box::<storage::MemoryStorage>::default(),
        )))
    }

    fn new(backend: Backend) -> Self {
        Self {
            backend,
            folder: None,
            events: Vec::new(),
            waiting: 0,
            kept: 0,
        }
    }

    /// The output folder. `None` for any other storage.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Queues a document. Its outcome comes out of [`poll`](Self::poll).
    pub fn write(&mut self, document: impl Into<Document>) {
        self.queue(Job::Write(document.into()));
    }

    /// Writes a document that [`write`](Self::write) completes soon, so that a crash until then loses
    /// only what is still to come. It has no outcome of its own: the complete one has. A sink in
    /// memory does not outlive a crash, so there the document is not even built.
    pub fn secure<D: Into<Document>>(&mut self, document: impl FnOnce() -> Option<D>) {
        if matches!(self.backend, Backend::Inline(_)) {
            return;
        }
        if let Some(document) = document() {
            self.queue(Job::Secure(document.into()));
        }
    }

    /// Writes a document that replaces the one at `old` (relative, as
    /// [`Document::path`] names it), which is removed once the new one is there.
    pub fn supersede(&mut self, old: PathBuf, document: impl Into<Document>) {
        self.queue(Job::Supersede {
            old,
            by: document.into(),
        });
    }

    /// Tries again what could not be written, for example after space was made on the disk. Each of
    /// these documents has an outcome again.
    pub fn retry(&mut self) {
        self.queue(Job::Retry);
    }

    /// The outcomes since the last call. Does not wait.
    pub fn poll(&mut self) -> Vec<SinkEvent> {
        // Nearly always so, and this is asked in every update.
        if self.is_quiet() {
            return Vec::new();
        }
        #[cfg(not(target_arch = "wasm32"))]
        if let Backend::Thread(thread) = &self.backend {
            let outcomes: Vec<_> = thread.try_outcomes().collect();
            outcomes
                .into_iter()
                .for_each(|outcome| self.record(outcome));
        }
        std::mem::take(&mut self.events)
    }

    /// Waits until every document is written or has failed, at most for `limit`. For the end of the
    /// app, not for a frame.
    pub fn flush(&mut self, limit: Duration) -> Vec<SinkEvent> {
        #[cfg(not(target_arch = "wasm32"))]
        {
            let until = std::time::Instant::now() + limit;
            while self.waiting > 0 {
                let left = until.saturating_duration_since(std::time::Instant::now());
                let Backend::Thread(thread) = &self.backend else {
                    break;
                };
                let Some(outcome) = thread.outcome_within(left) else {
                    break;
                };
                self.record(outcome);
            }
        }
        #[cfg(target_arch = "wasm32")]
        let _ = limit;
        self.poll()
    }

    /// Whether nothing is on its way and no outcome is left to poll.
    pub(super) fn is_quiet(&self) -> bool {
        self.waiting == 0 && self.events.is_empty()
    }

    /// Whether every document has its outcome.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.waiting == 0
    }

    /// Documents that could not be written and are kept in memory, as of the last
    /// [`poll`](Self::poll).
    #[must_use]
    pub fn kept(&self) -> usize {
        self.kept
    }

    /// The files of a sink [in memory](Self::in_memory), by path. Empty for any other.
    #[must_use]
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        match &self.backend {
            Backend::Inline(writer) => writer.storage.files(),
            #[cfg(not(target_arch = "wasm32"))]
            Backend::Thread(_) => BTreeMap::new(),
        }
    }

    fn queue(&mut self, job: Job) {
        self.waiting += 1;
        match &mut self.backend {
            Backend::Inline(writer) => {
                let outcome = writer.process(job);
                self.record(outcome);
            }
            #[cfg(not(target_arch = "wasm32"))]
            Backend::Thread(thread) => thread.send(job),
        }
    }

    fn record(&mut self, outcome: Outcome) {
        self.waiting = self.waiting.saturating_sub(1);
        self.kept = outcome.kept;
        self.events.extend(outcome.events);
    }
}

/// Serializes, stores, and keeps what could not be stored.
struct Writer {
    storage: Box<dyn Storage>,
    kept: Vec<Document>,
}

impl Writer {
    fn new(storage: Box<dyn Storage>) -> Self {
        Self {
            storage,
            kept: Vec::new(),
        }
    }

    fn process(&mut self, job: Job) -> Outcome {
        let todo = match job {
            Job::Write(document) => vec![document],
            Job::Secure(document) => {
                if let Err(error) = self.store(&document) {
                    bevy::log::warn!("a document is not secured before it is complete: {error}");
                }
                return Outcome {
                    events: Vec::new(),
                    kept: self.kept.len(),
                };
            }
            Job::Supersede { old, by } => {
                let event = self.write(by);
                if matches!(event, SinkEvent::Written { .. }) {
                    self.storage.remove(&old);
                }
                return Outcome {
                    events: vec![event],
                    kept: self.kept.len(),
                };
            }
            Job::Retry => std::mem::take(&mut self.kept),
        };
        let events = todo
            .into_iter()
            .map(|document| self.write(document))
            .collect();
        Outcome {
            events,
            kept: self.kept.len(),
        }
    }

    fn write(&mut self, document: Document) -> SinkEvent {
        let path = document.path();
        // A newer version of a file takes the place of one that could not be written.
        self.kept.retain(|kept| kept.path() != path);
        match self.store(&document) {
            Ok((path, bytes)) => SinkEvent::Written { path, bytes },
            Err(error) => {
                self.kept.push(document);
                SinkEvent::Failed(error)
            }
        }
    }

    /// Where the file is now, and its size.
    fn store(&mut self, document: &Document) -> Result<(PathBuf, u64), WriteError> {
        let path = document.path();
        let bytes = document
            .to_bytes()
            .map_err(|source| WriteError::Serialize {
                path: self.storage.locate(&path),
                source: Arc::new(source),
            })?;
        match self.storage.store(&path, &bytes) {
            Ok(path) => Ok((path, bytes.len() as u64)),
            Err(source) => Err(WriteError::Store {
                path: self.storage.locate(&path),
                source: Arc::new(source),
            }),
        }
    }
}
