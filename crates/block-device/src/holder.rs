//! Who holds a file or device: for messages only, found by looking around in `/proc` and `/sys`.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

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
    let number = format!("{}:{}", nix::sys::stat::major(wanted.rdev()), nix::sys::stat::minor(wanted.rdev()));
    if let Some(place) = mounted_at(&number) {
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

fn mounted_at(number: &str) -> Option<String> {
    // Fields of a line: mount id, parent id, major:minor, root, mount point.
    let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
    table.lines().find_map(|line| {
        let mut fields = line.split(' ');
        (fields.nth(2)? == number).then(|| fields.nth(1).map(|place| place.replace("\\040", " ")))?
    })
}

fn find_process(wanted: &fs::Metadata, own: Option<&File>, locked: bool) -> Option<String> {
    let myself = std::process::id();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut mine = None;
    for process in ids {
        let descriptors = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
        for descriptor in descriptors {
            let number = descriptor.file_name().to_string_lossy().into_owned();
            let is_own = own.is_some_and(|file| process == myself && number == file.as_raw_fd().to_string());
            let Ok(found) = fs::metadata(descriptor.path()) else { continue };
            if is_own || !same(&found, wanted) || (locked && !has_lock(process, &number)) {
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
