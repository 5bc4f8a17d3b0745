//! multipath, which gives a disk a name that stays.

use crate::config::Config;
use crate::preflight::fix::Change;
use crate::preflight::machine::{multipath_conflicts, wanted_disks as kept_disks};
use crate::preflight::{Check, Finding, Group, Look, Machine, Severity, Unknown};
use block_device::ScsiId;
use block_device::multipath::Conflict;
use std::collections::BTreeSet;
use std::path::Path;

pub(super) static CHECKS: [Check; 4] = [
    Check {
        id: "multipath-running",
        group: Group::Multipath,
        severity: Severity::Failure,
        title: "multipathd",
        needed: "the daemon multipathd runs",
        why: "multipathd gives each wanted disk its name under /dev/mapper, which stays the same over restarts, and \
              keeps it when a path fails. Without it the retention volume is not mounted at boot, and replicas have \
              no name that can be relied on.",
        look: multipath_running,
        mend: None,
    },
    Check {
        id: "multipath-root-disk",
        group: Group::Multipath,
        severity: Severity::Failure,
        title: "System disk left alone",
        needed: "multipath has not claimed the disk of the operating system",
        why: "A claimed disk loses its device nodes (sda1, …). A system whose root disk is claimed late, or only at \
              the next start, does not boot or mounts its disk read-only.",
        look: root_disk,
        mend: None,
    },
    Check {
        id: "multipath-disks",
        group: Group::Multipath,
        severity: Severity::Failure,
        title: "Wanted disks are mapped",
        needed: "each disk that the configuration names as /dev/mapper/ID, and that mtctl disks --map keeps, has its map",
        why: "multipath 0.5.0 of Ubuntu 16.04 skips a disk with a single path unless it is told to take it. Then \
              /dev/mapper/ID does not exist, the retention volume is not mounted, and a replica cannot be opened.",
        look: wanted_disks,
        mend: Some(map_wanted),
    },
    Check {
        id: "multipath-paths",
        group: Group::Multipath,
        severity: Severity::Warning,
        title: "Paths",
        needed: "no path of a map has failed",
        why: "A disk works as long as one of its paths does. A failed one is not seen until the last one fails too, \
              and then writes stop in the middle of a failback.",
        look: paths,
        mend: None,
    },
];

fn multipath_running(machine: &Machine) -> Look {
    let remedy = "apt-get install multipath-tools; systemctl enable --now multipath-tools";
    match machine.runs("multipathd") || machine.active(&["multipathd", "multipath-tools"])? {
        true => Finding::good("multipathd runs"),
        false => Finding::broken("multipathd does not run", remedy),
    }
}

fn root_disk(machine: &Machine) -> Look {
    let disk = machine.system_disk()?;
    match &disk.map {
        None => Finding::good(format!("{} is not claimed", disk.name)),
        Some(map) => Finding::broken(
            format!("{} is claimed as {}", disk.name, map.name),
            format!(
                "blacklist it in /etc/multipath.conf and remove {} from /etc/multipath/wwids (multipath -w), then \
                 update-initramfs -u, then restart",
                map.wwid
            ),
        ),
    }
}

/// Ids that are to have a map: from the configuration, from the retention volume, and from the managed fragment.
fn wanted_ids(machine: &Machine) -> Result<BTreeSet<String>, Unknown> {
    let mut ids: BTreeSet<String> = kept_disks(machine.system())?.into_iter().collect();
    let id_in = |path: &str| {
        let name = path.strip_prefix("/dev/mapper/")?;
        let id = name.split("-part").next().unwrap_or(name);
        ScsiId::parse(id).filter(ScsiId::is_naa).map(|id| id.as_str().to_owned())
    };
    let targets = |config: &Config| -> Vec<String> {
        let disks = config.items.iter().flat_map(|item| &item.disks);
        disks.map(|disk| disk.target.display().to_string()).collect()
    };
    ids.extend(machine.config().map(targets).unwrap_or_default().iter().filter_map(|path| id_in(path)));
    let folder = machine.retention_folder();
    let retention = machine.fstab()?.at(Path::new(&folder));
    ids.extend(retention.and_then(|entry| id_in(&entry.device)));
    Ok(ids)
}

/// The wanted disks that have no map: those that are attached, and those that are not.
fn unmapped(machine: &Machine) -> Result<(Vec<String>, Vec<String>, usize), Unknown> {
    let disks = machine.disks()?;
    let ids = wanted_ids(machine)?;
    let count = ids.len();
    let mapped = |id: &String| disks.iter().any(|disk| disk.map.as_ref().is_some_and(|map| map.wwid == *id));
    let attached =
        |id: &String| disks.iter().any(|disk| disk.scsi_id.as_ref().is_some_and(|own| own.as_str() == id));
    let (attached, absent) = ids.into_iter().filter(|id| !mapped(id)).partition(attached);
    Ok((attached, absent, count))
}

fn wanted_disks(machine: &Machine) -> Look {
    let (unmapped, absent, count) = unmapped(machine)?;
    let mut found = Vec::new();
    let mut remedy = Vec::new();
    if !unmapped.is_empty() {
        found.push(format!("not mapped: {}", unmapped.join(", ")));
        remedy.extend(unmapped.iter().map(|id| format!("mtctl disks --map {id}")));
    }
    if !absent.is_empty() {
        found.push(format!("not attached to this machine: {}", absent.join(", ")));
        remedy.push("attach the VMDKs of these ids, or take them out of the configuration".to_owned());
    }
    let conflicts = multipath_conflicts(machine.system());
    if found.is_empty() && !conflicts.is_empty() {
        let shown = |one: &Conflict| format!("{} line {}: {}", one.file, one.line, one.what);
        return Finding::weak(
            conflicts.iter().map(shown).collect::<Vec<_>>().join("; "),
            conflicts.iter().map(|one| one.advice.clone()).collect::<Vec<_>>().join("; "),
        );
    }
    match (found.is_empty(), count) {
        (true, 0) => Finding::good("no disk is wanted yet"),
        (true, _) => Finding::good(format!("{count} wanted, each with its map")),
        (false, _) => Finding::broken(found.join("; "), remedy.join("; ")),
    }
}

fn map_wanted(machine: &Machine) -> Result<Vec<Change>, Unknown> {
    let (unmapped, _, _) = unmapped(machine)?;
    let before = kept_disks(machine.system())?;
    let change = |disk: String| Change::MapDisk { wanted_before: before.contains(&disk), disk };
    Ok(unmapped.into_iter().map(change).collect())
}

fn paths(machine: &Machine) -> Look {
    let mut failed = Vec::new();
    for disk in machine.disks()? {
        let Some(map) = &disk.map else { continue };
        let bad = disk.paths.iter().filter(|path| !path.works());
        failed.extend(bad.map(|path| format!("{} of {}", path.name, map.name)));
    }
    match failed.is_empty() {
        true => Finding::good("no path has failed"),
        false => Finding::broken(
            format!("failed: {}", failed.join(", ")),
            "see multipath -ll and dmesg for the cause; a path that works again is taken up by itself",
        ),
    }
}
