//! Partition tables that sfdisk made, read here, by sfdisk and by kpartx; and tables that something has damaged.

use block_device::partition_table::{PartitionTable, PartitionType, TableKind, read};
use block_device::{Caching, Error, FileDisk};
use disk::{Access, Bytes, Disk, MemoryDisk};
use proptest::prelude::*;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

const SIZE: u64 = 64 << 20;

/// A loop device over an image, with sectors of a size; detached when it is dropped.
struct LoopDevice(String);

impl LoopDevice {
    fn attach(image: &Path, sector: u32) -> LoopDevice {
        let output = Command::new("losetup")
            .args(["--find", "--show", "--sector-size", &sector.to_string()])
            .arg(image)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        LoopDevice(String::from_utf8(output.stdout).unwrap().trim().to_owned())
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        Command::new("losetup").args(["--detach", &self.0]).status().unwrap();
    }
}

fn image(folder: &Path) -> String {
    let path = folder.join("image");
    std::fs::File::create(&path).unwrap().set_len(SIZE).unwrap();
    path.to_str().unwrap().to_owned()
}

fn sfdisk(arguments: &[&str], script: &str) -> String {
    let mut child = Command::new("sfdisk")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn table(path: &str, sector: u32) -> PartitionTable {
    let disk = FileDisk::open(path, Access::Read, Caching::PageCache).unwrap();
    read(&disk, sector).unwrap().unwrap()
}

/// What sfdisk says of a partition, in the words of this crate: index, start, bytes, type, name, uuid.
type Row = (u32, u64, u64, String, Option<String>, Option<String>);

fn by_sfdisk(path: &str, sector: u64) -> Vec<Row> {
    let json: serde_json::Value = serde_json::from_str(&sfdisk(&["--json", path], "")).unwrap();
    let table = &json["partitiontable"];
    let of = |value: &serde_json::Value| value.as_str().map(str::to_lowercase);
    let disk_id = of(&table["id"]).unwrap();
    let rows = table["partitions"].as_array().unwrap().iter().map(|partition| {
        let node = partition["node"].as_str().unwrap().strip_prefix(path).unwrap();
        let index: u32 = node.trim_start_matches('p').parse().unwrap();
        let mbr = table["label"] == "dos";
        let kind = of(&partition["type"]).unwrap();
        (
            index,
            partition["start"].as_u64().unwrap() * sector,
            partition["size"].as_u64().unwrap() * sector,
            if mbr { format!("0x{kind:0>2}") } else { kind },
            partition["name"].as_str().map(str::to_owned),
            if mbr { Some(format!("{}-{index:02x}", &disk_id[2..])) } else { of(&partition["uuid"]) },
        )
    });
    rows.collect()
}

fn by_us(table: &PartitionTable) -> Vec<Row> {
    let rows = table.partitions.iter().map(|partition| {
        let kind = serde_json::to_value(partition.kind).unwrap().as_str().unwrap().to_owned();
        let (start, bytes) = (partition.range.start().0, partition.range.length().0);
        (partition.index, start, bytes, kind, partition.name.clone(), partition.uuid.clone())
    });
    rows.collect()
}

/// kpartx's view: index, start and length in bytes. It maps 1 KiB of an extended partition, or a sector when that is
/// more, and lists a logical partition from the start of the extended one, number 3 here.
fn by_kpartx(path: &str) -> Vec<(u32, u64, u64)> {
    let output = Command::new("kpartx").args(["-l", path]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut rows: Vec<(u32, u64, u64)> = Vec::new();
    for line in text.lines().filter(|line| line.contains(" : ")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let index = words[0].rsplit('p').next().unwrap().parse().unwrap();
        let container = if words[4].starts_with("/dev/dm-") { rows[2].1 } else { 0 };
        let start = words[5].parse::<u64>().unwrap() * 512 + container;
        rows.push((index, start, words[3].parse::<u64>().unwrap() * 512));
    }
    rows
}

const DOS: &str = "label: dos\n1: start=2048,size=2048,type=83,bootable\n2: size=1000,type=7\n3: size=11000,type=5\n\
                   5: size=500,type=ef\n6: size=1000,type=82\n7: size=900,type=8e\n";
const GPT: &str = "label: gpt\n1: size=1024,type=L,name=\"Daten é\"\n2: size=2000,type=S\n\
                   5: start=8192,size=256,type=U\n";

fn as_root() -> bool {
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var_os("MASTER_TARGET_NO_SKIPS").is_none(), "loop devices need root");
        let _ = std::io::stderr().write_all(b"SKIPPED: a test of loop devices, which needs root\n");
        return false;
    }
    true
}

#[test]
fn tables_of_sfdisk_are_read_as_sfdisk_reads_them() {
    for (script, kind, count) in [(DOS, TableKind::Mbr, 6), (GPT, TableKind::Gpt, 3)] {
        let folder = tempfile::tempdir().unwrap();
        let path = image(folder.path());
        sfdisk(&["--quiet", &path], script);
        let table = table(&path, 512);
        assert_eq!((table.kind, table.partitions.len()), (kind, count), "{table:?}");
        assert_eq!(by_us(&table), by_sfdisk(&path, 512));
        assert_eq!(table.warnings, Vec::<String>::new());
    }
}

