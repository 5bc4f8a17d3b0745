//! Taking an item.

use super::check::Scene;
use super::files::Phase;
use super::{Entry, Items, blocking};
use crate::config::{self, Item};
use crate::item::{Condition, Snapshot, open_target};
use crate::local::stopped;
use crate::master_target::MasterTarget;
use control_api::Failure;
use control_api::agent::ItemOrder;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::mpsc;

/// What a job that takes an item does, by name.
pub(crate) struct Steps;

impl Steps {
    pub(crate) const CHECK: &str = "Check";
    pub(crate) const MAKE: &str = "Make the disks";
    pub(crate) const OPEN: &str = "Open the item";
}

impl MasterTarget {
    /// Whether an item can be taken. Nothing is changed, but that what an earlier attempt has left is removed.
    pub(crate) async fn check_item(&self, order: &ItemOrder) -> Result<(), Failure> {
        let _changing = self.items.changing.lock().await;
        self.items.remove_remains(&order.name).await?;
        let (scene, order) = (Scene::of(self), order.clone());
        blocking(&order.name.clone(), move || scene.check(&order)).await.map(drop)
    }

    /// Whether an item is here as this order has it.
    pub(crate) fn has_taken(&self, order: &ItemOrder) -> bool {
        let there = self.items.find(&order.name).map(|item| item.config()).filter(|item| item.taken);
        let wanted = config::taken::parse(
            "the order",
            &config::taken::compose_order(order),
            &self.items.standard,
            &[],
        );
        there.zip(wanted.ok()).is_some_and(|(there, wanted)| *there == kept(wanted))
    }

    /// Takes an item, and tells each step that begins. It goes on when nobody waits for it any more.
    pub(crate) async fn take(
        self: &Arc<Self>,
        order: ItemOrder,
        step: mpsc::Sender<&'static str>,
    ) -> Result<String, Failure> {
        let (target, name) = (self.clone(), order.name.clone());
        let taking = tokio::spawn(async move { target.take_now(order, step).await });
        taking.await.unwrap_or_else(|error| {
            let why = format!("a defect in the master target: {error}");
            Err(Failure::new(name, "it is not taken", why, "report it with the log"))
        })
    }

    async fn take_now(
        self: &Arc<Self>,
        order: ItemOrder,
        step: mpsc::Sender<&'static str>,
    ) -> Result<String, Failure> {
        let _changing = self.items.changing.lock().await;
        let name = order.name.clone();
        self.items.remove_remains(&name).await?;
        let scene = Scene::of(self);
        let wanted = blocking(&name, move || scene.check(&order)).await?;
        let (files, item) = (self.items.files.clone(), wanted.clone());
        let standard = self.items.standard.clone();
        blocking(&name, move || files.write(&item, &standard, Phase::Taking)).await?;
        match self.items.make_and_open(wanted, step).await {
            Ok(entry) => {
                let outcome = format!("{name} is taken: {}", entry.item.snapshot().state());
                self.items.add(entry);
                self.hub.hurry();
                tracing::info!(item = name, "{outcome}");
                Ok(outcome)
            }
            Err(failure) => {
                // What cannot be removed now is removed later.
                if let Err(error) = self.items.remove_remains(&name).await {
                    tracing::warn!(item = name, "what was made of the item is not removed yet: {error}");
                }
                Err(failure)
            }
        }
    }
}

impl Items {
    /// Makes the disks that are new and opens the item; it is there when this returns.
    async fn make_and_open(&self, wanted: Item, step: mpsc::Sender<&'static str>) -> Result<Entry, Failure> {
        let name = wanted.name.clone();
        let (new, blank) = (wanted.disks.iter().any(is_new), wanted.disks.iter().all(is_new));
        if new {
            let _ = step.try_send(Steps::MAKE);
            let (retention, wanted) = (self.surroundings.place.volume_place().folder, wanted.clone());
            blocking(&name, move || make(&wanted, &retention)).await?;
        }
        let _ = step.try_send(Steps::OPEN);
        let kept = kept(wanted);
        let entry = Entry::start(kept.clone(), blank, self.surroundings.clone());
        let mut watch = entry.item.watch();
        let started =
            watch.wait_for(|snapshot| !matches!(snapshot.condition, Condition::Starting { .. })).await;
        let snapshot = started.map_or_else(|_| entry.item.snapshot(), |snapshot| Snapshot::clone(&snapshot));
        let opened = match &snapshot.condition {
            Condition::Open(_) => {
                let (files, standard) = (self.files.clone(), self.standard.clone());
                let there = move || {
                    files.write(&kept, &standard, Phase::There)?;
                    files.remove(&kept.name, Phase::Taking)
                };
                blocking(&name, there).await
            }
            closed => Err(stopped(&entry.item, "it is not taken", closed)),
        };
        match opened {
            Ok(()) => Ok(entry),
            Err(failure) => {
                entry.shut_down().await;
                Err(failure)
            }
        }
    }
}

/// Whether a disk of an order has to be made.
pub(super) fn is_new(disk: &config::Disk) -> bool {
    disk.size.is_some()
}

/// What is kept of an item: a disk that was made is never made again.
fn kept(mut item: Item) -> Item {
    for disk in item.disks.iter_mut().filter(|disk| is_new(disk)) {
        let format = config::Format::Vmdk(None);
        *disk = config::Disk {
            id: std::mem::take(&mut disk.id),
            target: std::mem::take(&mut disk.target),
            format,
            size: None,
            adapter: vmdk::AdapterType::LsiLogic,
            uuid: None,
        };
    }
    item
}

fn make(item: &Item, retention: &Path) -> Result<(), Failure> {
    for disk in item.disks.iter().filter(|disk| is_new(disk)) {
        let made = open_target(disk, retention).and_then(|target| match target.image {
            Some(image) => Ok(image.close()?),
            None => Ok(()),
        });
        made.map_err(|problem| {
            let next = "put that right, or choose another folder, then order it again";
            Failure::new(disk.target.display().to_string(), "the disk cannot be made", problem.why, next)
        })?;
    }
    Ok(())
}
