//! The disks that items write to, and the folders in which they keep replicas.

use crate::config::Config;
use block_device::inventory::{AttachedDisk, Look};
use block_device::{Inventory, System, is_device};
use control_api::agent::{Datastore, HostDisk};
use registration::link::{Look as LookAround, datastores, host_disks};
use std::collections::HashMap;
use std::path::PathBuf;

/// What is looked for.
pub(super) struct Wanted {
    look: Look,
    /// Targets that are devices, and their items.
    devices: Vec<(String, String)>,
    /// Targets that are files.
    files: Vec<PathBuf>,
}

impl Wanted {
    pub(super) fn new(config: &Config) -> Wanted {
        let look = Look { retention: config.retention.folder.clone(), ..Look::default() };
        let (mut devices, mut files) = (Vec::new(), Vec::new());
        for item in &config.items {
            for disk in &item.disks {
                match is_device(&disk.target) {
                    true => devices.push((disk.target.display().to_string(), item.name.clone())),
                    false => files.push(disk.target.clone()),
                }
            }
        }
        Wanted { look, devices, files }
    }
}

impl LookAround for Wanted {
    fn disks(&self, system: &System) -> Vec<HostDisk> {
        let mut inventory = Inventory::read_with(system, &self.look);
        let names: Vec<&str> = self.devices.iter().map(|(name, _)| name.as_str()).collect();
        inventory.mark_targets(system, &names);
        let found = self.devices.iter().filter_map(|(name, item)| {
            let disk = inventory.find(system, name).ok()?;
            Some((disk.name.clone(), format!("target of {item}")))
        });
        let targets: HashMap<String, String> = found.collect();
        host_disks(&inventory, |disk: &AttachedDisk| targets.get(&disk.name).cloned())
    }

    fn datastores(&self, system: &System) -> Vec<Datastore> {
        datastores(system, self.files.iter().cloned())
    }
}
