//! Letting go of an item: its disks stay as they are, and everything else of it is removed.

use super::files::Phase;
use super::{Entry, blocking};
use crate::config::Item;
use crate::item::ItemHandle;
use crate::master_target::MasterTarget;
use block_device::{Inventory, ScsiId, System, is_device, multipath, partitions};
use control_api::Failure;
use replication_receiver::Stage;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// How often partition maps are removed, and the pause in between: udev makes them anew when a disk is closed.
const ATTEMPTS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(500);

impl MasterTarget {
    /// Lets go of an item that was taken; what came of it. It goes on when nobody waits for it any more.
    pub(crate) async fn release(self: &Arc<Self>, name: &str) -> Result<String, Failure> {
        let (target, item) = (self.clone(), name.to_owned());
        let releasing = tokio::spawn(async move { target.release_now(&item).await });
        releasing.await.unwrap_or_else(|error| Err(defect(name, &error)))
    }

    /// Whether an item has left, or is leaving.
    pub(crate) fn has_left(&self, name: &str) -> bool {
        self.items.find(name).is_none()
    }

    async fn release_now(self: &Arc<Self>, name: &str) -> Result<String, Failure> {
        let _changing = self.items.changing.lock().await;
        let item = self.items.get(name)?;
        refuse_release(self, &item)?;
        let notes = self.let_go(&item).await?;
        Ok(with_notes(
            format!("{name} is released: its disks are as they are, its recovery points are gone"),
            &notes,
        ))
    }

    /// After a commit: an item that was taken leaves, one of the configuration stays in the list. What there is to know
    /// before its disks are detached.
    pub(crate) async fn leave_after_commit(
        self: &Arc<Self>,
        item: &Arc<ItemHandle>,
    ) -> Result<Vec<String>, Failure> {
        let (target, leaves) = (self.clone(), item.clone());
        let leaving = tokio::spawn(async move {
            let _changing = target.items.changing.lock().await;
            match leaves.config().taken && !target.has_left(leaves.name()) {
                true => target.let_go(&leaves).await,
                false => {
                    let config = leaves.config();
                    blocking(leaves.name(), move || Ok(release_disks(&config))).await
                }
            }
        });
        leaving.await.unwrap_or_else(|error| Err(defect(item.name(), &error)))
    }

    /// From the renaming on, the item has left, whatever happens.
    async fn let_go(self: &Arc<Self>, item: &Arc<ItemHandle>) -> Result<Vec<String>, Failure> {
        let (name, config) = (item.name().to_owned(), item.config());
        for test in self.test_failovers.all().into_iter().filter(|test| test.item == name) {
            // It ended by itself, or it ends now.
            let _ = self.test_failovers.stop(test.id).await;
        }
        if let Some(entry) = self.items.take_out(&name) {
            entry.shut_down().await;
        }
        let files = self.items.files.clone();
        let renamed = name.clone();
        if let Err(failure) =
            blocking(&name, move || files.rename(&renamed, Phase::There, Phase::Leaving)).await
        {
            self.items.add(Entry::start(Item::clone(&config), false, self.items.surroundings.clone()));
            return Err(failure);
        }
        self.hub.hurry();
        let released = blocking(&name, move || Ok(release_disks(&config))).await;
        let mut notes = released?;
        if let Err(failure) = self.items.remove_rest(&name).await {
            notes.push(failure.to_string());
        }
        tracing::info!(item = name, "the item has left");
        Ok(notes)
    }
}

fn refuse_release(target: &MasterTarget, item: &ItemHandle) -> Result<(), Failure> {
    let name = item.name();
    let refuse = |why: String, next: &str| Err(Failure::new(name, "it is not released", why, next));
    if !item.config().taken {
        let file = target.items.configuration.display();
        return refuse(format!("it stands in {file}"), "remove it there, and restart mtd");
    }
    let tests = target.test_failovers.all();
    if let Some(test) = tests.iter().find(|test| test.item == name) {
        let next = format!("end that first: mtctl test-failover stop {}", test.id);
        return refuse(format!("test failover {} shows one of its recovery points", test.id), &next);
    }
    if matches!(item.snapshot().stage(), Some(Stage::FailingOver { .. })) {
        return refuse(
            "a recovery point is being written to its disks".to_owned(),
            "wait until that is done",
        );
    }
    Ok(())
}

fn defect(name: &str, error: &tokio::task::JoinError) -> Failure {
    let why = format!("a defect in the master target: {error}");
    Failure::new(name, "it was not done", why, "report it with the log")
}

/// An outcome, and what there is to know beside it.
pub(crate) fn with_notes(outcome: String, notes: &[String]) -> String {
    std::iter::once(outcome).chain(notes.iter().cloned()).collect::<Vec<_>>().join("; ")
}

/// Removes the partition maps and multipath maps of the disks of an item that is closed; what there is to know before
/// they are detached.
pub(super) fn release_disks(item: &Item) -> Vec<String> {
    let system = System::host();
    let devices = item.disks.iter().filter(|disk| is_device(&disk.target));
    devices.flat_map(|disk| release_disk(&system, &disk.target.display().to_string())).collect()
}

fn release_disk(system: &System, name: &str) -> Option<String> {
    let inventory = Inventory::read(system);
    // Loop devices, logical volumes and disks that are gone have nothing of this.
    let disk = inventory.find(system, name).ok()?;
    for attempt in 1..=ATTEMPTS {
        if let Err(error) = partitions::unmap(system, disk) {
            return Some(format!(
                "before {name} is detached, free its partitions and type mtctl partitions {name} --unmap: {error}"
            ));
        }
        if attempt < ATTEMPTS {
            thread::sleep(PAUSE);
        }
        if partitions::mapped(system, disk).is_empty() && attempt > 1 {
            break;
        }
    }
    let id: &ScsiId = disk.scsi_id.as_ref()?;
    let error = multipath::flush(system, id).err()?;
    Some(format!("before {name} is detached, type mtctl disks --unmap {id}: {error}"))
}
