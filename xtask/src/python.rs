//! Programs from PyPI, with versions and hashes pinned in a file of requirements.

use crate::command::{output, run as run_command, workspace};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// Beside the programs: what they were installed from.
const INSTALLED: &str = "installed.txt";

/// Tests run at once, and may ask for the same.
static INSTALLING: Mutex<()> = Mutex::new(());

/// The folder `name` in `place`, with what `requirements`, a file of the workspace, asks for; it is installed when it is
/// not there, or was installed from other requirements or for another Python.
pub(crate) fn install(name: &str, requirements: &str, place: &Path) -> Result<PathBuf> {
    let _installing = INSTALLING.lock();
    let requirements = workspace().join(requirements);
    let text = fs::read_to_string(&requirements)
        .with_context(|| format!("cannot read {}", requirements.display()))?;
    let wanted = format!("# {}\n{text}", output(Command::new("python3").arg("--version"))?.trim());
    let folder = place.join(name);
    if fs::read_to_string(folder.join(INSTALLED)).is_ok_and(|installed| installed == wanted) {
        return Ok(folder);
    }
    println!("installing {name}");
    let unfinished = place.join(format!("{name}.unfinished"));
    for old in [&unfinished, &folder] {
        if old.exists() {
            fs::remove_dir_all(old).with_context(|| format!("cannot remove {}", old.display()))?;
        }
    }
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps", "--only-binary", ":all:"]);
    pip.args(["--root-user-action", "ignore", "--target"]).arg(&unfinished);
    run_command(pip.arg("--requirement").arg(&requirements))?;
    fs::write(unfinished.join(INSTALLED), wanted)
        .with_context(|| format!("cannot write into {}", unfinished.display()))?;
    fs::rename(&unfinished, &folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}
