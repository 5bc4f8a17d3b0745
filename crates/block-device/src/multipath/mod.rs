//! The multipath maps that a master target needs, made and removed by the machine's own `multipath` and `multipathd`.
//!
//! Which disks multipath may claim stands in one file that is this program's ([`set_wanted`]); all others are
//! blacklisted, so the disk that this machine runs from is never claimed. What the administrator's own files say
//! against that, [`conflicts`] names. [`map`] adds a disk and waits for its map, [`flush`] removes the map with its
//! partition maps and then takes the disk from the list. Both are judged by sysfs (a map with the uuid `mpath-<WWID>`),
//! not by what a program says: multipathd of 0.5.0 ends with status 0 whatever came of its command.
//!
//! What 0.5.0 and 0.8 differ in, and how both are served:
//!
//! - `multipathd reconfigure` answers `ok` when it is done, at once and goes on, or not within its own second
//!   (`timeout`). So only a refusal and a daemon that is not there are errors; the map is waited for.
//! - `multipath -f` wants a map's name in 0.5.0; `multipath -w` takes a WWID in both, while the disk is still excepted
//!   from the blacklist.
//! - A map that the configuration does not allow is removed by the daemon itself when it reads it again.

mod config;
mod fragment;
mod output;

pub use config::{Alias, Conflict};
pub(crate) use output::FORMAT;
pub use output::{ListedMap, PathState, paths as parse_paths, topology as parse_topology};

use crate::device_mapper::{self, MAX_NAME, Map, wait};
use crate::error::{Error, Result};
use crate::holder;
use crate::inventory::{AttachedDisk, DuplicateKind, Inventory, MultipathMap, Role, Use};
use crate::partitions;
use crate::scsi_id::ScsiId;
use crate::system::{PROGRAM_TIMEOUT, System};
use crate::usage;
use std::collections::BTreeSet;
use std::time::Duration;

/// How long a map has to appear or go after multipathd was told; it looks at every disk of the machine before.
const WAIT: Duration = if cfg!(test) { Duration::from_millis(300) } else { Duration::from_secs(15) };

/// multipath's list of disks that it has claimed before.
const WWIDS: &str = "/etc/multipath/wwids";

/// How often removing a map is tried: udev may have it open for a moment.
const ATTEMPTS: u32 = 3;

/// The settings of multipath.conf in a text: how many there are. For tests of the parser on what others wrote.
#[doc(hidden)]
pub fn count_settings(text: &str) -> usize {
    config::settings(text).len()
}

/// The disks that multipath is told to claim, in order.
///
/// # Errors
/// [`Error::ChangedByHand`] when the file is no longer as it was written.
pub fn wanted(system: &System) -> Result<Vec<ScsiId>> {
    fragment::read(system)
}

/// Writes which disks multipath is to claim; with none, the file is removed. multipathd reads it when it is told to,
/// which this does not do.
///
/// # Errors
/// [`Error::SystemDisk`] for a disk that this machine runs from, [`Error::ChangedByHand`] for a file that someone
/// changed, [`Error::File`] when it could not be written: then it is as it was.
pub fn set_wanted(system: &System, ids: &[ScsiId]) -> Result<()> {
    refuse_system_disks(&Inventory::read(system), ids)?;
    fragment::write(system, &fragment::lock(system)?, ids, false)
}

/// Settings elsewhere that work against what [`set_wanted`] writes, for the disks that are wanted now.
pub fn conflicts(system: &System) -> Vec<Conflict> {
    let wanted = wanted(system).unwrap_or_default();
    config::conflicts(system, &wanted)
}

/// Names other than its SCSI id that multipath's configuration gives to the map of a disk, whether it is wanted or not.
pub fn aliases(system: &System, id: &ScsiId) -> Vec<Alias> {
    config::aliases(system, id)
}

fn refuse_system_disks(inventory: &Inventory, ids: &[ScsiId]) -> Result<()> {
    let of_system = |disk: &&AttachedDisk| {
        disk.role == Role::System || disk.uses.iter().any(|one| matches!(one, Use::System { .. }))
    };
    let mut system_ids = inventory.disks.iter().filter(of_system).filter_map(|disk| disk.scsi_id.as_ref());
    match system_ids.find(|id| ids.contains(id)) {
        Some(id) => Err(Error::SystemDisk { id: id.to_string() }),
        None => Ok(()),
    }
}

/// The multipath map of a disk, as sysfs shows it.
pub fn find(system: &System, id: &ScsiId) -> Option<MultipathMap> {
    find_map(system, id).map(|map| of_map(id, map))
}

