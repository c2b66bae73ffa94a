//! Rules about dependencies: which crate of the workspace may use which, what the plugin without
//! default features adds to `bevy_ggrs`, and what must not reach a library build or a browser. It
//! reads cargo's tree and compiles nothing.

use std::collections::BTreeSet;
use std::fs;

use cargo_metadata::{DependencyKind, Package};

use crate::process::{cargo, output_of, root, target_folder, workspace};

/// The layers: what the published crates may use of each other, beyond development. The compiler
/// refuses an import of anything that is not a dependency.
const LAYERS: [(&str, &[&str]); 5] = [
    ("rollback_lab_link", &[]),
    ("rollback_lab_record", &["rollback_lab_link"]),
    ("rollback_lab_server", &["rollback_lab_link"]),
    (
        "bevy_rollback_lab",
        &["rollback_lab_link", "rollback_lab_record"],
    ),
    (
        "rollback-lab",
        &[
            "rollback_lab_link",
            "rollback_lab_record",
            "rollback_lab_server",
        ],
    ),
];

/// The crates that must stay free of Bevy, their tests included.
const WITHOUT_BEVY: [&str; 4] = [
    "rollback_lab_link",
    "rollback_lab_record",
    "rollback_lab_server",
    "rollback-lab",
];

/// Crates that a build without default features may add to what `bevy_ggrs` brings.
const MAY_ADD: usize = 10;

const BEVY: &[&str] = &["bevy"];

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
    "rollback_lab_server",
];

/// What is done with files afterwards, by prefix: not part of a server either.
const TOOLS: &[&str] = &["csv", "parquet", "indicatif", "jsonschema"];

const PLUGIN: &str = "bevy_rollback_lab";
const BROWSER: &str = "--target wasm32-unknown-unknown";

pub(crate) fn check() -> Result<(), String> {
    let upward: Vec<String> = workspace()?
        .workspace_packages()
        .into_iter()
        .flat_map(against_the_layers)
        .collect();
    if !upward.is_empty() {
        return Err(upward.join("\n"));
    }
    for package in WITHOUT_BEVY {
        without(
            package,
            "with its tests",
            &tree(package, "--edges dev")?,
            BEVY,
        )?;
    }
    let link = tree("rollback_lab_link", "")?;
    without("rollback_lab_link", "", &link, &[SERVER, WEBRTC].concat())?;
    for package in ["rollback_lab_record", "rollback_lab_server"] {
        without(package, "default features", &tree(package, "")?, TOOLS)?;
    }
    let observers = tree(PLUGIN, "--no-default-features")?;
    added_by_observers(&baseline()?, &observers)?;
    without(PLUGIN, "no default features", &observers, WEBRTC)?;
    without(PLUGIN, "no default features", &observers, SERVER)?;
    for (build, options) in [
        ("default features", String::new()),
        ("wasm32", BROWSER.into()),
        ("wasm32, all features", format!("{BROWSER} --all-features")),
    ] {
        let tree = tree(PLUGIN, &options)?;
        without(PLUGIN, build, &tree, SERVER)?;
        without(PLUGIN, build, &tree, TOOLS)?;
    }
    without("volley", "wasm32", &tree("volley", BROWSER)?, SERVER)
}

/// The dependencies on crates of the workspace that the layers do not allow. What is published
/// depends on nothing unpublished, and what is new has its place among the layers.
fn against_the_layers(package: &Package) -> Vec<String> {
    let name = package.name.as_str();
    let unpublished = package.publish.as_ref().is_some_and(Vec::is_empty);
    let layer = LAYERS.iter().find(|(layer, _)| *layer == name);
    let Some((_, allowed)) = layer else {
        return if unpublished {
            Vec::new()
        } else {
            vec![format!("{name} is in no layer of xtask/src/graph.rs")]
        };
    };
    package
        .dependencies
        .iter()
        .filter(|used| used.path.is_some() && used.kind != DependencyKind::Development)
        .filter(|used| !allowed.contains(&used.name.as_str()))
        .map(|used| format!("{name} must not depend on {}", used.name))
        .collect()
}

