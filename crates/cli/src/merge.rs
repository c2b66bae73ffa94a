//! Owns `rollback-lab merge`: the files of every episode in, one document each out. Never decides
//! how they are merged; that is `record::merge`.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use rollback_lab_record::merge::{ClockMethod, MergedEpisode, merge as merge_files};

use crate::files::{self, Group};

#[derive(Args)]
pub(crate) struct Merge {
    /// Folders, searched for episode files, or such files.
    #[arg(required = true, value_name = "DIR|FILE")]
    paths: Vec<PathBuf>,
    /// Folder of the merged documents: `<sessionId>/episode-<n>.merged.json`.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Writes one document per episode and prints one line for each.
///
/// # Errors
/// After everything else was written, the files that could not be read or merged.
pub(crate) fn merge(options: &Merge) -> Result<(), String> {
    let found = files::find_episodes(&options.paths)?;
    let mut broken: Vec<String> = found
        .unreadable
        .iter()
        .map(|(path, why)| format!("{}: {why}", path.display()))
        .collect();
    let bar = files::progress("merging", found.files());
    for group in found.episodes() {
        match merged(group) {
            Ok(document) => {
                let path = store(&options.out, group, &document)?;
                bar.suspend(|| println!("{}: {}", path.display(), told(&document)));
            }
            Err(why) => broken.push(why),
        }
        bar.inc(group.files.len() as u64);
    }
    bar.finish_and_clear();
    if broken.is_empty() {
        return Ok(());
    }
    Err(format!("not merged:\n  {}", broken.join("\n  ")))
}

/// The merged document of one group.
///
/// # Errors
/// What cannot be read or merged, with the file's name.
pub(crate) fn merged(group: &Group) -> Result<MergedEpisode, String> {
    let mut documents = Vec::new();
    for path in &group.files {
        let document = files::read_episode(path);
        documents.push(document.map_err(|why| format!("{}: {why}", path.display()))?);
    }
    merge_files(&documents).map_err(|error| {
        let first = group.files.first().map(|path| path.display().to_string());
        format!("{}: {error}", first.unwrap_or_default())
    })
}

fn store(out: &Path, group: &Group, document: &MergedEpisode) -> Result<PathBuf, String> {
    let folder = out.join(safe(&group.session_id));
    let number = group.episode.unwrap_or_default();
    let path = folder.join(format!("episode-{number}.merged.json"));
    let write = || -> std::io::Result<()> {
        fs::create_dir_all(&folder)?;
        let part = path.with_extension("part");
        fs::write(&part, serde_json::to_vec(document)?)?;
        fs::rename(&part, &path)
    };
    write().map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}

/// A session's id as the name of a folder, whatever a file says it is.
fn safe(session_id: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    session_id
        .chars()
        .map(|c| if allowed(c) { c } else { '_' })
        .collect()
}

fn told(document: &MergedEpisode) -> String {
    let clocks: Vec<String> = document
        .clock
        .peers
        .iter()
        .filter(|peer| peer.method != ClockMethod::Reference)
        .map(|peer| {
            let how = match peer.method {
                ClockMethod::Exchange => "exchanged timestamps",
                ClockMethod::InputOrder => "order of inputs",
                ClockMethod::WallClock | ClockMethod::Reference => "wall clock",
            };
            let within = peer.uncertainty_us.map_or_else(
                || String::from("by an unknown error"),
                |us| format!("+-{:.1} ms", us as f64 / 1000.0),
            );
            let offset = peer.offset_us as f64 / 1000.0;
            format!(
                "player {}: {offset:+.1} ms {within} ({how})",
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
    format!(
        "{peers}, {} rollbacks; {}",
        document.rollbacks.len(),
        if clocks.is_empty() {
            String::from("one clock")
        } else {
            clocks.join(", ")
        }
    )
}
