//! The inventory of machines that were seen elsewhere, rebuilt in a folder.

mod captured;

use block_device::inventory::{
    AttachedDisk, Controller, DuplicateKind, EnableUuid, Look, NoScsiId, Role, ScsiAddress, Signature, Use,
};
use block_device::{Error, Inventory};
use captured::{Machine, array, id, uuid, vmware};
use disk::Bytes;
use std::time::{Duration, Instant};

const GIB: u64 = 1 << 30;

fn one<'a>(inventory: &'a Inventory, name: &str) -> &'a AttachedDisk {
    inventory
        .disks
        .iter()
        .find(|disk| disk.name == name)
        .unwrap_or_else(|| panic!("no {name}: {inventory:?}"))
}

/// sda with the root file system on a partition, sdb free; both with ids.
fn two_disks() -> Machine {
    let machine = Machine::new();
    machine.disk(&vmware("sda", 0, 0).vmdk(1));
    machine.disk(&vmware("sdb", 0, 1).vmdk(2).gigabytes(40));
    machine.partition("sda", 1, 2048, 16 << 20);
    machine.put("sda", 446, &[0x80, 0, 0, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 0, 1, 0]);
    machine.put("sda", 510, &[0x55, 0xaa]);
    machine.put("sda1", 1080, &[0x53, 0xef]);
    machine.mount("8:1", "/");
    machine
}

/// The nth VMDK on two adapters, joined as dm-0.
fn two_paths(n: u8) -> Machine {
    let machine = Machine::new();
    machine.disk(&array("sda", 0, 0).vmdk(n));
    machine.disk(&array("sdb", 1, 0).vmdk(n));
    machine.map(0, &id(n), &format!("mpath-{}", id(n)), &["sda", "sdb"], 10 << 21);
    machine
}

#[test]
fn a_vmware_machine_with_ids() {
    let machine = two_disks();
    let inventory = machine.inventory();
    let [system, free] = &inventory.disks[..] else { panic!("{inventory:?}") };
    assert_eq!(system.scsi_id.as_ref().unwrap().as_str(), id(1));
    assert_eq!((system.role, free.role), (Role::System, Role::Free));
    assert_eq!(system.uses, [Use::System { place: "/".into() }]);
    assert_eq!(system.signature, Some(Signature::PartitionTable { name: "mbr".into() }));
    assert_eq!(system.partitions[0].signature.as_ref().unwrap().to_string(), "ext2");
    assert_eq!((system.partitions[0].index, system.partitions[0].start), (1, Bytes(1 << 20)));
    assert_eq!((free.size, free.signature.as_ref(), free.uses.len()), (Bytes(40 * GIB), None, 0));
    assert_eq!((free.vendor.as_deref(), free.model.as_deref()), (Some("VMware"), Some("Virtual disk")));
    let path = &free.paths[0];
    assert_eq!(path.address, Some(ScsiAddress { host: 0, channel: 0, target: 1, lun: 0 }));
    assert_eq!(
        (path.controller, path.device_state.as_deref()),
        (Controller::ParavirtualScsi, Some("running"))
    );
    assert_eq!((inventory.enable_uuid(), inventory.duplicates()), (EnableUuid::Yes, Vec::new()));
}

#[test]
fn a_vmdk_and_its_disk_find_each_other() {
    let inventory = two_disks().inventory();
    let found: Vec<&str> = inventory.of_vmdk(uuid(2)).iter().map(|disk| disk.name.as_str()).collect();
    assert_eq!(found, ["sdb"]);
    assert_eq!(one(&inventory, "sdb").scsi_id.as_ref().unwrap().vmdk_uuid(), Some(uuid(2)));
    assert!(inventory.of_vmdk(uuid(9)).is_empty());
}

#[test]
fn a_machine_without_enable_uuid_says_so() {
    let machine = Machine::new();
    machine.disk(&vmware("sda", 0, 0));
    let mut empty = vmware("sdb", 0, 1);
    empty.page_83 = Some(Vec::new());
    machine.disk(&empty);
    let inventory = machine.inventory();
    for disk in &inventory.disks {
        assert_eq!((disk.scsi_id.as_ref(), disk.no_scsi_id), (None, Some(NoScsiId::EnableUuidUnset)));
    }
    let disks = vec!["sda".into(), "sdb".into()];
    assert_eq!((inventory.enable_uuid(), inventory.duplicates()), (EnableUuid::No { disks }, Vec::new()));
    assert_eq!(Machine::new().inventory().enable_uuid(), EnableUuid::Unknown);
}

