//! Damaged, foreign and hostile images: found, named, repaired where that is safe, and never a panic.

mod common;

use common::{NAME, contents, create, folder, open, put, read_all, write_stream};
use disk::{Access, Bytes, Class, Disk, Folder};
use testkit::{Rng, SimFolder};
use vmdk::{Format, Problem, Severity};

const GRAIN: u64 = 64 << 10;
/// Two tables, the second one short.
const CAPACITY: u64 = 600 * GRAIN + 512;

/// A sparse image with some grains in both tables.
fn sparse() -> SimFolder {
    let sim = SimFolder::new("sim");
    let image = create(&sim, Format::MonolithicSparse, CAPACITY);
    for grain in [0, 1, 2, 511, 512, 599, 600] {
        let mut data = vec![0; GRAIN.min(CAPACITY - grain * GRAIN) as usize];
        Rng::new(grain).fill(&mut data);
        image.write_at(Bytes(grain * GRAIN), &data).unwrap();
    }
    image.close().unwrap();
    drop(image);
    sim
}

/// Where our sparse images have things, in bytes.
struct Layout {
    redundant_directory: usize,
    directory: usize,
    redundant_table: usize,
    table: usize,
    end: u64,
}

fn layout(sim: &SimFolder) -> Layout {
    let file = contents(sim, NAME);
    let u32_at = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    let sector = |at: usize| u32_at(at) as usize * 512;
    let (redundant_directory, directory) = (sector(48), sector(56));
    Layout {
        redundant_directory,
        directory,
        redundant_table: sector(redundant_directory),
        table: sector(directory),
        end: file.len() as u64,
    }
}

fn set_u32(sim: &SimFolder, at: usize, value: u32) {
    let file = sim.file(NAME).unwrap();
    let old = contents(sim, NAME);
    for (index, byte) in value.to_le_bytes().into_iter().enumerate() {
        file.corrupt(at + index, old[at + index] ^ byte);
    }
}

fn entry(sim: &SimFolder, at: usize) -> u32 {
    u32::from_le_bytes(contents(sim, NAME)[at..at + 4].try_into().unwrap())
}

fn problems(sim: &SimFolder) -> Vec<Problem> {
    vmdk::check(sim, NAME).unwrap().findings.into_iter().map(|finding| finding.problem).collect()
}

/// The one problem is found, mended, and the image then holds what it did.
fn assert_mended(sim: &SimFolder, expected: &[u8], matches: impl Fn(&Problem) -> bool) {
    let repaired = vmdk::repair(sim, NAME).unwrap();
    assert!(repaired.before.findings.iter().any(|finding| matches(&finding.problem)), "{repaired:?}");
    assert!(repaired.before.findings.iter().all(|finding| finding.repairable), "{repaired:?}");
    assert!(repaired.after.findings.is_empty(), "{repaired:?}");
    assert!(read_all(&open(sim, Access::Write).unwrap()).unwrap() == expected);
}

/// The problem is found, and a repair changes nothing.
fn assert_hopeless(sim: &SimFolder, matches: impl Fn(&Problem) -> bool) {
    let before = contents(sim, NAME);
    let found = vmdk::check(sim, NAME).unwrap();
    let is_it = |finding: &&vmdk::Finding| matches(&finding.problem);
    let finding = found.findings.iter().find(is_it).unwrap_or_else(|| panic!("{found:?}"));
    assert_eq!(finding.severity, Severity::Error);
    assert!(finding.to_string().contains(NAME), "{finding}");
    assert!(!found.is_sound());
    vmdk::repair(sim, NAME).unwrap();
    assert!(contents(sim, NAME) == before);
}

#[test]
fn the_unclean_byte_and_the_newline_bytes_are_found_and_mended() {
    let sim = sparse();
    let expected = read_all(&open(&sim, Access::Read).unwrap()).unwrap();
    sim.file(NAME).unwrap().corrupt(72, 1);
    assert_mended(&sim, &expected, |problem| *problem == Problem::Unclean);
    sim.file(NAME).unwrap().corrupt(75, 7);
    let error = open(&sim, Access::Read).err().unwrap();
    assert_eq!(error.class(), Class::Corrupt);
    assert!(error.to_string().contains("text mode"), "{error}");
    assert_mended(&sim, &expected, |problem| matches!(problem, Problem::NewlineBytes { .. }));
}

