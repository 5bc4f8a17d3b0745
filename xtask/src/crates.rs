//! The crates of the workspace and those that they use, as cargo knows them.
//!
//! `cargo metadata` describes each crate, but unites the features that anything in the workspace asks for, tests as well;
//! `cargo tree` says which crates a build of the packages' programs really takes.

use crate::command::{cargo, output, workspace};
use crate::deb::packages;
use crate::release::TRIPLE;
use anyhow::{Context, Result, anyhow};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Mutex;

/// What `cargo metadata` says of a crate.
#[derive(Clone, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) manifest_path: PathBuf,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) license: Option<String>,
    pub(crate) authors: Vec<String>,
    pub(crate) description: Option<String>,
    pub(crate) repository: Option<String>,
    /// Where it comes from; `None` for crates of the workspace.
    pub(crate) source: Option<String>,
}

/// What a crate asks for.
#[derive(Clone, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// `None` for a normal dependency, else `dev` or `build`.
    pub(crate) kind: Option<String>,
    /// Where it lies, for crates of the workspace.
    pub(crate) path: Option<PathBuf>,
}

/// Name and version.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Id {
    pub(crate) name: String,
    pub(crate) version: String,
}

/// A crate that a program is built with.
pub(crate) struct Used {
    pub(crate) package: Package,
    /// Of its archive at crates.io, in hexadecimal digits; `None` for crates of the workspace.
    pub(crate) sha256: Option<String>,
    pub(crate) uses: BTreeSet<Id>,
    /// Whether code of it is in the program: it is linked, or it is a procedural macro that writes some of it. All others
    /// run during the build, and that is all.
    pub(crate) inside: bool,
}

/// All that the programs of one crate are built with.
pub(crate) struct Graph {
    pub(crate) root: Id,
    pub(crate) crates: BTreeMap<Id, Used>,
}

impl fmt::Display for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.name, self.version)
    }
}

impl Package {
    fn id(&self) -> Id {
        Id { name: self.name.clone(), version: self.version.clone() }
    }

    /// The licence as an SPDX expression: a slash was used for a choice once.
    pub(crate) fn licence(&self) -> Result<String> {
        let licence = self.license.as_ref();
        let licence = licence.with_context(|| format!("{} names no licence in its Cargo.toml", self.id()))?;
        Ok(licence.replace('/', " OR "))
    }
}

/// What `cargo metadata` says, asked with `arguments`.
pub(crate) fn metadata(arguments: &[&str]) -> Result<Vec<Package>> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    let mut command = cargo(&["metadata", "--format-version", "1", "--locked"]);
    let text = output(command.args(arguments))?;
    let metadata: Metadata =
        serde_json::from_str(&text).context("cannot read what cargo metadata printed")?;
    Ok(metadata.packages)
}

/// What the programs of the crate `name` are built with, when all packages are built in one go, as they are.
pub(crate) fn graph(name: &str) -> Result<Graph> {
    let build = build()?;
    let root = build.packages.values().find(|one| one.name == name && one.source.is_none());
    let root = root.with_context(|| format!("the workspace has no crate {name}"))?.id();
    let inside = build.linked.reached(&root, false);
    let mut crates = BTreeMap::new();
    for id in build.built.reached(&root, true) {
        let package =
            build.packages.get(&id).with_context(|| format!("cargo metadata does not know {id}"))?;
        let used = Used {
            package: package.clone(),
            sha256: build.checksums.get(&id).cloned(),
            uses: build.built.edges.get(&id).cloned().unwrap_or_default(),
            inside: inside.contains(&id),
        };
        crates.insert(id, used);
    }
    Ok(Graph { root, crates })
}

/// All that cargo says of a build of the packages.
struct Build {
    packages: BTreeMap<Id, Package>,
    checksums: BTreeMap<Id, String>,
    /// With what only runs during the build.
    built: Tree,
    linked: Tree,
}

/// Cargo is asked once: it takes its time, and says the same again.
fn build() -> Result<&'static Build> {
    static BUILD: Mutex<Option<&'static Build>> = Mutex::new(None);
    let mut known = BUILD.lock().map_err(|_| anyhow!("another thread failed to ask cargo"))?;
    if let Some(build) = *known {
        return Ok(build);
    }
    let packages = metadata(&["--filter-platform", TRIPLE])?;
    let build = Build {
        packages: packages.into_iter().map(|one| (one.id(), one)).collect(),
        checksums: checksums()?,
        built: Tree::of("normal,build")?,
        linked: Tree::of("normal")?,
    };
    Ok(known.insert(Box::leak(Box::new(build))))
}

