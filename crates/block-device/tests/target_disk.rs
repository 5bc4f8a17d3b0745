//! Target disks are found by their id, refused while anything uses them, and proved to be the right ones. The machine is
//! built in a folder; its nodes lead to loop devices of this one. Needs root.

mod captured;

use block_device::inventory::Look;
use block_device::{Caching, Error, ScsiId, TargetDisk, multipath};
use captured::{Machine, Shown, id, vmware};
use disk::{Class, Disk};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A child of one test holds, for a moment, what another test has open.
static ALONE: Mutex<()> = Mutex::new(());

fn as_root() -> Option<MutexGuard<'static, ()>> {
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var_os("MASTER_TARGET_NO_SKIPS").is_none(), "loop devices need root");
        let _ = std::io::stderr().write_all(b"SKIPPED: a test of target disks, which needs root\n");
        return None;
    }
    Some(ALONE.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A loop device of this machine over the file that stands for a disk of the other.
struct Node(String);

impl Node {
    /// Lets the disk's node lead to a loop device, and sysfs tell its number.
    fn of(machine: &Machine, disk: &str) -> Node {
        let image = machine.path("images").join(disk);
        std::fs::create_dir_all(machine.path("images")).unwrap();
        std::fs::rename(machine.path("dev").join(disk), &image).unwrap();
        let output = Command::new("losetup").args(["--find", "--show"]).arg(&image).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let device = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        machine.link(&format!("dev/{disk}"), &device);
        let number = std::fs::metadata(&device).unwrap().rdev();
        let number = format!("{}:{}", nix::sys::stat::major(number), nix::sys::stat::minor(number));
        machine.write(&format!("sys/block/{disk}/dev"), &number);
        machine.link(&format!("sys/dev/block/{number}"), &format!("../../block/{disk}"));
        Node(device)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}

fn open(machine: &Machine, path: &str) -> block_device::Result<TargetDisk> {
    TargetDisk::open(&machine.system(), &Look::default(), Path::new(path), Caching::PageCache)
}

fn with(disks: &[Shown]) -> Machine {
    let machine = Machine::new();
    disks.iter().for_each(|disk| machine.disk(disk));
    machine
}

#[test]
fn a_disk_is_found_by_its_id_with_or_without_a_map() {
    let Some(_alone) = as_root() else { return };
    let machine = with(&[vmware("sda", 0, 0).vmdk(1), vmware("sdb", 0, 1).vmdk(2)]);
    let node = Node::of(&machine, "sdb");
    let disk = open(&machine, &format!("/dev/mapper/{}", id(2))).unwrap();
    assert_eq!(disk.device_number().unwrap().to_string(), number_of(&node.0));
    drop(disk);
    machine.map(0, &id(2), &format!("mpath-{}", id(2)), &["sdb"], 10 << 21);
    let map = Node::of(&machine, "dm-0");
    let disk = open(&machine, &format!("/dev/mapper/{}", id(2))).unwrap();
    assert_eq!(disk.device_number().unwrap().to_string(), number_of(&map.0));
    assert!(disk.size().0 > 0);
}

fn number_of(device: &str) -> String {
    let number = std::fs::metadata(device).unwrap().rdev();
    format!("{}:{}", nix::sys::stat::major(number), nix::sys::stat::minor(number))
}

#[test]
fn a_disk_that_is_away_is_waited_for_and_nothing_is_made_in_its_place() {
    let Some(_alone) = as_root() else { return };
    let machine = with(&[vmware("sda", 0, 0).vmdk(1)]);
    let path = format!("/dev/mapper/{}", id(7));
    let error = open(&machine, &path).unwrap_err();
    assert!(matches!(error, Error::NoDisk { .. }) && error.class() == Class::Retry, "{error}");
    assert!(!machine.path(&path[1..]).exists());
}

#[test]
fn names_that_may_stand_for_another_disk_are_refused() {
    let Some(_alone) = as_root() else { return };
    let machine = with(&[vmware("sda", 0, 0).vmdk(1), vmware("sdb", 0, 1)]);
    let error = open(&machine, "/dev/sda").unwrap_err();
    assert!(error.to_string().contains(&format!("/dev/mapper/{}", id(1))), "{error}");
    let error = open(&machine, "/dev/sdb").unwrap_err();
    assert!(error.to_string().contains("disk.EnableUUID"), "{error}");
    let _node = Node::of(&machine, "sda");
    for (link, good) in [
        (format!("by-id/wwn-0x{}", &id(1)[1..]), true),
        (format!("by-id/scsi-{}", id(1)), true),
        (format!("by-id/scsi-{}", id(9)), false),
        ("by-path/pci-0000:03:00.0-scsi-0:0:0:0".to_owned(), false),
        ("by-uuid/0123".to_owned(), false),
    ] {
        machine.link(&format!("dev/disk/{link}"), "../../sda");
        let outcome = open(&machine, &format!("/dev/disk/{link}"));
        assert_eq!(outcome.is_ok(), good, "{link}: {outcome:?}");
        assert!(good || matches!(outcome, Err(Error::UnstableName { .. })));
    }
}

#[test]
fn a_partition_is_no_disk() {
    let Some(_alone) = as_root() else { return };
    let machine = with(&[vmware("sda", 0, 0).vmdk(1)]);
    machine.partition("sda", 1, 2048, 4096);
    let error = open(&machine, "/dev/sda1").unwrap_err();
    assert!(matches!(error, Error::NotADisk { .. }) && error.to_string().contains("partition 1"), "{error}");
}

#[test]
fn a_map_that_is_to_come_is_waited_for() {
    let Some(_alone) = as_root() else { return };
    let machine = with(&[vmware("sda", 0, 0).vmdk(1)]);
    multipath::set_wanted(&machine.system(), &[ScsiId::parse(&id(1)).unwrap()]).unwrap();
    let error = open(&machine, &format!("/dev/mapper/{}", id(1))).unwrap_err();
    assert!(matches!(error, Error::NotMapped { .. }) && error.class() == Class::Retry, "{error}");
}

/// Invariant 6: after what leaves a disk in an unknown state the item stops and says why.
#[test]
fn invariant_6_a_copy_that_joins_the_map_of_an_open_disk_fails_the_next_sync() {
    let Some(_alone) = as_root() else { return };
    let machine = with(&[vmware("sda", 0, 0).vmdk(1)]);
    machine.map(0, &id(1), &format!("mpath-{}", id(1)), &["sda"], 10 << 21);
    let _map = Node::of(&machine, "dm-0");
    let disk = open(&machine, &format!("/dev/mapper/{}", id(1))).unwrap();
    disk.sync().unwrap();
    machine.write("sys/block/dm-0/slaves/sdb", "");
    let error = disk.sync().unwrap_err();
    assert!(error.class() == Class::Corrupt && error.to_string().contains("sda and sdb"), "{error}");
}

#[test]
fn copies_that_multipath_joined_are_refused() {
    let Some(_alone) = as_root() else { return };
    let machine = with(&[vmware("sda", 0, 0).vmdk(1), vmware("sdb", 1, 0).vmdk(1)]);
    machine.map(0, &id(1), &format!("mpath-{}", id(1)), &["sda", "sdb"], 10 << 21);
    let error = open(&machine, &format!("/dev/mapper/{}", id(1))).unwrap_err();
    assert!(matches!(error, Error::Ambiguous { .. }) && error.class() == Class::Operator, "{error}");
    let refused = multipath::map(&machine.system(), &ScsiId::parse(&id(1)).unwrap()).unwrap_err();
    assert!(matches!(refused, Error::Ambiguous { .. }), "{refused}");
}

#[test]
fn copies_with_one_id_are_refused() {
    let Some(_alone) = as_root() else { return };
    let machine = with(&[vmware("sda", 0, 0).vmdk(1), vmware("sdb", 0, 1).vmdk(1)]);
    let error = open(&machine, &format!("/dev/mapper/{}", id(1))).unwrap_err();
    assert!(matches!(error, Error::Ambiguous { .. }), "{error}");
}

#[test]
fn a_disk_in_use_is_refused_with_each_use() {
    let Some(_alone) = as_root() else { return };
    let machine = with(&[vmware("sda", 0, 0).vmdk(1)]);
    machine.partition("sda", 1, 2048, 4096);
    machine.mount("8:1", "/srv/data");
    let error = open(&machine, &format!("/dev/mapper/{}", id(1))).unwrap_err();
    assert!(
        matches!(&error, Error::InUse { uses, .. } if uses.len() == 1)
            && error.to_string().contains("/srv/data"),
        "{error}"
    );
    assert_eq!(error.class(), Class::Operator);
}

#[test]
fn the_disk_of_the_retention_volume_is_refused_also_while_it_is_not_mounted() {
    let Some(_alone) = as_root() else { return };
    let machine = with(&[vmware("sda", 0, 0).vmdk(1)]);
    machine.map(0, &id(1), &format!("mpath-{}", id(1)), &["sda"], 10 << 21);
    machine.write("etc/fstab", format!("/dev/mapper/{} /mnt/retention ext4 rw 0 0\n", id(1)));
    let error = open(&machine, &format!("/dev/mapper/{}", id(1))).unwrap_err();
    assert!(error.to_string().contains("retention volume"), "{error}");
}

#[test]
fn another_disk_behind_the_node_is_noticed() {
    let Some(_alone) = as_root() else { return };
    let machine = with(&[vmware("sda", 0, 0).vmdk(1), vmware("sdb", 0, 1).vmdk(2)]);
    let (_one, _two) = (Node::of(&machine, "sda"), Node::of(&machine, "sdb"));
    // As when udev is late: the node of sda leads to what sdb is.
    std::fs::remove_file(machine.path("dev/sda")).unwrap();
    machine.link("dev/sda", &_two.0);
    let error = open(&machine, &format!("/dev/mapper/{}", id(1))).unwrap_err();
    assert!(matches!(&error, Error::OtherDisk { found, .. } if *found == id(2)), "{error}");
}

#[test]
fn a_file_or_folder_below_dev_is_no_disk() {
    let Some(_alone) = as_root() else { return };
    let machine = with(&[vmware("sda", 0, 0).vmdk(1)]);
    machine.write("dev/notes", "x");
    for path in ["/dev/notes", "/dev/mapper"] {
        let error = open(&machine, path).unwrap_err();
        assert!(matches!(error, Error::NotADisk { .. }), "{error}");
    }
}
