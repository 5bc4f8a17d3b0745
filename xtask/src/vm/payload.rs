//! What of ours goes into the guest: the packages as they are delivered, a later version of them to upgrade to, the
//! documents whose commands are typed there, and the scenarios with their library.

use crate::command::{run as run_command, workspace};
use crate::deb;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The later version, as its sources differ from ours: another number, and a state that is brought to a new format. Our own
/// crates are optimised less, which takes half the time; the dependencies are those of the packages, built already.
const LATER: &str = r#"
set -e
sed -i '/^\[workspace.package\]/,/^$/ s/^version = .*/version = "99.0.0"/' Cargo.toml
for crate in crates/*; do printf '[profile.release.package.%s]\nopt-level = 1\n' "${crate#*/}" >>Cargo.toml; done
sed -i 's/; 1\] = \[number\];/; 2] = [number, later];/' crates/daemon/src/state_format.rs
printf 'fn later(folder: &Path) -> io::Result<()> { fs::write(folder.join("later"), "moved\\n") }\n' \
    >>crates/daemon/src/state_format.rs
"#;

/// The folder of the packages in it.
pub(super) const PACKAGES: &str = "packages";

/// Builds the packages and lays everything out in the folder that the guest sees.
pub(super) fn payload(cache: &Path, target: &Path) -> Result<PathBuf> {
    let archives = deb::build(&workspace(), target, &deb::folder())?;
    let folder = cache.join("payload");
    if folder.exists() {
        fs::remove_dir_all(&folder).context("cannot remove the last payload")?;
    }
    copy_files(&archives, &folder.join(PACKAGES))?;
    copy_files(&later(cache, target)?, &folder.join("later"))?;
    let tests = workspace().join("tests/vm");
    copy_files(&files(&tests, &["sh", "py"])?, &folder)?;
    copy_files(&files(&tests.join("scenarios"), &["sh"])?, &folder.join("scenarios"))?;
    copy_files(&[workspace().join("README.md")], &folder)?;
    Ok(folder)
}

/// The packages of a version that is later than ours.
fn later(cache: &Path, target: &Path) -> Result<Vec<PathBuf>> {
    let folder = cache.join("later");
    let sources = folder.join("sources");
    if sources.exists() {
        fs::remove_dir_all(&sources).context("cannot remove the last sources of a later version")?;
    }
    deb::copy_sources(&sources)?;
    run_command(Command::new("sh").args(["-c", LATER]).current_dir(&sources))?;
    run_command(
        Command::new("cargo").args(["update", "--workspace", "--offline", "-q"]).current_dir(&sources),
    )?;
    deb::build(&sources, target, &folder.join("packages"))
}

/// The files of a folder whose names end like this.
fn files(folder: &Path, ends: &[&str]) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    let fits = |path: &PathBuf| path.extension().is_some_and(|end| ends.iter().any(|one| end == *one));
    Ok(paths.into_iter().filter(fits).collect())
}

fn copy_files(files: &[PathBuf], to: &Path) -> Result<()> {
    ensure!(!files.is_empty(), "there is nothing to copy to {}", to.display());
    fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    for file in files {
        fs::copy(file, to.join(file.file_name().unwrap_or_default()))
            .with_context(|| format!("cannot copy {}", file.display()))?;
    }
    Ok(())
}
