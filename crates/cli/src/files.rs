//! Owns finding files: folders are searched, every file's head is read once, and what belongs to
//! one episode becomes one group, so that a command holds no more than one group in memory.
//! Never judges a file's content.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use rollback_lab_record::desync::DESYNC_SCHEMA;
use rollback_lab_record::{
    DocumentError, EPISODE_SCHEMA, EpisodeDocument, SESSION_SCHEMA, SessionDocument,
};
use serde::Deserialize;

/// How often a progress bar moves when nothing else moves it.
const TICK: Duration = Duration::from_millis(200);

/// What was found, by session and episode.
#[derive(Default)]
pub(crate) struct Found {
    pub groups: Vec<Group>,
    /// Halves of desyncs.
    pub bundles: Vec<Bundle>,
    /// Files that cannot be read as documents, with the reason.
    pub unreadable: Vec<(PathBuf, String)>,
    /// JSON documents of another kind, which folders may hold.
    pub foreign: Vec<PathBuf>,
}

/// One peer's half of a desync.
pub(crate) struct Bundle {
    pub path: PathBuf,
    /// It was named itself, and not found in a folder.
    named: bool,
}

/// The files of one episode, or the session documents of one lab session.
pub(crate) struct Group {
    pub session_id: String,
    /// `None` for session documents, which come before the session's episodes.
    pub episode: Option<u32>,
    /// Ordered by player.
    pub files: Vec<PathBuf>,
}

/// Session, and episode unless it is the session's own document.
type Key = (String, Option<u32>);

/// What of a document says where it belongs.
#[derive(Deserialize)]
struct Head {
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

impl Found {
    /// Files that are read as documents.
    pub(crate) fn files(&self) -> usize {
        let grouped: usize = self.groups.iter().map(|group| group.files.len()).sum();
        grouped + self.bundles.len()
    }

    /// The groups of episodes.
    pub(crate) fn episodes(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().filter(|group| group.episode.is_some())
    }
}

/// The same for a command that has no use for halves of desyncs.
///
/// # Errors
/// As [`find`].
pub(crate) fn find_episodes(paths: &[PathBuf]) -> Result<Found, String> {
    let mut found = find(paths)?;
    for Bundle { path, named } in found.bundles.drain(..) {
        if named {
            found.unreadable.push((path, neither(DESYNC_SCHEMA)));
        } else {
            found.foreign.push(path);
        }
    }
    Ok(found)
}

fn neither(schema: &str) -> String {
    format!("schema {schema} is neither an episode nor a session")
}

/// Searches folders for `*.json` and takes files as they are.
///
/// # Errors
/// A path that is not there, or a folder that cannot be listed.
pub(crate) fn find(paths: &[PathBuf]) -> Result<Found, String> {
    let mut files = Vec::new();
    for path in paths {
        let named = path.is_file();
        collect(path, named, &mut files)?;
    }
    files.sort();
    files.dedup_by(|a, b| a.0 == b.0);
    let bar = progress("reading heads", files.len());
    let mut found = Found::default();
    let mut groups: BTreeMap<Key, Vec<(Option<usize>, PathBuf)>> = BTreeMap::new();
    for (path, named) in files {
        match head(&path) {
            Ok(head) => match place(&head) {
                Place::Group(key) => {
                    let player = head.session.and_then(|session| session.local_player_id);
                    groups.entry(key).or_default().push((player, path));
                }
                Place::Nowhere => {
                    let why = "names no session or no episode number";
                    found.unreadable.push((path, why.to_owned()));
                }
                Place::Bundle => found.bundles.push(Bundle { path, named }),
                Place::Foreign if named => {
                    found.unreadable.push((path, neither(&head.schema.name)));
                }
                Place::Foreign => found.foreign.push(path),
            },
            Err(why) => found.unreadable.push((path, why)),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    found.groups = groups
        .into_iter()
        .map(|((session_id, episode), mut files)| {
            files.sort();
            Group {
                session_id,
                episode,
                files: files.into_iter().map(|(_, path)| path).collect(),
            }
        })
        .collect();
    Ok(found)
}

fn collect(path: &Path, named: bool, into: &mut Vec<(PathBuf, bool)>) -> Result<(), String> {
    let say = |error: std::io::Error| format!("{}: {error}", path.display());
    if !fs::metadata(path).map_err(say)?.is_dir() {
        if named || path.extension().is_some_and(|ending| ending == "json") {
            into.push((path.to_owned(), named));
        }
        return Ok(());
    }
    for entry in fs::read_dir(path).map_err(say)? {
        let entry = entry.map_err(say)?;
        // A link inside a folder may lead back to it.
        if !entry.file_type().map_err(say)?.is_symlink() {
            collect(&entry.path(), false, into)?;
        }
    }
    Ok(())
}

fn head(path: &Path) -> Result<Head, String> {
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    serde_json::from_slice(&bytes).map_err(|error| DocumentError::NotADocument(error).to_string())
}

/// Where a document belongs.
enum Place {
    /// To a session, and an episode of it.
    Group(Key),
    /// Among the halves of desyncs.
    Bundle,
    /// It is one of ours, and does not say.
    Nowhere,
    /// It is none of ours.
    Foreign,
}

fn place(head: &Head) -> Place {
    let session = head
        .session
        .as_ref()
        .map(|session| session.session_id.clone());
    let number = head.episode.as_ref().map(|episode| episode.episode_num);
    match (head.schema.name.as_str(), session, number) {
        (SESSION_SCHEMA, Some(session), _) => Place::Group((session, None)),
        (EPISODE_SCHEMA, Some(session), Some(number)) => Place::Group((session, Some(number))),
        (SESSION_SCHEMA | EPISODE_SCHEMA, ..) => Place::Nowhere,
        (DESYNC_SCHEMA, ..) => Place::Bundle,
        _ => Place::Foreign,
    }
}

/// Reads an episode file.
///
/// # Errors
/// What is wrong with it, without its name.
pub(crate) fn read_episode(path: &Path) -> Result<EpisodeDocument, String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    EpisodeDocument::parse(&text).map_err(|error| error.to_string())
}

/// Reads a session file.
///
/// # Errors
/// What is wrong with it, without its name.
pub(crate) fn read_session(path: &Path) -> Result<SessionDocument, String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    SessionDocument::parse(&text).map_err(|error| error.to_string())
}

/// A bar on stderr; it is not drawn where stderr is no terminal.
pub(crate) fn progress(what: &'static str, files: usize) -> ProgressBar {
    let bar = ProgressBar::new(files as u64).with_message(what);
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:40} {pos}/{len} files, {eta} left")
    {
        bar.set_style(style);
    }
    bar.enable_steady_tick(TICK);
    bar
}
