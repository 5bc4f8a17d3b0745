//! Partitions of an attached disk as maps of device-mapper, made and removed again.
//!
//! A map is named as udev's kpartx rules name it, `<map>-part<N>` over a multipath map, and on a plain disk
//! `<SCSI id>-part<N>`, or `<kernel name>-part<N>` for a disk without an id. Its uuid is `part<N>-<uuid of the map
//! below>`, or `part<N>-mt-<SCSI id or kernel name>` on a plain disk. Nothing is remembered in a file: after a crash,
//! or when the table has become unreadable, or when the disk has gone, the maps of a disk are found again from sysfs
//! alone, by their uuid and by the device that they lie on.
//!
//! [`map`] compares what is there with what the table says. An equal map stays, whoever made it; another that belongs
//! to the disk is replaced, unless something uses it; what a failed run made is removed by it. [`unmap`] removes every
//! partition map of the disk, those of kpartx too, and does not look at the table. It goes on after one that is open.
//!
//! An extended partition has no map: it holds others. kpartx maps its first KiB for boot loaders; that map may stay.
//!
//! A plain disk shows its partitions twice, as `sdb1` and as a map. Each has a page cache of its own, so only one of
//! them may be used; [`map`] refuses a disk of which the kernel's partitions are in use.

use crate::device_mapper::{self, Linear, MAX_NAME, MAX_UUID, Map};
use crate::disk_file::FileDisk;
use crate::error::{Error, Result};
use crate::handle::Caching;
use crate::holder;
use crate::inventory::{AttachedDisk, DeviceNumber, Use};
use crate::partition_table::{self, PartitionTable, TablePartition};
use crate::scsi_id::ScsiId;
use crate::system::System;
use crate::usage;
use disk::{Access, Bytes};
use serde::Serialize;

/// Most partitions of one disk that are mapped.
pub const MAX_MAPS: usize = 128;

/// A partition that is mapped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartitionMap {
    /// Its number in the table, from 1.
    pub index: u32,
    /// Name of the map, under /dev/mapper.
    pub name: String,
    /// Kernel name of the map: `dm-3`.
    pub kernel_name: String,
    /// Size in bytes.
    #[serde(rename = "bytes", serialize_with = "crate::inventory::serialize_bytes")]
    pub size: Bytes,
    /// True when it can only be read.
    pub read_only: bool,
}

impl PartitionMap {
    fn of(index: u32, map: &Map) -> PartitionMap {
        PartitionMap {
            index,
            name: map.name.clone(),
            kernel_name: map.kernel_name.clone(),
            size: map.size,
            read_only: map.read_only,
        }
    }
}

/// What the maps of a disk lie on, and how they are called.
struct Base {
    /// Name for messages, and what map names begin with.
    name: String,
    /// Kernel name of the device below: `dm-0`, `sdb`.
    kernel_name: String,
    number: Option<DeviceNumber>,
    /// What the uuids of new maps end with.
    uuid: String,
    /// What the uuids of maps that are this disk's wherever they lie end with: they hold its SCSI id.
    ids: Vec<String>,
    /// Kernel names that a map of this disk can lie on.
    devices: Vec<String>,
    /// What names of kpartx maps without a uuid begin with.
    prefixes: Vec<String>,
}

impl Base {
    fn of(disk: &AttachedDisk) -> Base {
        let id = disk.scsi_id.as_ref().map(ScsiId::as_str);
        let plain = id.unwrap_or(&disk.name);
        let mut ids: Vec<String> = id.map(|id| format!("mt-{id}")).into_iter().collect();
        let mut devices: Vec<String> = disk.paths.iter().map(|path| path.name.clone()).collect();
        devices.push(disk.name.clone());
        let mut prefixes = devices.clone();
        prefixes.extend(id.map(str::to_owned));
        let Some(map) = &disk.map else {
            ids.extend(id.map(|id| format!("mpath-{id}")));
            return Base {
                name: plain.to_owned(),
                kernel_name: disk.name.clone(),
                number: disk.paths.iter().find(|path| path.name == disk.name).map(|path| path.number),
                uuid: format!("mt-{plain}"),
                ids,
                devices,
                prefixes,
            };
        };
        ids.push(format!("mpath-{}", map.wwid));
        devices.push(map.kernel_name.clone());
        prefixes.push(map.name.clone());
        Base {
            name: map.name.clone(),
            kernel_name: map.kernel_name.clone(),
            number: Some(map.number),
            uuid: format!("mpath-{}", map.wwid),
            ids,
            devices,
            prefixes,
        }
    }

