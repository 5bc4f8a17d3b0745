//! What uses one block device at this moment: mounts, swap space, and devices that lie on it.

use crate::inventory::{DeviceNumber, Use, text};
use crate::system::System;

/// What uses the device whose sysfs folder is `folder` (`/sys/block/dm-3`, `/sys/block/sdb/sdb1`). `name` is what to
/// call it, its name under /dev/mapper for a map.
pub(crate) fn of(system: &System, folder: &str, name: &str) -> Vec<Use> {
    let kernel_name = folder.rsplit('/').next().unwrap_or(folder);
    let nodes = [format!("/dev/{kernel_name}"), format!("/dev/mapper/{name}")];
    let number = system.attribute(format!("{folder}/dev"));
    let mut uses = mounts(system, number.as_deref(), &nodes, name);
    uses.extend(swaps(system, &nodes, name));
    let holders = system.names(format!("{folder}/holders"));
    uses.extend(holders.iter().map(|holder| holder_use(system, holder)));
    uses
}

/// Mounts of the device: by its number, and by its node for file systems that have numbers of their own (btrfs). When
/// it cannot be told what is mounted, the device counts as used.
fn mounts(system: &System, number: Option<&str>, nodes: &[String], name: &str) -> Vec<Use> {
    let table = match system.bytes("/proc/self/mountinfo") {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(cause) => {
            let by = format!("something unknown (it cannot be told what is mounted: {cause})");
            return vec![Use::Opened { by }];
        }
    };
    let number = number.and_then(DeviceNumber::parse);
    let mounts = text::mounts(&table).into_iter();
    mounts
        .filter(|mount| number == Some(mount.number) || nodes.contains(&mount.source))
        .map(|mount| Use::Mounted { device: name.to_owned(), place: mount.place })
        .collect()
}

fn swaps(system: &System, nodes: &[String], name: &str) -> Vec<Use> {
    let table = system.attribute("/proc/swaps").unwrap_or_default();
    let swaps = text::swaps(&table).into_iter().filter(|node| nodes.contains(node));
    swaps.map(|_| Use::Swap { device: name.to_owned() }).collect()
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
}
