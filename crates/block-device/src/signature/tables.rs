//! Tables of partitions, as far as it takes to know that there is one.
//!
//! MBR: four entries of 16 bytes from byte 446, `55 AA` at 510. GPT (UEFI 2.10, 5.3): a header in the second sector,
//! of 512 or 4096 bytes, a copy of it in the last, and an MBR with one partition of type 0xEE that protects it.

use super::{Head, Medium};
use crate::inventory::Signature;

const ENTRIES: usize = 446;
const ENTRY: usize = 16;
const GPT_MAGIC: &[u8] = b"EFI PART";
const PROTECTIVE: u8 = 0xee;

fn table(name: &str) -> Signature {
    Signature::PartitionTable { name: name.to_owned() }
}

/// A header in its place, which tells it.
pub(super) fn gpt(head: &Head<'_>) -> Option<Signature> {
    let in_place = |at: usize| head.has(at, GPT_MAGIC) && head.le64(at + 24) == Some(1);
    (in_place(512) || in_place(4096)).then(|| table("gpt"))
}

/// A table with a partition that can be.
pub(super) fn mbr(head: &Head<'_>, size: u64) -> Option<Signature> {
    let entries: Vec<&[u8]> = (0..4).filter_map(|n| head.bytes(ENTRIES + n * ENTRY, ENTRY)).collect();
    let flags_are_flags = entries.iter().all(|entry| entry[0] & 0x7f == 0);
    if !head.has(510, &[0x55, 0xaa]) || !flags_are_flags {
        return None;
    }
    let possible = entries.iter().filter(|entry| {
        let entry = Head(entry);
        let (start, length) = (entry.le32(8).unwrap_or(0), entry.le32(12).unwrap_or(0));
        entry.byte(4) != Some(0) && start != 0 && length != 0 && u64::from(start) < size / 512
    });
    let types: Vec<u8> = possible.map(|entry| entry[4]).collect();
    let protected = types.contains(&PROTECTIVE);
    (!types.is_empty()).then(|| table(if protected { "gpt" } else { "mbr" }))
}

/// A table that says nothing, or whose start is lost.
pub(super) fn remains(head: &Head<'_>, medium: &dyn Medium) -> Option<Signature> {
    let copy = |sector: u64| {
        let at = medium.size().checked_sub(sector)?;
        medium.read(at, GPT_MAGIC.len()).filter(|bytes| bytes == GPT_MAGIC)
    };
    if copy(512).or_else(|| copy(4096)).is_some() {
        return Some(table("gpt"));
    }
    head.has(510, &[0x55, 0xaa]).then(|| table("mbr"))
}
