//! What an item is stored in: its journal and its target disks.

use crate::{Error, Result};
use disk::{Disk, Folder};
use journal::{Identity, Journal, Options, RecoveryReport};
use std::sync::Arc;

/// The journal and the target disks of one item, at one and the same batch boundary.
pub struct Storage {
    identity: Identity,
    journal: Arc<Journal>,
    disks: Vec<Arc<dyn Disk>>,
}

impl Storage {
    /// A new item: an empty journal in `folder`.
    pub fn create(
        folder: Arc<dyn Folder>,
        identity: Identity,
        disks: Vec<Arc<dyn Disk>>,
        options: Options,
    ) -> Result<Storage> {
        check_disks(&identity, &disks)?;
        let journal = Arc::new(Journal::create(folder, &identity, options)?);
        Ok(Storage { identity, journal, disks })
    }

    /// An item that exists. Whatever a crash left half applied is completed or undone before this returns.
    pub fn open(
        folder: Arc<dyn Folder>,
        identity: Identity,
        disks: Vec<Arc<dyn Disk>>,
        options: Options,
    ) -> Result<(Storage, RecoveryReport)> {
        check_disks(&identity, &disks)?;
        let journal = Arc::new(Journal::open(folder, &identity, options)?);
        let report = journal::recover(&journal, &disks)?;
        Ok((Storage { identity, journal, disks }, report))
    }

    /// The item's name and disks.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The journal.
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// The target disks, in the order of the identity.
    pub fn disks(&self) -> &[Arc<dyn Disk>] {
        &self.disks
    }
}

fn check_disks(identity: &Identity, disks: &[Arc<dyn Disk>]) -> Result<()> {
    if identity.disks.len() != disks.len() {
        return Err(Error::WrongCount {
            item: identity.item.clone(),
            found: disks.len(),
            wanted: identity.disks.len(),
        });
    }
    for (known, disk) in identity.disks.iter().zip(disks) {
        if known.size != disk.size() {
            return Err(Error::WrongSize {
                item: identity.item.clone(),
                disk: known.id.clone(),
                found: disk.size().0,
                wanted: known.size.0,
            });
        }
    }
    Ok(())
}
