//! The GUID partition table.
//!
//! Header, at sector 1 and once more in the last sector, little endian: 0 `EFI PART` · 8 revision · 12 u32 header size
//! (92 up to a sector) · 16 u32 CRC of the header, reckoned with this field zero · 24 u64 own sector · 32 u64 sector
//! of the other header · 40 u64 first usable sector · 48 u64 last usable sector · 56 GUID of the disk · 72 u64 first
//! sector of the entries · 80 u32 entries · 84 u32 bytes of an entry · 88 u32 CRC of the entries.
//! Entry: 0 type GUID, zero when unused · 16 its GUID · 32 u64 first sector · 40 u64 last sector · 48 flags · 56 name,
//! 36 units of UTF-16. (UEFI specification, chapter 5.3.) Checksums are CRC-32 of IEEE 802.3.

use super::{
    Collector, Device, Guid, PartitionTable, PartitionType, TableKind, TablePartition, u32_at, u64_at,
};
use crate::error::{Error, Result};

const SIGNATURE: &[u8; 8] = b"EFI PART";

/// Bytes of a header up to its last field.
const HEADER: usize = 92;

/// Bytes of an entry up to the end of its name; larger ones are powers of two.
const ENTRY: u32 = 128;

/// Bytes of all entries that are read at most: 8192 of the usual size, 64 times what partitioning programs make.
const MAX_ENTRIES: u64 = 1 << 20;

/// True when a sector begins as a header does.
pub(super) fn is_signed(sector: &[u8]) -> bool {
    sector.starts_with(SIGNATURE)
}

/// A header with a right checksum, and the entries that it describes.
struct Copy {
    other: u64,
    first_usable: u64,
    last_usable: u64,
    entry_size: usize,
    entries: Vec<u8>,
    disk_guid: Guid,
}

/// The partitions of the primary table, or of its backup when the primary is damaged.
pub(super) fn read(device: &Device<'_>) -> Result<PartitionTable> {
    let mut found = Collector::new(TableKind::Gpt);
    let last = device.sectors - 1;
    let table = match (read_copy(device, 1), read_copy(device, last)) {
        (Ok(primary), backup) => {
            check_backup(device, &primary, backup, &mut found);
            primary
        }
        (Err(problem), Ok(backup)) => {
            found.warn(format!(
                "the primary GPT is damaged ({}), its backup at the end of the disk is used; gdisk can restore it",
                in_short(&problem)
            ));
            backup
        }
        (Err(Error::Storage(error)), Err(_)) => return Err(error.into()),
        (Err(primary), Err(backup)) => return Err(device.damaged(&both(device, &primary, &backup))),
    };
    for (index, entry) in (1..).zip(table.entries.chunks_exact(table.entry_size)) {
        add_entry(device, &table, index, entry, &mut found);
    }
    Ok(found.finish())
}

/// Why neither copy can be used.
fn both(device: &Device<'_>, primary: &Error, backup: &Error) -> String {
    let other_size = if device.sector == 512 { 4096 } else { 512 };
    let mut start = [0; 8];
    let made_for_other = device.disk.size().0 >= other_size + 8
        && device.disk.read_at(disk::Bytes(other_size), &mut start).is_ok()
        && start == *SIGNATURE;
    if made_for_other {
        return format!(
            "its GPT was made for sectors of {other_size} bytes, and the disk has sectors of {}; attach it with \
             sectors of {other_size} bytes",
            device.sector
        );
    }
    format!(
        "the primary GPT is damaged ({}), and so is its backup ({}); look at it with gdisk or testdisk",
        in_short(primary),
        in_short(backup)
    )
}

fn in_short(error: &Error) -> String {
    match error {
        Error::Damaged { problem, .. } => problem.clone(),
        other => other.to_string(),
    }
}

