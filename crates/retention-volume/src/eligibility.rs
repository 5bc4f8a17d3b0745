//! Which disks can be, or can become, the retention volume, and which rule keeps the others from it.
//!
//! The old product listed a retention drive only when it kept some rules, and did not say which one was broken. Here
//! each rule is a variant of [`Ineligible`] that says what was found and what to do. The same rules hold for a disk that
//! is to be prepared, for the volume that is mounted, and for the list that `mtctl retention status` shows.
//!
//! Rules about who uses a disk come first. Where one of them is broken, nothing is said about what the disk holds: the
//! advice to wipe it would be the wrong one.

use crate::ext4::LABEL;
use block_device::inventory::{AttachedDisk, DuplicateKind, Duplicates, NoScsiId, Role, Signature, Use};
use block_device::{Inventory, ScsiId, System, opened_by};
use disk::Bytes;
use std::path::Path;

/// From this size on a disk is as large as the published procedure wants it: 1 TB, in powers of ten.
pub const RECOMMENDED: Bytes = Bytes(1_000_000_000_000);

/// Where this product itself lives.
const INSTALLATION: [&str; 4] =
    ["/etc/master-target", "/usr/bin", "/usr/local/ASR", "/var/lib/master-target"];

/// Why a disk cannot be the retention volume.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ineligible {
    /// This machine runs from it.
    #[error("this machine runs from it ({place} lies on it): name another disk")]
    System {
        /// `/`, `/boot`, …
        place: String,
    },
    /// The master target itself lies on it.
    #[error("the master target itself is installed on it ({place} lies on it): name another disk")]
    Installation {
        /// Where it is mounted.
        place: String,
    },
    /// It holds a replica.
    #[error("it is the target disk of a replicated item: name another disk")]
    Target,
    /// Swap goes to it, or did.
    #[error(
        "it is swap space: name another disk, or take this one from swap (swapoff, and its line in /etc/fstab) and \
             erase it with wipefs -a {device}"
    )]
    Swap {
        /// The device with the swap space.
        device: String,
    },
    /// LVM uses it.
    #[error(
        "LVM uses it ({shown}): name another disk, or take this one from LVM (lvchange -an, vgreduce, pvremove)"
    )]
    Lvm {
        /// What was found.
        shown: String,
    },
    /// Software RAID uses it.
    #[error(
        "it is part of a software RAID{}: name another disk, or take this one out (mdadm --stop, --zero-superblock)",
        array.as_ref().map(|name| format!(" ({name})")).unwrap_or_default()
    )]
    Raid {
        /// The array that runs.
        array: Option<String>,
    },
    /// It is encrypted.
    #[error(
        "it is encrypted (LUKS), so what it holds cannot be seen: name another disk, or erase this one with wipefs -a \
             {device} when nothing on it is wanted"
    )]
    Encrypted {
        /// Its node.
        device: String,
    },
    /// It is mounted somewhere else.
    #[error(
        "{device} is mounted at {place}: umount {place}, remove its line from /etc/fstab, and run this again"
    )]
    Mounted {
        /// What is mounted.
        device: String,
        /// Where.
        place: String,
    },
    /// Another device lies on it.
    #[error("{0}")]
    Held(Use),
    /// A program has it for itself.
    #[error("it is locked: {by}; end that, and run this again")]
    Locked {
        /// Which, as far as it is known.
        by: String,
    },
    /// The volume is mounted from a partition of it.
    #[error(
        "what is mounted as the retention volume is its partition {partition}, and a retention volume takes a whole \
             disk: prepare another one with another --mount-point, copy the items to it, and mount that one here"
    )]
    Partition {
        /// The partition.
        partition: String,
    },
    /// It holds a FAT file system.
    #[error("it holds a FAT file system, on which no journal can be kept: to erase it, give {}", erase(uuid.as_ref(), device))]
    Fat {
        /// Its UUID.
        uuid: Option<String>,
        /// Its node.
        device: String,
    },
    /// It holds a file system that is not the retention volume's.
    #[error(
        "it holds a file system ({shown}): {}to erase it, give {}",
        keep.as_ref().map(|place| format!("to keep it as the retention volume, mount it at {place} and run this again; ")).unwrap_or_default(),
        erase(uuid.as_ref(), device)
    )]
    OtherFileSystem {
        /// Which, with its label.
        shown: String,
        /// Its UUID.
        uuid: Option<String>,
        /// Where it can be mounted to be kept, when it is an ext4.
        keep: Option<String>,
        /// Its node.
        device: String,
    },
    /// It is divided into partitions.
    #[error(
        "it has a partition table ({table}{}), and the whole disk is needed: see what is on it with lsblk -f {device}, and \
         erase the table with wipefs -a {device} when nothing of it is wanted",
        holds.iter().map(|part| format!("; {part}")).collect::<String>()
    )]
    PartitionTable {
        /// mbr or gpt.
        table: String,
        /// What its partitions hold.
        holds: Vec<String>,
        /// Its node.
        device: String,
    },
    /// It cannot be read.
    #[error(
        "it cannot be read, so what it holds is not known: run this as root; if that was done, see dmesg"
    )]
    Unreadable,
    /// It cannot be written.
    #[error("it can only be read: see whether its VMDK is attached as independent or read-only, and dmesg")]
    ReadOnly,
    /// It can be taken out.
    #[error("its medium can be taken out: name a disk that stays")]
    Removable,
    /// It has no capacity.
    #[error("its capacity is zero: attach its VMDK again, or name another disk")]
    NoCapacity,
    /// It cannot be told from others.
    #[error("it has no SCSI id, {}", no_id(*reason))]
    NoScsiId {
        /// Why.
        reason: NoScsiId,
    },
    /// It is known by two ids.
    #[error(
        "it tells the SCSI id {id}, but udev, multipath or another path knows it as {other}: run udevadm trigger, and see \
         mtctl disks until they agree"
    )]
    TwoIds {
        /// Its own word.
        id: ScsiId,
        /// The other.
        other: ScsiId,
    },
    /// Other disks have its id.
    #[error("{0}")]
    Copies(Box<Duplicates>),
}

