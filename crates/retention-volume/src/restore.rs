//! Mounting the volume again, after its disk went away or because it came late.
//!
//! A file system whose disk was gone is not used again as it is. ext4 may have stopped, and pages that could not be
//! written stay in memory as if they had been: recovery would read from them what the disk does not hold. So the file system is
//! unmounted, which drops those pages, checked, which replays its journal, and mounted as fstab says. Before anything is
//! done to the device, it must prove that it holds the volume's file system, so no check repairs a stranger's disk;
//! what is mounted in the end is looked at like everything that is mounted, by its marker.

use crate::ext4::Superblock;
use crate::{Error, FileSystemUuid, Result};
use block_device::{Output, System, mounts};
use std::path::Path;
use std::time::Duration;

/// Unmounting writes what can still be written; mounting replays a journal.
const MOUNT_TIMEOUT: Duration = Duration::from_secs(120);

/// After an error the whole volume is checked, which takes minutes for terabytes in few files.
const CHECK_TIMEOUT: Duration = Duration::from_secs(4 * 3600);

/// Of e2fsck(8): errors were corrected.
const CORRECTED: i32 = 1;
/// Of e2fsck(8): errors were left uncorrected.
const LEFT_UNCORRECTED: i32 = 4;

/// Unmounts what is at `folder`, if anything is, then checks the volume's file system on `device` and has it mounted as
/// fstab says. Nothing may be open on the volume.
///
/// # Errors
/// Class [`disk::Class::Retry`] for what may pass: it is busy, or the disk went away again.
pub fn bring_back(system: &System, folder: &Path, device: &Path, file_system: FileSystemUuid) -> Result<()> {
    prove(system, device, file_system)?;
    unmount(system, folder)?;
    check(system, folder, device)?;
    let output = system.run("mount", &[folder], MOUNT_TIMEOUT)?;
    succeed("mount", folder, &output)
}

/// The device holds the file system that is meant.
fn prove(system: &System, device: &Path, expected: FileSystemUuid) -> Result<()> {
    let found = Superblock::read(&system.path(device)).map_err(|error| Error::NotRestored {
        doing: "read",
        object: device.to_owned(),
        said: error.to_string(),
    })?;
    let found = found.map(|superblock| superblock.uuid());
    if found == Some(expected) {
        return Ok(());
    }
    Err(Error::OtherDevice { device: device.to_owned(), expected, found })
}

fn unmount(system: &System, folder: &Path) -> Result<()> {
    // Each round takes one of what was mounted one over the other; a person may have done that twice.
    for _ in 0..4 {
        let place = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        if mounts::at(&mounts::read(system)?, &place).is_none() {
            return Ok(());
        }
        let output = system.run("umount", &[folder], MOUNT_TIMEOUT)?;
        succeed("unmount", folder, &output)?;
    }
    let said = "too much is mounted there, one over the other".to_owned();
    Err(Error::NotRestored { doing: "unmount", object: folder.to_owned(), said })
}

fn check(system: &System, folder: &Path, device: &Path) -> Result<()> {
    let output = system.run("e2fsck", &[Path::new("-p"), device], CHECK_TIMEOUT)?;
    match output.code {
        Some(0 | CORRECTED) => Ok(()),
        Some(code) if code & LEFT_UNCORRECTED != 0 => Err(Error::NeedsRepair {
            device: device.to_owned(),
            path: folder.to_owned(),
            said: output.complaint(),
        }),
        _ => succeed("check", device, &output),
    }
}

