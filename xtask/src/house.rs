//! Owns the cheap rules about text: what the files of the repository must and must not hold. It
//! reads what git tracks or would track, and compiles nothing.

use std::fs;

use crate::process::{output_of, program, root};

const ARCHITECTURE_LINES: usize = 150;

/// Above this a file should be looked at for a seam; told, not refused.
const LONG_FILE: usize = 500;

/// Commands that the README must name as they are typed.
const README_COMMANDS: [&str; 2] = [
    "cargo run --release --example headless_duel",
    "cargo xtask test",
];

/// First folders of absolute paths that belong to one machine; written without their slashes so
/// that this file does not break its own rule.
const MACHINE_FOLDERS: [&str; 5] = ["work", "farm", "root", "home", "Users"];

struct File {
    path: String,
    text: String,
}

pub fn check() -> Result<(), String> {
    let files = tracked()?;
    let mut found: Vec<String> = files.iter().flat_map(broken_in).collect();
    found.extend(missing_in(&files));
    for file in files
        .iter()
        .filter(|file| is_rust(file) && file.text.lines().count() > LONG_FILE)
    {
        println!(
            "note: {} has {} lines; is there a seam?",
            file.path,
            file.text.lines().count()
        );
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

fn tracked() -> Result<Vec<File>, String> {
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

fn is_rust(file: &File) -> bool {
    file.path.ends_with(".rs")
}

/// What one file holds against the rules.
fn broken_in(file: &File) -> Vec<String> {
    let mut found = Vec::new();
    let path = file.path.as_str();
    for (number, line) in file.text.lines().enumerate() {
        let mut tell = |what: &str| found.push(format!("{path}:{}: {what}", number + 1));
        if names_machine_path(line) {
            tell("a path of one machine");
        }
        if !is_rust(file) {
            continue;
        }
        let code = line.trim_start();
        if code.starts_with("#[ignore") {
            tell("an ignored test proves nothing");
        }
        if path.starts_with("tests/") && names_fixed_port(line) {
            tell("a fixed port; bind port 0");
        }
    }
    if !is_rust(file) {
        return found;
    }
    if attributes(&file.text, "allow").any(|attribute| !attribute.contains("reason")) {
        found.push(format!(
            "{path}: a bare allow; use #[expect(lint, reason = \"...\")]"
        ));
    }
    if path.ends_with("/mod.rs") && !path.starts_with("tests/") {
        found.push(format!(
            "{path}: the house uses foo.rs and foo/, never mod.rs"
        ));
    }
    if !file.text.trim_start().starts_with("//!") {
        found.push(format!(
            "{path}: a file opens with //! saying what it owns and never does"
        ));
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
    for path in ["CHANGELOG.md", "LICENSE-MIT", "LICENSE-APACHE", "deny.toml"] {
        if text_of(path).is_none() {
            found.push(format!("{path} is missing"));
        }
    }
    match text_of("ARCHITECTURE.md").map(|text| text.lines().count()) {
        None => found.push("ARCHITECTURE.md is missing".into()),
        Some(lines) if lines > ARCHITECTURE_LINES => {
            found.push(format!(
                "ARCHITECTURE.md has {lines} lines, at most {ARCHITECTURE_LINES} are wanted"
            ));
        }
        Some(_) => {}
    }
    for command in README_COMMANDS {
        if !text_of("README.md").is_some_and(|text| text.contains(command)) {
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
                "//! Owns a.\n#[allow(dead_code, reason = \"b\")]\nfn f() {}\n"
            ),
            ""
        );
        assert!(broken("src/a.rs", "fn f() {}\n").contains("opens with //!"));
        assert!(
            broken("src/a.rs", "//! a\n    #[allow(\n  dead_code\n)]\n").contains("bare allow")
        );
        assert!(broken("src/a/mod.rs", "//! a\n").contains("never mod.rs"));
        assert_eq!(broken("tests/common/mod.rs", "//! a\n"), "");
        assert!(
            broken("tests/a.rs", "//! a\n#[test]\n#[ignore]\n").contains(":3: an ignored test")
        );
        assert!(broken("tests/a.rs", "//! a\n\"127.0.0.1:3536\"\n").contains("port 0"));
        assert_eq!(
            broken("tests/a.rs", "//! a\n\"127.0.0.1:0\", \"127.0.0.1:1\"\n"),
            ""
        );
    }

    #[test]
    fn a_long_architecture_and_a_silent_readme_are_refused() {
        let file = |path: &str, text: String| File {
            path: path.into(),
            text,
        };
        let missing = missing_in(&[
            file("ARCHITECTURE.md", "line\n".repeat(ARCHITECTURE_LINES + 1)),
            file("README.md", README_COMMANDS[0].into()),
        ])
        .join("; ");
        assert!(missing.contains("151 lines"), "{missing}");
        assert!(
            missing.contains("README.md does not name `cargo xtask test`"),
            "{missing}"
        );
        assert!(!missing.contains(README_COMMANDS[0]), "{missing}");
        assert!(missing.contains("CHANGELOG.md is missing"), "{missing}");
    }
}
