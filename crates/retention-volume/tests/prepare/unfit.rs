//! Disks and mount points that are refused, each in one way: no program is run, and nothing is written.

use crate::OTHER_UUID;
use crate::fake::{ID, Machine};
use block_device::{Caching, FileDisk};
use retention_volume::Error;
use retention_volume::prepare::{Progress, Refusal, Request, Step};
use std::fs;

/// A sector with the boot code of FAT: 512 bytes a sector, 1 sector a cluster, 1 reserved, 2 tables.
fn fat() -> Vec<u8> {
    let mut sector = vec![0; 512];
    sector[..3].copy_from_slice(&[0xeb, 0x58, 0x90]);
    sector[11..17].copy_from_slice(&[0, 2, 1, 1, 0, 2]);
    sector[21] = 0xf8;
    sector[82..90].copy_from_slice(b"FAT32   ");
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

/// A table with one Linux partition.
fn mbr() -> Vec<u8> {
    let mut sector = vec![0; 512];
    sector[446..462].copy_from_slice(&[0, 0, 0, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 16, 0, 0]);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

type SetUp = fn(&Machine, &mut Request);

/// Each makes the disk, or the mount point, unfit in one way; and a word of the message.
const UNFIT: [(&str, SetUp); 34] = [
    ("this machine runs from it", |_, request| request.disk = "sda".into()),
    ("is not a disk", |_, request| request.disk = "sda1".into()),
    ("there is no disk", |_, request| request.disk = "sdz".into()),
    ("target disk of a replicated item", |_, request| request.targets = vec![format!("/dev/mapper/{ID}")]),
    ("swapoff", |machine, _| machine.append("proc/swaps", "/dev/sdb partition 1 0 -2")),
    ("swap space", |machine, _| machine.put("sdb", 4086, b"SWAPSPACE2")),
    ("LVM uses it", |machine, _| {
        machine.put("sdb", 512, &[b"LABELONE".as_slice(), &[0; 16], b"LVM2 001"].concat())
    }),
    ("software RAID", |machine, _| {
        let mut superblock = vec![0; 256];
        superblock[..8].copy_from_slice(&[0xfc, 0x4e, 0x2b, 0xa9, 1, 0, 0, 0]);
        superblock[144] = 8;
        machine.put("sdb", 4096, &superblock);
    }),
    ("encrypted", |machine, _| machine.put("sdb", 0, b"LUKS\xba\xbe")),
    ("mounted at /data", |machine, _| {
        machine.append("proc/self/mountinfo", "41 22 8:16 / /data rw - ext4 /dev/sdb rw");
    }),
    ("installed on it", |machine, _| {
        machine.append("proc/self/mountinfo", "41 22 8:16 / /var/lib/master-target rw - ext4 /dev/sdb rw");
    }),
    ("is no outsiders' business", |machine, _| {
        // A volume of device-mapper that nobody knows lies on it.
        machine.write("sys/block/sdb/holders/dm-7", "");
        machine.write("sys/block/dm-7/dev", "253:7");
        machine.write("sys/block/dm-7/dm/name", "is no outsiders' business");
    }),
    ("FAT file system", |machine, _| machine.put("sdb", 0, &fat())),
    ("(xfs)", |machine, _| machine.put("sdb", 0, b"XFSB")),
    ("ext4 \"data\"", |machine, _| machine.make_ext4("sdb", OTHER_UUID, "data")),
    // What the machine's own blkid knows, and this program does not.
    ("VMFS_volume_member", |machine, _| machine.put("sdb", 1 << 20, b"\x0d\xd0\x01\xc0")),
    ("ceph_bluestore", |machine, _| machine.put("sdb", 0, b"bluestore block device\n")),
    ("file system (strange)", |machine, _| {
        machine.append("proc/self/mountinfo", "41 22 8:16 / /mnt/retention rw - strange /dev/sdb rw");
    }),
    ("remove the alias", |machine, _| {
        let alias = format!("multipaths {{\n multipath {{\n  wwid {ID}\n  alias data\n }}\n}}\n");
        machine.write("etc/multipath.conf", alias);
    }),
    ("no marker", |machine, _| machine.make_ext4("sdb", OTHER_UUID, "mt-retention")),
    ("partition table", |machine, _| machine.put("sdb", 0, &mbr())),
    ("cannot be read", |machine, _| fs::remove_file(machine.path("dev/sdb")).unwrap()),
    ("can only be read", |machine, _| machine.write("sys/block/sdb/ro", "1")),
    ("taken out", |machine, _| machine.write("sys/block/sdb/removable", "1")),
    ("capacity is zero", |machine, _| machine.write("sys/block/sdb/size", "0")),
    ("SCSI id", |machine, _| fs::remove_file(machine.path("run/udev/data/b8:16")).unwrap()),
    ("different disks with one SCSI id", |machine, _| {
        machine.disk("sdc", 32, ID);
        machine.write("sys/block/sdc/size", "4096");
    }),
    ("which is not this disk", |machine, _| {
        machine.append("proc/self/mountinfo", "41 22 8:48 / /mnt/retention rw - ext4 /dev/sdd rw");
    }),
    ("line 3 of /etc/fstab", |machine, _| machine.append("etc/fstab", "/dev/sdd /mnt/retention ext4 rw 0 0")),
    ("plain path", |_, request| request.mount_point = "mnt/retention".into()),
    ("the system needs", |_, request| request.mount_point = "/usr/retention".into()),
    ("no folder", |machine, _| machine.write("mnt/retention", "")),
    ("files in it (a)", |machine, _| machine.write("mnt/retention/a", "")),
    ("symbolic link to /srv", |machine, _| {
        std::os::unix::fs::symlink("/srv", machine.path("mnt/retention")).unwrap();
    }),
];

#[test]
fn nothing_is_done_to_a_disk_that_is_unfit() {
    for (word, set_up) in UNFIT {
        let Some(machine) = Machine::new() else { return };
        let mut request = machine.request();
        set_up(&machine, &mut request);
        let fstab = machine.read("etc/fstab");
        let error = machine.refusal(&request).to_string();
        assert!(error.contains(word), "{word}: {error}");
        assert!(machine.prepare(&request).is_err());
        assert_eq!((machine.log(), machine.read("etc/fstab")), (Vec::new(), fstab), "{word}");
        assert!(!machine.path("var/lib/master-target").exists(), "{word}");
    }
}

#[test]
fn a_disk_that_a_program_has_locked_is_refused() {
    let Some(machine) = Machine::new() else { return };
    let held = FileDisk::open(machine.path("dev/sdb"), disk::Access::Write, Caching::PageCache).unwrap();
    assert!(machine.refusal(&machine.request()).to_string().contains("it is locked"));
    drop(held);
    assert!(machine.plan(&machine.request()).is_ok());
}

/// The rules are looked at again when everything else is ready.
#[test]
fn a_disk_that_becomes_unfit_while_it_is_prepared_is_not_erased() {
    let Some(machine) = Machine::new() else { return };
    let request = machine.request();
    let mut held = None;
    for locks in [false, true] {
        let mut spoil = |progress: Progress<'_>| {
            if !matches!(progress, Progress::Begun(_, Step::MakeFileSystem { .. })) {
            } else if locks {
                let path = machine.path("dev/sdb");
                held = Some(FileDisk::open(path, disk::Access::Write, Caching::PageCache).unwrap());
            } else {
                machine.put("sdb", 0, b"XFSB");
            }
        };
        let error = machine.prepare_and(&request, &mut spoil).unwrap_err();
        assert!(matches!(error, Error::Refused(Refusal::Ineligible { .. })), "{error}");
        machine.put("sdb", 0, &[0; 4]);
    }
    assert_eq!(machine.made_file_systems(), 0);
    drop(held);
    machine.prepare(&request).unwrap();
    machine.assert_prepared(&request);
}
