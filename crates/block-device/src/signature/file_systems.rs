//! File systems and swap space, by their superblocks.
//!
//! Sources of the offsets: the kernel's own headers (`ext4.h`, `xfs_format.h`, `btrfs_tree.h`, `squashfs_fs.h`,
//! `swap.h`), ECMA-119 (ISO 9660), Microsoft's descriptions of FAT, exFAT and NTFS. Numbers are little endian unless
//! told otherwise.

use super::Head;
use crate::inventory::Signature;

/// Formats of which no more than the magic is looked at: offset, magic, name.
const MAGICS: [(usize, &[u8], &str); 16] = [
    (0x3, b"-FVE-FS-", "BitLocker"),
    (0x3, b"\0\0\0\0ReFS", "ReFS"),
    (0x20, b"NXSB", "apfs"),
    (0x400, b"\x10\x20\xf5\xf2", "f2fs"),
    (0x400, b"H+\0\x04", "hfsplus"),
    (0x400, b"HX\0\x05", "hfsplus"),
    (0x400, b"OCFSV2", "ocfs2"),
    (0x800, b"OCFSV2", "ocfs2"),
    (0x1000, b"OCFSV2", "ocfs2"),
    (0x2000, b"OCFSV2", "ocfs2"),
    (0x8000, b"JFS1", "jfs"),
    (0x8001, b"BEA01", "udf"),
    (0x1_0000, b"\x01\x16\x19\x70", "gfs2"),
    (0x1_0034, b"ReIsErFs", "reiserfs"),
    (0x1_0034, b"ReIsEr2Fs", "reiserfs"),
    (0x1_0034, b"ReIsEr3Fs", "reiserfs"),
];

/// Swap has its magic in the last ten bytes of the first page, whose size depends on the machine that made it. The
/// others mark an image of memory from a machine that sleeps.
const PAGES: [usize; 5] = [4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10];
const SWAP_MAGICS: [&[u8]; 5] =
    [b"SWAPSPACE2", b"SWAP-SPACE", b"S1SUSPEND\0", b"S2SUSPEND\0", b"ULSUSPEND\0"];

/// A file system without UUID and label.
pub(super) fn plain(name: &str) -> Signature {
    Signature::FileSystem { name: name.to_owned(), uuid: None, label: None }
}

/// Those whose superblock is the first sector.
pub(super) fn in_first_sector(head: &Head<'_>) -> Option<Signature> {
    xfs(head).or_else(|| ntfs(head)).or_else(|| exfat(head)).or_else(|| fat(head)).or_else(|| squashfs(head))
}

/// All others.
pub(super) fn find(head: &Head<'_>) -> Option<Signature> {
    ext(head)
        .or_else(|| btrfs(head))
        .or_else(|| swap(head))
        .or_else(|| iso9660(head))
        .or_else(|| MAGICS.iter().find(|(at, magic, _)| head.has(*at, magic)).map(|(_, _, name)| plain(name)))
}

fn xfs(head: &Head<'_>) -> Option<Signature> {
    head.has(0, b"XFSB").then(|| Signature::FileSystem {
        name: "xfs".into(),
        uuid: head.bytes(32, 16).and_then(uuid),
        label: head.bytes(108, 12).and_then(label),
    })
}

/// The features tell the generations apart, as they do for the kernel's drivers.
fn ext(head: &Head<'_>) -> Option<Signature> {
    const AT: usize = 1024;
    const HAS_JOURNAL: u32 = 0x4;
    const JOURNAL_DEVICE: u32 = 0x8;
    // What ext3 can mount: file types, recovery, meta groups; sparse superblocks, large files, directory trees.
    const EXT3_INCOMPATIBLE: u32 = 0x2 | 0x4 | 0x10;
    const EXT3_READ_ONLY: u32 = 0x1 | 0x2 | 0x4;
    head.has(AT + 56, &[0x53, 0xef]).then_some(())?;
    let feature = |offset: usize| head.le32(AT + offset).unwrap_or(0);
    let (compatible, incompatible, read_only) = (feature(92), feature(96), feature(100));
    let newer = incompatible & !EXT3_INCOMPATIBLE != 0 || read_only & !EXT3_READ_ONLY != 0;
    let name = match (newer, compatible & HAS_JOURNAL != 0) {
        _ if incompatible & JOURNAL_DEVICE != 0 => "jbd",
        (true, _) => "ext4",
        (false, true) => "ext3",
        (false, false) => "ext2",
    };
    Some(Signature::FileSystem {
        name: name.into(),
        uuid: head.bytes(AT + 104, 16).and_then(uuid),
        label: head.bytes(AT + 120, 16).and_then(label),
    })
}

