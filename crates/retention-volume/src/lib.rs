//! The volume that holds the journals.
//!
//! A journal on the wrong volume is worse than none. When a mount is missing at boot, its mount-point folder is still
//! there, on the system disk: a journal begun in it would fill that disk and split the history in two. So a folder
//! becomes a [`RetentionVolume`] only when something is mounted there (or the configuration allows to try things
//! out in a plain folder), and the volume carries a marker file with an id, made once. Whoever knew the volume before
//! hands the id in, and every use checks the marker of what is there at that moment.
//!
//! Nothing is held open between uses. So a volume that goes away can be unmounted, and one that comes back is the
//! same one when its marker says so.
//!
//! ```text
//! /mnt/retention/
//!     retention-volume            marker: format and id
//!     items/
//!         web01/                  the journal of one item
//! ```

use block_device::{Caching, HostFolder};
use disk::{Access, Bytes, Cause, Class, Disk, Folder};
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Result of an operation on the retention volume.
pub type Result<T> = std::result::Result<T, Error>;

const MARKER: &str = "retention-volume";
const MARKER_BEING_WRITTEN: &str = "retention-volume.new";
const MARKER_FORMAT: &str = "master-target retention volume, format 1";
const ITEMS: &str = "items";
/// A marker is about a hundred bytes; more is something else.
const MAX_MARKER: Bytes = Bytes(4096);

/// What went wrong with the retention volume.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing is mounted at the folder.
    #[error(
        "nothing is mounted at {}, so journals would fill the disk below it: mount the retention volume there, \
         or allow a plain folder in the configuration (trial_folder = true)",
        path.display()
    )]
    NotMounted {
        /// The folder.
        path: PathBuf,
    },
    /// The volume has no marker, but it should have one.
    #[error(
        "the volume at {} has no marker file {MARKER}, but the one used so far had the id {expected}: mount that \
         one, or start afresh with a resync",
        path.display()
    )]
    NoMarker {
        /// The folder.
        path: PathBuf,
        /// Id of the volume used so far.
        expected: VolumeId,
    },
    /// Another volume is there.
    #[error(
        "the volume at {} has the id {found}, but the one used so far had {expected}: mount that one, or start \
         afresh with a resync",
        path.display()
    )]
    OtherVolume {
        /// The folder.
        path: PathBuf,
        /// Id of the volume used so far.
        expected: VolumeId,
        /// Id of the volume that is there.
        found: VolumeId,
    },
    /// The marker cannot be understood.
    #[error(
        "{}/{MARKER} is no marker of a retention volume ({what}): restore it, or remove it if the volume is new",
        path.display()
    )]
    BadMarker {
        /// The folder.
        path: PathBuf,
        /// What was found.
        what: &'static str,
    },
    /// The name of an item cannot be the name of its folder.
    #[error(
        "{name:?} cannot be the name of an item: use up to 64 letters, digits, '.', '_' and '-', and begin with a \
         letter or digit"
    )]
    BadItemName {
        /// The name.
        name: String,
    },
    /// A file or folder failed.
    #[error(transparent)]
    Storage(#[from] disk::Error),
}

impl Error {
    /// What a caller should do about it.
    pub fn class(&self) -> Class {
        match self {
            // The volume may only be late, or away for a while.
            Error::NotMounted { .. } | Error::NoMarker { .. } => Class::Retry,
            Error::OtherVolume { .. } | Error::BadItemName { .. } => Class::Operator,
            Error::BadMarker { .. } => Class::Corrupt,
            Error::Storage(error) => error.class(),
        }
    }
}

/// Id of a retention volume, as its marker holds it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VolumeId(String);

