//! Proves that the volume is there, is the right one, and gives back what was written.

use super::Refusal;
use crate::error::{Error, Result};
use crate::marker::FileSystemUuid;
use crate::{Place, RetentionVolume};
use block_device::inventory::MultipathMap;
use block_device::{Caching, HostFolder, System, mounts};
use disk::{Bytes, Cause, Folder};
use std::path::Path;

/// A file that is there only for a moment.
const TEST_FILE: &str = "read-back-test";

/// Long enough to go past the page cache.
const TEST_LENGTH: usize = 1 << 20;

/// The volume that is mounted, after looking at what the kernel says of it.
pub(super) fn check_mount(system: &System, mount_point: &Path, map: &MultipathMap) -> Result<()> {
    let mounts = mounts::read(system)?;
    let device = format!("/dev/mapper/{}", map.name);
    let (place, seen) = (mount_point.to_owned(), mounts::at(&mounts, mount_point));
    match seen {
        Some(mount) if mount.number == map.number && mount.kind == "ext4" => match mount.is_read_only() {
            true => Err(Refusal::StoppedByError { place, device }.into()),
            false => Ok(()),
        },
        other => {
            let found = other.map_or("nothing is mounted there".to_owned(), |mount| {
                format!("{} of type {} is there", mount.source, mount.kind)
            });
            Err(Refusal::NotMounted { place, device, found }.into())
        }
    }
}

/// The volume by its marker and UUID, and a file that is written and read past the cache.
pub(super) fn read_back(place: &Place, uuid: FileSystemUuid, shown: &Path) -> Result<RetentionVolume> {
    let volume = RetentionVolume::open(place, None)?;
    let folder = HostFolder::open(&place.folder, Caching::Direct)?;
    if !uuid.is_that_of(&folder)? {
        return Err(Error::OtherFileSystem { path: shown.to_owned(), expected: uuid });
    }
    remove(&folder)?;
    // Bytes that no earlier run has written.
    let seed = FileSystemUuid::new()?.to_string();
    let written: Vec<u8> = seed.bytes().cycle().take(TEST_LENGTH).collect();
    let file = folder.create(TEST_FILE)?;
    file.write_at(Bytes::ZERO, &written)?;
    file.sync()?;
    drop(file);
    let mut read = vec![0; TEST_LENGTH];
    folder.open(TEST_FILE, disk::Access::Read)?.read_at(Bytes::ZERO, &mut read)?;
    remove(&folder)?;
    match read == written {
        true => Ok(volume),
        false => Err(Refusal::ReadsOtherwise { place: shown.to_owned() }.into()),
    }
}

fn remove(folder: &HostFolder) -> Result<()> {
    match folder.remove(TEST_FILE) {
        Err(error) if !matches!(error.cause(), Cause::NotFound) => Err(error.into()),
        _ => Ok(folder.sync()?),
    }
}