fn find_map(system: &System, id: &ScsiId) -> Option<Map> {
    let uuid = format!("mpath-{id}");
    device_mapper::maps(system).into_iter().find(|map| map.uuid.as_deref() == Some(&uuid))
}

fn of_map(id: &ScsiId, map: Map) -> MultipathMap {
    let Map { name, kernel_name, number, .. } = map;
    MultipathMap { name, kernel_name, number, wwid: id.to_string() }
}

/// Has multipath claim a disk, now and after a restart, and waits for the map with its node.
///
/// # Errors
/// [`Error::NoDisk`] without a disk of this id, [`Error::Ambiguous`] when the disks that have it cannot be one,
/// [`Error::InUse`] when one of them is used, [`Error::SystemDisk`]; and when no map came, [`Error::Waited`]. Then the
/// disk is not wanted either, unless it was before.
pub fn map(system: &System, id: &ScsiId) -> Result<MultipathMap> {
    map_in(system, id, &Inventory::read(system))
}

fn map_in(system: &System, id: &ScsiId, inventory: &Inventory) -> Result<MultipathMap> {
    refuse_system_disks(inventory, std::slice::from_ref(id))?;
    let paths = paths_to_map(id, inventory)?;
    let lock = fragment::lock(system)?;
    let before = fragment::read(system)?;
    let mut after = before.clone();
    if !after.contains(id) {
        after.push(id.clone());
    }
    fragment::write(system, &lock, &after, false)?;
    let made = make(system, id, &paths);
    if made.is_err() && before.len() < after.len() {
        // The error is what is to be told; a list that could not be restored says itself what is wanted.
        let _ = fragment::write(system, &lock, &before, false).and_then(|()| reconfigure(system));
    }
    made
}

/// Kernel names of the paths to a disk, after looking at whether it may be mapped.
fn paths_to_map(id: &ScsiId, inventory: &Inventory) -> Result<Vec<String>> {
    let disks: Vec<&AttachedDisk> =
        inventory.disks.iter().filter(|disk| disk.scsi_id.as_ref() == Some(id)).collect();
    let Some(first) = disks.first() else { return Err(Error::NoDisk { disk: id.to_string() }) };
    // Copies of one VMDK have one id as well. To join them is to lose both.
    let duplicates = inventory.duplicates_of(first);
    if let Some(duplicates) = duplicates.filter(|found| found.kind != DuplicateKind::UnjoinedPaths) {
        return Err(Error::Ambiguous { duplicates: Box::new(duplicates) });
    }
    // multipath would call it by the other id, if at all.
    if let Some((disk, other)) = disks.iter().find_map(|disk| Some((disk, disk.other_scsi_id.as_ref()?))) {
        let (expected, found) = (id.to_string(), other.to_string());
        return Err(Error::OtherDisk { disk: disk.name.clone(), expected, found });
    }
    // With a map of its own, its users do not matter: nothing is done to it.
    for disk in disks.iter().filter(|disk| disk.map.is_none()) {
        let uses: Vec<Use> =
            disk.uses.iter().filter(|one| !matches!(one, Use::PathOf { .. })).cloned().collect();
        if !uses.is_empty() {
            return Err(Error::InUse { disk: disk.name.clone(), uses });
        }
    }
    Ok(disks.iter().flat_map(|disk| &disk.paths).map(|path| path.name.clone()).collect())
}

/// Tells multipathd, then multipath itself, until there is a map with a node.
fn make(system: &System, id: &ScsiId, paths: &[String]) -> Result<MultipathMap> {
    let ready = || {
        let map = find_map(system, id).filter(|map| !map.suspended && map.size.0 > 0)?;
        system.path(format!("/dev/mapper/{}", map.name)).exists().then_some(map)
    };
    reconfigure(system)?;
    let what = || format!("the multipath map of {id}");
    const ADVICE: &str = "mtctl check names settings that keep multipath from it; see also multipath -v3 -d";
    let mut outcome = wait(WAIT, ready, what, ADVICE);
    if outcome.is_err()
        && let Some(path) = paths.first()
    {
        // Its status says little; sysfs decides.
        system.run("multipath", &["-v1", &format!("/dev/{path}")], PROGRAM_TIMEOUT)?;
        outcome = wait(WAIT, ready, what, ADVICE);
    }
    let map = outcome?;
    let expected: BTreeSet<&String> = paths.iter().collect();
    if !map.slaves.iter().all(|slave| expected.contains(slave)) {
        let found = map.slaves.join(", ");
        return Err(Error::OtherDisk { disk: map.name, expected: id.to_string(), found });
    }
    Ok(of_map(id, map))
}

