//! The retention volume, which holds the journals.

use crate::preflight::{Check, Finding, Group, Look, Machine, Severity, Unknown};
use block_device::inventory::{AttachedDisk, DeviceNumber, Role, Signature};
use block_device::mounts::{self, Mount};
use retention_volume::eligibility::{Ineligible, RECOMMENDED, judge};
use retention_volume::fstab::Entry;
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

/// Changed bytes in an hour, over all machines, for which the window of a smaller disk is told.
const EXAMPLE_RATE: u64 = 10 << 30;

/// The command that makes a volume, for the disk that it would take best.
fn prepare(machine: &Machine) -> String {
    match free_disk(machine) {
        Some(disk) => format!("mtctl retention prepare {}", disk.name),
        None => "add a disk of 1 TB to this machine; then mtctl retention prepare DISK".to_owned(),
    }
}

/// The largest disk that can be prepared and that nothing is on.
fn free_disk(machine: &Machine) -> Option<&AttachedDisk> {
    let (inventory, folder) = (machine.attached().ok()?, machine.retention_folder());
    let can_be = |disk: &&AttachedDisk| {
        disk.role == Role::Free && judge(inventory, disk, Path::new(&folder), &[]).is_empty()
    };
    inventory.disks.iter().filter(can_be).max_by_key(|disk| disk.size)
}

/// The retention volume, from what is mounted and from what is to be.
struct Volume<'a> {
    folder: String,
    mount: Option<&'a Mount>,
    entry: Option<Entry>,
    disk: Option<&'a AttachedDisk>,
}

impl Volume<'_> {
    fn of(machine: &Machine) -> Result<Volume<'_>, Unknown> {
        let folder = machine.retention_folder();
        let mount = mounts::at(machine.mounts()?, Path::new(&folder));
        let entry = machine.fstab()?.at(Path::new(&folder));
        let disks = machine.disks()?;
        let of_mount = mount.and_then(|mount| {
            disks.iter().find(|disk| carries(disk, mount.number) || is_called(disk, &mount.source))
        });
        let named = |entry: &Entry| disks.iter().find(|disk| is_called(disk, &entry.device));
        let disk = of_mount.or_else(|| entry.as_ref().and_then(named));
        Ok(Volume { mount, entry, disk, folder })
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
    let Some(disk) = volume.disk.or_else(|| free_disk(machine)) else {
        return Finding::broken("no disk is there for the retention volume", prepare(machine));
    };
    let prepared = if volume.disk.is_some() { "" } else { ", free and not prepared yet" };
    let found = format!("{}, {} GB{prepared}", disk.name, disk.size.0 / 1_000_000_000);
    if disk.size >= RECOMMENDED {
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
    let entry = machine.fstab()?.at(Path::new(&folder));
    match (trial, entry.is_some()) {
        (true, _) => Finding::weak(
            format!("{found}, and the configuration allows a plain folder (trial_folder)"),
            "set trial_folder = false before this machine is relied on",
        ),
        (false, true) => Finding::broken(found, format!("mount {folder}; see dmesg when that fails")),
        (false, false) => Finding::broken(found, prepare(machine)),
    }
}

fn eligible(machine: &Machine) -> Look {
    let volume = Volume::of(machine)?;
    let Some(disk) = volume.disk else {
        if let Some(mount) = volume.mount {
            let found = format!("{} is no disk, or a part of none", mount.source);
            return Finding::broken(found, format!("use a disk of its own: {}", prepare(machine)));
        }
        return Err(Unknown::until("there is no retention volume yet", prepare(machine)));
    };
    let mut broken = judge(machine.attached()?, disk, Path::new(&volume.folder), &[]);
    if is_target(machine, disk) && !broken.contains(&Ineligible::Target) {
        broken.push(Ineligible::Target);
    }
    let kind = volume.mount.map(|mount| mount.kind.clone()).or(volume.entry.map(|entry| entry.kind));
    let mut found: Vec<String> = broken.iter().map(Ineligible::what).collect();
    let mut remedies: Vec<String> = broken.iter().map(Ineligible::remedy).collect();
    if let Some(kind) = kind.as_ref().filter(|kind| *kind != "ext4") {
        found.push(format!("its file system is {kind}, not ext4"));
        remedies.push(format!("use a disk of its own: {}", prepare(machine)));
    }
    if volume.mount.is_some_and(Mount::is_read_only) && !broken.contains(&Ineligible::ReadOnly) {
        found.push("it is mounted so that it can only be read".to_owned());
        remedies
            .push(format!("see dmesg for an error of the disk; else mount -o remount,rw {}", volume.folder));
    }
    remedies.dedup();
    match found.is_empty() {
        true => Finding::good(format!("{}, {}", disk.name, kind.as_deref().unwrap_or("no file system"))),
        false => Finding::broken(format!("{}: {}", disk.name, found.join("; ")), remedies.join("; ")),
    }
}

fn is_target(machine: &Machine, disk: &AttachedDisk) -> bool {
    let items = machine.config().map(|config| config.items.as_slice()).unwrap_or_default();
    let mut targets = items.iter().flat_map(|item| &item.disks);
    targets.any(|target| is_called(disk, &target.target.display().to_string()))
}

fn in_fstab(machine: &Machine) -> Look {
    let folder = machine.retention_folder();
    let volume = Volume::of(machine)?;
    let remedy = match volume.disk {
        Some(disk) => format!("mtctl retention prepare {} (it keeps what is on the volume)", disk.name),
        None => prepare(machine),
    };
    let Some(entry) = volume.entry else {
        return Finding::broken(format!("/etc/fstab has no entry for {folder}"), remedy);
    };
    let device = &entry.device;
    let id = volume.disk.and_then(|disk| disk.scsi_id.as_ref());
    // Of a disk that is away, the name of its map cannot be told from an alias.
    let is_by_id = match id {
        Some(id) => *device == format!("/dev/mapper/{id}"),
        None => device.starts_with("/dev/mapper/"),
    };
    if !is_by_id {
        return Finding::weak(
            format!("the entry names {device}, which may be another disk after a restart"),
            remedy,
        );
    }
    if entry.has("noauto") {
        return Finding::broken("the entry says noauto, so the volume is not mounted at boot", remedy);
    }
    match entry.has("nofail") {
        true => Finding::good(device.clone()),
        false => Finding::weak(
            format!("the entry for {device} has no nofail: without the disk this machine does not boot"),
            remedy,
        ),
    }
}
