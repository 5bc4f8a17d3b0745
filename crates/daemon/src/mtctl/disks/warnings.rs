//! What is wrong with the disks, each with what to do.

use block_device::Inventory;
use block_device::inventory::{AttachedDisk, DiskPath, EnableUuid, NoScsiId, Signature};

/// The worst first; with a disk only those that concern it.
pub(super) fn all(inventory: &Inventory, only: Option<&AttachedDisk>) -> Vec<String> {
    let concerns = |name: &String| only.is_none_or(|disk| disk.paths.iter().any(|path| path.name == *name));
    let duplicates = inventory.duplicates().into_iter().filter(|found| found.disks.iter().any(concerns));
    let mut warnings: Vec<String> = duplicates.map(|found| found.to_string()).collect();
    if let EnableUuid::No { disks } = inventory.enable_uuid()
        && disks.iter().any(concerns)
    {
        warnings.push(format!(
            "no SCSI id: {}; disk.EnableUUID is not set: shut this machine down, set disk.EnableUUID = TRUE in its \
             configuration parameters, and start it",
            disks.join(", ")
        ));
    }
    let chosen = inventory.disks.iter().filter(|disk| concerns(&disk.name));
    warnings.extend(chosen.flat_map(of_disk));
    warnings
}

fn of_disk(disk: &AttachedDisk) -> Vec<String> {
    let name = &disk.name;
    let mut warnings = Vec::new();
    if disk.no_scsi_id == Some(NoScsiId::Garbled) {
        warnings.push(format!(
            "{name} tells a SCSI id that cannot be used: look at sg_vpd --page=di /dev/{name}, and do not use it as a \
             target"
        ));
    }
    if let (Some(id), Some(other)) = (&disk.scsi_id, &disk.other_scsi_id) {
        warnings.push(format!(
            "{name} tells the SCSI id {id}, but udev, multipath or another path knows it as {other}: run udevadm \
             trigger --sysname-match={name}, and do not use the disk before they agree"
        ));
    }
    for path in disk.paths.iter().filter(|path| !path.works()) {
        warnings.push(failed_path(disk, path));
    }
    let unreadable = disk.signature == Some(Signature::Unreadable);
    if unreadable && disk.paths.iter().any(DiskPath::works) {
        warnings.push(format!(
            "{name} cannot be read, so what it holds is not known: run mtctl as root; if that was done, see dmesg"
        ));
    }
    warnings
}

fn failed_path(disk: &AttachedDisk, path: &DiskPath) -> String {
    let by_kernel = path.device_state.as_deref().filter(|state| *state != "running");
    let state = by_kernel.or(path.path_state.as_deref()).unwrap_or("failed");
    let left = disk.paths.iter().filter(|path| path.works()).count();
    let left = match left {
        0 => "no path is left".to_owned(),
        1 => "one path is left".to_owned(),
        n => format!("{n} paths are left"),
    };
    format!(
        "the path {} of {} is {state}, {left}: see dmesg, and look whether the disk is still attached",
        path.name,
        disk.shown()
    )
}
