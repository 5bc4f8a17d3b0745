//! What one look at the machine shows of the volume.
//!
//! A look asks mountinfo and sysfs first. The file system itself is touched only when its disk can be reached and the kernel
//! still writes to it: a map whose paths are all gone can keep a read waiting for ever.

use crate::fstab::{Entry, Fstab};
use crate::{Place, Result, RetentionVolume, VolumeId};
use block_device::inventory::DeviceNumber;
use block_device::mounts::{self, Mount};
use block_device::{System, has_path};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The volume at one moment.
#[derive(Debug)]
pub struct Sight {
    /// What is mounted at the folder.
    pub mounted: Option<Mounted>,
    /// What fstab says is to be mounted there.
    pub wanted: Option<Wanted>,
    /// The volume, or why it is none; `None` while it cannot be asked.
    pub volume: Option<Result<RetentionVolume>>,
}

/// A file system at the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// What was mounted.
    pub source: String,
    /// Whether its disk can be reached; what lies on no disk always can.
    pub has_path: bool,
    /// Whether it is what fstab says is to be mounted there.
    pub is_wanted: bool,
    /// Whether it can be written.
    pub access: Access,
}

/// Whether a file system can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It can.
    Writable,
    /// Someone mounted it, or mounted it again, so that it can only be read.
    MadeReadOnly,
    /// The kernel stopped it after an error.
    Stopped,
}

/// An entry of fstab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The node of its device.
    pub device: PathBuf,
    /// Whether it is mounted without being asked for.
    pub automatic: bool,
    /// Whether the device is there and can be reached.
    pub has_path: bool,
}

impl Sight {
    /// Looks. `known` is the id of the volume where one was used before.
    ///
    /// # Errors
    /// When mountinfo cannot be read. An fstab that cannot be read names nothing.
    pub fn of(system: &System, place: &Place, known: Option<&VolumeId>) -> Result<Sight> {
        let mounts = mounts::read(system)?;
        // The kernel lists where links lead to.
        let folder = place.folder.canonicalize().unwrap_or_else(|_| place.folder.clone());
        let entry = Fstab::read(system).ok().and_then(|fstab| fstab.at(&place.folder));
        let node = entry.as_ref().and_then(Entry::node);
        let number = node.as_ref().and_then(|node| number_of(system, node));
        let mounted = mounts::at(&mounts, &folder).map(|mount| Mounted {
            source: mount.source.clone(),
            has_path: mount.number.major == 0 || has_path(system, mount.number),
            is_wanted: number == Some(mount.number)
                || node.as_deref().is_some_and(|node| node == Path::new(&mount.source)),
            access: access(mount),
        });
        let answers = |mounted: &Mounted| mounted.has_path && mounted.access == Access::Writable;
        let volume =
            mounted.as_ref().filter(|mounted| answers(mounted)).map(|_| RetentionVolume::open(place, known));
        let wanted = entry.zip(node).map(|(entry, device)| Wanted {
            device,
            automatic: !entry.has("noauto"),
            has_path: number.is_some_and(|number| has_path(system, number)),
        });
        Ok(Sight { mounted, wanted, volume })
    }
}

fn access(mount: &Mount) -> Access {
    match (mount.was_made_read_only(), mount.is_read_only()) {
        (true, _) => Access::MadeReadOnly,
        (false, true) => Access::Stopped,
        (false, false) => Access::Writable,
    }
}

/// Number of the device that a node, or a link to one, stands for.
fn number_of(system: &System, node: &Path) -> Option<DeviceNumber> {
    let metadata = system.path(node).metadata().ok()?;
    metadata.file_type().is_block_device().then(|| DeviceNumber::of_node(metadata.rdev()))
}
