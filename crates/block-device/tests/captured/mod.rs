//! A machine as sysfs, procfs and its programs show it, built in a folder.

#![allow(dead_code, reason = "each test that includes it uses another part")]

use block_device::{Inventory, ScsiId, System};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::path::PathBuf;
use tempfile::TempDir;

/// Bytes of the file that stands for a device, whatever size sysfs tells.
const IMAGE: u64 = 1 << 20;

/// A disk, as the kernel shows it.
#[derive(Clone)]
pub(crate) struct Shown {
    pub(crate) name: &'static str,
    /// Host, target, unit; the channel is 0.
    pub(crate) address: (u32, u32, u32),
    pub(crate) vendor: &'static str,
    pub(crate) model: &'static str,
    pub(crate) gigabytes: u64,
    pub(crate) page_83: Option<Vec<u8>>,
    pub(crate) serial: Option<&'static str>,
    pub(crate) controller: (&'static str, &'static str),
    pub(crate) state: &'static str,
    pub(crate) physical_sector: u32,
}

/// The `ddb.uuid` of the nth VMDK.
pub(crate) fn uuid(n: u8) -> [u8; 16] {
    [0x60, 0x00, 0xc2, 0x9a, 1, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0, 0, 0, n]
}

/// The SCSI id of the nth VMDK.
pub(crate) fn id(n: u8) -> String {
    ScsiId::of_vmdk(uuid(n)).to_string()
}

/// A VMware disk of a machine without disk.EnableUUID, on a paravirtual adapter.
pub(crate) fn vmware(name: &'static str, host: u32, target: u32) -> Shown {
    Shown {
        name,
        address: (host, target, 0),
        vendor: "VMware  ",
        model: "Virtual disk    ",
        gigabytes: 10,
        page_83: None,
        serial: None,
        controller: ("0x15ad", "0x07c0"),
        state: "running",
        physical_sector: 512,
    }
}

/// A disk of an array, which can be reached over several adapters.
pub(crate) fn array(name: &'static str, host: u32, target: u32) -> Shown {
    Shown { vendor: "EXAMPLE ", model: "Array           ", ..vmware(name, host, target) }
}

impl Shown {
    /// With disk.EnableUUID, made of the nth VMDK.
    pub(crate) fn vmdk(mut self, n: u8) -> Shown {
        self.page_83 = Some([&[0, 0x83, 0, 20, 1, 3, 0, 16], uuid(n).as_slice()].concat());
        self
    }

    pub(crate) fn gigabytes(mut self, gigabytes: u64) -> Shown {
        self.gigabytes = gigabytes;
        self
    }
}

/// The machine.
pub(crate) struct Machine {
    root: TempDir,
}

impl Machine {
    /// Without any device.
    pub(crate) fn new() -> Machine {
        let machine = Machine { root: tempfile::tempdir().unwrap() };
        for folder in ["sys/block", "dev/mapper", "run/udev/data", "proc/self", "sbin", "etc"] {
            fs::create_dir_all(machine.path(folder)).unwrap();
        }
        machine.write("proc/self/mountinfo", "22 27 0:21 / /proc rw - proc proc rw\n");
        machine.write("proc/swaps", "Filename Type Size Used Priority\n");
        machine
    }

    pub(crate) fn system(&self) -> System {
        System::at(self.root.path())
    }