fn succeed(doing: &'static str, object: &Path, output: &Output) -> Result<()> {
    if output.success {
        return Ok(());
    }
    Err(Error::NotRestored { doing, object: object.to_owned(), said: output.complaint() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use disk::Class;
    use std::fs;
    use std::path::PathBuf;

    const OURS: &str = "01234567-89ab-cdef-0123-456789abcdef";
    const OTHER: &str = "11234567-89ab-cdef-0123-456789abcdef";
    const DEVICE: &str = "/dev/mapper/36000c29a";

    /// A machine whose mount, umount and e2fsck write down what they are told.
    struct Machine {
        root: tempfile::TempDir,
    }

    impl Machine {
        /// The volume is mounted; its device holds the file system with this UUID.
        fn new(uuid: &str) -> Machine {
            let machine = Machine { root: tempfile::tempdir().unwrap() };
            for folder in ["sbin", "dev/mapper", "proc/self"] {
                fs::create_dir_all(machine.path(folder)).unwrap();
            }
            machine.program("mount", "echo \"$LINE\" >$ROOT/proc/self/mountinfo");
            machine.program("umount", ": >$ROOT/proc/self/mountinfo");
            machine.program("e2fsck", "");
            machine.run_alone("mount");
            let mut superblock = vec![0; 4096];
            superblock[1024 + 56..][..2].copy_from_slice(&[0x53, 0xef]);
            let digits = u128::from_str_radix(&uuid.replace('-', ""), 16).unwrap();
            superblock[1024 + 104..][..16].copy_from_slice(&digits.to_be_bytes());
            fs::write(machine.path(&DEVICE[1..]), superblock).unwrap();
            machine
        }

        fn path(&self, path: &str) -> PathBuf {
            self.root.path().join(path)
        }

        fn program(&self, name: &str, script: &str) {
            let (root, program) = (self.root.path().display(), self.path("sbin").join(name));
            let text = format!(
                "#!/bin/sh\nROOT={root}\nLINE='30 22 253:0 / /mnt rw - ext4 {DEVICE} rw'\n\
                 echo \"{name} $*\" >>$ROOT/log\n{script}\n"
            );
            testkit::program(&program, &text);
        }

        fn system(&self) -> System {
            System::at(self.root.path())
        }

        /// Runs a program that is not written down.
        fn run_alone(&self, program: &str) {
            self.system().run(program, &["/mnt"], MOUNT_TIMEOUT).unwrap();
            fs::remove_file(self.path("log")).unwrap();
        }

        fn bring_back(&self) -> Result<()> {
            let uuid = FileSystemUuid::parse(OURS).unwrap();
            bring_back(&self.system(), Path::new("/mnt"), Path::new(DEVICE), uuid)
        }

        /// What was done.
        fn log(&self) -> Vec<String> {
            let log = fs::read_to_string(self.path("log")).unwrap_or_default();
            log.lines().map(str::to_owned).collect()
        }
    }

    const ALL: [&str; 3] = ["umount /mnt", "e2fsck -p /dev/mapper/36000c29a", "mount /mnt"];

    #[test]
    fn a_volume_is_unmounted_checked_and_mounted() {
        for status in [0, 1] {
            let machine = Machine::new(OURS);
            machine.program("e2fsck", &format!("exit {status}"));
            machine.bring_back().unwrap();
            assert_eq!(machine.log(), ALL);
        }
    }

    #[test]
    fn one_that_is_not_mounted_is_checked_and_mounted() {
        let machine = Machine::new(OURS);
        machine.run_alone("umount");
        machine.bring_back().unwrap();
        assert_eq!(machine.log(), ALL[1..]);
    }

    #[test]
    fn one_that_is_busy_is_left_and_tried_again() {
        let machine = Machine::new(OURS);
        machine.program("umount", "echo \"umount: $1: target is busy.\" >&2; exit 32");
        let error = machine.bring_back().unwrap_err();
        assert_eq!(error.class(), Class::Retry);
        assert!(error.to_string().contains("target is busy"), "{error}");
        assert_eq!(machine.log(), ["umount /mnt"]);
    }

    #[test]
    fn one_that_the_check_cannot_mend_is_not_mounted() {
        for (status, class) in
            [(4, Class::Operator), (12, Class::Operator), (8, Class::Retry), (2, Class::Retry)]
        {
            let machine = Machine::new(OURS);
            machine.program("e2fsck", &format!("echo 'UNEXPECTED INCONSISTENCY'; exit {status}"));
            let error = machine.bring_back().unwrap_err();
            assert_eq!(error.class(), class, "{error}");
            assert!(error.to_string().contains("UNEXPECTED INCONSISTENCY"), "{error}");
            assert!(class == Class::Retry || error.to_string().contains("e2fsck -f /dev/mapper"), "{error}");
            assert_eq!(machine.log(), ALL[..2]);
        }
    }

    /// Invariant 6: nothing is done to a disk that is not the volume's.
    #[test]
    fn invariant_6_another_file_system_is_not_touched() {
        let machine = Machine::new(OTHER);
        let error = machine.bring_back().unwrap_err().to_string();
        assert!(error.contains(OTHER) && error.contains(OURS) && error.contains(DEVICE), "{error}");
        assert!(machine.log().is_empty());
        // A disk that holds something else, or is gone again.
        fs::write(machine.path(&DEVICE[1..]), vec![0; 4096]).unwrap();
        assert!(matches!(machine.bring_back().unwrap_err(), Error::OtherDevice { found: None, .. }));
        fs::remove_file(machine.path(&DEVICE[1..])).unwrap();
        assert_eq!(machine.bring_back().unwrap_err().class(), Class::Retry);
        assert!(machine.log().is_empty());
    }
}
