//! What uses a disk: mounts, swap, and everything that lies on it.

use super::devices::{Device, Devices};
use super::{Role, Signature, Use, text};
use crate::mounts::{self, Mount};
use crate::multipath;
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

/// What fstab can name a device by, each with a folder of links below /dev/disk.
const TAGS: [&str; 5] = ["UUID", "LABEL", "PARTUUID", "PARTLABEL", "ID"];

/// Time for a program that is asked for a detail that can be done without.
const BRIEFLY: Duration = Duration::from_secs(3);

/// An overlay lies on folders, which can lie on an overlay again.
const DEEPEST_OVERLAY: usize = 4;

/// What is asked of the machine once, for all disks.
pub(super) struct Machine {
    pub(super) devices: Devices,
    active: Active,
    /// State of each path by multipathd.
    pub(super) path_states: BTreeMap<String, String>,
    /// First sector of maps of partitions.
    pub(super) starts: BTreeMap<String, u64>,
    open_counts: BTreeMap<String, u32>,
    /// Where the retention volume is mounted.
    retention: String,
    /// What fstab would mount there, or why that is not known.
    kept: Result<Vec<Kept>, String>,
}

/// A device that fstab would mount as the retention volume.
struct Kept {
    /// As fstab names it.
    named: String,
    /// Kernel names of what it stands for by udev's links, which know more superblocks than the first of each disk.
    devices: Vec<String>,
}

/// What the kernel has mounted and swaps to.
struct Active {
    /// Kernel name of each device that is mounted, and where.
    mounts: Vec<(String, String)>,
    /// Kernel names of devices that swap goes to.
    swaps: Vec<String>,
    /// Why that is not known.
    unknown: Option<String>,
}

impl Active {
    fn read(system: &System, devices: &Devices) -> Active {
        let table = lossy(system.bytes("/proc/swaps"));
        let unknown = match &table {
            // A kernel without swap has no such file.
            Err(error) if error.kind() != io::ErrorKind::NotFound => Some(format!("/proc/swaps: {error}")),
            _ => None,
        };
        let swaps = text::swaps(&table.unwrap_or_default());
        let swaps =
            swaps.iter().filter_map(|path| devices.at(system, path)).map(|device| device.name.clone());
        let swaps = swaps.collect();
        match mounted(system, devices) {
            Ok(mounts) => Active { mounts, swaps, unknown },
            Err(reason) => Active { mounts: Vec::new(), swaps, unknown: Some(reason) },
        }
    }

    /// Where the device is mounted.
    fn places(&self, device: &Device) -> impl Iterator<Item = &str> {
        self.mounts.iter().filter(|(name, _)| *name == device.name).map(|(_, place)| place.as_str())
    }

    fn is_swap(&self, device: &Device) -> bool {
        self.swaps.contains(&device.name)
    }

    fn doubt(&self) -> Option<Use> {
        let reason = self.unknown.as_ref()?;
        Some(something_unknown(&format!("it cannot be told what is mounted: {reason}")))
    }
}

fn something_unknown(why: &str) -> Use {
    Use::Opened { by: format!("something unknown ({why})") }
}

/// Mounts of one device and swap on it, without those of what lies on it; it is called `shown`. When that cannot be
/// told, it counts as used.
pub(crate) fn of_device(system: &System, kernel_name: &str, shown: &str) -> Vec<Use> {
    let devices = Devices::read(system);
    let active = Active::read(system, &devices);
    let mut uses = Vec::new();
    if let Some(device) = devices.named(kernel_name) {
        let place = |place: &str| Use::Mounted { device: shown.to_owned(), place: place.to_owned() };
        uses.extend(active.places(device).map(place));
        uses.extend(active.is_swap(device).then(|| Use::Swap { device: shown.to_owned() }));
    }
    uses.extend(active.doubt());
    uses
}

