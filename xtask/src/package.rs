//! What is published: the crates pack, each with its README, its licences and its sources. The
//! packed crates are compiled by `cargo package --workspace` alone, without `--no-verify`: that
//! is another build of Bevy, for the day of a release.

use std::collections::BTreeSet;

use cargo_metadata::{Package, TargetKind};

use crate::process::{cargo, output_of, run, workspace};

/// What a crate must not be published without.
const FILES: [&str; 4] = ["Cargo.toml", "README.md", "LICENSE-MIT", "LICENSE-APACHE"];

pub(crate) fn check() -> Result<(), String> {
    let mut found = Vec::new();
    for package in published()? {
        let list = output_of(&mut cargo(&format!(
            "package --list --locked --allow-dirty --package {}",
            package.name
        )))?;
        println!("{}: {} files", package.name, list.lines().count());
        found.extend(missing(&package.name, &list));
        found.extend(without_metadata(package));
    }
    if !found.is_empty() {
        return Err(found.join("\n"));
    }
    run(&mut cargo(&command("--no-verify --allow-dirty")?))
}

/// `cargo package` of everything that is published; crates that depend on each other are taken
/// from the workspace.
fn command(options: &str) -> Result<String, String> {
    let unpublished: Vec<String> = workspace()?
        .workspace_packages()
        .into_iter()
        .filter(|package| !is_published(package))
        .map(|package| format!(" --exclude {}", package.name))
        .collect();
    Ok(format!(
        "package --workspace --locked {options}{}",
        unpublished.concat()
    ))
}

fn is_published(package: &Package) -> bool {
    package.publish.as_ref().is_none_or(|to| !to.is_empty())
}

fn published() -> Result<Vec<&'static Package>, String> {
    let packages = workspace()?.workspace_packages().into_iter();
    Ok(packages.filter(|package| is_published(package)).collect())
}

/// Names of the published crates that others link.
pub(crate) fn published_libraries() -> Result<Vec<String>, String> {
    let has_library = |package: &&Package| {
        let mut targets = package.targets.iter();
        targets.any(|target| target.kind.contains(&TargetKind::Lib))
    };
    Ok(published()?
        .into_iter()
        .filter(has_library)
        .map(|package| package.name.to_string())
        .collect())
}

/// What the list of a crate's files lacks.
fn missing(name: &str, list: &str) -> Vec<String> {
    let files: BTreeSet<&str> = list.lines().collect();
    let mut found: Vec<String> = FILES
        .iter()
        .filter(|file| !files.contains(**file))
        .map(|file| format!("{name} would be published without {file}"))
        .collect();
    if !files.contains("src/lib.rs") && !files.contains("src/main.rs") {
        found.push(format!("{name} would be published without its sources"));
    }
    found
}

/// What crates.io shows of a crate, or refuses to go without.
fn without_metadata(package: &Package) -> Vec<String> {
    [
        ("description", package.description.is_none()),
        ("license", package.license.is_none()),
        ("repository", package.repository.is_none()),
        ("readme", package.readme.is_none()),
        ("categories", package.categories.is_empty()),
        ("keywords", package.keywords.is_empty()),
    ]
    .iter()
    .filter(|(_, lacks)| *lacks)
    .map(|(field, _)| format!("{} names no {field}", package.name))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_without_a_licence_or_its_sources_is_refused() {
        let whole = "Cargo.toml\nLICENSE-APACHE\nLICENSE-MIT\nREADME.md\nsrc/lib.rs";
        assert!(missing("a", whole).is_empty());
        let bare = missing("a", "Cargo.toml\nREADME.md").join("; ");
        for what in ["LICENSE-MIT", "LICENSE-APACHE", "its sources"] {
            assert!(bare.contains(what), "{bare}");
        }
    }

    #[test]
    fn this_crate_is_not_published() {
        let command = command("--no-verify").unwrap();
        assert!(command.contains("--exclude xtask"), "{command}");
        assert!(
            published()
                .unwrap()
                .iter()
                .all(|package| package.name != "xtask")
        );
    }
}
