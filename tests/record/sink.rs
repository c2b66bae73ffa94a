//! Writing files: complete files from a thread, folders checked at the start, documents kept while
//! a disk is full.
#![expect(clippy::unwrap_used, reason = "helpers of a test fail by panicking")]

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bevy_rollback_lab::internals::sink::{Document, FolderStorage, RecordSink, SinkEvent, Storage};
use bevy_rollback_lab::record::{EpisodeDocument, SessionDocument, SessionMeta};
use rollback_lab_test_kit::recorded;

/// Far longer than a write takes.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A temporary folder of one test, removed when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("record-sink-{name}-{}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn files(&self) -> Vec<String> {
        fn walk(folder: &Path, files: &mut Vec<String>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, files);
                } else {
                    files.push(path.file_name().unwrap().to_string_lossy().into_owned());
                }
            }
        }
        let mut files = Vec::new();
        walk(&self.0, &mut files);
        files.sort();
        files
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn episode() -> EpisodeDocument {
    recorded::finished(&recorded::Plan::default())
        .export()
        .unwrap()
}

fn session(waited_ms: f64) -> SessionDocument {
    let session = SessionMeta {
        session_id: "00c0ffee".to_owned(),
        local_player_id: Some(0),
        ..SessionMeta::default()
    };
    SessionDocument {
        waited_ms: Some(waited_ms),
        ..SessionDocument::new(Default::default(), session, 1)
    }
}

#[test]
fn an_episode_is_written_to_the_folder_of_its_session() {
    let folder = Folder::new("whole");
    let mut sink = RecordSink::open(&folder.0).unwrap();
    let document = episode();
    sink.write(document.clone());
    sink.write(session(1.0));
    let events = sink.flush(TIMEOUT);
    let path = folder.0.join("00c0ffee/episode-0.player-0.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let bytes = text.len() as u64;
    let SinkEvent::Written {
        path: written,
        bytes: size,
    } = &events[0]
    else {
        panic!("{events:?}");
    };
    assert_eq!((written, *size), (&path, bytes));
    assert_eq!(EpisodeDocument::parse(&text).unwrap(), document);
    assert_eq!(
        folder.files(),
        ["episode-0.player-0.json", "session.player-0.json"],
        "no temporary file is left",
    );
}

#[test]
fn dropping_the_sink_writes_pending_files() {
    let folder = Folder::new("dropped");
    let mut sink = RecordSink::open(&folder.0).unwrap();
    sink.write(episode());
    drop(sink);
    assert_eq!(folder.files(), ["episode-0.player-0.json"]);
}

#[test]
fn two_sinks_of_one_process_share_a_folder() {
    let folder = Folder::new("shared");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| RecordSink::open(&folder.0).map(drop).unwrap());
        }
    });
    assert_eq!(folder.files(), [""; 0]);
}

#[test]
fn a_file_in_place_of_the_folder_is_refused_on_opening() {
    let folder = Folder::new("not-a-folder");
    let path = folder.0.join("exports");
    std::fs::write(&path, "a file").unwrap();
    let error = RecordSink::open(&path).err().unwrap().to_string();
    assert!(
        error.contains("output folder") && error.contains("exports"),
        "{error}"
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "a file");
}

#[test]
fn a_folder_replaced_by_a_file_keeps_the_document_until_retry() {
    let folder = Folder::new("replaced");
    let out = folder.0.join("out");
    let mut sink = RecordSink::open(&out).unwrap();
    std::fs::remove_dir_all(&out).unwrap();
    std::fs::write(&out, "in the way").unwrap();
    sink.write(episode());
    let events = sink.flush(TIMEOUT);
    let [SinkEvent::Failed(error)] = &events[..] else {
        panic!("{events:?}");
    };
    let path = error.path();
    assert!(
        path.ends_with("00c0ffee/episode-0.player-0.json"),
        "{path:?}"
    );
    assert!(
        error.to_string().contains("RecordSink::retry"),
        "the error names the way to retry: {error}"
    );
    assert_eq!((sink.kept(), sink.is_idle()), (1, true));

    std::fs::remove_file(&out).unwrap();
    sink.retry();
    assert!(matches!(
        &sink.flush(TIMEOUT)[..],
        [SinkEvent::Written { .. }]
    ));
    assert_eq!(sink.kept(), 0);
    assert_eq!(folder.files(), ["episode-0.player-0.json"]);
}

#[test]
fn a_failed_rename_leaves_no_partial_file() {
    let folder = Folder::new("rename");
    let mut storage = FolderStorage::probed(&folder.0).unwrap();
    std::fs::create_dir_all(folder.0.join("taken.json/inside")).unwrap();
    assert!(storage.store(Path::new("taken.json"), b"content").is_err());
    assert_eq!(folder.files(), [""; 0]);
}