fn btrfs(head: &Head<'_>) -> Option<Signature> {
    const AT: usize = 64 << 10;
    head.has(AT + 64, b"_BHRfS_M").then(|| Signature::FileSystem {
        name: "btrfs".into(),
        uuid: head.bytes(AT + 32, 16).and_then(uuid),
        label: head.bytes(AT + 0x12b, 256).and_then(label),
    })
}

fn ntfs(head: &Head<'_>) -> Option<Signature> {
    head.has(3, b"NTFS    ").then(|| Signature::FileSystem {
        name: "ntfs".into(),
        uuid: head.le64(72).filter(|serial| *serial != 0).map(|serial| format!("{serial:016X}")),
        label: None,
    })
}

fn exfat(head: &Head<'_>) -> Option<Signature> {
    head.has(3, b"EXFAT   ").then(|| Signature::FileSystem {
        name: "exfat".into(),
        uuid: head.le32(100).and_then(volume_serial),
        label: None,
    })
}

/// FAT has no magic of its own that is always there: the parameter block must make sense, and either the name of the
/// type is in it, or a jump starts the sector where an MBR would have a table that cannot be.
fn fat(head: &Head<'_>) -> Option<Signature> {
    let power = |n: u16, range: std::ops::RangeInclusive<u16>| n.is_power_of_two() && range.contains(&n);
    let sensible = power(head.le16(11)?, 512..=4096)
        && power(u16::from(head.byte(13)?), 1..=128)
        && head.le16(14)? != 0
        && (1..=2).contains(&head.byte(16)?)
        && matches!(head.byte(21)?, 0xf0 | 0xf8..);
    let named = ["FAT12   ", "FAT16   ", "FAT     "].iter().any(|name| head.has(54, name.as_bytes()));
    let (is_32, is_ms) = (head.has(82, b"FAT32   "), head.has(54, b"MSDOS"));
    let jumps = head.has(510, &[0x55, 0xaa]) && matches!(head.byte(0)?, 0xeb | 0xe9);
    let table_is_possible = (0..4).all(|n| head.byte(446 + n * 16).is_some_and(|flag| flag & 0x7f == 0));
    if !sensible || !(named || is_32 || is_ms || (jumps && !table_is_possible)) {
        return None;
    }
    let (serial, name) = if is_32 { (67, 71) } else { (39, 43) };
    Some(Signature::FileSystem {
        name: "vfat".into(),
        uuid: head.le32(serial).and_then(volume_serial),
        label: head.bytes(name, 11).and_then(label).filter(|label| label != "NO NAME"),
    })
}

fn squashfs(head: &Head<'_>) -> Option<Signature> {
    let known = head.has(0, b"hsqs") || head.has(0, b"sqsh") || head.has(0, b"hsqt") || head.has(0, b"shsq");
    known.then(|| plain("squashfs"))
}

fn iso9660(head: &Head<'_>) -> Option<Signature> {
    const AT: usize = 32 << 10;
    head.has(AT + 1, b"CD001").then(|| Signature::FileSystem {
        name: "iso9660".into(),
        uuid: None,
        label: head.bytes(AT + 40, 32).and_then(label),
    })
}

fn swap(head: &Head<'_>) -> Option<Signature> {
    let found = PAGES.iter().any(|page| SWAP_MAGICS.iter().any(|magic| head.has(page - 10, magic)));
    found.then_some(Signature::Swap)
}

fn uuid(bytes: &[u8]) -> Option<String> {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| digits.get(part));
    let parts: Option<Vec<&str>> = parts.into_iter().collect();
    parts.filter(|_| bytes.iter().any(|byte| *byte != 0)).map(|parts| parts.join("-"))
}

/// As DOS shows it.
fn volume_serial(serial: u32) -> Option<String> {
    (serial != 0).then(|| format!("{:04X}-{:04X}", serial >> 16, serial & 0xffff))
}

/// Up to its first NUL, without blanks around it and without what a terminal would obey.
fn label(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next()?);
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}
