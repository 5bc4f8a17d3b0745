//! Taking the steps.

use super::ledger::{Ledger, Record};
use super::read_back::{check_mount, read_back};
use super::{Plan, Progress, Refusal, Request, Step, look};
use crate::contents;
use crate::error::{Error, Result};
use crate::ext4::{self, LABEL};
use crate::{Place, RetentionVolume};
use block_device::inventory::{AttachedDisk, MultipathMap, Signature};
use block_device::{Caching, FileDisk, Inventory, System, durable_file, mounts, multipath};
use disk::Access;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

/// Time for mounting: a journal may have to be replayed.
const MOUNT_TIMEOUT: Duration = Duration::from_secs(600);

/// Time for writing back what is in the cache, and for systemd, which asks every generator.
const SLOW: Duration = Duration::from_secs(120);

/// Takes the steps of a plan, and hands out the volume that is there then.
///
/// # Errors
/// [`Refusal::Changed`] when the machine is not as it was when the plan was made. After every other error what was done
/// stays, and the next run goes on.
pub fn carry_out(
    system: &System,
    request: &Request,
    plan: &Plan,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<RetentionVolume> {
    let place = Place { folder: system.path(&plan.mount_point), trial: false };
    if plan.steps.is_empty() {
        return RetentionVolume::open(&place, None);
    }
    let ledger = Ledger::open(system, &request.state_folder)?;
    if look::look(system, request, plan.file_system)? != *plan {
        return Err(Refusal::Changed.into());
    }
    let made = plan.erases().is_none();
    let mut run = Run { system, request, plan, place, record: record(plan, made), ledger };
    run.ledger.write(&run.record)?;
    let mut volume = None;
    for (number, step) in (1..).zip(&plan.steps) {
        progress(Progress::Begun(number, step));
        let told = run.take(step, &mut volume)?;
        progress(Progress::Done(number, step, told));
    }
    run.ledger.close()?;
    match volume {
        Some(volume) => Ok(volume),
        None => RetentionVolume::open(&run.place, None),
    }
}

fn record(plan: &Plan, made: bool) -> Record {
    Record::new(&plan.disk.scsi_id, &plan.mount_point, plan.file_system, made, plan.edit.moved_from())
}

struct Run<'a> {
    system: &'a System,
    request: &'a Request,
    plan: &'a Plan,
    /// The mount point, where it really lies.
    place: Place,
    record: Record,
    ledger: Ledger,
}

