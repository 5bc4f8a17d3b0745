//! Finding the disk that somebody means.

use super::devices::Devices;
use super::identity::is_vmware;
use super::{AttachedDisk, DiskPath, Inventory, NoScsiId, Role};
use crate::error::{Error, Result};
use crate::paths;
use crate::scsi_id::ScsiId;
use crate::system::System;
use serde::Serialize;
use std::os::unix::fs::FileTypeExt;

/// Whether the machine has disk.EnableUUID set, as far as its disks tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EnableUuid {
    /// All VMware disks tell an id.
    Yes,
    /// These tell none.
    No {
        /// Kernel names.
        disks: Vec<String>,
    },
    /// There is no VMware disk to ask, or none whose answer can be used.
    Unknown,
}

impl AttachedDisk {
    /// The name of its map, or else that of the kernel.
    pub fn shown(&self) -> &str {
        self.map.as_ref().map_or(&self.name, |map| &map.name)
    }

    /// The node through which it is to be used.
    pub fn device(&self) -> String {
        match &self.map {
            Some(map) => format!("/dev/mapper/{}", map.name),
            None => format!("/dev/{}", self.name.replace('!', "/")),
        }
    }

    /// Whether it is made of a VMDK.
    pub fn is_vmware(&self) -> bool {
        is_vmware(self.vendor.as_deref().unwrap_or_default(), self.model.as_deref().unwrap_or_default())
    }

    fn is_called(&self, name: &str) -> bool {
        self.name == name || self.paths.iter().any(|path| path.name == name)
    }
}

impl DiskPath {
    /// False when the kernel or multipathd says that it does not.
    pub fn works(&self) -> bool {
        let dead = self.device_state.as_deref().is_some_and(|state| !paths::runs(state));
        !dead && self.path_state.as_deref() != Some("failed")
    }
}

impl AttachedDisk {
    /// False when no path works: a map can make a read wait for ever then.
    pub(crate) fn can_answer(&self) -> bool {
        self.paths.iter().any(DiskPath::works)
    }
}

impl Inventory {
    /// The disk with this name: the kernel's name of the disk or of a path to it, its map, its SCSI id, the `ddb.uuid` of
    /// its VMDK, or the path of a node or of a link to one. What is not a whole disk is refused, and said to be what it is.
    pub fn find(&self, system: &System, name: &str) -> Result<&AttachedDisk> {
        // The name of a map stands for its disk also while there is no map.
        let mapped = name.strip_prefix("/dev/mapper/").filter(|name| self.has_id(name));
        let name = mapped.unwrap_or(name);
        if name.contains('/') {
            return self.find_path(system, name);
        }
        if let Some(disk) = self.disks.iter().find(|disk| disk.is_called(name)) {
            return Ok(disk);
        }
        let id = ScsiId::of_vmdk_text(name);
        let with_id = |disk: &&AttachedDisk| {
            disk.scsi_id.as_ref().is_some_and(|told| told.as_str() == name || Some(told) == id.as_ref())
        };
        let mut same = self.disks.iter().filter(with_id);
        match (same.next(), same.next()) {
            (Some(disk), None) => return Ok(disk),
            (Some(disk), Some(_)) => return Err(self.ambiguous(disk)),
            (None, _) => {}
        }
        let mapped = |disk: &&AttachedDisk| {
            disk.map.as_ref().is_some_and(|map| map.name == name || map.kernel_name == name)
        };
        if let Some(disk) = self.disks.iter().find(mapped) {
            return Ok(disk);
        }
        let devices = Devices::read(system);
        match devices.named(name).or_else(|| devices.mapped(name)) {
            Some(device) => self.by_device(&devices, &device.name, name),
            None => Err(Error::NoDisk { disk: name.to_owned() }),
        }
    }

    fn has_id(&self, id: &str) -> bool {
        self.disks.iter().any(|disk| disk.scsi_id.as_ref().is_some_and(|told| told.as_str() == id))
    }

    /// The error for a disk that shares its id with others.
    fn ambiguous(&self, disk: &AttachedDisk) -> Error {
        match self.duplicates_of(disk) {
            Some(duplicates) => Error::Ambiguous { duplicates: Box::new(duplicates) },
            None => Error::NoDisk { disk: disk.name.clone() },
        }
    }

