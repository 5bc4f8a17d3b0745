//! A real block device: a loop device over a file. Needs root.

mod common;

use block_device::inventory::{Changes, Look, Role, Signature, Use};
use block_device::{Caching, FileDisk, HostFolder, Inventory, System};
use common::{bytes, read, run, steps};
use disk::{Access, ByteRange, Bytes, Cause, Class, Disk, Folder, MemoryDisk};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const SIZE: u64 = 4 << 20;

/// The tests run one after the other: a child that one of them starts has, for a moment, a copy of every open
/// descriptor, and so holds the device of another.
static ALONE: Mutex<()> = Mutex::new(());

/// A loop device over a sparse file; detached when it is dropped.
struct LoopDevice {
    path: String,
    image: PathBuf,
}

impl LoopDevice {
    /// Over a new file in `folder`.
    fn attach(folder: &Path) -> LoopDevice {
        let image = folder.join("image");
        std::fs::File::create(&image).unwrap().set_len(SIZE).unwrap();
        let output = Command::new("losetup").args(["--find", "--show"]).arg(&image).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        LoopDevice { path: String::from_utf8(output.stdout).unwrap().trim().to_owned(), image }
    }

    fn open(&self, access: Access, caching: Caching) -> disk::Result<FileDisk> {
        FileDisk::open(&self.path, access, caching)
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        command("losetup", &["--detach", &self.path]);
    }
}

/// `None`, loudly, where we are not root; an error where runs must be complete.
fn as_root() -> Option<MutexGuard<'static, ()>> {
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var_os("MASTER_TARGET_NO_SKIPS").is_none(), "loop devices and mounts need root");
        // Written past the test harness, which keeps back what passing tests print.
        let _ =
            std::io::stderr().write_all(b"SKIPPED: a test of loop devices and mounts, which needs root\n");
        return None;
    }
    Some(ALONE.lock().unwrap_or_else(PoisonError::into_inner))
}

fn command(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
}

/// A mounted file system, unmounted when dropped.
struct Mount<'a>(&'a Path);

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        command("umount", &[self.0.to_str().unwrap()]);
    }
}

#[test]
fn a_block_device_holds_what_a_memory_disk_holds() {
    let Some(_alone) = as_root() else { return };
    let folder = tempfile::tempdir().unwrap();
    let device = LoopDevice::attach(folder.path());
    for caching in [Caching::PageCache, Caching::Direct] {
        let mut runner =
            TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(16) });
        let outcome = runner.run(&steps(SIZE), |steps| {
            let disk = device.open(Access::Write, caching).unwrap();
            disk.write_zeroes(ByteRange::between(Bytes(0), Bytes(SIZE))).unwrap();
            let oracle = MemoryDisk::new("oracle", Bytes(SIZE));
            run(&steps, &disk, &oracle);
            Ok(())
        });
        outcome.unwrap_or_else(|failure| panic!("{caching:?}: {failure}"));
    }
}

#[test]
fn what_is_synced_is_on_the_medium_below() {
    let Some(_alone) = as_root() else { return };
    let folder = tempfile::tempdir().unwrap();
    let device = LoopDevice::attach(folder.path());
    let disk = device.open(Access::Write, Caching::Direct).unwrap();
    assert_eq!(disk.size(), Bytes(SIZE));
    let data = bytes(100_000, 1);
    disk.write_at(Bytes(777), &data).unwrap();
    disk.sync().unwrap();
    let below = std::fs::read(&device.image).unwrap();
    assert!(below[777..100_777] == data);
    drop(disk);
    let reader = device.open(Access::Read, Caching::PageCache).unwrap();
    assert!(read(&reader, 777, data.len()) == data);
}

#[test]
fn a_device_in_use_is_refused_with_its_user() {
    let Some(_alone) = as_root() else { return };
    let folder = tempfile::tempdir().unwrap();
    let device = LoopDevice::attach(folder.path());
    let writer = device.open(Access::Write, Caching::PageCache).unwrap();
    let error = device.open(Access::Write, Caching::PageCache).unwrap_err();
    assert!(error.to_string().contains("another handle of this process"), "{error}");
    drop(writer);
    command("mkfs.ext4", &["-q", "-F", &device.path]);
    let mount_point = folder.path().join("mount point");
    std::fs::create_dir(&mount_point).unwrap();
    command("mount", &[&device.path, mount_point.to_str().unwrap()]);
    let mount = Mount(&mount_point);
    let error = device.open(Access::Write, Caching::Direct).unwrap_err();
    assert!(
        matches!(error.cause(), Cause::InUse { holder } if holder.contains("mounted at") && holder.ends_with("mount point")),
        "{error}"
    );
    device.open(Access::Read, Caching::PageCache).unwrap();
    drop(mount);
    device.open(Access::Write, Caching::Direct).unwrap();
}

#[test]
fn a_full_volume_refuses_a_write_and_takes_the_next_that_fits() {
    let Some(_alone) = as_root() else { return };
    let place = tempfile::tempdir().unwrap();
    command("mount", &["-t", "tmpfs", "-o", "size=1m", "tmpfs", place.path().to_str().unwrap()]);
    let _mount = Mount(place.path());
    let folder = HostFolder::open(place.path(), Caching::PageCache).unwrap();
    let file = folder.create("f").unwrap();
    file.write_at(Bytes(0), &[1; 4096]).unwrap();
    let error = file.write_at(Bytes(4096), &vec![2; 2 << 20]).unwrap_err();
    assert_eq!((error.class(), folder.available().unwrap()), (Class::Full, Bytes(0)), "{error}");
    file.set_size(Bytes(4096)).unwrap();
    file.write_at(Bytes(4096), &[3; 4096]).unwrap();
    file.sync().unwrap();
    assert_eq!((file.size(), folder.capacity().unwrap()), (Bytes(8192), Bytes(1 << 20)));
}

