//! Files of a session on disk: an exit during an episode, an unwritable folder, a full disk.

use std::io;
use std::path::{Path as FilePath, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use bevy_rollback_lab::internals::sink::Storage;

use super::*;

#[test]
fn an_app_that_exits_mid_episode_has_written_its_file() {
    let folder = Folder::new("exit");
    let network = VirtualNetwork::new(2, true);
    let mut peers = vec![
        peer(&network, config().export_dir(&folder.0), 1),
        peer(&network, config(), 2),
    ];
    until_frame(&mut peers, 60);
    peers[0].app.world_mut().write_message(AppExit::Success);
    peers[0].step(frame(60));
    drop(peers);
    let written: Vec<_> = folder.files();
    let episode = written
        .iter()
        .find(|path| path.ends_with("episode-0.player-0.json"))
        .expect("the episode is on disk when the last update is over");
    let document = EpisodeDocument::parse(&std::fs::read_to_string(episode).unwrap()).unwrap();
    assert!(document.episode.is_partial);
    assert_eq!(document.episode.end_reason, Some(EndReason::LocalQuit));
    assert_eq!(check_episode(&document), []);
}

#[test]
fn an_unwritable_folder_is_refused_when_the_plugin_is_added() {
    // A file in the place of the folder: not even root can write below it.
    let folder = Folder::new("unwritable");
    let in_the_way = folder.0.join("taken");
    std::fs::write(&in_the_way, b"not a folder").unwrap();
    let export_dir = in_the_way.join("exports");
    let lab = LabConfig::new("ws://127.0.0.1:1", "room").export_dir(&export_dir);
    let refused = std::panic::catch_unwind(|| {
        let mut app = App::new();
        app.add_plugins((MinimalPlugins, StatesPlugin))
            .add_plugins(RollbackLabPlugins::<TestConfig>::new(lab));
    })
    .expect_err("the plugin refuses the folder");
    let text = refused.downcast_ref::<String>().expect("a message");
    assert!(text.contains(&export_dir.display().to_string()), "{text}");
    assert!(text.contains("cannot be written"), "{text}");
}

/// Path and content.
type StoredFile = (PathBuf, Vec<u8>);

/// A disk that is full until `has_space` is set.
#[derive(Clone, Default)]
struct Disk {
    has_space: Arc<AtomicBool>,
    files: Arc<Mutex<Vec<StoredFile>>>,
}

impl Storage for Disk {
    fn store(&mut self, path: &FilePath, bytes: &[u8]) -> io::Result<PathBuf> {
        if !self.has_space.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut files = self.files.lock().unwrap();
        files.push((path.to_owned(), bytes.to_vec()));
        Ok(path.to_owned())
    }

    fn remove(&mut self, path: &FilePath) {
        self.files
            .lock()
            .unwrap()
            .retain(|(known, _)| known != path);
    }
}

#[test]
fn a_full_disk_keeps_the_episode_in_memory_until_retried() {
    let disk = Disk::default();
    let network = VirtualNetwork::new(2, true);
    let short = || config().frame_limit(60);
    let mut peers = vec![peer(&network, short(), 1), peer(&network, short(), 2)];
    let sink = RecordSink::with_storage(Box::new(disk.clone())).unwrap();
    let outcomes: Arc<Mutex<Vec<Result<PathBuf, WriteError>>>> = Arc::default();
    let kept = outcomes.clone();
    peers[0]
        .app
        .insert_resource(sink)
        .add_observer(move |ended: On<EpisodeEnded>| {
            kept.lock().unwrap().push(ended.file.clone());
        });
    let ended = run_until(&mut peers, frame(60), 5_000, |_| {
        std::thread::yield_now();
        !outcomes.lock().unwrap().is_empty()
    });
    assert!(
        ended,
        "the end of the episode is emitted although its file is not written"
    );
    let error = outcomes.lock().unwrap()[0].clone().unwrap_err().to_string();
    assert!(error.contains("kept in memory"), "{error}");
    assert!(error.contains("RecordSink::retry"), "{error}");
    assert!(disk.files.lock().unwrap().is_empty());

    disk.has_space.store(true, Ordering::Relaxed);
    let mut sink = peers[0].app.world_mut().resource_mut::<RecordSink>();
    sink.retry();
    sink.flush(Duration::from_secs(10));
    assert_eq!(sink.kept(), 0);
    let files = disk.files.lock().unwrap();
    let (_, bytes) = files
        .iter()
        .find(|(path, _)| path.ends_with("episode-0.player-0.json"))
        .expect("the episode is written after the retry");
    let document = EpisodeDocument::parse(std::str::from_utf8(bytes).unwrap()).unwrap();
    assert_eq!(document.episode.end_frame, 60);
    assert_eq!(check_episode(&document), []);
}

/// A temporary folder of one test, removed when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("rollback-lab-errors-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Every file in it and below.
    fn files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.0.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.push(path);
                }
            }
        }
        found
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A leftover folder is harmless.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
