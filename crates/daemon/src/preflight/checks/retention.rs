//! The retention volume, which holds the journals.

use crate::preflight::facts::fstab::Entry;
use crate::preflight::{Check, Finding, Group, Look, Machine, Severity, Unknown};
use block_device::inventory::{AttachedDisk, DeviceNumber, Role, Signature, Use};
use block_device::mounts::{self, Mount};
use std::path::Path;

pub(super) static CHECKS: [Check; 4] = [
    Check {
        id: "retention-disk",
        group: Group::Retention,
        severity: Severity::Failure,
        title: "Retention disk",
        needed: "a disk of 1 TB or more for the retention volume",
        why: "What the replicas held before each change is kept on it, for as long as the retention window reaches \
              back. With a smaller disk the window shrinks from its old end once the disk is full; how far it then \
              reaches depends on how much changes.",
        look: retention_disk,
        mend: None,
    },
    Check {
        id: "retention-mounted",
        group: Group::Retention,
        severity: Severity::Failure,
        title: "Retention volume is mounted",
        needed: "a volume is mounted at the retention folder (/mnt/retention)",
        why: "Where nothing is mounted, journals would fill the system disk below the folder. The daemon refuses to \
              do that, so no item starts. In the old product the retention drive was simply not listed.",
        look: mounted,
        mend: None,
    },
    Check {
        id: "retention-eligible",
        group: Group::Retention,
        severity: Severity::Failure,
        title: "Retention volume can be used",
        needed: "ext4, writable, on a disk of its own: not the system's, not a replica, nothing else on it",
        why: "The old product listed a retention drive only when nothing else used it, when it was not locked, not \
              the volume of the installation, not FAT, and not of size zero; it did not say which of these rules was \
              broken, and looked only every 15 minutes.",
        look: eligible,
        mend: None,
    },
    Check {
        id: "retention-fstab",
        group: Group::Retention,
        severity: Severity::Failure,
        title: "Retention volume is mounted at boot",
        needed: "an entry in /etc/fstab, by /dev/mapper/ID, with nofail",
        why: "After a restart the volume must be there again, and it must be the same: names such as /dev/sdb change, \
              the id does not. Without nofail a disk that is missing once stops the whole boot in emergency mode.",
        look: in_fstab,
        mend: None,
    },
];

/// 1 TB, in powers of ten as makers of disks and the published procedure count.
const TERABYTE: u64 = 1_000_000_000_000;

/// Changed bytes in an hour, over all machines, for which the window of a smaller disk is told.
const EXAMPLE_RATE: u64 = 10 << 30;

const PREPARE: &str = "map it (mtctl disks --map ID), make a file system (mkfs.ext4 /dev/mapper/ID), and mount it at the \
                       retention folder by a line in /etc/fstab";

/// The retention volume, from what is mounted and from what is to be.
struct Volume<'a> {
    folder: String,
    mount: Option<&'a Mount>,
    entry: Option<&'a Entry>,
    disk: Option<&'a AttachedDisk>,
}

impl Volume<'_> {
    fn of(machine: &Machine) -> Result<Volume<'_>, Unknown> {
        let folder = machine.retention_folder();
        let mount = mounts::at(machine.mounts()?, Path::new(&folder));
        let entry = machine.fstab()?.iter().rev().find(|entry| entry.place == folder);
        let disks = machine.disks()?;
        let of_mount = mount.and_then(|mount| {
            disks.iter().find(|disk| carries(disk, mount.number) || is_called(disk, &mount.source))
        });
        let of_entry = || entry.and_then(|entry| disks.iter().find(|disk| is_called(disk, &entry.device)));
        Ok(Volume { mount, entry, disk: of_mount.or_else(of_entry), folder })
    }
}

/// Whether the disk, its map or a part of it has this number.
fn carries(disk: &AttachedDisk, number: DeviceNumber) -> bool {
    disk.paths.iter().any(|path| path.number == number)
        || disk.partitions.iter().any(|partition| partition.number == number)
        || disk.map.as_ref().is_some_and(|map| map.number == number)
}

/// Whether the disk or a part of it has this device path, or this UUID.
fn is_called(disk: &AttachedDisk, device: &str) -> bool {
    if let Some(wanted) = device.strip_prefix("UUID=") {
        let wanted = wanted.trim_matches('"');
        let signatures =
            disk.partitions.iter().map(|partition| &partition.signature).chain([&disk.signature]);
        return signatures.flatten().any(|signature| match signature {
            Signature::FileSystem { uuid, .. } => uuid.as_deref() == Some(wanted),
            _ => false,
        });
    }
    let Some(name) = ["/dev/mapper/", "/dev/"].iter().find_map(|prefix| device.strip_prefix(prefix)) else {
        return false;
    };
    disk.name == name
        || disk.paths.iter().any(|path| path.name == name)
        || disk.partitions.iter().any(|partition| partition.name == name)
        || disk.map.as_ref().is_some_and(|map| map.name == name || map.kernel_name == name)
        || disk.scsi_id.as_ref().is_some_and(|id| id.as_str() == name)
}

