//! Looking at the machine, and listing what is missing. Nothing is changed here.

use super::ledger::{self, Record};
use super::{ChosenDisk, Plan, Refusal, Request, Step, place};
use crate::contents::{self, UNKNOWN};
use crate::eligibility::{self, Ineligible, RECOMMENDED, is_mounted_at, is_named, rules_broken};
use crate::error::{Error, Result};
use crate::ext4::{self, LABEL};
use crate::fstab::{Edit, Fstab, Wanted};
use crate::marker::{FileSystemUuid, MARKER};
use crate::{Place, RetentionVolume};
use block_device::inventory::{AttachedDisk, DuplicateKind, Look, NoScsiId, Signature};
use block_device::mounts::{self, Mount};
use block_device::{Inventory, ScsiId, System, multipath};
use std::path::{Path, PathBuf};

/// What is missing until the disk is the retention volume. It only looks.
///
/// # Errors
/// When a rule is broken ([`Refusal`]), fstab is in conflict, or something cannot be read.
pub fn plan(system: &System, request: &Request) -> Result<Plan> {
    look(system, request, FileSystemUuid::new()?)
}

/// The same; a file system that is new gets the UUID `fresh`.
pub(super) fn look(system: &System, request: &Request, fresh: FileSystemUuid) -> Result<Plan> {
    let mount_point = place::plain(&request.mount_point)?;
    let inventory = inventory(system, request, &mount_point);
    let disk = &contents::looked_into(system, chosen(system, &inventory, &request.disk)?)?;
    let record = ledger::read(system, &request.state_folder)?;
    let (record, foreign) = match record {
        Some(record) if disk.scsi_id.as_ref().is_some_and(|id| id.as_str() == record.disk) => {
            (Some(record), None)
        }
        foreign => (None, foreign),
    };
    check_eligible(system, &inventory, disk, request, record.as_ref())?;
    let id = disk.scsi_id.clone().ok_or_else(|| unidentified(disk))?;
    let mounts = mounts::read(system)?;
    let view = View { system, inventory: &inventory, disk, id, mount_point, record, mounts: &mounts };
    let mut plan = view.plan(request, fresh)?;
    plan.notes.extend(foreign.map(|other| {
        format!(
            "the preparation of {} for {} was not finished, and is given up",
            other.disk,
            other.mount_point.display()
        )
    }));
    Ok(plan)
}

pub(super) fn inventory(system: &System, request: &Request, mount_point: &Path) -> Inventory {
    let look = Look { retention: mount_point.to_owned(), ..Look::default() };
    let mut inventory = Inventory::read_with(system, &look);
    inventory.mark_targets(system, &request.targets);
    inventory
}

/// Looks at every rule; a file system that is ours, or was named, breaks none.
pub(super) fn check_eligible(
    system: &System,
    inventory: &Inventory,
    disk: &AttachedDisk,
    request: &Request,
    record: Option<&Record>,
) -> Result<()> {
    let own = record.and_then(Record::file_system).map(|uuid| uuid.to_string());
    let known: Vec<String> = request.reformat.iter().cloned().chain(own).collect();
    let mount_point = place::plain(&request.mount_point)?;
    let broken = rules_broken(system, inventory, disk, (&mount_point, &known), &request.targets);
    match broken.is_empty() {
        true => Ok(()),
        false => Err(Refusal::Ineligible { disk: disk.shown().to_owned(), broken }.into()),
    }
}

fn unidentified(disk: &AttachedDisk) -> Error {
    let reason = disk.no_scsi_id.unwrap_or(NoScsiId::NoneGiven);
    let broken = vec![Ineligible::NoScsiId { reason }];
    Refusal::Ineligible { disk: disk.name.clone(), broken }.into()
}

