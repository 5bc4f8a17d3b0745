//! Files and folders of a real file system.

mod common;

use block_device::{Caching, FileDisk, HostFolder};
use common::{run, steps};
use disk::{Access, Allocation, ByteRange, Bytes, Cause, Class, Disk, File, Folder, MemoryDisk};
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Arc;
use testkit::SimFolder;

/// Not a multiple of any block.
const SIZE: u64 = 200_001;

fn image(folder: &tempfile::TempDir, size: u64) -> std::path::PathBuf {
    let path = folder.path().join("image.raw");
    fs::File::create(&path).unwrap().set_len(size).unwrap();
    path
}

fn open_folder(folder: &tempfile::TempDir) -> HostFolder {
    HostFolder::open(folder.path(), Caching::PageCache).unwrap()
}

fn caching() -> impl Strategy<Value = Caching> {
    prop_oneof![Just(Caching::PageCache), Just(Caching::Direct)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_file_disk_holds_what_a_memory_disk_holds(steps in steps(SIZE), caching in caching()) {
        let folder = tempfile::tempdir().unwrap();
        let path = image(&folder, SIZE);
        let disk = FileDisk::open(&path, Access::Write, caching).unwrap();
        let oracle = MemoryDisk::new("oracle", Bytes(SIZE));
        run(&steps, &disk, &oracle);
        drop(disk);
        prop_assert!(fs::read(path).unwrap() == oracle.contents());
    }

    #[test]
    fn a_file_of_a_folder_grows_as_a_simulated_one_does(steps in steps(60_000), caching in caching(), cut in 0u64..70_000) {
        let place = tempfile::tempdir().unwrap();
        let folder = HostFolder::open(place.path(), caching).unwrap();
        let (file, oracle) = (folder.create("f").unwrap(), SimFolder::new("oracle").create("f").unwrap());
        run(&steps, &file, &oracle);
        file.set_size(Bytes(cut)).unwrap();
        oracle.set_size(Bytes(cut)).unwrap();
        run(&steps, &file, &oracle);
        prop_assert_eq!(fs::metadata(place.path().join("f")).unwrap().len(), oracle.size().0);
    }
}

#[test]
fn threads_that_write_neighbouring_bytes_do_not_disturb_each_other() {
    for caching in [Caching::PageCache, Caching::Direct] {
        let folder = tempfile::tempdir().unwrap();
        let disk = FileDisk::open(image(&folder, 1 << 20), Access::Write, caching).unwrap();
        let stripe = 5000;
        std::thread::scope(|scope| {
            for thread in 0..4u8 {
                let disk = &disk;
                scope.spawn(move || {
                    for at in (0..200).filter(|at| at % 4 == u64::from(thread)) {
                        disk.write_at(Bytes(at * stripe), &[thread + 1; 5000]).unwrap();
                    }
                });
            }
        });
        for at in 0..200 {
            let expected = at as u8 % 4 + 1;
            assert!(
                common::read(&disk, at * stripe, 5000).iter().all(|byte| *byte == expected),
                "{caching:?} {at}"
            );
        }
    }
}

#[test]
fn a_file_grows_under_concurrent_writes_and_zeroes_without_losing_any() {
    let place = tempfile::tempdir().unwrap();
    let file = open_folder(&place).create("f").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| (0..400).for_each(|at| file.write_at(Bytes(at * 100), &[7; 50]).unwrap()));
        scope.spawn(|| {
            let range = |at: u64| ByteRange::new(Bytes(at * 100 + 50), Bytes(50)).unwrap();
            (0..400).for_each(|at| file.write_zeroes(range(at)).unwrap());
        });
    });
    assert_eq!(file.size(), Bytes(40_000));
    let expected: Vec<u8> = (0..40_000).map(|at| if at % 100 < 50 { 7 } else { 0 }).collect();
    assert!(common::read(&file, 0, 40_000) == expected);
}

#[test]
fn zeroing_frees_storage_and_shows_as_a_hole() {
    let folder = tempfile::tempdir().unwrap();
    let path = image(&folder, 1 << 20);
    let disk = FileDisk::open(&path, Access::Write, Caching::PageCache).unwrap();
    assert_eq!(disk.extent_at(Bytes(0)).unwrap().allocation, Allocation::Hole);
    disk.write_at(Bytes(0), &vec![1; 1 << 20]).unwrap();
    disk.sync().unwrap();
    let full = fs::metadata(&path).unwrap().blocks();
    disk.write_zeroes(ByteRange::between(Bytes(100), Bytes((1 << 20) - 100))).unwrap();
    assert!(fs::metadata(&path).unwrap().blocks() < full / 10);
    let hole = disk.extent_at(Bytes(8192)).unwrap();
    assert_eq!((hole.allocation, hole.length), (Allocation::Hole, Bytes((1 << 20) - 4096 - 8192)));
}

#[test]
fn a_file_whose_room_was_taken_keeps_it_whatever_is_zeroed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("thick.raw");
    let blocks = || fs::metadata(&path).unwrap().blocks();
    let file = open_folder(&folder).create("thick.raw").unwrap();
    file.allocate(Bytes(1 << 20)).unwrap();
    file.sync().unwrap();
    assert_eq!((file.size(), fs::metadata(&path).unwrap().len()), (Bytes(1 << 20), 1 << 20));
    assert!(blocks() >= 2048, "{}", blocks());
    drop(file);
    let disk = open_folder(&folder).open("thick.raw", Access::Write).unwrap();
    disk.keep_room();
    assert_eq!(disk.extent_at(Bytes(0)).unwrap().allocation, Allocation::Hole, "it is known to be zero");
    disk.write_at(Bytes(0), &vec![1; 1 << 20]).unwrap();
    disk.write_zeroes(ByteRange::between(Bytes(100), Bytes((1 << 20) - 100))).unwrap();
    disk.sync().unwrap();
    assert!(blocks() >= 2048, "{}", blocks());
    drop(disk);
    let wanted: Vec<u8> = (0..1 << 20).map(|at| u8::from(!(100..(1 << 20) - 100).contains(&at))).collect();
    assert!(fs::read(&path).unwrap() == wanted);
}

