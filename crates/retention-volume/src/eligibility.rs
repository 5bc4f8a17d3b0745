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
use std::fmt;
use std::path::{Path, PathBuf};

mod standing;

pub use standing::{Question, Standing, survey};

/// From this size on a disk is as large as the published procedure wants it: 1 TB, in powers of ten.
pub const RECOMMENDED: Bytes = Bytes(1_000_000_000_000);

/// Where this product itself lives.
const INSTALLATION: [&str; 4] =
    ["/etc/master-target", "/usr/bin", "/usr/local/ASR", "/var/lib/master-target"];

/// Why a disk cannot be the retention volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ineligible {
    /// This machine runs from it.
    System {
        /// `/`, `/boot`, …
        place: String,
    },
    /// The master target itself lies on it.
    Installation {
        /// Where it is mounted.
        place: String,
    },
    /// It holds a replica.
    Target,
    /// Swap goes to it, or did.
    Swap {
        /// The device with the swap space.
        device: String,
    },
    /// LVM uses it.
    Lvm {
        /// The logical volume on it, or the volume group.
        name: Option<String>,
    },
    /// Software RAID uses it.
    Raid {
        /// The array that runs.
        array: Option<String>,
    },
    /// It is encrypted.
    Encrypted {
        /// Its node.
        device: String,
    },
    /// It is mounted somewhere else.
    Mounted {
        /// What is mounted.
        device: String,
        /// Where.
        place: String,
    },
    /// Another device lies on it.
    Held(Use),
    /// A program has it for itself.
    Locked {
        /// Which, as far as it is known.
        by: String,
    },
    /// The volume is mounted from a partition of it.
    Partition {
        /// The partition.
        partition: String,
    },
    /// It holds a FAT file system.
    Fat {
        /// Its UUID.
        uuid: Option<String>,
        /// Its node.
        device: String,
    },
    /// It holds a file system that is not the retention volume's.
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
    PartitionTable {
        /// mbr or gpt.
        table: String,
        /// What its partitions hold.
        holds: Vec<String>,
        /// Its node.
        device: String,
    },
    /// It has the label of a retention volume, and no marker.
    Unmarked {
        /// UUID of its file system.
        uuid: String,
        /// Its node.
        device: String,
        /// Where it can be mounted to be kept.
        place: PathBuf,
    },
    /// It has the label of a retention volume, and a marker that cannot be trusted.
    Marker {
        /// What is wrong with it, and what to do.
        said: String,
    },
    /// fstab has it for another place.
    InFstab {
        /// Its line.
        line: usize,
        /// What it calls the disk.
        device: String,
        /// Where it mounts it; `none` for swap.
        place: PathBuf,
    },
    /// It may be an item's target.
    MaybeTarget {
        /// Why that is not known.
        why: String,
    },
    /// It cannot be read.
    Unreadable,
    /// It could not be found out what it holds.
    Unexamined {
        /// What failed.
        said: String,
    },
    /// It cannot be written.
    ReadOnly,
    /// It can be taken out.
    Removable,
    /// It has no capacity.
    NoCapacity,
    /// It cannot be told from others.
    NoScsiId {
        /// Why.
        reason: NoScsiId,
    },
    /// It is known by two ids.
    TwoIds {
        /// Its own word.
        id: ScsiId,
        /// The other.
        other: ScsiId,
    },
    /// Other disks have its id.
    Copies(Box<Duplicates>),
}

impl fmt::Display for Ineligible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what(), self.remedy())
    }
}