impl Machine {
    pub(super) fn read(system: &System, retention: &str) -> Machine {
        let devices = Devices::read(system);
        let has = |wanted: fn(&Device) -> bool| devices.all().any(wanted);
        let ask = |wanted: bool, program: &str, arguments: &[&str]| {
            let output = wanted.then(|| system.run(program, arguments, BRIEFLY).ok()).flatten();
            output.map(|output| output.stdout).unwrap_or_default()
        };
        let maps = has(|device| device.wwid().is_some());
        let partitions = has(|device| device.map_of_partition().is_some());
        let states = ask(maps, "multipathd", &["show", "paths", "format", multipath::FORMAT]);
        let tables = ask(partitions, "dmsetup", &["table"]);
        let counts = ["info", "-c", "--noheadings", "--separator", "|", "-o", "name,open"];
        let counts = ask(partitions, "dmsetup", &counts);
        let states = multipath::parse_paths(&states).into_iter().map(|path| (path.device, path.dm_state));
        Machine {
            active: Active::read(system, &devices),
            path_states: states.collect(),
            starts: text::linear_starts(&tables),
            open_counts: text::open_counts(&counts),
            retention: retention.to_owned(),
            kept: kept(system, &devices, retention),
            devices,
        }
    }

    /// What uses a disk that consists of these devices: its paths, its map, and partitions of either.
    pub(super) fn uses(&self, own: &[&Device]) -> Vec<Use> {
        let mut uses = Vec::new();
        let above = self.devices.above(own);
        for device in own.iter().chain(&above) {
            uses.extend(self.active.places(device).map(|place| self.mounted(device, place)));
            if self.active.is_swap(device) {
                uses.push(Use::Swap { device: device.path() });
            }
            if device.map_of_partition().is_some() && self.is_open(device) {
                uses.push(Use::PartitionMap { name: device.shown().to_owned() });
            }
        }
        uses.extend(above.iter().filter_map(|device| holder(device)));
        uses.extend(self.active.doubt());
        uses.extend(self.kept.as_ref().err().map(|reason| something_unknown(reason)));
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

    /// Open by something else than a mount, swap or a device on it, which are uses of their own.
    fn is_open(&self, device: &Device) -> bool {
        let mounted = self.active.places(device).next().is_some();
        let explained = mounted || self.active.is_swap(device) || !device.holders.is_empty();
        !explained && self.open_counts.get(device.shown()).is_some_and(|count| *count > 0)
    }

    /// What a disk is for, as far as the machine knows.
    pub(super) fn role(&self, own: &[&Device], held: &[&Signature], uses: &[Use]) -> Role {
        let is_retention =
            |used: &Use| matches!(used, Use::Mounted { place, .. } if same_place(place, &self.retention));
        if uses.iter().any(|used| matches!(used, Use::System { .. })) {
            Role::System
        } else if uses.iter().any(is_retention) || self.is_kept_for_retention(own, held) {
            Role::Retention
        } else if uses.is_empty() {
            Role::Free
        } else {
            Role::Used
        }
    }

    /// Whether fstab means this disk, mounted or not.
    fn is_kept_for_retention(&self, own: &[&Device], held: &[&Signature]) -> bool {
        let above = self.devices.above(own);
        let is_own = |name: &String| own.iter().chain(&above).any(|part| part.name == *name);
        let is_it = |kept: &Kept| kept.devices.iter().any(is_own) || kept.is_told_by(held);
        self.kept.iter().flatten().any(is_it)
    }

    /// What uses a disk that cannot be read, when fstab has a retention volume that is on no disk as far as is known:
    /// `held` is what all of them hold.
    pub(super) fn doubt_of_unreadable(&self, held: &[&Signature]) -> Option<Use> {
        let kept = self.kept.iter().flatten();
        let missing = kept.into_iter().find(|kept| kept.devices.is_empty() && !kept.is_told_by(held))?;
        Some(something_unknown(&format!(
            "it cannot be read, and may be the retention volume that /etc/fstab calls {}, which is on no other disk",
            missing.named
        )))
    }
}

impl Kept {
    /// Whether one of the file systems has the UUID or label.
    fn is_told_by(&self, held: &[&Signature]) -> bool {
        let Some((tag, wanted)) = tag(&self.named) else { return false };
        let told = |signature: &Signature| match tag {
            "UUID" => uuid_of(signature).is_some_and(|uuid| uuid.eq_ignore_ascii_case(wanted)),
            "LABEL" => label_of(signature).is_some_and(|label| label.eq_ignore_ascii_case(wanted)),
            _ => false,
        };
        held.iter().any(|signature| told(signature))
    }
}

/// What fstab would mount as the retention volume; shares of servers and the like are left out.
fn kept(system: &System, devices: &Devices, retention: &str) -> Result<Vec<Kept>, String> {
    let table = match lossy(system.bytes("/etc/fstab")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(format!(
                "it cannot be told what is kept for the retention volume: /etc/fstab: {error}"
            ));
        }
        Ok(table) => table,
    };
    let wanted = text::fstab(&table).into_iter().filter(|(_, place)| same_place(place, retention));
    let wanted =
        wanted.map(|(named, _)| named).filter(|named| named.starts_with("/dev/") || tag(named).is_some());
    let resolved = wanted.map(|named| {
        let links = match tag(&named) {
            Some((tag, value)) => links(system, tag, value),
            None => vec![named.clone()],
        };
        let found = links.iter().filter_map(|link| devices.at(system, link));
        Kept { devices: found.map(|device| device.name.clone()).collect(), named }
    });
    Ok(resolved.collect())
}