/// Checksums of `Cargo.lock`.
fn checksums() -> Result<BTreeMap<Id, String>> {
    #[derive(Deserialize)]
    struct Lock {
        package: Vec<Locked>,
    }
    #[derive(Deserialize)]
    struct Locked {
        #[serde(flatten)]
        id: Id,
        checksum: Option<String>,
    }
    let text = std::fs::read_to_string(workspace().join("Cargo.lock")).context("cannot read Cargo.lock")?;
    let lock: Lock = toml::from_str(&text).context("cannot read Cargo.lock")?;
    Ok(lock.package.into_iter().filter_map(|one| Some((one.id, one.checksum?))).collect())
}

/// What `cargo tree` says.
#[derive(Default)]
struct Tree {
    edges: BTreeMap<Id, BTreeSet<Id>>,
    macros: BTreeSet<Id>,
}

impl Tree {
    /// That of all packages, with dependencies of the kinds `edges`.
    fn of(edges: &str) -> Result<Tree> {
        let mut command =
            cargo(&["tree", "--locked", "--target", TRIPLE, "--prefix", "depth", "--edges", edges]);
        command.args(packages().flat_map(|(_, name)| ["--package", name]));
        Tree::read(&output(&mut command)?)
    }

    /// Lines like `2syn v2.0.119 (proc-macro) (*)`, each below the one that uses it.
    fn read(text: &str) -> Result<Tree> {
        let mut tree = Tree::default();
        let mut above: Vec<Id> = Vec::new();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let not_understood = || format!("not understood: cargo tree printed {line:?}");
            let digits = line.find(|c: char| !c.is_ascii_digit()).with_context(not_understood)?;
            let depth: usize = line[..digits].parse().with_context(not_understood)?;
            let mut words = line[digits..].split_whitespace();
            let name = words.next().with_context(not_understood)?;
            let version =
                words.next().and_then(|word| word.strip_prefix('v')).with_context(not_understood)?;
            let id = Id { name: name.to_owned(), version: version.to_owned() };
            if words.any(|word| word == "(proc-macro)") {
                tree.macros.insert(id.clone());
            }
            above.truncate(depth);
            if let Some(user) = above.last() {
                tree.edges.entry(user.clone()).or_default().insert(id.clone());
            }
            above.push(id);
        }
        Ok(tree)
    }

    /// The crate `root` and all below it; what procedural macros are made of only with `through_macros`.
    fn reached(&self, root: &Id, through_macros: bool) -> BTreeSet<Id> {
        let mut reached = BTreeSet::from([root.clone()]);
        let mut open = vec![root];
        while let Some(id) = open.pop() {
            if !through_macros && self.macros.contains(id) {
                continue;
            }
            for next in self.edges.get(id).into_iter().flatten() {
                if reached.insert(next.clone()) {
                    open.push(next);
                }
            }
        }
        reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_read() {
        let text = "0ours v0.1.0 (/somewhere/ours)\n1derive v1.0.0 (proc-macro)\n2syn v2.0.1\n1low v0.3.0+c.7\n\n\
                    0other v0.1.0 (/somewhere/other)\n1low v0.3.0+c.7 (*)\n";
        let tree = Tree::read(text).unwrap();
        let names = |root: &str, through| {
            let root = Id { name: root.to_owned(), version: "0.1.0".to_owned() };
            tree.reached(&root, through).iter().map(Id::to_string).collect::<Vec<_>>()
        };
        assert_eq!(names("ours", true), ["derive 1.0.0", "low 0.3.0+c.7", "ours 0.1.0", "syn 2.0.1"]);
        assert_eq!(names("ours", false), ["derive 1.0.0", "low 0.3.0+c.7", "ours 0.1.0"]);
        assert_eq!(names("other", true), ["low 0.3.0+c.7", "other 0.1.0"]);
        assert!(Tree::read("nothing like a tree").is_err());
    }

    #[test]
    fn programs_are_built_with_what_they_use_and_no_test_helper() {
        for (_, name) in packages() {
            let graph = graph(name).unwrap();
            let find = |name: &str| graph.crates.iter().find(|(id, _)| id.name == name).map(|(_, used)| used);
            assert_eq!(graph.root.name, name);
            assert!(find("control-api").is_some_and(|used| used.inside && used.sha256.is_none()));
            assert!(find("serde").is_some_and(|used| used.inside && used.sha256.is_some()));
            assert!(find("serde_derive").is_some_and(|used| used.inside));
            assert!(find("syn").is_some_and(|used| !used.inside));
            assert!(find("testkit").is_none() && find("proptest").is_none() && find("tempfile").is_none());
            for (id, used) in &graph.crates {
                assert_eq!(used.sha256.is_some(), used.package.source.is_some(), "{id}");
                assert!(used.uses.iter().all(|below| graph.crates.contains_key(below)), "{id}");
            }
        }
    }
}
