//! A machine in a temporary folder: a good master target, of which a test breaks one thing.

use super::facts::packages;
use super::machine::{Machine, MachineOptions};
use super::server::certificate::Validity;
use super::server::{Answer, Failure};
use super::{Report, Unknown};
use block_device::inventory::{
    AttachedDisk, Controller, DeviceNumber, DiskPath, MultipathMap, Partition, Role, Signature, Use,
};
use block_device::{Inventory, ScsiId, System};
use control_api::{PRODUCT, ServerVersion};
use disk::Bytes;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What a test has in its hands.
pub(super) struct TestMachine {
    root: tempfile::TempDir,
    pub(super) inventory: Result<Inventory, Unknown>,
    pub(super) configuration_server: Answer,
    pub(super) process_server: Result<(), Failure>,
    pub(super) environment: Vec<(String, String)>,
    pub(super) program: PathBuf,
    pub(super) version: String,
}

/// When the tests take place.
pub(super) const NOW: u64 = 1_700_000_000;

pub(super) const SYSTEM_ID: &str = "36000c29aaaaaaaaaaaaaaaaaaaaaaaa1";
pub(super) const RETENTION_ID: &str = "36000c29bbbbbbbbbbbbbbbbbbbbbbbb2";
pub(super) const TARGET_ID: &str = "36000c29ccccccccccccccccccccccccc";

const CONFIG: &str = r#"
[configuration_server]
address = "cs.example"
[process_server]
address = "ps.example"
[[item]]
name = "web01"
source = "web01.example"
disks = [{ id = "disk0", target = "/dev/mapper/36000c29ccccccccccccccccccccccccc" }]
"#;

const INSTALLED: [(&str, &str); 10] = [
    ("hold", "linux-generic"),
    ("hold", "linux-image-generic"),
    ("hold", "linux-headers-generic"),
    ("hold", "linux-image-4.4.0-81-generic"),
    ("install", "multipath-tools"),
    ("install", "kpartx"),
    ("install", "lvm2"),
    ("install", "lsscsi"),
    ("install", "e2fsprogs"),
    ("install", "open-vm-tools"),
];

const FILES: [(&str, &str); 17] = [
    ("/etc/os-release", "PRETTY_NAME=\"Ubuntu 16.04.2 LTS\"\nID=ubuntu\nVERSION_ID=\"16.04\"\n"),
    ("/proc/sys/kernel/osrelease", "4.4.0-81-generic\n"),
    ("/proc/sys/kernel/hostname", "mt\n"),
    ("/proc/meminfo", "MemTotal:        6110284 kB\n"),
    ("/proc/501/comm", "vmtoolsd\n"),
    ("/proc/502/comm", "multipathd\n"),
    (
        "/proc/self/mountinfo",
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 22 252:0 / /mnt/retention rw - ext4 /dev/mapper/36000c29bbbbbbbbbbbbbbbbbbbbbbbb2 rw\n",
    ),
    ("/sys/devices/system/cpu/online", "0-3\n"),
    ("/sys/class/dmi/id/sys_vendor", "VMware, Inc.\n"),
    ("/sys/class/dmi/id/product_name", "VMware Virtual Platform\n"),
    ("/sys/class/net/ens160/address", "00:50:56:aa:00:01\n"),
    ("/sys/class/net/ens160/device/vendor", "0x15ad\n"),
    ("/sys/class/net/lo/address", "00:00:00:00:00:00\n"),
    ("/etc/hosts", "127.0.0.1 localhost\n10.0.0.5 mt.example mt\n"),
    (
        "/etc/network/interfaces",
        "source /etc/network/interfaces.d/*\nauto lo ens160\niface ens160 inet dhcp\n",
    ),
    (
        "/etc/fstab",
        "/dev/sda1 / ext4 defaults 0 1\n/dev/mapper/36000c29bbbbbbbbbbbbbbbbbbbbbbbb2 /mnt/retention ext4 rw,nofail 0 2\n",
    ),
    ("/etc/lvm/lvm.conf", "devices {\n\t# global_filter = []\n}\n"),
];

