//! Tables that someone else wrote: every partition that is believed lies on the disk, behind the table, alone.
//!
//! The first byte chooses the sector size and whether GPT checksums are mended, so that what is behind them is reached.

#![no_main]

use block_device::partition_table::read;
use disk::{Bytes, Disk, MemoryDisk};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((choice, bytes)) = input.split_first() else { return };
    let sector = if choice & 1 == 0 { 512 } else { 4096 };
    let mut bytes = bytes.to_vec();
    if choice & 2 != 0 {
        mend(&mut bytes, sector);
    }
    let disk = MemoryDisk::with_contents("disk", bytes);
    let Ok(Some(table)) = read(&disk, sector as u32) else { return };
    let parts: Vec<_> = table.partitions.iter().filter(|partition| !partition.kind.is_container()).collect();
    for (place, one) in parts.iter().enumerate() {
        assert!(!one.range.is_empty() && one.range.end() <= disk.size());
        assert!(one.range.start() >= Bytes(sector as u64));
        assert!(parts[place + 1..].iter().all(|other| !one.range.overlaps(&other.range)));
    }
});

/// Makes the signatures and checksums of the first sectors right.
fn mend(bytes: &mut [u8], sector: usize) {
    if bytes.len() < 3 * sector {
        return;
    }
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    let (head, rest) = bytes.split_at_mut(2 * sector);
    let header = &mut head[sector..];
    header[..8].copy_from_slice(b"EFI PART");
    header[12..16].copy_from_slice(&92u32.to_le_bytes());
    header[24..32].copy_from_slice(&1u64.to_le_bytes());
    header[72..80].copy_from_slice(&2u64.to_le_bytes());
    let count = (rest.len() / 128).min(64);
    header[80..84].copy_from_slice(&(count as u32).to_le_bytes());
    header[84..88].copy_from_slice(&128u32.to_le_bytes());
    header[88..92].copy_from_slice(&crc32fast::hash(&rest[..count * 128]).to_le_bytes());
    header[16..20].fill(0);
    let sum = crc32fast::hash(&header[..92]);
    header[16..20].copy_from_slice(&sum.to_le_bytes());
}