#[test]
fn an_entry_that_one_copy_lacks_is_found_and_mended() {
    let sim = sparse();
    let expected = read_all(&open(&sim, Access::Read).unwrap()).unwrap();
    let Layout { table, redundant_table, .. } = layout(&sim);
    for at in [table + 4, redundant_table + 8] {
        set_u32(&sim, at, 0);
        let error = read_all(&open(&sim, Access::Read).unwrap()).unwrap_err();
        assert_eq!(error.class(), Class::Corrupt);
        assert!(error.to_string().contains("by its copy"), "{error}");
        assert_mended(&sim, &expected, |problem| matches!(problem, Problem::TablesDiffer { .. }));
    }
}

#[test]
fn a_directory_entry_off_the_pattern_is_found_and_mended() {
    // Three tables, so that two agree.
    let sim = SimFolder::new("sim");
    let image = create(&sim, Format::MonolithicSparse, 1100 * GRAIN);
    image.write_at(Bytes(0), &[1; 512]).unwrap();
    image.write_at(Bytes(513 * GRAIN), &[2; 512]).unwrap();
    image.close().unwrap();
    drop(image);
    let expected = read_all(&open(&sim, Access::Read).unwrap()).unwrap();
    let Layout { directory, redundant_directory, end, .. } = layout(&sim);
    for at in [directory + 4, redundant_directory + 8] {
        for wrong in [0, 1, (end / 512) as u32, u32::MAX, entry(&sim, directory)] {
            set_u32(&sim, at, wrong);
            assert!(open(&sim, Access::Write).is_err());
            assert_mended(&sim, &expected, |_| true);
        }
    }
}

#[test]
fn grains_in_impossible_or_shared_places_are_found_and_left() {
    let Layout { table, redundant_table, end, .. } = layout(&sparse());
    let first = entry(&sparse(), table);
    for (wrong, shared) in [((end / 512) as u32, false), (3, false), (first, true), (first + 1, true)] {
        let sim = sparse();
        set_u32(&sim, table + 4, wrong);
        set_u32(&sim, redundant_table + 4, wrong);
        assert_hopeless(&sim, |problem| match problem {
            Problem::GrainPlace { grain: 1, sector } => !shared && *sector == wrong,
            Problem::SharedGrain { .. } => shared,
            _ => false,
        });
    }
}

#[test]
fn grains_that_nothing_uses_are_told() {
    let sim = sparse();
    let Layout { table, redundant_table, .. } = layout(&sim);
    set_u32(&sim, table + 4, 0);
    set_u32(&sim, redundant_table + 4, 0);
    let report = vmdk::check(&sim, NAME).unwrap();
    assert!(report.is_sound());
    assert_eq!(problems(&sim), [Problem::Leaked { grains: 1 }]);
    assert_eq!(report.findings[0].severity, Severity::Note);
}

#[test]
fn capacities_that_differ_are_found_and_left() {
    let sim = sparse();
    sim.file(NAME).unwrap().corrupt(12, 2);
    assert!(open(&sim, Access::Read).err().unwrap().to_string().contains("the descriptor says"));
    assert_hopeless(&sim, |problem| matches!(problem, Problem::CapacityMismatch { .. }));
}

#[test]
fn a_flat_extent_that_is_too_short_is_found_and_left() {
    let sim = SimFolder::new("sim");
    drop(create(&sim, Format::Vmfs, 1 << 20));
    sim.open("web01-flat.vmdk", Access::Write).unwrap().set_size(Bytes((1 << 20) - 512)).unwrap();
    let error = open(&sim, Access::Read).err().unwrap();
    assert!(error.to_string().contains("1048064 bytes where 1048576 are needed"), "{error}");
    let report = vmdk::check(&sim, NAME).unwrap();
    assert!(matches!(report.findings[0].problem, Problem::TooShort { .. }));
    assert!(report.findings[0].to_string().contains("copy the file again"));
    assert_eq!(vmdk::repair(&sim, NAME).unwrap().after, report);
}

