//! The disks that items write to, and the folders in which replicas are kept or can be made.

use crate::item::ItemHandle;
use crate::items::Items;
use crate::master_target::MasterTarget;
use block_device::inventory::{AttachedDisk, Look};
use block_device::mounts::{self, Mount};
use block_device::{Inventory, System, is_device};
use control_api::agent::{Datastore, HostDisk};
use registration::link::{Look as LookAround, datastores, host_disks};
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is looked for: the targets of the items that there are at that moment.
pub(super) struct Wanted {
    look: Look,
    replicas: Option<PathBuf>,
    items: Arc<Items>,
}

impl Wanted {
    pub(super) fn new(target: &MasterTarget) -> Wanted {
        let look = Look { retention: target.config.retention.folder.clone(), ..Look::default() };
        Wanted { look, replicas: target.config.replicas.clone(), items: target.items.clone() }
    }

    /// Each target with its item.
    fn targets(&self) -> Vec<(PathBuf, String)> {
        let of = |item: &Arc<ItemHandle>| {
            let config = item.config();
            let targets = config.disks.iter().map(|disk| (disk.target.clone(), config.name.clone()));
            targets.collect::<Vec<_>>()
        };
        self.items.all().iter().flat_map(of).collect()
    }
}

impl LookAround for Wanted {
    fn disks(&self, system: &System) -> Vec<HostDisk> {
        let mut inventory = Inventory::read_with(system, &self.look);
        let devices = self.targets().into_iter().filter(|(target, _)| is_device(target));
        let devices: Vec<(String, String)> =
            devices.map(|(target, item)| (target.display().to_string(), item)).collect();
        let names: Vec<&str> = devices.iter().map(|(name, _)| name.as_str()).collect();
        inventory.mark_targets(system, &names);
        let found = devices.iter().filter_map(|(name, item)| {
            let disk = inventory.find(system, name).ok()?;
            Some((disk.name.clone(), format!("target of {item}")))
        });
        let targets: HashMap<String, String> = found.collect();
        host_disks(&inventory, |disk: &AttachedDisk| targets.get(&disk.name).cloned())
    }

    /// The folder that the configuration names comes first.
    fn datastores(&self, system: &System) -> Vec<Datastore> {
        let mounts = mounts::read(system).unwrap_or_default();
        let files = self.targets().into_iter().map(|(target, _)| target).filter(|target| !is_device(target));
        let used = files.filter_map(|file| file.parent().map(Path::to_owned));
        let found: BTreeSet<PathBuf> = used.chain(stores(&mounts, &self.look.retention)).collect();
        datastores(&mounts, self.replicas.iter().cloned().chain(found))
    }
}

/// Kinds of file systems that VMDKs are kept on.
const KINDS: [&str; 9] = ["ext4", "ext3", "xfs", "btrfs", "nfs", "nfs4", "cifs", "fuse.vmfs", "fuse.vmfs6"];
/// Places that belong to the machine itself, with all below them.
const OF_THE_MACHINE: [&str; 13] = [
    "/boot", "/dev", "/etc", "/home", "/lib", "/opt", "/proc", "/root", "/run", "/snap", "/sys", "/tmp",
    "/usr",
];

/// Where file systems are mounted that new replicas can be made on, other than the machine's own and the retention volume.
fn stores(mounts: &[Mount], retention: &Path) -> Vec<PathBuf> {
    let is_store = |place: &Path, mount: &Mount| {
        KINDS.contains(&mount.kind.as_str())
            && !mount.is_read_only()
            && place != retention
            && ![Path::new("/"), Path::new("/var")].contains(&place)
            && !OF_THE_MACHINE.iter().any(|own| place.starts_with(own))
    };
    let places: BTreeSet<&Path> = mounts.iter().map(|mount| Path::new(&mount.place)).collect();
    // Of several at one place, the last is seen.
    let seen = places.into_iter().filter_map(|place| Some((place, mounts::at(mounts, place)?)));
    seen.filter(|(place, mount)| is_store(place, mount)).map(|(place, _)| place.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_a_file_system_that_is_not_the_machines_own() {
        let text = "\
20 1 8:1 / / rw - ext4 /dev/sda1 rw
21 20 8:2 / /boot rw - ext4 /dev/sda2 rw
22 20 0:5 / /dev rw - devtmpfs udev rw
23 20 8:3 / /home/me rw - xfs /dev/sda3 rw
24 20 253:0 / /mnt/retention rw - ext4 /dev/mapper/36000c29a rw
25 20 253:1 / /mnt/replicas rw - ext4 /dev/mapper/36000c29b rw
26 20 0:40 / /vmfs/volumes/nfs\\040one rw - nfs4 nas:/one rw
27 20 0:41 / /srv/old ro - ext4 /dev/sdx rw
28 20 0:42 / /srv/failed rw - ext4 /dev/sdy ro
29 20 0:43 / /srv/hidden rw - ext4 /dev/sdz rw
30 29 0:44 / /srv/hidden rw - tmpfs none rw
31 20 0:45 / /mnt/cd rw - iso9660 /dev/sr0 rw
";
        let found = stores(&mounts::parse(text), Path::new("/mnt/retention"));
        assert_eq!(found, ["/mnt/replicas", "/vmfs/volumes/nfs one"].map(PathBuf::from));
    }
}
