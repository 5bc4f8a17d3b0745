//! A disk of this machine that holds a replica: found by its identity, proved to be the one, held exclusively.
//!
//! The kernel gives names like `sdb` in the order in which disks answer, so after a restart the name may stand for
//! another disk, and a replica written there destroys it. A target disk is therefore named by its SCSI id,
//! `/dev/mapper/<id>`, which is also the name of its multipath map, or by a link of udev that holds the id. Opening one
//! takes five steps, each of which can refuse:
//!
//! 1. *Find.* The multipath map with this id, or else the one disk that tells it. Copies with one id are refused, joined
//!    or not: nobody knows which of them is meant. A disk that multipath is told to claim is waited for until it has.
//! 2. *Ask.* Whatever uses the disk or a part of it (mounts, swap, volume groups, RAID, this machine itself, the retention
//!    volume) is a reason to refuse, and is named.
//! 3. *Clear.* udev maps the partitions of a disk when it appears. Such maps of nobody's are removed.
//! 4. *Hold.* `O_EXCL` keeps out mounts, LVM, md and device-mapper; the locks of [`FileDisk`] keep out QEMU, other
//!    master targets and, where no map is used, udev.
//! 5. *Prove.* The device that is open now has the id that was asked for, read again, and no copy beside it.
//!
//! A disk that is pulled answers with the same error as a broken one. So after such an error sysfs is asked whether the
//! disk is still there; when it is not, the error says so, and its class is to wait for it.
//!
//! While it is open, another VMDK with the same id can be attached, and multipathd adds it to the map as if it were a
//! path. Then the next sync fails, so that nothing is acknowledged that may lie on the wrong disk.

use crate::inventory::{AttachedDisk, DeviceNumber, Look, NoScsiId, Role, Use};
use crate::{Caching, Error, FileDisk, Inventory, Result, ScsiId, System, multipath, partitions, paths};
use disk::{Access, ByteRange, Bytes, Cause, Disk, Extent, Operation};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::thread;
use std::time::Duration;

/// How often holding the disk is tried while udev still makes maps of its partitions, and how long it is given each time.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(500);

/// A disk that holds a replica.
#[derive(Debug)]
pub struct TargetDisk {
    disk: FileDisk,
    system: System,
    id: Option<ScsiId>,
    /// Of VMware, which shows a disk over one path.
    single: bool,
}

/// How long the kernel may take to notice that a disk which failed is gone, and how often it is asked.
const GONE_ATTEMPTS: u32 = 20;
const GONE_PAUSE: Duration = Duration::from_millis(100);

impl TargetDisk {
    /// Opens the target disk that `path` names, for writing. Loop devices and logical volumes are no disks, and are opened
    /// by their path, exclusively as well.
    ///
    /// # Errors
    ///
    /// Class [`disk::Class::Retry`] while the disk is away or its map is not there yet, which passes; all others need a person.
    pub fn open(system: &System, look: &Look, path: &Path, caching: Caching) -> Result<TargetDisk> {
        let inventory = Inventory::read_with(system, look);
        let found = match inventory.find(system, &path.display().to_string()) {
            Ok(disk) => disk,
            Err(refusal @ Error::NotADisk { .. }) => return open_other(system, path, caching, refusal),
            Err(error) => return Err(error),
        };
        let id = expected_id(path, found)?;
        refuse_copies(&inventory, found)?;
        refuse_uses(found)?;
        wait_for_map(system, found, id.as_ref())?;
        let disk = hold(system, found, caching)?;
        if let Some(id) = &id {
            prove(system, look, &disk, id, path)?;
        }
        Ok(TargetDisk { disk, system: system.clone(), id, single: found.is_vmware() })
    }

    /// Its SCSI id; `None` for what has none.
    pub fn scsi_id(&self) -> Option<&ScsiId> {
        self.id.as_ref()
    }

    /// Its device number.
    pub fn device_number(&self) -> Option<DeviceNumber> {
        self.disk.device_number()
    }

