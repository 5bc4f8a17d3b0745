//! What the crates say of themselves and ask for, against the table.

use super::Table;
use crate::command::workspace;
use crate::crates::{Package, metadata};
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

/// What the crates do against the table.
pub(super) fn findings(table: &Table) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for package in &metadata(&["--no-deps"])? {
        if !takes_over_lints(&package.manifest_path)? {
            findings.push(format!("{}: its Cargo.toml lacks [lints] workspace = true", package.name));
        }
        if package.manifest_path.starts_with(workspace().join("crates")) {
            findings.extend(package_findings(table, package));
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crates::Dependency;
    use std::path::PathBuf;

    fn table() -> Table {
        let text = r#"
            pure_layers = 3
            pure_dependencies = ["thiserror"]
            pure_forbids = []
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
        Package {
            name: name.to_owned(),
            version: String::new(),
            manifest_path: PathBuf::new(),
            dependencies: dependencies.collect(),
            license: None,
            authors: Vec::new(),
            description: None,
            repository: None,
            source: None,
        }
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
}
