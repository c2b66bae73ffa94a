//! Owns `rollback-lab verify`: reading files, checking each alone and every pair of one episode.
//! Never changes a file, and judges by `record::check` alone.

use std::fs;
use std::path::{Path, PathBuf};

use bevy_rollback_lab::record::check::{check_episode, check_pair};
use bevy_rollback_lab::record::{DocumentError, EpisodeDocument, SessionDocument};
use clap::Args;

#[derive(Args)]
pub struct Verify {
    /// Episode and session files, of one or several peers.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// What was read and found.
#[derive(Default)]
struct Findings {
    episodes: Vec<(PathBuf, EpisodeDocument)>,
    sessions: usize,
    pairs: usize,
    broken: Vec<String>,
}

/// Prints what is wrong, then one line of counts. Returns whether nothing is.
pub fn verify(options: &Verify) -> bool {
    let mut findings = Findings::default();
    for path in &options.files {
        if let Err(error) = read(path, &mut findings) {
            findings.broken.push(format!("{}: {error}", path.display()));
        }
    }
    check(&mut findings);
    for broken in &findings.broken {
        println!("{broken}");
    }
    println!(
        "{} episode files, {} pairs of them, {} session files: {}",
        findings.episodes.len(),
        findings.pairs,
        findings.sessions,
        match findings.broken.len() {
            0 => String::from("in order"),
            broken => format!("{broken} faults"),
        }
    );
    findings.broken.is_empty()
}

fn read(path: &Path, findings: &mut Findings) -> Result<(), String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    match EpisodeDocument::parse(&text) {
        Ok(document) => findings.episodes.push((path.to_owned(), document)),
        Err(DocumentError::WrongSchema { .. }) => {
            SessionDocument::parse(&text).map_err(|error| error.to_string())?;
            findings.sessions += 1;
        }
        Err(error) => return Err(error.to_string()),
    }
    Ok(())
}

fn check(findings: &mut Findings) {
    let Findings {
        episodes,
        broken,
        pairs,
        ..
    } = findings;
    for (index, (path, document)) in episodes.iter().enumerate() {
        let alone = check_episode(document);
        broken.extend(
            alone
                .iter()
                .map(|fault| format!("{}: {fault}", path.display())),
        );
        let of = |document: &EpisodeDocument| {
            let session = document.session.session_id.clone();
            (session, document.episode.episode_num)
        };
        let others = episodes[index + 1..].iter();
        for (other_path, other) in others.filter(|(_, other)| of(other) == of(document)) {
            *pairs += 1;
            broken.extend(
                check_pair(document, other).iter().map(|fault| {
                    format!("{} and {}: {fault}", path.display(), other_path.display())
                }),
            );
        }
    }
}