/// Tag and value of a device that fstab names by what is on it.
fn tag(named: &str) -> Option<(&str, &str)> {
    let (tag, value) = named.split_once('=')?;
    TAGS.contains(&tag).then(|| (tag, value.trim_matches('"')))
}

/// udev's links of this value. Digits of ids are written small or large, so that is not looked at.
fn links(system: &System, tag: &str, value: &str) -> Vec<String> {
    let folder = format!("/dev/disk/by-{}", tag.to_lowercase());
    let wanted = escaped(value);
    let names = system.names(&folder).into_iter().filter(|name| name.eq_ignore_ascii_case(&wanted));
    names.map(|name| format!("{folder}/{name}")).collect()
}

/// The value as udev has it in the name of a link.
fn escaped(value: &str) -> String {
    let letter = |letter: char| {
        let stays = letter.is_ascii_alphanumeric() || !letter.is_ascii() || "#+-.:=@_".contains(letter);
        if stays { letter.to_string() } else { format!("\\x{:02x}", u32::from(letter)) }
    };
    value.chars().map(letter).collect()
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
/// namespace of its own. Or why that is not known.
fn mounted(system: &System, devices: &Devices) -> Result<Vec<(String, String)>, String> {
    let own = lossy(system.bytes("/proc/self/mountinfo"));
    let own = own.map_err(|error| format!("/proc/self/mountinfo: {error}"))?;
    let first = lossy(system.bytes("/proc/1/mountinfo")).unwrap_or_default();
    let mut mounts = mounts::parse(&own);
    mounts.extend(mounts::parse(&first));
    let mut found = Vec::new();
    for mount in &mounts {
        for device in below(system, devices, &mounts, mount, 0) {
            let pair = (device.name.clone(), mount.place.clone());
            if !found.contains(&pair) {
                found.push(pair);
            }
        }
    }
    Ok(found)
}

/// The devices that a mounted file system lies on. Its number tells, unless the file system has none: btrfs names one
/// of its devices as the source and lists the others in sysfs, an overlay names its folders.
fn below<'a>(
    system: &System,
    devices: &'a Devices,
    mounts: &[Mount],
    mount: &Mount,
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
fn carrier<'a>(mounts: &'a [Mount], folder: &str) -> Option<&'a Mount> {
    let holds = |mount: &&Mount| std::path::Path::new(folder).starts_with(&mount.place);
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
