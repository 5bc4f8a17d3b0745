//! Opens an item: its disks exclusively, its journal, through crash recovery; and closes it again.

use super::record::{Committed, Record, RecordError, RecordFile};
use super::target::{self, Target};
use crate::config;
use crate::retention::VolumeState;
use control_api::time::Time;
use control_api::{RetentionState, StartReport};
use disk::{Class, Disk, Folder};
use journal::{DiskIdentity, Identity, Options, RecoveryReport};
use replication_receiver::{Error, Storage};
use retention_volume::{FileSystemUuid, RetentionVolume, VolumeId};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use vmdk::Image;

/// Where items are kept.
#[derive(Debug)]
pub(crate) struct Place {
    state_folder: PathBuf,
    retention: config::Retention,
    /// Held while the retention volume is opened, so that one item at a time marks a new one.
    opening: Mutex<()>,
}

impl Place {
    pub(crate) fn new(config: &config::Config) -> Place {
        Place {
            state_folder: config.state_folder.clone(),
            retention: config.retention.clone(),
            opening: Mutex::new(()),
        }
    }

    fn record_file(&self, item: &str) -> RecordFile {
        RecordFile::of_item(&self.state_folder, item)
    }

    /// Opens the retention volume, which has to be the one that `record` names, or else the one that any item was
    /// on before. With `any`, the one that is there is the right one from now on.
    fn open_volume(&self, record: &Record, any: bool) -> Result<RetentionVolume, Problem> {
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        let file = RecordFile::of_volume(&self.state_folder);
        let common = file.load()?;
        let known = record.volume.clone().or(common.volume.clone()).filter(|_| !any);
        let known = known.as_deref().and_then(VolumeId::parse);
        let volume = RetentionVolume::open(&self.volume_place(), known.as_ref())?;
        let opened = Record {
            volume: Some(volume.id().to_string()),
            file_system: volume.file_system().map(|uuid| uuid.to_string()),
            ..Record::default()
        };
        if common != opened {
            file.save(&opened)?;
        }
        Ok(volume)
    }

    /// Whether the disk of the volume was away while it was mounted, and it was not mounted anew since: told by an earlier
    /// daemon. A restart of the machine mounts everything anew.
    pub(crate) fn volume_missed(&self) -> bool {
        let record = RecordFile::of_volume(&self.state_folder).load().unwrap_or_default();
        record.missed.is_some() && record.missed == boot_id()
    }

    /// Remembers that, or that it is over.
    pub(crate) fn set_volume_missed(&self, missed: bool) -> Result<(), RecordError> {
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        let file = RecordFile::of_volume(&self.state_folder);
        let record = file.load()?;
        file.save(&Record { missed: boot_id().filter(|_| missed), ..record })
    }

    /// Where the retention volume is to be.
    pub(crate) fn volume_place(&self) -> retention_volume::Place {
        retention_volume::Place { folder: self.retention.folder.clone(), trial: self.retention.trial_folder }
    }

    /// The volume that was used before, if any was; a record that cannot be read names none.
    pub(crate) fn known_volume(&self) -> Option<KnownVolume> {
        let record = RecordFile::of_volume(&self.state_folder).load().ok()?;
        let file_system = record.file_system.as_deref().and_then(FileSystemUuid::parse);
        Some(KnownVolume { id: VolumeId::parse(&record.volume?)?, file_system })
    }
}

/// Id of this run of the kernel.
fn boot_id() -> Option<String> {
    block_device::System::host().attribute("/proc/sys/kernel/random/boot_id")
}

/// What the state folder knows of the retention volume.
#[derive(Clone, Debug)]
pub(crate) struct KnownVolume {
    pub(crate) id: VolumeId,
    /// UUID of its file system, unless it was marked by an early version.
    pub(crate) file_system: Option<FileSystemUuid>,
}

/// Why an item cannot be opened, or had to be closed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{why}")]
pub(crate) struct Problem {
    pub(crate) class: Class,
    pub(crate) why: String,
    pub(super) lies: Lies,
}