/// Has multipathd read its configuration again.
fn reconfigure(system: &System) -> Result<()> {
    let output = system.run("multipathd", &["reconfigure"], PROGRAM_TIMEOUT)?;
    let said = output.stdout.trim().to_owned();
    // After a time-out of its own it goes on all the same.
    if output.success && (said.lines().any(|line| line.trim() == "ok") || said.contains("timeout")) {
        return Ok(());
    }
    let said = [said.as_str(), output.stderr.trim()].join(" ");
    let said: String = said.chars().filter(|c| !c.is_control()).take(200).collect();
    Err(Error::NoMultipathd { said: said.trim().to_owned() })
}

/// Removes the multipath map of a disk with its partition maps, and takes the disk from the list of those that are
/// wanted. Without an error when there is neither.
///
/// # Errors
/// [`Error::InUse`] with what uses the map; then it is there, and wanted, as before (its free partition maps are gone).
pub fn flush(system: &System, id: &ScsiId) -> Result<()> {
    let lock = fragment::lock(system)?;
    let before = fragment::read(system)?;
    partitions::unmap_vanished(system, id)?;
    flush_map(system, id)?;
    let after: Vec<ScsiId> = before.iter().filter(|other| *other != id).cloned().collect();
    if before.contains(id) {
        if is_remembered(system, id) {
            // Both versions refuse an id that is blacklisted: so before it is taken from our list, or never.
            system.run_well("multipath", &["-w", id.as_str()], PROGRAM_TIMEOUT)?;
        }
        // An empty list stays until the map is gone for sure: it keeps multipathd from making it again.
        fragment::write(system, &lock, &after, true)?;
        reconfigure(system)?;
        flush_map(system, id)?;
    }
    if after.is_empty() && system.path(fragment::path()).exists() {
        fragment::write(system, &lock, &after, false)?;
        reconfigure(system)?;
    }
    wait(
        WAIT / 5,
        || find_map(system, id).is_none().then_some(()),
        || format!("the removal of the multipath map of {id}"),
        "multipath made it again by its other files: blacklist the disk in /etc/multipath.conf",
    )
}

/// Whether multipath's own list has the disk.
fn is_remembered(system: &System, id: &ScsiId) -> bool {
    let entry = format!("/{id}/");
    system.text_if_exists(WWIDS).ok().flatten().is_some_and(|text| text.lines().any(|line| line == entry))
}

fn flush_map(system: &System, id: &ScsiId) -> Result<()> {
    for attempt in 1..=ATTEMPTS {
        let Some(map) = find_map(system, id) else { return Ok(()) };
        let uses = usage::of(system, &format!("/sys/block/{}", map.kernel_name), &map.name);
        if !uses.is_empty() {
            return Err(Error::InUse { disk: map.name, uses });
        }
        if device_mapper::mangled(&map.name, MAX_NAME).as_deref() != Some(&map.name) {
            return Err(Error::BadName {
                name: map.name,
                problem: "it would be an option of multipath".into(),
            });
        }
        let output = system.run("multipath", &["-f", &map.name], PROGRAM_TIMEOUT)?;
        let gone = || find_map(system, id).is_none().then_some(());
        let what = || format!("the removal of the multipath map {}", map.name);
        let outcome =
            wait(WAIT / 5, gone, what, "see multipath -v3 -f, and dmsetup info for what has it open");
        if attempt == ATTEMPTS && outcome.is_err() {
            let said = output.stdout + &output.stderr;
            if said.contains("map in use") || said.contains("busy") {
                let by = holder::of_device(&system.path(format!("/dev/mapper/{}", map.name)));
                return Err(Error::InUse { disk: map.name, uses: vec![Use::Opened { by }] });
            }
            return outcome;
        }
    }
    Ok(())
}

/// What multipathd knows about each path; what `multipath -ll` shows when the daemon does not answer. Empty on a
/// machine without multipath.
///
/// # Errors
/// When neither program answers in time, or neither can say anything.
pub fn path_states(system: &System) -> Result<Vec<PathState>> {
    if system.program("multipathd").is_none() && system.program("multipath").is_none() {
        return Ok(Vec::new());
    }
    let asked = system.run("multipathd", &["show", "paths", "format", FORMAT], PROGRAM_TIMEOUT);
    if let Ok(answer) = asked
        && answer.success
        && answer.stdout.contains('|')
    {
        return Ok(output::paths(&answer.stdout));
    }
    // Without paths the daemon of 0.5.0 prints nothing at all, as this does then.
    let listed = system.run_well("multipath", &["-ll"], PROGRAM_TIMEOUT)?;
    Ok(output::topology(&listed).into_iter().flat_map(|map| map.paths).collect())
}

#[cfg(test)]
mod tests;