#[test]
fn a_garbled_page_is_no_id_and_udev_may_know_better() {
    let machine = Machine::new();
    let mut garbled = vmware("sda", 0, 0).vmdk(1);
    garbled.page_83.as_mut().unwrap().truncate(10);
    machine.disk(&garbled);
    assert_eq!(machine.inventory().disks[0].no_scsi_id, Some(NoScsiId::Garbled));
    machine.write("run/udev/data/b8:0", format!("E:ID_BUS=scsi\nE:ID_SERIAL={}\n", id(4)));
    assert_eq!(machine.inventory().disks[0].scsi_id.as_ref().unwrap().as_str(), id(4));
    machine.write("run/udev/data/b8:0", "E:ID_BUS=ata\nE:ID_SERIAL=30000\n");
    assert_eq!(machine.inventory().disks[0].scsi_id, None);
}

#[test]
fn beside_a_garbled_page_a_serial_number_counts_only_as_udev_says() {
    let machine = Machine::new();
    let mut garbled = vmware("sda", 0, 0).vmdk(1);
    garbled.page_83.as_mut().unwrap().truncate(10);
    garbled.serial = Some("A/1");
    machine.disk(&garbled);
    let seen = || machine.inventory().disks.remove(0);
    assert_eq!((seen().scsi_id, seen().no_scsi_id), (None, Some(NoScsiId::Garbled)));
    machine.write("run/udev/data/b8:0", "E:ID_BUS=scsi\nE:ID_SERIAL=SVMware_Virtual_disk_A_1\n");
    assert_eq!(seen().scsi_id.unwrap().as_str(), "SVMware_Virtual_disk_A_1");
    garbled.page_83 = None;
    let silent = Machine::new();
    silent.disk(&garbled);
    let id = silent.inventory().disks.remove(0).scsi_id.unwrap();
    assert_eq!(id.as_str(), "SVMware_Virtual_disk_A_1");
}

#[test]
fn an_id_on_which_udev_does_not_agree_is_told() {
    let machine = two_disks();
    machine.write("run/udev/data/b8:16", format!("E:ID_BUS=scsi\nE:ID_SERIAL={}\n", id(7)));
    let inventory = machine.inventory();
    let disk = one(&inventory, "sdb");
    assert_eq!(disk.scsi_id.as_ref().unwrap().as_str(), id(2));
    assert_eq!(disk.other_scsi_id.as_ref().unwrap().as_str(), id(7));
    assert_eq!(one(&inventory, "sda").other_scsi_id, None);
}

#[test]
fn two_paths_are_one_disk() {
    let machine = two_paths(3);
    machine.map(1, "p", &format!("part1-mpath-{}", id(3)), &["dm-0"], 8192);
    machine.put("dm-1", 4086, b"SWAPSPACE2");
    machine.program(
        "multipathd",
        "[ \"$*\" = 'show paths format %d|%w|%t|%o|%T' ] && printf 'dev|uuid|dm_st|dev_st|chk_st\\n\
         sda |x|active|running|ready\\nsdb |x|failed|running|faulty\\n'",
    );
    machine
        .program("dmsetup", "case $1 in table) echo 'p: 0 8192 linear 253:0 2048';; info) echo 'p|0';; esac");
    let inventory = machine.inventory();
    let [disk] = &inventory.disks[..] else { panic!("{inventory:?}") };
    let map = disk.map.as_ref().unwrap();
    assert_eq!((map.name.as_str(), map.kernel_name.as_str(), map.wwid.as_str()), (&*id(3), "dm-0", &*id(3)));
    let states: Vec<_> =
        disk.paths.iter().map(|path| (path.name.as_str(), path.path_state.as_deref())).collect();
    assert_eq!(states, [("sda", Some("active")), ("sdb", Some("failed"))]);
    assert_eq!((disk.uses.len(), disk.role), (0, Role::Free), "an idle map of a partition is no use");
    let part = &disk.partitions[0];
    assert_eq!(
        (part.name.as_str(), part.start, part.signature.as_ref()),
        ("p", Bytes(1 << 20), Some(&Signature::Swap))
    );
    machine.program("dmsetup", "[ $1 = info ] && echo 'p|1'");
    assert_eq!(machine.inventory().disks[0].uses, [Use::PartitionMap { name: "p".into() }]);
    machine.mount("253:1", "/mnt/retention");
    let mounted = Use::Mounted { device: "/dev/mapper/p".into(), place: "/mnt/retention".into() };
    let disk = machine.inventory().disks.remove(0);
    assert_eq!((disk.uses, disk.role), (vec![mounted], Role::Retention), "a mount tells why it is open");
    assert!(inventory.duplicates().is_empty());
}

