//! `cargo xtask counts`: what grows unnoticed, by crate: public types, files, long functions, words
//! of the list in CONTRIBUTING.md. The limits at the end are enforced by the stage `rules`.
//!
//! Counted in the text, as rustfmt lays it out: rustdoc's JSON is unstable, and the lint
//! `unreachable_pub` makes every `pub` type one that users can reach.

use std::collections::BTreeMap;

use cargo_metadata::{Package, TargetKind};

use crate::files::{File, tracked};
use crate::process::{root, workspace};

/// The crate whose surface and test binaries have a limit.
const PLUGIN: &str = "bevy_rollback_lab";
/// Where Markdown is counted.
const DOCS: &str = "Markdown";

/// A function longer than this should do one thing less.
const LONG_FUNCTION: usize = 100;

/// The right column of the word list, as far as a word has no other use here (a *room* is one of
/// matchmaking, a *cut* an option).
const UNWANTED: &[&str] = &[
    "tell",
    "tells",
    "told",
    "telling",
    "untold",
    "hear",
    "hears",
    "heard",
    "goodbye",
    "farewell",
    "picture",
    "pictures",
    "pace",
    "seat",
    "seats",
    "vitals",
    "outbox",
    "handover",
    "untaken",
    "promotion",
    "promoted",
    "doubt",
    "doubted",
    "hitch",
    "hitches",
    "freeze",
    "freezes",
    "settle",
    "settles",
    "settled",
    "carrier",
    "carriers",
    "desk",
    "truth",
    "weather",
    "scene",
    "scenes",
    "air",
    "whoever",
    "somebody",
    "everybody",
    "nobody",
    "house",
    "floor",
];

/// What may not be exceeded.
struct Limit {
    what: &'static str,
    most: usize,
    of: fn(&Counts) -> usize,
}

const LIMITS: [Limit; 3] = [
    Limit {
        what: "public types of bevy_rollback_lab",
        most: 150,
        of: |counts| counts.of(PLUGIN).public_types.len(),
    },
    Limit {
        what: "attributes #[path]",
        most: 0,
        of: |counts| counts.crates.values().map(|of| of.path_attributes).sum(),
    },
    Limit {
        what: "test binaries of bevy_rollback_lab",
        most: 12,
        of: |counts| counts.of(PLUGIN).test_binaries,
    },
];

/// What is counted in one crate.
#[derive(Clone, Default)]
struct Count {
    files: usize,
    lines: usize,
    public_types: Vec<String>,
    long_functions: Vec<String>,
    path_attributes: usize,
    test_binaries: usize,
    words: usize,
    unwanted: BTreeMap<String, usize>,
    never: usize,
}

impl Count {
    fn add(&mut self, file: &File) {
        self.files += 1;
        self.lines += file.lines();
        if !file.is_rust() {
            return self.add_words(&file.text);
        }
        self.add_words(&comments(&file.text));
        let code = without_tests(&file.text);
        let in_library = file.path.starts_with("src/") || file.path.contains("/src/");
        if in_library {
            self.public_types.extend(public_types(&code));
        }
        let long = long_functions(&file.text);
        self.long_functions
            .extend(long.map(|(name, lines)| format!("{}: {name}, {lines} lines", file.path)));
        let attributes = file.text.lines().map(str::trim_start);
        self.path_attributes += attributes.filter(|line| line.starts_with("#[path")).count();
    }

    fn add_words(&mut self, text: &str) {
        let words = text
            .split(|c: char| !c.is_ascii_alphabetic() && c != '\'')
            .filter(|word| !word.is_empty());
        for word in words.map(str::to_ascii_lowercase) {
            self.words += 1;
            if word == "never" {
                self.never += 1;
            } else if UNWANTED.contains(&word.as_str()) {
                *self.unwanted.entry(word).or_default() += 1;
            }
        }
    }

    fn per_ten_thousand(&self, count: usize) -> f64 {
        10_000.0 * count as f64 / self.words.max(1) as f64
    }
}

/// The counts of every crate by its name, and of the Markdown files.
struct Counts {
    crates: BTreeMap<String, Count>,
}

