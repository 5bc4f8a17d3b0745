//! One change to the machine: how it is made, how it is taken back, and how it is told.

use super::{FixError, block};
use crate::preflight::machine::{map_disk, unmap_disk};
use block_device::System;
use block_device::durable_file;
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

/// Time for a program: apt-get may have to fetch packages over a slow line.
const LONGEST: Duration = Duration::from_secs(3600);

/// A change, with all that is needed to take it back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub(crate) enum Change {
    /// A command, and the one that takes it back, if any.
    Run { run: Vec<String>, undo: Option<Vec<String>> },
    /// A marked block of lines at the end of a file; the file goes with it when it was made for it. Whoever has a copy
    /// of the file is told by a command, each time that it changes.
    Block {
        path: String,
        comment: String,
        lines: Vec<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        then: Vec<String>,
    },
    /// A folder.
    MakeFolder { path: String, mode: u32 },
    /// Another mode.
    SetMode { path: String, before: u32, after: u32 },
    /// A multipath map, which is wanted from then on; and whether it was wanted before, and only not there.
    MapDisk { disk: String, wanted_before: bool },
}

impl Change {
    /// Commands to make a change and to take it back.
    pub(crate) fn commands(run: &[&str], undo: Option<&[&str]>) -> Change {
        Change::run(run, undo, &[])
    }

    /// The same, each with these words at its end.
    pub(crate) fn run(run: &[&str], undo: Option<&[&str]>, words: &[String]) -> Change {
        let command = |begin: &[&str]| {
            begin.iter().map(|word| (*word).to_owned()).chain(words.iter().cloned()).collect()
        };
        Change::Run { run: command(run), undo: undo.map(command) }
    }

    pub(crate) fn block(path: &str, comment: &str, lines: Vec<String>) -> Change {
        Change::Block { path: path.to_owned(), comment: comment.to_owned(), lines, then: Vec::new() }
    }

    /// The same block, and this command whenever it comes or goes.
    pub(crate) fn followed_by(mut self, command: &[&str]) -> Change {
        if let Change::Block { then, .. } = &mut self {
            *then = command.iter().map(|word| (*word).to_owned()).collect();
        }
        self
    }

    /// What will be done, as a person would do it.
    pub(crate) fn shown(&self) -> String {
        match self {
            Change::Run { run, undo: Some(_) } => run.join(" "),
            Change::Run { run, undo: None } => format!("{} (undo will leave this)", run.join(" ")),
            Change::Block { path, lines, then, .. } => {
                format!("add to {path}: {}{}", lines.join("; "), and_then(then))
            }
            Change::MakeFolder { path, mode } => format!("mkdir -p -m {mode:o} {path}"),
            Change::SetMode { path, before, after } => format!("chmod {after:o} {path} (it is {before:o})"),
            Change::MapDisk { disk, .. } => format!("mtctl disks --map {disk}"),
        }
    }

    /// What taking it back will do.
    pub(crate) fn undo_shown(&self) -> String {
        match self {
            Change::Run { undo: Some(undo), .. } => undo.join(" "),
            Change::Run { run, undo: None } => format!("leave what this did: {}", run.join(" ")),
            Change::Block { path, then, .. } => format!("remove our block from {path}{}", and_then(then)),
            Change::MakeFolder { path, .. } => format!("rmdir {path} (left when something is in it)"),
            Change::SetMode { path, before, .. } => format!("chmod {before:o} {path}"),
            Change::MapDisk { disk, wanted_before: false } => format!("mtctl disks --unmap {disk}"),
            Change::MapDisk { disk, wanted_before: true } => {
                format!("leave the map of {disk}, which was wanted before")
            }
        }
    }

