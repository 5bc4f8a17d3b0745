//! Disks as people get to see them.

use super::super::table::table;
use block_device::inventory::{AttachedDisk, DiskPath, Signature, Use};
use std::fmt::Write;
use vmdk::DiskUuid;

/// Uses that fit into a cell.
const SHOWN_USES: usize = 3;

/// Without what a terminal would obey: models, labels and mount points come from outside.
pub(in crate::mtctl) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// All disks at a glance.
pub(super) fn overview(disks: &[AttachedDisk]) -> String {
    if disks.is_empty() {
        return "this machine shows no disk\n".to_string();
    }
    let header = ["disk", "SCSI id", "size", "model", "controller", "paths", "contents", "used by", "role"];
    let mut rows = table(&header, &[2]);
    for disk in disks {
        rows.add_row([
            name(disk),
            disk.scsi_id.as_ref().map_or("none".into(), ToString::to_string),
            disk.size.to_string(),
            model(disk),
            disk.paths.first().map_or(String::new(), |path| path.controller.to_string()),
            paths(disk),
            contents(disk),
            used_by(disk),
            disk.role.to_string(),
        ]);
    }
    format!("{rows}\n")
}

/// The kernel's names and, below, the map's.
fn name(disk: &AttachedDisk) -> String {
    let names: Vec<&str> = disk.paths.iter().map(|path| path.name.as_str()).collect();
    let names = names.join(", ");
    match &disk.map {
        None => names,
        // By default a map is called like the disk's id, which has a column of its own.
        Some(map) if disk.scsi_id.as_ref().is_some_and(|id| id.as_str() == map.name) => {
            format!("{names}\nmap {}", map.kernel_name)
        }
        Some(map) => format!("{names}\nmap {}", printable(&map.name)),
    }
}

fn model(disk: &AttachedDisk) -> String {
    let parts = [&disk.vendor, &disk.model].map(|part| part.as_deref().map(printable));
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

fn paths(disk: &AttachedDisk) -> String {
    match (disk.paths.len(), disk.paths.iter().filter(|path| !path.works()).count()) {
        (all, 0) => all.to_string(),
        (all, failed) => format!("{all}, {failed} failed"),
    }
}

fn contents(disk: &AttachedDisk) -> String {
    let mut lines = vec![signature(disk.signature.as_ref())];
    lines.extend(
        disk.partitions
            .iter()
            .map(|part| format!("{}: {}, {}", part.index, part.size, signature(part.signature.as_ref()))),
    );
    lines.join("\n")
}

fn signature(found: Option<&Signature>) -> String {
    found.map_or("nothing known".into(), |found| printable(&found.to_string()))
}

fn used_by(disk: &AttachedDisk) -> String {
    let mut lines: Vec<String> = disk.uses.iter().take(SHOWN_USES).map(briefly).collect();
    if disk.uses.len() > SHOWN_USES {
        lines.push(format!("and {} more", disk.uses.len() - SHOWN_USES));
    }
    lines.join("\n")
}

fn briefly(used: &Use) -> String {
    printable(&match used {
        Use::Mounted { place, .. } | Use::System { place } => place.clone(),
        Use::Swap { .. } => "swap".into(),
        Use::LogicalVolume { name } => format!("volume {name}"),
        Use::Raid { name } => format!("RAID {name}"),
        Use::PathOf { map } => format!("map {map}"),
        Use::PartitionMap { name } => format!("open map {name}"),
        Use::Holder { name } => name.clone(),
        Use::KeptForRetention => "retention volume".into(),
        Use::Opened { by } => by.clone(),
    })
}

/// Everything that is known of one disk.
pub(super) fn detail(disk: &AttachedDisk) -> String {
    let mut text = format!("{}\n", disk.device());
    for (key, value) in facts(disk) {
        let _ = writeln!(text, "  {key:<16}{}", printable(&value));
    }
    let mut rows = table(&["path", "number", "address", "controller", "kernel says", "multipath says"], &[]);
    for path in &disk.paths {
        rows.add_row(path_row(path));
    }
    let _ = writeln!(text, "{rows}");
    if !disk.partitions.is_empty() {
        let mut rows = table(&["partition", "name", "start", "size", "contents"], &[0, 2, 3]);
        for part in &disk.partitions {
            rows.add_row([
                part.index.to_string(),
                printable(&part.name),
                part.start.to_string(),
                part.size.to_string(),
                signature(part.signature.as_ref()),
            ]);
        }
        let _ = writeln!(text, "{rows}");
    }
    for used in &disk.uses {
        let _ = writeln!(text, "in use: {}", printable(&used.to_string()));
    }
    if disk.uses.is_empty() {
        text.push_str("nothing uses it\n");
    }
    text
}

fn facts(disk: &AttachedDisk) -> Vec<(&'static str, String)> {
    let no_id = || disk.no_scsi_id.map_or("none".to_owned(), |reason| reason.to_string());
    let mut facts = vec![("SCSI id", disk.scsi_id.as_ref().map_or_else(no_id, ToString::to_string))];
    if let Some(other) = &disk.other_scsi_id {
        facts.push(("also known as", other.to_string()));
    }
    if let Some(uuid) = disk.scsi_id.as_ref().filter(|id| id.is_vmware()).and_then(|id| id.vmdk_uuid()) {
        facts.push(("VMDK ddb.uuid", DiskUuid(uuid).to_string()));
    }
    if let Some(map) = &disk.map {
        facts.push(("multipath map", format!("{} ({}, {})", map.name, map.kernel_name, map.number)));
    }
    facts.push(("size", format!("{} ({} bytes)", disk.size, disk.size.0)));
    facts.push(("sectors", format!("{} bytes, physically {}", disk.logical_sector, disk.physical_sector)));
    facts.extend(Some(model(disk)).filter(|model| !model.is_empty()).map(|model| ("model", model)));
    facts.extend(disk.serial.clone().map(|serial| ("serial number", serial)));
    let access = if disk.read_only { "can only be read" } else { "can be written" };
    facts.push(("access", format!("{access}{}", if disk.removable { ", can be taken out" } else { "" })));
    facts.push(("contents", signature(disk.signature.as_ref())));
    facts.push(("role", disk.role.to_string()));
    facts
}

fn path_row(path: &DiskPath) -> [String; 6] {
    let known = |text: &Option<String>| text.as_deref().map_or("–".into(), printable);
    [
        path.name.clone(),
        path.number.to_string(),
        path.address.map_or("–".into(), |address| address.to_string()),
        path.controller.to_string(),
        known(&path.device_state),
        known(&path.path_state),
    ]
}
