//! One disk for each rule.

use super::*;
use block_device::inventory::{Controller, DeviceNumber, DiskPath, MultipathMap, Partition};
use std::fs;

const ID: &str = "36000c29a0123456789abcdef01234567";
const UUID: &str = "11111111-2222-3333-4444-555555555555";

fn free(name: &str, id: &str) -> AttachedDisk {
    AttachedDisk {
        name: name.into(),
        map: None,
        scsi_id: ScsiId::parse(id),
        no_scsi_id: None,
        other_scsi_id: None,
        serial: None,
        vendor: Some("VMware".into()),
        model: Some("Virtual disk".into()),
        size: Bytes(40 << 30),
        logical_sector: 512,
        physical_sector: 512,
        read_only: false,
        removable: false,
        paths: vec![DiskPath {
            name: name.into(),
            number: DeviceNumber { major: 8, minor: 16 },
            size: Bytes(40 << 30),
            address: None,
            controller: Controller::LsiSas,
            device_state: None,
            path_state: None,
        }],
        partitions: Vec::new(),
        signature: None,
        uses: Vec::new(),
        role: Role::Free,
    }
}

fn file_system(name: &str, uuid: Option<&str>, label: &str) -> Option<Signature> {
    let (uuid, label) = (uuid.map(str::to_owned), Some(label.to_owned()).filter(|label| !label.is_empty()));
    Some(Signature::FileSystem { name: name.into(), uuid, label })
}

fn mounted(device: &str, place: &str) -> Use {
    Use::Mounted { device: device.into(), place: place.into() }
}

fn partition(name: &str, signature: Option<Signature>) -> Partition {
    let number = DeviceNumber { major: 8, minor: 17 };
    Partition { name: name.into(), number, index: 1, start: Bytes(1 << 20), size: Bytes(1 << 30), signature }
}

fn judged(change: impl FnOnce(&mut AttachedDisk)) -> Vec<Ineligible> {
    let mut disk = free("sdb", ID);
    change(&mut disk);
    let inventory = Inventory { disks: vec![disk] };
    judge(&inventory, &inventory.disks[0], Path::new("/mnt/retention"), &[])
}

/// Which rule it is, and what a message must hold.
#[test]
fn each_rule_has_its_own_word_and_remedy() {
    type Change = Box<dyn FnOnce(&mut AttachedDisk)>;
    let used = |one: Use| -> Change { Box::new(|disk| disk.uses.push(one)) };
    let holds = |found: Option<Signature>| -> Change { Box::new(|disk| disk.signature = found) };
    let cases: Vec<(&str, &str, Change)> = vec![
        ("system-disk", "/boot", used(Use::System { place: "/boot".into() })),
        ("installation", "/var/lib/master-target", used(mounted("/dev/sdb", "/var/lib/master-target"))),
        ("target", "another disk", Box::new(|disk| disk.role = Role::Target)),
        ("swap", "swapoff", used(Use::Swap { device: "/dev/sdb".into() })),
        ("swap", "wipefs -a /dev/sdb", holds(Some(Signature::Swap))),
        ("lvm", "vg-data", used(Use::LogicalVolume { name: "vg-data".into() })),
        ("lvm", "(vg)", holds(Some(Signature::LvmMember { group: Some("vg".into()) }))),
        ("raid", "md0", used(Use::Raid { name: "md0".into() })),
        ("raid", "zero-superblock", holds(Some(Signature::RaidMember))),
        ("encrypted", "LUKS", holds(Some(Signature::Encrypted))),
        ("mounted-elsewhere", "umount /data", used(mounted("/dev/sdb", "/data"))),
        ("in-use", "dm-9", used(Use::Holder { name: "dm-9".into() })),
        ("locked", "qemu", used(Use::Opened { by: "qemu".into() })),
        ("fat", "--reformat AB12-CD34", holds(file_system("vfat", Some("AB12-CD34"), ""))),
        ("other-file-system", UUID, holds(file_system("xfs", Some(UUID), "data"))),
        ("other-file-system", "mount it at /mnt/retention", holds(file_system("ext4", Some(UUID), "data"))),
        ("other-file-system", "wipefs -a /dev/sdb", holds(file_system("squashfs", None, ""))),
        ("partition-table", "gpt", holds(Some(Signature::PartitionTable { name: "gpt".into() }))),
        ("unreadable", "root", holds(Some(Signature::Unreadable))),
        ("read-only", "dmesg", Box::new(|disk| disk.read_only = true)),
        ("removable", "stays", Box::new(|disk| disk.removable = true)),
        ("no-capacity", "zero", Box::new(|disk| disk.size = Bytes::ZERO)),
        (
            "no-scsi-id",
            "disk.EnableUUID = TRUE",
            Box::new(|disk| (disk.scsi_id, disk.no_scsi_id) = (None, Some(NoScsiId::EnableUuidUnset))),
        ),
        ("two-scsi-ids", "udevadm", Box::new(|disk| disk.other_scsi_id = ScsiId::parse("36000c29b"))),
    ];
    for (rule, word, change) in cases {
        let broken = judged(change);
        let rules: Vec<&str> = broken.iter().map(Ineligible::rule).collect();
        assert_eq!(rules, [rule]);
        let text = broken[0].to_string();
        assert!(text.contains(word) && !broken[0].remedy().is_empty(), "{rule}: {text}");
    }
}

#[test]
fn what_a_disk_holds_is_nobodys_business_while_someone_uses_it() {
    let broken = judged(|disk| {
        disk.uses.push(Use::System { place: "/".into() });
        disk.signature = Some(Signature::PartitionTable { name: "mbr".into() });
    });
    assert!(matches!(&broken[..], [Ineligible::System { .. }]), "{broken:?}");
}