fn retention_disk(machine: &Machine) -> Look {
    let volume = Volume::of(machine)?;
    let free = || {
        let free = machine.disks().ok()?.iter().filter(|disk| disk.role == Role::Free && !disk.removable);
        free.max_by_key(|disk| disk.size.0)
    };
    let Some(disk) = volume.disk.or_else(free) else {
        return Finding::broken(
            "no disk is there for the retention volume",
            format!("add a disk of 1 TB to this machine; then {PREPARE}"),
        );
    };
    let prepared = if volume.disk.is_some() { "" } else { ", free and not prepared yet" };
    let found = format!("{}, {} GB{prepared}", disk.name, disk.size.0 / 1_000_000_000);
    if disk.size.0 >= TERABYTE {
        return Finding::good(found);
    }
    let hours = disk.size.0 / EXAMPLE_RATE;
    Finding::weak(
        format!("{found}: holds about {hours} h if 10 GiB change in an hour"),
        "make the disk larger, or shorten the retention window, or see how much really changes (mtctl status)",
    )
}

fn mounted(machine: &Machine) -> Look {
    let folder = machine.retention_folder();
    if let Some(mount) = mounts::at(machine.mounts()?, Path::new(&folder)) {
        return Finding::good(format!("{} at {folder}", mount.source));
    }
    let found = format!("nothing is mounted at {folder}");
    let trial = machine.config().is_some_and(|config| config.retention.trial_folder);
    let entry = machine.fstab()?.iter().any(|entry| entry.place == folder);
    match (trial, entry) {
        (true, _) => Finding::weak(
            format!("{found}, and the configuration allows a plain folder (trial_folder)"),
            "set trial_folder = false before this machine is relied on",
        ),
        (false, true) => Finding::broken(found, format!("mount {folder}; see dmesg when that fails")),
        (false, false) => Finding::broken(found, format!("take a free disk: {PREPARE}")),
    }
}

fn eligible(machine: &Machine) -> Look {
    let volume = Volume::of(machine)?;
    let Some(disk) = volume.disk else {
        if let Some(mount) = volume.mount {
            return Finding::broken(
                format!("{} is no disk, or a part of none", mount.source),
                format!("use a disk of its own: {PREPARE}"),
            );
        }
        return Err(Unknown::until(
            "there is no retention volume yet",
            format!("take a free disk: {PREPARE}"),
        ));
    };
    let mut broken = Vec::new();
    let kind = volume.mount.map(|mount| &mount.kind).or(volume.entry.map(|entry| &entry.kind));
    if let Some(kind) = kind.filter(|kind| *kind != "ext4") {
        broken.push(format!("its file system is {kind}, not ext4"));
    }
    if disk.read_only || volume.mount.is_some_and(|mount| mount.is_read_only()) {
        broken.push("it can only be read".to_owned());
    }
    if disk.size.0 == 0 {
        broken.push("its size is zero".to_owned());
    }
    if is_target(machine, disk) {
        broken.push("it is the target of a replicated item".to_owned());
    }
    broken.extend(disk.uses.iter().filter(|one| is_foreign(one, &volume.folder)).map(ToString::to_string));
    match broken.is_empty() {
        true => Finding::good(format!("{}, {}", disk.name, kind.map_or("no file system", |kind| kind))),
        false => Finding::broken(
            format!("{}: {}", disk.name, broken.join("; ")),
            format!("use another disk: {PREPARE}"),
        ),
    }
}

fn is_target(machine: &Machine, disk: &AttachedDisk) -> bool {
    let items = machine.config().map(|config| config.items.as_slice()).unwrap_or_default();
    let mut targets = items.iter().flat_map(|item| &item.disks);
    targets.any(|target| is_called(disk, &target.target.display().to_string()))
}

/// Whether a use is not the retention volume's own.
fn is_foreign(one: &Use, folder: &str) -> bool {
    match one {
        Use::Mounted { place, .. } => place != folder,
        Use::KeptForRetention | Use::PathOf { .. } | Use::PartitionMap { .. } | Use::Opened { .. } => false,
        Use::Swap { .. }
        | Use::LogicalVolume { .. }
        | Use::Raid { .. }
        | Use::Holder { .. }
        | Use::System { .. } => true,
    }
}

fn in_fstab(machine: &Machine) -> Look {
    let folder = machine.retention_folder();
    let Some(entry) = machine.fstab()?.iter().rev().find(|entry| entry.place == folder) else {
        return Finding::broken(
            format!("/etc/fstab has no entry for {folder}"),
            "add to /etc/fstab: /dev/mapper/ID /mnt/retention ext4 rw,nofail 0 2; then systemctl daemon-reload",
        );
    };
    let line = format!("/dev/mapper/ID {folder} ext4 rw,nofail 0 2");
    if !entry.device.starts_with("/dev/mapper/") {
        return Finding::weak(
            format!("the entry names {}, which may be another disk after a restart", entry.device),
            format!("change the entry to: {line} (ID is the disk's SCSI id: mtctl disks)"),
        );
    }
    if entry.options.iter().any(|option| option == "noauto") {
        return Finding::broken(
            "the entry says noauto, so the volume is not mounted at boot",
            format!("change it to: {line}"),
        );
    }
    match entry.options.iter().any(|option| option == "nofail") {
        true => Finding::good(entry.device.clone()),
        false => Finding::weak(
            format!(
                "the entry for {} has no nofail: without the disk this machine does not boot",
                entry.device
            ),
            format!("change it to: {line}"),
        ),
    }
}