/// Where the cause of a problem lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lies {
    /// In the journal, so maybe in the retention volume.
    Journal,
    /// In the retention volume, which cannot be used: the item goes on when it can.
    Volume,
    /// Elsewhere, in a disk for example.
    Elsewhere,
}

impl Problem {
    pub(super) fn new(class: Class, why: impl Into<String>) -> Problem {
        Problem { class, why: why.into(), lies: Lies::Elsewhere }
    }

    pub(super) fn of_journal(self) -> Problem {
        Problem { lies: Lies::Journal, ..self }
    }

    /// The retention volume cannot be used.
    pub(super) fn of_volume(volume: &VolumeState) -> Problem {
        Problem { class: Class::Retry, why: volume.why(), lies: Lies::Volume }
    }
}

impl From<disk::Error> for Problem {
    fn from(error: disk::Error) -> Problem {
        Problem::new(error.class(), error.to_string())
    }
}

impl From<block_device::Error> for Problem {
    fn from(error: block_device::Error) -> Problem {
        Problem::new(error.class(), error.to_string())
    }
}

impl From<vmdk::Error> for Problem {
    fn from(error: vmdk::Error) -> Problem {
        Problem::new(error.class(), error.to_string())
    }
}

impl From<retention_volume::Error> for Problem {
    fn from(error: retention_volume::Error) -> Problem {
        Problem::new(error.class(), error.to_string()).of_journal()
    }
}

impl From<replication_receiver::Error> for Problem {
    fn from(error: replication_receiver::Error) -> Problem {
        let problem = Problem::new(error.class(), error.to_string());
        if error.is_of_journal() { problem.of_journal() } else { problem }
    }
}

impl From<RecordError> for Problem {
    fn from(error: RecordError) -> Problem {
        Problem::new(Class::Operator, error.to_string())
    }
}

impl From<std::io::Error> for Problem {
    fn from(error: std::io::Error) -> Problem {
        Problem::new(Class::Operator, format!("the kernel gives no random bytes: {error}"))
    }
}

/// An open item.
pub(super) struct Opened {
    pub(super) storage: Arc<Storage>,
    pub(super) images: Vec<Arc<Image>>,
    /// True when all its disks are known to be zero.
    pub(super) blank: bool,
    pub(super) report: StartReport,
}

/// What there is to be opened.
pub(super) enum Found {
    Opened(Box<Opened>),
    Committed(Committed),
}

/// How an item is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Manner {
    /// Replicate again after a commit, and make a new journal where the old one is lost or damaged.
    pub(super) start_over: bool,
    /// Its disks were made just now, and are all zero.
    pub(super) blank: bool,
}

/// Opens an item, through crash recovery where that is needed.
pub(super) fn open(
    place: &Place,
    config: &config::Item,
    manner: Manner,
    volume: &VolumeState,
    now: Time,
) -> Result<Found, Problem> {
    let file = place.record_file(&config.name);
    let mut record = file.load()?;
    if let Some(committed) = record.committed.filter(|_| !manner.start_over) {
        return Ok(Found::Committed(committed));
    }
    // Starting over takes whatever prepared volume is there.
    let takes_another = manner.start_over && volume.state == RetentionState::NotOurs;
    if !volume.is_usable() && !takes_another {
        return Err(Problem::of_volume(volume));
    }
    if record.committed.is_some() {
        remove_journal(place, config, &record, true)?;
        record = Record::default();
        file.save(&record)?;
    }
    let volume = place.open_volume(&record, manner.start_over)?;
    let folder: Arc<dyn Folder> = Arc::new(volume.item_folder(&config.name)?);
    if !has_journal(&*folder)? && record.volume.is_some() && !manner.start_over {
        return Err(lost_journal(config, &folder));
    }
    let open = |disk| target::open(disk, &place.retention.folder);
    let targets: Vec<Target> = config.disks.iter().map(open).collect::<Result<_, _>>()?;
    let known = identities(config, &targets);
    if !manner.start_over {
        refuse_other_disks(config, &record, &known)?;
    }
    let identity = identity(config, &targets);
    let disks = targets.iter().map(|target| target.disk.clone()).collect();
    let capacity = volume.space()?.capacity.0;
    let most = config.policy.max_journal.map_or(capacity, |most| most.of(capacity).min(capacity));
    let options = Options { segment_bytes: segment_bytes(most), ..Options::default() };
    let (storage, recovery) = open_storage(folder, identity, disks, manner, options)?;
    let volume = volume.id().to_string();
    let opened = Record { volume: Some(volume), disks: known, ..record.clone() };
    if record != opened {
        file.save(&opened)?;
    }
    let report = StartReport {
        time: now,
        recovered: recovery.is_some_and(|report| report.pending > 0),
        summary: summary(recovery, &targets, manner),
    };
    Ok(Found::Opened(Box::new(Opened {
        storage: Arc::new(storage),
        blank: manner.blank || targets.iter().all(|target| target.blank),
        images: targets.into_iter().filter_map(|target| target.image).collect(),
        report,
    })))
}