#[test]
fn tables_on_devices_of_both_sector_sizes_are_read_as_others_read_them() {
    if !as_root() {
        return;
    }
    for sector in [512, 4096] {
        for script in [DOS, GPT] {
            let folder = tempfile::tempdir().unwrap();
            let path = image(folder.path());
            let device = LoopDevice::attach(Path::new(&path), sector);
            sfdisk(&["--quiet", "--no-reread", "--no-tell-kernel", &device.0], script);
            let table = table(&device.0, sector);
            assert_eq!(by_us(&table), by_sfdisk(&device.0, u64::from(sector)));
            let mapped: Vec<(u32, u64, u64)> = table
                .partitions
                .iter()
                .map(|partition| {
                    let bytes = partition.range.length().0;
                    let bytes =
                        if partition.kind.is_container() { u64::from(sector).max(1024) } else { bytes };
                    (partition.index, partition.range.start().0, bytes)
                })
                .collect();
            assert_eq!(mapped, by_kpartx(&device.0));
        }
    }
}

/// The bytes of an image that sfdisk partitioned.
fn contents(script: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    std::fs::File::create(&path).unwrap().set_len(16 << 20).unwrap();
    sfdisk(&["--quiet", path.to_str().unwrap()], script);
    std::fs::read(path).unwrap()
}

fn read_bytes(bytes: &[u8]) -> block_device::Result<Option<PartitionTable>> {
    read(&MemoryDisk::with_contents("disk", bytes.to_vec()), 512)
}

fn indexes(table: &PartitionTable) -> Vec<u32> {
    table.partitions.iter().map(|partition| partition.index).collect()
}

#[test]
fn a_damaged_gpt_is_read_from_its_backup_and_never_half() {
    let good = contents(GPT);
    let whole = read_bytes(&good).unwrap().unwrap();
    let (entries, backup) = (1024, good.len() - 512);
    for at in [512, 512 + 16, 512 + 40, 512 + 91, entries + 40] {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        let table = read_bytes(&bytes).unwrap().unwrap();
        assert_eq!(table.partitions, whole.partitions);
        assert!(table.warnings[0].contains("primary GPT is damaged"), "{:?}", table.warnings);
        bytes[backup + 50] ^= 1;
        let error = read_bytes(&bytes).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }) && error.to_string().contains("gdisk"), "{error}");
    }
    let mut bytes = good.clone();
    bytes[backup] = 0;
    let table = read_bytes(&bytes).unwrap().unwrap();
    assert_eq!(table.partitions, whole.partitions);
    assert!(table.warnings[0].contains("backup GPT cannot be used"), "{:?}", table.warnings);
    let mut larger = good.clone();
    larger.resize(good.len() + (1 << 20), 0);
    let table = read_bytes(&larger).unwrap().unwrap();
    assert_eq!(table.partitions, whole.partitions);
    assert!(table.warnings[0].contains("made larger"), "{:?}", table.warnings);
}

#[test]
fn which_table_counts_is_linuxs_rule() {
    let mut bytes = contents(GPT);
    bytes[510] = 0;
    assert!(read_bytes(&bytes).unwrap_err().to_string().contains("protective MBR"));
    bytes[510] = 0x55;
    // A hybrid MBR: one entry beside the protective one.
    bytes[446 + 16 + 4] = 0x83;
    bytes[446 + 16 + 12] = 1;
    assert_eq!(read_bytes(&bytes).unwrap().unwrap().kind, TableKind::Gpt);
    bytes[446 + 4] = 0x83;
    let table = read_bytes(&bytes).unwrap().unwrap();
    assert_eq!(table.kind, TableKind::Mbr);
    assert!(table.warnings.iter().any(|warning| warning.contains("old GPT")), "{:?}", table.warnings);
    assert_eq!(read_bytes(&[0; 4096]).unwrap(), None);
    assert_eq!(read_bytes(&[]).unwrap(), None);
    assert_eq!(read_bytes(&[0; 100]).unwrap(), None);
    let disk = MemoryDisk::with_contents("disk", contents(GPT));
    assert!(read(&disk, 4096).unwrap_err().to_string().contains("sectors of 512 bytes"));
    assert!(read(&disk, 520).is_err());
}

/// Sets an MBR entry of the sector at `at`.
fn entry(bytes: &mut [u8], at: usize, slot: usize, code: u8, first: u32, sectors: u32) {
    let place = at + 446 + 16 * slot;
    bytes[place..place + 16].fill(0);
    bytes[place + 4] = code;
    bytes[place + 8..place + 12].copy_from_slice(&first.to_le_bytes());
    bytes[place + 12..place + 16].copy_from_slice(&sectors.to_le_bytes());
    bytes[at + 510..at + 512].copy_from_slice(&[0x55, 0xaa]);
}