const PROGRAMS: [(&str, &str); 7] = [
    ("ip", "echo '2: ens160    inet 10.0.0.5/24 brd 10.0.0.255 scope global ens160'"),
    ("lvmconfig", "echo 'global_filter=\"r|.*|\"'"),
    ("apt-config", "echo 'APT::Periodic::Unattended-Upgrade \"0\";'"),
    ("timedatectl", "echo 'NTP synchronized: yes'"),
    ("systemd-detect-virt", "echo vmware"),
    ("systemctl", "q=$1; shift; for unit; do [ $q = is-active ] && echo active || echo enabled; done"),
    ("vmware-toolbox-cmd", "echo Disabled; exit 1"),
];

impl TestMachine {
    /// Ubuntu 16.04.2 on VMware with everything as it should be.
    pub(super) fn good() -> TestMachine {
        let disks = vec![system_disk(), retention_disk(), target_disk()];
        let version = ServerVersion { product: PRODUCT.into(), version: "9.4.0".into() };
        let machine = TestMachine {
            root: tempfile::tempdir().unwrap(),
            inventory: Ok(Inventory { disks }),
            configuration_server: Answer {
                version: Ok(version),
                clock: Some((NOW + 1, NOW)),
                certificate: Some(Validity { from: NOW - 1000, until: NOW + 1000 }),
            },
            process_server: Ok(()),
            environment: vec![("PATH".into(), "/usr/bin".into())],
            program: "/usr/bin/mtctl".into(),
            version: "9.4.1".into(),
        };
        FILES.iter().for_each(|(path, text)| machine.write(path, text));
        PROGRAMS.iter().for_each(|(name, script)| machine.program(name, script));
        machine.write("/etc/master-target/mtd.toml", CONFIG);
        machine.install(&INSTALLED);
        for check in ["snapshots", "storage-vmotion"] {
            machine.folder("/var/lib/master-target", 0o700);
            let state = machine.path("/var/lib/master-target");
            super::attest(&state, super::find(check).unwrap(), "eve", NOW - 86_400).unwrap();
        }
        machine
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        System::at(self.root.path()).path(path)
    }

    pub(super) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    pub(super) fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Writes what is there with one text in place of another.
    pub(super) fn edit(&self, path: &str, from: &str, to: &str) {
        let text = self.read(path);
        assert!(text.contains(from), "{from:?} is not in {path}: {text}");
        self.write(path, &text.replace(from, to));
    }

    /// Has multipath told to map a disk.
    pub(super) fn want(&self, id: &str) {
        let ids = [ScsiId::parse(id).unwrap()];
        block_device::multipath::set_wanted(&System::at(self.root.path()), &ids).unwrap();
    }

    pub(super) fn remove(&self, path: &str) {
        let path = self.path(path);
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }

