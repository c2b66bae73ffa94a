//! Why a command fails, and why a file is left out of its result.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

use rollback_lab_record::DocumentError;
use rollback_lab_record::tables::TableError;
use rollback_lab_server::{SecretError, ServerError};

/// Why a command failed; `main` prints it behind `rollback-lab: `.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// The server did not start.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The file of `--secret` gives no secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The environment variable holds no secret.
    #[error("environment variable ROLLBACK_LAB_SECRET: {0}")]
    SecretVariable(#[source] SecretError),
    /// The signals that end the server cannot be caught.
    #[error("cannot wait for a signal to stop: {0}")]
    Signals(#[source] io::Error),
    /// A path of the command line cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: FileError,
    },
    /// A result cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The tables cannot be written.
    #[error("cannot write tables: {0}")]
    Tables(#[from] TableError),
    /// Two files are not the two halves of one desync.
    #[error("cannot compare {} and {}: {source}", one.display(), other.display())]
    Compare {
        /// The first file.
        one: PathBuf,
        /// The second file.
        other: PathBuf,
        /// Why.
        source: Box<dyn Error>,
    },
    /// A result cannot be serialized.
    #[error("cannot serialize the result: {0}")]
    Serialize(#[from] serde_json::Error),
    /// A JSON Schema of this build is not one.
    #[error("cannot compile the JSON Schema of this build: {0}")]
    Schema(#[source] Box<dyn Error>),
    /// There is nothing to draw.
    #[error("no episode file among the given paths")]
    NoEpisodes,
    /// Everything else was done; these files are not part of the result.
    #[error("{}", listed(result, files))]
    LeftOut {
        /// What they are not part of, such as `in the tables`.
        result: &'static str,
        /// Which, and why.
        files: Vec<LeftOut>,
    },
}

/// A file that is not part of a command's result.
#[derive(Debug)]
pub(crate) struct LeftOut {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub why: FileError,
}

/// What is wrong with a file. Its path is printed in front.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// The system does not give its content.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is not a document that this build reads.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// It is a document of another kind.
    #[error("schema {0} is neither an episode nor a session")]
    OtherSchema(String),
    /// It is one of ours and does not say where it belongs.
    #[error("names no session or no episode number")]
    Unplaced,
    /// Its episode or session is taken from another file already.
    #[error("another file of the same {0} and player is read already")]
    Copy(&'static str),
    /// It cannot be merged with the other files of its episode.
    #[error("cannot be merged: {0}")]
    Merge(#[source] Box<dyn Error>),
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.why)
    }
}

/// Fails if files were left out of a result that was written without them.
///
/// # Errors
/// [`CommandError::LeftOut`], if there are any.
pub(crate) fn none_left_out(files: Vec<LeftOut>, result: &'static str) -> Result<(), CommandError> {
    match files.is_empty() {
        true => Ok(()),
        false => Err(CommandError::LeftOut { result, files }),
    }
}

fn listed(result: &str, files: &[LeftOut]) -> String {
    let mut text = match files.len() {
        1 => format!("1 file is not {result}:"),
        count => format!("{count} files are not {result}:"),
    };
    for file in files {
        text.push_str(&format!("\n  {file}"));
    }
    text
}
