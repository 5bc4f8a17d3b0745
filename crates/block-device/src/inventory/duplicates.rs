//! Disks that cannot be told apart by their SCSI id, and disks that were taken for one.
//!
//! Two SCSI devices with one id are two paths to one disk, or copies of one disk: virtual machines that were cloned
//! from a template with the `ddb.uuid` of its VMDKs. Writing to the wrong copy destroys data, so what is not surely a
//! pair of paths counts as copies. Paths come over different host adapters, have one channel, target and unit, and
//! tell one size and serial number. VMware attaches a VMDK to a machine once, so there two devices with one id are always
//! copies.

use super::{AttachedDisk, DiskPath, Inventory, Role, Use};
use crate::scsi_id::ScsiId;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// SCSI devices that have one SCSI id and should not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Duplicates {
    /// The id.
    pub id: ScsiId,
    /// Kernel names of all paths that tell it.
    pub disks: Vec<String>,
    /// What they are.
    #[serde(flatten)]
    pub kind: DuplicateKind,
}

/// What SCSI devices with one id are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum DuplicateKind {
    /// Different disks, copies of each other.
    Clones {
        /// By what they are told apart.
        difference: String,
    },
    /// Paths to one disk that multipath has not joined.
    UnjoinedPaths,
    /// Different disks that multipath has joined: what is written goes to one of them or the other.
    JoinedClones {
        /// The map.
        map: String,
        /// By what they are told apart.
        difference: String,
    },
}

impl fmt::Display for Duplicates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, disks) = (&self.id, self.disks.join(", "));
        match &self.kind {
            DuplicateKind::Clones { difference } => write!(
                f,
                "{disks} are different disks with one SCSI id {id} ({difference}): shut the machine down, give each \
                 VMDK a ddb.uuid of its own and start it"
            ),
            DuplicateKind::UnjoinedPaths => write!(
                f,
                "{disks} are paths to one disk {id} that multipath has not joined: mtctl disks --map {id} joins them"
            ),
            DuplicateKind::JoinedClones { map, difference } => write!(
                f,
                "DANGER: multipath has joined {disks} into {map}, but they are different disks with one SCSI id \
                 ({difference}): write nothing to it, shut the machine down, give each VMDK a ddb.uuid of its own and \
                 start it"
            ),
        }
    }
}

impl Inventory {
    /// SCSI ids that several disks have, and maps over different disks; the most dangerous first.
    pub fn duplicates(&self) -> Vec<Duplicates> {
        let mut found: Vec<Duplicates> = self.disks.iter().filter_map(joined_clones).collect();
        for (id, group) in self.same_ids() {
            let disks: Vec<&AttachedDisk> = group.iter().map(|n| &self.disks[*n]).collect();
            let kind = match difference_of_disks(&disks) {
                Some(difference) => DuplicateKind::Clones { difference },
                None => DuplicateKind::UnjoinedPaths,
            };
            let names = disks.iter().flat_map(|disk| disk.paths.iter().map(|path| path.name.clone()));
            found.push(Duplicates { id: id.clone(), disks: names.collect(), kind });
        }
        found
    }

    /// Whether this disk, over any of its paths, is one of several that cannot be told apart.
    pub fn duplicates_of(&self, disk: &AttachedDisk) -> Option<Duplicates> {
        let is_path = |name: &String| disk.paths.iter().any(|path| path.name == *name);
        self.duplicates().into_iter().find(|found| found.disks.iter().any(is_path))
    }

    /// Places in the list of disks that have one SCSI id, where there are several.
    fn same_ids(&self) -> BTreeMap<&ScsiId, Vec<usize>> {
        let mut by_id: BTreeMap<&ScsiId, Vec<usize>> = BTreeMap::new();
        for (n, disk) in self.disks.iter().enumerate() {
            if let Some(id) = &disk.scsi_id {
                by_id.entry(id).or_default().push(n);
            }
        }
        by_id.retain(|_, group| group.len() > 1);
        by_id
    }

    /// Groups of places in the list of disks that are one disk over several paths.
    fn one_disk_each(&self) -> Vec<Vec<usize>> {
        let groups = self.same_ids().into_values();
        let is_one = |group: &Vec<usize>| {
            let disks: Vec<&AttachedDisk> = group.iter().map(|n| &self.disks[*n]).collect();
            difference_of_disks(&disks).is_none()
        };
        groups.filter(is_one).collect()
    }

