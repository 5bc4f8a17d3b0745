//! Who may open an image while someone else has it, and what snapshots forbid.

use disk::{Access, Bytes, Disk};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use vmdk::Format;
use vmdk_interop::{NAME, Scratch};

const FORMATS: [Format; 4] =
    [Format::MonolithicSparse, Format::MonolithicFlat, Format::TwoGbMaxExtentSparse, Format::Vmfs];

#[test]
fn qemu_cannot_open_what_we_write() {
    for format in FORMATS {
        let scratch = Scratch::new();
        let image = scratch.create(format, 1 << 20);
        let refused = |commands: &str| {
            let output = scratch.output("qemu-io", &["-f", "vmdk", "-c", commands, NAME]);
            String::from_utf8_lossy(&output.stderr).contains("lock")
        };
        assert!(refused("write 0 512"), "{format}, before the first write");
        image.write_at(Bytes(0), &[1; 512]).unwrap();
        assert!(refused("write 0 512"), "{format}, after the first write");
        drop(image);
        assert!(!refused("write 0 512"), "{format}, after closing");
    }
}

#[test]
fn we_cannot_open_what_qemu_writes() {
    for format in FORMATS {
        let scratch = Scratch::new();
        drop(scratch.create(format, 1 << 20));
        let mut qemu = Command::new("qemu-io")
            .args(["-f", "vmdk"])
            .arg(scratch.path(NAME))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("qemu-io runs");
        let mut commands = qemu.stdin.take().unwrap();
        writeln!(commands, "write -P 5 0 512").unwrap();
        let mut line = String::new();
        BufReader::new(qemu.stdout.take().unwrap()).read_line(&mut line).unwrap();
        for access in [Access::Read, Access::Write] {
            let error = scratch.open(access).err().expect("refused while QEMU has it");
            assert!(error.to_string().contains("in use"), "{format}: {error}");
        }
        drop(commands);
        qemu.wait().unwrap();
        let mut seen = [0; 512];
        scratch.open(Access::Write).unwrap().read_at(Bytes(0), &mut seen).unwrap();
        assert_eq!(seen, [5; 512]);
    }
}

#[test]
fn neither_a_parent_nor_a_child_is_written() {
    let scratch = Scratch::new();
    scratch.qemu_create("monolithicSparse", 1 << 20);
    let arguments = ["create", "-q", "-f", "vmdk", "-F", "vmdk", "-b", NAME, "snapshot.vmdk"];
    scratch.run("qemu-img", &arguments);
    let error = scratch.open(Access::Write).err().unwrap().to_string();
    assert!(error.contains("snapshot.vmdk") && error.contains("consolidate"), "{error}");
    assert!(scratch.open(Access::Read).is_ok(), "reading a base breaks nothing");
    let child =
        vmdk::Image::open(&scratch.folder, "snapshot.vmdk", Access::Read, 1).err().unwrap().to_string();
    assert!(child.contains(NAME) && child.contains("consolidate"), "{child}");
    std::fs::remove_file(scratch.path("snapshot.vmdk")).unwrap();
    assert!(scratch.open(Access::Write).is_ok());
}
