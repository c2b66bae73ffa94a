//! `rollback-lab merge`: one document per episode from the files of all its peers, with every time
//! on one clock and the causes of rollbacks decided with the sender's file at hand.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use rollback_lab_record::merge::{ClockMethod, MergedEpisode, merge as merge_files};

use crate::error::{CommandError, FileError, LeftOut, none_left_out};
use crate::files::{self, FileGroup};

#[derive(Args)]
pub(crate) struct MergeOptions {
    /// Episode files, or folders that are searched for them
    #[arg(required = true, value_name = "DIR|FILE")]
    paths: Vec<PathBuf>,
    /// Folder of the merged documents, `<sessionId>/episode-<n>.merged.json`; it is created
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Writes one document per episode and prints one line for each.
///
/// # Errors
/// When a document cannot be written; or, after all others were written, with the files that could
/// not be read or merged.
pub(crate) fn merge(options: &MergeOptions) -> Result<(), CommandError> {
    let found = files::find_episodes(&options.paths)?;
    let bar = files::progress("merging", found.files());
    let mut left_out = found.unreadable;
    for group in files::episodes(&found.groups) {
        match merged(group) {
            Ok(document) => {
                let path = write(&options.out, group, &document)?;
                bar.suspend(|| println!("{}: {}", path.display(), summary(&document)));
            }
            Err(why) => left_out.push(why),
        }
        bar.inc(group.files.len() as u64);
    }
    bar.finish_and_clear();
    none_left_out(left_out, "merged")
}

/// Merges the files of one episode.
///
/// # Errors
/// The file that cannot be read; the first one if they cannot be merged.
pub(crate) fn merged(group: &FileGroup) -> Result<MergedEpisode, LeftOut> {
    let mut documents = Vec::new();
    for path in &group.files {
        let document = files::read_episode(path);
        documents.push(document.map_err(|why| LeftOut {
            path: path.clone(),
            why,
        })?);
    }
    merge_files(&documents).map_err(|error| LeftOut {
        path: group.files.first().cloned().unwrap_or_default(),
        why: FileError::Merge(error.into()),
    })
}

fn write(out: &Path, group: &FileGroup, document: &MergedEpisode) -> Result<PathBuf, CommandError> {
    let folder = out.join(folder_name(&group.session_id));
    let number = group.episode.unwrap_or_default();
    let path = folder.join(format!("episode-{number}.merged.json"));
    let write = || -> io::Result<()> {
        fs::create_dir_all(&folder)?;
        let part = path.with_extension("part");
        fs::write(&part, serde_json::to_vec(document)?)?;
        fs::rename(&part, &path)
    };
    match write() {
        Ok(()) => Ok(path),
        Err(source) => Err(CommandError::Write { path, source }),
    }
}

/// A session's id as the name of a folder: a file may contain any text as its id, `../..` too.
fn folder_name(session_id: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    session_id
        .chars()
        .map(|c| if allowed(c) { c } else { '_' })
        .collect()
}

fn summary(document: &MergedEpisode) -> String {
    let clocks: Vec<String> = document
        .clock
        .peers
        .iter()
        .filter(|peer| peer.method != ClockMethod::Reference)
        .map(|peer| {
            let method = match peer.method {
                ClockMethod::Exchange => "exchanged timestamps",
                ClockMethod::InputOrder => "order of inputs",
                ClockMethod::WallClock | ClockMethod::Reference => "wall clock",
            };
            let uncertainty = peer.uncertainty_us.map_or_else(
                || String::from("by an unknown error"),
                |us| format!("+-{:.1} ms", us as f64 / 1000.0),
            );
            let offset = peer.offset_us as f64 / 1000.0;
            format!(
                "player {}: {offset:+.1} ms {uncertainty} ({method})",
                peer.player_id
            )
        })
        .collect();
    let agreement = if document.agreement.agrees {
        "agree"
    } else {
        "DO NOT AGREE"
    };
    let peers = match document.peers.len() {
        1 => String::from("one file"),
        files => format!("{files} files, which {agreement}"),
    };
    let clocks = match clocks.is_empty() {
        true => String::from("one clock"),
        false => clocks.join(", "),
    };
    format!("{peers}, {} rollbacks; {clocks}", document.rollbacks.len())
}
