//! The disks: sizes, identity, controllers, and what the system lies on.

use crate::preflight::{Check, Finding, Group, Look, Machine, Severity, Unknown};
use block_device::inventory::{AttachedDisk, Controller, DuplicateKind, Duplicates, NoScsiId};

pub(super) static CHECKS: [Check; 6] = [
    Check {
        id: "system-disk",
        group: Group::Disks,
        severity: Severity::Failure,
        title: "System disk",
        needed: "100 GB or more for the disk that holds /",
        why: "The published minimum for the operating system's disk is 100 GB (counted in powers of ten). Logs, \
              caches and crash dumps of a failback lie on it, and a full system disk stops the daemon.",
        look: system_disk,
        mend: None,
    },
    Check {
        id: "root-not-on-lvm",
        group: Group::Disks,
        severity: Severity::Failure,
        title: "System not on LVM",
        needed: "no file system of the system lies on a logical volume",
        why: "The replicas of machines that use LVM bring volume groups of their own, often with the very names of \
              this machine's. Where the system itself needs LVM, LVM cannot be kept off the replicas altogether. The \
              old product would not install on such a system, or misbehaved.",
        look: root_not_on_lvm,
        mend: None,
    },
    Check {
        id: "scsi-ids",
        group: Group::Disks,
        severity: Severity::Failure,
        title: "SCSI ids (disk.EnableUUID)",
        needed: "each SCSI disk tells its id, which it does with disk.EnableUUID = TRUE",
        why: "Kernel names such as sdb change from start to start; only the SCSI id says which VMDK a disk is. \
              Without disk.EnableUUID VMware's disks tell none, and multipath silently skips them. In the old product \
              an extra disk appeared and held the data, or reprotect failed.",
        look: scsi_ids,
        mend: None,
    },
    Check {
        id: "duplicate-scsi-ids",
        group: Group::Disks,
        severity: Severity::Failure,
        title: "SCSI ids that occur twice",
        needed: "no two disks have the same SCSI id, unless multipath has joined them as paths to one",
        why: "VMDKs cloned from one template keep its UUID, so their disks cannot be told apart: data may be written \
              to the wrong one. In the old product reprotect failed for machines made from templates.",
        look: duplicates,
        mend: None,
    },
    Check {
        id: "controllers",
        group: Group::Disks,
        severity: Severity::Warning,
        title: "SCSI controllers",
        needed: "no disk hangs on a paravirtual SCSI controller (LSI Logic instead)",
        why: "The published rules for failback do not support paravirtual SCSI controllers on a master target: in the \
              old product reprotect failed. This product does not care how a disk is attached, but VMware's side of a \
              failback may.",
        look: controllers,
        mend: None,
    },
    Check {
        id: "disk-count",
        group: Group::Disks,
        severity: Severity::Warning,
        title: "Number of disks",
        needed: "60 disks or fewer",
        why: "VMware attaches 60 disks to a machine with four controllers. With more than that on the master target, \
              reprotect failed in the old product. Put further machines on another master target.",
        look: disk_count,
        mend: None,
    },
];

/// 100 GB, in powers of ten as makers of disks and the published procedure count.
const SYSTEM_DISK: u64 = 100_000_000_000;

fn system_disk(machine: &Machine) -> Look {
    let disk = machine.system_disk()?;
    let found = format!("{}, {} GB", disk.name, disk.size.0 / 1_000_000_000);
    match disk.size.0 >= SYSTEM_DISK {
        true => Finding::good(found),
        false => Finding::broken(
            found,
            "make the disk larger in vCenter, then its partition and file system; or install anew",
        ),
    }
}

/// Places that belong to the system.
const SYSTEM_PLACES: [&str; 14] = [
    "/",
    "/boot",
    "/boot/efi",
    "/usr",
    "/usr/local",
    "/var",
    "/var/lib",
    "/var/log",
    "/var/cache",
    "/var/tmp",
    "/tmp",
    "/home",
    "/opt",
    "/srv",
];

fn root_not_on_lvm(machine: &Machine) -> Look {
    let mounts = machine.mounts()?;
    if !mounts.iter().any(|mount| mount.place == "/") {
        return Err(Unknown::because("/proc/self/mountinfo does not list /"));
    }
    let system = mounts.iter().filter(|mount| SYSTEM_PLACES.contains(&mount.place.as_str()));
    let on_lvm = system.filter(|mount| {
        lies_on_lvm(machine, &format!("/sys/dev/block/{}", mount.number), 0)
            || volume_by_name(machine, &mount.source)
    });
    let places: Vec<&str> = on_lvm.map(|mount| mount.place.as_str()).collect();
    match places.is_empty() {
        true => Finding::good("no file system of the system lies on a logical volume"),
        false => Finding::broken(
            format!("on a logical volume: {}", places.join(", ")),
            "install the master target anew, with the guided partitioning that does without LVM",
        ),
    }
}

/// Whether a device is a logical volume, or lies on one.
fn lies_on_lvm(machine: &Machine, device: &str, depth: u32) -> bool {
    /// Devices that lie on one another; more is a loop.
    const DEEPEST: u32 = 8;
    if machine.system().attribute(format!("{device}/dm/uuid")).is_some_and(|uuid| uuid.starts_with("LVM-")) {
        return true;
    }
    let below = machine.system().names(format!("{device}/slaves"));
    depth < DEEPEST
        && below.iter().any(|name| lies_on_lvm(machine, &format!("/sys/class/block/{name}"), depth + 1))
}

