//! The oracle is `blkid -p` on images that the host's own programs made; beside it, hand-made blocks and hostile ones.

use super::*;
use proptest::prelude::*;
use std::path::Path;
use std::process::{Command, Stdio};

fn run(program: &str, arguments: &[&str], image: &Path, input: &str) -> String {
    use std::io::Write;
    let mut child = Command::new(program)
        .args(arguments)
        .arg(image)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {program}: {error}; cargo xtask setup installs it"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Values of `blkid -p`: TYPE, UUID, LABEL, PTTYPE.
fn oracle(image: &Path) -> [Option<String>; 4] {
    let text = run("blkid", &["-p", "-o", "export"], image, "");
    ["TYPE", "UUID", "LABEL", "PTTYPE"]
        .map(|key| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).map(str::to_owned))
}

fn found(image: &Path) -> Option<Signature> {
    let file = File::open(image).unwrap();
    let size = file.metadata().unwrap().len();
    detect(&OpenDevice { file, size })
}

fn image(folder: &Path, megabytes: u64) -> std::path::PathBuf {
    let path = folder.join("image");
    File::create(&path).unwrap().set_len(megabytes << 20).unwrap();
    path
}

#[test]
fn file_systems_are_what_blkid_says() {
    let folder = tempfile::tempdir().unwrap();
    for (program, arguments, megabytes) in [
        ("mkfs.ext2", ["-q", "-F", "-L", "two"].as_slice(), 8),
        ("mkfs.ext3", &["-q", "-F"], 8),
        ("mkfs.ext4", &["-q", "-F", "-L", "label-of-16-char"], 8),
        ("mkfs.ext4", &["-q", "-F", "-O", "^has_journal,^metadata_csum,^64bit"], 8),
        ("mkfs.vfat", &["-F", "12", "-n", "TWELVE"], 2),
        ("mkfs.vfat", &["-F", "16"], 16),
        ("mkfs.vfat", &["-F", "32", "-n", "BOOT"], 64),
        ("mkfs.xfs", &["-q", "-L", "data"], 320),
        ("mkfs.btrfs", &["-q", "-L", "pool"], 128),
    ] {
        let image = image(folder.path(), megabytes);
        run(program, arguments, &image, "");
        let [name, uuid, label, _] = oracle(&image);
        let expected = Signature::FileSystem { name: name.unwrap(), uuid, label };
        assert_eq!(found(&image), Some(expected), "{program} {arguments:?}");
    }
}

#[test]
fn swap_and_tables_are_what_blkid_says() {
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path(), 8);
    for page in ["4096", "8192", "65536"] {
        run("mkswap", &["-p", page], &image, "");
        assert_eq!(oracle(&image)[0].as_deref(), Some("swap"));
        assert_eq!(found(&image), Some(Signature::Swap), "pages of {page} bytes");
    }
    for (table, name) in [("dos", "mbr"), ("gpt", "gpt")] {
        for partitions in ["", "2048,4096\n"] {
            let image = self::image(folder.path(), 8);
            run("sfdisk", &["-q"], &image, &format!("label: {table}\n{partitions}"));
            assert_eq!(oracle(&image)[3].as_deref(), Some(table));
            let expected = Some(Signature::PartitionTable { name: name.into() });
            assert_eq!(found(&image), expected, "{table} {partitions:?}");
        }
    }
}

#[test]
fn squashfs_is_what_blkid_says() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "x").unwrap();
    let image = folder.path().join("image");
    run("mksquashfs", &[folder.path().join("file").to_str().unwrap()], &image, "");
    assert_eq!(oracle(&image)[0].as_deref(), Some("squashfs"));
    assert_eq!(found(&image), Some(plain("squashfs")));
}

fn plain(name: &str) -> Signature {
    file_systems::plain(name)
}

