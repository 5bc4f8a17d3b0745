//! What is on a disk on which nothing known was found: nothing, or something that nobody here knows.
//!
//! [`block_device`] knows many formats, and there are always more: a member of DRBD or of a RAID in firmware, a disk of
//! Ceph, Oracle or VMware's own. So before a disk counts as empty, the machine's own `blkid -p` is asked, which knows
//! them, and what it names keeps a disk from being erased like everything else. What neither knows is not refused,
//! since `wipefs -a` leaves such a disk; but a disk that is not zero at its ends is never called empty.

use crate::error::Result;
use block_device::inventory::{AttachedDisk, Signature};
use block_device::{Error, PROGRAM_TIMEOUT, System};
use disk::Bytes;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// What a disk holds of which no more can be told.
pub(crate) const UNKNOWN: &str = "data of no known form";

/// How much is read at each end of a disk, in bytes.
const END: u64 = 1 << 20;

/// Of blkid(8): nothing was found, or the device could not be opened.
const NOTHING: i32 = 2;
/// Of blkid(8): more than one thing was found.
const AMBIVALENT: i32 = 8;

/// The disk with what the second opinion says that it holds, where the first found nothing.
///
/// # Errors
/// When `blkid` is missing, late, or cannot read the disk.
pub(crate) fn looked_into(system: &System, disk: &AttachedDisk) -> Result<AttachedDisk> {
    let mut disk = disk.clone();
    if disk.signature.is_none() && disk.size > Bytes::ZERO {
        disk.signature = second_opinion(system, &disk.device())?;
    }
    Ok(disk)
}

fn second_opinion(system: &System, device: &str) -> Result<Option<Signature>> {
    let arguments = ["-p", "-o", "export", device];
    let output = system.run("blkid", &arguments, PROGRAM_TIMEOUT)?;
    match output.code {
        Some(0) => Ok(named(&output.stdout)),
        Some(NOTHING) if output.stderr.trim().is_empty() => Ok(None),
        Some(AMBIVALENT) => Ok(Some(no_file_system("more than one thing, by blkid"))),
        _ => {
            let command = format!("blkid {}", arguments.join(" "));
            Err(Error::ProgramRefused { command, said: output.complaint() }.into())
        }
    }
}

/// What stands in the lines `KEY=value`. What is no file system has no UUID by which it might be erased.
fn named(told: &str) -> Option<Signature> {
    let value = |key: &str| {
        let of_line = |line: &str| Some(line.strip_prefix(key)?.strip_prefix('=')?.trim().to_owned());
        told.lines().find_map(of_line).filter(|value| !value.is_empty())
    };
    if let Some(name) = value("TYPE") {
        return Some(match value("USAGE").as_deref() {
            Some("filesystem") => Signature::FileSystem { name, uuid: value("UUID"), label: value("LABEL") },
            _ => no_file_system(&name),
        });
    }
    if let Some(name) = value("PTTYPE") {
        return Some(Signature::PartitionTable { name });
    }
    // The device itself, and its place in a table, are no contents.
    let is_of_device = |line: &str| {
        line.trim().is_empty() || line.starts_with("DEVNAME=") || line.starts_with("PART_ENTRY_")
    };
    (!told.lines().all(is_of_device)).then(|| no_file_system("something, by blkid"))
}

fn no_file_system(name: &str) -> Signature {
    Signature::FileSystem { name: name.to_owned(), uuid: None, label: None }
}

/// Whether the first and the last MiB are all zero.
pub(crate) fn is_blank(system: &System, disk: &AttachedDisk) -> Result<bool> {
    let device = disk.device();
    let length = disk.size.0.min(END);
    let ends = || -> io::Result<bool> {
        let file = File::open(system.path(&device))?;
        let mut bytes = vec![0; length as usize];
        for offset in [0, disk.size.0 - length] {
            file.read_exact_at(&mut bytes, offset)?;
            if bytes.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
        }
        Ok(true)
    };
    ends().map_err(|cause| Error::File { doing: "read", path: device.clone().into(), cause }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_blkid_names_is_on_the_disk() {
        let found = |told: &str| named(told).map(|found| found.to_string());
        assert_eq!(found("DEVNAME=/dev/sdb\n"), None);
        assert_eq!(found("DEVNAME=/dev/sdb1\nPART_ENTRY_SCHEME=dos\nPART_ENTRY_NUMBER=1\n"), None);
        assert_eq!(found("TYPE=nilfs2\nUSAGE=filesystem\nUUID=a\nLABEL=b\n"), Some("nilfs2 \"b\"".into()));
        assert_eq!(
            named("UUID=1\nTYPE=drbd\nUSAGE=raid\n"),
            Some(Signature::FileSystem { name: "drbd".into(), uuid: None, label: None })
        );
        assert_eq!(named("PTTYPE=mac\n"), Some(Signature::PartitionTable { name: "mac".into() }));
        assert!(found("USAGE=other\n").unwrap().contains("something"));
    }
}
