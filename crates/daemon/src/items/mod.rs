//! The replicated items of the master target: those of `mtd.toml`, and those that were taken while it runs.
//!
//! An item that was taken stands in a file of its own in the state folder. What it is called tells how far the item has
//! come, so that a crash leaves an item wholly there or wholly not:
//!
//! ```text
//! STATE/items/web01.taking     it is being taken: what was made of it is removed at the next start
//! STATE/items/web01.toml       it is there
//! STATE/items/web01.leaving    it has left: what remains of it is removed at the next start
//! ```
//!
//! Disks are made, and the journal is, while the first of them stands; the second is written when the item is open, and
//! becomes the third by renaming. One thing at a time is taken, let go of or changed. The list itself is locked only to be
//! read or changed, never while something is waited for.
//!
//! `check` has the rules for what can be taken, `take`, `leave` and `policy` do it, and `remains` removes what a crash or a
//! retention volume that was away has left.

mod check;
mod files;
mod leave;
mod policy;
mod remains;
mod take;
#[cfg(test)]
mod tests;

pub(crate) use leave::with_notes;
pub(crate) use policy::{PolicyChange, Portion, told};
pub(crate) use remains::settle;
pub(crate) use take::Steps;

use crate::config::{self, Policy, Unreadable};
use crate::item::{ItemHandle, Order, Surroundings, is_committed};
use control_api::time::Time;
use control_api::{Alert, AlertKind, Failure, ItemState, ItemStatus};
use files::{Files, Phase};
use policy::Given;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::JoinHandle;

/// All items.
pub(crate) struct Items {
    list: RwLock<Vec<Entry>>,
    /// Items whose files cannot be used; they are left alone.
    unreadable: Vec<Unreadable>,
    /// When that was found out.
    since: Time,
    files: Files,
    /// Where items that were not taken stand.
    configuration: PathBuf,
    standard: Policy,
    surroundings: Surroundings,
    /// Held while an item is taken, let go of or changed.
    changing: Mutex<()>,
    given: std::sync::Mutex<Given>,
}

struct Entry {
    item: Arc<ItemHandle>,
    actor: JoinHandle<()>,
}

impl Items {
    /// Starts every item of a configuration. Those that were committed have left, and are not started.
    pub(crate) fn start(config: &config::Config, surroundings: Surroundings) -> Items {
        let files = Files::new(&config.state_folder);
        let has_left = |item: &&config::Item| {
            item.taken
                && is_committed(&surroundings.place, &item.name)
                && files.rename(&item.name, Phase::There, Phase::Leaving).is_ok()
        };
        let staying = config.items.iter().filter(|item| !has_left(item));
        let list = staying.map(|item| Entry::start(item.clone(), false, surroundings.clone())).collect();
        for Unreadable { item, error } in &config.unreadable {
            tracing::error!(%item, "the item is left alone: {error}");
        }
        Items {
            list: RwLock::new(list),
            unreadable: config.unreadable.clone(),
            since: surroundings.clock.now(),
            files,
            configuration: config.file.clone(),
            standard: config.standard.clone(),
            surroundings,
            changing: Mutex::default(),
            given: std::sync::Mutex::default(),
        }
    }

    /// What the configuration server last gave.
    fn given(&self) -> std::sync::MutexGuard<'_, Given> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn list(&self) -> RwLockReadGuard<'_, Vec<Entry>> {
        self.list.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// All items, in the order in which they came.
    pub(crate) fn all(&self) -> Vec<Arc<ItemHandle>> {
        self.list().iter().map(|entry| entry.item.clone()).collect()
    }

    pub(crate) fn find(&self, name: &str) -> Option<Arc<ItemHandle>> {
        self.list().iter().map(|entry| &entry.item).find(|item| item.name() == name).cloned()
    }

    /// The item of this name, which somebody wants something of.
    pub(crate) fn get(&self, name: &str) -> Result<Arc<ItemHandle>, Failure> {
        if let Some(unreadable) = self.unreadable.iter().find(|unreadable| unreadable.item == name) {
            let next = "mend the file and restart mtd, or remove the file";
            return Err(Failure::new(name, "the item is left alone", &unreadable.error, next));
        }
        self.find(name).ok_or_else(|| {
            let known: Vec<String> = self.all().iter().map(|item| item.name().to_owned()).collect();
            let why = match known.as_slice() {
                [] => "there are no items".to_string(),
                known => format!("the items are {}", known.join(", ")),
            };
            let next = "give one of those, or have it taken: mtctl protect, or an [[item]] in mtd.toml";
            Failure::new(name, "there is no such item", why, next)
        })
    }

    fn configs(&self) -> Vec<config::Item> {
        self.all().iter().map(|item| config::Item::clone(&item.config())).collect()
    }

    fn add(&self, entry: Entry) {
        self.list.write().unwrap_or_else(PoisonError::into_inner).push(entry);
    }

    fn take_out(&self, name: &str) -> Option<Entry> {
        let mut list = self.list.write().unwrap_or_else(PoisonError::into_inner);
        let at = list.iter().position(|entry| entry.item.name() == name)?;
        Some(list.remove(at))
    }

    /// Items that are left alone, as the local API shows items.
    pub(crate) fn left_alone(&self) -> Vec<ItemStatus> {
        let status = |Unreadable { item, error }: &Unreadable| {
            let message =
                format!("it is left alone: {error}; mend the file and restart mtd, or remove the file");
            let alert = Alert { kind: AlertKind::Fenced, since: self.since, message: message.clone() };
            ItemStatus {
                detail: Some(message),
                taken: true,
                alerts: vec![alert],
                ..ItemStatus::new(item, ItemState::Fenced)
            }
        };
        self.unreadable.iter().map(status).collect()
    }

    /// Has every item finish what is in flight and close, all at the same time; what is being taken is waited for, and
    /// nothing is taken any more.
    pub(crate) async fn shut_down(&self) -> MutexGuard<'_, ()> {
        let changing = self.changing.lock().await;
        for item in self.all() {
            // An item that is gone already needs no order.
            let _ = item.order(Order::ShutDown).await;
        }
        let list = std::mem::take(&mut *self.list.write().unwrap_or_else(PoisonError::into_inner));
        for entry in list {
            let _ = entry.actor.await;
        }
        changing
    }
}

impl Entry {
    fn start(item: config::Item, blank: bool, surroundings: Surroundings) -> Entry {
        let (item, actor) = ItemHandle::start(item, blank, surroundings);
        Entry { item: Arc::new(item), actor }
    }

    /// Closes the item.
    async fn shut_down(self) {
        let _ = self.item.order(Order::ShutDown).await;
        let _ = self.actor.await;
    }
}

/// Runs what reads or writes disks on a thread that may block.
async fn blocking<T: Send + 'static>(
    item: &str,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        let why = format!("a defect in the master target: {error}");
        Err(Failure::new(item, "it was not done", why, "report it with the log"))
    })
}
