//! What the first (and last) blocks of a disk or partition say that it holds.
//!
//! The purpose is to keep somebody's data from being taken for an empty disk, and to tell an administrator what is on
//! a disk. So many formats are known by their magic alone, and a damaged copy of a structure counts as much as a
//! sound one. The names are those of `blkid -p`, which is the oracle of the tests.
//!
//! Several structures can be on one disk, since a program that makes one need not wipe the others. The order in which
//! they are looked for is the one in which they would be used:
//!
//! 1. Containers (LUKS, LVM, RAID with a superblock that tells its own place, bcache, ZFS), whose makers leave the
//!    first sector of a former partition table alone.
//! 2. A GPT with its header in place.
//! 3. File systems that start in the first sector. FAT, NTFS and exFAT end it with the same two bytes as an MBR, and
//!    boot code where an MBR has its table.
//! 4. An MBR with at least one partition that can be.
//! 5. RAID of version 0.90. Its superblock lies at the end, where the last partition has its end too, and does not
//!    tell its place: with a partition table before it, it is the partition's.
//! 6. Other file systems, and swap.
//! 7. What is left of a table: an MBR without partitions, a GPT's copy at the end.

mod containers;
mod file_systems;
mod tables;

use crate::inventory::Signature;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Bytes that are read from the start: up to the end of the superblock of btrfs, which is the last one looked for.
const HEAD: u64 = 68 << 10;

/// What can be read at any offset. Implementations must not hand out less than what was asked for.
pub trait Medium {
    /// Size in bytes.
    fn size(&self) -> u64;

    /// `length` bytes at `offset`; `None` when they cannot be read, or end after the medium.
    fn read(&self, offset: u64, length: usize) -> Option<Vec<u8>>;
}

impl Medium for &[u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read(&self, offset: u64, length: usize) -> Option<Vec<u8>> {
        let start = usize::try_from(offset).ok()?;
        self.get(start..start.checked_add(length)?).map(<[u8]>::to_vec)
    }
}

/// An open device, whose size is known from elsewhere: its metadata do not tell it.
pub(crate) struct OpenDevice {
    pub(crate) file: File,
    pub(crate) size: u64,
}

impl Medium for OpenDevice {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, length: usize) -> Option<Vec<u8>> {
        let mut buffer = vec![0; length];
        self.file.read_exact_at(&mut buffer, offset).ok()?;
        Some(buffer)
    }
}

/// What the medium holds; `None` when nothing known is there.
pub fn detect(medium: &dyn Medium) -> Option<Signature> {
    let size = medium.size();
    if size == 0 {
        return None;
    }
    let Some(head) = medium.read(0, size.min(HEAD) as usize) else { return Some(Signature::Unreadable) };
    let head = Head(&head);
    containers::find(&head, medium)
        .or_else(|| tables::gpt(&head))
        .or_else(|| file_systems::in_first_sector(&head))
        .or_else(|| tables::mbr(&head, size))
        .or_else(|| containers::raid_0_90(medium))
        .or_else(|| file_systems::find(&head))
        .or_else(|| tables::remains(&head, medium))
}

/// The first bytes, of which any can be missing.
struct Head<'a>(&'a [u8]);

impl Head<'_> {
    fn bytes(&self, at: usize, length: usize) -> Option<&[u8]> {
        self.0.get(at..at.checked_add(length)?)
    }

    fn has(&self, at: usize, magic: &[u8]) -> bool {
        self.bytes(at, magic.len()) == Some(magic)
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    fn le16(&self, at: usize) -> Option<u16> {
        self.bytes(at, 2)?.try_into().ok().map(u16::from_le_bytes)
    }

    fn le32(&self, at: usize) -> Option<u32> {
        self.bytes(at, 4)?.try_into().ok().map(u32::from_le_bytes)
    }

    fn le64(&self, at: usize) -> Option<u64> {
        self.bytes(at, 8)?.try_into().ok().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests;
