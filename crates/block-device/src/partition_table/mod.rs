//! The partitions of a disk, read from its own table.
//!
//! The table of a disk that is being replicated is outside input: whoever runs the protected machine writes it. So it
//! is read here, in a bounded way, and not by a program that runs as root over it. What is believed is little: a GPT
//! only with both of its checksums right, an MBR only with its signature and sane flags. An entry that leaves the
//! disk, has no length, covers the table itself or overlaps another is left out with a warning, so it is never mapped;
//! of two that overlap nobody can say which is right, so both are left out.
//!
//! Partitions are numbered as Linux numbers them: by place in the table, and logical partitions of an MBR from 5 on in
//! the order of their chain. Which table counts is Linux's rule as well: a GPT only behind a protective MBR (any entry
//! of type EE), a hybrid MBR is a GPT, and an MBR without such an entry is one even when the rest of an old GPT lies
//! behind it. Units of both tables are logical sectors of the disk, 512 or 4096 bytes.

mod gpt;
mod mbr;

use crate::error::{Error, Result};
use disk::{ByteRange, Bytes, Disk};
use serde::{Serialize, Serializer};
use std::fmt;

/// Most partitions that are looked at; Linux shows 256 minor numbers for each disk at most, and maps 128 are enough.
const MAX_PARTITIONS: usize = 256;

/// Most warnings that are kept: a hostile table has one for each entry.
const MAX_WARNINGS: usize = 32;

/// What a disk's table says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartitionTable {
    /// Its format.
    pub kind: TableKind,
    /// Its partitions, in the order of their numbers: only those that can be used.
    pub partitions: Vec<TablePartition>,
    /// What was left out and why, and what else is wrong with the table.
    pub warnings: Vec<String>,
}

/// Format of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TableKind {
    /// Master boot record, with the chain of its extended partition.
    Mbr,
    /// GUID partition table.
    Gpt,
}

/// One partition of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TablePartition {
    /// Number that Linux gives it, from 1; logical ones from 5.
    pub index: u32,
    /// Where it lies, in bytes of the disk.
    #[serde(flatten, serialize_with = "serialize_range")]
    pub range: ByteRange,
    /// What it is for.
    #[serde(rename = "type")]
    pub kind: PartitionType,
    /// Its name, which a GPT has.
    pub name: Option<String>,
    /// Its id as Linux shows it (PARTUUID); an MBR without a disk id has none.
    pub uuid: Option<String>,
}

/// Type of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionType {
    /// Code of an MBR entry.
    Mbr(u8),
    /// GUID of a GPT entry.
    Gpt(Guid),
}

/// A GUID as a GPT stores it: the first three fields in little-endian order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guid(pub [u8; 16]);

impl PartitionType {
    /// True for an extended partition: it holds a chain of others and is not mapped itself.
    pub fn is_container(self) -> bool {
        matches!(self, PartitionType::Mbr(0x05 | 0x0f | 0x85))
    }

    /// What people call it, where it is a common one.
    fn common_name(self) -> Option<&'static str> {
        let name = match self {
            PartitionType::Mbr(0x05 | 0x0f | 0x85) => "extended",
            PartitionType::Mbr(0x07) => "NTFS or exFAT",
            PartitionType::Mbr(0x0b | 0x0c) => "FAT32",
            PartitionType::Mbr(0x82) => "Linux swap",
            PartitionType::Mbr(0x83) => "Linux",
            PartitionType::Mbr(0x8e) => "Linux LVM",
            PartitionType::Mbr(0xef) => "EFI system",
            PartitionType::Mbr(0xfd) => "Linux RAID",
            PartitionType::Mbr(_) => return None,
            PartitionType::Gpt(guid) => match guid.to_string().as_str() {
                "c12a7328-f81f-11d2-ba4b-00a0c93ec93b" => "EFI system",
                "21686148-6449-6e6f-744e-656564454649" => "BIOS boot",
                "0fc63daf-8483-4772-8e79-3d69d8477de4" => "Linux",
                "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f" => "Linux swap",
                "e6d6d379-f507-44c2-a23c-238f2a3df928" => "Linux LVM",
                "a19d880f-05fc-4d3b-a006-743f0f84911e" => "Linux RAID",
                "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7" => "Microsoft data",
                "e3c9e316-0b5c-4db8-817d-f92df00215ae" => "Microsoft reserved",
                "de94bba4-06d1-4d40-a16a-bfd50179d6ac" => "Windows recovery",
                _ => return None,
            },
        };
        Some(name)
    }
}

impl fmt::Display for PartitionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.common_name(), self) {
            (Some(name), _) => f.write_str(name),
            (None, PartitionType::Mbr(code)) => write!(f, "0x{code:02x}"),
            (None, PartitionType::Gpt(guid)) => guid.fmt(f),
        }
    }
}

impl Serialize for PartitionType {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            PartitionType::Mbr(code) => serializer.collect_str(&format_args!("0x{code:02x}")),
            PartitionType::Gpt(guid) => serializer.collect_str(guid),
        }
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
        for (place, byte) in ORDER.iter().enumerate() {
            if [4, 6, 8, 10].contains(&place) {
                f.write_str("-")?;
            }
            write!(f, "{:02x}", self.0[*byte])?;
        }
        Ok(())
    }
}

