//! Owns the rules about dependencies: what a build without default features adds to `bevy_ggrs`,
//! and what never reaches a library build or a browser. It reads cargo's tree and builds nothing.

use std::collections::BTreeSet;
use std::fs;

use crate::process::{cargo, output_of, root, target_folder};

/// Crates that a build without default features may add to what `bevy_ggrs` brings.
const MAY_ADD: usize = 10;

/// The WebRTC stack and the sockets below it, by prefix.
const WEBRTC: &[&str] = &[
    "webrtc",
    "rtc",
    "matchbox",
    "bevy_matchbox",
    "async-tungstenite",
    "rustls",
    "ring",
];

/// The server's dependencies, by prefix.
const SERVER: &[&str] = &[
    "axum",
    "hyper",
    "tower",
    "tokio",
    "clap",
    "prometheus-client",
    "matchbox_signaling",
];

/// What is done with files afterwards, by prefix: not part of a server either.
const TOOLS: &[&str] = &["csv", "parquet", "indicatif", "jsonschema"];

const WASM: &str = "--target wasm32-unknown-unknown";

pub fn check() -> Result<(), String> {
    let baseline = baseline()?;
    let observers = tree("--no-default-features")?;
    added_by_observers(&baseline, &observers)?;
    without("no default features", &observers, WEBRTC)?;
    without("no default features", &observers, SERVER)?;
    without("default features", &tree("")?, SERVER)?;
    without("default features", &tree("")?, TOOLS)?;
    without("feature `server`", &tree("--features server")?, TOOLS)?;
    without("wasm32", &tree(WASM)?, SERVER)?;
    without(
        "wasm32, feature `tools`",
        &tree(&format!("{WASM} --features tools"))?,
        TOOLS,
    )?;
    without(
        "wasm32, feature `server`",
        &tree(&format!("{WASM} --features server"))?,
        SERVER,
    )
}

fn added_by_observers(baseline: &BTreeSet<String>, ours: &BTreeSet<String>) -> Result<(), String> {
    let added: Vec<&str> = ours
        .difference(baseline)
        .map(String::as_str)
        .filter(|name| !name.starts_with("bevy_rollback_lab "))
        .collect();
    println!(
        "without default features {} crates are added: {}",
        added.len(),
        added.join(", ")
    );
    if added.len() > MAY_ADD {
        return Err(format!(
            "default-features = false adds {} crates to what bevy_ggrs brings, at most {MAY_ADD} may be: {}",
            added.len(),
            added.join(", ")
        ));
    }
    Ok(())
}

fn without(build: &str, tree: &BTreeSet<String>, banned: &[&str]) -> Result<(), String> {
    let found: Vec<&str> = tree
        .iter()
        .map(String::as_str)
        .filter(|name| banned.iter().any(|prefix| is_of(name, prefix)))
        .collect();
    println!(
        "{build}: {} crates, none of {}",
        tree.len(),
        banned.join(", ")
    );
    if found.is_empty() {
        Ok(())
    } else {
        Err(format!(
            "a library build ({build}) must not bring {}",
            found.join(", ")
        ))
    }
}

/// `axum` covers `axum v0.8` and `axum-core v0.5`, not `axumatic`.
fn is_of(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix)
        .is_some_and(|rest| rest.starts_with([' ', '-', '_']))
}

/// `name version` of every crate in the library's own tree.
fn tree(options: &str) -> Result<BTreeSet<String>, String> {
    let command =
        format!("tree --locked --package bevy_rollback_lab --edges normal --prefix none {options}");
    Ok(parse(&output_of(&mut cargo(&command))?))
}

/// What `bevy_ggrs` alone brings: the tree of an otherwise empty package with our lock file.
fn baseline() -> Result<BTreeSet<String>, String> {
    let lock = fs::read_to_string(root().join("Cargo.lock"))
        .map_err(|error| format!("Cargo.lock: {error}"))?;
    let version = locked_version(&lock, "bevy_ggrs").ok_or("Cargo.lock names no bevy_ggrs")?;
    let folder = target_folder()?.join("xtask/bevy_ggrs_alone");
    let manifest = format!(
        "[package]\nname = \"bevy_ggrs_alone\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
         [dependencies]\nbevy_ggrs = {{ version = \"={version}\", default-features = false }}\n\n[workspace]\n"
    );
    let write = |name: &str, text: &str| {
        fs::write(folder.join(name), text)
            .map_err(|error| format!("{name} of the baseline: {error}"))
    };
    fs::create_dir_all(folder.join("src")).map_err(|error| format!("baseline folder: {error}"))?;
    write("Cargo.toml", &manifest)?;
    write("Cargo.lock", &lock)?;
    write("src/lib.rs", "")?;
    let mut command = cargo("tree --edges normal --prefix none");
    Ok(parse(&output_of(command.current_dir(&folder))?)
        .into_iter()
        .filter(|name| !name.starts_with("bevy_ggrs_alone "))
        .collect())
}

/// The version of a crate in the text of a lock file.
pub fn locked_version<'a>(lock: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = lock
        .lines()
        .skip_while(|line| *line != format!("name = \"{name}\""));
    lines
        .nth(1)?
        .strip_prefix("version = \"")?
        .strip_suffix('"')
}

fn parse(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some(format!("{} {}", words.next()?, words.next()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(|name| format!("{name} v1.0.0")).collect()
    }

    #[test]
    fn a_server_crate_in_a_library_build_is_refused_by_name() {
        let error = without("wasm32", &names(&["serde", "axum-core"]), SERVER).unwrap_err();
        assert!(error.contains("axum-core v1.0.0"), "{error}");
        assert!(without("wasm32", &names(&["serde", "clapper"]), SERVER).is_ok());
    }

    #[test]
    fn an_eleventh_added_crate_is_refused() {
        let eleven: Vec<String> = (0..11).map(|n| format!("crate{n}")).collect();
        let eleven: Vec<&str> = eleven.iter().map(String::as_str).collect();
        assert!(added_by_observers(&names(&["serde"]), &names(&eleven[..10])).is_ok());
        let error = added_by_observers(&names(&["serde"]), &names(&eleven)).unwrap_err();
        assert!(error.contains("adds 11 crates"), "{error}");
    }

    #[test]
    fn versions_and_trees_are_read_as_cargo_writes_them() {
        let lock = "[[package]]\nname = \"bevy_ggrs\"\nversion = \"0.22.0\"\n";
        assert_eq!(locked_version(lock, "bevy_ggrs"), Some("0.22.0"));
        assert_eq!(locked_version(lock, "ggrs"), None);
        assert_eq!(parse("serde v1.0.0 (*)\nserde v1.0.0\n"), names(&["serde"]));
    }
}