    fn find_path(&self, system: &System, path: &str) -> Result<&AttachedDisk> {
        let devices = Devices::read(system);
        if let Some(device) = devices.at(system, path) {
            return self.by_device(&devices, &device.name, path);
        }
        let not_a_disk = |what: &str| Error::NotADisk { disk: path.to_owned(), what: what.to_owned() };
        match std::fs::metadata(system.path(path)).map(|metadata| metadata.file_type()) {
            Ok(kind) if kind.is_dir() => Err(not_a_disk("it is a folder")),
            Ok(kind) if kind.is_file() => Err(not_a_disk("it is a regular file")),
            Ok(kind) if kind.is_char_device() => Err(not_a_disk("it is a character device")),
            Ok(kind) if kind.is_block_device() => Err(not_a_disk("its device is not there any more")),
            Ok(_) => Err(not_a_disk("it is a pipe or a socket")),
            Err(_) => Err(Error::NoDisk { disk: path.to_owned() }),
        }
    }

    /// The disk that is this device; `asked` is what the caller called it.
    fn by_device(&self, devices: &Devices, name: &str, asked: &str) -> Result<&AttachedDisk> {
        let is_map = |disk: &AttachedDisk| disk.map.as_ref().is_some_and(|map| map.kernel_name == name);
        if let Some(disk) = self.disks.iter().find(|disk| disk.is_called(name) || is_map(disk)) {
            return Ok(disk);
        }
        let refused = |what: String| Err(Error::NotADisk { disk: asked.to_owned(), what });
        let Some(device) = devices.named(name) else { return Err(Error::NoDisk { disk: asked.to_owned() }) };
        if let Some((disk, index)) = &device.partition {
            return refused(format!("it is partition {index} of {disk}"));
        }
        if let Some(index) = device.map_of_partition() {
            let below = device.slaves.first().and_then(|name| devices.named(name));
            let disk = below.map_or("a disk that is gone", |below| below.shown());
            return refused(format!("it is the map of partition {index} of {disk}"));
        }
        match device.shown() {
            // It came, or lost its last path, after this look.
            _ if device.wwid().is_some() || name.starts_with("sd") => {
                Err(Error::NoDisk { disk: asked.to_owned() })
            }
            volume if device.is_logical_volume() => refused(format!("it is the logical volume {volume}")),
            array if device.is_raid() => refused(format!("it is the software RAID {array}")),
            map if device.map.is_some() => refused(format!("it is the device-mapper device {map}")),
            other => refused(format!("{other} is a block device of another kind")),
        }
    }

    /// The disks that a VMDK with this `ddb.uuid` is attached as; several when paths are not joined, or copies share it.
    pub fn of_vmdk(&self, uuid: [u8; 16]) -> Vec<&AttachedDisk> {
        self.disks
            .iter()
            .filter(|disk| disk.scsi_id.as_ref().and_then(ScsiId::vmdk_uuid) == Some(uuid))
            .collect()
    }

    /// Marks the disks that items write to. Each target is a name that [`Inventory::find`] understands; what is no
    /// disk of this machine, such as a VMDK in a folder, is passed over.
    pub fn mark_targets<S: AsRef<str>>(&mut self, system: &System, targets: &[S]) {
        for target in targets {
            let marked: Vec<String> = match self.find(system, target.as_ref()) {
                Ok(disk) => vec![disk.name.clone()],
                // Any of them can be meant, so none of them is free.
                Err(Error::Ambiguous { duplicates }) => duplicates.disks,
                Err(_) => continue,
            };
            let disks = self.disks.iter_mut().filter(|disk| marked.iter().any(|name| disk.is_called(name)));
            for disk in disks.filter(|disk| matches!(disk.role, Role::Used | Role::Free)) {
                disk.role = Role::Target;
            }
        }
        self.share_target_roles();
    }

    /// Whether disk.EnableUUID is set, as far as the disks tell.
    pub fn enable_uuid(&self) -> EnableUuid {
        let unset = |disk: &&AttachedDisk| disk.no_scsi_id == Some(NoScsiId::EnableUuidUnset);
        let without: Vec<String> = self.disks.iter().filter(unset).map(|disk| disk.name.clone()).collect();
        let tells = |disk: &AttachedDisk| disk.is_vmware() && disk.scsi_id.is_some();
        if !without.is_empty() {
            EnableUuid::No { disks: without }
        } else if self.disks.iter().any(tells) {
            EnableUuid::Yes
        } else {
            EnableUuid::Unknown
        }
    }
}
