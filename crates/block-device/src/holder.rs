//! Who holds a file or device: for messages only, found by looking around in `/proc` and `/sys`.

use crate::disk_file::FileDisk;
use crate::handle::Caching;
use crate::inventory::{AttachedDisk, DeviceNumber};
use crate::mounts;
use crate::system::System;
use disk::{Access, Cause};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Who has a disk for himself alone, or locked, though the kernel lists no use of it; `None` when nobody has. It is
/// tried out, by opening the disk for a moment: exclusively, and for reading only, so that udev takes no notice.
pub fn opened_by(system: &System, disk: &AttachedDisk) -> Option<String> {
    let nodes = match &disk.map {
        // The paths below it are the map's.
        Some(_) => vec![disk.device()],
        None => disk.paths.iter().map(|path| format!("/dev/{}", path.name.replace('!', "/"))).collect(),
    };
    nodes.iter().find_map(|node| holder_of(&system.path(node)))
}

fn holder_of(node: &Path) -> Option<String> {
    let flags = nix::libc::O_EXCL | nix::libc::O_NONBLOCK;
    match OpenOptions::new().read(true).custom_flags(flags).open(node) {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => return Some(of_device(node)),
        _ => {}
    }
    match FileDisk::open(node, Access::Read, Caching::PageCache).err()?.cause() {
        Cause::InUse { holder } => Some(holder.clone()),
        _ => None,
    }
}

/// The process that has `file` locked, or at least open, in words. `process` is what the kernel named already.
pub(crate) fn of_locked(file: &File, process: Option<i32>) -> String {
    if let Some(process) = process {
        return describe(process as u32);
    }
    let Ok(wanted) = file.metadata() else { return unknown() };
    find_process(&wanted, Some(file), true)
        .or_else(|| find_process(&wanted, Some(file), false))
        .unwrap_or_else(unknown)
}

/// What keeps the kernel from giving the device at `path` away.
pub(crate) fn of_device(path: &Path) -> String {
    let Ok(wanted) = fs::metadata(path) else { return unknown() };
    let number = DeviceNumber::of_node(wanted.rdev());
    if let Some(place) = mounted_at(number) {
        return format!("it is mounted at {place}");
    }
    let users: Vec<String> = fs::read_dir(format!("/sys/dev/block/{number}/holders"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    if !users.is_empty() {
        return format!("it is part of the device {}", users.join(", "));
    }
    find_process(&wanted, None, false)
        .unwrap_or_else(|| "the system uses it or one of its partitions".to_owned())
}

fn unknown() -> String {
    "another program has it open".to_owned()
}

fn mounted_at(number: DeviceNumber) -> Option<String> {
    let table = fs::read("/proc/self/mountinfo").ok()?;
    let mounts = mounts::parse(&String::from_utf8_lossy(&table));
    mounts.into_iter().find(|mount| mount.number == number).map(|mount| mount.place)
}

/// Which descriptors are looked at. A look at a file of a server that is gone waits for ever, so where the link of the
/// descriptor leads must fit before.
enum Likely {
    /// A block device has its node in /dev.
    Node,
    /// A file of this name, in whatever mount namespace.
    Name(OsString),
}

impl Likely {
    fn of(wanted: &fs::Metadata, own: Option<&File>) -> Option<Likely> {
        if wanted.file_type().is_block_device() {
            return Some(Likely::Node);
        }
        let link = fs::read_link(format!("/proc/self/fd/{}", own?.as_raw_fd())).ok()?;
        Some(Likely::Name(link.file_name()?.to_owned()))
    }

    fn fits(&self, descriptor: &Path) -> bool {
        let Ok(link) = fs::read_link(descriptor) else { return false };
        match self {
            Likely::Node => link.starts_with("/dev"),
            Likely::Name(name) => link.file_name() == Some(name),
        }
    }
}

fn find_process(wanted: &fs::Metadata, own: Option<&File>, locked: bool) -> Option<String> {
    let myself = std::process::id();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let likely = Likely::of(wanted, own)?;
    let mut mine = None;
    for process in ids {
        let descriptors = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
        for descriptor in descriptors {
            let number = descriptor.file_name().to_string_lossy().into_owned();
            let is_own = own.is_some_and(|file| process == myself && number == file.as_raw_fd().to_string());
            if is_own || !likely.fits(&descriptor.path()) {
                continue;
            }
            let Ok(found) = fs::metadata(descriptor.path()) else { continue };
            if !same(&found, wanted) || (locked && !has_lock(process, &number)) {
                continue;
            }
            if process != myself {
                return Some(describe(process));
            }
            mine = Some("another handle of this process".to_owned());
        }
    }
    mine
}

fn same(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    if one.file_type().is_block_device() && other.file_type().is_block_device() {
        return one.rdev() == other.rdev();
    }
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

fn has_lock(process: u32, descriptor: &str) -> bool {
    fs::read_to_string(format!("/proc/{process}/fdinfo/{descriptor}"))
        .is_ok_and(|text| text.lines().any(|line| line.starts_with("lock:")))
}

fn describe(process: u32) -> String {
    match fs::read_to_string(format!("/proc/{process}/comm")) {
        Ok(command) => format!("{} (process {process})", command.trim_end()),
        Err(_) => format!("process {process}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_descriptors_that_can_be_the_thing_are_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let file = File::create(folder.path().join("disk")).unwrap();
        let other = File::create(folder.path().join("other")).unwrap();
        let link = |file: &File| format!("/proc/self/fd/{}", file.as_raw_fd());
        let likely = Likely::of(&file.metadata().unwrap(), Some(&file)).unwrap();
        assert!(likely.fits(Path::new(&link(&file))) && !likely.fits(Path::new(&link(&other))));
        let null = File::open("/dev/null").unwrap();
        assert!(Likely::Node.fits(Path::new(&link(&null))) && !Likely::Node.fits(Path::new(&link(&file))));
        assert!(!likely.fits(Path::new("/proc/self/fd/none")));
    }

    #[test]
    fn a_file_that_is_open_elsewhere_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        let file = File::create(&path).unwrap();
        let mut child =
            std::process::Command::new("sleep").arg("60").stdin(File::open(&path).unwrap()).spawn().unwrap();
        let told = of_locked(&file, None);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(told.contains(&format!("process {}", child.id())), "{told}");
    }
}