    /// A disk that has gone, of which the id is known.
    fn vanished(id: &ScsiId) -> Base {
        Base {
            name: id.to_string(),
            kernel_name: String::new(),
            number: None,
            uuid: format!("mt-{id}"),
            ids: vec![format!("mt-{id}"), format!("mpath-{id}")],
            devices: Vec::new(),
            prefixes: Vec::new(),
        }
    }

    /// The number of the partition when the map is one of this disk.
    fn index_of(&self, map: &Map) -> Option<u32> {
        let lies_here = !map.slaves.is_empty() && map.slaves.iter().all(|slave| self.devices.contains(slave));
        let Some(uuid) = &map.uuid else {
            // kpartx without a uuid: the name of the disk, a delimiter, and the number.
            return lies_here
                .then(|| self.prefixes.iter().find_map(|prefix| number_after(&map.name, prefix)))?;
        };
        let (number, below) = uuid.strip_prefix("part")?.split_once('-')?;
        let index = number.parse().ok()?;
        // A kernel name is given to another disk when this one has gone, so it counts only with the device itself,
        // or for a map that was left without a table.
        let by_name = below == self.uuid && map.slaves.is_empty();
        (self.ids.iter().any(|id| id == below) || lies_here || by_name).then_some(index)
    }

    /// All partition maps of the disk, by number.
    fn maps(&self, system: &System) -> Vec<(u32, Map)> {
        let maps = device_mapper::maps(system).into_iter();
        let mut found: Vec<(u32, Map)> = maps.filter_map(|map| Some((self.index_of(&map)?, map))).collect();
        found.sort_by_key(|(index, _)| *index);
        found
    }

    fn in_use(&self, uses: Vec<Use>) -> Error {
        Error::InUse { disk: self.name.clone(), uses }
    }
}

/// The number in `<prefix><delimiter><number>`, with the delimiters that kpartx has or is given.
fn number_after(name: &str, prefix: &str) -> Option<u32> {
    let rest = name.strip_prefix(prefix)?;
    let digits = rest.trim_start_matches(|c: char| !c.is_ascii_digit());
    let delimiter = &rest[..rest.len() - digits.len()];
    ["", "p", "-part", "_part", "part"].contains(&delimiter).then(|| digits.parse().ok())?
}

/// The partition table of a disk; `None` when it has none.
///
/// # Errors
/// [`Error::Damaged`] for a table that cannot be believed, [`Error::Storage`] when the disk cannot be read or is held
/// by another writer, [`Error::File`] when no path to it works: a map that queues would make the read wait for ever.
pub fn table(system: &System, disk: &AttachedDisk) -> Result<Option<PartitionTable>> {
    if !disk.can_answer() {
        let cause = format!("no path to the disk works; see mtctl disks {}", disk.name);
        return Err(Error::file("read", disk.device(), std::io::Error::other(cause)));
    }
    let device = FileDisk::open(system.path(disk.device()), Access::Read, Caching::PageCache)?;
    partition_table::read(&device, disk.logical_sector)
}

/// The partition maps that a disk has, whoever made them, by number.
pub fn mapped(system: &System, disk: &AttachedDisk) -> Vec<PartitionMap> {
    let maps = Base::of(disk).maps(system);
    maps.iter().map(|(index, map)| PartitionMap::of(*index, map)).collect()
}

/// Makes a map for each partition that the disk's table has. Those that are there already stay.
///
/// # Errors
/// [`Error::InUse`] when something else than its own partition maps uses the disk, or when a map that must be replaced
/// is open; [`Error::Damaged`] when there is no table to go by. After any error there are no maps that were not there
/// before, unless they could not be removed: then [`unmap`] finds them.
pub fn map(system: &System, disk: &AttachedDisk, read_only: bool) -> Result<Vec<PartitionMap>> {
    let base = Base::of(disk);
    verify(system, disk, &base)?;
    let existing = base.maps(system);
    refuse_uses(system, disk, &base, &existing)?;
    let damaged =
        |problem: String| Error::Damaged { disk: base.name.clone(), what: "partition table", problem };
    let table = table(system, disk)?.ok_or_else(|| {
        damaged("there is none, so there is nothing to map; see mtctl disks for what it holds".into())
    })?;
    let wanted: Vec<&TablePartition> =
        table.partitions.iter().filter(|partition| !partition.kind.is_container()).collect();
    if wanted.len() > MAX_MAPS {
        return Err(damaged(format!(
            "it has {} partitions, and {MAX_MAPS} at most are mapped",
            wanted.len()
        )));
    }
    // Also of a disk that can only be read there are only such maps.
    let read_only = read_only || disk.read_only;
    let (kept, wrong) = sort_out(system, &base, existing, &table, read_only)?;
    for map in &wrong {
        refuse_open(system, &base, map)?;
    }
    for map in &wrong {
        device_mapper::remove(system, &map.name)?;
    }
    create(system, &base, &wanted, kept, read_only)
}