impl Counts {
    fn take(files: &[File]) -> Result<Self, String> {
        let packages = workspace()?.workspace_packages();
        let mut crates: BTreeMap<String, Count> = BTreeMap::new();
        for package in &packages {
            let of = crates.entry(package.name.to_string()).or_default();
            let targets = package.targets.iter();
            of.test_binaries = targets
                .filter(|target| target.kind.contains(&TargetKind::Test))
                .count();
        }
        for file in files {
            let name = if file.path.ends_with(".md") {
                Some(DOCS.to_owned())
            } else if file.is_rust() {
                owner(&packages, &file.path)
            } else {
                None
            };
            if let Some(name) = name {
                crates.entry(name).or_default().add(file);
            }
        }
        Ok(Self { crates })
    }

    fn of(&self, name: &str) -> Count {
        self.crates.get(name).cloned().unwrap_or_default()
    }

    /// Names that more than one public type has, and the crates of these types.
    fn duplicates(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut places: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, count) in &self.crates {
            for public in &count.public_types {
                places.entry(public).or_default().push(name);
            }
        }
        places.retain(|_, crates| crates.len() > 1);
        places
    }
}

/// The package that a file lies in: the one with the longest folder.
fn owner(packages: &[&Package], path: &str) -> Option<String> {
    let root = root();
    packages
        .iter()
        .filter_map(|package| {
            let folder = package.manifest_path.parent()?;
            let folder = folder.as_std_path().strip_prefix(&root).ok()?;
            let inside = std::path::Path::new(path).starts_with(folder);
            inside.then(|| (folder.components().count(), package.name.to_string()))
        })
        .max()
        .map(|(_, name)| name)
}

/// Prints the counts.
pub(crate) fn print(arguments: &[String]) -> Result<(), String> {
    if let Some(unknown) = arguments.first() {
        return Err(format!("`counts` has no options, not `{unknown}`"));
    }
    let counts = Counts::take(&tracked()?)?;
    println!("Words are those of comments and Markdown, per 10,000 of them.\n");
    println!(
        "| crate | files | lines | public types | functions over {LONG_FUNCTION} lines | \
         `#[path]` | test binaries | words | unwanted words | never |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for (name, of) in &counts.crates {
        println!(
            "| {name} | {} | {} | {} | {} | {} | {} | {} | {:.1} | {:.1} |",
            of.files,
            of.lines,
            of.public_types.len(),
            of.long_functions.len(),
            of.path_attributes,
            of.test_binaries,
            of.words,
            of.per_ten_thousand(of.unwanted.values().sum()),
            of.per_ten_thousand(of.never),
        );
    }
    println!("\nunwanted words:");
    for (name, of) in counts
        .crates
        .iter()
        .filter(|(_, of)| !of.unwanted.is_empty())
    {
        let words = of
            .unwanted
            .iter()
            .map(|(word, times)| format!("{word} {times}"));
        println!("  {name}: {}", words.collect::<Vec<_>>().join(", "));
    }
    let duplicates = counts.duplicates();
    println!("\nnames of more than one public type: {}", duplicates.len());
    for (name, crates) in duplicates {
        println!("  {name}: {}", crates.join(", "));
    }
    println!("\nfunctions over {LONG_FUNCTION} lines:");
    for function in counts.crates.values().flat_map(|of| &of.long_functions) {
        println!("  {function}");
    }
    println!("\nlimits:");
    for limit in &LIMITS {
        println!(
            "  {}: {} of at most {}",
            limit.what,
            (limit.of)(&counts),
            limit.most
        );
    }
    Ok(())
}

/// The limits that these files exceed.
pub(crate) fn exceeded(files: &[File]) -> Result<Vec<String>, String> {
    Ok(over(&Counts::take(files)?))
}

fn over(counts: &Counts) -> Vec<String> {
    LIMITS
        .iter()
        .map(|limit| (limit, (limit.of)(counts)))
        .filter(|(limit, found)| *found > limit.most)
        .map(|(limit, found)| format!("{found} {}, at most {} are wanted", limit.what, limit.most))
        .collect()
}