#[test]
fn programs_that_hang_or_print_rubbish_do_no_harm() {
    let machine = two_paths(3);
    machine.program("multipathd", "head -c 3000000 /dev/zero; exit 3");
    assert_eq!(machine.inventory().disks.len(), 1);
    machine.program("multipathd", "sleep 60");
    let begun = Instant::now();
    let inventory = machine.inventory();
    assert!(begun.elapsed() < Duration::from_secs(50));
    assert_eq!((inventory.disks.len(), inventory.disks[0].paths[0].path_state.as_ref()), (1, None));
}

#[test]
fn a_disk_whose_paths_are_all_dead_is_not_read() {
    let machine = Machine::new();
    let mut dead = vmware("sda", 0, 0).vmdk(1);
    dead.state = "offline";
    machine.disk(&dead);
    assert_eq!(machine.inventory().disks[0].signature, Some(Signature::Unreadable));
    // One whose node is gone cannot be read either, and is not taken for empty.
    let machine = two_disks();
    std::fs::remove_file(machine.path("dev/sdb")).unwrap();
    assert_eq!(one(&machine.inventory(), "sdb").signature, Some(Signature::Unreadable));
}

#[test]
fn clones_of_a_template_are_told_from_paths() {
    let seen = |first: captured::Shown, second: captured::Shown| {
        let machine = Machine::new();
        machine.disk(&first);
        machine.disk(&second);
        machine.inventory().duplicates().remove(0)
    };
    let first = array("sda", 0, 0).vmdk(1);
    let clones = |kind: &DuplicateKind| matches!(kind, DuplicateKind::Clones { .. });
    let found = seen(first.clone(), array("sdb", 0, 1).vmdk(1));
    assert!(clones(&found.kind), "one adapter: {found:?}");
    assert!(
        found.to_string().contains("sda, sdb are different disks") && found.to_string().contains("0:0:1:0")
    );
    assert!(clones(&seen(first.clone(), array("sdb", 1, 1).vmdk(1)).kind), "another target");
    assert!(clones(&seen(first.clone(), array("sdb", 1, 0).vmdk(1).gigabytes(11)).kind), "another size");
    let mut serial = array("sdb", 1, 0).vmdk(1);
    serial.serial = Some("B");
    assert_eq!(seen(first.clone(), serial.clone()).kind, DuplicateKind::UnjoinedPaths);
    let mut other = first.clone();
    other.serial = Some("A");
    assert!(clones(&seen(other, serial).kind), "another serial number");
    let paths = seen(first, array("sdb", 1, 0).vmdk(1));
    assert_eq!(paths.kind, DuplicateKind::UnjoinedPaths);
    assert!(paths.to_string().contains(&format!("mtctl disks --map {}", id(1))), "{paths}");
    let of_vmware = seen(vmware("sda", 0, 0).vmdk(1), vmware("sdb", 1, 0).vmdk(1));
    assert!(clones(&of_vmware.kind) && of_vmware.to_string().contains("one path only"), "{of_vmware}");
}