/// The disk that is meant. Paths that are not joined yet are one disk, and a path beside its map stands for the map.
fn chosen<'a>(system: &System, inventory: &'a Inventory, name: &str) -> Result<&'a AttachedDisk> {
    let found = match inventory.find(system, name) {
        Err(block_device::Error::Ambiguous { duplicates })
            if duplicates.kind == DuplicateKind::UnjoinedPaths =>
        {
            inventory
                .disks
                .iter()
                .find(|disk| disk.scsi_id.as_ref() == Some(&duplicates.id))
                .ok_or(Error::Machine(block_device::Error::Ambiguous { duplicates }))?
        }
        found => found?,
    };
    let has_map = |disk: &&AttachedDisk| disk.map.is_some() && disk.scsi_id == found.scsi_id;
    let mapped = found.scsi_id.as_ref().and_then(|_| inventory.disks.iter().find(has_map));
    Ok(mapped.unwrap_or(found))
}

/// What was found.
struct View<'a> {
    system: &'a System,
    inventory: &'a Inventory,
    disk: &'a AttachedDisk,
    id: ScsiId,
    mount_point: PathBuf,
    /// What a run before left, of this disk.
    record: Option<Record>,
    mounts: &'a [Mount],
}

/// What is to be done about the file system.
enum Content {
    Keep { uuid: FileSystemUuid, marked: bool },
    Make { uuid: FileSystemUuid },
}

