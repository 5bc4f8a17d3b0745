//! What uses one block device at this moment: mounts, swap space, and devices that lie on it.

use crate::inventory::{self, Use};
use crate::system::System;

/// What uses the device whose sysfs folder is `folder` (`/sys/block/dm-3`, `/sys/block/sdb/sdb1`). `name` is what to
/// call it, its name under /dev/mapper for a map.
pub(crate) fn of(system: &System, folder: &str, name: &str) -> Vec<Use> {
    let kernel_name = folder.rsplit('/').next().unwrap_or(folder);
    let mut uses = inventory::of_device(system, kernel_name, name);
    let holders = system.names(format!("{folder}/holders"));
    uses.extend(holders.iter().map(|holder| holder_use(system, holder)));
    uses
}

fn holder_use(system: &System, holder: &str) -> Use {
    let dm = |attribute: &str| system.attribute(format!("/sys/block/{holder}/dm/{attribute}"));
    let name = dm("name").unwrap_or_else(|| holder.to_owned());
    let uuid = dm("uuid").unwrap_or_default();
    match holder {
        _ if uuid.starts_with("LVM-") => Use::LogicalVolume { name },
        _ if uuid.starts_with("mpath-") => Use::PathOf { map: name },
        _ if uuid.starts_with("part") => Use::PartitionMap { name },
        _ if holder.starts_with("md") => Use::Raid { name },
        _ => Use::Holder { name },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_machine::FakeMachine;

    #[test]
    fn mounts_swap_and_holders_are_found() {
        let machine = FakeMachine::new();
        machine.disk("sdb", "8:16", 4 << 20);
        machine.write("sys/block/sdb/holders/dm-7/x", "");
        machine.write("sys/block/dm-7/dm/name", "vg-root");
        machine.write("sys/block/dm-7/dm/uuid", "LVM-abc");
        machine.write("sys/block/sdb/holders/md0/x", "");
        machine.write(
            "proc/self/mountinfo",
            "22 1 8:16 / /my\\040disk rw - ext4 /dev/sdb rw\n23 1 0:44 / /b rw shared:1 - btrfs /dev/sdb rw\n\
             24 1 8:17 / /c rw - ext4 /dev/sdb1 rw\nrubbish\n - \n",
        );
        machine.write("proc/swaps", "Filename Type\n/dev/sdb partition 1 0 -2\n/dev/sdc partition\n");
        let shown: Vec<String> =
            of(&machine.system(), "/sys/block/sdb", "sdb").iter().map(ToString::to_string).collect();
        assert_eq!(shown.len(), 5, "{shown:?}");
        assert!(shown[0].contains("mounted at /my disk") && shown[1].contains("/b"), "{shown:?}");
        assert!(
            shown[2].contains("swap") && shown[3].contains("vg-root") && shown[4].contains("md0"),
            "{shown:?}"
        );
    }

    #[test]
    fn what_another_namespace_mounts_and_swap_by_any_name_are_found() {
        let machine = FakeMachine::new();
        machine.disk("sdb", "8:16", 4 << 20);
        machine.write("proc/1/mountinfo", "22 1 8:16 / /elsewhere rw - ext4 /dev/sdb rw\n");
        std::fs::create_dir_all(machine.path("dev/disk/by-id")).unwrap();
        std::os::unix::fs::symlink("../../sdb", machine.path("dev/disk/by-id/x")).unwrap();
        machine.write("proc/swaps", "/dev/disk/by-id/x partition 1 0 -2\n");
        let uses = of(&machine.system(), "/sys/block/sdb", "b");
        let place = Use::Mounted { device: "b".into(), place: "/elsewhere".into() };
        assert_eq!(uses, [place, Use::Swap { device: "b".into() }]);
    }

    #[test]
    fn what_cannot_be_told_is_a_use() {
        let machine = FakeMachine::new();
        machine.disk("sdb", "8:16", 4 << 20);
        assert_eq!(of(&machine.system(), "/sys/block/sdb", "b"), [], "a kernel without swap");
        for (missing, folder) in [("proc/swaps", true), ("proc/self/mountinfo", false)] {
            let _ = std::fs::remove_file(machine.path(missing));
            if folder {
                std::fs::create_dir_all(machine.path(missing)).unwrap();
            }
            let uses = of(&machine.system(), "/sys/block/sdb", "b");
            assert!(matches!(&uses[..], [Use::Opened { by }] if by.contains(missing)), "{uses:?}");
        }
    }
}
