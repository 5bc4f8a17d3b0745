//! The files of a package, as they will lie on the machine.

use super::Build;
use super::control;
use super::packages::Package;
use crate::command::{output, run as run_command};
use crate::copyright::copyright;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Lays a package out in a folder of its own, and gives that.
pub(super) fn lay_out(build: &Build<'_>, package: &Package) -> Result<PathBuf> {
    let tree = Tree { root: build.target.join(package.name) };
    for program in package.programs {
        tree.install(&build.target.join("bin").join(program), &format!("usr/bin/{program}"), 0o755)?;
        tree.install_manual(&build.target.join("bin").join(program), &build.target.join("manual"))?;
    }
    tree.compress_pages()?;
    let unit = format!("{}.service", package.unit);
    tree.install(&build.workspace.join("systemd").join(&unit), &format!("lib/systemd/system/{unit}"), 0o644)?;
    let share = format!("usr/share/{}", package.name);
    let newer = build.workspace.join(format!("systemd/newer/{}.service.conf", package.unit));
    tree.install(&newer, &format!("{share}/newer-sandboxing.conf"), 0o644)?;
    let configuration = package.configuration;
    let from = build.workspace.join("packaging").join(configuration);
    tree.install(&from, &format!("etc/master-target/{configuration}"), 0o644)?;
    if package.runbooks {
        let script = "UnifiedAgentConfigurator.sh";
        let from = build.workspace.join("packaging/runbooks").join(script);
        tree.install(&from, &format!("{share}/{script}"), 0o755)?;
    }
    tree.install_documents(build, package)?;
    control::write(build, package, &tree.root)?;
    Ok(tree.root)
}

struct Tree {
    root: PathBuf,
}

impl Tree {
    fn install(&self, from: &Path, to: &str, mode: u32) -> Result<()> {
        let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.write(to, &content, mode)
    }

    fn write(&self, to: &str, content: &[u8], mode: u32) -> Result<()> {
        write(&self.root, to, content, mode)
    }

    /// What a program writes of its own definition of its arguments.
    fn install_manual(&self, program: &Path, place: &Path) -> Result<()> {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let folder = place.join(&name);
        run_command(Command::new(program).arg("--generate").arg(&folder))?;
        for (part, to) in [
            ("man", "usr/share/man/man8"),
            ("bash", "usr/share/bash-completion/completions"),
            ("zsh", "usr/share/zsh/vendor-completions"),
            ("fish", "usr/share/fish/vendor_completions.d"),
        ] {
            let mut files = 0;
            for entry in fs::read_dir(folder.join(part)).with_context(|| format!("{name} has no {part}"))? {
                let file = entry?.path();
                let file_name = file.file_name().unwrap_or_default().to_string_lossy();
                self.install(&file, &format!("{to}/{file_name}"), 0o644)?;
                files += 1;
            }
            ensure!(files > 0, "{name} wrote no {part}");
        }
        Ok(())
    }

    fn compress_pages(&self) -> Result<()> {
        let folder = self.root.join("usr/share/man/man8");
        let pages: Vec<PathBuf> =
            fs::read_dir(&folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
        run_command(Command::new("gzip").args(["--best", "--no-name"]).args(&pages))
    }

    fn install_documents(&self, build: &Build<'_>, package: &Package) -> Result<()> {
        let folder = format!("usr/share/doc/{}", package.name);
        let changelog = control::changelog(build, package)?;
        self.write(&format!("{folder}/changelog"), changelog.as_bytes(), 0o644)?;
        run_command(
            Command::new("gzip").args(["--best", "--no-name"]).arg(self.root.join(&folder).join("changelog")),
        )?;
        self.write(&format!("{folder}/copyright"), copyright(package.source)?.as_bytes(), 0o644)
    }
}

/// Writes a file below `root`, with the folders that it lies in.
pub(super) fn write(root: &Path, to: &str, content: &[u8], mode: u32) -> Result<()> {
    let path = root.join(to);
    let parent = path.parent().unwrap_or(root);
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    for folder in parent.ancestors().take_while(|folder| folder.starts_with(root)) {
        // Whatever the umask of who builds it.
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    }
    fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("cannot set the mode of {}", path.display()))
}

/// What a program prints with these arguments.
pub(super) fn said(build: &Build<'_>, program: &str, arguments: &[&str]) -> Result<String> {
    output(Command::new(build.target.join("bin").join(program)).args(arguments))
}