#[test]
fn clones_that_multipath_joined_are_the_worst() {
    for (other, expected) in [
        (vmware("sdb", 1, 0).vmdk(1).gigabytes(11), "sizes 10 GiB and 11 GiB"),
        (vmware("sdb", 0, 1).vmdk(1), "SCSI addresses 0:0:0:0 and 0:0:1:0"),
        (vmware("sdb", 1, 0).vmdk(1), "sda is a VMware virtual disk, which has one path only"),
    ] {
        let machine = Machine::new();
        machine.disk(&vmware("sda", 0, 0).vmdk(1));
        machine.disk(&other);
        machine.map(0, "m", &format!("mpath-{}", id(1)), &["sda", "sdb"], 10 << 21);
        let found = machine.inventory().duplicates();
        let DuplicateKind::JoinedClones { map, difference } = &found[0].kind else { panic!("{found:?}") };
        assert_eq!((map.as_str(), difference.as_str()), ("m", expected));
        assert!(found[0].to_string().starts_with("DANGER: multipath has joined sda, sdb into m"));
    }
}

#[test]
fn lvm_swap_and_raid_are_uses() {
    let machine = two_disks();
    machine.disk(&vmware("sdc", 0, 2).vmdk(3));
    machine.disk(&vmware("sdd", 0, 3).vmdk(4));
    machine.partition("sdc", 1, 2048, 4096);
    machine.partition("sdc", 2, 8192, 4096);
    machine.map(0, "vg-var", "LVM-abc", &["sdc1"], 4096);
    machine.mount("253:0", "/var");
    machine.append("proc/swaps", "/dev/sdc2 partition 100 0 -2");
    machine.raid("md0", &["sdd"]);
    machine.mount("9:0", "/srv\\040a");
    let inventory = machine.inventory();
    let used = one(&inventory, "sdc");
    assert_eq!(
        used.uses,
        [
            Use::Swap { device: "/dev/sdc2".into() },
            Use::System { place: "/var".into() },
            Use::LogicalVolume { name: "vg-var".into() },
        ]
    );
    let raid = one(&inventory, "sdd");
    assert_eq!(
        raid.uses,
        [
            Use::Mounted { device: "/dev/md0".into(), place: "/srv a".into() },
            Use::Raid { name: "md0".into() },
        ]
    );
    assert_eq!((used.role, raid.role), (Role::System, Role::Used));
}

#[test]
fn what_has_no_device_number_of_its_own_is_resolved() {
    let machine = Machine::new();
    for (name, target) in [("sda", 0), ("sdb", 1), ("sdc", 2)] {
        machine.disk(&vmware(name, 0, target).vmdk(target as u8));
    }
    machine.append("proc/self/mountinfo", "1 0 0:33 /@ / rw - btrfs /dev/sda rw");
    machine.write("sys/fs/btrfs/aa/devices/sda", "");
    machine.write("sys/fs/btrfs/aa/devices/sdb", "");
    machine.mount("8:32", "/lower");
    machine.append(
        "proc/self/mountinfo",
        "2 0 0:40 / /usr rw - overlay x rw,lowerdir=/lower/a:/lower/usr,upperdir=/lower/up",
    );
    let inventory = machine.inventory();
    let root = Use::System { place: "/".into() };
    assert_eq!(one(&inventory, "sdb").uses, [root]);
    assert!(one(&inventory, "sdc").uses.contains(&Use::System { place: "/usr".into() }), "{inventory:?}");
}

#[test]
fn when_it_is_unknown_what_is_mounted_every_disk_is_used() {
    let machine = two_disks();
    std::fs::remove_file(machine.path("proc/self/mountinfo")).unwrap();
    for disk in machine.inventory().disks {
        assert!(disk.role == Role::Used && disk.uses[0].to_string().contains("mountinfo"), "{disk:?}");
    }
}

#[test]
fn the_retention_volume_is_known_mounted_or_not() {
    let machine = two_disks();
    machine.mount("8:16", "/mnt/retention");
    assert_eq!(one(&machine.inventory(), "sdb").role, Role::Retention);
    let machine = two_disks();
    let look = Look { retention: "/keep".into(), loops: false };
    for line in [
        "/dev/sdb /keep ext4 nofail 0 2",
        "LABEL=kept /keep ext4",
        "UUID=01010101-0101-0101-0101-010101010101 /keep x",
    ] {
        machine.put("sdb", 1080, &[0x53, 0xef]);
        machine.put("sdb", 1024 + 104, &[1; 16]);
        machine.put("sdb", 1024 + 120, b"kept");
        machine.write("etc/fstab", line);
        assert_eq!(one(&machine.inventory(), "sdb").role, Role::Free, "{line}");
        let inventory = Inventory::read_with(&machine.system(), &look);
        assert_eq!(one(&inventory, "sdb").role, Role::Retention, "{line}");
        assert_eq!(one(&inventory, "sda").role, Role::System);
    }
}

