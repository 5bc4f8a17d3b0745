//! The machine as QEMU is told of it.
//!
//! Everything is addressed by names and places that the guest's library knows too: the controller with index n is the
//! PCI device 10+n (hexadecimal), the root disk is alone on controller 0, and path p of the disk with index i is target
//! i on controller 1+p. Each path has a block node of its own over the same file, as each is a device of its own in
//! the guest.

use super::scenario::{Controller, Disk, Face, Machine};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Its id in the guest begins like those of VMware's disks.
const ROOT_WWN: u64 = 0x6000_c290_0000_0000;
const FIRST_SLOT: usize = 0x10;

/// Names of the paths that a machine has.
pub(super) type Attached = BTreeSet<String>;

/// Files of one run.
#[derive(Debug, Clone)]
pub(super) struct Files {
    /// Where the guest's image is cached.
    pub(super) image: PathBuf,
    /// What its root disk begins as.
    pub(super) root: PathBuf,
    /// What the guest may read.
    pub(super) payload: PathBuf,
    /// What the run leaves behind; the guest writes there.
    pub(super) results: PathBuf,
    /// Its disks.
    pub(super) disks: PathBuf,
    /// Its sockets: the longest path of one is shorter than some checkouts' are.
    pub(super) sockets: PathBuf,
}

impl Machine {
    pub(super) fn attached_at_first(&self) -> Attached {
        let disks = self.disks.iter().filter(|disk| disk.attached);
        disks.flat_map(|disk| (0..disk.paths).map(|path| path_name(disk, path))).collect()
    }
}

impl Files {
    pub(super) fn disk(&self, name: &str) -> PathBuf {
        self.disks.join(format!("{name}.raw"))
    }

    pub(super) fn root_disk(&self) -> PathBuf {
        self.disks.join("root.qcow2")
    }

    pub(super) fn qmp(&self) -> PathBuf {
        self.sockets.join("qmp")
    }

    pub(super) fn channel(&self) -> PathBuf {
        self.sockets.join("lab")
    }
}

/// The command that runs the machine. It ends with the thread that starts it, however that ends.
pub(super) fn command(machine: &Machine, files: &Files, attached: &Attached, interactive: bool) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
    command.args([
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-machine",
        "pc,usb=off",
        "-no-reboot",
    ]);
    // Hardware acceleration is not there everywhere, and where it is, it is not the same everywhere.
    command.args(["-accel", "tcg,thread=multi", "-cpu", "max,hypervisor=off,la57=off"]);
    command.args(["-smp", &machine.processors.to_string(), "-m", &format!("{}M", machine.memory_mib)]);
    if machine.face == Face::Vmware {
        command.args([
            "-smbios",
            "type=1,manufacturer=VMware,, Inc.,product=VMware Virtual Platform,\
             serial=VMware-56 4d 6d 74 6c 61 62 00-00 00 00 00 00 00 00 01",
        ]);
    }
    boot(&mut command, files);
    channels(&mut command, files, interactive);
    controllers(&mut command, machine);
    root(&mut command, &files.root_disk());
    for (index, disk) in machine.disks.iter().enumerate() {
        for path in 0..disk.paths {
            for node in nodes(disk, path, &files.disk(&disk.name)) {
                command.arg("-blockdev").arg(node.to_string());
            }
            if attached.contains(&path_name(disk, path)) {
                command.arg("-device").arg(device(index, disk, path).to_string());
            }
        }
    }
    command
}

fn boot(command: &mut Command, files: &Files) {
    // The order in which disks get their names depends on timing less when controllers are scanned one by one.
    let words = "root=LABEL=mt-root ro quiet loglevel=6 console=ttyS0 panic=-1 scsi_mod.scan=sync net.ifnames=0 \
                 mitigations=off random.trust_cpu=on audit=0 nowatchdog tsc=reliable";
    // A guest that made itself another initramfs before it restarted left it with its results.
    let own = files.results.join("initrd");
    let initrd = if own.exists() { own } else { files.image.join("initrd") };
    command.arg("-kernel").arg(files.image.join("vmlinux")).arg("-initrd").arg(initrd);
    command.args(["-append", words]);
}

