//! Where files go: a folder, or memory. A file is there whole or not at all.

use std::collections::BTreeMap;
#[cfg(not(target_arch = "wasm32"))]
use std::fs::{self, File};
use std::io;
#[cfg(not(target_arch = "wasm32"))]
use std::io::Write;
use std::path::{Path, PathBuf};
#[cfg(not(target_arch = "wasm32"))]
use std::sync::atomic::{AtomicU64, Ordering};

/// A place for whole files.
pub trait Storage: Send + Sync {
    /// Stores a file under a relative path, replacing an older one, and returns where it is.
    ///
    /// # Errors
    /// When it could not be stored; then no part of it is there, and an older one is as it was.
    fn store(&mut self, path: &Path, bytes: &[u8]) -> io::Result<PathBuf>;

    /// Removes a superseded file, and its folder if that is empty then. One that is not there is no
    /// error; a storage that cannot remove keeps it.
    fn remove(&mut self, path: &Path) {
        let _kept = path;
    }

    /// Where a file of this relative path belongs.
    fn locate(&self, path: &Path) -> PathBuf {
        path.to_owned()
    }

    /// The files, if the storage is memory.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        BTreeMap::new()
    }
}

/// Files in memory.
#[derive(Default)]
pub(super) struct MemoryStorage {
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Storage for MemoryStorage {
    fn store(&mut self, path: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
        self.files.insert(path.to_owned(), bytes.to_owned());
        Ok(path.to_owned())
    }

    fn remove(&mut self, path: &Path) {
        self.files.remove(path);
    }

    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        self.files.clone()
    }
}

/// Files below a folder: written under a temporary name, forced to the disk, then renamed.
#[cfg(not(target_arch = "wasm32"))]
pub struct FolderStorage {
    folder: PathBuf,
}

#[cfg(not(target_arch = "wasm32"))]
impl FolderStorage {
    /// Makes the folder and tries it with a small file.
    ///
    /// # Errors
    /// The system's error when it cannot be made or written.
    pub fn probed(folder: impl Into<PathBuf>) -> io::Result<Self> {
        let folder = folder.into();
        fs::create_dir_all(&folder)?;
        let probe = temporary(&folder.join("probe"));
        write_and_sync(&probe, b"probe")
            .and_then(|()| fs::remove_file(&probe))
            .inspect_err(|_| {
                // Best effort: the failure itself is returned, and an empty probe does no harm.
                let _ = fs::remove_file(&probe);
            })?;
        Ok(Self { folder })
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl Storage for FolderStorage {
    fn store(&mut self, path: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
        let target = self.locate(path);
        let parent = target.parent().unwrap_or(&self.folder);
        fs::create_dir_all(parent)?;
        let half = temporary(&target);
        let stored = write_and_sync(&half, bytes).and_then(|()| fs::rename(&half, &target));
        if let Err(error) = stored {
            // Best effort: what stays behind has a temporary name and is no record.
            let _ = fs::remove_file(&half);
            return Err(error);
        }
        sync_folder(parent);
        Ok(target)
    }

    fn remove(&mut self, path: &Path) {
        let target = self.locate(path);
        // Only superseded files are removed: one that stays behind repeats what is known.
        let _ = fs::remove_file(&target);
        if let Some(parent) = target.parent() {
            // Fails, as it should, while other files are in the folder.
            let _ = fs::remove_dir(parent);
        }
    }

    fn locate(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }
}

/// A unique name beside the target: peers on one machine, or in one process, share the folder.
#[cfg(not(target_arch = "wasm32"))]
fn temporary(target: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    target.with_file_name(format!(".{name}.{}-{count}.tmp", std::process::id()))
}

#[cfg(not(target_arch = "wasm32"))]
fn write_and_sync(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes the rename itself survive a power cut, where the system can. The file is whole either
/// way, hence no error.
#[cfg(not(target_arch = "wasm32"))]
fn sync_folder(folder: &Path) {
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
}
