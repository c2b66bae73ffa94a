//! Real matches of real processes: what the stages `network` and `soak` share. Programs are started
//! and signalled, their documents are read, and `rollback-lab verify` judges the files.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::native;
use crate::process::program;

mod causes;
mod documents;
mod options;
mod process;

pub(crate) use causes::Unknown;
#[cfg(test)]
pub(crate) use documents::Stall;
pub(crate) use documents::{Played, Report, RoundTrip, session_phases};
pub(crate) use options::Arguments;
pub(crate) use process::{Process, Signal};

/// The time that `verify` may take for the files of one match; it takes a tenth of a second.
const VERIFY_LIMIT: Duration = Duration::from_secs(60);

/// The programs that play: the server with its commands, and a player without a screen.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// Those of a folder that cargo built into, or built now.
    pub(crate) fn find(folder: Option<&Path>) -> Result<Self, String> {
        let folder = match folder {
            Some(folder) => folder.to_path_buf(),
            None => native::programs()?,
        };
        let programs = Self { folder };
        for needed in [programs.lab(), programs.player()] {
            if !needed.is_file() {
                return Err(format!("there is no program {}", needed.display()));
            }
        }
        Ok(programs)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// `rollback-lab`: server, verify, tables, ...
    pub(crate) fn lab(&self) -> PathBuf {
        self.folder.join("rollback-lab")
    }

    /// `headless_duel`.
    pub(crate) fn player(&self) -> PathBuf {
        self.folder.join("examples/headless_duel")
    }

    /// What `rollback-lab verify` finds wrong with the files below a folder.
    pub(crate) fn verify(&self, folder: &Path) -> Result<Vec<String>, String> {
        let output = folder.join("verify.log");
        let mut command = program(&self.lab().to_string_lossy());
        command.args(["verify", "--json"]).arg(folder);
        let mut process = Process::start(&mut command, &output)?;
        let Some(ended) = process.wait_until(Instant::now() + VERIFY_LIMIT)? else {
            let limit = VERIFY_LIMIT.as_secs();
            return Ok(vec![format!("verify was not done after {limit} s")]);
        };
        // Its exit status repeats what the document says.
        let text = fs::read_to_string(&output).map_err(|error| error.to_string())?;
        faults(&text).map_err(|error| format!("verify ended with {ended}: {error}"))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Verdict {
    in_order: bool,
    files: Vec<VerifiedFile>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VerifiedFile {
    path: String,
    faults: Vec<Fault>,
}

#[derive(Deserialize)]
struct Fault {
    message: String,
}

/// The faults in a document of `verify --json`, each behind the name of its file.
fn faults(text: &str) -> Result<Vec<String>, String> {
    // Warnings stand before the document.
    let document = &text[text.find('{').unwrap_or(0)..];
    let verdict: Verdict =
        serde_json::from_str(document).map_err(|error| format!("no document: {error}"))?;
    let mut found = Vec::new();
    for file in &verdict.files {
        let name = file.path.rsplit('/').next().unwrap_or_default();
        let faults = file.faults.iter();
        found.extend(faults.map(|fault| format!("{name}: {}", fault.message)));
    }
    if found.is_empty() && !verdict.in_order {
        found.push("verify says that the files are not in order".into());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_named_with_their_file() {
        let text = r#"{"inOrder": false, "files": [
            {"path": "a/b/episode-0.player-1.json", "faults": [{"check": "", "message": "5: sent"}]},
            {"path": "a/b/session.player-1.json", "faults": []}]}"#;
        assert_eq!(faults(text).unwrap(), ["episode-0.player-1.json: 5: sent"]);
    }

    #[test]
    fn files_out_of_order_are_a_fault_without_one_of_a_file() {
        assert_eq!(
            faults(r#"{"inOrder": true, "files": []}"#).unwrap().len(),
            0
        );
        assert_eq!(
            faults(r#"{"inOrder": false, "files": []}"#).unwrap().len(),
            1
        );
        assert!(faults("").is_err());
    }
}
