//! The text files of the repository: those that git tracks, or would track.

use std::fs;

use crate::process::{output_of, program, root};

/// A file's path below the root, with `/` between its parts, and its text.
pub(crate) struct File {
    pub path: String,
    pub text: String,
}

impl File {
    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether it belongs to the integration tests of a package.
    pub(crate) fn is_test(&self) -> bool {
        self.path.starts_with("tests/") || self.path.contains("/tests/")
    }

    pub(crate) fn lines(&self) -> usize {
        self.text.lines().count()
    }
}

/// Every file that is text, without the lock file.
pub(crate) fn tracked() -> Result<Vec<File>, String> {
    let list = output_of(program("git").args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]))?;
    // A deleted file is still listed, and what is not UTF-8 is no text.
    Ok(list
        .split('\0')
        .filter(|path| !path.is_empty() && *path != "Cargo.lock")
        .filter_map(|path| {
            let text = fs::read_to_string(root().join(path)).ok()?;
            Some(File {
                path: path.into(),
                text,
            })
        })
        .collect())
}
