//! Whether a device can be reached, as sysfs tells.
//!
//! A file system or a program that has a disk open keeps its name in the kernel alive after the disk was pulled, and a
//! multipath map outlives all of its paths. What goes away is the disk's folder in sysfs, or it is said to run no more.

use crate::inventory::DeviceNumber;
use crate::system::System;

/// Whether the device is there and runs; of a multipath map one path has to, of any other map all that it lies on.
pub fn has_path(system: &System, number: DeviceNumber) -> bool {
    reaches(system, &format!("/sys/dev/block/{number}"))
}

/// Whether the kernel calls a device that is in this state one that answers.
pub(crate) fn runs(state: &str) -> bool {
    matches!(state, "running" | "live")
}

fn reaches(system: &System, folder: &str) -> bool {
    let exists = |name: &str| system.path(format!("{folder}{name}")).exists();
    if exists("/dm") {
        return map_reaches(system, folder);
    }
    if exists("/partition") {
        return reaches(system, &format!("{folder}/.."));
    }
    // The link to a disk that was pulled leads nowhere. A device without a state is no SCSI disk.
    exists("") && system.attribute(format!("{folder}/device/state")).is_none_or(|state| runs(&state))
}

fn map_reaches(system: &System, folder: &str) -> bool {
    let below = system.names(format!("{folder}/slaves"));
    let mut reached = below.iter().map(|name| reaches(system, &format!("{folder}/slaves/{name}")));
    match system.attribute(format!("{folder}/dm/uuid")).is_some_and(|uuid| uuid.starts_with("mpath-")) {
        true => reached.any(|reached| reached),
        false => !below.is_empty() && reached.all(|reached| reached),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_machine::FakeMachine;
    use std::fs;
    use std::os::unix::fs::symlink;

    const MAP: DeviceNumber = DeviceNumber { major: 253, minor: 0 };
    const PARTITION_MAP: DeviceNumber = DeviceNumber { major: 253, minor: 1 };
    const DISK: DeviceNumber = DeviceNumber { major: 8, minor: 16 };
    const PARTITION: DeviceNumber = DeviceNumber { major: 8, minor: 17 };

    /// Two paths, a map of them, a map of a partition of it, and a partition of the first path.
    fn machine() -> FakeMachine {
        let machine = FakeMachine::new();
        for (name, number) in [("sdb", "8:16"), ("sdc", "8:32"), ("dm-0", "253:0"), ("dm-1", "253:1")] {
            machine.disk(name, number, 4096);
            link(&machine, number, name);
        }
        machine.write("sys/block/sdb/device/state", "running");
        machine.write("sys/block/sdc/device/state", "running");
        machine.write("sys/block/sdb/sdb1/partition", "1");
        link(&machine, "8:17", "sdb/sdb1");
        for (map, uuid, below) in
            [("dm-0", "mpath-36000c29a", &["sdb", "sdc"][..]), ("dm-1", "part1-mpath-36000c29a", &["dm-0"])]
        {
            machine.write(&format!("sys/block/{map}/dm/uuid"), uuid);
            fs::create_dir_all(machine.path(&format!("sys/block/{map}/slaves"))).unwrap();
            for name in below {
                let link = machine.path(&format!("sys/block/{map}/slaves/{name}"));
                symlink(format!("../../{name}"), link).unwrap();
            }
        }
        machine
    }

    fn link(machine: &FakeMachine, number: &str, name: &str) {
        fs::create_dir_all(machine.path("sys/dev/block")).unwrap();
        symlink(format!("../../block/{name}"), machine.path(&format!("sys/dev/block/{number}"))).unwrap();
    }

    fn reached(machine: &FakeMachine) -> [bool; 4] {
        [MAP, PARTITION_MAP, DISK, PARTITION].map(|number| has_path(&machine.system(), number))
    }

    #[test]
    fn a_map_is_reached_over_one_path_and_a_part_over_its_whole() {
        let machine = machine();
        assert_eq!(reached(&machine), [true; 4]);
        machine.write("sys/block/sdb/device/state", "offline");
        assert_eq!(reached(&machine), [true, true, false, false]);
        fs::remove_dir_all(machine.path("sys/block/sdc")).unwrap();
        assert_eq!(reached(&machine), [false; 4], "the link to a pulled disk is no path");
        machine.write("sys/block/sdb/device/state", "running");
        assert_eq!(reached(&machine), [true; 4]);
        fs::remove_dir_all(machine.path("sys/block/dm-0/slaves")).unwrap();
        assert_eq!(reached(&machine), [false, false, true, true]);
    }
}