/// The text of all comments.
fn comments(text: &str) -> String {
    text.lines()
        .filter_map(|line| {
            let code = line.trim_start();
            match code.strip_prefix("//") {
                Some(comment) => Some(comment),
                None => code.split_once(" // ").map(|(_, comment)| comment),
            }
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// The text without the modules under `#[cfg(test)]`.
fn without_tests(text: &str) -> String {
    let mut kept = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let opens =
            line.trim() == "#[cfg(test)]" && lines.peek().is_some_and(|next| next.ends_with('{'));
        if opens {
            let end = format!("{}}}", indent(line));
            // The module ends at its own indentation.
            lines.by_ref().find(|line| *line == end);
        } else {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

fn indent(line: &str) -> &str {
    &line[..line.len() - line.trim_start().len()]
}

/// Names of the types and traits that are `pub`, in the order of the text.
fn public_types(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter_map(|line| {
        let item = line.trim_start().strip_prefix("pub ")?;
        let item = item.strip_prefix("unsafe ").unwrap_or(item);
        let (kind, rest) = item.split_once(' ')?;
        let is_type = ["struct", "enum", "trait", "type", "union"].contains(&kind);
        let name = rest
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .next();
        name.filter(|_| is_type).map(str::to_owned)
    })
}

/// Functions longer than the limit: name and lines.
fn long_functions(text: &str) -> impl Iterator<Item = (String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else {
            continue;
        };
        let end = format!("{}}}", indent(line));
        let length = lines[start..]
            .iter()
            .position(|line| {
                *line == end || line.ends_with(';') && indent(line) == indent(lines[start])
            })
            .map_or(0, |last| last + 1);
        if length > LONG_FUNCTION {
            found.push((name.to_owned(), length));
        }
    }
    found.into_iter()
}

fn function_name(line: &str) -> Option<&str> {
    let mut words = line.trim_start().split(' ');
    let modifiers = [
        "pub",
        "pub(crate)",
        "pub(super)",
        "const",
        "async",
        "unsafe",
    ];
    let first = words.find(|word| !modifiers.contains(word))?;
    let name = words.next().filter(|_| first == "fn")?;
    name.split(['(', '<']).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &str, text: &str) -> Count {
        let mut count = Count::default();
        count.add(&File {
            path: path.into(),
            text: text.into(),
        });
        count
    }

    #[test]
    fn public_types_are_counted_outside_tests() {
        let text = "\
pub struct A<T>(T);
pub(crate) struct Hidden;
pub enum B {}
pub trait C {}
pub type D = u8;
pub fn e() {}
#[cfg(test)]
mod tests {
    pub struct InTests;
}
pub struct F {
}
";
        let count = |path: &str| count(path, text).public_types;
        assert_eq!(count("crates/link/src/a.rs"), ["A", "B", "C", "D", "F"]);
        assert_eq!(count("tests/a.rs").len(), 0);
    }

    #[test]
    fn a_name_of_two_types_is_found_within_and_across_crates() {
        let of = |text: &str| count("src/a.rs", text);
        let counts = Counts {
            crates: BTreeMap::from([
                ("a".into(), of("pub struct X;\npub struct Y;\n")),
                (
                    "b".into(),
                    of("pub struct X;\npub enum Z {}\npub struct Z;\n"),
                ),
            ]),
        };
        let duplicates = counts.duplicates();
        assert_eq!(duplicates["X"], ["a", "b"]);
        assert_eq!(duplicates["Z"], ["b", "b"]);
        assert_eq!(duplicates.len(), 2);
    }

    #[test]
    fn words_are_those_of_comments() {
        let count = count(
            "src/a.rs",
            "//! Told never to be told.\nlet told = 1; // Nobody hears it\n",
        );
        assert_eq!((count.words, count.never), (8, 1));
        let told: Vec<(&str, usize)> = count
            .unwanted
            .iter()
            .map(|(word, times)| (word.as_str(), *times))
            .collect();
        assert_eq!(told, [("hears", 1), ("nobody", 1), ("told", 2)]);
    }

    #[test]
    fn a_function_is_long_from_its_name_to_its_brace() {
        let body = "    x();\n".repeat(LONG_FUNCTION - 2);
        let fits = format!("pub async fn fits() {{\n{body}}}\n");
        assert_eq!(count("src/a.rs", &fits).long_functions.len(), 0);
        let long =
            format!("trait A {{\n    fn short();\n}}\nfn long<T>(t: T) {{\n{body}    x();\n}}\n");
        assert_eq!(
            count("src/a.rs", &long).long_functions,
            ["src/a.rs: long, 101 lines"]
        );
    }

    #[test]
    fn each_limit_can_be_exceeded() {
        let plugin = Count {
            public_types: vec!["A".into(); 151],
            path_attributes: 1,
            test_binaries: 13,
            ..Count::default()
        };
        let counts = |of: Count| Counts {
            crates: BTreeMap::from([(PLUGIN.to_owned(), of)]),
        };
        assert_eq!(over(&counts(plugin)).len(), LIMITS.len());
        assert_eq!(over(&counts(Count::default())).len(), 0);
    }
}