fn channels(command: &mut Command, files: &Files, interactive: bool) {
    let log = files.results.join("console.log");
    let console = if interactive { "stdio,signal=off" } else { "null" };
    command.arg("-chardev").arg(format!("{console},id=console,logfile={},logappend=on", log.display()));
    command.args(["-serial", "chardev:console"]);
    command.arg("-qmp").arg(format!("unix:{},server=on,wait=off", files.qmp().display()));
    command.args(["-device", "virtio-serial-pci,addr=0x4", "-chardev"]);
    command.arg(format!("socket,id=lab,path={},server=on,wait=off", files.channel().display()));
    command.args(["-device", "virtserialport,chardev=lab,name=lab"]);
    let shares = [("lab-in", &files.payload, "on", 0x5), ("lab-out", &files.results, "off", 0x6)];
    for (tag, folder, readonly, slot) in shares {
        let options = "security_model=none";
        command.arg("-fsdev");
        command.arg(format!("local,id={tag},path={},{options},readonly={readonly}", folder.display()));
        command.arg("-device").arg(format!("virtio-9p-pci,fsdev={tag},mount_tag={tag},addr={slot:#x}"));
    }
    // It reaches nothing but the emulated network's own DHCP server.
    command.args(["-netdev", "user,id=net,restrict=on", "-device", "vmxnet3,netdev=net,romfile=,addr=0x7"]);
}

fn controllers(command: &mut Command, machine: &Machine) {
    let driver = match machine.controller {
        Controller::Pvscsi => "pvscsi",
        Controller::Lsi => "lsi53c895a",
        Controller::Mptsas => "mptsas1068",
    };
    let paths = machine.disks.iter().map(|disk| disk.paths).max().unwrap_or(0);
    for index in 0..=usize::from(paths) {
        command.arg("-device").arg(format!("{driver},id=ctl{index},addr={:#x}", FIRST_SLOT + index));
    }
}

fn root(command: &mut Command, file: &Path) {
    let node = json!({
        "driver": "qcow2", "node-name": "root", "discard": "unmap",
        "file": {"driver": "file", "filename": file, "locking": "off"},
    });
    command.arg("-blockdev").arg(node.to_string());
    command.arg("-device").arg(scsi_disk("root", "ctl0.0", 0, Some(ROOT_WWN), 512).to_string());
}

/// Name of a path's device and of its block node.
pub(super) fn path_name(disk: &Disk, path: u8) -> String {
    format!("{}.{path}", disk.name)
}

/// A path's block nodes: the file's, and one on top that stays when what is below is exchanged.
fn nodes(disk: &Disk, path: u8, file: &Path) -> [Value; 2] {
    let name = path_name(disk, path);
    let below = format!("{name}.file");
    [
        json!({"driver": "file", "node-name": below, "filename": file, "locking": "off", "discard": "unmap"}),
        top_node(&name, &below),
    ]
}

/// The upper block node of the path `name`, over the node `below`.
pub(super) fn top_node(name: &str, below: &str) -> Value {
    json!({"driver": "raw", "node-name": name, "file": below, "discard": "unmap"})
}

/// A path's device, as QEMU is asked to add it. `index` is the disk's place in the header.
pub(super) fn device(index: usize, disk: &Disk, path: u8) -> Value {
    let bus = format!("ctl{}.0", usize::from(path) + 1);
    let mut device = scsi_disk(&path_name(disk, path), &bus, index, disk.wwn, disk.sector);
    if disk.paths > 1 {
        // VMware attaches a disk to a machine once; arrays are reached over several paths.
        device["vendor"] = json!("LAB");
        device["product"] = json!("Array");
    }
    device
}

fn scsi_disk(name: &str, bus: &str, target: usize, wwn: Option<u64>, sector: u32) -> Value {
    let mut device = json!({
        "driver": "scsi-hd", "id": name, "drive": name, "bus": bus, "scsi-id": target, "share-rw": true,
        "vendor": "VMware", "product": "Virtual disk", "ver": "2.0",
        "logical_block_size": sector, "physical_block_size": sector,
    });
    if let Some(wwn) = wwn {
        // A serial number alone would already be an id.
        device["wwn"] = json!(wwn);
        device["serial"] = json!(format!("{wwn:016x}"));
    }
    device
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_without_a_wwn_has_no_serial_number_either() {
        let mut disk =
            Disk { name: "data1".into(), size: 4096, wwn: None, paths: 2, sector: 512, attached: true };
        let bare = device(2, &disk, 1);
        assert!(bare.get("wwn").is_none() && bare.get("serial").is_none());
        assert_eq!(
            (&bare["id"], &bare["bus"], &bare["scsi-id"]),
            (&json!("data1.1"), &json!("ctl2.0"), &json!(2))
        );
        disk.wwn = Some(0x6000_c29a_0000_0001);
        assert_eq!(device(2, &disk, 1)["serial"], json!("6000c29a00000001"));
    }
}
