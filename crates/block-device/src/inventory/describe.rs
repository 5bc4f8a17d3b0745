//! The inventory in words.

use super::{Controller, NoScsiId, Role, ScsiAddress, Signature, Use};
use std::fmt;

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Use::Mounted { device, place } => {
                write!(f, "{device} is mounted at {place} (umount {place} first)")
            }
            Use::Swap { device } => write!(f, "swap goes to {device} (swapoff {device} first)"),
            Use::LogicalVolume { name } => {
                write!(
                    f,
                    "the logical volume {name} lies on it (deactivate its volume group with vgchange -an)"
                )
            }
            Use::Raid { name } => write!(f, "it is part of the RAID {name} (mdadm --stop /dev/{name} first)"),
            Use::PathOf { map } => {
                write!(f, "it is a path of the multipath map {map} (use /dev/mapper/{map})")
            }
            Use::PartitionMap { name } => {
                write!(
                    f,
                    "its partition map {name} is open (close what uses it, then mtctl partitions --unmap)"
                )
            }
            Use::Holder { name } => {
                write!(f, "the device {name} lies on it (lsblk shows what uses it; close that first)")
            }
            Use::System { place } => write!(f, "{place} of this machine lies on it"),
            Use::KeptForRetention => f.write_str("/etc/fstab keeps it for the retention volume"),
            Use::Opened { by } => write!(f, "{by} has it open"),
        }
    }
}

impl fmt::Display for ScsiAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}:{}", self.host, self.channel, self.target, self.lun)
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Controller::ParavirtualScsi => "paravirtual SCSI",
            Controller::LsiParallel => "LSI Parallel",
            Controller::LsiSas => "LSI SAS",
            Controller::BusLogic => "BusLogic",
            Controller::Ata => "ATA",
            Controller::Nvme => "NVMe",
            Controller::Virtio => "virtio",
            Controller::Iscsi => "iSCSI",
            Controller::Virtual => "virtual",
            Controller::Other => "other",
        })
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Role::System => "system",
            Role::Retention => "retention",
            Role::Target => "target",
            Role::Used => "used",
            Role::Free => "free",
        })
    }
}

impl fmt::Display for NoScsiId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            NoScsiId::EnableUuidUnset => "none: disk.EnableUUID is not set",
            NoScsiId::Garbled => "none: what the disk tells cannot be used",
            NoScsiId::NotScsi => "none: not a SCSI disk",
            NoScsiId::NoneGiven => "none: the disk tells none",
        })
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Signature::FileSystem { name, label: Some(label), .. } => write!(f, "{name} {label:?}"),
            Signature::FileSystem { name, .. } => f.write_str(name),
            Signature::Swap => f.write_str("swap"),
            Signature::LvmMember { group: Some(group) } => write!(f, "LVM, volume group {group}"),
            Signature::LvmMember { group: None } => f.write_str("LVM"),
            Signature::RaidMember => f.write_str("RAID member"),
            Signature::Encrypted => f.write_str("encrypted (LUKS)"),
            Signature::PartitionTable { name } => write!(f, "partition table ({name})"),
            Signature::Unreadable => f.write_str("cannot be read"),
        }
    }
}
