//! The marker file: a few lines of text that make a volume a retention volume, and tell it from all others.
//!
//! ```text
//! master-target retention volume, format 1
//! id = 0b3e7c1a-…                         made once
//! file-system = 5f9d2c40-…                UUID of the ext4 that it was written into; none in a trial folder
//! ```
//!
//! The second line moves along when the files are copied elsewhere; the third tells the copy from the volume.

use crate::{Error, Result};
use block_device::HostFolder;
use disk::{Access, Bytes, Cause, Disk, Folder};
use std::fmt;
use std::fs;
use std::path::Path;

pub(crate) const MARKER: &str = "retention-volume";
const MARKER_BEING_WRITTEN: &str = "retention-volume.new";
const MARKER_FORMAT: &str = "master-target retention volume, format 1";
/// A marker is about a hundred bytes; more is something else.
const MAX_MARKER: Bytes = Bytes(4096);

/// Id of a retention volume, as its marker holds it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VolumeId(String);

impl VolumeId {
    /// The id in a text, or `None` for what cannot be one: 1 to 64 hexadecimal digits and hyphens.
    pub fn parse(text: &str) -> Option<VolumeId> {
        let plausible = (1..=64).contains(&text.len());
        (plausible && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-'))
            .then(|| VolumeId(text.to_owned()))
    }

    /// An id that no other volume has, from the kernel.
    fn new() -> Result<VolumeId> {
        VolumeId::parse(&new_uuid()?).ok_or_else(no_uuid)
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// UUID of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSystemUuid(u128);

impl FileSystemUuid {
    /// The UUID in a text of 32 hexadecimal digits with hyphens anywhere.
    pub fn parse(text: &str) -> Option<FileSystemUuid> {
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        let plausible = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        plausible.then(|| u128::from_str_radix(&digits, 16).ok().map(FileSystemUuid)).flatten()
    }

    /// A UUID that no other file system has, from the kernel.
    pub fn new() -> Result<FileSystemUuid> {
        FileSystemUuid::parse(&new_uuid()?).ok_or_else(no_uuid)
    }

    /// The UUID in the bytes of a superblock.
    pub(crate) fn from_bytes(bytes: [u8; 16]) -> FileSystemUuid {
        FileSystemUuid(u128::from_be_bytes(bytes))
    }

    /// Whether a folder lies on the ext4 with this UUID.
    pub(crate) fn is_that_of(self, folder: &HostFolder) -> Result<bool> {
        Ok(folder.file_system_id()? == self.statfs_id())
    }

    /// What statfs(2) tells of an ext4 with this UUID: both halves, little endian, one over the other
    /// (fs/ext4/super.c, `ext4_statfs`).
    fn statfs_id(self) -> u64 {
        let bytes = self.0.to_be_bytes();
        let (first, second) = bytes.split_at(8);
        let half = |half: &[u8]| u64::from_le_bytes(half.try_into().expect("a half has 8 bytes"));
        half(first) ^ half(second)
    }
}

impl fmt::Display for FileSystemUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format!("{:032x}", self.0);
        let [a, b, c, d, e] = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
        write!(f, "{a}-{b}-{c}-{d}-{e}")
    }
}

/// What a marker says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) id: VolumeId,
    pub(crate) file_system: Option<FileSystemUuid>,
}

impl Marker {
    /// The marker in a folder; `path` is its path in messages. `None` when there is none.
    pub(crate) fn read(path: &Path, folder: &HostFolder) -> Result<Option<Marker>> {
        let file = match folder.open(MARKER, Access::Read) {
            Ok(file) => file,
            Err(error) if matches!(error.cause(), Cause::NotFound) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if file.size() > MAX_MARKER {
            return Err(Error::BadMarker { path: path.to_owned(), what: "it is too long" });
        }
        let mut bytes = vec![0; file.size().as_usize()];
        file.read_at(Bytes::ZERO, &mut bytes)?;
        Marker::parse(path, &bytes).map(Some)
    }

    /// The marker with these bytes, of the volume at `path`.
    pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<Marker> {
        let bad = |what| Error::BadMarker { path: path.to_owned(), what };
        let text = std::str::from_utf8(bytes).map_err(|_| bad("it is not text"))?;
        let mut lines = text.lines();
        if lines.next() != Some(MARKER_FORMAT) {
            return Err(bad("its first line names no format known here"));
        }
        let id = lines.next().and_then(|line| line.strip_prefix("id = ")).and_then(VolumeId::parse);
        let id = id.ok_or_else(|| bad("its second line holds no id"))?;
        let file_system = match lines.next().map(|line| line.strip_prefix("file-system = ")) {
            None => None,
            Some(uuid) => {
                let uuid = uuid.and_then(FileSystemUuid::parse);
                Some(uuid.ok_or_else(|| bad("its third line holds no UUID of a file system"))?)
            }
        };
        Ok(Marker { id, file_system })
    }

    /// Marks a folder: the marker is there as a whole or not at all, and durable on return.
    pub(crate) fn write(folder: &HostFolder, file_system: Option<FileSystemUuid>) -> Result<Marker> {
        let id = VolumeId::new()?;
        if folder.list()?.iter().any(|name| name == MARKER_BEING_WRITTEN) {
            folder.remove(MARKER_BEING_WRITTEN)?;
        }
        let mut text = format!("{MARKER_FORMAT}\nid = {id}\n");
        if let Some(uuid) = file_system {
            text.push_str(&format!("file-system = {uuid}\n"));
        }
        let file = folder.create(MARKER_BEING_WRITTEN)?;
        file.write_at(Bytes::ZERO, text.as_bytes())?;
        file.sync()?;
        folder.rename(MARKER_BEING_WRITTEN, MARKER)?;
        folder.sync()?;
        Ok(Marker { id, file_system })
    }
}

fn new_uuid() -> Result<String> {
    let text = fs::read_to_string(RANDOM_UUID)
        .map_err(|error| disk::Error::from_io(disk::Operation::Read, RANDOM_UUID, None, error))?;
    Ok(text.trim().to_owned())
}

const RANDOM_UUID: &str = "/proc/sys/kernel/random/uuid";

fn no_uuid() -> Error {
    let cause = Cause::Corrupt { what: "the kernel gave no UUID".to_owned() };
    disk::Error::new(disk::Operation::Read, RANDOM_UUID, None, cause).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_read_and_written_as_blkid_does() {
        let text = "01234567-89ab-cdef-fedc-ba9876543210";
        let uuid = FileSystemUuid::parse(text).unwrap();
        assert_eq!(uuid.to_string(), text);
        assert_eq!(FileSystemUuid::parse(&text.to_uppercase()), Some(uuid));
        assert_eq!(uuid.statfs_id(), 0xefcd_ab89_6745_2301 ^ 0x1032_5476_98ba_dcfe);
        for wrong in
            ["", "0123", "g1234567-89ab-cdef-fedc-ba9876543210", "+1234567-89ab-cdef-fedc-ba987654321"]
        {
            assert_eq!(FileSystemUuid::parse(wrong), None, "{wrong}");
        }
        assert_ne!(FileSystemUuid::new().unwrap(), FileSystemUuid::new().unwrap());
    }
}
