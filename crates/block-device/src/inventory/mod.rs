//! The disks of this machine: what they are, how they are reached, and what uses them.
//!
//! Nothing is remembered between two looks: [`Inventory::read`] reads sysfs, udev's database and the disks' first
//! blocks as they are now, so a disk that appeared or went is noticed without a restart. [`Changes`] tells when to
//! look again.
//!
//! A look never fails as a whole. A disk that goes in the middle of it is left out or has gaps, one that does not
//! answer is [`Signature::Unreadable`], programs that hang or print rubbish are done without. One thing is not done
//! without: when it cannot be told what is mounted, or what is kept for the retention volume, the disks in question
//! count as used.
//!
//! | what | where from | module |
//! |---|---|---|
//! | which device lies on which | sysfs: `holders`, `slaves`, partitions, `dm/`, `loop/` | `devices` |
//! | SCSI id | VPD pages in sysfs; else `ID_SERIAL` in `/run/udev/data/b<major>:<minor>` | `identity` |
//! | controller | the ancestors of the device in sysfs | `identity` |
//! | state of paths | sysfs, and `multipathd` if it answers in time | `usage` |
//! | contents | the first and last blocks | `probe` |
//! | uses | mountinfo, swaps, and all that lies on the disk | `usage` |
//!
//! Neither libudev nor libdevmapper is needed. udev's database is the second source because it can be older than the
//! disk: where both differ, [`AttachedDisk::other_scsi_id`] says so.

mod changes;
mod describe;
mod devices;
mod duplicates;
mod find;
mod identity;
mod probe;
mod read;
pub(crate) mod text;
mod usage;

pub use changes::Changes;
pub use duplicates::{DuplicateKind, Duplicates};
pub use find::EnableUuid;
pub use read::Look;
pub(crate) use usage::of_device;

use crate::scsi_id::ScsiId;
use disk::Bytes;
use serde::Serialize;
use std::fmt;

/// Number of a block device: major and minor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct DeviceNumber {
    /// Of the driver.
    pub major: u64,
    /// Of the device.
    pub minor: u64,
}

impl DeviceNumber {
    /// The number in a text such as `8:16`.
    pub fn parse(text: &str) -> Option<DeviceNumber> {
        let (major, minor) = text.trim().split_once(':')?;
        Some(DeviceNumber { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }

    /// The number in the metadata (`st_rdev`) of a device's node.
    pub fn of_node(number: u64) -> DeviceNumber {
        DeviceNumber { major: nix::sys::stat::major(number), minor: nix::sys::stat::minor(number) }
    }
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// The disks of a machine at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Inventory {
    /// One for each disk, however many paths lead to it; in the order of kernel names.
    pub disks: Vec<AttachedDisk>,
}

/// One disk. With a multipath map, one for all of its paths; without, one for each path.
#[derive(Clone, Debug, Serialize)]
pub struct AttachedDisk {
    /// Name of the kernel for the disk, or for its first path: `sda`.
    pub name: String,
    /// Its multipath map, if there is one.
    pub map: Option<MultipathMap>,
    /// Its SCSI id (WWID); `None` when the machine has no disk.EnableUUID, or the disk is not a SCSI disk.
    pub scsi_id: Option<ScsiId>,
    /// Why there is no SCSI id, when there is none.
    pub no_scsi_id: Option<NoScsiId>,
    /// Another id by which udev, multipath or another path knows it, when they do not agree: it must be found out why
    /// before the disk is used.
    pub other_scsi_id: Option<ScsiId>,
    /// Serial number, as the disk tells it.
    pub serial: Option<String>,
    /// Vendor, as the disk tells it.
    pub vendor: Option<String>,
    /// Model, as the disk tells it.
    pub model: Option<String>,
    /// Size.
    #[serde(rename = "bytes", serialize_with = "serialize_bytes")]
    pub size: Bytes,
    /// Bytes in a logical sector.
    pub logical_sector: u32,
    /// Bytes in a physical sector.
    pub physical_sector: u32,
    /// True when it can only be read.
    pub read_only: bool,
    /// True for a medium that can be taken out.
    pub removable: bool,
    /// The ways that lead to it, at least one.
    pub paths: Vec<DiskPath>,
    /// Partitions that the kernel or device-mapper shows.
    pub partitions: Vec<Partition>,
    /// What its first blocks say that it holds.
    pub signature: Option<Signature>,
    /// What uses it, or a part of it.
    pub uses: Vec<Use>,
    /// What it is for.
    pub role: Role,
}

/// A multipath map over paths to one disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MultipathMap {
    /// Its name, under /dev/mapper.
    pub name: String,
    /// Its kernel name: `dm-0`.
    pub kernel_name: String,
    /// Its device number.
    pub number: DeviceNumber,
    /// The WWID in its uuid.
    pub wwid: String,
}

/// One way to a disk: a SCSI device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DiskPath {
    /// Name of the kernel: `sda`.
    pub name: String,
    /// Its device number.
    pub number: DeviceNumber,
    /// Size, as this path tells it.
    #[serde(rename = "bytes", serialize_with = "serialize_bytes")]
    pub size: Bytes,
    /// Host, channel, target, LUN; `None` for what is no SCSI device.
    pub address: Option<ScsiAddress>,
    /// The controller that it hangs on.
    pub controller: Controller,
    /// The kernel's word on the device: running, offline, …
    pub device_state: Option<String>,
    /// multipathd's word on the path, when it is one of a map's: active, failed, …
    pub path_state: Option<String>,
}

