//! /etc/fstab: what it mounts, and the one entry that brings the retention volume back after a restart.
//!
//! The file is somebody else's. A wrong byte in it can keep the machine from booting, so it is never written anew from
//! what was understood of it: an edit adds one line, or changes fields of one line, and every other byte stays,
//! whatever it is (tabs, comments, carriage returns, bytes that are no UTF-8, a missing last newline). What cannot be
//! joined with our entry is a [`Conflict`] and left to a person.
//!
//! An [`Edit`] is planned first and can be shown; writing it takes a lock, and refuses when the file has changed in
//! between. The file as it was stays beside it.
//!
//! Lines are read as libmount and glibc read them: fields are parted by blanks and tabs, a `#` in front makes a comment,
//! and blanks within a field stand as `\040`.

mod conflict;
mod edit;
mod line;
mod write;

pub use conflict::Conflict;
pub use edit::Edit;
pub use line::{escape, unescape};
pub use write::{BACKUP, PATH};

use line::Line;
use std::path::{Path, PathBuf};

/// An entry of fstab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its line, from 1.
    pub line: usize,
    /// What is mounted: `/dev/sdb`, `UUID=…`, …
    pub device: String,
    /// Where; paths are equal whatever slashes they end with.
    pub place: PathBuf,
    /// ext4, swap, …; empty when it is missing.
    pub kind: String,
    /// `defaults` when they are missing.
    pub options: Vec<String>,
}

impl Entry {
    /// Whether one of its options is this.
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|own| own == option)
    }

    /// The node that its device stands for, as udev links it; `None` for what is no device.
    pub fn node(&self) -> Option<PathBuf> {
        let (tag, value) = self.device.split_once('=').unwrap_or(("", &self.device));
        let folder = match tag {
            "" => return value.starts_with("/dev/").then(|| PathBuf::from(value)),
            "UUID" => "by-uuid",
            "LABEL" => "by-label",
            "PARTUUID" => "by-partuuid",
            "PARTLABEL" => "by-partlabel",
            _ => return None,
        };
        Some(Path::new("/dev/disk").join(folder).join(value.trim_matches('"')))
    }
}

/// The entry that is to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The node of the volume: `/dev/mapper/<WWID>`.
    pub device: String,
    /// The mount point.
    pub place: PathBuf,
}

/// The file, every byte of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fstab {
    bytes: Vec<u8>,
}

impl Fstab {
    /// The file with these bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Fstab {
        Fstab { bytes: bytes.into() }
    }

    /// What it was made of.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its entries, in order.
    pub fn entries(&self) -> Vec<Entry> {
        self.lines().filter_map(|(number, line)| line.entry(number)).collect()
    }

    /// The entry that decides what is mounted there: the last.
    pub fn at(&self, place: &Path) -> Option<Entry> {
        self.entries().into_iter().rev().find(|entry| entry.place == place)
    }

    /// Lines with their numbers, from 1.
    fn lines(&self) -> impl Iterator<Item = (usize, Line<'_>)> {
        (1..).zip(self.bytes.split_inclusive(|byte| *byte == b'\n').map(Line::parse))
    }
}

#[cfg(test)]
mod tests;
