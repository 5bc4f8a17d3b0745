//! Disks and datastores, as they were a moment ago.
//!
//! Looking at them reads from every disk, and one that hangs takes as long as it likes. So a thread of its own looks, when
//! the kernel says that a disk came or went, and from time to time; a heartbeat takes what it found last.

use super::Hub;
use block_device::System;
use block_device::inventory::Changes;
use control_api::agent::{Datastore, HostDisk};
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

/// What is looked at.
pub trait Look: Send + 'static {
    /// The disks of the machine.
    fn disks(&self, system: &System) -> Vec<HostDisk>;
    /// The folders in which it keeps replicas.
    fn datastores(&self, system: &System) -> Vec<Datastore>;
}

/// What the thread found; it ends with this.
pub struct Surroundings {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    found: Mutex<Option<Found>>,
    first: Condvar,
    over: AtomicBool,
}

#[derive(Clone, Default)]
struct Found {
    disks: Vec<HostDisk>,
    datastores: Vec<Datastore>,
}

impl Surroundings {
    /// Starts to look. Other disks than before are told at once.
    pub fn watch(look: impl Look, hub: Hub) -> Surroundings {
        let shared = Arc::new(Shared::default());
        let looking = shared.clone();
        let thread = std::thread::Builder::new().name("link surroundings".to_owned());
        if let Err(error) = thread.spawn(move || looking.run(&look, &hub)) {
            tracing::error!("the configuration server is not told of disks: {error}");
        }
        Surroundings { shared }
    }

    /// What was found last.
    pub fn found(&self) -> (Vec<HostDisk>, Vec<Datastore>) {
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
    fn run(&self, look: &impl Look, hub: &Hub) {
        let system = System::host();
        let mut changes = Changes::listen(&system);
        while !self.is_over() {
            let disks = look.disks(&system);
            let looked = Instant::now();
            while !self.is_over() {
                self.publish(Found { disks: disks.clone(), datastores: look.datastores(&system) }, hub);
                if self.changes_within(DATASTORES_EVERY, &mut changes) || looked.elapsed() >= DISKS_EVERY {
                    break;
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn changes_within(&self, time: Duration, changes: &mut Changes) -> bool {
        let end = Instant::now() + time;
        while Instant::now() < end && !self.is_over() {
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
