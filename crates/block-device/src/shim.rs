//! Temporary: stands for the inventory until it is merged. Remove this file and its line in lib.rs then.

use crate::error::{Error, Result};
use crate::inventory::{AttachedDisk, Inventory};
use crate::system::System;

impl Inventory {
    /// No disks yet.
    pub fn read(_system: &System) -> Inventory {
        Inventory::default()
    }

    /// The disk of a name or id.
    pub fn find(&self, _system: &System, name: &str) -> Result<&AttachedDisk> {
        self.disks
            .iter()
            .find(|disk| disk.name == name)
            .ok_or_else(|| Error::NoDisk { disk: name.to_owned() })
    }
}
