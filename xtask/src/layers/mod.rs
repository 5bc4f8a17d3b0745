//! The layer table against what the crates really use.
//!
//! The table is `xtask/layers.toml`. What is checked: every crate has a place in it, uses no crate but those that the
//! table lets it use, and takes over the lints of the workspace (which forbid `unsafe`); a crate of the pure layers
//! takes from outside only what the table lists, and its sources name neither files nor sockets, clock nor
//! randomness. What comes from outside at all is held against `deny.toml`.

mod graph;
mod sources;

use crate::command::workspace;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Where to stop and think about a file.
const LONG_FILE: usize = 500;

/// `layers.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    pure_layers: u8,
    pure_dependencies: Vec<String>,
    pure_forbids: Vec<String>,
    crates: BTreeMap<String, Place>,
}

/// Where a crate stands.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    layer: u8,
    uses: Vec<String>,
}

/// Prints what is wrong and which files are long; an error when something is wrong.
pub(crate) fn run() -> Result<()> {
    for (path, lines) in long_files()? {
        println!("{path} has {lines} lines: is it still one thing?");
    }
    let findings = findings()?;
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!("{} findings against xtask/layers.toml", findings.len());
    }
    println!("the layers hold");
    Ok(())
}

fn findings() -> Result<Vec<String>> {
    let path = workspace().join("xtask/layers.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let table: Table = toml::from_str(&text).with_context(|| format!("cannot read {}", path.display()))?;
    let mut findings = table_findings(&table);
    findings.extend(graph::findings(&table)?);
    for (name, place) in &table.crates {
        let sources = workspace().join("crates").join(name).join("src");
        if place.layer <= table.pure_layers && sources.exists() {
            findings.extend(source_findings(&table, &sources)?);
        }
    }
    Ok(findings)
}

/// The table itself: arrows point down, or sideways at most.
fn table_findings(table: &Table) -> Vec<String> {
    let mut findings = Vec::new();
    for (name, place) in &table.crates {
        for used in &place.uses {
            match table.crates.get(used) {
                None => {
                    findings.push(format!("layers.toml: {name} uses {used}, which the table does not have"))
                }
                Some(below) if below.layer > place.layer => findings.push(format!(
                    "layers.toml: {name} (layer {}) looks up to {used} (layer {})",
                    place.layer, below.layer
                )),
                Some(_) => {}
            }
        }
    }
    findings
}

fn source_findings(table: &Table, folder: &Path) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for path in rust_files(folder)? {
        if path.strip_prefix(folder).is_ok_and(sources::is_test_file) {
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        for (line, name) in sources::forbidden(&text, &table.pure_forbids) {
            findings.push(format!("{}:{line}: {name} has no place in the pure layers", relative(&path)));
        }
    }
    Ok(findings)
}

fn long_files() -> Result<Vec<(String, usize)>> {
    let mut long = Vec::new();
    for folder in ["crates", "tests", "xtask"] {
        for path in rust_files(&workspace().join(folder))? {
            let lines = fs::read_to_string(&path)?.lines().count();
            if lines > LONG_FILE {
                long.push((relative(&path), lines));
            }
        }
    }
    Ok(long)
}

fn relative(path: &Path) -> String {
    path.strip_prefix(workspace()).unwrap_or(path).display().to_string()
}

/// All Rust files below a folder, in the order of their names.
fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                if path.file_name().is_some_and(|name| name != "target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layers_hold() {
        let findings = findings().unwrap();
        assert!(findings.is_empty(), "{}", findings.join("\n"));
    }

    #[test]
    fn a_table_that_looks_up_is_found() {
        let text = r#"
            pure_layers = 3
            pure_dependencies = []
            pure_forbids = []
            [crates.low]
            layer = 1
            uses = ["high", "absent"]
            [crates.high]
            layer = 2
            uses = ["low"]
        "#;
        let findings = table_findings(&toml::from_str(text).unwrap());
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert!(findings[0].contains("low (layer 1) looks up to high (layer 2)"), "{findings:?}");
    }
}