    pub(super) fn folder(&self, path: &str, mode: u32) {
        fs::create_dir_all(self.path(path)).unwrap();
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    pub(super) fn program(&self, name: &str, script: &str) {
        let path = self.path("/sbin").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        testkit::program(&path, &format!("#!/bin/sh\n{script}\n"));
    }

    /// A program that only writes down how it was called, in `/calls`.
    pub(super) fn recorded(&self, name: &str) {
        self.program(name, &format!("echo {name} \"$@\" >> {}", self.path("/calls").display()));
    }

    pub(super) fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("/calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// These packages, and dpkg.
    pub(super) fn install(&self, packages: &[(&str, &str)]) {
        let mut text = "install ok installed amd64 dpkg\n".to_owned();
        packages.iter().for_each(|(want, name)| text += &format!("{want} ok installed amd64 {name}\n"));
        assert_eq!(packages::QUERY[0], "-W");
        self.write("/dpkg", &text);
        self.program("dpkg-query", &format!("cat {}", self.path("/dpkg").display()));
    }

    /// All packages but one.
    pub(super) fn uninstall(&self, absent: &str) {
        let left: Vec<_> = INSTALLED.iter().copied().filter(|(_, name)| *name != absent).collect();
        self.install(&left);
    }

    /// A disk of the inventory.
    pub(super) fn disk(&mut self, name: &str) -> &mut AttachedDisk {
        let disks = &mut self.inventory.as_mut().unwrap().disks;
        disks.iter_mut().find(|disk| disk.name == name).unwrap()
    }

    pub(super) fn add_disk(&mut self, disk: AttachedDisk) {
        self.inventory.as_mut().unwrap().disks.push(disk);
    }

    pub(super) fn machine(&self) -> Machine {
        let machine = Machine::new(MachineOptions {
            system: System::at(self.root.path()),
            config: Path::new("/etc/master-target/mtd.toml").into(),
            configuration_server: None,
            environment: self.environment.clone(),
            program: Some(self.program.clone()),
            version: self.version.clone(),
            now: NOW,
        });
        machine.inventory.set(self.inventory.clone()).unwrap();
        machine.configuration_server.set(self.configuration_server.clone()).unwrap();
        machine.process_server.set(self.process_server.clone()).unwrap();
        machine
    }

    pub(super) fn report(&self) -> Report {
        super::run(&self.machine(), &[])
    }
}

/// A VMDK on an LSI controller, that nothing uses.
pub(super) fn free_disk(name: &str, minor: u64, id: &str, bytes: u64) -> AttachedDisk {
    AttachedDisk {
        name: name.into(),
        map: None,
        scsi_id: ScsiId::parse(id),
        no_scsi_id: None,
        other_scsi_id: None,
        serial: None,
        vendor: Some("VMware".into()),
        model: Some("Virtual disk".into()),
        size: Bytes(bytes),
        logical_sector: 512,
        physical_sector: 512,
        read_only: false,
        removable: false,
        paths: vec![DiskPath {
            name: name.into(),
            number: DeviceNumber { major: 8, minor },
            address: None,
            controller: Controller::LsiParallel,
            device_state: Some("running".into()),
            path_state: None,
            size: Bytes(bytes),
        }],
        partitions: Vec::new(),
        signature: None,
        uses: Vec::new(),
        role: Role::Free,
    }
}

fn mapped(mut disk: AttachedDisk, minor: u64) -> AttachedDisk {
    let id = disk.scsi_id.clone().unwrap().as_str().to_owned();
    let number = DeviceNumber { major: 252, minor };
    disk.map = Some(MultipathMap { name: id.clone(), kernel_name: format!("dm-{minor}"), number, wwid: id });
    disk.paths[0].path_state = Some("active".into());
    disk
}

fn system_disk() -> AttachedDisk {
    let mut disk = free_disk("sda", 0, SYSTEM_ID, 107_374_182_400);
    disk.role = Role::System;
    disk.uses = vec![Use::System { place: "/".into() }];
    disk.partitions = vec![Partition {
        name: "sda1".into(),
        number: DeviceNumber { major: 8, minor: 1 },
        index: 1,
        start: Bytes(1 << 20),
        size: Bytes(100 << 30),
        signature: Some(Signature::FileSystem { name: "ext4".into(), uuid: None, label: None }),
    }];
    disk
}

fn retention_disk() -> AttachedDisk {
    let mut disk = mapped(free_disk("sdb", 16, RETENTION_ID, 1 << 40), 0);
    disk.role = Role::Retention;
    disk.signature = Some(Signature::FileSystem { name: "ext4".into(), uuid: None, label: None });
    let device = format!("/dev/mapper/{RETENTION_ID}");
    disk.uses = vec![Use::Mounted { device, place: "/mnt/retention".into() }];
    disk
}

fn target_disk() -> AttachedDisk {
    let mut disk = mapped(free_disk("sdc", 32, TARGET_ID, 40 << 30), 1);
    disk.role = Role::Target;
    disk
}
