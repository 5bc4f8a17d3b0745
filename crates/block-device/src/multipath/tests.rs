//! Multipath on a machine that is a folder, whose daemon follows our file as the real ones do.

use super::*;
use crate::fake_machine::FakeMachine;
use crate::inventory::{Controller, DeviceNumber, DiskPath};
use disk::Bytes;
use std::fs;
use std::os::unix::fs::PermissionsExt;

const ID: &str = "36000c29a0123456789abcdef01234567";
const OTHER: &str = "36000c29b0123456789abcdef01234567";

fn id(text: &str) -> ScsiId {
    ScsiId::parse(text).unwrap()
}

/// Two paths to one disk, and another disk.
fn machine() -> (FakeMachine, Inventory) {
    let machine = FakeMachine::new();
    let mut disks = Vec::new();
    for (name, number, wwid) in [("sdb", "8:16", ID), ("sdc", "8:32", ID), ("sdd", "8:48", OTHER)] {
        machine.disk(name, number, 4 << 20);
        machine.write(&format!("wwid/{name}"), wwid);
        disks.push(disk(name, number, wwid));
    }
    (machine, Inventory { disks })
}

fn disk(name: &str, number: &str, wwid: &str) -> AttachedDisk {
    AttachedDisk {
        name: name.into(),
        map: None,
        scsi_id: ScsiId::parse(wwid),
        other_scsi_id: None,
        serial: None,
        no_scsi_id: None,
        vendor: None,
        model: None,
        size: Bytes(4 << 20),
        logical_sector: 512,
        physical_sector: 512,
        read_only: false,
        removable: false,
        paths: vec![DiskPath {
            size: Bytes(4 << 20),
            name: name.into(),
            number: DeviceNumber::parse(number).unwrap(),
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

fn file(machine: &FakeMachine) -> Option<String> {
    fs::read_to_string(machine.path("etc/multipath/conf.d/master-target.conf")).ok()
}

fn folder(machine: &FakeMachine) -> Vec<String> {
    machine.system().names("/etc/multipath/conf.d")
}

#[test]
fn a_disk_is_mapped_with_all_its_paths_and_flushed() {
    let (machine, inventory) = machine();
    let system = machine.system();
    let map = map_in(&system, &id(ID), &inventory).unwrap();
    assert_eq!((map.name.as_str(), map.wwid.as_str()), (ID, ID));
    assert_eq!(find(&system, &id(ID)), Some(map.clone()));
    assert_eq!(find_map(&system, &id(ID)).unwrap().slaves, ["sdb", "sdc"]);
    assert_eq!(find(&system, &id(OTHER)), None);
    assert_eq!(wanted(&system).unwrap(), [id(ID)]);
    let mode = fs::metadata(machine.path("etc/multipath/conf.d/master-target.conf")).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o644);
    assert_eq!(map_in(&system, &id(ID), &inventory).unwrap(), map);
    map_in(&system, &id(OTHER), &inventory).unwrap();
    assert_eq!(wanted(&system).unwrap(), [id(ID), id(OTHER)]);
    flush(&system, &id(ID)).unwrap();
    assert_eq!((find(&system, &id(ID)), wanted(&system).unwrap()), (None, vec![id(OTHER)]));
    assert!(find(&system, &id(OTHER)).is_some());
    flush(&system, &id(OTHER)).unwrap();
    assert_eq!(folder(&machine), Vec::<String>::new());
    assert_eq!(fs::read_to_string(machine.path("etc/multipath/wwids")).unwrap(), "");
    flush(&system, &id(OTHER)).unwrap();
}

#[test]
fn a_daemon_that_makes_no_map_is_helped_and_one_that_is_away_is_named() {
    let (machine, inventory) = machine();
    let system = machine.system();
    machine.mode("deaf");
    map_in(&system, &id(ID), &inventory).unwrap();
    flush(&system, &id(ID)).unwrap();
    machine.mode("down");
    let error = map_in(&system, &id(ID), &inventory).unwrap_err();
    assert!(error.to_string().contains("systemctl start"), "{error}");
    machine.mode("fail");
    assert!(matches!(map_in(&system, &id(ID), &inventory), Err(Error::NoMultipathd { .. })));
    // Nothing is wanted that was not wanted before.
    assert_eq!(file(&machine), None);
    machine.mode("never");
    let error = map_in(&system, &id(ID), &inventory).unwrap_err();
    assert!(matches!(error, Error::Waited { .. }) && error.to_string().contains(ID), "{error}");
    assert_eq!(file(&machine), None);
}

#[test]
fn a_map_in_use_stays_and_stays_wanted() {
    let (machine, inventory) = machine();
    let system = machine.system();
    let map = map_in(&system, &id(ID), &inventory).unwrap();
    let before = file(&machine);
    machine.write("proc/self/mountinfo", format!("9 1 {} / /mnt/x rw - ext4 x rw\n", map.number));
    let error = flush(&system, &id(ID)).unwrap_err();
    assert!(matches!(error, Error::InUse { .. }) && error.to_string().contains("/mnt/x"), "{error}");
    machine.write("proc/self/mountinfo", "");
    machine.write(&format!("busy/{ID}"), "");
    let error = flush(&system, &id(ID)).unwrap_err();
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    assert_eq!((find(&system, &id(ID)), file(&machine)), (Some(map), before));
}

#[test]
fn partition_maps_go_with_the_map() {
    let (machine, inventory) = machine();
    let system = machine.system();
    let map = map_in(&system, &id(ID), &inventory).unwrap();
    let (name, uuid) = (format!("{ID}-part1"), format!("part1-mpath-{ID}"));
    let range = disk::ByteRange::between(Bytes(0), Bytes(512));
    let linear =
        device_mapper::Linear { name: &name, uuid: &uuid, below: map.number, range, read_only: false };
    device_mapper::create_linear(&system, &linear).unwrap();
    machine.write(&format!("busy/{name}"), "");
    assert!(flush(&system, &id(ID)).unwrap_err().to_string().contains(&name));
    fs::remove_file(machine.path(&format!("busy/{name}"))).unwrap();
    flush(&system, &id(ID)).unwrap();
    assert_eq!(device_mapper::maps(&system), []);
}

#[test]
fn disks_that_must_not_be_claimed_are_refused() {
    let (machine, mut inventory) = machine();
    let system = machine.system();
    let missing = map_in(&system, &id("36000c29f"), &inventory).unwrap_err();
    assert!(matches!(missing, Error::NoDisk { .. }), "{missing}");
    inventory.disks[2].other_scsi_id = ScsiId::parse("36000c29f");
    assert!(matches!(map_in(&system, &id(OTHER), &inventory), Err(Error::OtherDisk { .. })));
    inventory.disks[2].role = Role::System;
    let error = map_in(&system, &id(OTHER), &inventory).unwrap_err();
    assert!(matches!(error, Error::SystemDisk { .. }) && error.to_string().contains(OTHER), "{error}");
    inventory.disks[1].uses = vec![Use::Swap { device: "sdc".into() }];
    assert!(matches!(map_in(&system, &id(ID), &inventory), Err(Error::InUse { .. })));
    inventory.disks[1].paths[0].size = Bytes(1);
    assert!(matches!(map_in(&system, &id(ID), &inventory), Err(Error::Ambiguous { .. })));
    assert_eq!(folder(&machine), Vec::<String>::new());
}

#[test]
fn a_file_changed_by_hand_is_neither_believed_nor_overwritten() {
    let (machine, inventory) = machine();
    let system = machine.system();
    set_wanted(&system, &[id(ID)]).unwrap();
    let changed = file(&machine).unwrap() + "# mine\n";
    machine.write("etc/multipath/conf.d/master-target.conf", &changed);
    let errors = [
        wanted(&system).unwrap_err(),
        set_wanted(&system, &[]).unwrap_err(),
        set_wanted(&system, &[id(OTHER)]).unwrap_err(),
        map_in(&system, &id(OTHER), &inventory).unwrap_err(),
        flush(&system, &id(ID)).unwrap_err(),
    ];
    assert!(errors.iter().all(|error| matches!(error, Error::ChangedByHand { .. })), "{errors:?}");
    assert_eq!(file(&machine).unwrap(), changed);
}

#[test]
fn a_crash_at_any_step_is_mended_by_doing_it_again() {
    for steps in 0..8 {
        let (machine, inventory) = machine();
        let system = machine.system();
        machine.fuel(steps);
        let _ = map_in(&system, &id(ID), &inventory);
        machine.fuel(1000);
        map_in(&system, &id(ID), &inventory).unwrap();
        machine.fuel(steps);
        let _ = flush(&system, &id(ID));
        machine.fuel(1000);
        flush(&system, &id(ID)).unwrap();
        assert_eq!((find(&system, &id(ID)), file(&machine)), (None, None), "after {steps} steps");
    }
}

#[test]
fn paths_are_asked_of_the_daemon_and_else_of_multipath() {
    let (machine, _) = machine();
    let system = machine.system();
    machine.write("answer/paths", format!("dev|uuid|dm_st|dev_st|chk_st\nsdb|{ID}|active|running|ready\n"));
    machine
        .write("answer/ll", format!("{ID} dm-0 A,B\nsize=1G\n`- 1:0:0:0 sdc 8:32 failed faulty offline\n"));
    assert_eq!(path_states(&system).unwrap()[0].device, "sdb");
    machine.write("answer/paths", "timeout receiving packet\n");
    assert_eq!(path_states(&system).unwrap()[0].device, "sdc");
    machine.mode("down");
    assert_eq!(path_states(&system).unwrap()[0].checker_state, "faulty");
    machine.fuel(0);
    assert!(path_states(&system).is_err());
    let bare = tempfile::tempdir().unwrap();
    assert_eq!(path_states(&System::at(bare.path())).unwrap(), []);
}
