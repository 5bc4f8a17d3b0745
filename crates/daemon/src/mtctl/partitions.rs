//! `mtctl partitions`: the partitions of an attached disk, and their maps under /dev/mapper.
//!
//! It needs no daemon. Maps are found through sysfs alone, so `--unmap` works with a table that has become unreadable,
//! and with a disk that has gone, when it is named by its SCSI id.

use super::cli::PartitionsArguments;
use super::disks::text::printable;
use super::run::Outcome;
use super::table::table;
use block_device::inventory::AttachedDisk;
use block_device::partition_table::PartitionTable;
use block_device::partitions::{self, PartitionMap};
use block_device::{Error, Inventory, Result, ScsiId, System};
use serde_json::json;
use std::fmt::Write;

pub(super) fn run(arguments: &PartitionsArguments, json: bool) -> Outcome {
    let system = System::host();
    report(carry_out(&system, &Inventory::read(&system), arguments, json), json)
}

/// Prints what came of a command that was carried out here.
pub(super) fn report(outcome: Result<String>, json: bool) -> Outcome {
    match outcome {
        Ok(text) => {
            print!("{text}");
            Outcome::Done
        }
        Err(error) => {
            if json {
                println!("{}", json!({ "failed": { "message": error.to_string() } }));
            } else {
                eprintln!("mtctl: {}", printable(&error.to_string()));
            }
            Outcome::Failed
        }
    }
}

/// What is to be printed.
fn carry_out(
    system: &System,
    inventory: &Inventory,
    arguments: &PartitionsArguments,
    json: bool,
) -> Result<String> {
    let disk = match inventory.find(system, &arguments.disk) {
        Err(error @ Error::NoDisk { .. }) if arguments.unmap => {
            let id = ScsiId::parse(&arguments.disk).ok_or(error)?;
            return Ok(removed(&partitions::unmap_vanished(system, &id)?, json));
        }
        found => found?,
    };
    if arguments.unmap {
        return Ok(removed(&partitions::unmap(system, disk)?, json));
    }
    if arguments.map {
        return Ok(mapped(&partitions::map(system, disk, arguments.read_only)?, json));
    }
    let (table, maps) = (partitions::table(system, disk)?, partitions::mapped(system, disk));
    Ok(if json {
        format!("{}\n", json!({ "disk": disk.shown(), "table": table, "maps": maps }))
    } else {
        listing(disk, table.as_ref(), &maps)
    })
}

fn removed(names: &[String], json: bool) -> String {
    if json {
        return format!("{}\n", json!({ "unmapped": names }));
    }
    if names.is_empty() {
        return "no partition of it is mapped\n".to_owned();
    }
    names.iter().map(|name| format!("unmapped {name}\n")).collect()
}

fn mapped(maps: &[PartitionMap], json: bool) -> String {
    if json {
        return format!("{}\n", json!({ "maps": maps }));
    }
    if maps.is_empty() {
        return "its table has no partition that can be mapped\n".to_owned();
    }
    let line = |map: &PartitionMap| {
        let only_read = if map.read_only { ", read only" } else { "" };
        format!("/dev/mapper/{} ({}{only_read})\n", map.name, map.size)
    };
    maps.iter().map(line).collect()
}

/// The table with the maps; maps whose partition it does not have come after it.
fn listing(disk: &AttachedDisk, table: Option<&PartitionTable>, maps: &[PartitionMap]) -> String {
    let mut text = String::new();
    match table {
        None => {
            let _ = writeln!(text, "{} has no partition table", disk.shown());
        }
        Some(table) => text.push_str(&rows(table, maps)),
    }
    let known = |index: u32| {
        table.is_some_and(|table| table.partitions.iter().any(|partition| partition.index == index))
    };
    for map in maps.iter().filter(|map| !known(map.index)) {
        let _ = writeln!(text, "WARNING {} is mapped, and the table has no such partition", map.name);
    }
    for warning in table.into_iter().flat_map(|table| &table.warnings) {
        let _ = writeln!(text, "WARNING {}", printable(warning));
    }
    text
}