#[test]
fn the_retention_volume_is_known_by_the_links_of_udev() {
    for (line, link) in [
        ("PARTUUID=ABCD-01 /mnt/retention ext4", "by-partuuid/abcd-01"),
        ("PARTLABEL=\"kept\\040here/now\" /mnt/retention ext4", r"by-partlabel/kept\x20here\x2fnow"),
        ("UUID=1234-ABCD /mnt/retention vfat", "by-uuid/1234-ABCD"),
        ("LABEL=größe /mnt/retention ext4", "by-label/größe"),
    ] {
        let machine = two_disks();
        // What is detected first is another, older file system.
        machine.put("sdb", 1080, &[0x53, 0xef]);
        machine.write("etc/fstab", line);
        assert_eq!(one(&machine.inventory(), "sdb").role, Role::Free, "{line}");
        machine.link(&format!("dev/disk/{link}"), "../../sdb");
        assert_eq!(one(&machine.inventory(), "sdb").role, Role::Retention, "{line}");
        // On a logical volume the first blocks of the disk tell nothing.
        std::fs::remove_file(machine.path(&format!("dev/disk/{link}"))).unwrap();
        machine.map(0, "vg-kept", "LVM-abc", &["sdb"], 4096);
        machine.link(&format!("dev/disk/{link}"), "../../dm-0");
        assert_eq!(one(&machine.inventory(), "sdb").role, Role::Retention, "{line}");
    }
}

#[test]
fn a_disk_that_cannot_be_read_may_be_the_retention_volume() {
    let machine = two_disks();
    let mut dead = vmware("sdc", 0, 2).vmdk(3);
    dead.state = "offline";
    machine.disk(&dead);
    assert_eq!(one(&machine.inventory(), "sdc").role, Role::Free);
    for line in ["server:/share /mnt/retention nfs", "LABEL=kept /srv ext4"] {
        machine.write("etc/fstab", line);
        assert_eq!(one(&machine.inventory(), "sdc").role, Role::Free, "{line}");
    }
    for line in
        ["LABEL=kept /mnt/retention ext4", "PARTUUID=1 /mnt/retention ext4", "/dev/sdx1 /mnt/retention ext4"]
    {
        machine.write("etc/fstab", line);
        let inventory = machine.inventory();
        let [Use::Opened { by }] = &one(&inventory, "sdc").uses[..] else { panic!("{inventory:?}") };
        assert!(
            by.starts_with("something unknown (") && by.contains(line.split(' ').next().unwrap()),
            "{by}"
        );
        assert_eq!((one(&inventory, "sdc").role, one(&inventory, "sdb").role), (Role::Used, Role::Free));
    }
    // Another disk is it.
    machine.write("etc/fstab", "LABEL=kept /mnt/retention ext4");
    machine.put("sdb", 1080, &[0x53, 0xef]);
    machine.put("sdb", 1024 + 120, b"kept");
    let inventory = machine.inventory();
    assert_eq!((one(&inventory, "sdc").role, one(&inventory, "sdb").role), (Role::Free, Role::Retention));
}

#[test]
fn when_fstab_cannot_be_read_every_disk_is_used() {
    let machine = two_disks();
    std::fs::create_dir_all(machine.path("etc/fstab")).unwrap();
    let inventory = machine.inventory();
    let [Use::Opened { by }] = &one(&inventory, "sdb").uses[..] else { panic!("{inventory:?}") };
    assert!(by.contains("/etc/fstab"), "{by}");
    assert_eq!((one(&inventory, "sda").role, one(&inventory, "sdb").role), (Role::System, Role::Used));
}

