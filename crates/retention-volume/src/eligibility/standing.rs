//! How each disk stands to the retention volume, for a list of all.
//!
//! A disk that the list calls possible is one that a preparation takes: besides the rules, its marker and fstab are asked
//! here as they are there, and what a preparation that was cut off has begun counts as ours.

use super::{Ineligible, is_called, is_mounted_at, is_named, rules_broken};
use crate::contents;
use crate::error::Error;
use crate::ext4::{self, LABEL};
use crate::fstab::Fstab;
use crate::marker::FileSystemUuid;
use crate::prepare;
use block_device::inventory::{AttachedDisk, Role, Signature};
use block_device::{Inventory, System};
use std::path::Path;

/// How a disk stands to the retention volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It can be prepared as the retention volume.
    Eligible,
    /// It is the retention volume: mounted at the mount point, or meant for it by /etc/fstab.
    Retention,
    /// It can be neither.
    Ineligible(Vec<Ineligible>),
}

/// What must be known of a machine beside its disks.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Where the volume is to be mounted.
    pub mount_point: &'a Path,
    /// Folder of the ledger of a preparation.
    pub state_folder: &'a Path,
    /// What items write to.
    pub targets: &'a [String],
    /// Why there may be more targets; then a disk that could be one is not offered.
    pub doubt: Option<&'a str>,
}

/// Every disk with its standing. The inventory is one that was told the mount point and the targets of items.
pub fn survey<'a>(
    system: &System,
    inventory: &'a Inventory,
    question: &Question<'_>,
) -> Vec<(&'a AttachedDisk, Standing)> {
    inventory.disks.iter().map(|disk| (disk, standing(system, inventory, disk, question))).collect()
}

fn standing(
    system: &System,
    inventory: &Inventory,
    disk: &AttachedDisk,
    question: &Question<'_>,
) -> Standing {
    let begun = disk.scsi_id.as_ref().and_then(|id| prepare::begun(system, question.state_folder, id));
    let known: Vec<String> = begun.iter().map(ToString::to_string).collect();
    let (disk, unexamined) = match contents::looked_into(system, disk) {
        Ok(disk) => (disk, None),
        Err(error) => (disk.clone(), Some(Ineligible::Unexamined { said: error.to_string() })),
    };
    let place = question.mount_point;
    let mut broken = rules_broken(system, inventory, &disk, (place, &known), question.targets);
    if broken.is_empty() {
        broken.extend(unexamined);
        broken.extend(of_fstab(system, inventory, &disk, place));
        broken.extend(of_marker(system, &disk, place, &known));
    }
    match (broken.is_empty(), disk.role, question.doubt) {
        (false, _, _) => Standing::Ineligible(broken),
        (true, Role::Retention, _) => Standing::Retention,
        (true, _, None) => Standing::Eligible,
        (true, _, Some(why)) => Standing::Ineligible(vec![Ineligible::MaybeTarget { why: why.to_owned() }]),
    }
}

/// An entry of fstab by which it is used elsewhere.
fn of_fstab(system: &System, inventory: &Inventory, disk: &AttachedDisk, place: &Path) -> Option<Ineligible> {
    let fstab = match Fstab::read(system) {
        Ok(fstab) => fstab,
        Err(error) => return Some(Ineligible::Unexamined { said: error.to_string() }),
    };
    let mut elsewhere = fstab.entries().into_iter().filter(|entry| entry.place != place);
    let entry = elsewhere.find(|entry| is_called(system, inventory, disk, &entry.device))?;
    Some(Ineligible::InFstab { line: entry.line, device: entry.device, place: entry.place })
}

/// With the label alone a disk that is not mounted is not believed.
fn of_marker(system: &System, disk: &AttachedDisk, place: &Path, known: &[String]) -> Option<Ineligible> {
    let Some(Signature::FileSystem { name, uuid: Some(uuid), label }) = &disk.signature else { return None };
    let is_ours = name == "ext4" && label.as_deref() == Some(LABEL) && !is_named(Some(uuid), known);
    if !is_ours || is_mounted_at(disk, place) {
        return None;
    }
    let device = disk.device();
    match ext4::check_marker(system, &device, FileSystemUuid::parse(uuid)?) {
        Ok(()) => None,
        Err(Error::NotPrepared { .. }) => {
            Some(Ineligible::Unmarked { uuid: uuid.clone(), device, place: place.to_owned() })
        }
        Err(error) => Some(Ineligible::Marker { said: error.to_string() }),
    }
}
