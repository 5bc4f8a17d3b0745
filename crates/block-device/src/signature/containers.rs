//! Things that hold other devices' data: encryption, volume groups, RAID, caches, pools.
//!
//! Formats: LUKS on-disk format 1 and 2; LVM2 `format_text`; md superblocks 0.90 and 1.x of `md_p.h`; bcache's
//! `bcache.h`; ZFS on-disk specification, vdev label. All numbers little endian unless told otherwise.

use super::{Head, Medium};
use crate::inventory::Signature;

/// Magic of an md superblock; 0.90 stores it in the order of the machine that made it.
const MD_MAGIC: u32 = 0xa92b_4efc;

/// A superblock of version 0.90 starts 64 KiB before the end, rounded down to 64 KiB.
const MD_RESERVED: u64 = 64 << 10;

/// Length of what is read of one md superblock.
const MD_LENGTH: usize = 256;

pub(super) fn find(head: &Head<'_>, medium: &dyn Medium) -> Option<Signature> {
    luks(head)
        .or_else(|| lvm(head, medium))
        .or_else(|| raid_1(medium))
        .or_else(|| cache(head))
        .or_else(|| pool(head))
}

/// The first header, or one of the places where LUKS 2 keeps its second.
fn luks(head: &Head<'_>) -> Option<Signature> {
    let second = [0x4000, 0x8000, 0x1_0000].iter().any(|at| head.has(*at, b"SKUL\xba\xbe"));
    (head.has(0, b"LUKS\xba\xbe") || second).then_some(Signature::Encrypted)
}

/// A label is in one of the first four sectors.
fn lvm(head: &Head<'_>, medium: &dyn Medium) -> Option<Signature> {
    let label = [0, 512, 1024, 1536]
        .into_iter()
        .find(|at| head.has(*at, b"LABELONE") && head.has(at + 24, b"LVM2 001"))?;
    Some(Signature::LvmMember { group: volume_group(head, label, medium) })
}

/// The group's name begins the metadata, which are text. The label's header lists the areas of data and, after an
/// empty entry, those of metadata.
fn volume_group(head: &Head<'_>, label: usize, medium: &dyn Medium) -> Option<String> {
    const UUID_AND_SIZE: usize = 40;
    const MOST_AREAS: usize = 16;
    const LONGEST_NAME: usize = 127;
    let header = label + usize::try_from(head.le32(label + 20)?).ok().filter(|offset| *offset < 512)?;
    let area = |n: usize| Some((head.le64(header + UUID_AND_SIZE + n * 16)?, n));
    let end_of_data = (0..MOST_AREAS).filter_map(area).find(|(offset, _)| *offset == 0)?.1;
    let (start, _) = area(end_of_data + 1)?;
    let size = head.le64(header + UUID_AND_SIZE + (end_of_data + 1) * 16 + 8)?;
    let area = medium.read(start, 512).filter(|_| start != 0)?;
    let area = Head(&area);
    // Checksum, magic, version, start and size come before the place of the text.
    area.has(4, b" LVM2 x[5A%r0N*>").then_some(())?;
    let (offset, length) = (area.le64(40)?, area.le64(48)?);
    let left = size.checked_sub(offset)?.min(length).min(LONGEST_NAME as u64 + 3);
    let text = medium.read(start.checked_add(offset)?, left as usize)?;
    let (name, _) = std::str::from_utf8(&text).ok()?.split_once(" {")?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+_.-".contains(&byte);
    (!name.is_empty() && name.len() <= LONGEST_NAME && name.bytes().all(allowed)).then(|| name.to_owned())
}

/// Version 1.0 at the end, 1.1 at the start, 1.2 at 4 KiB; each tells its own sector.
fn raid_1(medium: &dyn Medium) -> Option<Signature> {
    let sectors = medium.size() / 512;
    // 8 KiB before the end, rounded down to 4 KiB.
    let last = sectors.checked_sub(16).map(|sector| sector & !7);
    let is_member = |sector: u64| {
        let superblock = medium.read(sector * 512, MD_LENGTH)?;
        let head = Head(&superblock);
        let known = head.le32(0) == Some(MD_MAGIC) && head.le32(4) == Some(1);
        (known && head.le64(144) == Some(sector)).then_some(Signature::RaidMember)
    };
    [Some(0), Some(8), last].into_iter().flatten().find_map(is_member)
}

pub(super) fn raid_0_90(medium: &dyn Medium) -> Option<Signature> {
    let at = (medium.size() & !(MD_RESERVED - 1)).checked_sub(MD_RESERVED)?;
    let superblock = medium.read(at, MD_LENGTH)?;
    let head = Head(&superblock);
    let little = head.le32(0) == Some(MD_MAGIC) && head.le32(4) == Some(0);
    let big = head.le32(0) == Some(MD_MAGIC.swap_bytes()) && head.le32(4) == Some(0);
    (little || big).then_some(Signature::RaidMember)
}

/// bcache: backing or caching device.
fn cache(head: &Head<'_>) -> Option<Signature> {
    const MAGIC: &[u8] =
        &[0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca, 0x82, 0x65, 0xf5, 0x7f, 0x48, 0xba, 0x6d, 0x81];
    head.has(0x1018, MAGIC).then(|| super::file_systems::plain("bcache"))
}

/// ZFS: at 16 KiB a label has a list of names and values, encoded as XDR, that begins with its version.
fn pool(head: &Head<'_>) -> Option<Signature> {
    const LIST: usize = 16 << 10;
    let begins = head.bytes(LIST, 64).is_some_and(|list| {
        list[0] == 1 && list[1] <= 1 && list.windows(12).any(|name| name == b"\0\0\0\x07version\0")
    });
    begins.then(|| super::file_systems::plain("zfs_member"))
}
