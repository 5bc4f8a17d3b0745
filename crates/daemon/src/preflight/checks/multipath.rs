//! multipath, which gives a disk a name that stays, and LVM, which must not touch a replica.

use crate::config::Config;
use crate::preflight::facts::lvm::Filter;
use crate::preflight::fix::Change;
use crate::preflight::machine::{multipath_conflicts, wanted_disks as kept_disks};
use crate::preflight::{Check, Finding, Group, Look, Machine, Severity, Unknown};
use block_device::inventory::AttachedDisk;
use block_device::multipath::Conflict;
use block_device::{PROGRAM_TIMEOUT, ScsiId};
use std::collections::BTreeSet;

pub(super) static CHECKS: [Check; 5] = [
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
    Check {
        id: "lvm-filter",
        group: Group::Multipath,
        severity: Severity::Failure,
        title: "LVM keeps off the replicas",
        needed: "devices/global_filter accepts no disk but the system's",
        why: "LVM looks at every disk that appears, and activates the volume groups that it finds there. On a replica \
              they belong to the protected machine: activated, they hold the disk, so that it cannot be opened or \
              detached, and may even be changed. With two replicas of one template LVM also sees two of everything.",
        look: lvm_filter,
        mend: Some(set_lvm_filter),
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
        ScsiId::parse(id).filter(ScsiId::is_vmware).map(|id| id.as_str().to_owned())
    };
    let targets = |config: &Config| -> Vec<String> {
        let disks = config.items.iter().flat_map(|item| &item.disks);
        disks.map(|disk| disk.target.display().to_string()).collect()
    };
    ids.extend(machine.config().map(targets).unwrap_or_default().iter().filter_map(|path| id_in(path)));
    let folder = machine.retention_folder();
    let retention = machine.fstab()?.iter().filter(|entry| entry.place == folder);
    ids.extend(retention.filter_map(|entry| id_in(&entry.device)));
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

/// A list of devices that newer LVM uses instead of filters.
const DEVICES_FILE: &str = "/etc/lvm/devices/system.devices";

/// What LVM's filter is, as LVM reads it; `None` when none is set.
fn filter_text(machine: &Machine) -> Result<Option<String>, Unknown> {
    if machine.system().path(DEVICES_FILE).exists() {
        let why = format!("LVM uses the list of devices {DEVICES_FILE}, and no filter while it is there");
        return Err(Unknown::until(why, "lvmdevices shows the list; it must name no disk but the system's"));
    }
    let output = machine.system().run("lvmconfig", &["devices/global_filter"], PROGRAM_TIMEOUT)?;
    match (output.success, output.stderr.contains("not found")) {
        (true, _) => Ok(Some(output.stdout)),
        (false, true) => Ok(None),
        (false, false) => Err(Unknown::because(format!("lvmconfig fails: {}", output.stderr.trim()))),
    }
}

/// What LVM may see of a disk: kernel names, maps, and the links that udev makes.
fn names_of(machine: &Machine, disk: &AttachedDisk) -> Vec<Vec<String>> {
    let mut devices: Vec<String> = disk.paths.iter().map(|path| path.name.clone()).collect();
    devices.extend(disk.partitions.iter().map(|partition| partition.name.clone()));
    devices.extend(disk.map.iter().map(|map| map.kernel_name.clone()));
    let links = links(machine);
    let names = |device: String| {
        let mut names = vec![format!("/dev/{device}"), format!("/dev/mapper/{device}")];
        if let Some(map) = disk.map.as_ref().filter(|map| map.kernel_name == device) {
            names.push(format!("/dev/mapper/{}", map.name));
        }
        names.extend(links.iter().filter(|(_, to)| *to == device).map(|(link, _)| link.clone()));
        names
    };
    devices.into_iter().map(names).collect()
}

/// The links under /dev/disk, each with the device that it leads to.
fn links(machine: &Machine) -> Vec<(String, String)> {
    let mut links = Vec::new();
    for kind in ["by-id", "by-path", "by-uuid", "by-label", "by-partuuid", "by-partlabel"] {
        for name in machine.system().names(format!("/dev/disk/{kind}")) {
            let link = format!("/dev/disk/{kind}/{name}");
            let target = std::fs::read_link(machine.system().path(&link)).ok();
            if let Some(device) = target.as_ref().and_then(|target| target.file_name()) {
                links.push((link, device.to_string_lossy().into_owned()));
            }
        }
    }
    links
}

/// What a disk is called that nobody has attached yet: reprotect will.
const FUTURE_DISK: [&str; 4] = [
    "/dev/sdzz",
    "/dev/mapper/36000c29ffffffffffffffffffffffffff",
    "/dev/disk/by-id/scsi-36000c29ffffffffffffffffffffffffff",
    "/dev/disk/by-id/wwn-0x6000c29ffffffffffffffffffffffffff",
];

fn lvm_filter(machine: &Machine) -> Look {
    let text = filter_text(machine)?;
    let filter =
        text.as_deref().map_or_else(|| Ok(Filter::none()), Filter::parse).map_err(Unknown::because)?;
    let system = machine.system_disk()?.name.as_str();
    let others = machine.disks()?.iter().filter(|disk| disk.name != system);
    let taken = others.filter(|disk| names_of(machine, disk).iter().any(|names| filter.accepts(names)));
    let mut taken: Vec<String> = taken.map(|disk| disk.name.clone()).collect();
    let future: Vec<String> = FUTURE_DISK.map(str::to_owned).into();
    if filter.accepts(&future) {
        taken.push("disks that are attached later".to_owned());
    }
    let set = if text.is_some() { "the filter" } else { "no filter is set: it" };
    match taken.is_empty() {
        true => Finding::good("LVM takes no disk but the system's"),
        false => Finding::broken(
            format!("{set} lets LVM take {}", taken.join(", ")),
            format!("set in {LVM_FILE}, at its end: {}", filter_line(machine)?),
        ),
    }
}

const LVM_FILE: &str = "/etc/lvm/lvm.conf";

/// The filter to set. The system's disk is let through, by its id, only where the system needs LVM.
fn filter_line(machine: &Machine) -> Result<String, Unknown> {
    let disk = machine.system_disk()?;
    let needs_lvm = disk.partitions.iter().map(|partition| &partition.signature).chain([&disk.signature]);
    let needs_lvm = needs_lvm
        .flatten()
        .any(|found| matches!(found, block_device::inventory::Signature::LvmMember { .. }));
    match (needs_lvm, &disk.scsi_id) {
        (false, _) => Ok("devices/global_filter = [ \"r|.*|\" ]".to_owned()),
        (true, Some(id)) => Ok(format!(
            "devices/global_filter = [ \"a|^/dev/disk/by-id/scsi-{id}(-part[0-9]+)?$|\", \"r|.*|\" ]"
        )),
        (true, None) => {
            Err(Unknown::because(format!("the system lies on LVM on {}, which has no id", disk.name)))
        }
    }
}

/// `lvm.conf` takes `section/key = value` anywhere, and what stands last holds. That keeps the change in one marked
/// block, and `lvmlocal.conf` as it is.
fn set_lvm_filter(machine: &Machine) -> Result<Vec<Change>, Unknown> {
    if let Some(text) = filter_text(machine)? {
        let why = format!("a filter is set by hand, which only you can join with ours: {}", text.trim());
        return Err(Unknown::because(why));
    }
    Ok(vec![Change::block(LVM_FILE, "#", vec![filter_line(machine)?])])
}
