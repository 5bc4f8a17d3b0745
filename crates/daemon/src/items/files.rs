//! The files of items that were taken.

use crate::config::{self, ConfigError, Item, Policy};
use block_device::durable_file;
use control_api::Failure;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// How far an item has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Taking,
    There,
    Leaving,
}

impl Phase {
    fn ending(self) -> &'static str {
        match self {
            Phase::Taking => ".taking",
            Phase::There => ".toml",
            Phase::Leaving => ".leaving",
        }
    }
}

/// The folder that has them.
#[derive(Clone, Debug)]
pub(super) struct Files {
    folder: PathBuf,
}

impl Files {
    pub(super) fn new(state_folder: &Path) -> Files {
        let there = config::taken::file_of(state_folder, "item");
        Files { folder: there.parent().unwrap_or(state_folder).to_owned() }
    }

    pub(super) fn path(&self, item: &str, phase: Phase) -> PathBuf {
        self.folder.join(format!("{item}{}", phase.ending()))
    }

    pub(super) fn has(&self, item: &str, phase: Phase) -> bool {
        self.path(item, phase).exists()
    }

    /// Names of the items that are in a phase.
    pub(super) fn all(&self, phase: Phase) -> Vec<String> {
        let files = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let name_of = |file: std::fs::DirEntry| {
            let name = file.file_name().into_string().ok()?;
            name.strip_suffix(phase.ending()).filter(|name| !name.starts_with('.')).map(str::to_owned)
        };
        files.filter_map(name_of).collect()
    }

    pub(super) fn read(&self, item: &str, phase: Phase, standard: &Policy) -> Result<Item, ConfigError> {
        config::taken::read(&self.path(item, phase), standard, &[])
    }

    /// Writes the file of an item; durable when this returns.
    pub(super) fn write(&self, item: &Item, standard: &Policy, phase: Phase) -> Result<(), Failure> {
        let path = self.path(&item.name, phase);
        let written =
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder).and_then(|()| {
                durable_file::replace(&path, config::taken::compose(item, standard).as_bytes(), 0o600)
            });
        written.map_err(|error| unwritten(&path, &error))
    }

    /// Has an item go from one phase to another; durable when this returns.
    pub(super) fn rename(&self, item: &str, from: Phase, to: Phase) -> Result<(), Failure> {
        let path = self.path(item, to);
        std::fs::rename(self.path(item, from), &path)
            .and_then(|()| durable_file::sync_folder(&self.folder))
            .map_err(|error| unwritten(&path, &error))
    }

    /// Removes the file; durable when this returns. One that is not there is as good.
    pub(super) fn remove(&self, item: &str, phase: Phase) -> Result<(), Failure> {
        let path = self.path(item, phase);
        durable_file::remove(&path).map_err(|error| unwritten(&path, &error))
    }
}

fn unwritten(path: &Path, error: &io::Error) -> Failure {
    Failure::new(
        path.display().to_string(),
        "the file of the item cannot be written",
        error,
        "make room on the volume of the state folder and see that it can be written to, then order it again",
    )
}