    /// Refuses what cannot be done well, before anything is written down.
    pub(crate) fn check(&self, system: &System) -> Result<(), FixError> {
        let Change::Block { path, comment, .. } = self else { return Ok(()) };
        let text = read(system, path)?.unwrap_or_default();
        match block::begins(&text, comment) && block::without(&text, comment).is_none() {
            true => Err(FixError::Refused {
                path: path.clone(),
                problem: "the end of our block is missing in it",
            }),
            false => Ok(()),
        }
    }

    /// Makes the change; one that was made already stays.
    pub(crate) fn make(&self, system: &System) -> Result<(), FixError> {
        match self {
            Change::Run { run, .. } => command(system, run),
            Change::Block { path, comment, lines, then } => {
                let text = read(system, path)?.unwrap_or_default();
                write(system, path, &block::with(&text, comment, lines))?;
                command(system, then)
            }
            Change::MakeFolder { path, mode } => {
                make_folder(&system.path(path), *mode).map_err(in_file(path))
            }
            Change::SetMode { path, after, .. } => set_mode(system, path, *after),
            Change::MapDisk { disk, .. } => Ok(map_disk(system, disk)?),
        }
    }

    /// Takes it back; does nothing when it was not made.
    pub(crate) fn undo(&self, system: &System) -> Result<(), FixError> {
        match self {
            Change::Run { undo, .. } => undo.as_ref().map_or(Ok(()), |undo| command(system, undo)),
            Change::Block { path, comment, then, .. } => {
                remove_block(system, path, comment)?;
                command(system, then)
            }
            Change::MakeFolder { path, .. } => match fs::remove_dir(system.path(path)) {
                Err(cause) if !matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => {
                    Err(in_file(path)(cause))
                }
                _ => Ok(()),
            },
            Change::SetMode { path, before, .. } => set_mode(system, path, *before),
            Change::MapDisk { wanted_before: true, .. } => Ok(()),
            Change::MapDisk { disk, wanted_before: false } => Ok(unmap_disk(system, disk)?),
        }
    }
}

fn and_then(command: &[String]) -> String {
    if command.is_empty() { String::new() } else { format!("; then {}", command.join(" ")) }
}

fn in_file(path: &str) -> impl Fn(io::Error) -> FixError {
    move |cause| FixError::File { path: path.to_owned(), cause }
}

fn command(system: &System, words: &[String]) -> Result<(), FixError> {
    let Some((program, arguments)) = words.split_first() else { return Ok(()) };
    system.run_well(program, arguments, LONGEST)?;
    Ok(())
}

/// A text file; `None` when it is not there.
fn read(system: &System, path: &str) -> Result<Option<String>, FixError> {
    Ok(system.text_if_exists(path)?)
}

fn write(system: &System, path: &str, text: &str) -> Result<(), FixError> {
    durable_file::replace(&system.path(path), text.as_bytes(), 0o644).map_err(in_file(path))
}

/// A file in which nothing but the block was is removed with it.
fn remove_block(system: &System, path: &str, comment: &str) -> Result<(), FixError> {
    let Some(text) = read(system, path)? else { return Ok(()) };
    match block::without(&text, comment) {
        Some(rest) if rest.is_empty() => durable_file::remove(&system.path(path)).map_err(in_file(path)),
        Some(rest) => write(system, path, &rest),
        None if block::begins(&text, comment) => {
            Err(FixError::Refused { path: path.to_owned(), problem: "the end of our block is missing in it" })
        }
        None => Ok(()),
    }
}

/// Makes a folder with those above it, which everybody may enter.
pub(super) fn make_folder(path: &Path, mode: u32) -> io::Result<()> {
    let above = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o755).create(above)?;
    match DirBuilder::new().mode(mode).create(path) {
        Err(cause) if cause.kind() == ErrorKind::AlreadyExists && path.is_dir() => {}
        outcome => outcome?,
    }
    durable_file::sync_folder(above)
}

fn set_mode(system: &System, path: &str, mode: u32) -> Result<(), FixError> {
    fs::set_permissions(system.path(path), Permissions::from_mode(mode)).map_err(in_file(path))
}
