//! Putting the inventory together.

use super::devices::Device;
use super::probe::{Probe, signatures};
use super::usage::Machine;
use super::{AttachedDisk, DiskPath, Inventory, MultipathMap, Partition, Role, Signature, identity};
use crate::scsi_id::ScsiId;
use crate::system::System;
use disk::Bytes;
use std::path::PathBuf;

/// Prefixes of the kernel's names of disks.
const DISKS: [&str; 5] = ["sd", "vd", "xvd", "hd", "nvme"];

/// Sizes that a sector can have; what a driver tells else is not believed.
const SECTOR_SIZES: std::ops::RangeInclusive<u32> = 512..=(64 << 10);

/// What to look at.
#[derive(Clone, Debug)]
pub struct Look {
    /// Where the retention volume is mounted.
    pub retention: PathBuf,
    /// Also take loop devices that are in use for disks: for tests, and for trials without a spare disk.
    pub loops: bool,
}

impl Default for Look {
    fn default() -> Look {
        Look { retention: PathBuf::from("/mnt/retention"), loops: false }
    }
}

/// The devices that are one disk.
struct Group<'a> {
    map: Option<&'a Device>,
    paths: Vec<&'a Device>,
}

impl Inventory {
    /// The disks as they are now, with the retention volume in its usual place.
    pub fn read(system: &System) -> Inventory {
        Inventory::read_with(system, &Look::default())
    }

    /// The same, and the caller says what to look at.
    pub fn read_with(system: &System, look: &Look) -> Inventory {
        let machine = Machine::read(system, &look.retention.to_string_lossy());
        let groups = groups(&machine, look);
        let mut disks: Vec<AttachedDisk> =
            groups.iter().filter_map(|group| attached(system, &machine, group)).collect();
        find_signatures(system, &machine, &mut disks);
        let all: Vec<&Signature> = disks.iter().flat_map(held).collect();
        let doubt = machine.doubt_of_unreadable(&all);
        for disk in &mut disks {
            let own = own_devices(&machine, disk);
            let held: Vec<&Signature> = held(disk).collect();
            let mut uses = machine.uses(&own);
            if held.contains(&&Signature::Unreadable) {
                uses.extend(doubt.clone());
            }
            disk.role = machine.role(&own, &held, &uses);
            disk.uses = uses;
        }
        disks.sort_by_key(|disk| order(&disk.name));
        let mut inventory = Inventory { disks };
        inventory.share_uses();
        inventory
    }
}

/// What the disk and its partitions hold.
fn held(disk: &AttachedDisk) -> impl Iterator<Item = &Signature> {
    let parts = disk.partitions.iter().map(|part| &part.signature);
    std::iter::once(&disk.signature).chain(parts).flatten()
}

/// sdz comes before sdaa.
fn order(name: &str) -> (String, usize, String) {
    let family = DISKS.iter().find(|prefix| name.starts_with(**prefix)).copied().unwrap_or("");
    (family.to_owned(), name.len(), name.to_owned())
}

fn is_disk(device: &Device, look: &Look) -> bool {
    let of_kind = |prefix: &str| {
        let rest = device.name.strip_prefix(prefix);
        rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
    };
    let real = DISKS.iter().any(|prefix| of_kind(prefix));
    let bound_loop = look.loops && of_kind("loop") && device.size > Bytes::ZERO;
    device.partition.is_none() && (real || bound_loop)
}

/// One group for each map with at least one path, one for each disk without a map.
fn groups<'a>(machine: &'a Machine, look: &Look) -> Vec<Group<'a>> {
    let mut joined = Vec::new();
    let mut groups = Vec::new();
    for map in machine.devices.all().filter(|device| device.wwid().is_some()) {
        let paths = map.slaves.iter().filter_map(|name| machine.devices.named(name));
        let mut paths: Vec<&Device> = paths.filter(|device| is_disk(device, look)).collect();
        paths.sort_by_key(|path| order(&path.name));
        joined.extend(paths.iter().map(|path| &path.name));
        groups.push(Group { map: Some(map), paths });
    }
    let single =
        machine.devices.all().filter(|device| is_disk(device, look) && !joined.contains(&&device.name));
    groups.extend(single.map(|device| Group { map: None, paths: vec![device] }));
    groups
}

/// `None` for a map whose last path went.
fn attached(system: &System, machine: &Machine, group: &Group<'_>) -> Option<AttachedDisk> {
    let first = *group.paths.first()?;
    let seen: Vec<_> = group.paths.iter().map(|path| identity::identity(system, path)).collect();
    let told = seen.iter().find_map(|identity| identity.id.clone().ok());
    let wwid = group.map.and_then(|map| ScsiId::parse(map.wwid()?));
    let id = told.or_else(|| wwid.clone());
    let others = seen.iter().flat_map(|identity| [identity.id.clone().ok(), identity.other.clone()]);
    let other = others.chain([wwid]).flatten().find(|other| id.as_ref() != Some(other));
    let top = group.map.unwrap_or(first);
    let attribute = |file: &str| system.attribute(format!("{}/{file}", top.folder));
    let is_set = |folder: &str, file: &str| {
        system.attribute(format!("{folder}/{file}")).is_some_and(|text| text != "0")
    };
    let sector = |file: &str| {
        let size = attribute(file).and_then(|text| text.parse().ok());
        size.filter(|size: &u32| size.is_power_of_two() && SECTOR_SIZES.contains(size)).unwrap_or(512)
    };
    Some(AttachedDisk {
        name: first.name.clone(),
        map: group.map.and_then(map_of),
        no_scsi_id: id.is_none().then(|| seen[0].id.clone().err()).flatten(),
        scsi_id: id,
        other_scsi_id: other,
        serial: seen.iter().find_map(|identity| identity.serial.clone()),
        vendor: seen.iter().find_map(|identity| identity.vendor.clone()),
        model: seen.iter().find_map(|identity| identity.model.clone()),
        size: top.size,
        logical_sector: sector("queue/logical_block_size"),
        physical_sector: sector("queue/physical_block_size"),
        read_only: is_set(&top.folder, "ro") || group.paths.iter().all(|path| is_set(&path.folder, "ro")),
        removable: is_set(&first.folder, "removable"),
        paths: group.paths.iter().map(|path| path_of(system, machine, path)).collect(),
        partitions: partitions(machine, group),
        signature: None,
        uses: Vec::new(),
        role: Role::Free,
    })
}

