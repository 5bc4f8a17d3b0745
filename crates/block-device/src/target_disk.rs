//! A disk of this machine that holds a replica: found by its identity, proved to be the one, held exclusively.
//!
//! The kernel gives names like `sdb` in the order in which disks answer, so after a restart the name may stand for
//! another disk, and a replica written there destroys it. A target disk is therefore named by its SCSI id,
//! `/dev/mapper/<id>`, which is also the name of its multipath map. Opening one takes five steps, each of which can
//! refuse:
//!
//! 1. *Find.* The multipath map with this id, or else the one disk that tells it. Several disks with one id are
//!    refused: nobody knows which of them is meant.
//! 2. *Ask.* Whatever uses the disk or a part of it (mounts, swap, volume groups, RAID, this machine itself) is a reason
//!    to refuse, and is named.
//! 3. *Clear.* udev maps the partitions of a disk when it appears. Such maps of nobody's are removed.
//! 4. *Hold.* `O_EXCL` keeps out mounts, LVM, md and device-mapper; the locks of [`FileDisk`] keep out QEMU, other
//!    master targets and udev.
//! 5. *Prove.* The device that is open now has the id that was asked for, read again.

use crate::inventory::{AttachedDisk, NoScsiId, Role, Use};
use crate::{Caching, Error, FileDisk, Inventory, Result, ScsiId, System, partitions};
use disk::Access;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

const MAPPER: &str = "/dev/mapper";

/// Whether a path names a device rather than a file: what lies under `/dev`.
pub fn is_device_path(path: &Path) -> bool {
    path.starts_with("/dev")
}

/// Opens the target disk that `path` names, for writing. Block devices that are no disks of this machine (loop devices,
/// logical volumes) are opened by their path, exclusively as well.
///
/// # Errors
///
/// [`Error::NoDisk`] while the disk is away, which passes; all others need a person.
pub fn open(system: &System, path: &Path, caching: Caching) -> Result<FileDisk> {
    let inventory = Inventory::read(system);
    let found = match find(&inventory, system, path) {
        Ok(disk) => disk,
        Err(refusal @ Error::NotADisk { .. }) => return open_other(system, path, caching, refusal),
        Err(error) => return Err(error),
    };
    let expected = expected_id(path, found)?;
    refuse_uses(found)?;
    partitions::unmap(system, found)?;
    let disk = FileDisk::open(system.path(found.device()), Access::Write, caching)?;
    if let Some(expected) = expected {
        prove(system, &disk, &expected, path)?;
    }
    Ok(disk)
}

/// The disk with the id in the path, whether it has a map or not; else the disk that the path leads to.
fn find<'a>(inventory: &'a Inventory, system: &System, path: &Path) -> Result<&'a AttachedDisk> {
    let name = path.display().to_string();
    let Some(id) = id_in(path) else { return inventory.find(system, &name) };
    match inventory.find(system, id.as_str()) {
        Err(Error::NoDisk { .. }) => inventory.find(system, &name),
        outcome => outcome,
    }
}

/// The id in `/dev/mapper/<id>`; `None` for other paths.
fn id_in(path: &Path) -> Option<ScsiId> {
    ScsiId::parse(path.strip_prefix(MAPPER).ok()?.to_str()?)
}

/// The id that the disk must still have when it is open. A name that may stand for another disk tomorrow is refused, and
/// so is a SCSI disk without an id.
fn expected_id(path: &Path, disk: &AttachedDisk) -> Result<Option<ScsiId>> {
    let by_id = id_in(path).filter(|id| has_id(disk, id));
    match (by_id, &disk.scsi_id) {
        (Some(id), _) => Ok(Some(id)),
        (None, Some(id)) if is_kernel_name(path) => {
            let stable = format!("{MAPPER}/{id}");
            Err(Error::UnstableName { disk: path.display().to_string(), stable })
        }
        (None, None) if disk.no_scsi_id != Some(NoScsiId::NotScsi) => {
            Err(Error::NoScsiId { disk: disk.name.clone() })
        }
        (None, id) => Ok(id.clone()),
    }
}

/// Whether the disk tells this id, or multipath knows it by it.
fn has_id(disk: &AttachedDisk, id: &ScsiId) -> bool {
    let told = [&disk.scsi_id, &disk.other_scsi_id].into_iter().flatten().any(|told| told == id);
    told || disk.map.as_ref().is_some_and(|map| map.wwid == id.as_str())
}

/// `/dev/sdb` and the like, as against links that udev keeps pointing at the right disk.
fn is_kernel_name(path: &Path) -> bool {
    let name = path.strip_prefix("/dev").ok().and_then(Path::to_str);
    name.is_some_and(|name| !name.contains('/'))
}

fn refuse_uses(disk: &AttachedDisk) -> Result<()> {
    let mut uses = disk.uses.clone();
    if disk.role == Role::Retention && uses.is_empty() {
        uses.push(Use::KeptForRetention);
    }
    if uses.is_empty() {
        return Ok(());
    }
    Err(Error::InUse { disk: disk.shown().to_owned(), uses })
}

/// What is no disk of this machine's inventory, but a device: whoever names it vouches for it.
fn open_other(system: &System, path: &Path, caching: Caching, refusal: Error) -> Result<FileDisk> {
    let node = system.path(path);
    if !node.metadata().is_ok_and(|metadata| metadata.file_type().is_block_device()) {
        return Err(refusal);
    }
    Ok(FileDisk::open(node, Access::Write, caching)?)
}

/// The device that is open is the disk with this id, and no other came in its place since it was found.
fn prove(system: &System, disk: &FileDisk, expected: &ScsiId, path: &Path) -> Result<()> {
    let number = disk.device_number();
    let inventory = Inventory::read(system);
    let is_open = |candidate: &&AttachedDisk| match &candidate.map {
        Some(map) => Some(map.number) == number,
        None => candidate.paths.iter().any(|path| Some(path.number) == number),
    };
    let found = inventory.disks.iter().find(is_open);
    if found.is_some_and(|found| has_id(found, expected)) {
        return Ok(());
    }
    let found = found.and_then(|found| found.scsi_id.as_ref()).map_or("none".to_owned(), ToString::to_string);
    Err(Error::OtherDisk { disk: path.display().to_string(), expected: expected.to_string(), found })
}