fn added_by_observers(baseline: &BTreeSet<String>, ours: &BTreeSet<String>) -> Result<(), String> {
    let added: Vec<&str> = ours
        .difference(baseline)
        .map(String::as_str)
        .filter(|name| !LAYERS.iter().any(|(layer, _)| is_of(name, layer)))
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

fn without(
    package: &str,
    build: &str,
    tree: &BTreeSet<String>,
    banned: &[&str],
) -> Result<(), String> {
    let found: Vec<&str> = tree
        .iter()
        .map(String::as_str)
        .filter(|name| banned.iter().any(|prefix| is_of(name, prefix)))
        .collect();
    println!(
        "{package}, {build}: {} crates, none of {}",
        tree.len(),
        banned.join(", ")
    );
    if found.is_empty() {
        Ok(())
    } else {
        Err(format!(
            "{package} ({build}) must not bring {}",
            found.join(", ")
        ))
    }
}

/// `axum` covers `axum v0.8` and `axum-core v0.5`, not `axumatic`.
fn is_of(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix)
        .is_some_and(|rest| rest.starts_with([' ', '-', '_']))
}

/// `name version` of every crate in a package's own tree.
fn tree(package: &str, options: &str) -> Result<BTreeSet<String>, String> {
    let command =
        format!("tree --locked --package {package} --edges normal --prefix none {options}");
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
pub(crate) fn locked_version<'a>(lock: &'a str, name: &str) -> Option<&'a str> {
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
        let error = without("a", "wasm32", &names(&["serde", "axum-core"]), SERVER).unwrap_err();
        assert!(error.contains("axum-core v1.0.0"), "{error}");
        assert!(without("a", "wasm32", &names(&["serde", "clapper"]), SERVER).is_ok());
    }

    #[test]
    fn bevy_is_refused_with_all_its_crates() {
        for name in ["bevy", "bevy_ecs", "bevy-derive"] {
            assert!(without("a", "", &names(&[name]), BEVY).is_err(), "{name}");
        }
        assert!(without("a", "", &names(&["glam"]), BEVY).is_ok());
    }

    /// This package as cargo describes it, under another name and with these dependencies.
    fn package(name: &str, publish: bool, dependencies: &[(&str, DependencyKind)]) -> Package {
        let mut packages = workspace().unwrap().workspace_packages().into_iter();
        let this = packages.find(|package| package.name == "xtask").unwrap();
        let mut json = serde_json::to_value(this).unwrap();
        json["name"] = name.into();
        json["publish"] = if publish {
            serde_json::Value::Null
        } else {
            serde_json::json!([])
        };
        json["dependencies"] = dependencies
            .iter()
            .map(|(used, kind)| {
                serde_json::json!({
                    "name": used, "source": null, "req": "*", "kind": kind, "rename": null,
                    "optional": false, "uses_default_features": true, "features": [],
                    "target": null, "registry": null, "path": format!("/crates/{used}"),
                })
            })
            .collect();
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_dependency_on_a_higher_layer_is_refused() {
        use DependencyKind::{Build, Development, Normal};
        let broken = |name: &str, publish: bool, used: &str, kind: DependencyKind| {
            against_the_layers(&package(name, publish, &[(used, kind)])).join("; ")
        };
        let record = "rollback_lab_record";
        let server = "rollback_lab_server";
        assert_eq!(broken(record, true, "rollback_lab_link", Normal), "");
        assert!(broken("rollback_lab_link", true, record, Normal).contains(record));
        assert!(broken("rollback_lab_link", true, record, Build).contains(record));
        assert!(broken(server, true, record, Normal).contains(record));
        assert!(broken(PLUGIN, true, server, Normal).contains(server));
        assert_eq!(broken(PLUGIN, true, server, Development), "");
        assert_eq!(broken("volley", false, server, Normal), "");
        assert!(broken("new", true, server, Normal).contains("in no layer"));
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
