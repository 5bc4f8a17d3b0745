//! The Debian packages: what is in each, how it is laid out, and what must hold before anybody gets it.
//!
//! [`mod@packages`] is the list of what goes where. A package's folder in `packaging/` has what is written by hand: its
//! `control` and its maintainer scripts. [`tree`] lays the rest out beside: programs
//! built for the oldest C library, units, configuration, and what is made of the programs' own definition of their
//! arguments. `dpkg-deb` makes the archive of that, and lintian judges it. Nothing in it depends on the day, the folder or
//! the machine that it is built in, so who builds it again gets the same bytes; [`Options::twice`] proves that.

mod archive;
mod control;
mod packages;
mod tree;

use crate::command::{run as run_command, target, workspace};
use crate::{release, sbom, source_date};
use anyhow::{Context, Result, ensure};
use clap::Args;
use packages::PACKAGES;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Args)]
pub(crate) struct Options {
    /// Build everything once more, from a copy of the sources in another folder, and compare every byte.
    #[arg(long)]
    pub(crate) twice: bool,
}

/// Sources, and where what is made of them goes.
struct Build<'a> {
    workspace: &'a Path,
    target: &'a Path,
    /// Seconds since 1970 that stand in the packages.
    time: u64,
}

/// The name of each package, and the crate that its programs are of.
pub(crate) fn packages() -> impl Iterator<Item = (&'static str, &'static str)> {
    PACKAGES.iter().map(|package| (package.name, package.source))
}

/// Where the packages of this workspace go.
pub(crate) fn folder() -> PathBuf {
    target().join("deb")
}

/// Where the programs lie that are in them.
pub(crate) fn programs() -> PathBuf {
    folder().join("bin")
}

/// Builds the packages and has lintian look at them.
pub(crate) fn run(options: &Options) -> Result<()> {
    let folder = folder();
    let archives = build(&workspace(), &target(), &folder)?;
    lint(&archives)?;
    sbom::run(Some(&folder))?;
    if options.twice {
        compare_with_second_build(&archives)?;
    }
    for archive in &archives {
        println!("{}", archive.display());
    }
    Ok(())
}

/// Builds the packages of these sources into `folder`, which is made anew, and gives their files.
pub(crate) fn build(workspace: &Path, target: &Path, folder: &Path) -> Result<Vec<PathBuf>> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    let crates: Vec<&str> = PACKAGES.iter().map(|package| package.source).collect();
    let programs: Vec<&str> = PACKAGES.iter().flat_map(|package| package.programs).copied().collect();
    release::build(workspace, target, &crates, &programs, &folder.join("bin"))?;
    let build = Build { workspace, target: folder, time: source_date::seconds()? };
    let mut archives = Vec::new();
    for package in &PACKAGES {
        let laid_out = tree::lay_out(&build, package)?;
        archives.push(archive::package(&build, package, &laid_out)?);
    }
    archives.push(archive::installer(&build, &archives)?);
    Ok(archives)
}

/// An error or a warning of lintian's is one of ours.
fn lint(archives: &[PathBuf]) -> Result<()> {
    let packages = archives.iter().filter(|file| file.extension().is_some_and(|end| end == "deb"));
    let mut lintian = Command::new("lintian");
    lintian.args(["--allow-root", "--fail-on", "error,warning", "--tag-display-limit", "0"]).args(packages);
    run_command(&mut lintian)
}

fn compare_with_second_build(archives: &[PathBuf]) -> Result<()> {
    let folder = target().join("deb-twice");
    if folder.exists() {
        fs::remove_dir_all(&folder).context("cannot remove the last second build")?;
    }
    let sources = folder.join("sources");
    copy_sources(&sources)?;
    let again = build(&sources, &folder.join("target"), &folder.join("packages"))?;
    for (one, other) in archives.iter().zip(&again) {
        let same = fs::read(one)? == fs::read(other)?;
        ensure!(same, "{} and {} differ: the build is not reproducible", one.display(), other.display());
    }
    ensure!(archives.len() == again.len(), "the second build made {} files", again.len());
    println!("built twice: the {} files are the same, byte by byte", archives.len());
    fs::remove_dir_all(&folder).context("cannot remove the second build")
}

/// A copy of all sources in the folder `into`.
pub(crate) fn copy_sources(into: &Path) -> Result<()> {
    fs::create_dir_all(into).with_context(|| format!("cannot create {}", into.display()))?;
    let script = "git ls-files -z --cached --others --exclude-standard | \
                  tar --null --files-from=- --ignore-failed-read -c | tar -x -C \"$0\"";
    run_command(
        Command::new("bash").args(["-o", "pipefail", "-c", script]).arg(into).current_dir(workspace()),
    )
}