fn erase(uuid: Option<&String>, device: &str) -> String {
    match uuid {
        Some(uuid) => format!("--reformat {uuid}"),
        None => format!("it has no UUID that could be named: wipefs -a {device}"),
    }
}

fn no_id(reason: NoScsiId) -> &'static str {
    match reason {
        NoScsiId::EnableUuidUnset => {
            "because disk.EnableUUID is not set: shut this machine down, set disk.EnableUUID = TRUE in its configuration \
             parameters, and start it"
        }
        NoScsiId::Garbled => {
            "because what it tells cannot be used: see sg_vpd --page=di, and name another disk"
        }
        NoScsiId::NotScsi => "because it is no SCSI disk: name a disk on a SCSI controller",
        NoScsiId::NoneGiven => "because it tells none: name another disk",
    }
}

impl Ineligible {
    /// Name of the rule that is broken; for programs.
    pub fn rule(&self) -> &'static str {
        match self {
            Ineligible::System { .. } => "system-disk",
            Ineligible::Installation { .. } => "installation",
            Ineligible::Target => "target",
            Ineligible::Swap { .. } => "swap",
            Ineligible::Lvm { .. } => "lvm",
            Ineligible::Raid { .. } => "raid",
            Ineligible::Encrypted { .. } => "encrypted",
            Ineligible::Mounted { .. } => "mounted-elsewhere",
            Ineligible::Held(_) => "in-use",
            Ineligible::Locked { .. } => "locked",
            Ineligible::Partition { .. } => "partition",
            Ineligible::Fat { .. } => "fat",
            Ineligible::OtherFileSystem { .. } => "other-file-system",
            Ineligible::PartitionTable { .. } => "partition-table",
            Ineligible::Unreadable => "unreadable",
            Ineligible::ReadOnly => "read-only",
            Ineligible::Removable => "removable",
            Ineligible::NoCapacity => "no-capacity",
            Ineligible::NoScsiId { .. } => "no-scsi-id",
            Ineligible::TwoIds { .. } => "two-scsi-ids",
            Ineligible::Copies(_) => "copies",
        }
    }
}

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

/// Every disk with its standing. The inventory is one that was told the mount point and the targets of items.
pub fn survey<'a>(
    system: &System,
    inventory: &'a Inventory,
    mount_point: &Path,
) -> Vec<(&'a AttachedDisk, Standing)> {
    inventory.disks.iter().map(|disk| (disk, standing(system, inventory, disk, mount_point))).collect()
}

fn standing(system: &System, inventory: &Inventory, disk: &AttachedDisk, mount_point: &Path) -> Standing {
    let mut broken = judge(inventory, disk, mount_point, &[]);
    if broken.is_empty() {
        broken.extend(locked(system, disk));
    }
    match (broken.is_empty(), disk.role) {
        (false, _) => Standing::Ineligible(broken),
        (true, Role::Retention) => Standing::Retention,
        (true, _) => Standing::Eligible,
    }
}

/// Whether a program has a disk for itself that nobody else uses. It is tried out, for a moment.
pub fn locked(system: &System, disk: &AttachedDisk) -> Option<Ineligible> {
    let may_be_tried = disk.uses.is_empty() && disk.signature != Some(Signature::Unreadable);
    may_be_tried.then(|| opened_by(system, disk)).flatten().map(|by| Ineligible::Locked { by })
}

/// The rules that a disk breaks, as far as the inventory tells: [`locked`] has to be tried out. A file system with a UUID
/// that is `known` breaks none.
pub fn judge(
    inventory: &Inventory,
    disk: &AttachedDisk,
    mount_point: &Path,
    known: &[String],
) -> Vec<Ineligible> {
    let mut broken = of_uses(disk, mount_point);
    if broken.is_empty() {
        broken.extend(of_contents(disk, mount_point, known));
    }
    broken.extend(of_itself(inventory, disk));
    broken
}