#[test]
fn partitions_are_listed_and_the_volume_on_one_is_not_taken() {
    let table = || Some(Signature::PartitionTable { name: "mbr".into() });
    let broken = judged(|disk| {
        disk.signature = table();
        disk.partitions = vec![partition("sdb1", file_system("ntfs", None, ""))];
    });
    assert!(broken[0].to_string().contains("sdb1: ntfs"), "{}", broken[0]);
    let broken = judged(|disk| {
        disk.signature = table();
        disk.partitions = vec![partition("sdb1", file_system("ext4", Some(UUID), ""))];
        disk.uses = vec![mounted("/dev/sdb1", "/mnt/retention")];
    });
    assert_eq!(broken, [Ineligible::Partition { partition: "sdb1".into() }]);
    assert!(!broken[0].to_string().contains("wipefs"));
}

#[test]
fn copies_of_one_disk_are_refused_and_paths_to_it_are_not() {
    let mut inventory = Inventory { disks: vec![free("sdb", ID), free("sdc", ID)] };
    let broken = judge(&inventory, &inventory.disks[0], Path::new("/mnt/retention"), &[]);
    assert!(matches!(&broken[..], [Ineligible::Copies(_)]), "{broken:?}");
    inventory.disks.iter_mut().for_each(|disk| disk.vendor = Some("EXAMPLE".into()));
    assert_eq!(judge(&inventory, &inventory.disks[0], Path::new("/mnt/retention"), &[]), []);
}

#[test]
fn every_disk_has_its_standing() {
    let mut ours = free("sdb", ID);
    let number = DeviceNumber { major: 253, minor: 0 };
    ours.map = Some(MultipathMap { name: ID.into(), kernel_name: "dm-0".into(), number, wwid: ID.into() });
    ours.uses = vec![mounted(&format!("/dev/mapper/{ID}"), "/mnt/retention")];
    ours.signature = file_system("ext4", Some(UUID), "");
    ours.role = Role::Retention;
    let mut again = free("sdc", "36000c29b");
    again.signature = file_system("ext4", Some(UUID), "mt-retention");
    let mut fat = free("sdd", "36000c29c");
    fat.signature = file_system("vfat", None, "");
    // What fstab keeps for retention is still an item's target.
    let mut target = free("sdf", "36000c29e");
    target.role = Role::Retention;
    let (elsewhere, nilfs) = (free("sdg", "36000c29f"), free("sdh", "36000c2a0"));
    let disks = vec![ours, again, free("sde", "36000c29d"), fat, target, elsewhere, nilfs];
    let inventory = Inventory { disks };
    let machine = Machine::new();
    let mount_point = Path::new("/mnt/retention");
    let targets = ["/dev/mapper/36000c29e".to_owned()];
    let question =
        Question { mount_point, state_folder: Path::new("/state"), targets: &targets, doubt: None };
    let standings = |question: &Question<'_>| -> Vec<Standing> {
        survey(&machine.system(), &inventory, question).into_iter().map(|(_, standing)| standing).collect()
    };
    let rules = |standing: &Standing| match standing {
        Standing::Ineligible(broken) => broken.iter().map(Ineligible::rule).collect(),
        other => vec![if *other == Standing::Retention { "retention" } else { "eligible" }],
    };
    let all: Vec<Vec<&str>> = standings(&question).iter().map(rules).collect();
    let expected = ["retention", "unmarked", "eligible", "fat", "target", "in-fstab", "other-file-system"];
    assert_eq!(all, expected.map(|rule| vec![rule]));
    // A marker makes the disk known again, and that of another file system does not.
    machine.program("debugfs", &marker(UUID));
    assert_eq!(standings(&question)[1], Standing::Eligible);
    machine.program("debugfs", &marker(&UUID.replace('1', "2")));
    assert_eq!(rules(&standings(&question)[1]), ["marker"]);
    // So does the ledger of a preparation that was cut off.
    machine.program("debugfs", "true");
    machine.write(
        "state/retention-prepare.json",
        &format!(
            r#"{{"format":1,"disk":"36000c29b","mount_point":"/mnt/retention","file_system":"{UUID}","made":true,"fstab_device":null}}"#
        ),
    );
    assert_eq!(standings(&question)[1], Standing::Eligible);
    // Where a target may be missing in the list, nothing is offered that could be it.
    let doubtful = Question { doubt: Some("a file is torn"), ..question };
    let all: Vec<Vec<&str>> = standings(&doubtful).iter().map(rules).collect();
    assert_eq!(all[..3], [["retention"], ["maybe-target"], ["maybe-target"]]);
    machine.program("blkid", "echo 'cannot read' >&2; exit 2");
    assert_eq!(rules(&standings(&question)[2]), ["unexamined"]);
}

fn marker(file_system: &str) -> String {
    format!(
        "echo 'master-target retention volume, format 1'; echo 'id = 12'; echo 'file-system = {file_system}'"
    )
}

/// A machine that is a folder, with an fstab and with programs that say what a test has them say.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Machine {
        let machine = Machine(tempfile::tempdir().unwrap());
        machine.write(
            "etc/fstab",
            "/dev/sda1 / ext4 defaults 0 1\n/dev/mapper/36000c29f /srv/data ext4 noauto 0 0\n",
        );
        machine.program("debugfs", "true");
        let nilfs =
            "case $* in */sdh) printf 'TYPE=nilfs2\\nUSAGE=filesystem\\nUUID=a\\n' ;; *) exit 2 ;; esac";
        machine.program("blkid", nilfs);
        machine
    }

    fn system(&self) -> System {
        System::at(self.0.path())
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn program(&self, name: &str, script: &str) {
        let path = self.0.path().join("sbin").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        testkit::program(&path, &format!("#!/bin/sh\n{script}\n"));
    }
}
