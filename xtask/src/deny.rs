//! What the dependency tree may hold, as `deny.toml` states it: cargo-deny judges where it is
//! installed; elsewhere licences, bans and sources are checked here, from `cargo metadata`.
//!
//! By hand because cargo-deny is no library, and takes minutes to install from source. Its
//! advisories need a database from the network and stay with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use cargo_metadata::{Metadata, Package};
use serde::Deserialize;
use spdx::{Expression, ParseMode};

use crate::process::{cargo, metadata, root, run, works};

/// The registry that a package may come from; a package without a source lies in this repository.
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// The part of cargo-deny's configuration that is checked here.
#[derive(Deserialize)]
struct Rules {
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
    #[serde(default)]
    exceptions: Vec<Exception>,
}

/// Licences that one crate alone may have.
#[derive(Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

/// A crate that is refused, except as a direct dependency of its wrappers.
#[derive(Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    #[serde(default)]
    wrappers: Vec<String>,
}

#[derive(Deserialize)]
struct Sources {
    #[serde(rename = "allow-git")]
    allow_git: Vec<String>,
}

pub(crate) fn check() -> Result<(), String> {
    if works(&mut cargo("deny --version")) {
        return run(&mut cargo(
            "deny --locked --all-features check licenses bans sources",
        ));
    }
    println!("cargo-deny is not installed: deny.toml is applied to `cargo metadata`");
    let text = fs::read_to_string(root().join("deny.toml"))
        .map_err(|error| format!("deny.toml: {error}"))?;
    let rules = Rules::read(&text)?;
    let metadata = metadata(&["--locked", "--all-features"])?;
    let packages: Vec<Dependency> = metadata.packages.iter().map(Dependency::of).collect();
    let mut found = rules.licences(&packages);
    found.extend(rules.sources(&packages));
    found.extend(rules.bans(&dependents(&metadata)));
    found.extend(wildcards(&metadata));
    println!("{} packages read", packages.len());
    if found.is_empty() {
        Ok(())
    } else {
        Err(format!("deny.toml refuses\n  {}", found.join("\n  ")))
    }
}

/// What the rules look at in a package.
struct Dependency {
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}

impl Dependency {
    fn of(package: &Package) -> Self {
        Self {
            name: package.name.to_string(),
            version: package.version.to_string(),
            license: package.license.clone(),
            source: package.source.as_ref().map(|source| source.repr.clone()),
        }
    }
}

impl Rules {
    fn read(text: &str) -> Result<Self, String> {
        let rules: Self = toml::from_str(text).map_err(|error| format!("deny.toml: {error}"))?;
        let exceptions = rules.licenses.exceptions.iter().flat_map(|of| &of.allow);
        match (rules.licenses.allow.iter().chain(exceptions))
            .find(|id| spdx::license_id(id).is_none())
        {
            Some(unknown) => Err(format!("deny.toml: `{unknown}` is no SPDX identifier")),
            None => Ok(rules),
        }
    }

    fn licences(&self, packages: &[Dependency]) -> Vec<String> {
        let mut used = BTreeSet::new();
        let mut refused = Vec::new();
        for package in packages {
            if let Err(why) = self.licence(package, &mut used) {
                refused.push(format!("{} {}: {why}", package.name, package.version));
            }
        }
        for unused in self.licenses.allow.iter().filter(|id| !used.contains(*id)) {
            println!("note: no package needs the licence {unused}");
        }
        refused
    }

    fn licence(&self, package: &Dependency, used: &mut BTreeSet<String>) -> Result<(), String> {
        let text = package.license.as_deref().ok_or("it names no licence")?;
        let expression = Expression::parse_mode(text, ParseMode::LAX)
            .map_err(|error| format!("`{text}` is no licence expression: {}", error.reason))?;
        let exceptions = self.licenses.exceptions.iter();
        let own: Vec<&String> = exceptions
            .filter(|exception| exception.name == package.name)
            .flat_map(|exception| &exception.allow)
            .collect();
        let allowed = expression.evaluate(|required| {
            let Some(id) = required.license.id() else {
                return false;
            };
            // An addition (`WITH ...`) gives more rights than the licence alone.
            let mut known = self.licenses.allow.iter().chain(own.iter().copied());
            let found = known.find(|allowed| *allowed == id.name).cloned();
            let allowed = found.is_some();
            used.extend(found);
            allowed
        });
        if allowed {
            Ok(())
        } else {
            Err(format!("the licence {text} is not allowed"))
        }
    }

    fn sources(&self, packages: &[Dependency]) -> Vec<String> {
        packages
            .iter()
            .filter_map(|package| {
                let source = package.source.as_deref()?;
                let git = source.strip_prefix("git+").is_some_and(|url| {
                    let allowed = &self.sources.allow_git;
                    allowed
                        .iter()
                        .any(|allowed| url.starts_with(allowed.as_str()))
                });
                (source != CRATES_IO && !git)
                    .then(|| format!("{} {} comes from {source}", package.name, package.version))
            })
            .collect()
    }

    fn bans(&self, dependents: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
        let mut refused = Vec::new();
        for ban in &self.bans.deny {
            let Some(users) = dependents.get(&ban.name) else {
                continue;
            };
            let others: Vec<&str> = users
                .iter()
                .filter(|user| !ban.wrappers.contains(user))
                .map(String::as_str)
                .collect();
            if !others.is_empty() || ban.wrappers.is_empty() {
                refused.push(format!("{} is used by {}", ban.name, others.join(", ")));
            }
            for unused in ban.wrappers.iter().filter(|name| !users.contains(*name)) {
                println!("note: {unused} does not use {}", ban.name);
            }
        }
        refused
    }
}