#[test]
fn targets_are_marked_by_any_name() {
    let machine = two_disks();
    machine.link("dev/disk/by-id/scsi-x", "../../sdb");
    for name in ["sdb", "/dev/sdb", &id(2), "/dev/disk/by-id/scsi-x"] {
        let mut inventory = machine.inventory();
        inventory.mark_targets(&machine.system(), &[name, "/mnt/retention/x.vmdk", "/dev/sda1", "sda"]);
        let roles = (one(&inventory, "sda").role, one(&inventory, "sdb").role);
        assert_eq!(roles, (Role::System, Role::Target), "{name}");
    }
}

#[test]
fn a_disk_is_found_by_all_its_names() {
    let machine = two_paths(3);
    machine.link("dev/disk/by-id/dm-name-x", "../../dm-0");
    let (inventory, system) = (machine.inventory(), machine.system());
    let mapper = format!("/dev/mapper/{}", id(3));
    let uuid = "60 00 c2 9a 01 23 45 67-89 ab cd ef 00 00 00 03";
    for name in ["sda", "sdb", "/dev/sdb", &id(3), uuid, "dm-0", &mapper, "/dev/disk/by-id/dm-name-x"] {
        assert_eq!(inventory.find(&system, name).unwrap_or_else(|error| panic!("{error}")).name, "sda");
    }
}

#[test]
fn the_name_of_a_map_stands_for_its_disk_without_a_map_too() {
    let machine = two_disks();
    let (mut inventory, system) = (machine.inventory(), machine.system());
    let name = format!("/dev/mapper/{}", id(2));
    assert_eq!(inventory.find(&system, &name).unwrap().name, "sdb");
    inventory.mark_targets(&system, &[name]);
    assert_eq!(one(&inventory, "sdb").role, Role::Target);
}

#[test]
fn what_is_no_disk_is_refused_and_named() {
    let machine = two_disks();
    machine.map(0, "vg-lv", "LVM-abc", &["sdb"], 4096);
    machine.map(1, "m-part1", "part1-x", &["sdb"], 4096);
    machine.write("tmp/image", "x");
    machine.link("dev/disk/by-id/part", "../../sda1");
    machine.link("dev/disk/by-id/gone", "../../sdz");
    let (inventory, system) = (machine.inventory(), machine.system());
    let refused = |name: &str| match inventory.find(&system, name) {
        Err(Error::NotADisk { what, .. }) => what,
        other => panic!("{name}: {other:?}"),
    };
    assert_eq!(refused("sda1"), "it is partition 1 of sda");
    assert_eq!(refused("/dev/sda1"), "it is partition 1 of sda");
    assert_eq!(refused("/dev/disk/by-id/part"), "it is partition 1 of sda");
    assert_eq!(refused("/dev/mapper/vg-lv"), "it is the logical volume vg-lv");
    assert_eq!(refused("m-part1"), "it is the map of partition 1 of sdb");
    assert_eq!(refused("/tmp/image"), "it is a regular file");
    assert_eq!(refused("/tmp"), "it is a folder");
    for name in ["sdz", "/dev/sdz", "/dev/disk/by-id/gone", "", "/", "../sda"] {
        assert!(inventory.find(&system, name).is_err(), "{name:?}");
    }
    assert!(matches!(inventory.find(&system, "/dev/sdz"), Err(Error::NoDisk { .. })));
}

#[test]
fn a_path_that_is_not_joined_is_used_like_its_disk() {
    let machine = Machine::new();
    machine.disk(&array("sda", 0, 0).vmdk(1));
    machine.disk(&array("sdb", 1, 0).vmdk(1));
    let roles = |inventory: &Inventory| (one(inventory, "sda").role, one(inventory, "sdb").role);
    let mut inventory = machine.inventory();
    assert_eq!(roles(&inventory), (Role::Free, Role::Free));
    inventory.mark_targets(&machine.system(), &["sda"]);
    assert_eq!(roles(&inventory), (Role::Target, Role::Target));
    machine.mount("8:0", "/data");
    let inventory = machine.inventory();
    assert_eq!(roles(&inventory), (Role::Used, Role::Used));
    assert_eq!(one(&inventory, "sdb").uses, one(&inventory, "sda").uses);
    // A copy is another disk.
    machine.write("sys/block/sdb/size", "77");
    assert_eq!(roles(&machine.inventory()), (Role::Used, Role::Free));

    let machine = two_paths(3);
    machine.disk(&array("sdc", 2, 0).vmdk(3));
    let inventory = machine.inventory();
    assert_eq!(one(&inventory, "sdc").uses, [Use::PathOf { map: id(3) }]);
    assert_eq!((one(&inventory, "sda").role, one(&inventory, "sdc").role), (Role::Free, Role::Used));
}