/// Start and size in bytes.
fn serialize_range<S: Serializer>(range: &ByteRange, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Shown {
        start: u64,
        bytes: u64,
    }
    Shown { start: range.start().0, bytes: range.length().0 }.serialize(serializer)
}

/// Reads the table of a disk whose logical sectors have `sector` bytes; `None` where it has no table.
///
/// # Errors
/// [`Error::Damaged`] when there is a table that cannot be believed, [`Error::Storage`] when the disk cannot be read.
pub fn read(disk: &dyn Disk, sector: u32) -> Result<Option<PartitionTable>> {
    let device = Device::new(disk, sector)?;
    if device.sectors == 0 {
        return Ok(None);
    }
    let first = device.sectors_at(0, 1)?;
    match mbr::Mbr::parse(&first) {
        Some(table) if table.is_protective() => gpt::read(&device).map(Some),
        Some(table) => mbr::read(&device, &table).map(Some),
        None if device.sectors > 1 && gpt::is_signed(&device.sectors_at(1, 1)?) => Err(device.damaged(
            "a GPT lies on it without the protective MBR before it, so Linux shows no partitions; look at it with \
             gdisk, which can write a new protective MBR",
        )),
        None => Ok(None),
    }
}

/// A disk that is read by its own sectors.
struct Device<'a> {
    disk: &'a dyn Disk,
    /// Bytes in a logical sector.
    sector: u64,
    /// Whole sectors of the disk.
    sectors: u64,
}

impl Device<'_> {
    fn new(disk: &dyn Disk, sector: u32) -> Result<Device<'_>> {
        let size = u64::from(sector);
        let device = Device { disk, sector: size, sectors: disk.size().0 / size.max(1) };
        if !sector.is_power_of_two() || !(512..=4096).contains(&sector) {
            return Err(device
                .damaged(&format!("its sectors have {sector} bytes, and only 512 to 4096 are understood")));
        }
        Ok(device)
    }

    /// `count` sectors from `first` on. The caller has bounded `count`.
    fn sectors_at(&self, first: u64, count: u64) -> Result<Vec<u8>> {
        let range = self.range(first, count).ok_or_else(|| {
            self.damaged(&format!("it refers to sector {first}, and the disk has {} sectors", self.sectors))
        })?;
        let mut bytes = vec![0; range.length().as_usize()];
        self.disk.read_at(range.start(), &mut bytes)?;
        Ok(bytes)
    }

    /// The bytes of some sectors; `None` when they are not all on the disk.
    fn range(&self, first: u64, count: u64) -> Option<ByteRange> {
        let end = first.checked_add(count).filter(|end| *end <= self.sectors)?;
        Some(ByteRange::between(Bytes(first * self.sector), Bytes(end * self.sector)))
    }

    fn damaged(&self, problem: &str) -> Error {
        let (disk, problem) = (self.disk.name().to_owned(), problem.to_owned());
        Error::Damaged { disk, what: "partition table", problem }
    }
}

/// Collects the partitions of one table.
struct Collector {
    kind: TableKind,
    partitions: Vec<TablePartition>,
    warnings: Vec<String>,
}

impl Collector {
    fn new(kind: TableKind) -> Collector {
        Collector { kind, partitions: Vec::new(), warnings: Vec::new() }
    }

    fn warn(&mut self, warning: String) {
        if self.warnings.len() < MAX_WARNINGS {
            self.warnings.push(warning);
        } else if self.warnings.len() == MAX_WARNINGS {
            self.warnings.push("there is more, which is not listed".to_owned());
        }
    }

    fn leave_out(&mut self, index: u32, why: &str) {
        self.warn(format!("partition {index} is left out: {why}"));
    }

    fn add(&mut self, partition: TablePartition) {
        if self.partitions.len() < MAX_PARTITIONS {
            self.partitions.push(partition);
        } else {
            self.leave_out(partition.index, "there are more than 256");
        }
    }

    /// The table, without the partitions that overlap each other.
    fn finish(mut self) -> PartitionTable {
        let mut by_start: Vec<&TablePartition> =
            self.partitions.iter().filter(|partition| !partition.kind.is_container()).collect();
        by_start.sort_by_key(|partition| (partition.range.start(), partition.index));
        let mut overlapping = Vec::new();
        // Sorted by start, so those that overlap one partition follow it without a gap.
        for (place, one) in by_start.iter().enumerate() {
            for other in by_start[place + 1..].iter().take_while(|other| one.range.overlaps(&other.range)) {
                overlapping.push((one.index, other.index));
            }
        }
        for (one, other) in &overlapping {
            self.warn(format!("partitions {one} and {other} are left out: they overlap"));
        }
        self.partitions.retain(|partition| {
            !overlapping.iter().any(|(one, other)| [*one, *other].contains(&partition.index))
        });
        self.partitions.sort_by_key(|partition| partition.index);
        PartitionTable { kind: self.kind, partitions: self.partitions, warnings: self.warnings }
    }
}

/// A little-endian number of 4 bytes.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

/// A little-endian number of 8 bytes.
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}
