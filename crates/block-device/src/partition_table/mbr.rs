//! The master boot record and the chain of an extended partition.
//!
//! First sector, whatever its size: at 440 the disk id (4 bytes), at 446 four entries of 16 bytes, at 510 `55 AA`.
//! Entry: 0 flag (00 or 80) · 1 CHS, not used · 4 type · 5 CHS, not used · 8 first sector, u32 · 12 sectors, u32.
//! An extended partition (05, 0F, 85) begins with a record of the same form. Its first entry is a logical partition,
//! counted from this record; an entry of an extended type leads to the next record, counted from the start of the
//! extended partition. Linux follows 100 records at most; so does this.

use super::{Collector, Device, PartitionTable, PartitionType, TableKind, TablePartition, u32_at};
use crate::error::Result;
use disk::ByteRange;

const ENTRIES: usize = 446;
const SIGNATURE: [u8; 2] = [0x55, 0xaa];
const PROTECTIVE: u8 = 0xee;

/// Records of one chain that are followed, as Linux does.
const MAX_RECORDS: usize = 100;

/// One entry of a record.
#[derive(Clone, Copy, Debug)]
struct Entry {
    code: u8,
    first: u64,
    sectors: u64,
}

impl Entry {
    fn is_container(self) -> bool {
        self.sectors > 0 && PartitionType::Mbr(self.code).is_container()
    }
}

/// A record as it is.
pub(super) struct Mbr {
    disk_id: u32,
    entries: [Entry; 4],
}

impl Mbr {
    /// The record in a sector; `None` when there is none, or a file system's boot sector in its place.
    pub(super) fn parse(sector: &[u8]) -> Option<Mbr> {
        if sector.len() < 512 || sector[510..512] != SIGNATURE || is_boot_sector(sector) {
            return None;
        }
        let flags_are_sane = (0..4).all(|n| matches!(sector[ENTRIES + 16 * n], 0 | 0x80));
        let entry = |n: usize| {
            let at = ENTRIES + 16 * n;
            Entry {
                code: sector[at + 4],
                first: u32_at(sector, at + 8).into(),
                sectors: u32_at(sector, at + 12).into(),
            }
        };
        flags_are_sane.then(|| Mbr { disk_id: u32_at(sector, 440), entries: std::array::from_fn(entry) })
    }

    /// True when a GPT counts, not this.
    pub(super) fn is_protective(&self) -> bool {
        self.entries.iter().any(|entry| entry.code == PROTECTIVE)
    }
}

/// FAT and NTFS begin with a sector that ends like an MBR; its "entries" are code.
fn is_boot_sector(sector: &[u8]) -> bool {
    sector[54..57] == *b"FAT" || sector[82..85] == *b"FAT" || sector[3..7] == *b"NTFS"
}

/// The partitions of an MBR that is not protective.
pub(super) fn read(device: &Device<'_>, table: &Mbr) -> Result<PartitionTable> {
    let mut reader =
        Reader { device, disk_id: table.disk_id, found: Collector::new(TableKind::Mbr), next: 5 };
    for (index, entry) in (1..).zip(table.entries) {
        reader.primary(index, entry);
    }
    for entry in table.entries.iter().filter(|entry| entry.is_container()) {
        if let Some(range) = device.range(entry.first, entry.sectors).filter(|_| entry.first > 0) {
            reader.chain(entry.first, range)?;
        }
    }
    if device.sectors > 1 && super::gpt::is_signed(&device.sectors_at(1, 1)?) {
        reader
            .found
            .warn("the rest of an old GPT lies on the disk; the MBR counts, as it does for Linux".into());
    }
    Ok(reader.found.finish())
}

struct Reader<'a> {
    device: &'a Device<'a>,
    disk_id: u32,
    found: Collector,
    /// Number of the next logical partition.
    next: u32,
}

impl Reader<'_> {
    fn primary(&mut self, index: u32, entry: Entry) {
        match (entry.code, entry.sectors) {
            (0, 0) => {}
            (0, _) => self.found.leave_out(index, "it has sectors but no type"),
            (_, 0) => self.found.leave_out(index, "it has no length"),
            _ if entry.first == 0 => self.found.leave_out(index, "it covers the table itself"),
            _ => self.add(index, entry, None),
        }
    }

    /// Adds an entry that is counted from the start of the disk.
    fn add(&mut self, index: u32, entry: Entry, within: Option<ByteRange>) {
        let Some(range) = self.device.range(entry.first, entry.sectors) else {
            let why = format!("it ends {} sectors after the end of the disk", self.sectors_too_many(entry));
            return self.found.leave_out(index, &why);
        };
        if within.is_some_and(|within| range.start() < within.start() || range.end() > within.end()) {
            return self.found.leave_out(index, "it leaves the extended partition that it belongs to");
        }
        self.found.add(TablePartition {
            index,
            range,
            kind: PartitionType::Mbr(entry.code),
            name: None,
            uuid: (self.disk_id != 0).then(|| format!("{:08x}-{index:02x}", self.disk_id)),
        });
    }

    fn sectors_too_many(&self, entry: Entry) -> u64 {
        entry.first.saturating_add(entry.sectors).saturating_sub(self.device.sectors)
    }

    /// Follows the records of an extended partition that begins at sector `first`.
    fn chain(&mut self, first: u64, within: ByteRange) -> Result<()> {
        let mut seen = Vec::new();
        let mut at = first;
        loop {
            if seen.len() >= MAX_RECORDS {
                self.found.warn(format!(
                    "the extended partition has more than {MAX_RECORDS} records; the rest is left out"
                ));
                return Ok(());
            }
            seen.push(at);
            let sector = self.device.sectors_at(at, 1)?;
            if sector[510..512] != SIGNATURE {
                self.found.warn(format!(
                    "the record of the extended partition at sector {at} is damaged; logical partitions behind it \
                     are left out"
                ));
                return Ok(());
            }
            let entries: [Entry; 4] = std::array::from_fn(|n| Entry {
                code: sector[ENTRIES + 16 * n + 4],
                first: u32_at(&sector, ENTRIES + 16 * n + 8).into(),
                sectors: u32_at(&sector, ENTRIES + 16 * n + 12).into(),
            });
            self.logical(at, &entries, within);
            let Some(link) = entries.iter().find(|entry| entry.is_container()) else { return Ok(()) };
            at = first + link.first;
            let on_disk = self.device.range(at, 1);
            if on_disk.is_none_or(|range| range.intersection(&within).is_none()) || seen.contains(&at) {
                self.found.warn(format!(
                    "the chain of the extended partition leads to sector {at}, which is wrong; logical partitions \
                     behind it are left out"
                ));
                return Ok(());
            }
        }
    }

    /// The logical partitions of the record at sector `at`.
    fn logical(&mut self, at: u64, entries: &[Entry; 4], within: ByteRange) {
        // Linux looks at the third and fourth entry too, which other systems leave full of garbage. Nothing makes
        // partitions there on purpose, so they do not count here, nor do they take a number.
        for entry in entries[..2].iter().filter(|entry| entry.sectors > 0 && !entry.is_container()) {
            let index = self.next;
            self.next += 1;
            if entry.code == 0 {
                self.found.leave_out(index, "it has sectors but no type");
            } else if entry.first == 0 {
                self.found.leave_out(index, "it covers the record that describes it");
            } else {
                let absolute = Entry { first: at + entry.first, ..*entry };
                self.add(index, absolute, Some(within));
            }
        }
    }
}