#[test]
fn an_id_of_several_disks_is_ambiguous() {
    let machine = two_paths(3);
    machine.disk(&vmware("sdc", 0, 5).vmdk(3));
    let (mut inventory, system) = (machine.inventory(), machine.system());
    let Err(Error::Ambiguous { duplicates }) = inventory.find(&system, &id(3)) else { panic!() };
    assert_eq!(duplicates.disks, ["sda", "sdb", "sdc"]);
    assert_eq!(inventory.find(&system, "sdc").unwrap().name, "sdc");
    inventory.mark_targets(&system, &[id(3)]);
    assert!(inventory.disks.iter().all(|disk| disk.role == Role::Target));
}

#[test]
fn disks_that_vanish_meanwhile_leave_gaps_not_errors() {
    let machine = two_disks();
    machine.link("sys/block/sdx", "../devices/gone");
    std::fs::create_dir_all(machine.path("sys/block/sdy")).unwrap();
    machine.write("sys/block/sdz/dev", "8:400\n");
    machine.map(4, "lost", "mpath-35000", &[], 0);
    let inventory = machine.inventory();
    let names: Vec<&str> = inventory.disks.iter().map(|disk| disk.name.as_str()).collect();
    assert_eq!(names, ["sda", "sdb", "sdz"]);
    let gap = one(&inventory, "sdz");
    assert_eq!((gap.size, gap.model.as_ref(), gap.paths[0].address), (Bytes::ZERO, None, None));
}

#[test]
fn sectors_of_4096_bytes_are_told_and_nonsense_is_not() {
    let machine = Machine::new();
    let mut disk = vmware("sda", 0, 0);
    disk.physical_sector = 4096;
    machine.disk(&disk);
    machine.write("sys/block/sda/queue/logical_block_size", "77\n");
    let inventory = machine.inventory();
    assert_eq!((inventory.disks[0].logical_sector, inventory.disks[0].physical_sector), (512, 4096));
    machine.write("sys/block/sda/queue/logical_block_size", "4096\n");
    assert_eq!(machine.inventory().disks[0].logical_sector, 4096);
}

#[test]
fn controllers_are_told_apart() {
    for (pci, expected) in [
        (("0x15ad", "0x07c0"), Controller::ParavirtualScsi),
        (("0x1000", "0x0030"), Controller::LsiParallel),
        (("0x1000", "0x0012"), Controller::LsiParallel),
        (("0x1000", "0x0054"), Controller::LsiSas),
        (("0x104b", "0x1040"), Controller::BusLogic),
        (("0x1af4", "0x1004"), Controller::Virtio),
        (("0x1234", "0x5678"), Controller::Other),
        (("rubbish", ""), Controller::Other),
    ] {
        let machine = Machine::new();
        let mut disk = vmware("sda", 0, 0);
        disk.controller = pci;
        machine.disk(&disk);
        assert_eq!(machine.inventory().disks[0].paths[0].controller, expected, "{pci:?}");
    }
}

#[test]
fn two_hundred_disks_are_in_the_order_of_the_kernel() {
    let machine = Machine::new();
    let names: Vec<&'static str> = (0..200u8)
        .map(|n| {
            let last = char::from(b'a' + n % 26);
            let name = if n < 26 {
                format!("sd{last}")
            } else {
                format!("sd{}{last}", char::from(b'a' + n / 26 - 1))
            };
            &*name.leak()
        })
        .collect();
    for (n, name) in names.iter().enumerate() {
        machine.disk(&vmware(name, n as u32 / 60, n as u32 % 60).vmdk(n as u8));
    }
    let begun = Instant::now();
    let inventory = machine.inventory();
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    assert_eq!(inventory.disks.iter().map(|disk| disk.name.as_str()).collect::<Vec<_>>(), names);
    assert!(inventory.duplicates().is_empty());
}