#[test]
fn a_range_outside_of_the_disk_is_refused_and_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let disk = FileDisk::open(image(&folder, 1000), Access::Write, Caching::Direct).unwrap();
    for error in [
        disk.write_at(Bytes(999), &[1, 2]).unwrap_err(),
        disk.read_at(Bytes(u64::MAX), &mut [0; 4]).unwrap_err(),
        disk.write_zeroes(ByteRange::between(Bytes(0), Bytes(1001))).unwrap_err(),
    ] {
        assert!(matches!(error.cause(), Cause::OutOfBounds { size: Bytes(1000) }), "{error}");
    }
    disk.write_at(Bytes(0), &[1; 1000]).unwrap();
    let file = open_folder(&folder).create("f").unwrap();
    let error = file.write_at(Bytes(i64::MAX as u64), &[1]).unwrap_err();
    assert!(matches!(error.cause(), Cause::OutOfBounds { .. }), "{error}");
    file.write_at(Bytes(0), &[1]).unwrap();
}

#[test]
fn a_reader_cannot_write() {
    let folder = tempfile::tempdir().unwrap();
    let disk = FileDisk::open(image(&folder, 1000), Access::Read, Caching::PageCache).unwrap();
    assert!(matches!(disk.write_at(Bytes(0), &[1]).unwrap_err().cause(), Cause::ReadOnly));
    assert!(matches!(
        disk.write_zeroes(ByteRange::between(Bytes(0), Bytes(1))).unwrap_err().cause(),
        Cause::ReadOnly
    ));
    disk.sync().unwrap();
}

#[test]
fn handles_of_one_process_exclude_each_other() {
    let place = tempfile::tempdir().unwrap();
    let folder = open_folder(&place);
    let writer = folder.create("a").unwrap();
    for access in [Access::Read, Access::Write] {
        let error = folder.open("a", access).err().unwrap();
        assert!(error.to_string().contains("another handle of this process"), "{error}");
        assert_eq!(error.class(), Class::Operator);
    }
    drop(writer);
    let reader = folder.open("a", Access::Read).unwrap();
    let second: Arc<dyn File> = folder.open("a", Access::Read).unwrap();
    assert!(folder.open("a", Access::Write).is_err());
    drop((reader, second));
    assert!(folder.open("a", Access::Write).is_ok());
}

#[test]
fn names_are_created_renamed_listed_and_removed() {
    let place = tempfile::tempdir().unwrap();
    let folder = open_folder(&place);
    let file = folder.create("a").unwrap();
    assert_eq!(fs::metadata(place.path().join("a")).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(matches!(folder.create("a").err().unwrap().cause(), Cause::AlreadyExists));
    folder.rename("a", "b").unwrap();
    file.write_at(Bytes(0), b"still valid").unwrap();
    folder.sync().unwrap();
    let inner = folder.create_subfolder("inner").unwrap();
    assert!(inner.list().unwrap().is_empty());
    assert!(folder.subfolder("inner").unwrap().is_some() && folder.subfolder("other").unwrap().is_none());
    assert_eq!(folder.list().unwrap(), ["b"]);
    folder.remove("b").unwrap();
    assert!(matches!(folder.remove("b").unwrap_err().cause(), Cause::NotFound));
    assert!(matches!(folder.open("b", Access::Read).err().unwrap().cause(), Cause::NotFound));
    file.write_at(Bytes(0), b"valid until dropped").unwrap();
    assert!(folder.available().unwrap() > Bytes(0));
}

#[test]
fn a_name_never_leads_out_of_the_folder() {
    let place = tempfile::tempdir().unwrap();
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::os::unix::fs::symlink(secret.path(), place.path().join("link")).unwrap();
    fs::create_dir(place.path().join("directory")).unwrap();
    nix::unistd::mkfifo(&place.path().join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let folder = open_folder(&place);
    for name in ["../x", "/etc/passwd", "", ".", "..", "a\0b"] {
        let error = folder.open(name, Access::Read).err().unwrap();
        assert!(matches!(error.cause(), Cause::BadName), "{error}");
        assert!(matches!(folder.create(name).err().unwrap().cause(), Cause::BadName));
    }
    for name in ["link", "pipe", "directory"] {
        for access in [Access::Read, Access::Write] {
            let error = folder.open(name, access).err().unwrap().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
    assert!(folder.subfolder("link").is_err());
    assert!(folder.list().unwrap().is_empty());
}

#[test]
fn what_is_no_disk_is_refused_by_name() {
    let place = tempfile::tempdir().unwrap();
    let error = |path: &std::path::Path| {
        FileDisk::open(path, Access::Read, Caching::PageCache).unwrap_err().to_string()
    };
    assert!(error(place.path()).contains("neither a file nor a block device"));
    assert!(error("/dev/null".as_ref()).contains("neither a file nor a block device"));
    assert!(error(&place.path().join("absent")).contains("no such file"));
    assert!(HostFolder::open("/dev/null", Caching::PageCache).is_err());
}
