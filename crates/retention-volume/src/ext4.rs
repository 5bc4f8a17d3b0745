//! The ext4 of a retention volume: how it is made, and what its superblock tells.
//!
//! It is made by the machine's own mke2fs, with its own choice of features: that of Ubuntu 16.04 (1.42.13) makes none
//! that its kernel and e2fsck do not know, and one made elsewhere might. The options below mean the same in 1.42.13 and
//! in 1.47.

use crate::error::{Error, Result};
use crate::marker::{FileSystemUuid, MARKER, Marker};
use block_device::{PROGRAM_TIMEOUT, System};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

/// Label of each retention volume that was made here.
pub(crate) const LABEL: &str = "mt-retention";

/// Time for making the file system: with little to write it takes seconds, on a slow array minutes.
const LONGEST: Duration = Duration::from_secs(3600);

/// Makes an ext4 with this UUID.
///
/// | option | reason |
/// |---|---|
/// | `-F` | no question, which mke2fs with a pipe as its input answers with yes anyway; one alone still refuses a device in use |
/// | `-e remount-ro` | after an error nothing is written any more, also where somebody mounts it without our options |
/// | `-b 4096` | the same on every size of disk |
/// | `-m 0` | nothing is kept back for root: root is the only one who writes |
/// | `-i 262144` | segments have 1 MiB at least: four inodes for each of the smallest, and a sixteenth of the default's tables |
/// | `nodiscard` | what a mistaken disk held can still be saved, and a thin disk of an array is not kept busy for minutes |
/// | `lazy_itable_init=1` | the kernel clears the tables later, while the volume is in use already |
pub(crate) fn make(system: &System, device: &str, uuid: FileSystemUuid) -> Result<()> {
    let uuid = uuid.to_string();
    let arguments = [
        "-F",
        "-q",
        "-U",
        &uuid,
        "-L",
        LABEL,
        "-e",
        "remount-ro",
        "-b",
        "4096",
        "-m",
        "0",
        "-i",
        "262144",
        "-E",
        "nodiscard,lazy_itable_init=1",
        device,
    ];
    system.run_well("mkfs.ext4", &arguments, LONGEST)?;
    Ok(())
}

/// Whether the ext4 on a device has ever been mounted.
pub(crate) fn was_mounted(system: &System, device: &str) -> Result<bool> {
    let failed = |cause| Error::from(block_device::Error::File { doing: "read", path: device.into(), cause });
    let superblock = Superblock::read(&system.path(device)).map_err(failed)?;
    // What cannot be told counts as mounted: then nothing is made anew.
    Ok(superblock.is_none_or(|superblock| superblock.was_mounted()))
}

/// The superblock of an ext2, 3 or 4 (kernel: fs/ext4/ext4.h), as far as it is needed here.
pub(crate) struct Superblock([u8; 120]);

impl Superblock {
    const AT: u64 = 1024;
    const LAST_MOUNT: usize = 44;
    const MAGIC: usize = 56;
    const UUID: usize = 104;

    /// The one on a device, or in an image; `None` when it holds none.
    pub(crate) fn read(device: &Path) -> io::Result<Option<Superblock>> {
        let mut bytes = [0; 120];
        File::open(device)?.read_exact_at(&mut bytes, Superblock::AT)?;
        Ok((bytes[Superblock::MAGIC..Superblock::MAGIC + 2] == [0x53, 0xef]).then_some(Superblock(bytes)))
    }

    pub(crate) fn uuid(&self) -> FileSystemUuid {
        let bytes = &self.0[Superblock::UUID..Superblock::UUID + 16];
        FileSystemUuid::from_bytes(bytes.try_into().expect("a UUID has 16 bytes"))
    }

    /// mke2fs leaves the time of the last mount at zero.
    fn was_mounted(&self) -> bool {
        self.0[Superblock::LAST_MOUNT..Superblock::LAST_MOUNT + 4] != [0; 4]
    }
}

/// The marker on an ext4 that is not mounted; `None` when there is none. debugfs only reads.
pub(crate) fn marker(system: &System, device: &str) -> Result<Option<Marker>> {
    let request = format!("cat /{MARKER}");
    let arguments = ["-c", "-R", &request, device];
    let output = system.run("debugfs", &arguments, PROGRAM_TIMEOUT)?;
    if output.stdout.is_empty() {
        return Ok(None);
    }
    Marker::parse(Path::new(device), output.stdout.as_bytes()).map(Some)
}

/// Whether the marker on an ext4 that is not mounted belongs to it.
///
/// # Errors
/// [`Error::NotPrepared`] without a marker, [`Error::OtherFileSystem`] for that of another file system.
pub(crate) fn check_marker(system: &System, device: &str, uuid: FileSystemUuid) -> Result<()> {
    match marker(system, device)? {
        None => Err(Error::NotPrepared { path: device.into() }),
        Some(Marker { file_system: Some(expected), .. }) if expected != uuid => {
            Err(Error::OtherFileSystem { path: device.into(), expected })
        }
        Some(_) => Ok(()),
    }
}