/// A disk that is full while the flag is set.
struct Disk {
    full: Arc<AtomicBool>,
    folder: FolderStorage,
}

impl Storage for Disk {
    fn store(&mut self, path: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
        if self.full.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.folder.store(path, bytes)
    }

    fn remove(&mut self, path: &Path) {
        self.folder.remove(path);
    }
}

#[test]
fn a_superseded_session_document_is_replaced_by_its_successor() {
    let folder = Folder::new("superseded");
    let mut sink = RecordSink::open(&folder.0).unwrap();
    let first = Document::from(session(1.0));
    sink.write(first.clone());
    let mut renamed = session(2.0);
    renamed.session.session_id = "known".to_owned();
    let successor = Document::from(renamed);
    sink.supersede(first.path(), successor.clone());
    sink.flush(TIMEOUT);
    assert!(
        !folder.0.join(first.path()).exists(),
        "the old file is removed"
    );
    assert!(
        folder.0.join(successor.path()).exists(),
        "the successor is written"
    );
}

#[test]
fn a_full_disk_loses_nothing_and_the_newest_version_wins() {
    let folder = Folder::new("full");
    let full = Arc::new(AtomicBool::new(true));
    let disk = Disk {
        full: full.clone(),
        folder: FolderStorage::probed(&folder.0).unwrap(),
    };
    let mut sink = RecordSink::with_storage(Box::new(disk)).unwrap();
    sink.write(session(1.0));
    sink.write(episode());
    sink.write(session(2.0));
    let events = sink.flush(TIMEOUT);
    assert!(
        events
            .iter()
            .all(|event| matches!(event, SinkEvent::Failed(_)))
    );
    assert_eq!(
        sink.kept(),
        2,
        "the newer session document replaced the older one"
    );

    sink.retry();
    assert_eq!(sink.flush(TIMEOUT).len(), 2, "still full, both fail again");
    assert_eq!((sink.kept(), folder.files().len()), (2, 0));

    full.store(false, Ordering::Relaxed);
    sink.retry();
    sink.flush(TIMEOUT);
    assert_eq!(sink.kept(), 0);
    let text = std::fs::read_to_string(folder.0.join("00c0ffee/session.player-0.json")).unwrap();
    assert_eq!(SessionDocument::parse(&text).unwrap().waited_ms, Some(2.0));
}

/// Runs one test of this binary again in a process whose files cannot grow beyond 4 KB.
#[cfg(unix)]
fn run_with_small_files(test: &str, folder: &Path) -> std::process::Output {
    std::process::Command::new("sh")
        // With the signal ignored the write fails with an error. The limit counts 512-byte blocks.
        .args(["-c", "trap '' XFSZ && ulimit -f 8 && exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .env("RECORD_SMALL_FILES", folder)
        .output()
        .unwrap()
}

#[cfg(unix)]
#[test]
fn an_interrupted_write_leaves_no_partial_file() {
    let Some(out) = std::env::var_os("RECORD_SMALL_FILES").map(PathBuf::from) else {
        let folder = Folder::new("breaks-off");
        let run = run_with_small_files(
            "sink::an_interrupted_write_leaves_no_partial_file",
            &folder.0,
        );
        assert!(run.status.success(), "{run:?}");
        assert_eq!(folder.files(), [""; 0]);
        assert!(
            folder.0.join("00c0ffee").is_dir(),
            "the write was attempted"
        );
        return;
    };
    let mut sink = RecordSink::open(&out).unwrap();
    sink.write(episode());
    let events = sink.flush(TIMEOUT);
    assert!(matches!(&events[..], [SinkEvent::Failed(_)]), "{events:?}");
    assert_eq!(sink.kept(), 1);
}

#[test]
fn files_in_memory_have_the_same_names_and_bytes() {
    let mut sink = RecordSink::in_memory();
    sink.write(episode());
    assert!(matches!(&sink.poll()[..], [SinkEvent::Written { .. }]));
    let files = sink.files();
    let bytes = &files[Path::new("00c0ffee/episode-0.player-0.json")];
    assert!(EpisodeDocument::parse(std::str::from_utf8(bytes).unwrap()).is_ok());
}

#[test]
fn a_session_id_cannot_leave_the_folder() {
    let mut document = episode();
    document.session.session_id = "../../up/and away".to_owned();
    let mut sink = RecordSink::in_memory();
    sink.write(document);
    let files = sink.files();
    let path = files.keys().next().unwrap();
    assert_eq!(path, Path::new("______up_and_away/episode-0.player-0.json"));
}
