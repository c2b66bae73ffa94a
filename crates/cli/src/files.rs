//! Finds the files that a command works on. Folders are searched, the head of every file is read
//! once, and the files of one episode become one group, so that a command holds one group in memory
//! at a time.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use rollback_lab_record::desync::DESYNC_SCHEMA;
use rollback_lab_record::{
    DocumentError, EPISODE_SCHEMA, EpisodeDocument, SESSION_SCHEMA, SessionDocument,
};
use serde::Deserialize;

use crate::error::{CommandError, FileError, LeftOut};

/// How often a progress bar is redrawn while a single file takes long.
const TICK: Duration = Duration::from_millis(200);

/// The files under the given paths.
#[derive(Default)]
pub(crate) struct FoundFiles {
    /// Session and episode files.
    pub groups: Vec<FileGroup>,
    /// Halves of desyncs.
    pub desyncs: Vec<DesyncFile>,
    /// Files that cannot be read as documents.
    pub unreadable: Vec<LeftOut>,
    /// JSON documents of other kinds that lie in a searched folder.
    pub foreign: Vec<PathBuf>,
}

/// One peer's half of a desync.
pub(crate) struct DesyncFile {
    pub path: PathBuf,
    /// Whether it was given itself, and not found in a folder.
    given: bool,
}

/// The files of one episode, or the session documents of one lab session.
pub(crate) struct FileGroup {
    pub session_id: String,
    /// `None` for session documents, which come before the session's episodes.
    pub episode: Option<u32>,
    /// Ordered by player.
    pub files: Vec<PathBuf>,
}

/// Session, and episode unless it is the session's own document.
type GroupKey = (String, Option<u32>);

/// The fields of a document that say where it belongs.
#[derive(Deserialize)]
struct DocumentHead {
    schema: HeadSchema,
    session: Option<HeadSession>,
    episode: Option<HeadEpisode>,
}

#[derive(Deserialize)]
struct HeadSchema {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HeadSession {
    session_id: String,
    local_player_id: Option<usize>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HeadEpisode {
    episode_num: u32,
}

impl FoundFiles {
    /// How many files are read as documents.
    pub(crate) fn files(&self) -> usize {
        let grouped: usize = self.groups.iter().map(|group| group.files.len()).sum();
        grouped + self.desyncs.len()
    }
}

/// The groups that are episodes.
pub(crate) fn episodes(groups: &[FileGroup]) -> impl Iterator<Item = &FileGroup> {
    groups.iter().filter(|group| group.episode.is_some())
}

/// Finds the files of a command that does not read halves of desyncs.
///
/// # Errors
/// As [`find`].
pub(crate) fn find_episodes(paths: &[PathBuf]) -> Result<FoundFiles, CommandError> {
    let mut found = find(paths)?;
    for DesyncFile { path, given } in found.desyncs.drain(..) {
        if given {
            let why = FileError::OtherSchema(DESYNC_SCHEMA.to_owned());
            found.unreadable.push(LeftOut { path, why });
        } else {
            found.foreign.push(path);
        }
    }
    Ok(found)
}

/// Searches folders for `*.json`, and takes files that are given whatever their names.
///
/// # Errors
/// When a path does not exist or a folder cannot be listed.
pub(crate) fn find(paths: &[PathBuf]) -> Result<FoundFiles, CommandError> {
    let mut files = Vec::new();
    for path in paths {
        let given = path.is_file();
        collect(path, given, &mut files).map_err(|(path, source)| CommandError::Read {
            path,
            source: source.into(),
        })?;
    }
    files.sort();
    files.dedup_by(|a, b| a.0 == b.0);
    let bar = progress("reading heads", files.len());
    let mut found = FoundFiles::default();
    let mut groups: BTreeMap<GroupKey, Vec<(Option<usize>, PathBuf)>> = BTreeMap::new();
    for (path, given) in files {
        match head(&path).and_then(place) {
            Ok(Placement::Group(key, player)) => {
                groups.entry(key).or_default().push((player, path));
            }
            Ok(Placement::Desync) => found.desyncs.push(DesyncFile { path, given }),
            Err(FileError::OtherSchema(_)) if !given => found.foreign.push(path),
            Err(why) => found.unreadable.push(LeftOut { path, why }),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    found.groups = groups
        .into_iter()
        .map(|((session_id, episode), mut files)| {
            files.sort();
            FileGroup {
                session_id,
                episode,
                files: files.into_iter().map(|(_, path)| path).collect(),
            }
        })
        .collect();
    Ok(found)
}

fn collect(
    path: &Path,
    given: bool,
    into: &mut Vec<(PathBuf, bool)>,
) -> Result<(), (PathBuf, io::Error)> {
    let at = |error: io::Error| (path.to_owned(), error);
    if !fs::metadata(path).map_err(at)?.is_dir() {
        if given || path.extension().is_some_and(|ending| ending == "json") {
            into.push((path.to_owned(), given));
        }
        return Ok(());
    }
    for entry in fs::read_dir(path).map_err(at)? {
        let entry = entry.map_err(at)?;
        // A link inside a folder may lead back to it.
        if !entry.file_type().map_err(at)?.is_symlink() {
            collect(&entry.path(), false, into)?;
        }
    }
    Ok(())
}

fn head(path: &Path) -> Result<DocumentHead, FileError> {
    let bytes = fs::read(path)?;
    let head = serde_json::from_slice(&bytes).map_err(DocumentError::NotADocument)?;
    Ok(head)
}

/// Where a document belongs.
enum Placement {
    /// To a session and an episode of it, as the file of that player.
    Group(GroupKey, Option<usize>),
    /// Among the halves of desyncs.
    Desync,
}

fn place(head: DocumentHead) -> Result<Placement, FileError> {
    let number = head.episode.map(|episode| episode.episode_num);
    match (head.schema.name.as_str(), head.session, number) {
        (SESSION_SCHEMA, Some(session), _) => Ok(Placement::Group(
            (session.session_id, None),
            session.local_player_id,
        )),
        (EPISODE_SCHEMA, Some(session), Some(number)) => Ok(Placement::Group(
            (session.session_id, Some(number)),
            session.local_player_id,
        )),
        (SESSION_SCHEMA | EPISODE_SCHEMA, ..) => Err(FileError::Unplaced),
        (DESYNC_SCHEMA, ..) => Ok(Placement::Desync),
        _ => Err(FileError::OtherSchema(head.schema.name)),
    }
}

/// Reads an episode file.
///
/// # Errors
/// When it cannot be read or is not one.
pub(crate) fn read_episode(path: &Path) -> Result<EpisodeDocument, FileError> {
    Ok(EpisodeDocument::parse(&fs::read_to_string(path)?)?)
}

/// Reads a session file.
///
/// # Errors
/// When it cannot be read or is not one.
pub(crate) fn read_session(path: &Path) -> Result<SessionDocument, FileError> {
    Ok(SessionDocument::parse(&fs::read_to_string(path)?)?)
}

/// A progress bar on stderr; it is not drawn if stderr is not a terminal.
pub(crate) fn progress(what: &'static str, files: usize) -> ProgressBar {
    let bar = ProgressBar::new(files as u64).with_message(what);
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:40} {pos}/{len} files, {eta} left")
    {
        bar.set_style(style);
    }
    bar.enable_steady_tick(TICK);
    bar
}