impl Run<'_> {
    /// Takes one step; what there is to tell of it.
    fn take(&mut self, step: &Step, volume: &mut Option<RetentionVolume>) -> Result<Option<String>> {
        let system = self.system;
        let place = self.plan.mount_point.to_string_lossy().into_owned();
        match step {
            Step::Unmount { .. } => self.unmount(&place)?,
            Step::Unmap { .. } => multipath::flush(system, &self.plan.disk.scsi_id)?,
            Step::Map { .. } => self.map()?,
            Step::MakeFileSystem { uuid, .. } => {
                self.make_file_system()?;
                return Ok(Some(format!("UUID {uuid}")));
            }
            Step::MakeFolder { .. } => make_folder(system, &self.plan.mount_point)?,
            Step::EditFstab { .. } => {
                let backup = self.plan.edit.write(system)?;
                return Ok(backup.map(|path| format!("kept as {}", path.display())));
            }
            Step::Reload => drop(system.run_well("systemctl", &["daemon-reload"], SLOW)?),
            Step::Mount { .. } => {
                system.run_well("mount", &[&place], MOUNT_TIMEOUT)?;
                check_mount(system, &self.plan.mount_point, &self.mapped()?)?;
            }
            Step::Mark { .. } => {
                check_mount(system, &self.plan.mount_point, &self.mapped()?)?;
                let marked = RetentionVolume::mark(&self.place, self.plan.file_system)?;
                return Ok(Some(format!("id {}", marked.id())));
            }
            Step::ReadBack { .. } => {
                check_mount(system, &self.plan.mount_point, &self.mapped()?)?;
                *volume = Some(read_back(&self.place, self.plan.file_system, &self.plan.mount_point)?);
            }
        }
        Ok(None)
    }

    fn unmount(&self, place: &str) -> Result<()> {
        let output = self.system.run("umount", &[place], SLOW)?;
        let mounts = mounts::read(self.system)?;
        if mounts::at(&mounts, &self.plan.mount_point).is_none() {
            return Ok(());
        }
        let said = output.stderr.lines().next().unwrap_or("umount says nothing").trim().to_owned();
        Err(Refusal::Busy { place: self.plan.mount_point.clone(), said }.into())
    }

    fn map(&self) -> Result<()> {
        multipath::map(self.system, &self.plan.disk.scsi_id)?;
        self.mapped().map(drop)
    }

    /// The disk's map, which must have the id as its name.
    fn mapped(&self) -> Result<MultipathMap> {
        let id = &self.plan.disk.scsi_id;
        let map = multipath::find(self.system, id)
            .ok_or_else(|| Error::Machine(block_device::Error::NotMapped { id: id.to_string() }))?;
        if map.name == id.as_str() {
            return Ok(map);
        }
        let names_it = |one: &multipath::Conflict| one.what.contains("alias") || one.what.contains("names");
        let conflicts = multipath::conflicts(self.system).into_iter().filter(names_it).collect();
        Err(Refusal::Alias { id: id.to_string(), name: map.name, conflicts }.into())
    }

    fn make_file_system(&mut self) -> Result<()> {
        let device = self.plan.disk.device();
        self.prove(&device)?;
        ext4::make(self.system, &device, self.plan.file_system)?;
        let found = self.look_again()?.0.signature;
        let is_it = matches!(
            &found,
            Some(Signature::FileSystem { name, uuid: Some(uuid), label: Some(label) })
                if name == "ext4" && label == LABEL && *uuid == self.plan.file_system.to_string()
        );
        if !is_it {
            let found = found.map_or("nothing known".to_owned(), |found| found.to_string());
            return Err(Refusal::NotMade { device, uuid: self.plan.file_system, found }.into());
        }
        self.record.made = true;
        self.ledger.write(&self.record)
    }

    /// Every rule once more, and then the device itself: nobody else has it, and it is the map of this disk. It is let
    /// go for mke2fs, which refuses a device that is in use as well.
    fn prove(&self, device: &str) -> Result<()> {
        let (disk, inventory) = self.look_again()?;
        let disk = contents::looked_into(self.system, &disk)?;
        look::check_eligible(self.system, &inventory, &disk, self.request, Some(&self.record))?;
        let id = self.plan.disk.scsi_id.to_string();
        let number = disk.map.as_ref().filter(|map| map.name == id).map(|map| map.number);
        let open = FileDisk::open(self.system.path(device), Access::Write, Caching::PageCache)
            .map_err(block_device::Error::from)?;
        // Where another machine is looked at in a folder, a file stands for the device.
        let is_that = open.device_number().map_or(!self.system.is_host(), |open| Some(open) == number);
        match number.is_some() && is_that {
            true => Ok(()),
            false => Err(Refusal::OtherDevice { device: device.to_owned(), id }.into()),
        }
    }

    /// The disk as it is now, found by its id, and all others.
    fn look_again(&self) -> Result<(AttachedDisk, Inventory)> {
        let inventory = look::inventory(self.system, self.request, &self.plan.mount_point);
        let disk = inventory.find(self.system, self.plan.disk.scsi_id.as_str())?.clone();
        Ok((disk, inventory))
    }
}

fn make_folder(system: &System, place: &Path) -> Result<()> {
    let folder = system.path(place);
    let failed =
        |cause| Error::Machine(block_device::Error::File { doing: "make", path: place.to_owned(), cause });
    DirBuilder::new().recursive(true).mode(0o755).create(&folder).map_err(failed)?;
    folder.parent().map_or(Ok(()), durable_file::sync_folder).map_err(failed)
}