/// Invariant 6: a failed fsync is never retried as if it had worked. The medium loses writes for real: it is a loop
/// device over a sparse file on a volume that has no room for it.
#[test]
fn invariant_6_a_medium_that_loses_writes_fences_the_disk() {
    let Some(_alone) = as_root() else { return };
    let place = tempfile::tempdir().unwrap();
    command("mount", &["-t", "tmpfs", "-o", "size=1m", "tmpfs", place.path().to_str().unwrap()]);
    let _mount = Mount(place.path());
    let device = LoopDevice::attach(place.path());
    let disk = device.open(Access::Write, Caching::PageCache).unwrap();
    disk.write_at(Bytes(0), &bytes(3 << 20, 1)).unwrap();
    let lost = disk.sync().unwrap_err();
    assert!(matches!(lost.cause(), Cause::Io(_) | Cause::NoSpace), "{lost}");
    let refused = [
        disk.write_at(Bytes(0), &[1]).unwrap_err(),
        disk.write_zeroes(ByteRange::between(Bytes(0), Bytes(1))).unwrap_err(),
        disk.sync().unwrap_err(),
    ];
    assert!(refused.iter().all(|error| matches!(error.cause(), Cause::Fenced)), "{refused:?}");
    disk.read_at(Bytes(0), &mut [0; 4096]).unwrap();
}

#[test]
fn a_device_that_becomes_shorter_is_noticed_at_the_next_sync() {
    let Some(_alone) = as_root() else { return };
    let folder = tempfile::tempdir().unwrap();
    let device = LoopDevice::attach(folder.path());
    let disk = device.open(Access::Write, Caching::PageCache).unwrap();
    disk.write_at(Bytes(0), &[1; 4096]).unwrap();
    disk.sync().unwrap();
    std::fs::File::options().write(true).open(&device.image).unwrap().set_len(SIZE / 2).unwrap();
    command("losetup", &["--set-capacity", &device.path]);
    disk.write_at(Bytes(0), &[2; 4096]).unwrap();
    let error = disk.sync().unwrap_err();
    assert_eq!(error.class(), Class::Corrupt, "{error}");
    assert!(error.to_string().contains("4194304 bytes") && error.to_string().contains("2097152"), "{error}");
}

#[test]
fn udev_is_kept_away_from_a_device_that_is_written() {
    let Some(_alone) = as_root() else { return };
    let folder = tempfile::tempdir().unwrap();
    let device = LoopDevice::attach(folder.path());
    // udev takes this lock before it looks at a device, and leaves it alone when it does not get it.
    let look = || std::fs::File::open(&device.path).unwrap().try_lock_shared();
    let reader = device.open(Access::Read, Caching::PageCache).unwrap();
    look().unwrap();
    drop(reader);
    let writer = device.open(Access::Write, Caching::Direct).unwrap();
    assert!(look().is_err());
    drop(writer);
    look().unwrap();
}

#[test]
fn the_inventory_sees_what_a_device_holds_and_where_it_is_mounted() {
    let Some(_alone) = as_root() else { return };
    let folder = tempfile::tempdir().unwrap();
    let device = LoopDevice::attach(folder.path());
    let (system, look) = (System::host(), Look { loops: true, ..Look::default() });
    let seen = || {
        let inventory = Inventory::read_with(&system, &look);
        inventory.find(&system, &device.path).unwrap_or_else(|error| panic!("{error}: {inventory:?}")).clone()
    };
    let disk = seen();
    assert_eq!((disk.size, disk.role, disk.signature), (Bytes(SIZE), Role::Free, None));
    command("mkfs.ext4", &["-q", "-F", "-L", "kept", &device.path]);
    let mount_point = folder.path().join("mount point");
    std::fs::create_dir(&mount_point).unwrap();
    command("mount", &[&device.path, mount_point.to_str().unwrap()]);
    let mount = Mount(&mount_point);
    let disk = seen();
    assert!(
        matches!(&disk.signature, Some(Signature::FileSystem { label: Some(label), .. }) if label == "kept"),
        "{disk:?}"
    );
    let place = mount_point.to_str().unwrap().to_owned();
    assert_eq!(disk.uses, [Use::Mounted { device: device.path.clone(), place }]);
    assert_eq!(disk.role, Role::Used);
    drop(mount);
    assert!(seen().uses.is_empty());
    assert!(
        Inventory::read(&system).find(&system, &device.path).is_err(),
        "a loop device is taken on request only"
    );
}

#[test]
fn a_device_that_comes_wakes_at_once() {
    let Some(_alone) = as_root() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut changes = Changes::listen(&System::host());
    let begun = Instant::now();
    let device = LoopDevice::attach(folder.path());
    assert!(changes.wait(Duration::from_secs(30)));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    drop(device);
    assert!(changes.wait(Duration::from_secs(30)));
}