/// The device that is there must be the disk that was looked at: names and numbers are given again.
fn verify(system: &System, disk: &AttachedDisk, base: &Base) -> Result<()> {
    let found = system.attribute(format!("/sys/block/{}/dev", base.kernel_name));
    let number = found.as_deref().and_then(DeviceNumber::parse);
    if number.is_none() || number != base.number {
        return Err(Error::NoDisk { disk: base.name.clone() });
    }
    if let (Some(id), Some(other)) = (&disk.scsi_id, &disk.other_scsi_id) {
        let (expected, found) = (id.to_string(), other.to_string());
        return Err(Error::OtherDisk { disk: base.name.clone(), expected, found });
    }
    let Some(map) = &disk.map else { return Ok(()) };
    let uuid = system.attribute(format!("/sys/block/{}/dm/uuid", base.kernel_name)).unwrap_or_default();
    if uuid != base.uuid {
        let found = uuid.strip_prefix("mpath-").unwrap_or("none").to_owned();
        return Err(Error::OtherDisk { disk: base.name.clone(), expected: map.wwid.clone(), found });
    }
    Ok(())
}

/// Refuses a disk that anything but its own partition maps uses, also through a partition of the kernel.
fn refuse_uses(system: &System, disk: &AttachedDisk, base: &Base, existing: &[(u32, Map)]) -> Result<()> {
    let own = |name: &str| existing.iter().any(|(_, map)| map.name == name || map.kernel_name == name);
    let mut uses = disk.uses.clone();
    uses.extend(usage::of(system, &format!("/sys/block/{}", base.kernel_name), &base.name));
    if disk.map.is_none() {
        for partition in kernel_partitions(system, &disk.name) {
            uses.extend(usage::of(system, &format!("/sys/block/{}/{partition}", disk.name), &partition));
        }
    }
    uses.retain(|one| match one {
        Use::PartitionMap { name } | Use::Holder { name } => !own(name),
        Use::PathOf { map } => disk.map.as_ref().is_none_or(|own| own.name != *map),
        _ => true,
    });
    let mut distinct: Vec<Use> = Vec::new();
    for one in uses {
        if !distinct.contains(&one) {
            distinct.push(one);
        }
    }
    if distinct.is_empty() { Ok(()) } else { Err(base.in_use(distinct)) }
}

/// Names of the kernel's partitions of a disk.
fn kernel_partitions(system: &System, disk: &str) -> Vec<String> {
    let mut names = system.names(format!("/sys/block/{disk}"));
    names.retain(|name| {
        name.starts_with(disk) && system.attribute(format!("/sys/block/{disk}/{name}/partition")).is_some()
    });
    names
}

/// Maps that stay, each with its number, and maps that must be replaced.
type Sorted = (Vec<(u32, Map)>, Vec<Map>);

/// Parts the maps that are there into those that are as they must be and those that must be replaced.
fn sort_out(
    system: &System,
    base: &Base,
    existing: Vec<(u32, Map)>,
    table: &PartitionTable,
    read_only: bool,
) -> Result<Sorted> {
    let (mut kept, mut wrong): Sorted = (Vec::new(), Vec::new());
    for (index, map) in existing {
        match table.partitions.iter().find(|partition| partition.index == index) {
            Some(partition) if partition.kind.is_container() => {}
            Some(partition)
                if kept.iter().all(|(other, _)| *other != index)
                    && is_right(system, base, &map, partition, read_only)? =>
            {
                kept.push((index, map));
            }
            _ => wrong.push(map),
        }
    }
    Ok((kept, wrong))
}