/// A medium of 1 MiB with bytes in some places.
fn medium(parts: &[(usize, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; 1 << 20];
    for (at, part) in parts {
        bytes[*at..at + part.len()].copy_from_slice(part);
    }
    bytes
}

fn detected(parts: &[(usize, &[u8])]) -> Option<Signature> {
    detect(&medium(parts).as_slice())
}

const MBR_END: (usize, &[u8]) = (510, &[0x55, 0xaa]);
const MBR_ENTRY: (usize, &[u8]) = (446, &[0x80, 0, 0, 0, 0x83, 0, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0]);

#[test]
fn a_volume_group_is_named_by_its_metadata() {
    let area = 4096usize;
    let mut parts: Vec<(usize, Vec<u8>)> = vec![
        (512, b"LABELONE".to_vec()),
        (512 + 20, 32u32.to_le_bytes().to_vec()),
        (512 + 24, b"LVM2 001".to_vec()),
        // One data area, an empty entry, the area of metadata, an empty entry.
        (512 + 32 + 40, [(1u64 << 20).to_le_bytes(), 0u64.to_le_bytes()].concat()),
        (512 + 32 + 72, [(area as u64).to_le_bytes(), 65536u64.to_le_bytes()].concat()),
        (area + 4, b" LVM2 x[5A%r0N*>".to_vec()),
        (area + 40, [512u64.to_le_bytes(), 100u64.to_le_bytes()].concat()),
        (area + 512, b"vg-root {\nid = \"x\"".to_vec()),
    ];
    let see = |parts: &[(usize, Vec<u8>)]| {
        detected(&parts.iter().map(|(at, bytes)| (*at, bytes.as_slice())).collect::<Vec<_>>())
    };
    assert_eq!(see(&parts), Some(Signature::LvmMember { group: Some("vg-root".into()) }));
    for (n, lie) in [(6, u64::MAX.to_le_bytes()), (4, (u64::MAX - 5).to_le_bytes()), (7, *b"\x1b[m {\n  ")] {
        let honest = std::mem::replace(&mut parts[n].1, lie.to_vec());
        assert_eq!(see(&parts), Some(Signature::LvmMember { group: None }), "part {n}");
        parts[n].1 = honest;
    }
}

#[test]
fn raid_members_are_known_at_start_and_end() {
    let magic = 0xa92b_4efc_u32.to_le_bytes();
    let version_1 = [magic, 1u32.to_le_bytes()].concat();
    let end = (1 << 20) - 8192;
    for at in [0usize, 4096, end] {
        let place = (at as u64 / 512).to_le_bytes();
        let parts: &[(usize, &[u8])] = &[(at, &version_1), (at + 144, &place), MBR_END, MBR_ENTRY];
        assert_eq!(detected(parts), Some(Signature::RaidMember), "superblock at {at}");
        // One that belongs to a partition tells another place.
        assert_ne!(detected(&[(at, &version_1), (at + 144, &[9])]), Some(Signature::RaidMember));
    }
    let old: (usize, &[u8]) = ((1 << 20) - 65536, &[magic, 0u32.to_le_bytes()].concat());
    assert_eq!(detected(&[old]), Some(Signature::RaidMember));
    let table = Some(Signature::PartitionTable { name: "mbr".into() });
    assert_eq!(detected(&[old, MBR_END, MBR_ENTRY]), table, "it is the last partition's");
}

#[test]
fn containers_come_before_what_their_makers_left() {
    let ext: (usize, &[u8]) = (1024 + 56, &[0x53, 0xef]);
    assert_eq!(detected(&[ext, (0, b"LUKS\xba\xbe")]), Some(Signature::Encrypted));
    assert_eq!(detected(&[ext, (0x4000, b"SKUL\xba\xbe")]), Some(Signature::Encrypted));
    assert_eq!(detected(&[ext]), Some(plain("ext2")));
    assert_eq!(
        detected(&[(16384, b"\x01\x01"), (16384 + 20, b"\0\0\0\x07version\0")]),
        Some(plain("zfs_member"))
    );
}

#[test]
fn a_fat_boot_sector_is_not_taken_for_an_mbr() {
    let parameters: (usize, &[u8]) = (11, &[0, 2, 4, 1, 0, 2, 0, 2, 0, 0, 0xf8]);
    let jump: (usize, &[u8]) = (0, &[0xeb, 0x3c, 0x90]);
    let named = (54, b"FAT16   ".as_slice());
    assert_eq!(detected(&[jump, parameters, named, MBR_END, MBR_ENTRY]), Some(plain("vfat")));
    // Boot code where the table would be, and no name.
    assert_eq!(detected(&[jump, parameters, MBR_END, (446, &[0x7c; 64])]), Some(plain("vfat")));
    // A boot loader's jump before a real table.
    let table = Some(Signature::PartitionTable { name: "mbr".into() });
    assert_eq!(detected(&[jump, MBR_END, MBR_ENTRY]), table);
}

#[test]
fn a_gpt_is_known_by_any_part_of_it() {
    let gpt = Some(Signature::PartitionTable { name: "gpt".into() });
    let one = 1u64.to_le_bytes();
    assert_eq!(detected(&[(512, b"EFI PART"), (512 + 24, &one)]), gpt);
    assert_eq!(detected(&[(4096, b"EFI PART"), (4096 + 24, &one)]), gpt);
    assert_eq!(detected(&[((1 << 20) - 512, b"EFI PART")]), gpt);
    assert_eq!(detected(&[((1 << 20) - 4096, b"EFI PART")]), gpt);
    let protective: (usize, &[u8]) = (446, &[0, 0, 0, 0, 0xee, 0, 0, 0, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    assert_eq!(detected(&[protective, MBR_END]), gpt);
}

#[test]
fn other_formats_are_known_by_their_magic() {
    for (at, magic, name) in [
        (3, b"NTFS    ".as_slice(), "ntfs"),
        (3, b"EXFAT   ", "exfat"),
        (32769, b"CD001", "iso9660"),
        (0x8000, b"JFS1", "jfs"),
        (0x1_0034, b"ReIsEr2Fs", "reiserfs"),
        (0x400, b"\x10\x20\xf5\xf2", "f2fs"),
    ] {
        assert_eq!(detected(&[(at, magic)]), Some(plain(name)), "{name}");
    }
    assert_eq!(detected(&[]), None);
}

struct Dead;

impl Medium for Dead {
    fn size(&self) -> u64 {
        1 << 40
    }

    fn read(&self, _offset: u64, _length: usize) -> Option<Vec<u8>> {
        None
    }
}

#[test]
fn a_disk_that_cannot_be_read_is_not_taken_for_an_empty_one() {
    assert_eq!(detect(&Dead), Some(Signature::Unreadable));
    assert_eq!(detect(&[].as_slice()), None);
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic(
        length in prop_oneof![0usize..3000, Just(70_000), Just(140_000)],
        patches in prop::collection::vec((any::<u32>(), any::<[u8; 8]>()), 0..40),
        magics in prop::collection::vec(0usize..6, 0..3),
    ) {
        let mut bytes = vec![0u8; length];
        for magic in magics {
            let (at, magic) = [
                (0, b"LABELONE".as_slice()), (24, b"LVM2 001"), (1080, b"\x53\xef"), (510, b"\x55\xaa"),
                (65536 + 64, b"_BHRfS_M"), (512, b"EFI PART"),
            ][magic];
            if let Some(place) = bytes.get_mut(at..at + magic.len()) {
                place.copy_from_slice(magic);
            }
        }
        for (at, patch) in patches {
            let at = at as usize % (length + 1);
            let end = (at + 8).min(length);
            bytes[at..end].copy_from_slice(&patch[..end - at]);
        }
        let _ = detect(&bytes.as_slice());
    }
}