fn map_of(map: &Device) -> Option<MultipathMap> {
    Some(MultipathMap {
        name: map.shown().to_owned(),
        kernel_name: map.name.clone(),
        number: map.number,
        wwid: map.wwid()?.to_owned(),
    })
}

fn path_of(system: &System, machine: &Machine, path: &Device) -> DiskPath {
    DiskPath {
        name: path.name.clone(),
        number: path.number,
        size: path.size,
        address: identity::address(system, path),
        controller: identity::controller(system, path),
        device_state: system.attribute(format!("{}/device/state", path.folder)),
        path_state: machine.path_states.get(&path.name).cloned(),
    }
}

/// Maps of partitions, and what the kernel shows on the paths for those that have none.
fn partitions(machine: &Machine, group: &Group<'_>) -> Vec<Partition> {
    let below: Vec<&Device> = group.map.into_iter().chain(group.paths.iter().copied()).collect();
    let of_kernel = |device: &&Device| {
        let (disk, index) = device.partition.as_ref()?;
        below.iter().any(|part| part.name == *disk).then(|| partition(device, *index, device.start))
    };
    let of_kernel: Vec<Partition> = machine.devices.all().filter_map(|device| of_kernel(&device)).collect();
    let mut found: Vec<Partition> = Vec::new();
    for device in machine.devices.all() {
        let Some(index) = device.map_of_partition() else { continue };
        if !below.iter().any(|part| device.slaves.contains(&part.name)) {
            continue;
        }
        let in_table = of_kernel.iter().find(|part| part.index == index).map(|part| part.start);
        let in_map = machine.starts.get(device.shown()).map(|sector| Bytes(sector.saturating_mul(512)));
        found.push(partition(device, index, in_map.or(in_table).unwrap_or(Bytes::ZERO)));
    }
    for part in of_kernel {
        if found.iter().all(|other| other.index != part.index) {
            found.push(part);
        }
    }
    found.sort_by_key(|part| part.index);
    found
}

fn partition(device: &Device, index: u32, start: Bytes) -> Partition {
    Partition {
        name: device.shown().to_owned(),
        number: device.number,
        index,
        start,
        size: device.size,
        signature: None,
    }
}

/// Everything that is the disk itself: its map, its paths, and the partitions of each.
fn own_devices<'a>(machine: &'a Machine, disk: &AttachedDisk) -> Vec<&'a Device> {
    let whole: Vec<&str> = disk
        .map
        .iter()
        .map(|map| map.kernel_name.as_str())
        .chain(disk.paths.iter().map(|path| path.name.as_str()))
        .collect();
    let is_own = |device: &&Device| {
        let of_kernel = device.partition.as_ref().is_some_and(|(disk, _)| whole.contains(&disk.as_str()));
        let of_map = device.map_of_partition().is_some()
            && device.slaves.iter().any(|slave| whole.contains(&slave.as_str()));
        whole.contains(&device.name.as_str()) || of_kernel || of_map
    };
    machine.devices.all().filter(is_own).collect()
}

/// Reads them all at once: a disk that does not answer costs the time only once.
fn find_signatures(system: &System, machine: &Machine, disks: &mut [AttachedDisk]) {
    let probe = |device: &Device| Probe {
        path: system.path(device.node()),
        size: device.size.0,
        must_be_device: system.is_host(),
    };
    let mut places = Vec::new();
    let mut probes = Vec::new();
    for (n, disk) in disks.iter().enumerate() {
        if !disk.can_answer() {
            continue;
        }
        let whole = disk.map.as_ref().map_or(&disk.name, |map| &map.kernel_name);
        let parts = disk
            .partitions
            .iter()
            .enumerate()
            .map(|(p, part)| (Some(p), machine.devices.numbered(part.number)));
        for (p, device) in std::iter::once((None, machine.devices.named(whole))).chain(parts) {
            if let Some(device) = device {
                places.push((n, p));
                probes.push(probe(device));
            }
        }
    }
    for disk in disks.iter_mut().filter(|disk| !disk.can_answer()) {
        disk.signature = Some(Signature::Unreadable);
        disk.partitions.iter_mut().for_each(|part| part.signature = Some(Signature::Unreadable));
    }
    for ((n, part), signature) in places.into_iter().zip(signatures(probes)) {
        match part {
            Some(part) => disks[n].partitions[part].signature = signature,
            None => disks[n].signature = signature,
        }
    }
}
