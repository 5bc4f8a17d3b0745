//! The mount point: a folder that is there for nothing else.

use super::Refusal;
use block_device::System;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Neither these folders nor what is in them can be a mount point.
const TREES: [&str; 19] = [
    "/bin",
    "/boot",
    "/dev",
    "/efi",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/sys",
    "/tmp",
    "/usr",
    "/var/lib/master-target",
    "/var/log",
    "/var/run",
    "/var/tmp",
];

/// These cannot, but folders in them can.
const FOLDERS: [&str; 7] = ["/home", "/media", "/mnt", "/opt", "/srv", "/var", "/var/lib"];

/// Names that a message lists.
const SHOWN: usize = 3;

/// Why a folder cannot be the mount point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadPlace {
    /// It does not begin at the root, or goes up again, or is no text.
    NotPlain,
    /// The system needs it.
    OfSystem,
    /// It is no folder.
    NotAFolder,
    /// It, or a folder on the way, is a symbolic link.
    Link {
        /// The link.
        link: PathBuf,
        /// Where it leads to.
        to: PathBuf,
    },
    /// Files are in it, which a mount would hide.
    NotEmpty {
        /// Some of their names.
        names: Vec<String>,
    },
}

impl fmt::Display for BadPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadPlace::NotPlain => f.write_str("give a plain path from the root, such as /mnt/retention"),
            BadPlace::OfSystem => {
                f.write_str("the system needs this folder; give one of its own, such as /mnt/retention")
            }
            BadPlace::NotAFolder => f.write_str("it is no folder: move it away, or give another one"),
            BadPlace::Link { link, to } => write!(
                f,
                "{} is a symbolic link to {}, and a mount point must keep its place: give the real path",
                link.display(),
                to.display()
            ),
            BadPlace::NotEmpty { names } => write!(
                f,
                "there are files in it ({}), which the volume would hide: move them away, or give another folder",
                names.join(", ")
            ),
        }
    }
}

/// The path without a slash at its end; refused when it cannot be a mount point, whatever is there.
pub(super) fn plain(mount_point: &Path) -> Result<PathBuf, Refusal> {
    let bad = |problem| Refusal::MountPoint { place: mount_point.to_owned(), problem };
    let mut components = mount_point.components();
    let is_plain = components.next() == Some(Component::RootDir)
        && components.all(|component| matches!(component, Component::Normal(_)))
        && mount_point.to_str().is_some_and(|text| !text.chars().any(char::is_control));
    if !is_plain {
        return Err(bad(BadPlace::NotPlain));
    }
    let place: PathBuf = mount_point.components().collect();
    let is_needed = |tree: &str| place.starts_with(tree) || Path::new(tree).starts_with(&place);
    if TREES.iter().any(|tree| is_needed(tree)) || FOLDERS.iter().any(|folder| place == Path::new(folder)) {
        return Err(bad(BadPlace::OfSystem));
    }
    Ok(place)
}

/// Whether the folder has to be made; refused when something is in its way. Nothing is mounted there.
pub(super) fn must_be_made(system: &System, place: &Path) -> Result<bool, Refusal> {
    let bad = |problem| Err(Refusal::MountPoint { place: place.to_owned(), problem });
    let mut way: Vec<&Path> = place.ancestors().collect();
    way.reverse();
    for folder in way {
        let kind = match fs::symlink_metadata(system.path(folder)) {
            Ok(metadata) => metadata.file_type(),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(true),
            Err(_) => return bad(BadPlace::NotAFolder),
        };
        if kind.is_symlink() {
            let to = fs::read_link(system.path(folder)).unwrap_or_default();
            return bad(BadPlace::Link { link: folder.to_owned(), to });
        }
        if !kind.is_dir() {
            return bad(BadPlace::NotAFolder);
        }
    }
    let mut names = system.names(place);
    names.truncate(SHOWN);
    if names.is_empty() { Ok(false) } else { bad(BadPlace::NotEmpty { names }) }
}