impl Ineligible {
    /// What was found.
    pub fn what(&self) -> String {
        match self {
            Ineligible::System { place } => format!("this machine runs from it ({place} lies on it)"),
            Ineligible::Installation { place } => {
                format!("the master target is installed on it ({place} lies on it)")
            }
            Ineligible::Target => "it is the target disk of a replicated item".into(),
            Ineligible::Swap { device } => format!("{device} is swap space"),
            Ineligible::Lvm { name } => format!("LVM uses it{}", in_brackets(name.as_ref())),
            Ineligible::Raid { array } => {
                format!("it is part of a software RAID{}", in_brackets(array.as_ref()))
            }
            Ineligible::Encrypted { .. } => "it is encrypted (LUKS), so what it holds cannot be seen".into(),
            Ineligible::Mounted { device, place } => format!("{device} is mounted at {place}"),
            Ineligible::Held(one) => one.to_string(),
            Ineligible::Locked { by } => format!("it is locked ({by})"),
            Ineligible::Partition { partition } => {
                format!(
                    "the volume lies on its partition {partition}, and a retention volume takes a whole disk"
                )
            }
            Ineligible::Fat { .. } => "it holds a FAT file system, on which no journal can be kept".into(),
            Ineligible::OtherFileSystem { shown, .. } => format!("it holds a file system ({shown})"),
            Ineligible::PartitionTable { table, holds, .. } => {
                let holds: String = holds.iter().map(|part| format!("; {part}")).collect();
                format!("it has a partition table ({table}{holds}), and the whole disk is needed")
            }
            Ineligible::Unmarked { uuid, .. } => {
                format!("it holds an ext4 with the label of a retention volume and no marker (UUID {uuid})")
            }
            Ineligible::Marker { said } => format!("its marker cannot be trusted ({said})"),
            Ineligible::InFstab { line, device, place } => {
                format!("line {line} of /etc/fstab uses it ({device}) for {}", place.display())
            }
            Ineligible::MaybeTarget { why } => format!("it may be the target disk of an item ({why})"),
            Ineligible::Unreadable => "it cannot be read, so what it holds is not known".into(),
            Ineligible::Unexamined { said } => format!("what it holds could not be found out ({said})"),
            Ineligible::ReadOnly => "it can only be read".into(),
            Ineligible::Removable => "its medium can be taken out".into(),
            Ineligible::NoCapacity => "its capacity is zero".into(),
            Ineligible::NoScsiId { reason } => {
                format!("it has no SCSI id: {}", reason.to_string().trim_start_matches("none: "))
            }
            Ineligible::TwoIds { id, other } => {
                format!("it tells the SCSI id {id}, but udev, multipath or another path knows it as {other}")
            }
            Ineligible::Copies(copies) => copies.to_string(),
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        const ANOTHER: &str = "name another disk";
        match self {
            Ineligible::System { .. } | Ineligible::Installation { .. } | Ineligible::Target => ANOTHER.into(),
            Ineligible::Removable => "name a disk that stays".into(),
            Ineligible::Copies(_) | Ineligible::Held(_) => format!("do that, or {ANOTHER}"),
            Ineligible::Swap { device } => format!(
                "{ANOTHER}, or take this one from swap (swapoff, and its line in /etc/fstab) and erase it with wipefs -a \
                 {device}"
            ),
            Ineligible::Lvm { .. } => {
                format!("{ANOTHER}, or take this one from LVM (lvchange -an, vgreduce, pvremove)")
            }
            Ineligible::Raid { .. } => {
                format!("{ANOTHER}, or take this one out (mdadm --stop, then mdadm --zero-superblock)")
            }
            Ineligible::Encrypted { device } => {
                format!("{ANOTHER}, or erase this one with wipefs -a {device} when nothing on it is wanted")
            }
            Ineligible::Mounted { place, .. } => {
                format!("umount {place}, remove its line from /etc/fstab, and run this again")
            }
            Ineligible::Locked { .. } => "end the program that has it, and run this again".into(),
            Ineligible::Partition { .. } => {
                "prepare another disk with another --mount-point, copy the items to it, and mount that one here".into()
            }
            Ineligible::Fat { uuid, device } => format!("to erase it, {}", erase(uuid.as_ref(), device)),
            Ineligible::OtherFileSystem { uuid, keep, device, .. } => {
                let keep = keep.as_ref().map(|place| {
                    format!("to keep it as the retention volume, mount it at {place} and run this again; ")
                });
                format!("{}to erase it, {}", keep.unwrap_or_default(), erase(uuid.as_ref(), device))
            }
            Ineligible::PartitionTable { device, .. } => format!(
                "see what is on it with lsblk -f {device}, and erase the table with wipefs -a {device} when nothing of it is \
                 wanted"
            ),
            Ineligible::Unmarked { uuid, place, .. } => format!(
                "to keep it, mount it at {} and run mtctl retention prepare; to erase it, give --reformat {uuid}",
                place.display()
            ),
            Ineligible::Marker { .. } => "mend that, or erase the file system with --reformat and its UUID".into(),
            Ineligible::InFstab { .. } => {
                format!("remove that line if it is wanted no longer, or {ANOTHER}")
            }
            Ineligible::MaybeTarget { .. } => "mend that first".into(),
            Ineligible::Unreadable => "run this as root; if that was done, see dmesg".into(),
            Ineligible::Unexamined { .. } => {
                "run this as root; if that was done, run blkid -p on the disk, and see dmesg".into()
            }
            Ineligible::ReadOnly => "see dmesg, and whether its VMDK is attached read-only".into(),
            Ineligible::NoCapacity => "attach its VMDK again, or name another disk".into(),
            Ineligible::NoScsiId { reason: NoScsiId::EnableUuidUnset } => {
                "shut this machine down, set disk.EnableUUID = TRUE in its configuration parameters, and start it".into()
            }
            Ineligible::NoScsiId { .. } => "name a SCSI disk that tells one".into(),
            Ineligible::TwoIds { .. } => "run udevadm trigger, and see mtctl disks until they agree".into(),
        }
    }

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
            Ineligible::Unmarked { .. } => "unmarked",
            Ineligible::Marker { .. } => "marker",
            Ineligible::InFstab { .. } => "in-fstab",
            Ineligible::MaybeTarget { .. } => "maybe-target",
            Ineligible::Unreadable => "unreadable",
            Ineligible::Unexamined { .. } => "unexamined",
            Ineligible::ReadOnly => "read-only",
            Ineligible::Removable => "removable",
            Ineligible::NoCapacity => "no-capacity",
            Ineligible::NoScsiId { .. } => "no-scsi-id",
            Ineligible::TwoIds { .. } => "two-scsi-ids",
            Ineligible::Copies(_) => "copies",
        }
    }
}

