//! What uses a disk: mounts, swap, and everything that lies on it.

use super::devices::{Device, Devices};
use super::{Role, Signature, Use, text};
use crate::system::System;
use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

/// Mount points that a machine needs to run.
const SYSTEM_PLACES: [&str; 15] = [
    "/",
    "/boot",
    "/boot/efi",
    "/efi",
    "/etc",
    "/home",
    "/opt",
    "/root",
    "/tmp",
    "/usr",
    "/usr/local",
    "/var",
    "/var/lib",
    "/var/log",
    "/var/tmp",
];

/// Time for a program that is asked for a detail that can be done without.
const BRIEFLY: Duration = Duration::from_secs(3);

/// An overlay lies on folders, which can lie on an overlay again.
const DEEPEST_OVERLAY: usize = 4;

/// What is asked of the machine once, for all disks.
pub(super) struct Machine {
    pub(super) devices: Devices,
    /// Kernel name of each device that is mounted, and where.
    mounts: Vec<(String, String)>,
    /// Kernel names of devices that swap goes to.
    swaps: Vec<String>,
    /// Why it is not known what is mounted.
    unknown: Option<String>,
    /// State of each path by multipathd.
    pub(super) path_states: BTreeMap<String, String>,
    /// First sector of maps of partitions.
    pub(super) starts: BTreeMap<String, u64>,
    open_counts: BTreeMap<String, u32>,
    /// Where the retention volume is mounted.
    retention: String,
    /// What fstab would mount there.
    retention_devices: Vec<String>,
}

impl Machine {
    pub(super) fn read(system: &System, retention: &str) -> Machine {
        let devices = Devices::read(system);
        let (mounts, unknown) = mounts(system, &devices);
        let swaps = text::swaps(&lossy(system.bytes("/proc/swaps")).unwrap_or_default());
        let swaps =
            swaps.iter().filter_map(|path| devices.at(system, path)).map(|device| device.name.clone());
        let has = |wanted: fn(&Device) -> bool| devices.all().any(wanted);
        let ask = |wanted: bool, program: &str, arguments: &[&str]| {
            let output = wanted.then(|| system.run(program, arguments, BRIEFLY).ok()).flatten();
            output.map(|output| output.stdout).unwrap_or_default()
        };
        let multipath = has(|device| device.wwid().is_some());
        let partitions = has(|device| device.map_of_partition().is_some());
        let states = ask(multipath, "multipathd", &["show", "paths", "format", "%d|%w|%t"]);
        let tables = ask(partitions, "dmsetup", &["table"]);
        let counts = ["info", "-c", "--noheadings", "--separator", "|", "-o", "name,open"];
        let counts = ask(partitions, "dmsetup", &counts);
        let fstab = text::fstab(&lossy(system.bytes("/etc/fstab")).unwrap_or_default());
        let kept = fstab.into_iter().filter(|(_, place)| same_place(place, retention));
        Machine {
            mounts,
            swaps: swaps.collect(),
            unknown,
            path_states: text::path_states(&states),
            starts: text::linear_starts(&tables),
            open_counts: text::open_counts(&counts),
            retention: retention.to_owned(),
            retention_devices: kept.map(|(device, _)| device).collect(),
            devices,
        }
    }

    /// What uses a disk that consists of these devices: its paths, its map, and partitions of either.
    pub(super) fn uses(&self, own: &[&Device]) -> Vec<Use> {
        let mut uses = Vec::new();
        let above = self.devices.above(own);
        for device in own.iter().chain(&above) {
            let mounts = self.mounts.iter().filter(|(name, _)| *name == device.name);
            uses.extend(mounts.map(|(_, place)| self.mounted(device, place)));
            if self.swaps.contains(&device.name) {
                uses.push(Use::Swap { device: device.path() });
            }
            if device.map_of_partition().is_some() && self.is_open(device) {
                uses.push(Use::PartitionMap { name: device.shown().to_owned() });
            }
        }
        uses.extend(above.iter().filter_map(|device| holder(device)));
        if let Some(reason) = &self.unknown {
            uses.push(Use::Opened {
                by: format!("something unknown (it cannot be told what is mounted: {reason})"),
            });
        }
        let mut distinct: Vec<Use> = Vec::new();
        for found in uses {
            if !distinct.contains(&found) {
                distinct.push(found);
            }
        }
        distinct
    }

    fn mounted(&self, device: &Device, place: &str) -> Use {
        let is_system = SYSTEM_PLACES.contains(&place) && !same_place(place, &self.retention);
        if is_system {
            Use::System { place: place.to_owned() }
        } else {
            Use::Mounted { device: device.path(), place: place.to_owned() }
        }
    }

    /// Open, and not only by the devices on it, which are uses of their own.
    fn is_open(&self, device: &Device) -> bool {
        device.holders.is_empty() && self.open_counts.get(device.shown()).is_some_and(|count| *count > 0)
    }

    /// What a disk is for, as far as the machine knows.
    pub(super) fn role(&self, system: &System, own: &[&Device], held: &[&Signature], uses: &[Use]) -> Role {
        let is_retention =
            |used: &Use| matches!(used, Use::Mounted { place, .. } if same_place(place, &self.retention));
        if uses.iter().any(|used| matches!(used, Use::System { .. })) {
            Role::System
        } else if uses.iter().any(is_retention) || self.is_kept_for_retention(system, own, held) {
            Role::Retention
        } else if uses.is_empty() {
            Role::Free
        } else {
            Role::Used
        }
    }