/// Who depends on each package directly, by name. Every package is there, with or without users.
fn dependents(metadata: &Metadata) -> BTreeMap<String, BTreeSet<String>> {
    let name_of: BTreeMap<_, _> = metadata
        .packages
        .iter()
        .map(|package| (&package.id, package.name.to_string()))
        .collect();
    let mut users: BTreeMap<String, BTreeSet<String>> = name_of
        .values()
        .map(|name| (name.clone(), BTreeSet::new()))
        .collect();
    for node in metadata.resolve.iter().flat_map(|resolve| &resolve.nodes) {
        for dependency in &node.deps {
            let (Some(user), Some(used)) = (name_of.get(&node.id), name_of.get(&dependency.pkg))
            else {
                continue;
            };
            users.entry(used.clone()).or_default().insert(user.clone());
        }
    }
    users
}

/// Dependencies of our own packages without a version. A path is one.
fn wildcards(metadata: &Metadata) -> Vec<String> {
    let members = metadata.workspace_packages();
    members
        .iter()
        .flat_map(|package| {
            let open = package.dependencies.iter().filter(|dependency| {
                dependency.path.is_none() && dependency.req.to_string() == "*"
            });
            open.map(|dependency| {
                format!("{} takes any version of {}", package.name, dependency.name)
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = r#"
        [licenses]
        allow = ["MIT", "Apache-2.0"]
        exceptions = [{ crate = "driver", allow = ["MPL-2.0"] }]
        [bans]
        deny = [{ crate = "openssl-sys" }, { crate = "axum", wrappers = ["server", "signaling"] }]
        [sources]
        allow-git = ["https://example.org/ours"]
    "#;

    fn rules() -> Rules {
        Rules::read(RULES).unwrap()
    }

    fn package(name: &str, license: Option<&str>, source: Option<&str>) -> Dependency {
        Dependency {
            name: name.into(),
            version: "1.0.0".into(),
            license: license.map(Into::into),
            source: source.map(Into::into),
        }
    }

    fn licensed(name: &str, license: &str) -> String {
        rules()
            .licences(&[package(name, Some(license), None)])
            .join("; ")
    }

    #[test]
    fn a_licence_is_allowed_if_one_way_through_its_expression_is() {
        for license in [
            "MIT",
            "MIT OR GPL-3.0-only",
            "MIT AND Apache-2.0",
            "MIT/Apache-2.0",
            "(GPL-2.0-only OR Apache-2.0) AND MIT",
            "Apache-2.0 WITH LLVM-exception",
        ] {
            assert_eq!(licensed("serde", license), "", "{license}");
        }
        for license in [
            "GPL-3.0-only",
            "MIT AND GPL-3.0-only",
            "Zlib",
            "LicenseRef-own",
        ] {
            let refused = licensed("serde", license);
            assert!(refused.contains("is not allowed"), "{license}: {refused}");
        }
        assert!(licensed("serde", "MIT OR").contains("is no licence expression"));
    }

    #[test]
    fn an_exception_is_for_the_crate_that_it_names() {
        assert_eq!(licensed("driver", "MPL-2.0"), "");
        assert!(licensed("other", "MPL-2.0").contains("is not allowed"));
    }

    #[test]
    fn a_package_without_a_licence_is_refused() {
        let refused = rules().licences(&[package("bare", None, None)]);
        assert_eq!(refused, ["bare 1.0.0: it names no licence"]);
    }

    #[test]
    fn a_licence_that_spdx_does_not_know_is_refused_in_the_rules() {
        let error = Rules::read(&RULES.replace("\"MIT\"", "\"MTI\""))
            .err()
            .unwrap();
        assert!(error.contains("`MTI` is no SPDX identifier"), "{error}");
    }

    #[test]
    fn only_the_registry_this_repository_and_named_git_hosts_are_sources() {
        let from = |source: &str| rules().sources(&[package("a", None, Some(source))]).len();
        assert_eq!(rules().sources(&[package("own", None, None)]).len(), 0);
        assert_eq!(from(CRATES_IO), 0);
        assert_eq!(from("git+https://example.org/ours/repo#abc"), 0);
        assert_eq!(from("git+https://example.org/theirs#abc"), 1);
        assert_eq!(from("registry+https://registry.example.org/index"), 1);
    }

    #[test]
    fn a_banned_crate_is_refused_unless_all_its_users_are_wrappers() {
        let used = |name: &str, users: &[&str]| {
            let users = users.iter().map(ToString::to_string).collect();
            rules().bans(&BTreeMap::from([(name.to_string(), users)]))
        };
        assert!(used("axum", &["server", "signaling"]).is_empty());
        assert_eq!(
            used("axum", &["server", "plugin"]),
            ["axum is used by plugin"]
        );
        assert_eq!(used("openssl-sys", &["openssl"]).len(), 1);
        assert!(used("serde", &["plugin"]).is_empty());
    }

    #[test]
    fn the_committed_rules_are_read() {
        let text = fs::read_to_string(root().join("deny.toml")).unwrap();
        let rules = Rules::read(&text).unwrap();
        assert!(rules.licenses.allow.len() > 2 && rules.bans.deny.len() > 2);
    }
}