/// File systems such as btrfs have no device number of their own, but name their device.
fn volume_by_name(machine: &Machine, source: &str) -> bool {
    let Some(name) = source.strip_prefix("/dev/mapper/") else { return false };
    let mut maps =
        machine.system().names("/sys/block").into_iter().filter(|kernel| kernel.starts_with("dm-"));
    maps.any(|kernel| {
        let device = format!("/sys/block/{kernel}");
        machine.system().attribute(format!("{device}/dm/name")).as_deref() == Some(name)
            && lies_on_lvm(machine, &device, 0)
    })
}

/// The disks that are on a SCSI bus or should tell an id all the same.
fn without_id<'a>(disks: &'a [AttachedDisk], wanted: &[NoScsiId]) -> Vec<&'a str> {
    let lacks = |disk: &&AttachedDisk| disk.no_scsi_id.is_some_and(|reason| wanted.contains(&reason));
    disks.iter().filter(lacks).map(|disk| disk.name.as_str()).collect()
}

fn scsi_ids(machine: &Machine) -> Look {
    let disks = machine.disks()?;
    let unset = without_id(disks, &[NoScsiId::EnableUuidUnset]);
    if !unset.is_empty() {
        return Finding::broken(
            format!("without an id: {}; disk.EnableUUID is not set", unset.join(", ")),
            "shut this machine down, set disk.EnableUUID = TRUE in its configuration parameters, and start it",
        );
    }
    let none = without_id(disks, &[NoScsiId::Garbled, NoScsiId::NoneGiven]);
    if !none.is_empty() {
        return Finding::broken(
            format!("without an id that can be used: {}", none.join(", ")),
            "attach these disks as VMDKs of this VMware machine",
        );
    }
    let ids = || disks.iter().filter_map(|disk| disk.scsi_id.as_ref());
    let foreign: Vec<&str> = ids().filter(|id| !id.is_vmware()).map(|id| id.as_str()).collect();
    let unsure: Vec<String> = disks
        .iter()
        .filter_map(|disk| Some(format!("{} ({})", disk.name, disk.other_scsi_id.as_ref()?)))
        .collect();
    if !unsure.is_empty() {
        return Finding::broken(
            format!("udev or multipath knows another id of {}", unsure.join(", ")),
            "udevadm trigger --subsystem-match=block; when that does not help, restart this machine",
        );
    }
    match (ids().count(), foreign.is_empty()) {
        (0, _) => Err(Unknown::because("this machine has no SCSI disk")),
        (count, true) => Finding::good(format!("{count} disks, each with an id of VMware's")),
        (_, false) => Finding::weak(
            format!("not in VMware's form (36000c29… and 33 characters): {}", foreign.join(", ")),
            "attach these disks as VMDKs of this VMware machine",
        ),
    }
}

fn duplicates(machine: &Machine) -> Look {
    let duplicates = machine.duplicates()?;
    let shown: Vec<String> = duplicates
        .iter()
        .map(|found| match &found.kind {
            DuplicateKind::Clones { difference } => {
                format!(
                    "{} are different disks with the id {} ({difference})",
                    found.disks.join(", "),
                    found.id
                )
            }
            DuplicateKind::UnjoinedPaths => {
                format!("{} are paths to one disk {} and not joined", found.disks.join(", "), found.id)
            }
            DuplicateKind::JoinedClones { map, difference } => {
                format!(
                    "{} are different disks ({difference}), joined into {map}: DANGER",
                    found.disks.join(", ")
                )
            }
        })
        .collect();
    let remedy = |found: &Duplicates| match found.kind {
        DuplicateKind::UnjoinedPaths => format!("mtctl disks --map {}", found.id),
        DuplicateKind::Clones { .. } | DuplicateKind::JoinedClones { .. } => {
            "shut this machine down, give each VMDK a ddb.uuid of its own, and start it".to_owned()
        }
    };
    match shown.is_empty() {
        true => Finding::good("none"),
        false => {
            let mut remedies: Vec<String> = duplicates.iter().map(remedy).collect();
            remedies.dedup();
            Finding::broken(shown.join("; "), remedies.join("; "))
        }
    }
}

fn controllers(machine: &Machine) -> Look {
    let paravirtual =
        |disk: &&AttachedDisk| disk.paths.iter().any(|path| path.controller == Controller::ParavirtualScsi);
    let names: Vec<&str> =
        machine.disks()?.iter().filter(paravirtual).map(|disk| disk.name.as_str()).collect();
    match names.is_empty() {
        true => Finding::good("no paravirtual SCSI controller is in use"),
        false => Finding::broken(
            format!("on a paravirtual SCSI controller: {}", names.join(", ")),
            "shut this machine down, change the type of the controller to LSI Logic, and start it",
        ),
    }
}

fn disk_count(machine: &Machine) -> Look {
    const MOST: usize = 60;
    let count = machine.disks()?.len();
    match count <= MOST {
        true => Finding::good(count.to_string()),
        false => Finding::broken(count.to_string(), "detach disks, or set up another master target for them"),
    }
}