    pub(crate) fn inventory(&self) -> Inventory {
        Inventory::read(&self.system())
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    pub(crate) fn write(&self, path: &str, contents: impl AsRef<[u8]>) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), contents).unwrap();
    }

    pub(crate) fn append(&self, path: &str, line: &str) {
        let before = fs::read_to_string(self.path(path)).unwrap_or_default();
        self.write(path, format!("{before}{line}\n"));
    }

    pub(crate) fn link(&self, path: &str, target: &str) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        symlink(target, self.path(path)).unwrap();
    }

    pub(crate) fn program(&self, name: &str, script: &str) {
        let path = self.path("sbin").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        testkit::program(&path, &format!("#!/bin/sh\n{script}\n"));
    }

    /// A SCSI disk below a PCI function of its host adapter.
    pub(crate) fn disk(&self, shown: &Shown) {
        let (host, target, lun) = shown.address;
        let adapter = format!("devices/pci0000:00/0000:03:{host:02x}.0");
        let unit = format!("{adapter}/host{host}/target{host}:0:{target}/{host}:0:{target}:{lun}");
        let block = format!("{unit}/block/{}", shown.name);
        let attributes = [
            (format!("{adapter}/vendor"), shown.controller.0.to_owned()),
            (format!("{adapter}/device"), shown.controller.1.to_owned()),
            (format!("{unit}/vendor"), shown.vendor.to_owned()),
            (format!("{unit}/model"), shown.model.to_owned()),
            (format!("{unit}/state"), shown.state.to_owned()),
            (format!("{block}/removable"), "0".to_owned()),
            (format!("{block}/queue/physical_block_size"), shown.physical_sector.to_string()),
        ];
        for (path, text) in attributes {
            self.write(&format!("sys/{path}"), format!("{text}\n"));
        }
        if let Some(page) = &shown.page_83 {
            self.write(&format!("sys/{unit}/vpd_pg83"), page);
        }
        if let Some(serial) = shown.serial {
            let page = [&[0, 0x80, 0, serial.len() as u8], serial.as_bytes()].concat();
            self.write(&format!("sys/{unit}/vpd_pg80"), page);
        }
        self.block(&block, shown.name, &number(shown.name), shown.gigabytes << 21);
        self.link(&format!("sys/{block}/device"), &format!("../../../{host}:0:{target}:{lun}"));
    }

    /// Partition `index` of a disk that is there; numbers are sectors of 512 bytes.
    pub(crate) fn partition(&self, disk: &str, index: u32, start: u64, sectors: u64) {
        let name = format!("{disk}{index}");
        let (major, minor) =
            number(disk).split_once(':').map(|(a, b)| (a.to_owned(), b.parse::<u32>().unwrap())).unwrap();
        let folder = format!("sys/block/{disk}/{name}");
        self.attributes(&folder, &format!("{major}:{}", minor + index), sectors);
        self.write(&format!("{folder}/partition"), index.to_string());
        self.write(&format!("{folder}/start"), start.to_string());
        self.image(&name);
    }

    /// The map `dm-<minor>` over kernel devices.
    pub(crate) fn map(&self, minor: u32, name: &str, uuid: &str, below: &[&str], sectors: u64) {
        let kernel = format!("dm-{minor}");
        let block = format!("devices/virtual/block/{kernel}");
        self.write(&format!("sys/{block}/dm/name"), name);
        self.write(&format!("sys/{block}/dm/uuid"), uuid);
        self.block(&block, &kernel, &format!("253:{minor}"), sectors);
        self.hold(&kernel, below);
        self.link(&format!("dev/mapper/{name}"), &format!("../{kernel}"));
    }

    /// A software RAID.
    pub(crate) fn raid(&self, name: &str, below: &[&str]) {
        self.block(&format!("devices/virtual/block/{name}"), name, "9:0", 4096);
        self.hold(name, below);
    }

    pub(crate) fn mount(&self, number: &str, place: &str) {
        self.append("proc/self/mountinfo", &format!("40 1 {number} / {place} rw - ext4 /dev/x rw"));
    }

    pub(crate) fn put(&self, device: &str, offset: u64, bytes: &[u8]) {
        let file = File::options().write(true).open(self.path("dev").join(device)).unwrap();
        file.write_all_at(bytes, offset).unwrap();
    }

    fn hold(&self, holder: &str, below: &[&str]) {
        for device in below {
            let disk = device.trim_end_matches(|c: char| c.is_ascii_digit());
            let whole = self.path("sys/block").join(device).exists();
            let folder =
                if whole { format!("sys/block/{device}") } else { format!("sys/block/{disk}/{device}") };
            self.write(&format!("{folder}/holders/{holder}"), "");
            self.write(&format!("sys/block/{holder}/slaves/{device}"), "");
        }
    }

    fn block(&self, folder: &str, name: &str, number: &str, sectors: u64) {
        self.attributes(&format!("sys/{folder}"), number, sectors);
        self.link(&format!("sys/block/{name}"), &format!("../{folder}"));
        self.image(name);
    }

    fn attributes(&self, folder: &str, number: &str, sectors: u64) {
        for (file, text) in
            [("dev", number.to_owned()), ("size", sectors.to_string()), ("ro", "0".to_owned())]
        {
            self.write(&format!("{folder}/{file}"), format!("{text}\n"));
        }
    }

    fn image(&self, name: &str) {
        File::create(self.path("dev").join(name)).unwrap().set_len(IMAGE).unwrap();
    }
}

/// The number of a whole disk `sdX…`, 16 minors for each.
fn number(name: &str) -> String {
    let letters = name.trim_start_matches("sd").bytes();
    let index = letters.fold(0, |sum, letter| sum * 26 + u32::from(letter - b'a') + 1) - 1;
    format!("8:{}", index * 16)
}
