//! Disks and datastores, as they were a moment ago.
//!
//! Looking at them reads from every disk, and one that hangs takes as long as it likes. So a thread of its own looks, when
//! the kernel says that a disk came or went, and from time to time; a heartbeat takes what it found last.

use crate::config::Config;
use block_device::inventory::{AttachedDisk, Changes, Look};
use block_device::{Inventory, System, is_device};
use control_api::agent::{Datastore, HostDisk};
use registration::link::{Hub, datastores, host_disks};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often disks are looked at when no event says so, and datastores.
const DISKS_EVERY: Duration = Duration::from_secs(300);
const DATASTORES_EVERY: Duration = Duration::from_secs(60);
/// How long one wait for events lasts.
const LISTEN: Duration = Duration::from_secs(2);
/// How long the first heartbeat waits for the first look.
const FIRST_LOOK: Duration = Duration::from_secs(3);

/// What the thread found.
pub(super) struct Surroundings {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    found: Mutex<Option<Found>>,
    first: Condvar,
    over: AtomicBool,
}

#[derive(Clone, Default, PartialEq)]
struct Found {
    disks: Vec<HostDisk>,
    datastores: Vec<Datastore>,
}

/// What is looked for.
struct Wanted {
    look: Look,
    /// Targets that are devices, and their items.
    devices: Vec<(String, String)>,
    /// Targets that are files.
    files: Vec<PathBuf>,
}

impl Surroundings {
    /// Starts to look.
    pub(super) fn watch(config: &Config, hub: Hub) -> Surroundings {
        let shared = Arc::new(Shared::default());
        let (wanted, looking) = (Wanted::new(config), shared.clone());
        let thread = std::thread::Builder::new().name("link surroundings".to_owned());
        if let Err(error) = thread.spawn(move || looking.run(&wanted, &hub)) {
            tracing::error!("the configuration server is not told of disks: {error}");
        }
        Surroundings { shared }
    }

    /// What was found last.
    pub(super) fn found(&self) -> (Vec<HostDisk>, Vec<Datastore>) {
        let found = self.shared.found.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.shared.first.wait_timeout_while(found, FIRST_LOOK, |found| found.is_none());
        let found = waited.unwrap_or_else(PoisonError::into_inner).0.clone().unwrap_or_default();
        (found.disks, found.datastores)
    }
}

impl Drop for Surroundings {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn run(&self, wanted: &Wanted, hub: &Hub) {
        let system = System::host();
        let mut changes = Changes::listen(&system);
        while !self.over.load(Ordering::Relaxed) {
            let disks = wanted.disks(&system);
            let looked = Instant::now();
            while !self.over.load(Ordering::Relaxed) {
                self.publish(Found { disks: disks.clone(), datastores: wanted.datastores(&system) }, hub);
                if self.changes_within(DATASTORES_EVERY, &mut changes) || looked.elapsed() >= DISKS_EVERY {
                    break;
                }
            }
        }
    }

    fn changes_within(&self, time: Duration, changes: &mut Changes) -> bool {
        let end = Instant::now() + time;
        while Instant::now() < end && !self.over.load(Ordering::Relaxed) {
            if changes.wait(LISTEN) {
                return true;
            }
        }
        false
    }

    fn publish(&self, found: Found, hub: &Hub) {
        let mut known = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let other_disks = known.as_ref().is_some_and(|known| known.disks != found.disks);
        *known = Some(found);
        drop(known);
        self.first.notify_all();
        if other_disks {
            hub.hurry();
        }
    }
}

impl Wanted {
    fn new(config: &Config) -> Wanted {
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