    /// What uses a disk over one path uses it over all: a path that multipath has not joined is not free while the
    /// map, or another path, is in use.
    pub(super) fn share_uses(&mut self) {
        for group in self.one_disk_each() {
            let mut shared: Vec<Use> = Vec::new();
            for disk in group.iter().map(|n| &self.disks[*n]) {
                let new = disk.uses.iter().filter(|used| !shared.contains(used));
                let new: Vec<Use> = new.cloned().collect();
                shared.extend(new);
            }
            let map = group.iter().find_map(|n| self.disks[*n].map.as_ref()).map(|map| map.name.clone());
            for n in &group {
                let disk = &mut self.disks[*n];
                disk.uses = shared.clone();
                if let Some(map) = map.clone().filter(|_| disk.map.is_none()) {
                    disk.uses.push(Use::PathOf { map });
                }
                if disk.role == Role::Free && !disk.uses.is_empty() {
                    disk.role = Role::Used;
                }
            }
            self.share_roles(&group);
        }
    }

    /// What a disk is for over one path it is for over all.
    pub(super) fn share_target_roles(&mut self) {
        for group in self.one_disk_each() {
            self.share_roles(&group);
        }
    }

    fn share_roles(&mut self, group: &[usize]) {
        let roles = group.iter().map(|n| self.disks[*n].role);
        let purposes = [Role::System, Role::Retention, Role::Target];
        let purpose = purposes.into_iter().find(|purpose| roles.clone().any(|role| role == *purpose));
        if let Some(purpose) = purpose {
            group.iter().for_each(|n| self.disks[*n].role = purpose);
        }
    }
}

fn difference_of_disks(disks: &[&AttachedDisk]) -> Option<String> {
    let (first, rest) = disks.split_first()?;
    let of_vmware = disks.iter().find(|disk| disk.is_vmware()).map(|disk| over_one_path(disk));
    let paths: Vec<&DiskPath> = disks.iter().flat_map(|disk| &disk.paths).collect();
    let serials = rest.iter().find_map(|other| match (&first.serial, &other.serial) {
        (Some(one), Some(two)) if one != two => Some(format!("serial numbers {one} and {two}")),
        _ => None,
    });
    let sectors = rest.iter().find(|other| other.logical_sector != first.logical_sector);
    let sectors = sectors
        .map(|other| format!("sectors of {} and {} bytes", first.logical_sector, other.logical_sector));
    serials.or(sectors).or_else(|| difference_of_paths(&paths, true)).or(of_vmware)
}

fn over_one_path(disk: &AttachedDisk) -> String {
    format!("{} is a VMware virtual disk, which has one path only", disk.name)
}

/// A map over different disks. Arrays show one disk at several targets of one adapter, VMware does not.
fn joined_clones(disk: &AttachedDisk) -> Option<Duplicates> {
    let map = disk.map.as_ref()?;
    let paths: Vec<&DiskPath> = disk.paths.iter().collect();
    let several = disk.is_vmware() && paths.len() > 1;
    let difference =
        difference_of_paths(&paths, disk.is_vmware()).or_else(|| several.then(|| over_one_path(disk)))?;
    Some(Duplicates {
        id: disk.scsi_id.clone().or_else(|| ScsiId::parse(&map.wwid))?,
        disks: paths.iter().map(|path| path.name.clone()).collect(),
        kind: DuplicateKind::JoinedClones { map: map.name.clone(), difference },
    })
}

/// Why these cannot be paths to one disk; `one_target` where a disk has the same target on every adapter.
fn difference_of_paths(paths: &[&DiskPath], one_target: bool) -> Option<String> {
    let pairs =
        paths.iter().enumerate().flat_map(|(n, one)| paths[n + 1..].iter().map(move |two| (one, two)));
    pairs.into_iter().find_map(|(one, two)| {
        if one.size != two.size {
            return Some(format!("sizes {} and {}", one.size, two.size));
        }
        let (Some(here), Some(there)) = (one.address, two.address) else { return None };
        let units = here.lun != there.lun;
        let targets = one_target && (here.channel, here.target) != (there.channel, there.target);
        let adapter = one_target && here.host == there.host;
        (units || targets || adapter).then(|| format!("SCSI addresses {here} and {there}"))
    })
}