impl VolumeId {
    /// The id in a text, or `None` for what cannot be one: 1 to 64 hexadecimal digits and hyphens.
    pub fn parse(text: &str) -> Option<VolumeId> {
        let plausible = (1..=64).contains(&text.len());
        (plausible && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-'))
            .then(|| VolumeId(text.to_owned()))
    }

    /// An id that no other volume has, from the kernel.
    fn new() -> Result<VolumeId> {
        const SOURCE: &str = "/proc/sys/kernel/random/uuid";
        let text = fs::read_to_string(SOURCE)
            .map_err(|error| disk::Error::from_io(disk::Operation::Read, SOURCE, None, error))?;
        let what = || Cause::Corrupt { what: "the kernel gave no id".to_owned() };
        let id = VolumeId::parse(text.trim());
        id.ok_or_else(|| disk::Error::new(disk::Operation::Read, SOURCE, None, what()).into())
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Room on the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Size of the volume.
    pub capacity: Bytes,
    /// What can still be written.
    pub available: Bytes,
}

/// A volume that holds the journals of items, known by its marker.
#[derive(Debug)]
pub struct RetentionVolume {
    path: PathBuf,
    id: VolumeId,
    trial: bool,
}

impl RetentionVolume {
    /// The volume at `path`. `known` is its id where it was used before; without one, a volume that has no marker
    /// gets one. `trial`: the configuration allows a folder that is no mount point.
    pub fn open(path: impl AsRef<Path>, trial: bool, known: Option<&VolumeId>) -> Result<RetentionVolume> {
        let path = path.as_ref().to_owned();
        let folder = enter(&path, trial)?;
        let id = match (read_marker(&path, &folder)?, known) {
            (Some(id), _) => id,
            (None, Some(expected)) => return Err(Error::NoMarker { path, expected: expected.clone() }),
            (None, None) => write_marker(&folder)?,
        };
        if let Some(expected) = known.filter(|known| **known != id) {
            return Err(Error::OtherVolume { path, expected: expected.clone(), found: id });
        }
        Ok(RetentionVolume { path, id, trial })
    }

    /// Its id, to be kept and handed in at the next start.
    pub fn id(&self) -> &VolumeId {
        &self.id
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of an item's journal, made at first use.
    pub fn item_folder(&self, item: &str) -> Result<HostFolder> {
        if !valid_item_name(item) {
            return Err(Error::BadItemName { name: item.to_owned() });
        }
        Ok(self.enter_verified()?.create_subfolder(ITEMS)?.create_subfolder(item)?)
    }

    /// Room on the volume now.
    pub fn space(&self) -> Result<Space> {
        let folder = self.enter_verified()?;
        Ok(Space { capacity: folder.capacity()?, available: folder.available()? })
    }

    /// An error when the volume is not there, or another one is.
    pub fn verify(&self) -> Result<()> {
        self.enter_verified().map(drop)
    }

    /// The volume's root. Marker and later use go through the same open folder, so nothing can come between them.
    fn enter_verified(&self) -> Result<HostFolder> {
        let folder = enter(&self.path, self.trial)?;
        let (path, expected) = (self.path.clone(), self.id.clone());
        match read_marker(&self.path, &folder)? {
            Some(found) if found == self.id => Ok(folder),
            Some(found) => Err(Error::OtherVolume { path, expected, found }),
            None => Err(Error::NoMarker { path, expected }),
        }
    }
}

fn enter(path: &Path, trial: bool) -> Result<HostFolder> {
    let folder = HostFolder::open(path, Caching::PageCache)?;
    if !trial && !is_mount_point(path)? {
        return Err(Error::NotMounted { path: path.to_owned() });
    }
    Ok(folder)
}

/// Whether the folder lies on another file system than the folder around it.
fn is_mount_point(path: &Path) -> Result<bool> {
    let device = |path: &Path| {
        let metadata = fs::metadata(path).map_err(|error| {
            disk::Error::from_io(disk::Operation::Open, path.display().to_string(), None, error)
        });
        metadata.map(|metadata| metadata.dev())
    };
    Ok(device(path)? != device(&path.join(".."))?)
}

fn read_marker(path: &Path, folder: &HostFolder) -> Result<Option<VolumeId>> {
    let marker = match folder.open(MARKER, Access::Read) {
        Ok(marker) => marker,
        Err(error) if matches!(error.cause(), Cause::NotFound) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let bad = |what| Error::BadMarker { path: path.to_owned(), what };
    if marker.size() > MAX_MARKER {
        return Err(bad("it is too long"));
    }
    let mut bytes = vec![0; marker.size().as_usize()];
    marker.read_at(Bytes::ZERO, &mut bytes)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| bad("it is not text"))?;
    let mut lines = text.lines();
    if lines.next() != Some(MARKER_FORMAT) {
        return Err(bad("its first line names no format known here"));
    }
    let id = lines.next().and_then(|line| line.strip_prefix("id = ")).and_then(VolumeId::parse);
    id.map(Some).ok_or_else(|| bad("its second line holds no id"))
}

/// Marks a volume: the marker is there as a whole or not at all.
fn write_marker(folder: &HostFolder) -> Result<VolumeId> {
    let id = VolumeId::new()?;
    if folder.list()?.iter().any(|name| name == MARKER_BEING_WRITTEN) {
        folder.remove(MARKER_BEING_WRITTEN)?;
    }
    let marker = folder.create(MARKER_BEING_WRITTEN)?;
    marker.write_at(Bytes::ZERO, format!("{MARKER_FORMAT}\nid = {id}\n").as_bytes())?;
    marker.sync()?;
    folder.rename(MARKER_BEING_WRITTEN, MARKER)?;
    folder.sync()?;
    Ok(id)
}

fn valid_item_name(name: &str) -> bool {
    let begins_well = name.starts_with(|first: char| first.is_ascii_alphanumeric());
    begins_well
        && name.len() <= 64
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}
