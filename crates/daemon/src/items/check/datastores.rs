//! Whether new disks can be made where they are wanted.

use super::super::remains::files_of;
use crate::config::{Disk, Format, Item};
use block_device::{Caching, HostFolder};
use control_api::Failure;
use disk::{Bytes, Folder};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Share of its size that there has to be room for, of a disk whose room is taken as it is written.
const SHARE: u64 = 10;

/// The folder is there, and no file of the disk is.
pub(super) fn check_new(disk: &Disk) -> Result<(), Failure> {
    let folder = disk.target.parent().unwrap_or(Path::new("/"));
    let shown = folder.display().to_string();
    let refuse = |why: &str, next: &str| Err(Failure::new(&shown, "no disk can be made in it", why, next));
    match folder.metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return refuse("there is no such folder", "make it, or mount the datastore that it is on");
        }
        Err(error) => {
            return refuse(&format!("it cannot be looked at: {error}"), "choose another folder");
        }
        Ok(metadata) if !metadata.is_dir() => return refuse("it is a file", "choose a folder"),
        Ok(_) => {}
    }
    if let Some(there) = files_of(&disk.target).first() {
        let next = "remove it, choose another folder, or have the disk that is there be the target";
        return Err(Failure::new(
            there.display().to_string(),
            format!("disk {} cannot be made", disk.id),
            "there is a file of this name already",
            next,
        ));
    }
    Ok(())
}

/// The file systems have room for all new disks together.
pub(super) fn check_room(item: &Item) -> Result<(), Failure> {
    let mut needed: BTreeMap<u64, (&Path, u64)> = BTreeMap::new();
    for disk in &item.disks {
        let (Some(folder), Some(size)) = (disk.target.parent(), disk.size) else { continue };
        let Ok(metadata) = folder.metadata() else { continue };
        let sum = &mut needed.entry(metadata.dev()).or_insert((folder, 0)).1;
        *sum = sum.saturating_add(room_for(disk.format, size));
    }
    needed.into_values().try_for_each(|(folder, needed)| {
        let shown = folder.display().to_string();
        let failed = |error: disk::Error| {
            Failure::new(&shown, "no disk can be made in it", error, "choose another folder")
        };
        let available = HostFolder::open(folder, Caching::PageCache).and_then(|folder| folder.available());
        let available = available.map_err(failed)?;
        if available >= Bytes(needed) {
            return Ok(());
        }
        let why = format!("{} are needed on its file system, and {available} are free", Bytes(needed));
        let next =
            "make room, choose another folder, or another format: vmfs-thin and the sparse ones need less";
        Err(Failure::new(&shown, "no disk can be made in it", why, next))
    })
}

fn room_for(format: Format, size: u64) -> u64 {
    use vmdk::Format::{MonolithicFlat, TwoGbMaxExtentFlat, Vmfs};
    match format {
        Format::Vmdk(Some(Vmfs | MonolithicFlat | TwoGbMaxExtentFlat)) => size,
        _ => size / SHARE,
    }
}