/// Who uses it.
fn of_uses(disk: &AttachedDisk, mount_point: &Path) -> Vec<Ineligible> {
    let mut broken: Vec<Ineligible> = Vec::new();
    if disk.role == Role::Target {
        broken.push(Ineligible::Target);
    }
    for one in &disk.uses {
        let found = match one {
            Use::System { place } => Ineligible::System { place: place.clone() },
            Use::Mounted { device, place } if Path::new(place) == mount_point => {
                match disk.partitions.iter().find(|part| device.ends_with(&format!("/{}", part.name))) {
                    Some(part) => Ineligible::Partition { partition: part.name.clone() },
                    None => continue,
                }
            }
            Use::Mounted { place, .. } if carries_installation(place) => {
                Ineligible::Installation { place: place.clone() }
            }
            Use::Mounted { device, place } => {
                Ineligible::Mounted { device: device.clone(), place: place.clone() }
            }
            Use::Swap { device } => Ineligible::Swap { device: device.clone() },
            Use::LogicalVolume { name } => {
                Ineligible::Lvm { shown: format!("the logical volume {name} lies on it") }
            }
            Use::Raid { name } => Ineligible::Raid { array: Some(name.clone()) },
            Use::Opened { by } => Ineligible::Locked { by: by.clone() },
            Use::KeptForRetention => continue,
            Use::PathOf { .. } | Use::PartitionMap { .. } | Use::Holder { .. } => {
                Ineligible::Held(one.clone())
            }
        };
        if !broken.contains(&found) {
            broken.push(found);
        }
    }
    broken
}

fn carries_installation(place: &str) -> bool {
    let place = Path::new(place);
    INSTALLATION.iter().map(Path::new).any(|own| own.starts_with(place) || place.starts_with(own))
}

/// What it holds.
fn of_contents(disk: &AttachedDisk, mount_point: &Path, known: &[String]) -> Option<Ineligible> {
    let device = disk.device();
    Some(match disk.signature.as_ref()? {
        Signature::Unreadable => Ineligible::Unreadable,
        Signature::Swap => Ineligible::Swap { device },
        Signature::Encrypted => Ineligible::Encrypted { device },
        Signature::RaidMember => Ineligible::Raid { array: None },
        Signature::LvmMember { group } => Ineligible::Lvm {
            shown: match group {
                Some(group) => format!("it is a physical volume of the group {group}"),
                None => "it is a physical volume".to_owned(),
            },
        },
        Signature::PartitionTable { name } => Ineligible::PartitionTable {
            table: name.clone(),
            holds: disk.partitions.iter().map(|part| holds(&part.name, part.signature.as_ref())).collect(),
            device,
        },
        Signature::FileSystem { uuid, .. } if is_named(uuid.as_deref(), known) => return None,
        Signature::FileSystem { name, uuid, .. } if name == "vfat" => {
            Ineligible::Fat { uuid: uuid.clone(), device }
        }
        Signature::FileSystem { name, label, .. }
            if name == "ext4" && (label.as_deref() == Some(LABEL) || is_mounted_at(disk, mount_point)) =>
        {
            return None;
        }
        found @ Signature::FileSystem { name, uuid, .. } => Ineligible::OtherFileSystem {
            shown: found.to_string(),
            uuid: uuid.clone(),
            keep: (name == "ext4").then(|| mount_point.display().to_string()),
            device,
        },
    })
}

fn holds(partition: &str, signature: Option<&Signature>) -> String {
    format!("{partition}: {}", signature.map_or("nothing known".to_owned(), ToString::to_string))
}

/// Whether the UUID is one of these; digits are written small or large.
pub(crate) fn is_named(uuid: Option<&str>, names: &[String]) -> bool {
    uuid.is_some_and(|uuid| names.iter().any(|name| name.eq_ignore_ascii_case(uuid)))
}

/// Whether the disk, or a part of it, is mounted there.
pub(crate) fn is_mounted_at(disk: &AttachedDisk, mount_point: &Path) -> bool {
    disk.uses.iter().any(|one| matches!(one, Use::Mounted { place, .. } if Path::new(place) == mount_point))
}

/// What it is.
fn of_itself(inventory: &Inventory, disk: &AttachedDisk) -> Vec<Ineligible> {
    let copies = inventory.duplicates_of(disk).filter(|found| found.kind != DuplicateKind::UnjoinedPaths);
    let no_id = disk.scsi_id.is_none().then(|| disk.no_scsi_id.unwrap_or(NoScsiId::NoneGiven));
    let ids = disk.scsi_id.clone().zip(disk.other_scsi_id.clone());
    let rules = [
        (disk.size == Bytes::ZERO).then_some(Ineligible::NoCapacity),
        disk.read_only.then_some(Ineligible::ReadOnly),
        disk.removable.then_some(Ineligible::Removable),
        no_id.map(|reason| Ineligible::NoScsiId { reason }),
        ids.map(|(id, other)| Ineligible::TwoIds { id, other }),
        copies.map(|copies| Ineligible::Copies(Box::new(copies))),
    ];
    rules.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests;
