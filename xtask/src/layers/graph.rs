//! The crates and their dependencies, as cargo knows them.

use super::Table;
use crate::command::{cargo, output, workspace};
use anyhow::{Context, Result};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What `cargo metadata` says of the workspace.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `None` for a normal dependency, else `dev` or `build`.
    kind: Option<String>,
    /// Where it lies, for crates of the workspace.
    path: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
}

/// What the crates do against the table.
pub(super) fn findings(table: &Table) -> Result<Vec<String>> {
    let text = output(&mut cargo(&["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: Metadata =
        serde_json::from_str(&text).context("cannot read what cargo metadata printed")?;
    let mut findings = Vec::new();
    for package in &metadata.packages {
        if !takes_over_lints(&package.manifest_path)? {
            findings.push(format!("{}: its Cargo.toml lacks [lints] workspace = true", package.name));
        }
        if package.manifest_path.starts_with(workspace().join("crates")) {
            findings.extend(package_findings(table, package));
        }
    }
    let lock = fs::read_to_string(workspace().join("Cargo.lock")).context("cannot read Cargo.lock")?;
    findings.extend(lock_findings(table, &toml::from_str(&lock).context("cannot read Cargo.lock")?));
    Ok(findings)
}

fn package_findings(table: &Table, package: &Package) -> Vec<String> {
    let name = &package.name;
    // Test helpers may use whatever the crates under test may.
    let is_testkit = name == "testkit";
    let place = match table.crates.get(name) {
        Some(place) => place,
        None if is_testkit => return Vec::new(),
        None => return vec![format!("{name} has no place in layers.toml")],
    };
    let mut findings = Vec::new();
    for dependency in package.dependencies.iter().filter(|one| one.kind.as_deref() != Some("dev")) {
        let used = &dependency.name;
        let (allowed, list) = match dependency.path {
            Some(_) => (place.uses.contains(used), "uses"),
            None if place.layer <= table.pure_layers => {
                (table.pure_dependencies.contains(used), "pure_dependencies")
            }
            None => (true, ""),
        };
        if !allowed {
            findings.push(format!(
                "{name} (layer {}) depends on {used}, which is not in its {list}",
                place.layer
            ));
        }
    }
    findings
}

/// Whether a crate is under the lints of the workspace, which forbid `unsafe`.
fn takes_over_lints(manifest: &Path) -> Result<bool> {
    let text = fs::read_to_string(manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
    let manifest: toml::Table =
        toml::from_str(&text).with_context(|| format!("cannot read {}", manifest.display()))?;
    let inherited = manifest.get("lints").and_then(|lints| lints.get("workspace"));
    Ok(inherited.and_then(toml::Value::as_bool) == Some(true))
}

fn lock_findings(table: &Table, lock: &Lock) -> Vec<String> {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in &lock.package {
        versions.entry(&package.name).or_default().insert(&package.version);
    }
    let mut findings = Vec::new();
    for (name, versions) in &versions {
        if table.banned.iter().any(|banned| banned == name) {
            findings.push(format!("Cargo.lock: {name} is banned"));
        }
        if versions.len() > 1 && !table.duplicates.contains_key(*name) {
            let list = versions.iter().copied().collect::<Vec<_>>().join(" and ");
            findings
                .push(format!("Cargo.lock: {name} is there as {list}; layers.toml gives no reason for it"));
        }
    }
    for name in
        table.duplicates.keys().filter(|name| versions.get(name.as_str()).is_none_or(|all| all.len() < 2))
    {
        findings.push(format!("layers.toml: {name} is no duplicate any more"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let text = r#"
            pure_layers = 3
            pure_dependencies = ["thiserror"]
            pure_forbids = []
            banned = ["openssl-sys"]
            [duplicates]
            known = "two crates want different ones"
            [crates.low]
            layer = 1
            uses = []
            [crates.high]
            layer = 4
            uses = ["low"]
        "#;
        toml::from_str(text).unwrap()
    }

    fn package(name: &str, dependencies: &[(&str, Option<&str>, bool)]) -> Package {
        let dependencies = dependencies.iter().map(|(name, kind, ours)| Dependency {
            name: (*name).to_owned(),
            kind: kind.map(str::to_owned),
            path: ours.then(PathBuf::new),
        });
        Package { name: name.to_owned(), manifest_path: PathBuf::new(), dependencies: dependencies.collect() }
    }

    #[test]
    fn what_the_table_does_not_allow_is_found() {
        let found = |name, dependencies: &[_]| package_findings(&table(), &package(name, dependencies)).len();
        assert_eq!(found("low", &[("thiserror", None, false), ("proptest", Some("dev"), false)]), 0);
        assert_eq!(found("low", &[("tokio", None, false), ("high", None, true)]), 2);
        assert_eq!(found("low", &[("cc", Some("build"), false)]), 1);
        assert_eq!(found("low", &[("high", Some("dev"), true)]), 0);
        assert_eq!(found("high", &[("tokio", None, false), ("low", None, true)]), 0);
        assert_eq!(found("stranger", &[]), 1);
    }

    #[test]
    fn banned_and_doubled_crates_are_found() {
        let locked = |list: &[(&str, &str)]| Lock {
            package: list
                .iter()
                .map(|(name, version)| Locked { name: (*name).to_owned(), version: (*version).to_owned() })
                .collect(),
        };
        let known = [("known", "1.0.0"), ("known", "2.0.0")];
        assert!(lock_findings(&table(), &locked(&known)).is_empty());
        let findings =
            lock_findings(&table(), &locked(&[("openssl-sys", "1.0.0"), ("a", "1.0.0"), ("a", "2.0.0")]));
        assert_eq!(findings.len(), 3, "{findings:?}");
        assert!(findings[1].contains("openssl-sys is banned"), "{findings:?}");
    }
}
