//! Removing what is left of items that were not taken to the end, or that have left.

use super::files::{Files, Phase};
use super::leave::release_disks;
use super::take::is_new;
use super::{Items, blocking};
use crate::config::{Item, Policy};
use crate::item::{Problem, forget};
use crate::master_target::MasterTarget;
use block_device::durable_file;
use control_api::Failure;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Removes what an earlier daemon has left, as soon as the retention volume can be used.
pub(crate) async fn settle(target: Arc<MasterTarget>) {
    let mut volume = target.volume.clone();
    while !(volume.now().is_usable() && target.items.settle().await) {
        volume.changes().await;
    }
}

impl Items {
    /// True when nothing is left.
    async fn settle(&self) -> bool {
        let _changing = self.changing.lock().await;
        let mut done = true;
        for name in [Phase::Taking, Phase::Leaving].into_iter().flat_map(|phase| self.files.all(phase)) {
            if let Err(failure) = self.remove_remains(&name).await {
                tracing::warn!("{failure}");
                done = false;
            }
        }
        done
    }

    /// Removes what is left of an item that was not taken to the end, or that has left.
    pub(super) async fn remove_remains(&self, name: &str) -> Result<(), Failure> {
        self.clear(name, true).await
    }

    /// The same of an item whose disks were released.
    pub(super) async fn remove_rest(&self, name: &str) -> Result<(), Failure> {
        self.clear(name, false).await
    }

    async fn clear(&self, name: &str, disks: bool) -> Result<(), Failure> {
        let (files, standard, item) = (self.files.clone(), self.standard.clone(), name.to_owned());
        let place = self.surroundings.place.clone();
        blocking(name, move || {
            if files.has(&item, Phase::There) {
                // It was taken to the end.
                return files.remove(&item, Phase::Taking);
            }
            let phases = [Phase::Taking, Phase::Leaving].into_iter();
            for phase in phases.filter(|phase| files.has(&item, *phase)) {
                if disks {
                    let_disks_go(&files, &standard, &item, phase)?;
                }
                forget(&place, &item).map_err(|problem| unforgotten(&item, &problem))?;
                files.remove(&item, phase)?;
            }
            Ok(())
        })
        .await
    }
}

fn let_disks_go(files: &Files, standard: &Policy, name: &str, phase: Phase) -> Result<(), Failure> {
    match files.read(name, phase, standard) {
        Ok(item) if phase == Phase::Taking => remove_disks(&item)?,
        Ok(item) => release_disks(&item).iter().for_each(|note| tracing::warn!(item = name, "{note}")),
        // What cannot be read names no disks.
        Err(error) => tracing::error!(item = name, "what is left of the item: {error}"),
    }
    Ok(())
}

fn unforgotten(name: &str, problem: &Problem) -> Failure {
    let next = "they are removed as soon as the retention volume can be used: mtctl retention status";
    Failure::new(name, "its recovery points are not removed yet", problem, next)
}

/// Removes the files of disks that were to be made: before, none of them was there.
fn remove_disks(item: &Item) -> Result<(), Failure> {
    for disk in item.disks.iter().filter(|disk| is_new(disk)) {
        let Some(folder) = disk.target.parent() else { continue };
        for file in files_of(&disk.target) {
            durable_file::remove(&file).map_err(|error| {
                let next = "remove it, then order it again";
                Failure::new(file.display().to_string(), "it cannot be removed", error, next)
            })?;
        }
        tracing::info!("removed what there was of {} in {}", disk.id, folder.display());
    }
    Ok(())
}

/// The files in the folder of a VMDK that belong to it, by their names.
pub(super) fn files_of(image: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(stem)) = (image.parent(), image.file_stem().and_then(|stem| stem.to_str()))
    else {
        return Vec::new();
    };
    let belongs = |name: &str| {
        let rest = name.strip_prefix(stem).and_then(|rest| rest.strip_suffix(".vmdk"));
        rest.is_some_and(|rest| {
            let number = rest.strip_prefix("-f").or(rest.strip_prefix("-s"));
            let is_number =
                |digits: &str| digits.len() >= 3 && digits.bytes().all(|byte| byte.is_ascii_digit());
            rest.is_empty() || rest == "-flat" || number.is_some_and(is_number)
        })
    };
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter(|file| file.file_name().to_str().is_some_and(belongs)).map(|file| file.path()).collect()
}