/// False as well when a crash came in the middle of making the first segment.
fn has_journal(folder: &dyn Folder) -> Result<bool, Problem> {
    let names = folder.list().map_err(|error| Problem::from(error).of_journal())?;
    Ok(names.iter().any(|name| name.ends_with(".journal")))
}

/// Room is freed by whole segments, so they are small where a journal is: a thousand of them, but neither so small that
/// most of what is written is headers and syncs, nor larger than is good for anything.
fn segment_bytes(journal: u64) -> u64 {
    (journal / 1024).clamp(1 << 20, 256 << 20)
}

fn open_storage(
    folder: Arc<dyn Folder>,
    identity: Identity,
    disks: Vec<Arc<dyn Disk>>,
    manner: Manner,
    options: Options,
) -> Result<(Storage, Option<RecoveryReport>), Problem> {
    use journal::Error::{Corrupt, Identity as OtherIdentity};
    if has_journal(&*folder)? {
        match Storage::open(folder.clone(), identity.clone(), disks.clone(), options.clone()) {
            Ok((storage, report)) => return Ok((storage, Some(report))),
            Err(Error::Journal(error @ (Corrupt { .. } | OtherIdentity { .. }))) if manner.start_over => {
                tracing::warn!("the journal and its recovery points are given up: {error}");
                remove_files(&*folder)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok((Storage::create(folder, identity, disks, options)?, None))
}

fn lost_journal(config: &config::Item, folder: &Arc<dyn Folder>) -> Problem {
    let name = &config.name;
    Problem::new(
        Class::Operator,
        format!(
            "the journal of item {name} is gone: {} is empty, though the retention volume is the same one; bring \
             it back, or give up its recovery points by mtctl resync {name}",
            folder.name()
        ),
    )
}

/// What tells each disk from all others, where anything does.
fn identities(config: &config::Item, targets: &[Target]) -> BTreeMap<String, String> {
    let disks = config.disks.iter().zip(targets);
    disks.filter_map(|(disk, target)| Some((disk.id.clone(), target.identity.clone()?))).collect()
}

/// Before-images of one disk must never be put back onto another, of whatever size.
fn refuse_other_disks(
    config: &config::Item,
    record: &Record,
    found: &BTreeMap<String, String>,
) -> Result<(), Problem> {
    for (disk, expected) in &record.disks {
        let Some(found) = found.get(disk).filter(|found| *found != expected) else { continue };
        let name = &config.name;
        return Err(Problem::new(
            Class::Operator,
            format!(
                "disk {disk}: its target has the identity {found}, but the journal of item {name} is of {expected}: \
                 correct the target in mtd.toml, or give up its recovery points by mtctl resync {name}"
            ),
        ));
    }
    Ok(())
}

fn identity(config: &config::Item, targets: &[Target]) -> Identity {
    let disks = config.disks.iter().zip(targets);
    Identity {
        item: config.name.clone(),
        disks: disks
            .map(|(disk, target)| DiskIdentity { id: disk.id.clone(), size: target.disk.size() })
            .collect(),
    }
}

fn summary(recovery: Option<RecoveryReport>, targets: &[Target], manner: Manner) -> String {
    let made = targets.iter().filter(|target| manner.blank || target.blank).count();
    match recovery {
        None if made > 0 => format!("new journal, {made} of {} disks made", targets.len()),
        None => "new journal, disks that existed".to_string(),
        Some(report) if report.pending == 0 => {
            format!("closed cleanly at batch {}", report.boundary)
        }
        Some(report) => format!(
            "not closed cleanly: {} batches were in flight, {} of them were undone, {} put back; disks stand at \
             batch {}",
            report.pending,
            report.undone,
            disk::Bytes(report.restored_bytes),
            report.boundary
        ),
    }
}

/// Closes images as a clean shutdown does. The first failure is reported; the rest is closed all the same.
pub(super) fn close_images(images: &[Arc<Image>]) -> Result<(), Problem> {
    let results: Vec<disk::Result<()>> = images.iter().map(|image| image.close()).collect();
    results.into_iter().collect::<disk::Result<()>>().map_err(Problem::from)
}

/// Records a commit, then removes the journal: the disks will be changed by others now, so its before-images no
/// longer lead back to any state there ever was.
pub(super) fn commit(place: &Place, config: &config::Item, committed: Committed) -> Result<(), Problem> {
    let file = place.record_file(&config.name);
    let record = file.load()?;
    file.save(&Record { committed: Some(committed), ..Record::default() })?;
    remove_journal(place, config, &record, false)
}

fn remove_journal(place: &Place, config: &config::Item, record: &Record, any: bool) -> Result<(), Problem> {
    remove_files(&place.open_volume(record, any)?.item_folder(&config.name)?)
}

/// Whether a failover of an item was committed.
pub(crate) fn is_committed(place: &Place, item: &str) -> bool {
    place.record_file(item).load().is_ok_and(|record| record.committed.is_some())
}

/// Whether the retention volume has recovery points of an item of this name.
pub(crate) fn has_journal_of(place: &Place, item: &str) -> bool {
    let folder = place.retention.folder.join("items").join(item);
    let names = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|file| file.file_name());
    names.into_iter().any(|name| name.to_string_lossy().ends_with(".journal"))
}

/// Removes the journal of an item that is closed, and all that is remembered of the item. It does no harm twice.
pub(crate) fn forget(place: &Place, item: &str) -> Result<(), Problem> {
    let file = place.record_file(item);
    // A record that cannot be read names no volume.
    let record = file.load().unwrap_or_default();
    place.open_volume(&record, false)?.remove_item_folder(item)?;
    Ok(file.remove()?)
}

fn remove_files(folder: &dyn Folder) -> Result<(), Problem> {
    for name in folder.list()? {
        folder.remove(&name)?;
    }
    Ok(folder.sync()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item() -> config::Item {
        let text = "[[item]]\nname = \"web01\"\nsource = \"web01.example\"\n\
                    disks = [{ id = \"disk0\", target = \"/dev/mapper/36000c29b\" }]\n";
        config::Config::parse("mtd.toml", text).unwrap().items.remove(0)
    }

    fn of(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(disk, identity)| ((*disk).to_owned(), (*identity).to_owned())).collect()
    }

    /// Invariant 6: an item goes on only with the same disks, by id.
    #[test]
    fn invariant_6_a_journal_is_not_put_onto_another_disk() {
        let record = Record { disks: of(&[("disk0", "36000c29a")]), ..Record::default() };
        let problem = refuse_other_disks(&item(), &record, &of(&[("disk0", "36000c29b")])).unwrap_err();
        assert_eq!(problem.class, Class::Operator);
        for part in ["disk0", "36000c29a", "36000c29b", "mtctl resync web01"] {
            assert!(problem.why.contains(part), "{problem}");
        }
        refuse_other_disks(&item(), &record, &record.disks).unwrap();
        // What had no identity, or has none now, cannot be compared.
        refuse_other_disks(&item(), &record, &of(&[])).unwrap();
        refuse_other_disks(&item(), &Record::default(), &of(&[("disk0", "36000c29b")])).unwrap();
    }
}
