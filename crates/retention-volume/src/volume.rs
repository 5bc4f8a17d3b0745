//! The volume in use.

use crate::marker::{FileSystemUuid, Marker, VolumeId};
use crate::{Error, Result};
use block_device::{Caching, HostFolder};
use disk::{Bytes, Folder};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const ITEMS: &str = "items";

/// Room on the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Size of the volume.
    pub capacity: Bytes,
    /// What can still be written.
    pub available: Bytes,
}

/// Where the retention volume is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The folder at which it is mounted.
    pub folder: PathBuf,
    /// True when the configuration allows a folder on which nothing is mounted, for trials.
    pub trial: bool,
}

impl Place {
    /// Room on whatever volume is there now.
    pub fn space(&self) -> Result<Space> {
        space(&enter(self)?)
    }
}

fn space(folder: &HostFolder) -> Result<Space> {
    Ok(Space { capacity: folder.capacity()?, available: folder.available()? })
}

/// A volume that holds the journals of items, known by its marker.
#[derive(Debug)]
pub struct RetentionVolume {
    place: Place,
    marker: Marker,
}

impl RetentionVolume {
    /// The volume at `place`. `known` is its id where it was used before.
    ///
    /// # Errors
    /// Whatever is there must have been prepared ([`RetentionVolume::mark`]); only a trial folder is marked here, when it
    /// was never used before.
    pub fn open(place: &Place, known: Option<&VolumeId>) -> Result<RetentionVolume> {
        let folder = enter(place)?;
        let path = || place.folder.clone();
        let marker = match (Marker::read(&place.folder, &folder)?, known) {
            (Some(marker), _) => marker,
            (None, Some(expected)) => {
                return Err(Error::NoMarker { path: path(), expected: expected.clone() });
            }
            (None, None) if place.trial => Marker::write(&folder, None)?,
            (None, None) => return Err(Error::NotPrepared { path: path() }),
        };
        if let Some(expected) = known.filter(|known| **known != marker.id) {
            return Err(Error::OtherVolume { path: path(), expected: expected.clone(), found: marker.id });
        }
        check_file_system(place, marker.file_system, &folder)?;
        Ok(RetentionVolume { place: place.clone(), marker })
    }

    /// Makes what is mounted at `place` a retention volume, unless it is one. `file_system` is the UUID of the file system
    /// that the caller saw there.
    ///
    /// # Errors
    /// When nothing is mounted there, or another file system, or the files of one were copied from elsewhere.
    pub fn mark(place: &Place, file_system: FileSystemUuid) -> Result<RetentionVolume> {
        let folder = enter(place)?;
        check_file_system(place, Some(file_system), &folder)?;
        let marker = match Marker::read(&place.folder, &folder)? {
            Some(marker) => marker,
            None => Marker::write(&folder, Some(file_system))?,
        };
        check_file_system(place, marker.file_system, &folder)?;
        Ok(RetentionVolume { place: place.clone(), marker })
    }

    /// Its id, to be kept and handed in at the next start.
    pub fn id(&self) -> &VolumeId {
        &self.marker.id
    }

    /// UUID of its file system; `None` in a trial folder, or one that was marked by an early version.
    pub fn file_system(&self) -> Option<FileSystemUuid> {
        self.marker.file_system
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.place.folder
    }

    /// The folder of an item's journal, made at first use.
    pub fn item_folder(&self, item: &str) -> Result<HostFolder> {
        if !valid_item_name(item) {
            return Err(Error::BadItemName { name: item.to_owned() });
        }
        Ok(self.enter_verified()?.create_subfolder(ITEMS)?.create_subfolder(item)?)
    }

    /// Removes the folder of an item's journal with all that is in it. One that is not there is as good.
    pub fn remove_item_folder(&self, item: &str) -> Result<()> {
        if !valid_item_name(item) {
            return Err(Error::BadItemName { name: item.to_owned() });
        }
        let Some(items) = self.enter_verified()?.subfolder(ITEMS)? else { return Ok(()) };
        let Some(folder) = items.subfolder(item)? else { return Ok(()) };
        for name in folder.list()? {
            folder.remove(&name)?;
        }
        folder.sync()?;
        Ok(items.remove_subfolder(item)?)
    }

    /// Room on the volume now.
    pub fn space(&self) -> Result<Space> {
        space(&self.enter_verified()?)
    }

    /// An error when the volume is not there, or another one is.
    pub fn verify(&self) -> Result<()> {
        self.enter_verified().map(drop)
    }

    /// The volume's root. Marker and later use go through the same open folder, so nothing can come between them.
    fn enter_verified(&self) -> Result<HostFolder> {
        let folder = enter(&self.place)?;
        let (path, expected) = (self.place.folder.clone(), self.marker.id.clone());
        match Marker::read(&self.place.folder, &folder)? {
            Some(found) if found == self.marker => {
                check_file_system(&self.place, found.file_system, &folder)?;
                Ok(folder)
            }
            Some(found) => Err(Error::OtherVolume { path, expected, found: found.id }),
            None => Err(Error::NoMarker { path, expected }),
        }
    }
}

fn enter(place: &Place) -> Result<HostFolder> {
    let folder = HostFolder::open(&place.folder, Caching::PageCache)?;
    if !place.trial && !is_mount_point(&place.folder)? {
        return Err(Error::NotMounted { path: place.folder.clone() });
    }
    Ok(folder)
}

fn check_file_system(place: &Place, uuid: Option<FileSystemUuid>, folder: &HostFolder) -> Result<()> {
    match uuid {
        Some(expected) if !expected.is_that_of(folder)? => {
            Err(Error::OtherFileSystem { path: place.folder.clone(), expected })
        }
        _ => Ok(()),
    }
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

fn valid_item_name(name: &str) -> bool {
    let begins_well = name.starts_with(|first: char| first.is_ascii_alphanumeric());
    begins_well
        && name.len() <= 64
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}