    fn check_alone(&self) -> disk::Result<()> {
        let Some(number) = self.device_number().filter(|_| self.single) else { return Ok(()) };
        let paths = self.system.names(format!("/sys/dev/block/{number}/slaves"));
        if paths.len() <= 1 {
            return Ok(());
        }
        let what = format!(
            "another disk with its SCSI id was attached, and multipath joined {}: what was written may lie on either; \
             detach the other one, give its VMDK a ddb.uuid of its own, then resync the item",
            paths.join(" and ")
        );
        Err(disk::Error::new(Operation::Sync, self.name(), None, Cause::Corrupt { what }))
    }

    /// Tells an error of a disk that is gone from one of a disk that is broken.
    fn explain<T>(&self, outcome: disk::Result<T>) -> disk::Result<T> {
        match outcome {
            Err(error) if matches!(error.cause(), Cause::Io(_)) && self.is_gone() => {
                let gone = io::Error::from_raw_os_error(nix::libc::ENODEV);
                Err(disk::Error::new(error.operation(), error.object(), error.range(), Cause::Io(gone)))
            }
            outcome => outcome,
        }
    }

    fn is_gone(&self) -> bool {
        let Some(number) = self.device_number() else { return false };
        for attempt in 1..=GONE_ATTEMPTS {
            if !paths::has_path(&self.system, number) {
                return true;
            }
            if attempt < GONE_ATTEMPTS {
                thread::sleep(GONE_PAUSE);
            }
        }
        false
    }
}

impl Disk for TargetDisk {
    fn name(&self) -> &str {
        self.disk.name()
    }

    fn size(&self) -> Bytes {
        self.disk.size()
    }

    fn read_at(&self, offset: Bytes, buffer: &mut [u8]) -> disk::Result<()> {
        self.explain(self.disk.read_at(offset, buffer))
    }

    fn write_at(&self, offset: Bytes, data: &[u8]) -> disk::Result<()> {
        self.explain(self.disk.write_at(offset, data))
    }

    fn write_zeroes(&self, range: ByteRange) -> disk::Result<()> {
        self.explain(self.disk.write_zeroes(range))
    }

    fn sync(&self) -> disk::Result<()> {
        self.explain(self.disk.sync())?;
        self.check_alone()
    }

    fn extent_at(&self, offset: Bytes) -> disk::Result<Extent> {
        self.disk.extent_at(offset)
    }
}

/// Whether a path leads to a device, rather than to a file or to nothing: what lies under `/dev`, and what a link or a
/// node elsewhere stands for.
pub fn is_device(path: &Path) -> bool {
    path.starts_with("/dev") || path.metadata().is_ok_and(|metadata| metadata.file_type().is_block_device())
}

/// The id in a name that holds one: `/dev/mapper/<id>`, and the links of udev by id.
fn id_in(path: &Path) -> Option<ScsiId> {
    let path = path.to_str()?;
    if let Some(name) = path.strip_prefix("/dev/mapper/") {
        return ScsiId::parse(name);
    }
    let link = path.strip_prefix("/dev/disk/by-id/")?;
    if let Some(identifier) = link.strip_prefix("wwn-0x") {
        return ScsiId::parse(&format!("3{identifier}"));
    }
    ["scsi-", "dm-uuid-mpath-"].iter().find_map(|kind| ScsiId::parse(link.strip_prefix(kind)?))
}

/// The id that the disk must still have when it is open. A name that may stand for another disk tomorrow is refused, and
/// so is a SCSI disk without an id, or with two.
fn expected_id(path: &Path, disk: &AttachedDisk) -> Result<Option<ScsiId>> {
    let name = || path.display().to_string();
    let unstable = |stable: String| Err(Error::UnstableName { disk: name(), stable });
    if let (Some(id), Some(other)) = (&disk.scsi_id, &disk.other_scsi_id) {
        let (expected, found) = (id.to_string(), format!("{other} as well"));
        return Err(Error::OtherDisk { disk: name(), expected, found });
    }
    match &disk.scsi_id {
        Some(id) if id_in(path).as_ref() == Some(id) => Ok(Some(id.clone())),
        Some(id) => unstable(format!("/dev/mapper/{id}")),
        None if disk.no_scsi_id != Some(NoScsiId::NotScsi) => {
            Err(Error::NoScsiId { disk: disk.name.clone() })
        }
        None if path.starts_with("/dev/disk/by-id") => Ok(None),
        None => unstable("its link in /dev/disk/by-id".to_owned()),
    }
}