fn is_right(
    system: &System,
    base: &Base,
    map: &Map,
    partition: &TablePartition,
    read_only: bool,
) -> Result<bool> {
    let looks_right = map.name == format!("{}-part{}", base.name, partition.index)
        && map.uuid.as_deref() == Some(&format!("part{}-{}", partition.index, base.uuid))
        && map.size == partition.range.length()
        && map.slaves == [base.kernel_name.as_str()]
        && map.read_only == read_only
        && !map.suspended;
    // sysfs does not tell where a map begins.
    Ok(looks_right
        && device_mapper::linear_below(system, &map.name)?
            == base.number.map(|number| (number, partition.range.start())))
}

/// Makes the maps that are missing; after a failure removes those that it made.
fn create(
    system: &System,
    base: &Base,
    wanted: &[&TablePartition],
    kept: Vec<(u32, Map)>,
    read_only: bool,
) -> Result<Vec<PartitionMap>> {
    let mut made: Vec<String> = Vec::new();
    let mut result = Vec::new();
    for partition in wanted {
        let index = partition.index;
        if let Some((_, map)) = kept.iter().find(|(kept, _)| *kept == index) {
            result.push(PartitionMap::of(index, map));
            continue;
        }
        match create_one(system, base, partition, read_only) {
            Ok(map) => {
                made.push(map.name.clone());
                result.push(PartitionMap::of(index, &map));
            }
            Err(error) => {
                for name in made.iter().rev() {
                    // The first error is the one to tell; what stays is found by unmap.
                    let _ = device_mapper::remove(system, name);
                }
                return Err(error);
            }
        }
    }
    Ok(result)
}

fn create_one(system: &System, base: &Base, partition: &TablePartition, read_only: bool) -> Result<Map> {
    let text = |text: String, longest: usize| {
        device_mapper::mangled(&text, longest).ok_or_else(|| Error::BadName {
            problem: format!("it is longer than {longest} bytes"),
            name: text,
        })
    };
    let Some(below) = base.number else { return Err(Error::NoDisk { disk: base.name.clone() }) };
    let name = text(format!("{}-part{}", base.name, partition.index), MAX_NAME)?;
    let uuid = text(format!("part{}-{}", partition.index, base.uuid), MAX_UUID)?;
    let wanted = Linear { name: &name, uuid: &uuid, below, range: partition.range, read_only };
    device_mapper::create_linear(system, &wanted)
}

/// Removes all partition maps of a disk and returns their names, whatever its table says now.
///
/// # Errors
/// [`Error::InUse`] when some are open, with what uses them; the others are removed all the same.
pub fn unmap(system: &System, disk: &AttachedDisk) -> Result<Vec<String>> {
    unmap_all(system, &Base::of(disk))
}

/// The same for a disk that has gone: its partition maps are known by the SCSI id in their uuids.
///
/// # Errors
/// As [`unmap`].
pub fn unmap_vanished(system: &System, id: &ScsiId) -> Result<Vec<String>> {
    unmap_all(system, &Base::vanished(id))
}

fn unmap_all(system: &System, base: &Base) -> Result<Vec<String>> {
    let (mut removed, mut uses, mut other) = (Vec::new(), Vec::new(), None);
    // The last first, as they were made.
    for (_, map) in base.maps(system).into_iter().rev() {
        let outcome = refuse_open(system, base, &map).and_then(|()| device_mapper::remove(system, &map.name));
        match outcome {
            Ok(()) => removed.push(map.name),
            Err(Error::InUse { uses: found, .. }) => uses.extend(found),
            Err(Error::ProgramRefused { said, .. }) if said.contains("busy") => uses.push(Use::Opened {
                by: format!(
                    "{} (the map {})",
                    holder::of_device(&system.path(format!("/dev/mapper/{}", map.name))),
                    map.name
                ),
            }),
            Err(error) => other = other.or(Some(error)),
        }
    }
    removed.reverse();
    match other {
        _ if !uses.is_empty() => Err(base.in_use(uses)),
        Some(error) => Err(error),
        None => Ok(removed),
    }
}

/// Refuses a map that something uses which sysfs and /proc show.
fn refuse_open(system: &System, base: &Base, map: &Map) -> Result<()> {
    let uses = usage::of(system, &format!("/sys/block/{}", map.kernel_name), &map.name);
    if uses.is_empty() { Ok(()) } else { Err(base.in_use(uses)) }
}

#[cfg(test)]
mod tests;