fn in_brackets(name: Option<&String>) -> String {
    name.map(|name| format!(" ({name})")).unwrap_or_default()
}

fn erase(uuid: Option<&String>, device: &str) -> String {
    match uuid {
        Some(uuid) => format!("give --reformat {uuid}"),
        None => format!("wipefs -a {device}: it has no UUID that could be named"),
    }
}

/// Whether a program has a disk for itself that nobody else uses. It is tried out, for a moment.
pub fn locked(system: &System, disk: &AttachedDisk) -> Option<Ineligible> {
    let may_be_tried = disk.uses.is_empty() && disk.signature != Some(Signature::Unreadable);
    may_be_tried.then(|| opened_by(system, disk)).flatten().map(|by| Ineligible::Locked { by })
}

/// Every rule that a disk breaks: those that the inventory tells, a lock, and that it is a target of an item: that fstab
/// means it for the retention volume makes it no less a target.
pub(crate) fn rules_broken(
    system: &System,
    inventory: &Inventory,
    disk: &AttachedDisk,
    (mount_point, known): (&Path, &[String]),
    targets: &[String],
) -> Vec<Ineligible> {
    let mut broken = judge(inventory, disk, mount_point, known);
    if broken.is_empty() {
        broken.extend(locked(system, disk));
    }
    let is_it = |target: &String| inventory.find(system, target).is_ok_and(|found| found.name == disk.name);
    if !broken.contains(&Ineligible::Target) && targets.iter().any(is_it) {
        broken.push(Ineligible::Target);
    }
    broken
}

/// Whether fstab means the disk by this name.
pub(crate) fn is_called(system: &System, inventory: &Inventory, disk: &AttachedDisk, device: &str) -> bool {
    let (told, label) = match &disk.signature {
        Some(Signature::FileSystem { uuid, label, .. }) => (uuid.as_deref(), label.as_deref()),
        _ => (None, None),
    };
    let value = |tag: &str| Some(device.strip_prefix(tag)?.trim_matches('"').to_owned());
    if let Some(named) = value("UUID=") {
        return is_named(told, &[named]);
    }
    if let Some(named) = value("LABEL=") {
        return label == Some(&named);
    }
    device.starts_with("/dev/")
        && match inventory.find(system, device) {
            Ok(found) => found.name == disk.name || found.scsi_id.is_some() && found.scsi_id == disk.scsi_id,
            Err(block_device::Error::Ambiguous { duplicates }) => {
                Some(&duplicates.id) == disk.scsi_id.as_ref()
            }
            Err(_) => false,
        }
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
            Use::LogicalVolume { name } => Ineligible::Lvm { name: Some(name.clone()) },
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
        Signature::LvmMember { group } => Ineligible::Lvm { name: group.clone() },
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
