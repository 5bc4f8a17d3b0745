//! What a machine has, in the words of a heartbeat.

use block_device::Inventory;
use block_device::inventory::{AttachedDisk, Role, Use};
use block_device::mounts::Mount;
use control_api::agent::{Datastore, HostDisk};
use nix::sys::statvfs::statvfs;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What is told of a file system that cannot be found out.
const UNKNOWN: &str = "unknown";

/// The disks of a machine. `known` says what the embedder uses a disk for; where it does not know, what the machine shows
/// is told.
pub fn host_disks(inventory: &Inventory, known: impl Fn(&AttachedDisk) -> Option<String>) -> Vec<HostDisk> {
    let disk = |disk: &AttachedDisk| HostDisk {
        name: disk.shown().to_owned(),
        id: disk.scsi_id.as_ref().map(|id| id.as_str().to_owned()),
        size: disk.size.0,
        paths: u32::try_from(disk.paths.len()).unwrap_or(u32::MAX),
        used_for: known(disk).unwrap_or_else(|| used_for(disk)),
    };
    inventory.disks.iter().map(disk).collect()
}

fn used_for(disk: &AttachedDisk) -> String {
    match disk.role {
        Role::System => "this machine runs from it".to_owned(),
        Role::Retention => "retention volume".to_owned(),
        Role::Target => "target of an item".to_owned(),
        Role::Used => disk.uses.first().map_or_else(|| "in use".to_owned(), by),
        Role::Free => HostDisk::FREE.to_owned(),
    }
}

fn by(used: &Use) -> String {
    match used {
        Use::Mounted { place, .. } => format!("mounted at {place}"),
        Use::Swap { .. } => "swap".to_owned(),
        Use::LogicalVolume { name } => format!("logical volume {name}"),
        Use::Raid { name } => format!("RAID {name}"),
        Use::PathOf { map } => format!("path of {map}"),
        Use::PartitionMap { name } => format!("partition map {name}"),
        Use::Holder { name } => format!("under {name}"),
        Use::System { place } => format!("this machine's {place}"),
        Use::KeptForRetention => "kept for the retention volume".to_owned(),
        Use::Opened { by } => format!("opened by {by}"),
    }
}

/// These folders, each once and in this order, with the file systems that they are on. Asking a file system that is away can
/// take as long as that is away.
pub fn datastores(mounts: &[Mount], folders: impl IntoIterator<Item = PathBuf>) -> Vec<Datastore> {
    let mut told = BTreeSet::new();
    let folders = folders.into_iter().filter(|folder| told.insert(folder.clone()));
    folders.map(|folder| datastore(mounts, &folder)).collect()
}

fn datastore(mounts: &[Mount], folder: &Path) -> Datastore {
    let lies_on = mounts
        .iter()
        .filter(|mount| folder.starts_with(&mount.place))
        .max_by_key(|mount| Path::new(&mount.place).components().count());
    let space = statvfs(folder).ok();
    let bytes = |blocks: u64, size: u64| blocks.saturating_mul(size);
    Datastore {
        folder: folder.display().to_string(),
        file_system: lies_on.map_or(UNKNOWN, |mount| mount.kind.as_str()).to_owned(),
        capacity_bytes: space.map(|space| bytes(space.blocks(), space.fragment_size())),
        available_bytes: space.map(|space| bytes(space.blocks_available(), space.fragment_size())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use block_device::System;

    #[test]
    fn a_folder_is_told_once_with_its_file_system() {
        let folder = tempfile::tempdir().unwrap();
        let mounts = block_device::mounts::read(&System::host()).unwrap();
        let found = datastores(&mounts, [folder.path().to_owned(), folder.path().to_owned()]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].folder, folder.path().display().to_string());
        assert!(!found[0].file_system.is_empty(), "{found:?}");
        let (capacity, available) = (found[0].capacity_bytes.unwrap(), found[0].available_bytes.unwrap());
        assert!(0 < available && available < capacity, "{found:?}");
        let gone = datastores(&mounts, ["/nowhere/at/all", "/else"].map(PathBuf::from));
        assert_eq!((gone[0].capacity_bytes, gone[0].available_bytes), (None, None));
        assert_eq!((&*gone[0].folder, &*gone[1].folder), ("/nowhere/at/all", "/else"));
    }
}
