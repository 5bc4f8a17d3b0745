//! The block devices of the machine and which lies on which, as sysfs shows them.

use super::DeviceNumber;
use crate::system::System;
use disk::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

/// What sysfs counts in, whatever the sectors of the device.
const SECTOR: u64 = disk::SECTOR_SIZE;

/// A block device.
#[derive(Clone, Debug)]
pub(super) struct Device {
    pub(super) name: String,
    pub(super) number: DeviceNumber,
    /// Its folder in sysfs.
    pub(super) folder: String,
    /// The disk that it is a partition of, and its place in the table.
    pub(super) partition: Option<(String, u32)>,
    pub(super) start: Bytes,
    pub(super) size: Bytes,
    /// Name and uuid of a map of device-mapper.
    pub(super) map: Option<(String, String)>,
    /// Kernel names of the devices that lie on it.
    pub(super) holders: Vec<String>,
    /// Kernel names of the devices that it lies on.
    pub(super) slaves: Vec<String>,
}

impl Device {
    /// Where its node is; `!` stands for a slash in sysfs.
    pub(super) fn path(&self) -> String {
        match &self.map {
            Some((name, _)) => format!("/dev/mapper/{name}"),
            None => format!("/dev/{}", self.name.replace('!', "/")),
        }
    }

    /// Where the kernel makes its node, even for a map.
    pub(super) fn node(&self) -> String {
        format!("/dev/{}", self.name.replace('!', "/"))
    }

    /// The name that an administrator knows it by.
    pub(super) fn shown(&self) -> &str {
        self.map.as_ref().map_or(&self.name, |(name, _)| name)
    }

    fn map_uuid(&self) -> Option<&str> {
        self.map.as_ref().map(|(_, uuid)| uuid.as_str())
    }

    /// The WWID, for a multipath map.
    pub(super) fn wwid(&self) -> Option<&str> {
        self.map_uuid()?.strip_prefix("mpath-")
    }

    /// Its place in the table, for a map of a partition: the uuid is `part<N>-` and that of the disk.
    pub(super) fn map_of_partition(&self) -> Option<u32> {
        let (index, _) = self.map_uuid()?.strip_prefix("part")?.split_once('-')?;
        index.parse().ok()
    }

    pub(super) fn is_logical_volume(&self) -> bool {
        self.map_uuid().is_some_and(|uuid| uuid.starts_with("LVM-"))
    }

    pub(super) fn is_raid(&self) -> bool {
        self.name
            .strip_prefix("md")
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit() || c == '_'))
    }
}

/// All block devices.
#[derive(Clone, Debug, Default)]
pub(super) struct Devices {
    by_name: BTreeMap<String, Device>,
}

impl Devices {
    /// As they are now. A device that goes in this moment is left out, or has no size.
    pub(super) fn read(system: &System) -> Devices {
        let mut devices = Devices::default();
        for disk in system.names("/sys/block") {
            let folder = format!("/sys/block/{disk}");
            let Some(device) = read_device(system, &disk, folder.clone(), None) else { continue };
            devices.by_name.insert(disk.clone(), device);
            for name in system.names(&folder).into_iter().filter(|name| name.starts_with(&disk)) {
                let folder = format!("{folder}/{name}");
                let index =
                    system.attribute(format!("{folder}/partition")).and_then(|text| text.parse().ok());
                let place = index.map(|index| (disk.clone(), index));
                if let Some(device) = place.and_then(|place| read_device(system, &name, folder, Some(place)))
                {
                    devices.by_name.insert(name, device);
                }
            }
        }
        devices.link_loops(system);
        devices
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Device> {
        self.by_name.values()
    }

    pub(super) fn named(&self, name: &str) -> Option<&Device> {
        self.by_name.get(name)
    }

    pub(super) fn numbered(&self, number: DeviceNumber) -> Option<&Device> {
        self.all().find(|device| device.number == number)
    }

    pub(super) fn mapped(&self, name: &str) -> Option<&Device> {
        self.all().find(|device| device.map.as_ref().is_some_and(|(map, _)| map == name))
    }

    /// What lies on these devices, at any height, without themselves.
    pub(super) fn above<'a>(&'a self, own: &[&'a Device]) -> Vec<&'a Device> {
        let mut seen: BTreeSet<&str> = own.iter().map(|device| device.name.as_str()).collect();
        let mut found: Vec<&Device> = own.to_vec();
        let mut next = 0;
        while let Some(device) = found.get(next).copied() {
            next += 1;
            for holder in device.holders.iter().filter_map(|name| self.named(name)) {
                let partitions = self
                    .all()
                    .filter(|part| part.partition.as_ref().is_some_and(|(disk, _)| *disk == holder.name));
                for above in std::iter::once(holder).chain(partitions) {
                    if seen.insert(&above.name) {
                        found.push(above);
                    }
                }
            }
        }
        found.split_off(own.len())
    }

    /// The device whose node, or a link to it, is at `path`.
    pub(super) fn at(&self, system: &System, path: &str) -> Option<&Device> {
        match system.path(path).canonicalize() {
            Ok(real) => self.of_node(system, &real),
            // The node may be missing, or in another namespace: its name tells enough.
            Err(_) => match path.strip_prefix("/dev/mapper/") {
                Some(map) => self.mapped(map),
                None => self.named(&path.strip_prefix("/dev/")?.replace('/', "!")),
            },
        }
    }

    fn of_node(&self, system: &System, real: &std::path::Path) -> Option<&Device> {
        let metadata = real.metadata().ok()?;
        if metadata.file_type().is_block_device() {
            return self.numbered(DeviceNumber::of_node(metadata.rdev()));
        }
        // In a folder with what was seen on another machine, files stand for the devices.
        if system.is_host() {
            return None;
        }
        let devices = system.path("/dev").canonicalize().ok()?;
        let name = real.strip_prefix(devices).ok()?.to_str()?;
        match name.strip_prefix("mapper/") {
            Some(map) => self.mapped(map),
            None => self.named(&name.replace('/', "!")),
        }
    }

    /// A loop device over a block device lies on it, though the kernel does not list it as a holder.
    fn link_loops(&mut self, system: &System) {
        let backed = |device: &Device| {
            let file = system.attribute(format!("{}/loop/backing_file", device.folder))?;
            let below = self.at(system, &file).filter(|_| file.starts_with("/dev/"))?;
            Some((below.name.clone(), device.name.clone()))
        };
        let links: Vec<_> = self.all().filter_map(backed).collect();
        for (below, above) in links {
            if let Some(device) = self.by_name.get_mut(&below) {
                device.holders.push(above);
            }
        }
    }
}

fn read_device(
    system: &System,
    name: &str,
    folder: String,
    partition: Option<(String, u32)>,
) -> Option<Device> {
    let attribute = |file: &str| system.attribute(format!("{folder}/{file}"));
    let sectors = |file: &str| {
        let sectors = attribute(file).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        Bytes(sectors.saturating_mul(SECTOR))
    };
    Some(Device {
        name: name.to_owned(),
        number: DeviceNumber::parse(&attribute("dev")?)?,
        partition,
        start: sectors("start"),
        size: sectors("size"),
        map: attribute("dm/name").map(|name| (name, attribute("dm/uuid").unwrap_or_default())),
        holders: system.names(format!("{folder}/holders")),
        slaves: system.names(format!("{folder}/slaves")),
        folder,
    })
}