fn rows(partitions: &PartitionTable, maps: &[PartitionMap]) -> String {
    let mut rows = table(&["partition", "start", "size", "type", "name", "map"], &[0, 1, 2]);
    for partition in &partitions.partitions {
        let map = maps.iter().find(|map| map.index == partition.index).map(|map| map.name.clone());
        rows.add_row([
            partition.index.to_string(),
            partition.range.start().to_string(),
            partition.range.length().to_string(),
            partition.kind.to_string(),
            printable(partition.name.as_deref().unwrap_or_default()),
            map.unwrap_or_default(),
        ]);
    }
    format!("{rows}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use block_device::System;
    use block_device::inventory::{Controller, DeviceNumber, DiskPath, Role};
    use disk::Bytes;
    use std::fs;

    const ID: &str = "36000c29a0123456789abcdef01234567";
    const SIZE: usize = 4 << 20;

    fn arguments(disk: &str, map: bool, unmap: bool) -> PartitionsArguments {
        PartitionsArguments { disk: disk.into(), map, read_only: false, unmap }
    }

    /// A machine with the disk `sdb` that has two partitions and one map of them, and a dmsetup that removes it.
    fn machine() -> (tempfile::TempDir, System, Inventory) {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, bytes: &[u8]| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        let mut bytes = vec![0; SIZE];
        for (slot, first) in [(0, 2048u32), (1, 4096)] {
            let place = 446 + 16 * slot;
            bytes[place + 4] = 0x83;
            bytes[place + 8..place + 12].copy_from_slice(&first.to_le_bytes());
            bytes[place + 12..place + 16].copy_from_slice(&1024u32.to_le_bytes());
        }
        // The third overlaps the second.
        bytes[446 + 32 + 4] = 0x07;
        bytes[446 + 32 + 8..446 + 32 + 16].copy_from_slice(&[1, 16, 0, 0, 1, 0, 0, 0]);
        bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
        write("dev/sdb", &bytes);
        write("proc/self/mountinfo", b"");
        write("sys/block/sdb/dev", b"8:16\n");
        write("sys/block/dm-3/dev", b"253:3\n");
        write("sys/block/dm-3/size", b"1024\n");
        write("sys/block/dm-3/dm/name", format!("{ID}-part1\n").as_bytes());
        write("sys/block/dm-3/dm/uuid", format!("part1-mt-{ID}\n").as_bytes());
        write("sys/block/dm-3/slaves/sdb", b"");
        let script = format!("#!/bin/sh\nrm -r {}/sys/block/dm-3\n", root.path().display());
        fs::create_dir(root.path().join("sbin")).unwrap();
        testkit::program(&root.path().join("sbin/dmsetup"), &script);
        let system = System::at(root.path());
        (root, system, Inventory { disks: vec![disk()] })
    }

    fn disk() -> AttachedDisk {
        AttachedDisk {
            name: "sdb".into(),
            map: None,
            scsi_id: ScsiId::parse(ID),
            no_scsi_id: None,
            other_scsi_id: None,
            serial: None,
            vendor: None,
            model: None,
            size: Bytes(SIZE as u64),
            logical_sector: 512,
            physical_sector: 512,
            read_only: false,
            removable: false,
            paths: vec![DiskPath {
                name: "sdb".into(),
                number: DeviceNumber { major: 8, minor: 16 },
                size: Bytes(SIZE as u64),
                address: None,
                controller: Controller::LsiSas,
                device_state: None,
                path_state: None,
            }],
            partitions: Vec::new(),
            signature: None,
            uses: Vec::new(),
            role: Role::Free,
        }
    }

    #[test]
    fn the_table_is_listed_with_its_maps_and_warnings() {
        let (_root, system, inventory) = machine();
        let text = carry_out(&system, &inventory, &arguments("sdb", false, false), false).unwrap();
        assert!(text.contains("1 MiB") && text.contains("512 KiB") && text.contains("Linux"), "{text}");
        assert!(text.contains(&format!("{ID}-part1")), "{text}");
        assert!(text.contains("WARNING partitions 2 and 3 are left out: they overlap"), "{text}");
        let json = carry_out(&system, &inventory, &arguments(ID, false, false), true).unwrap();
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["disk"], "sdb");
        assert_eq!(value["table"]["kind"], "mbr");
        let partition = &value["table"]["partitions"][0];
        assert_eq!((&partition["index"], &partition["start"]), (&json!(1), &json!(1 << 20)));
        assert_eq!((&partition["bytes"], &partition["type"]), (&json!(512 << 10), &json!("0x83")));
        assert_eq!(value["maps"][0]["name"], format!("{ID}-part1"));
    }

    #[test]
    fn maps_of_a_disk_that_has_gone_are_removed_by_its_id() {
        let (_root, system, _) = machine();
        let none = Inventory::default();
        assert!(carry_out(&system, &none, &arguments(ID, true, false), false).is_err());
        assert!(carry_out(&system, &none, &arguments("no/disk", false, true), false).is_err());
        let text = carry_out(&system, &none, &arguments(ID, false, true), false).unwrap();
        assert_eq!(text, format!("unmapped {ID}-part1\n"));
        let json = carry_out(&system, &none, &arguments(ID, false, true), true).unwrap();
        assert_eq!(json, "{\"unmapped\":[]}\n");
    }
}