#[test]
fn what_cannot_be_is_left_out_with_a_warning() {
    let mut bytes = vec![0; 1 << 20];
    entry(&mut bytes, 0, 0, 0x83, 100, 100);
    entry(&mut bytes, 0, 1, 0x83, 199, 10);
    entry(&mut bytes, 0, 2, 0x83, 300, 0);
    entry(&mut bytes, 0, 3, 0x83, 2000, 100);
    let table = read_bytes(&bytes).unwrap().unwrap();
    assert_eq!(indexes(&table), Vec::<u32>::new());
    assert_eq!(
        table.warnings,
        [
            "partition 3 is left out: it has no length",
            "partition 4 is left out: it ends 52 sectors after the end of the disk",
            "partitions 1 and 2 are left out: they overlap"
        ]
    );
    entry(&mut bytes, 0, 0, 0x83, 0, 100);
    entry(&mut bytes, 0, 1, 0x83, u32::MAX, u32::MAX);
    entry(&mut bytes, 0, 2, 0, 300, 4);
    entry(&mut bytes, 0, 3, 0x83, 2000, 48);
    assert_eq!(indexes(&read_bytes(&bytes).unwrap().unwrap()), [4]);
}

#[test]
fn a_chain_that_goes_round_or_away_ends() {
    let mut bytes = vec![0; 1 << 20];
    for code in [0x05, 0x0f, 0x85] {
        entry(&mut bytes, 0, 0, code, 64, 1024);
        entry(&mut bytes, 64 * 512, 0, 0x83, 2, 8);
        entry(&mut bytes, 64 * 512, 1, 0x05, 100, 50);
        entry(&mut bytes, 164 * 512, 0, 0x83, 2, 8);
        for (link, named) in
            [(0, "sector 64"), (100, "sector 164"), (5000, "sector 5064"), (1024, "sector 1088")]
        {
            entry(&mut bytes, 164 * 512, 1, 0x05, link, 50);
            let table = read_bytes(&bytes).unwrap().unwrap();
            assert_eq!(indexes(&table), [1, 5, 6]);
            assert!(table.warnings.iter().any(|warning| warning.contains(named)), "{:?}", table.warnings);
            assert_eq!(table.partitions[0].kind, PartitionType::Mbr(code));
        }
    }
    // Longer than Linux follows it.
    let mut bytes = vec![0; 1 << 20];
    entry(&mut bytes, 0, 0, 0x05, 64, 1900);
    for n in 0..150usize {
        entry(&mut bytes, (64 + 10 * n) * 512, 0, 0x83, 1, 8);
        entry(&mut bytes, (64 + 10 * n) * 512, 1, 0x05, 10 * (n as u32 + 1), 9);
    }
    let table = read_bytes(&bytes).unwrap().unwrap();
    assert_eq!(table.partitions.last().unwrap().index, 104);
    assert!(table.warnings[0].contains("more than 100 records"), "{:?}", table.warnings);
}

/// What holds for every table that is believed.
fn check(bytes: &[u8], sector: u32) {
    let disk = MemoryDisk::with_contents("disk", bytes.to_vec());
    let Ok(Some(table)) = read(&disk, sector) else { return };
    let parts: Vec<_> = table.partitions.iter().filter(|partition| !partition.kind.is_container()).collect();
    for (place, one) in parts.iter().enumerate() {
        assert!(!one.range.is_empty() && one.range.end() <= disk.size(), "{one:?}");
        assert!(one.range.start() >= Bytes(u64::from(sector)), "{one:?} covers the table");
        for other in &parts[place + 1..] {
            assert!(!one.range.overlaps(&other.range) && one.index < other.index, "{one:?} {other:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn random_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 512..8192), large in any::<bool>()) {
        bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
        for slot in 0..4 {
            bytes[446 + 16 * slot] &= 0x80;
            // Small numbers, so that some entries lie on the disk.
            for at in [9, 10, 11, 13, 14, 15] {
                bytes[446 + 16 * slot + at] = 0;
            }
        }
        check(&bytes, if large { 4096 } else { 512 });
    }
}

#[test]
fn bits_flipped_in_sound_tables_never_map_anything_impossible() {
    for script in [DOS, GPT] {
        let good = contents(script);
        let mut bytes = good.clone();
        let mut rng = testkit::Rng::new(7);
        let mut places: Vec<usize> =
            (440..512).chain(512..1024 + 512).chain(good.len() - 1024..good.len()).collect();
        places.extend(
            (0..good.len() / 512)
                .filter(|n| good[n * 512 + 510..n * 512 + 512] == [0x55, 0xaa])
                .flat_map(|n| n * 512 + 446..n * 512 + 512),
        );
        for _ in 0..300 {
            let mut undo = Vec::new();
            for _ in 0..=rng.below(3) {
                let at = places[rng.below(places.len() as u64) as usize];
                undo.push((at, bytes[at]));
                bytes[at] ^= 1 << rng.below(8);
            }
            check(&bytes, 512);
            for (at, byte) in undo.into_iter().rev() {
                bytes[at] = byte;
            }
        }
    }
}