#[test]
fn a_stream_that_lost_its_end_or_a_bit_is_found() {
    let mut noise = vec![0; 40 * 65536];
    Rng::new(5).fill(&mut noise);
    let made = SimFolder::new("sim");
    write_stream(&made, &noise);
    let whole = contents(&made, NAME);
    for cut in [512, 1024, 1536, 2048, 4096, 100_000] {
        let sim = SimFolder::new("sim");
        put(&sim, NAME, &whole[..whole.len() - cut]);
        assert!(open(&sim, Access::Read).err().unwrap().to_string().contains("is missing or wrong"));
        assert!(matches!(problems(&sim)[..], [Problem::Footer { .. }]));
    }
    for at in [65536, 65536 + 11, 65536 + 2000] {
        let sim = SimFolder::new("sim");
        put(&sim, NAME, &whole);
        sim.file(NAME).unwrap().corrupt(at, 1);
        let Err(error) = read_all(&open(&sim, Access::Read).unwrap()) else { panic!("byte {at}") };
        assert_eq!(error.class(), Class::Corrupt, "{error}");
        assert!(!vmdk::check(&sim, NAME).unwrap().is_sound());
    }
}

#[test]
fn a_table_that_was_left_out_is_made_when_it_is_needed() {
    for redundant in [true, false] {
        let sim = SimFolder::new("sim");
        drop(create(&sim, Format::MonolithicSparse, CAPACITY));
        let Layout { directory, redundant_directory, .. } = layout(&sim);
        set_u32(&sim, directory + 4, 0);
        if redundant {
            set_u32(&sim, redundant_directory + 4, 0);
        } else {
            sim.file(NAME).unwrap().corrupt(8, 2);
        }
        let image = open(&sim, Access::Write).unwrap();
        let data = [7; 100_000];
        image.write_at(Bytes(550 * GRAIN + 5), &data).unwrap();
        image.close().unwrap();
        drop(image);
        assert_eq!(problems(&sim), []);
        let mut seen = vec![0; data.len()];
        open(&sim, Access::Read).unwrap().read_at(Bytes(550 * GRAIN + 5), &mut seen).unwrap();
        assert_eq!(seen, data);
    }
}

/// Reads the grains that are there and some that are not.
fn sample(disk: &dyn Disk) -> disk::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for first in [0, 510, 598] {
        let start = (first * GRAIN).min(disk.size().0);
        let mut part = vec![0xee; (4 * GRAIN).min(disk.size().0 - start) as usize];
        disk.read_at(Bytes(start), &mut part)?;
        bytes.extend(part);
    }
    Ok(bytes)
}

/// A flipped bit in header, directories or tables is reported, or changes nothing of what is read.
#[test]
fn invariant_5_a_flipped_bit_in_the_metadata_is_never_served() {
    let sim = sparse();
    let expected = sample(&open(&sim, Access::Read).unwrap()).unwrap();
    let Layout { table, redundant_table, directory, redundant_directory, .. } = layout(&sim);
    let table_part = |at: usize| (at..at + 16).chain(at + 2044..at + 2060);
    let places = (0..80)
        .chain(directory..directory + 8)
        .chain(redundant_directory..redundant_directory + 8)
        .chain(table_part(table))
        .chain(table_part(redundant_table));
    let mut found = 0;
    for at in places {
        for bit in 0..8 {
            let file = sim.file(NAME).unwrap();
            file.corrupt(at, 1 << bit);
            let seen = open(&sim, Access::Read).map_err(|error| error.class());
            let seen = seen.and_then(|image| sample(&image).map_err(|error| error.class()));
            match seen {
                Ok(seen) => assert!(seen == expected, "byte {at}, bit {bit}"),
                Err(class) => {
                    assert!(
                        matches!(class, Class::Corrupt | Class::Operator),
                        "byte {at}, bit {bit}: {class:?}"
                    );
                    found += 1;
                }
            }
            file.corrupt(at, 1 << bit);
        }
    }
    assert!(found > 800, "{found}");
}

