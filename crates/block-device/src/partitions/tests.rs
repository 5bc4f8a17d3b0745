//! Maps on a machine that is a folder, which loses its power after any of their steps.

use super::*;
use crate::fake_machine::FakeMachine;
use crate::inventory::{Controller, DiskPath, MultipathMap, Role};

const ID: &str = "36000c29a0123456789abcdef01234567";
const SIZE: u64 = 8 << 20;

/// A disk `sdb` with three partitions, one of them logical.
fn machine() -> FakeMachine {
    let machine = FakeMachine::new();
    machine.disk("sdb", "8:16", SIZE);
    machine.write("dev/sdb", table_bytes());
    machine
}

fn table_bytes() -> Vec<u8> {
    let mut bytes = vec![0; SIZE as usize];
    let mut entry = |at: usize, slot: usize, code: u8, first: u32, sectors: u32| {
        let place = at * 512 + 446 + 16 * slot;
        bytes[place + 4] = code;
        bytes[place + 8..place + 12].copy_from_slice(&first.to_le_bytes());
        bytes[place + 12..place + 16].copy_from_slice(&sectors.to_le_bytes());
        bytes[at * 512 + 510..at * 512 + 512].copy_from_slice(&[0x55, 0xaa]);
    };
    entry(0, 0, 0x83, 2048, 1024);
    entry(0, 1, 0x05, 4096, 4096);
    entry(0, 2, 0x82, 3072, 512);
    entry(4096, 0, 0x83, 2048, 100);
    bytes
}

