//! What can be taken.
//!
//! Each rule has its own words. The list is looked at, the retention volume, each target: it is opened as it will be, so
//! that whatever would be found out then is found out now, and closed without having been changed.

mod datastores;
mod existing;
mod retention;

use super::files::{Files, Phase};
use crate::config::{self, Item, Policy};
use crate::item::{Place, has_journal_of};
use crate::master_target::MasterTarget;
use crate::retention::{Report, VolumeState};
use control_api::Failure;
use control_api::agent::{ItemOrder, TargetOrder};
use std::path::PathBuf;
use std::sync::Arc;

/// What could not be done.
const WHAT: &str = "it is not taken";

/// What an order is held against.
pub(super) struct Scene {
    /// The items that there are.
    pub(super) items: Vec<Item>,
    /// Names of items that are left alone.
    pub(super) left_alone: Vec<String>,
    pub(super) standard: Policy,
    pub(super) files: Files,
    pub(super) state_folder: PathBuf,
    pub(super) place: Arc<Place>,
    pub(super) volume: VolumeState,
    pub(super) report: Report,
}

impl Scene {
    pub(super) fn of(target: &MasterTarget) -> Scene {
        let items = &target.items;
        Scene {
            items: items.configs(),
            left_alone: items.unreadable.iter().map(|unreadable| unreadable.item.clone()).collect(),
            standard: items.standard.clone(),
            files: items.files.clone(),
            state_folder: target.config.state_folder.clone(),
            place: items.surroundings.place.clone(),
            volume: target.volume.now(),
            report: target.retention.borrow().clone(),
        }
    }

    /// The item as it will be, with all that is needed to make its new disks.
    pub(super) fn check(&self, order: &ItemOrder) -> Result<Item, Failure> {
        order.check().map_err(|why| Failure::new(&order.name, WHAT, why, "correct the order"))?;
        self.check_name(&order.name)?;
        self.check_targets_are_free(order)?;
        let item = self.parse(order)?;
        self.check_left(&item.name)?;
        retention::check(&self.volume, &self.report, self.items.len())?;
        for (disk, ordered) in item.disks.iter().zip(&order.disks) {
            match &ordered.target {
                TargetOrder::New { .. } => datastores::check_new(disk)?,
                _ => existing::check(self, disk, ordered.size)?,
            }
        }
        datastores::check_room(&item)?;
        Ok(item)
    }

    fn check_name(&self, name: &str) -> Result<(), Failure> {
        if self.items.iter().any(|item| item.name == name) {
            let next =
                format!("give it another name, or let go of the other one first: mtctl release {name}");
            return Err(Failure::new(name, WHAT, "there is an item of this name already", next));
        }
        if self.left_alone.iter().any(|left| left == name) {
            let path = self.files.path(name, Phase::There);
            let why = format!("an item of this name is left alone, since {} is damaged", path.display());
            let next = "mend that file or remove it, restart mtd, and order it again";
            return Err(Failure::new(name, WHAT, why, next));
        }
        Ok(())
    }

    /// Two names may stand for one disk, so files are compared as well.
    fn check_targets_are_free(&self, order: &ItemOrder) -> Result<(), Failure> {
        let taken = self.items.iter().flat_map(|item| item.disks.iter().map(move |disk| (item, disk)));
        for ordered in &order.disks {
            let TargetOrder::Existing { target } = &ordered.target else { continue };
            let path = config::taken::target_path(target);
            let same = |disk: &config::Disk| disk.target == path || existing::is_same(&disk.target, &path);
            if let Some((item, disk)) = taken.clone().find(|(_, disk)| same(disk)) {
                return Err(Failure::new(
                    target,
                    format!("it cannot be the target of {} of {}", ordered.id, order.name),
                    format!("it is the target of {} of {}", disk.id, item.name),
                    "choose another target, or let go of that item first",
                ));
            }
        }
        Ok(())
    }

    fn parse(&self, order: &ItemOrder) -> Result<Item, Failure> {
        if order
            .disks
            .iter()
            .any(|disk| matches!(&disk.target, TargetOrder::New { format, .. } if format == "raw"))
        {
            let next = "choose a format of VMDK: vmfs, vmfs-thin, monolithicSparse, monolithicFlat";
            return Err(Failure::new(&order.name, WHAT, "a new disk is a VMDK, and raw is none", next));
        }
        let text = config::taken::compose_order(order);
        config::taken::parse("the order", &text, &self.standard, &self.items)
            .map_err(|error| Failure::new(&order.name, WHAT, error.message, "correct the order"))
    }

    /// What an item of this name has left on the retention volume is somebody's, since nobody removed it.
    fn check_left(&self, name: &str) -> Result<(), Failure> {
        if !has_journal_of(&self.place, name) {
            return Ok(());
        }
        let folder = self.place.volume_place().folder.join("items").join(name);
        let why = format!("recovery points of an item of this name are left in {}", folder.display());
        let next = "remove that folder if nobody needs them, or give the item another name";
        Err(Failure::new(name, WHAT, why, next))
    }
}