/// Warns when the backup will not help if the primary is lost.
fn check_backup(device: &Device<'_>, primary: &Copy, at_end: Result<Copy>, found: &mut Collector) {
    let last = device.sectors - 1;
    let backup = if primary.other == last { at_end } else { read_copy(device, primary.other) };
    match backup {
        Err(problem) => found.warn(format!(
            "the backup GPT cannot be used ({}); gdisk can write it again",
            in_short(&problem)
        )),
        Ok(backup) if backup.entries != primary.entries || backup.disk_guid != primary.disk_guid => {
            found.warn("the backup GPT says something else than the primary, which is used".into());
        }
        Ok(_) if primary.other != last => found.warn(
            "the backup GPT is not at the end of the disk, so the disk was made larger; gdisk can move it"
                .into(),
        ),
        Ok(_) => {}
    }
}

/// Reads and verifies the header in a sector and its entries.
fn read_copy(device: &Device<'_>, at: u64) -> Result<Copy> {
    let damaged = |problem: String| Err(device.damaged(&problem));
    if at == 0 {
        return damaged("its header would lie in the first sector of the disk".into());
    }
    let header = device.sectors_at(at, 1)?;
    if !is_signed(&header) {
        return damaged(format!("there is no header in sector {at}"));
    }
    let size = u32_at(&header, 12) as usize;
    if !(HEADER..=header.len()).contains(&size) {
        return damaged(format!("the header in sector {at} has {size} bytes"));
    }
    let mut summed = header[..size].to_vec();
    summed[16..20].fill(0);
    if crc32fast::hash(&summed) != u32_at(&header, 16) {
        return damaged(format!("the checksum of the header in sector {at} is wrong"));
    }
    if u64_at(&header, 24) != at {
        return damaged(format!(
            "the header in sector {at} says that it is in sector {}",
            u64_at(&header, 24)
        ));
    }
    let (count, entry_size) = (u32_at(&header, 80), u32_at(&header, 84));
    let bytes = u64::from(count) * u64::from(entry_size);
    if count == 0 || entry_size < ENTRY || !entry_size.is_power_of_two() || bytes > MAX_ENTRIES {
        return damaged(format!("the header in sector {at} tells {count} entries of {entry_size} bytes"));
    }
    let first_entry = u64_at(&header, 72);
    let mut entries = device.sectors_at(first_entry, bytes.div_ceil(device.sector))?;
    entries.truncate(bytes as usize);
    if crc32fast::hash(&entries) != u32_at(&header, 88) {
        return damaged(format!("the checksum of the entries from sector {first_entry} on is wrong"));
    }
    let mut disk_guid = [0; 16];
    disk_guid.copy_from_slice(&header[56..72]);
    Ok(Copy {
        other: u64_at(&header, 32),
        first_usable: u64_at(&header, 40),
        last_usable: u64_at(&header, 48),
        entry_size: entry_size as usize,
        entries,
        disk_guid: Guid(disk_guid),
    })
}

fn add_entry(device: &Device<'_>, table: &Copy, index: u32, entry: &[u8], found: &mut Collector) {
    let guid = |at: usize| Guid(std::array::from_fn(|i| entry[at + i]));
    let (kind, first, last) = (guid(0), u64_at(entry, 32), u64_at(entry, 40));
    if kind.0 == [0; 16] {
        return;
    }
    if first > last {
        return found.leave_out(index, "it ends before it starts");
    }
    // Not below sector 2 whatever the header says: the MBR and the header itself are there.
    if first < table.first_usable.max(2) || last > table.last_usable {
        let why = format!(
            "its sectors {first} to {last} are not within {} to {}, which the table says can be used",
            table.first_usable, table.last_usable
        );
        return found.leave_out(index, &why);
    }
    let length = (last - first).checked_add(1);
    let Some(range) = length.and_then(|length| device.range(first, length)) else {
        return found.leave_out(index, &format!("it ends at sector {last}, after the end of the disk"));
    };
    let name = name(&entry[56..128]);
    found.add(TablePartition {
        index,
        range,
        kind: PartitionType::Gpt(kind),
        name: (!name.is_empty()).then_some(name),
        uuid: Some(guid(16).to_string()),
    });
}

/// A name up to its end; what cannot be shown is replaced.
fn name(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let text = char::decode_utf16(units.take_while(|unit| *unit != 0));
    text.map(|c| c.ok().filter(|c| !c.is_control()).unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}