/// Where a SCSI device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ScsiAddress {
    /// Number of the host adapter.
    pub host: u32,
    /// Channel.
    pub channel: u32,
    /// Target.
    pub target: u32,
    /// Logical unit.
    pub lun: u64,
}

/// Kind of a controller. The published failback rules do not support paravirtual SCSI on a master target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Controller {
    /// VMware paravirtual SCSI (PCI 15ad:07c0).
    ParavirtualScsi,
    /// LSI Logic Parallel (PCI 1000:0030, or 1000:0012 of the 53c895a).
    LsiParallel,
    /// LSI Logic SAS (PCI 1000:0054).
    LsiSas,
    /// BusLogic (PCI 104b:1040).
    BusLogic,
    /// SATA or IDE.
    Ata,
    /// NVM Express.
    Nvme,
    /// virtio block or SCSI.
    Virtio,
    /// iSCSI.
    Iscsi,
    /// A loop device, device-mapper, and others that no bus has.
    Virtual,
    /// None of these.
    Other,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Partition {
    /// Name of the device, `sda1`, or of the map, `36000…-part1`.
    pub name: String,
    /// Its device number.
    pub number: DeviceNumber,
    /// Its place in the table, from 1.
    pub index: u32,
    /// First byte.
    #[serde(serialize_with = "serialize_bytes")]
    pub start: Bytes,
    /// Size.
    #[serde(rename = "bytes", serialize_with = "serialize_bytes")]
    pub size: Bytes,
    /// What its first blocks say that it holds.
    pub signature: Option<Signature>,
}

/// Why a disk has no SCSI id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoScsiId {
    /// A VMware disk that tells none: the machine's disk.EnableUUID is not set.
    EnableUuidUnset,
    /// The disk's VPD pages are there, and none holds an id that can be used.
    Garbled,
    /// A disk of another kind, which need not have one.
    NotScsi,
    /// A SCSI disk of another maker without an id.
    NoneGiven,
}

/// What the first blocks of a disk or partition hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Signature {
    /// A file system.
    FileSystem {
        /// ext4, xfs, vfat, ntfs, …
        name: String,
        /// Its UUID, where there is one.
        uuid: Option<String>,
        /// Its label, where there is one.
        label: Option<String>,
    },
    /// Swap space.
    Swap,
    /// Physical volume of the logical volume manager.
    LvmMember {
        /// Its volume group's name, when it could be read.
        group: Option<String>,
    },
    /// Member of a Linux software RAID.
    RaidMember,
    /// An encrypted volume (LUKS).
    Encrypted,
    /// A table of partitions: `mbr` or `gpt`.
    PartitionTable {
        /// mbr or gpt.
        name: String,
    },
    /// The disk could not be read.
    Unreadable,
}

/// Something that uses a disk, so that it must not be written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Use {
    /// It, or a part of it, is mounted.
    Mounted {
        /// The device that is mounted.
        device: String,
        /// Where.
        place: String,
    },
    /// Swap goes to it.
    Swap {
        /// The device.
        device: String,
    },
    /// A logical volume lies on it.
    LogicalVolume {
        /// device-mapper's name of the volume.
        name: String,
    },
    /// It is a member of a software RAID that runs.
    Raid {
        /// The array: `md0`.
        name: String,
    },
    /// It is one path of a multipath map, which is to be used instead.
    PathOf {
        /// Name of the map.
        map: String,
    },
    /// A partition map that is open lies on it.
    PartitionMap {
        /// device-mapper's name.
        name: String,
    },
    /// Another device lies on it.
    Holder {
        /// Kernel name, or device-mapper's.
        name: String,
    },
    /// A file system that this machine runs from lies on it.
    System {
        /// `/`, `/boot`, …
        place: String,
    },
    /// fstab means it for the retention volume, which is not mounted.
    KeptForRetention,
    /// A program has it open exclusively.
    Opened {
        /// Which, as far as it is known.
        by: String,
    },
}

/// What a disk is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// This machine runs from it.
    System,
    /// It holds the retention volume.
    Retention,
    /// It is a target disk of an item.
    Target,
    /// Something else uses it.
    Used,
    /// Nothing that can be seen uses it. A user that the kernel lists nowhere (a ZFS pool, a program) is found by the
    /// exclusive open that every use begins with.
    Free,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
pub(crate) fn serialize_bytes<S: serde::Serializer>(
    bytes: &Bytes,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_u64(bytes.0)
}
