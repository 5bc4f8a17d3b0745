//! LVM and mdadm, which must not touch what a replica holds.

use crate::preflight::facts::lvm::Filter;
use crate::preflight::facts::mdadm;
use crate::preflight::fix::Change;
use crate::preflight::{Check, Finding, Group, Look, Machine, Severity, Unknown};
use block_device::PROGRAM_TIMEOUT;
use block_device::inventory::{AttachedDisk, Signature, Use};

pub(super) static CHECKS: [Check; 2] = [
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
    Check {
        id: "raid-assembly",
        group: Group::Multipath,
        severity: Severity::Failure,
        title: "mdadm keeps off the replicas",
        needed: "mdadm assembles no array by itself (AUTO -all), or is not installed",
        why: "Where mdadm is installed, udev has it assemble each array of which a member appears. A replica of a \
              machine with software RAID is such a member: assembled, the array holds the disk and may write to it.",
        look: raid_assembly,
        mend: Some(stop_raid_assembly),
    },
];

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
            format!("set in {LVM_FILE}, at its end: {}; then update-initramfs -u", filter_line(machine)?),
        ),
    }
}

const LVM_FILE: &str = "/etc/lvm/lvm.conf";

/// The filter to set. The system's disk is let through, by its id, only where the system needs LVM.
fn filter_line(machine: &Machine) -> Result<String, Unknown> {
    let disk = machine.system_disk()?;
    let needs_lvm = disk.partitions.iter().map(|partition| &partition.signature).chain([&disk.signature]);
    let needs_lvm = needs_lvm.flatten().any(|found| matches!(found, Signature::LvmMember { .. }));
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
    Ok(vec![in_initramfs_too(Change::block(LVM_FILE, "#", vec![filter_line(machine)?]))])
}

const MDADM_FILE: &str = "/etc/mdadm/mdadm.conf";

const AUTO_LINE: &str = "AUTO -all";

fn raid_assembly(machine: &Machine) -> Look {
    if machine.system().program("mdadm").is_none() {
        return Finding::good("mdadm is not installed");
    }
    let text = machine.system().text_if_exists(MDADM_FILE)?.unwrap_or_default();
    let remedy = || format!("set in {MDADM_FILE}: {AUTO_LINE}; then update-initramfs -u");
    match mdadm::auto(&text) {
        Some(words) if mdadm::is_off(&words) => Finding::good("mdadm assembles no array by itself"),
        Some(words) => Finding::broken(format!("mdadm assembles by AUTO {}", words.join(" ")), remedy()),
        None => Finding::broken("mdadm assembles every array that it finds", remedy()),
    }
}

/// Arrays with a line of their own (ARRAY) are assembled all the same.
fn stop_raid_assembly(machine: &Machine) -> Result<Vec<Change>, Unknown> {
    let text = machine.system().text_if_exists(MDADM_FILE)?.unwrap_or_default();
    if let Some(words) = mdadm::auto(&text) {
        let why = format!("AUTO {} is set in {MDADM_FILE} by hand: change it there", words.join(" "));
        return Err(Unknown::because(why));
    }
    let on_raid = machine.system_disk()?.uses.iter().any(|one| matches!(one, Use::Raid { .. }));
    if on_raid && !mdadm::lists_arrays(&text) {
        let why = "the system lies on a RAID that has no ARRAY line, and would not start without one";
        return Err(Unknown::until(why, format!("mdadm --detail --scan >> {MDADM_FILE}, then again")));
    }
    Ok(vec![in_initramfs_too(Change::block(MDADM_FILE, "#", vec![AUTO_LINE.to_owned()]))])
}

/// The initramfs has a copy of the file, and activates what it finds before the root file system is mounted.
fn in_initramfs_too(change: Change) -> Change {
    change.followed_by(&["update-initramfs", "-u"])
}