impl View<'_> {
    fn plan(&self, request: &Request, fresh: FileSystemUuid) -> Result<Plan> {
        let mounted = self.mounted()?;
        let content = self.content(request, mounted, fresh)?;
        let missing = mounted.is_none() && place::must_be_made(self.system, &self.mount_point)?;
        let edit = self.edit(&content)?;
        let steps = self.steps(mounted, &content, missing, &edit)?;
        let (Content::Keep { uuid, .. } | Content::Make { uuid }) = content;
        let model = [&self.disk.vendor, &self.disk.model].map(|part| part.as_deref().unwrap_or_default());
        Ok(Plan {
            disk: ChosenDisk {
                name: self.disk.name.clone(),
                scsi_id: self.id.clone(),
                model: model.join(" ").trim().to_owned(),
                size: self.disk.size,
            },
            mount_point: self.mount_point.clone(),
            file_system: uuid,
            notes: self.notes(request, &steps),
            steps,
            edit,
        })
    }

    /// The disk's mount at the mount point; nothing else may be there.
    fn mounted(&self) -> Result<Option<&Mount>> {
        let there: Vec<&Mount> =
            self.mounts.iter().filter(|mount| Path::new(&mount.place) == self.mount_point).collect();
        let place = || self.mount_point.clone();
        match there[..] {
            [] if is_mounted_at(self.disk, &self.mount_point) => {
                Err(Refusal::OtherNamespace { place: place() }.into())
            }
            [] => Ok(None),
            [mount] if is_mounted_at(self.disk, &self.mount_point) => {
                match mount.is_read_only() && !mount.was_made_read_only() {
                    true => {
                        Err(Refusal::StoppedByError { place: place(), device: mount.source.clone() }.into())
                    }
                    false => Ok(Some(mount)),
                }
            }
            [mount] => {
                let (device, kind) = (mount.source.clone(), mount.kind.clone());
                Err(Refusal::Taken { place: place(), device, kind }.into())
            }
            _ => Err(Refusal::Stacked { place: place(), count: there.len() }.into()),
        }
    }

    /// Decides between keeping what is there and making the file system. The disk is eligible: it holds nothing, or
    /// something that is ours, mounted, or named by `--reformat`.
    fn content(&self, request: &Request, mounted: Option<&Mount>, fresh: FileSystemUuid) -> Result<Content> {
        let Some(Signature::FileSystem { name, uuid: told, label }) = &self.disk.signature else {
            if let Some(mount) = mounted {
                return Err(self.holds_unknown_file_system(mount));
            }
            let begun = self.record.as_ref().filter(|record| !record.made);
            return Ok(Content::Make { uuid: begun.and_then(Record::file_system).unwrap_or(fresh) });
        };
        let uuid = told.as_deref().and_then(FileSystemUuid::parse);
        let erase = is_named(told.as_deref(), request.reformat.as_slice());
        let device = self.disk.device();
        match (uuid.filter(|_| name == "ext4"), &self.record) {
            _ if mounted.is_some() && erase => {
                let uuid = told.clone().unwrap_or_default();
                Err(Refusal::ReformatMounted { uuid, place: self.mount_point.clone() }.into())
            }
            _ if erase => Ok(Content::Make { uuid: fresh }),
            (Some(uuid), _) if mounted.is_some() => {
                let place = Place { folder: self.system.path(&self.mount_point), trial: false };
                self.kept(uuid, RetentionVolume::open(&place, None).map(drop))
            }
            (Some(uuid), Some(record)) if record.file_system() == Some(uuid) => {
                match record.made || ext4::was_mounted(self.system, &device)? {
                    true => self.kept(uuid, self.marker(uuid)),
                    false => Ok(Content::Make { uuid }),
                }
            }
            (Some(uuid), _) if label.as_deref() == Some(LABEL) => match self.kept(uuid, self.marker(uuid))? {
                Content::Keep { marked: false, .. } => {
                    Err(Refusal::Unmarked { device, uuid, place: self.mount_point.clone() }.into())
                }
                content => Ok(content),
            },
            // The rules allow an ext4 of somebody else's only where it is mounted.
            _ => Err(Refusal::OtherNamespace { place: self.mount_point.clone() }.into()),
        }
    }

    fn kept(&self, uuid: FileSystemUuid, marker: Result<()>) -> Result<Content> {
        match marker {
            Ok(()) => Ok(Content::Keep { uuid, marked: true }),
            Err(Error::NotPrepared { .. }) => Ok(Content::Keep { uuid, marked: false }),
            Err(error) => Err(error),
        }
    }

    /// Whether the marker on the disk, which is not mounted, belongs to its file system.
    fn marker(&self, uuid: FileSystemUuid) -> Result<()> {
        ext4::check_marker(self.system, &self.disk.device(), uuid)
    }

    /// Something is mounted from the disk that neither we nor blkid know.
    fn holds_unknown_file_system(&self, mount: &Mount) -> Error {
        let (shown, device) = (mount.kind.clone(), self.disk.device());
        let broken = vec![Ineligible::OtherFileSystem { shown, uuid: None, keep: None, device }];
        Refusal::Ineligible { disk: self.disk.shown().to_owned(), broken }.into()
    }

    fn edit(&self, content: &Content) -> Result<Edit> {
        let (Content::Keep { uuid, .. } | Content::Make { uuid }) = content;
        let device = format!("/dev/mapper/{}", self.id);
        let wanted = Wanted { device, place: self.mount_point.clone() };
        let is_ours = |device: &str| self.is_called(device, *uuid);
        Ok(Fstab::read(self.system)?.plan(&wanted, &is_ours)?)
    }

    /// Whether fstab means the disk by this.
    fn is_called(&self, device: &str, uuid: FileSystemUuid) -> bool {
        let recorded = self.record.as_ref().and_then(|record| record.fstab_device.as_deref());
        let named = device.strip_prefix("UUID=").map(|named| named.trim_matches('"'));
        recorded == Some(device)
            || named.and_then(FileSystemUuid::parse) == Some(uuid)
            || eligibility::is_called(self.system, self.inventory, self.disk, device)
    }

    fn steps(
        &self,
        mounted: Option<&Mount>,
        content: &Content,
        folder_is_missing: bool,
        edit: &Edit,
    ) -> Result<Vec<Step>> {
        let device = format!("/dev/mapper/{}", self.id);
        let place = || self.mount_point.clone();
        let map = self.disk.map.as_ref();
        let alias = map.filter(|map| map.name != self.id.as_str());
        let well_mounted = |mount: &&Mount| {
            alias.is_none()
                && map.is_some_and(|map| map.number == mount.number)
                && !mount.was_made_read_only()
        };
        let stays = mounted.filter(well_mounted).is_some();
        let mut steps = Vec::new();
        if let Some(mount) = mounted.filter(|_| !stays) {
            steps.push(Step::Unmount { device: mount.source.clone(), place: place() });
        }
        steps.extend(alias.map(|map| Step::Unmap { map: map.name.clone() }));
        if map.is_none() || alias.is_some() || !multipath::wanted(self.system)?.contains(&self.id) {
            self.refuse_alias()?;
            steps.push(Step::Map { device: device.clone() });
        }
        if let Content::Make { uuid } = content {
            let erases = match &self.disk.signature {
                Some(found) => Some(self.described(found)),
                None => (!contents::is_blank(self.system, self.disk)?).then(|| UNKNOWN.to_owned()),
            };
            steps.push(Step::MakeFileSystem { device, uuid: *uuid, erases });
        }
        if folder_is_missing {
            steps.push(Step::MakeFolder { place: place() });
        }
        if edit.is_needed() {
            steps.push(Step::EditFstab { moved_from: edit.moved_from().map(str::to_owned) });
        }
        // A run that was cut off may have left systemd with what fstab was.
        if edit.is_needed() || !stays || self.record.is_some() {
            steps.push(Step::Reload);
        }
        if !stays {
            steps.push(Step::Mount { place: place() });
        }
        if !matches!(content, Content::Keep { marked: true, .. }) {
            steps.push(Step::Mark { place: place() });
        }
        if !steps.is_empty() {
            steps.push(Step::ReadBack { place: place() });
        }
        Ok(steps)
    }

    /// By an alias in multipath's configuration the map would get that name again, after the volume was unmounted.
    fn refuse_alias(&self) -> Result<()> {
        let aliases = multipath::aliases(self.system, &self.id);
        let Some(alias) = aliases.last() else { return Ok(()) };
        let (id, name) = (self.id.to_string(), alias.name.clone());
        let conflicts = aliases.into_iter().map(|alias| alias.conflict).collect();
        Err(Refusal::Alias { id, name, conflicts }.into())
    }

    /// What is on the disk, with its UUID.
    fn described(&self, found: &Signature) -> String {
        match found {
            Signature::FileSystem { uuid: Some(uuid), .. } => format!("{found} (UUID {uuid})"),
            other => other.to_string(),
        }
    }

    fn notes(&self, request: &Request, steps: &[Step]) -> Vec<String> {
        let mut notes = Vec::new();
        if self.record.is_some() {
            notes.push("an earlier preparation was cut off, and is continued".to_owned());
        }
        let size = self.disk.size;
        if size < RECOMMENDED {
            notes.push(format!(
                "{size} is less than the 1 TB that is recommended: the retention window will be shorter"
            ));
        }
        let makes = steps.iter().any(|step| matches!(step, Step::MakeFileSystem { .. }));
        if steps
            .iter()
            .any(|step| matches!(step, Step::MakeFileSystem { erases: Some(what), .. } if what == UNKNOWN))
        {
            notes.push(format!(
                "the disk holds {UNKNOWN}, and not only zeros: make sure that no program uses it without a file system, and \
                 that nothing of it is wanted"
            ));
        }
        if let Some(uuid) = request.reformat.as_ref().filter(|uuid| !makes || !self.holds(uuid)) {
            notes
                .push(format!("--reformat {uuid} has no effect: the disk holds no file system of that UUID"));
        }
        let adopts = steps.iter().any(|step| matches!(step, Step::Mark { .. })) && !makes;
        if adopts {
            notes.push(format!(
                "the file system that is there is kept with all that is on it; only {MARKER} is added"
            ));
        }
        let conflict = |one: multipath::Conflict| {
            format!("{}, line {}: {}; {}", one.file, one.line, one.what, one.advice)
        };
        notes.extend(multipath::conflicts(self.system).into_iter().map(conflict));
        notes
    }

    fn holds(&self, uuid: &str) -> bool {
        let told = match &self.disk.signature {
            Some(Signature::FileSystem { uuid, .. }) => uuid.as_deref(),
            _ => None,
        };
        is_named(told, &[uuid.to_owned()])
    }
}
