//! Rules of the text: what the files of the repository must and must not hold. It compiles
//! nothing.

use crate::counts;
use crate::files::{File, tracked};

/// A README that is longer is not read; what is looked up lies in `docs/`.
const README_LINES: usize = 150;

/// Above this a file may hold two things; reported, not refused.
const LONG_FILE: usize = 500;

/// Files without which the repository is not complete.
const FILES: [&str; 6] = [
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "deny.toml",
];

/// Commands that the README must name as they are typed.
const README_COMMANDS: [&str; 2] = [
    "cargo run --release --example headless_duel",
    "cargo xtask test",
];

/// First folders of absolute paths that belong to one machine; written without their slashes so
/// that this file does not break its own rule.
const MACHINE_FOLDERS: [&str; 5] = ["work", "farm", "root", "home", "Users"];

pub(crate) fn check() -> Result<(), String> {
    let files = tracked()?;
    let mut found: Vec<String> = files.iter().flat_map(broken_in).collect();
    found.extend(missing_in(&files));
    found.extend(counts::exceeded(&files)?);
    for file in &files {
        if file.is_rust() && file.lines() > LONG_FILE {
            println!(
                "note: {} has {} lines; does it hold two things?",
                file.path,
                file.lines()
            );
        }
    }
    println!("{} files read", files.len());
    if found.is_empty() {
        Ok(())
    } else {
        Err(format!(
            "{} rules broken\n  {}",
            found.len(),
            found.join("\n  ")
        ))
    }
}

/// What one file holds against the rules.
fn broken_in(file: &File) -> Vec<String> {
    let mut found = Vec::new();
    let path = file.path.as_str();
    for (number, line) in file.text.lines().enumerate() {
        let mut refuse = |what: &str| found.push(format!("{path}:{}: {what}", number + 1));
        if names_machine_path(line) {
            refuse("a path of one machine");
        }
        if !file.is_rust() {
            continue;
        }
        let code = line.trim_start();
        if code.starts_with("#[ignore") {
            refuse("an ignored test proves nothing");
        }
        if file.is_test() && names_fixed_port(line) {
            refuse("a fixed port; bind port 0");
        }
    }
    if !file.is_rust() {
        return found;
    }
    if attributes(&file.text, "allow").any(|attribute| !attribute.contains("reason")) {
        found.push(format!(
            "{path}: a bare allow; use #[expect(lint, reason = \"...\")]"
        ));
    }
    if path.ends_with("/mod.rs") && !file.is_test() {
        found.push(format!("{path}: a module is foo.rs and foo/, not mod.rs"));
    }
    if !file.text.trim_start().starts_with("//!") {
        found.push(format!("{path}: a file opens with //! and what it is for"));
    }
    found
}

/// What the repository as a whole lacks.
fn missing_in(files: &[File]) -> Vec<String> {
    let text_of = |path: &str| {
        files
            .iter()
            .find(|file| file.path == path)
            .map(|file| file.text.as_str())
    };
    let mut found = Vec::new();
    for path in FILES {
        if text_of(path).is_none() {
            found.push(format!("{path} is missing"));
        }
    }
    let readme = text_of("README.md").unwrap_or_default();
    if readme.lines().count() > README_LINES {
        found.push(format!(
            "README.md has {} lines, at most {README_LINES} are wanted",
            readme.lines().count()
        ));
    }
    for command in README_COMMANDS {
        if !readme.contains(command) {
            found.push(format!("README.md does not name `{command}`"));
        }
    }
    for path in [".ci/run", ".github/workflows/ci.yml"] {
        if !text_of(path).is_some_and(|text| text.contains("cargo xtask test")) {
            found.push(format!("{path} does not call `cargo xtask test`"));
        }
    }
    found
}

/// An absolute path below a machine's own folder; the same word inside a longer path or an
/// address is none.
fn names_machine_path(line: &str) -> bool {
    MACHINE_FOLDERS.iter().any(|folder| {
        let needle = format!("/{folder}/");
        line.match_indices(&needle).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let after = line[at + needle.len()..].chars().next();
            !before.is_some_and(|c| c.is_alphanumeric() || "/._-~}".contains(c))
                && after.is_some_and(|c| c.is_ascii_alphanumeric() || c == '.')
        })
    })
}

/// A loopback address with a port of four digits or more. Port 1 and the like are closed doors.
fn names_fixed_port(line: &str) -> bool {
    line.split("127.0.0.1:")
        .skip(1)
        .any(|rest| rest.chars().take_while(char::is_ascii_digit).count() >= 4)
}

/// Every `#[name(...)]` and `#![name(...)]` at the start of a line, up to its closing bracket.
fn attributes<'a>(text: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let opens = [format!("#[{name}("), format!("#![{name}(")];
    let mut offset = 0;
    let mut starts = Vec::new();
    for line in text.split_inclusive('\n') {
        let code = line.trim_start();
        if opens.iter().any(|open| code.starts_with(open.as_str())) {
            starts.push(offset + line.len() - code.len());
        }
        offset += line.len();
    }
    starts.into_iter().map(|start| {
        let rest = &text[start..];
        &rest[..rest.find(")]").unwrap_or(rest.len())]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(path: &str, text: &str) -> String {
        broken_in(&File {
            path: path.into(),
            text: text.into(),
        })
        .join("; ")
    }

    #[test]
    fn a_path_of_one_machine_is_refused_and_an_address_is_not() {
        for folder in MACHINE_FOLDERS {
            assert!(
                names_machine_path(&format!("see /{folder}/someone/x")),
                "{folder}"
            );
        }
        assert!(!names_machine_path("https://example.org/work/a"));
        assert!(!names_machine_path("target/home/a and ~/work/a"));
    }

    #[test]
    fn each_rule_about_rust_files_can_fail() {
        assert_eq!(
            broken(
                "src/a.rs",
                "//! About a.\n#[allow(dead_code, reason = \"b\")]\nfn f() {}\n"
            ),
            ""
        );
        assert!(broken("src/a.rs", "fn f() {}\n").contains("opens with //!"));
        assert!(
            broken("src/a.rs", "//! a\n    #[allow(\n  dead_code\n)]\n").contains("bare allow")
        );
        assert!(broken("src/a/mod.rs", "//! a\n").contains("not mod.rs"));
        assert_eq!(broken("tests/common/mod.rs", "//! a\n"), "");
        assert!(
            broken("tests/a.rs", "//! a\n#[test]\n#[ignore]\n").contains(":3: an ignored test")
        );
        for tests in ["tests", "crates/link/tests"] {
            let fixed = broken(&format!("{tests}/a.rs"), "//! a\n\"127.0.0.1:3536\"\n");
            assert!(fixed.contains("port 0"), "{tests}");
        }
        assert_eq!(
            broken("tests/a.rs", "//! a\n\"127.0.0.1:0\", \"127.0.0.1:1\"\n"),
            ""
        );
    }

    #[test]
    fn a_long_readme_without_the_commands_is_refused() {
        let file = |path: &str, text: String| File {
            path: path.into(),
            text,
        };
        let readme = format!("{}{}", "line\n".repeat(README_LINES), README_COMMANDS[0]);
        let missing = missing_in(&[file("README.md", readme)]).join("; ");
        assert!(missing.contains("151 lines"), "{missing}");
        assert!(
            missing.contains("README.md does not name `cargo xtask test`"),
            "{missing}"
        );
        assert!(!missing.contains(README_COMMANDS[0]), "{missing}");
        for path in FILES {
            assert!(missing.contains(&format!("{path} is missing")), "{missing}");
        }
    }
}