    /// Whether fstab means this disk, mounted or not.
    fn is_kept_for_retention(&self, system: &System, own: &[&Device], held: &[&Signature]) -> bool {
        let above = self.devices.above(own);
        self.retention_devices.iter().any(|wanted| {
            let is_of = |name: &dyn Fn(&Signature) -> Option<&str>, wanted: &str| {
                held.iter()
                    .any(|signature| name(signature).is_some_and(|name| name.eq_ignore_ascii_case(wanted)))
            };
            let plain = |text: &str| text.trim_matches('"').to_owned();
            if let Some(uuid) = wanted.strip_prefix("UUID=") {
                return is_of(&uuid_of, &plain(uuid));
            }
            if let Some(label) = wanted.strip_prefix("LABEL=") {
                return is_of(&label_of, &plain(label));
            }
            let device = self.devices.at(system, wanted);
            device.is_some_and(|device| own.iter().chain(&above).any(|part| part.name == device.name))
        })
    }
}

fn uuid_of(signature: &Signature) -> Option<&str> {
    match signature {
        Signature::FileSystem { uuid, .. } => uuid.as_deref(),
        _ => None,
    }
}

fn label_of(signature: &Signature) -> Option<&str> {
    match signature {
        Signature::FileSystem { label, .. } => label.as_deref(),
        _ => None,
    }
}

fn same_place(one: &str, other: &str) -> bool {
    one == other || (one.len() > 1 && one.trim_end_matches('/') == other.trim_end_matches('/'))
}

/// A device on the disk, as a use. A map of a partition is none by itself.
fn holder(device: &Device) -> Option<Use> {
    let name = device.shown().to_owned();
    if device.map_of_partition().is_some() {
        None
    } else if device.wwid().is_some() {
        Some(Use::PathOf { map: name })
    } else if device.is_logical_volume() {
        Some(Use::LogicalVolume { name })
    } else if device.is_raid() {
        device.partition.is_none().then_some(Use::Raid { name })
    } else {
        Some(Use::Holder { name })
    }
}

fn lossy(bytes: io::Result<Vec<u8>>) -> io::Result<String> {
    bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Which devices are mounted where, as this process sees it and as the first one does: a service may have a mount
/// namespace of its own. With it, why that is not known.
fn mounts(system: &System, devices: &Devices) -> (Vec<(String, String)>, Option<String>) {
    let own = lossy(system.bytes("/proc/self/mountinfo"));
    let first = lossy(system.bytes("/proc/1/mountinfo")).unwrap_or_default();
    let swaps = system.bytes("/proc/swaps");
    let unknown = match (&own, swaps) {
        (Err(error), _) => Some(format!("/proc/self/mountinfo: {error}")),
        // A kernel without swap has no such file.
        (_, Err(error)) if error.kind() != io::ErrorKind::NotFound => Some(format!("/proc/swaps: {error}")),
        _ => None,
    };
    let mut mounts = text::mounts(&own.unwrap_or_default());
    mounts.extend(text::mounts(&first));
    let mut found = Vec::new();
    for mount in &mounts {
        for device in below(system, devices, &mounts, mount, 0) {
            let pair = (device.name.clone(), mount.place.clone());
            if !found.contains(&pair) {
                found.push(pair);
            }
        }
    }
    (found, unknown)
}

/// The devices that a mounted file system lies on. Its number tells, unless the file system has none: btrfs names one
/// of its devices as the source and lists the others in sysfs, an overlay names its folders.
fn below<'a>(
    system: &System,
    devices: &'a Devices,
    mounts: &[text::Mount],
    mount: &text::Mount,
    depth: usize,
) -> Vec<&'a Device> {
    if let Some(device) = devices.numbered(mount.number) {
        return vec![device];
    }
    if mount.source.starts_with("/dev/") {
        let Some(device) = devices.at(system, &mount.source) else { return Vec::new() };
        return pool_of(system, devices, device);
    }
    if mount.kind != "overlay" || depth == DEEPEST_OVERLAY {
        return Vec::new();
    }
    let folders = mount
        .options
        .split(',')
        .filter_map(|option| ["lowerdir=", "upperdir="].iter().find_map(|key| option.strip_prefix(key)));
    let carriers = folders.flat_map(|list| list.split(':')).filter_map(|folder| carrier(mounts, folder));
    carriers.flat_map(|carrier| below(system, devices, mounts, carrier, depth + 1)).collect()
}

/// The mount that a folder is in: the one with the longest mount point, and of equal ones the last.
fn carrier<'a>(mounts: &'a [text::Mount], folder: &str) -> Option<&'a text::Mount> {
    let holds = |mount: &&text::Mount| std::path::Path::new(folder).starts_with(&mount.place);
    mounts.iter().filter(|mount| mount.kind != "overlay").filter(holds).max_by_key(|mount| mount.place.len())
}

/// All devices of the btrfs file system that has this one.
fn pool_of<'a>(system: &System, devices: &'a Devices, device: &'a Device) -> Vec<&'a Device> {
    let pools = system.names("/sys/fs/btrfs").into_iter();
    let members = pools.map(|pool| system.names(format!("/sys/fs/btrfs/{pool}/devices")));
    let found = members.into_iter().find(|members| members.contains(&device.name));
    let found = found.into_iter().flatten().filter_map(|name| devices.named(&name));
    let all: Vec<&Device> = found.collect();
    if all.is_empty() { vec![device] } else { all }
}