fn refuse_copies(inventory: &Inventory, disk: &AttachedDisk) -> Result<()> {
    match inventory.duplicates_of(disk) {
        Some(duplicates) => Err(Error::Ambiguous { duplicates: Box::new(duplicates) }),
        None => Ok(()),
    }
}

fn refuse_uses(disk: &AttachedDisk) -> Result<()> {
    let mut uses = disk.uses.clone();
    if disk.role == Role::Retention && uses.is_empty() {
        uses.push(Use::KeptForRetention);
    }
    if uses.is_empty() {
        return Ok(());
    }
    Err(Error::InUse { disk: disk.shown().to_owned(), uses })
}

/// Once the bare disk is held, multipathd cannot make the map that it was told to make.
fn wait_for_map(system: &System, disk: &AttachedDisk, id: Option<&ScsiId>) -> Result<()> {
    let Some(id) = id.filter(|_| disk.map.is_none()) else { return Ok(()) };
    match multipath::wanted(system)?.contains(id) {
        true => Err(Error::NotMapped { id: id.to_string() }),
        false => Ok(()),
    }
}

/// Removes partition maps that nobody has open, and opens the disk before udev makes them again.
fn hold(system: &System, disk: &AttachedDisk, caching: Caching) -> Result<FileDisk> {
    let node = system.path(disk.device());
    for _ in 1..ATTEMPTS {
        partitions::unmap(system, disk)?;
        match FileDisk::open(&node, Access::Write, caching) {
            Err(error)
                if matches!(error.cause(), Cause::InUse { .. })
                    && !partitions::mapped(system, disk).is_empty() =>
            {
                thread::sleep(PAUSE);
            }
            outcome => return Ok(outcome?),
        }
    }
    Ok(FileDisk::open(node, Access::Write, caching)?)
}

/// Loop devices and logical volumes: whoever names them vouches for them.
fn open_other(system: &System, path: &Path, caching: Caching, refusal: Error) -> Result<TargetDisk> {
    let node = system.path(path);
    let number = node.metadata().ok().filter(|metadata| metadata.file_type().is_block_device());
    let Some(number) = number.map(|metadata| DeviceNumber::of_node(metadata.rdev())) else {
        return Err(refusal);
    };
    let folder = format!("/sys/dev/block/{number}");
    let is_loop = system.path(format!("{folder}/loop")).exists();
    let of_lvm = system.attribute(format!("{folder}/dm/uuid")).is_some_and(|uuid| uuid.starts_with("LVM-"));
    if !is_loop && !of_lvm {
        return Err(refusal);
    }
    let disk = FileDisk::open(node, Access::Write, caching)?;
    Ok(TargetDisk { disk, system: system.clone(), id: None, single: false })
}

/// The device that is open is the disk with this id, and no other came in its place since it was found.
fn prove(system: &System, look: &Look, disk: &FileDisk, expected: &ScsiId, path: &Path) -> Result<()> {
    let number = disk.device_number();
    let inventory = Inventory::read_with(system, look);
    let is_open = |candidate: &&AttachedDisk| match &candidate.map {
        Some(map) => Some(map.number) == number,
        None => candidate.paths.iter().any(|path| Some(path.number) == number),
    };
    let found = inventory.disks.iter().find(is_open);
    if let Some(found) = found.filter(|found| found.scsi_id.as_ref() == Some(expected)) {
        return refuse_copies(&inventory, found);
    }
    let found = found.and_then(|found| found.scsi_id.as_ref()).map_or("none".to_owned(), ToString::to_string);
    Err(Error::OtherDisk { disk: path.display().to_string(), expected: expected.to_string(), found })
}