fn disk() -> AttachedDisk {
    AttachedDisk {
        name: "sdb".into(),
        map: None,
        scsi_id: ScsiId::parse(ID),
        no_scsi_id: None,
        other_scsi_id: None,
        serial: None,
        vendor: None,
        model: None,
        size: Bytes(SIZE),
        logical_sector: 512,
        physical_sector: 512,
        read_only: false,
        removable: false,
        paths: vec![DiskPath {
            name: "sdb".into(),
            number: DeviceNumber { major: 8, minor: 16 },
            size: Bytes(SIZE),
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

/// The same with a multipath map.
fn multipath(machine: &FakeMachine) -> AttachedDisk {
    machine.disk("dm-0", "253:0", SIZE);
    machine.write("sys/block/dm-0/dm/name", "target");
    machine.write("sys/block/dm-0/dm/uuid", format!("mpath-{ID}"));
    machine.write("sys/block/dm-0/dm/suspended", "0");
    machine.write("sys/block/dm-0/slaves/sdb", "");
    machine.write("sys/block/sdb/holders/dm-0", "");
    machine.write("dev/mapper/target", table_bytes());
    let map = MultipathMap {
        name: "target".into(),
        kernel_name: "dm-0".into(),
        number: DeviceNumber { major: 253, minor: 0 },
        wwid: ID.into(),
    };
    AttachedDisk { map: Some(map), ..disk() }
}

fn names(machine: &FakeMachine) -> Vec<String> {
    let mut names: Vec<String> =
        device_mapper::maps(&machine.system()).into_iter().map(|map| map.name).collect();
    names.retain(|name| name != "target");
    names.sort();
    names
}

fn parts(base: &str) -> Vec<String> {
    [1, 3, 5].map(|index| format!("{base}-part{index}")).to_vec()
}

#[test]
fn partitions_are_mapped_kept_and_unmapped() {
    let machine = machine();
    let system = machine.system();
    let maps = map(&system, &disk(), false).unwrap();
    assert_eq!(maps.iter().map(|map| map.index).collect::<Vec<_>>(), [1, 3, 5]);
    assert_eq!(names(&machine), parts(ID));
    let log = machine.log();
    assert_eq!(log[0], format!("create {ID}-part1 -u part1-mt-{ID} --table 0 1024 linear 8:16 2048"));
    assert_eq!(log[2], format!("create {ID}-part5 -u part5-mt-{ID} --table 0 100 linear 8:16 6144"));
    machine.forget_log();
    assert_eq!(map(&system, &disk(), false).unwrap(), maps);
    assert_eq!(mapped(&system, &disk()), maps);
    assert_eq!(machine.log(), Vec::<String>::new());
    // Others are wanted now: those that can only be read.
    assert!(map(&system, &disk(), true).unwrap().iter().all(|map| map.read_only));
    machine.write("dev/sdb", vec![0xff; SIZE as usize]);
    assert_eq!(unmap(&system, &disk()).unwrap(), parts(ID));
    assert_eq!(names(&machine), Vec::<String>::new());
    assert_eq!(unmap(&system, &disk()).unwrap(), Vec::<String>::new());
}

#[test]
fn on_a_multipath_map_they_are_named_as_kpartx_names_them() {
    let machine = machine();
    let disk = multipath(&machine);
    let system = machine.system();
    map(&system, &disk, false).unwrap();
    assert_eq!(names(&machine), parts("target"));
    assert_eq!(
        machine.log()[0],
        format!("create target-part1 -u part1-mpath-{ID} --table 0 1024 linear 253:0 2048")
    );
    // kpartx's map of the extended partition may stay, and goes with the others.
    let extended = Linear {
        name: "target-part2",
        uuid: &format!("part2-mpath-{ID}"),
        below: DeviceNumber { major: 253, minor: 0 },
        range: disk::ByteRange::between(Bytes(4096 * 512), Bytes(4098 * 512)),
        read_only: false,
    };
    device_mapper::create_linear(&system, &extended).unwrap();
    assert_eq!(map(&system, &disk, false).unwrap().len(), 3);
    assert_eq!(unmap(&system, &disk).unwrap().len(), 4);
}

#[test]
fn a_wrong_map_is_replaced_unless_it_is_open() {
    let machine = machine();
    let system = machine.system();
    let (name, uuid) = (format!("{ID}-part1"), format!("part1-mt-{ID}"));
    // Of the right size, but at another place.
    let wrong = Linear {
        name: &name,
        uuid: &uuid,
        below: DeviceNumber { major: 8, minor: 16 },
        range: disk::ByteRange::between(Bytes(512), Bytes(1025 * 512)),
        read_only: false,
    };
    device_mapper::create_linear(&system, &wrong).unwrap();
    machine.write("proc/self/mountinfo", "22 1 253:10 / /mnt/x rw - ext4 /dev/mapper/x rw\n");
    let error = map(&system, &disk(), false).unwrap_err();
    assert!(matches!(&error, Error::InUse { .. }) && error.to_string().contains("/mnt/x"), "{error}");
    assert_eq!(names(&machine), [name.as_str()]);
    machine.write("proc/self/mountinfo", "");
    assert_eq!(map(&system, &disk(), false).unwrap().len(), 3);
    let (_, start) = device_mapper::linear_below(&system, &name).unwrap().unwrap();
    assert_eq!(start, Bytes(2048 * 512));
}

#[test]
fn a_disk_in_use_is_refused() {
    let machine = machine();
    let system = machine.system();
    machine.write("sys/block/sdb/sdb1/partition", "1");
    machine.write("sys/block/sdb/sdb1/dev", "8:17");
    machine.write("proc/self/mountinfo", "22 1 8:17 / /srv rw - ext4 /dev/sdb1 rw\n");
    let error = map(&system, &disk(), false).unwrap_err().to_string();
    assert!(error.contains("sdb1 is mounted at /srv"), "{error}");
    machine.write("proc/self/mountinfo", "");
    let used = AttachedDisk { uses: vec![Use::Swap { device: "sdb".into() }], ..disk() };
    assert!(matches!(map(&system, &used, false), Err(Error::InUse { .. })));
    // As a path of a multipath map.
    multipath(&machine);
    assert!(map(&system, &disk(), false).unwrap_err().to_string().contains("/dev/mapper/target"));
    assert_eq!(machine.log(), Vec::<String>::new());
}

#[test]
fn another_device_under_the_same_name_is_refused() {
    let machine = machine();
    machine.write("sys/block/sdb/dev", "8:32");
    assert!(matches!(map(&machine.system(), &disk(), false), Err(Error::NoDisk { .. })));
    machine.write("sys/block/sdb/dev", "8:16");
    let doubtful = AttachedDisk { other_scsi_id: ScsiId::parse("36000c29b"), ..disk() };
    assert!(matches!(map(&machine.system(), &doubtful, false), Err(Error::OtherDisk { .. })));
    let disk = multipath(&machine);
    machine.write("sys/block/dm-0/dm/uuid", "mpath-3600");
    assert!(matches!(map(&machine.system(), &disk, false), Err(Error::OtherDisk { .. })));
    assert_eq!(machine.log(), Vec::<String>::new());
}

#[test]
fn a_map_that_is_open_is_named_and_the_others_are_removed() {
    let machine = machine();
    let system = machine.system();
    map(&system, &disk(), false).unwrap();
    machine.write(&format!("busy/{ID}-part3"), "");
    let error = unmap(&system, &disk()).unwrap_err();
    assert!(matches!(&error, Error::InUse { .. }) && error.to_string().contains("part3"), "{error}");
    assert_eq!(names(&machine), [format!("{ID}-part3")]);
    std::fs::remove_file(machine.path(&format!("busy/{ID}-part3"))).unwrap();
    assert_eq!(unmap(&system, &disk()).unwrap().len(), 1);
}

#[test]
fn a_failure_in_the_middle_removes_what_was_made() {
    let machine = machine();
    let system = machine.system();
    // The name of the third is taken by a map that is not this disk's.
    machine.disk("sdz", "65:0", SIZE);
    let name = format!("{ID}-part5");
    let foreign = Linear {
        name: &name,
        uuid: "LVM-x",
        below: DeviceNumber { major: 65, minor: 0 },
        range: disk::ByteRange::between(Bytes(0), Bytes(512)),
        read_only: false,
    };
    device_mapper::create_linear(&system, &foreign).unwrap();
    assert!(matches!(map(&system, &disk(), false), Err(Error::NameTaken { .. })));
    assert_eq!(names(&machine), [name.as_str()]);
    assert_eq!(unmap(&system, &disk()).unwrap(), Vec::<String>::new());
    assert_eq!(names(&machine), [name]);
}

#[test]
fn a_crash_after_any_step_leaves_only_what_unmap_finds() {
    for (with_map, half) in [(false, false), (true, false), (false, true)] {
        for steps in 0..9 {
            crash_and_unmap(with_map, half, steps);
        }
    }
}

/// The power goes after some runs of dmsetup, or in the middle of one that makes a map.
fn crash_and_unmap(with_map: bool, half: bool, steps: u32) {
    let machine = machine();
    let disk = if with_map { multipath(&machine) } else { disk() };
    let system = machine.system();
    // Something to replace, and something to keep.
    map(&system, &disk, true).unwrap();
    machine.fuel(steps);
    if half {
        machine.mode("half");
    }
    let crashed = map(&system, &disk, false).is_err();
    let before = names(&machine);
    machine.fuel(1000);
    machine.mode("");
    // The table is gone, and with it the way that kpartx would take.
    machine.write(if with_map { "dev/mapper/target" } else { "dev/sdb" }, vec![0; 512]);
    assert_eq!(unmap(&system, &disk).unwrap(), before, "after {steps} steps");
    assert_eq!(names(&machine), Vec::<String>::new());
    assert!(crashed || steps >= 6, "{steps}");
}

#[test]
fn maps_of_a_disk_that_has_gone_are_found_by_its_id() {
    let machine = machine();
    let system = machine.system();
    map(&system, &disk(), false).unwrap();
    std::fs::remove_dir_all(machine.path("sys/block/sdb")).unwrap();
    std::fs::remove_file(machine.path("dev/sdb")).unwrap();
    assert_eq!(unmap_vanished(&system, &ScsiId::parse(ID).unwrap()).unwrap(), parts(ID));
    // A disk without an id is known by where its maps lie; another disk of the same name is not it.
    let base = Base::of(&AttachedDisk { scsi_id: None, ..disk() });
    let of = |uuid: Option<&str>, name: &str, slaves: &[&str]| {
        base.index_of(&Map {
            name: name.into(),
            kernel_name: "dm-9".into(),
            number: DeviceNumber { major: 253, minor: 9 },
            uuid: uuid.map(str::to_owned),
            suspended: false,
            read_only: false,
            size: Bytes(512),
            slaves: slaves.iter().map(|&slave| slave.into()).collect(),
            holders: Vec::new(),
        })
    };
    assert_eq!(of(Some("part2-mt-sdb"), "x", &["sdb"]), Some(2));
    assert_eq!(of(Some("part2-mt-sdb"), "x", &[]), Some(2));
    assert_eq!(of(Some("part2-mt-sdb"), "x", &["sdc"]), None);
    assert_eq!(of(Some("LVM-part2"), "sdb2", &["sdb"]), None);
    assert_eq!(of(Some("part4-devnode_8:16_Linux"), "sdb4", &["sdb"]), Some(4));
    for (name, index) in [("sdb2", 2), ("sdbp3", 3), ("sdb-part4", 4), ("sdb_part5", 5)] {
        assert_eq!(of(None, name, &["sdb"]), Some(index), "{name}");
        assert_eq!(of(None, name, &["sdb", "sdc"]), None, "{name}");
    }
    for name in ["sdb", "vg-sdb1", "sdb-home1", "sdb1x"] {
        assert_eq!(of(None, name, &["sdb"]), None, "{name}");
    }
}

#[test]
fn a_disk_without_a_table_is_not_mapped() {
    let machine = machine();
    machine.write("dev/sdb", vec![0; SIZE as usize]);
    let error = map(&machine.system(), &disk(), false).unwrap_err();
    assert!(
        matches!(&error, Error::Damaged { .. }) && error.to_string().contains("there is none"),
        "{error}"
    );
}

#[test]
fn a_disk_without_a_path_that_works_is_not_read() {
    let machine = machine();
    // A read would wait for ever, as this pipe does.
    std::fs::remove_file(machine.path("dev/sdb")).unwrap();
    nix::unistd::mkfifo(&machine.path("dev/sdb"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut dead = disk();
    dead.paths[0].device_state = Some("offline".into());
    for error in [table(&machine.system(), &dead).err(), map(&machine.system(), &dead, false).err()] {
        let error = error.unwrap().to_string();
        assert!(error.contains("no path to the disk works; see mtctl disks sdb"), "{error}");
    }
    assert_eq!(machine.log(), Vec::<String>::new());
}
