//! What dpkg is told of a package: its description, its scripts, which files are the administrator's, and its history.

use super::Build;
use super::packages::Package;
use super::tree;
use crate::source_date;
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

const SCRIPTS: [&str; 4] = ["preinst", "postinst", "prerm", "postrm"];
/// Characters of a line of the history.
const LINE: usize = 78;
/// What all maintainer scripts have in common, in place of this line.
const COMMON: &str = "#COMMON#\n";

/// Writes the folder `DEBIAN` of a package that is laid out at `root`.
pub(super) fn write(build: &Build<'_>, package: &Package, root: &Path) -> Result<()> {
    let folder = build.workspace.join("packaging").join(package.name);
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let size = size(root)?.div_ceil(1024);
    let (version, format) = (version(build)?, state_format(build)?);
    let control = format!(
        "Package: {}\nVersion: {version}\nArchitecture: amd64\nInstalled-Size: {size}\n{}",
        package.name,
        read("control")?
    );
    tree::write(root, "DEBIAN/control", control.as_bytes(), 0o644)?;
    let conffiles = format!("/etc/master-target/{}\n", package.configuration);
    tree::write(root, "DEBIAN/conffiles", conffiles.as_bytes(), 0o644)?;
    let common = fs::read_to_string(build.workspace.join("packaging/maintainer-script.sh"))
        .context("cannot read packaging/maintainer-script.sh")?;
    for script in SCRIPTS {
        if !folder.join(script).exists() {
            continue;
        }
        let text = read(script)?.replace(COMMON, &common);
        let text = text.replace("@PACKAGE@", package.name).replace("@UNIT@", package.unit);
        let text = text.replace("@VERSION@", &version).replace("@STATE_FORMAT@", &format);
        tree::write(root, &format!("DEBIAN/{script}"), text.as_bytes(), 0o755)?;
    }
    Ok(())
}

/// Bytes of all files below `folder`.
fn size(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let (entry, metadata) = entry.and_then(|entry| entry.metadata().map(|metadata| (entry, metadata)))?;
        sum += if metadata.is_dir() { size(&entry.path())? } else { metadata.len() };
    }
    Ok(sum)
}

/// The version of all programs.
pub(super) fn version(build: &Build<'_>) -> Result<String> {
    last_word(build, "-V")
}

/// The format of the state that the daemon writes.
fn state_format(build: &Build<'_>) -> Result<String> {
    last_word(build, "--version")
}

fn last_word(build: &Build<'_>, argument: &str) -> Result<String> {
    let said = tree::said(build, "mtd", &[argument])?;
    let word = said.trim().rsplit(' ').next().with_context(|| format!("mtd {argument} says {said}"))?;
    Ok(word.to_owned())
}

/// `CHANGELOG.md` as dpkg's tools read it.
pub(super) fn changelog(build: &Build<'_>, package: &Package) -> Result<String> {
    let text =
        fs::read_to_string(build.workspace.join("CHANGELOG.md")).context("cannot read CHANGELOG.md")?;
    let control = fs::read_to_string(build.workspace.join("packaging").join(package.name).join("control"))?;
    let maintainer = control.lines().find_map(|line| line.strip_prefix("Maintainer: "));
    let maintainer = maintainer.context("the control file names no maintainer")?;
    let version = version(build)?;
    let date = source_date::shown(build.time, "%a, %d %b %Y %H:%M:%S +0000")?;
    Ok(format!(
        "{} ({version}) stable; urgency=medium\n\n{}\n -- {maintainer}  {}\n",
        package.name,
        changes(&text),
        date
    ))
}

/// The items of the newest section, in lines as short as lintian wants them.
fn changes(text: &str) -> String {
    let newest = text.split("\n## ").nth(1).unwrap_or_default();
    let items = newest.split("\n- ").skip(1);
    items.map(wrapped).collect()
}

fn wrapped(item: &str) -> String {
    let mut lines = vec!["  *".to_owned()];
    for word in item.split_whitespace() {
        let line = lines.last().map_or(0, |line| line.chars().count());
        if line + 1 + word.chars().count() > LINE && line > 4 {
            lines.push("   ".to_owned());
        }
        if let Some(line) = lines.last_mut() {
            line.push(' ');
            line.push_str(word);
        }
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_section_is_the_history() {
        let text = "# Changelog\n\nNewest first.\n\n## 0.2.0\n\n- One: it\n  goes on.\n- Two.\n\n## 0.1.0\n\n- Old.\n";
        assert_eq!(changes(text), "  * One: it goes on.\n  * Two.\n");
        let long = format!("\n## 1\n\n- {}\n", "word ".repeat(30));
        assert!(changes(&long).lines().count() == 2 && changes(&long).lines().all(|line| line.len() <= LINE));
    }
}