#[test]
fn random_damage_never_panics() {
    let made = sparse();
    let stream = SimFolder::new("sim");
    write_stream(&stream, &[1; 137 * 512]);
    for whole in [contents(&made, NAME), contents(&stream, NAME)] {
        for seed in 0..300 {
            let mut rng = Rng::new(seed);
            let mut damaged = whole.clone();
            let reach = *rng.pick(&[80, 600, 16384, 70_000]);
            for _ in 0..1 + rng.below(6) {
                damaged[rng.below(reach) as usize] = *rng.pick(&[0, 1, 0x7f, 0x80, 0xff, b'\n', b'"', b'9']);
            }
            if rng.one_in(4) {
                damaged.truncate(rng.below(whole.len() as u64) as usize);
            }
            let sim = SimFolder::new("sim");
            put(&sim, NAME, &damaged);
            if let Ok(image) = open(&sim, Access::Read) {
                let _ = sample(&image);
                let _ = image.extent_at(Bytes(0));
            }
            let _ = vmdk::check(&sim, NAME);
            let _ = vmdk::repair(&sim, NAME);
        }
    }
}

#[test]
fn foreign_files_are_named_for_what_they_are() {
    let text =
        "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType=\"vmfs\"\nRW 8 VMFS \"x\"\n";
    let refused = |bytes: &[u8]| {
        let sim = SimFolder::new("sim");
        put(&sim, NAME, bytes);
        open(&sim, Access::Read).err().unwrap().to_string()
    };
    assert!(refused(b"COWD\x01\0\0\0").contains("snapshot delta"));
    assert!(refused(&[&0xcafe_babe_u64.to_le_bytes()[..], &[0; 600]].concat()).contains("seSparse"));
    assert!(refused(b"").contains("not a VMDK"));
    assert!(refused(&[0x55; 4096]).contains("not a VMDK"));
    assert!(refused(b"KDMV").contains("4 bytes where 512"));
    assert!(refused(text.as_bytes()).contains("no such file"), "{}", refused(text.as_bytes()));
    assert!(refused(text.replace("\"x\"", "\"/etc/shadow\"").as_bytes()).contains("plain file name"));
    assert!(refused(text.replace("\"x\"", "\"web01.vmdk\"").as_bytes()).contains("share"));
    let twice = text.replace("RW 8 VMFS", "RW 8 VMFS \"y\"\nRW 8 VMFS \"y\"\nRW 8 VMFS");
    assert!(refused(twice.as_bytes()).contains("share"));
    let split = SimFolder::new("sim");
    drop(create(&split, Format::TwoGbMaxExtentSparse, 1 << 20));
    let alone = vmdk::Image::open(&folder(&split), "web01-s001.vmdk", Access::Read, 1).err().unwrap();
    assert!(alone.to_string().contains("name the image's descriptor"), "{alone}");
}

#[test]
fn a_snapshot_of_esxi_is_seen_from_its_base() {
    let sim = SimFolder::new("sim");
    drop(create(&sim, Format::Vmfs, 1 << 20));
    let child = "# Disk DescriptorFile\nversion=1\nCID=2\nparentCID=12345678\ncreateType=\"vmfsSparse\"\n\
        parentFileNameHint=\"web01.vmdk\"\nRW 2048 VMFSSPARSE \"web01-000001-delta.vmdk\"\n";
    put(&sim, "web01-000001.vmdk", child.as_bytes());
    let error = open(&sim, Access::Write).err().unwrap().to_string();
    assert!(error.contains("web01-000001.vmdk"), "{error}");
    assert!(open(&sim, Access::Read).is_ok());
}

#[test]
fn what_cannot_be_created_is_refused_and_leaves_nothing() {
    let sim = SimFolder::new("sim");
    let create = |name: &str, format, capacity| {
        let options = common::options(format, capacity);
        vmdk::Image::create(&folder(&sim), name, &options).err().unwrap().to_string()
    };
    for capacity in [0, 511, 513, 1 << 60] {
        assert!(create(NAME, Format::MonolithicFlat, capacity).contains("capacity"));
    }
    for name in ["web01", ".vmdk", "../x.vmdk", "a\"b.vmdk", "a\nb.vmdk"] {
        assert!(create(name, Format::MonolithicFlat, 512).contains("plain file name"), "{name:?}");
    }
    assert!(create(NAME, Format::StreamOptimized, 512).contains("front to back"));
    assert!(create(NAME, Format::TwoGbMaxExtentFlat, 1 << 46).contains("extents do not fit"));
    put(&sim, NAME, b"something else");
    assert!(create(NAME, Format::MonolithicFlat, 512).contains("exists already"));
    assert_eq!(sim.list().unwrap(), [NAME]);
    assert_eq!(contents(&sim, NAME), b"something else");
}
