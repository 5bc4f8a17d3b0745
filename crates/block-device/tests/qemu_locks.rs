//! Locks between this crate and QEMU, in both directions.

use block_device::{Caching, FileDisk, HostFolder};
use disk::{Access, Cause, Folder};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

const FORMATS: [&str; 2] = ["raw", "vmdk"];

fn image(folder: &Path, format: &str) -> PathBuf {
    let path = folder.join(format!("image.{format}"));
    let made = Command::new("qemu-img").args(["create", "-q", "-f", format]).arg(&path).arg("8M").status();
    assert!(made.expect("qemu-img is installed").success());
    path
}

fn open(path: &Path, access: Access) -> disk::Result<FileDisk> {
    FileDisk::open(path, access, Caching::Direct)
}

/// Runs one qemu-io command; what it said if it failed.
fn qemu_io(path: &Path, format: &str, options: &[&str], command: &str) -> Result<(), String> {
    let output = Command::new("qemu-io")
        .args(["-f", format])
        .args(options)
        .args(["-c", command])
        .arg(path)
        .output()
        .expect("qemu-io is installed");
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// A qemu-io that holds an image open until it is dropped.
struct Holder {
    process: Child,
    input: Option<ChildStdin>,
}

impl Holder {
    fn open(path: &Path, format: &str, options: &[&str]) -> Holder {
        let mut process = Command::new("qemu-io")
            .args(["-f", format])
            .args(options)
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("qemu-io is installed");
        let mut input = process.stdin.take().unwrap();
        input.write_all(b"read 0 512\n").unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let opened = output.lines().map_while(Result::ok).any(|line| line.contains("read 512/512"));
        assert!(opened, "qemu-io opened the image");
        Holder { process, input: Some(input) }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.process.wait();
    }
}

#[test]
fn what_we_write_qemu_cannot_open() {
    let folder = tempfile::tempdir().unwrap();
    for format in FORMATS {
        let path = image(folder.path(), format);
        let writer = open(&path, Access::Write).unwrap();
        for (options, command) in [(&["-r"][..], "read 0 512"), (&[], "write 0 512")] {
            let refusal = qemu_io(&path, format, options, command).unwrap_err();
            assert!(refusal.contains("lock"), "{refusal}");
        }
        let convert = ["convert", "-f", format, "-O", "raw"];
        for arguments in [&convert[..], &["create", "-q", "-f", format]] {
            let rest: &[&str] = if arguments[0] == "create" { &["1M"] } else { &["/dev/null"] };
            let output = Command::new("qemu-img").args(arguments).arg(&path).args(rest).output().unwrap();
            assert!(String::from_utf8_lossy(&output.stderr).contains("lock"), "{arguments:?}: {output:?}");
        }
        drop(writer);
        qemu_io(&path, format, &[], "write 0 512").unwrap();
    }
}

#[test]
fn what_we_read_qemu_can_read_but_not_write() {
    let folder = tempfile::tempdir().unwrap();
    for format in FORMATS {
        let path = image(folder.path(), format);
        let _reader = open(&path, Access::Read).unwrap();
        qemu_io(&path, format, &["-r"], "read 0 512").unwrap();
        let refusal = qemu_io(&path, format, &[], "write 0 512").unwrap_err();
        assert!(refusal.contains("lock"), "{refusal}");
    }
}

#[test]
fn what_qemu_writes_we_cannot_open_and_say_who_has_it() {
    let place = tempfile::tempdir().unwrap();
    for format in FORMATS {
        let path = image(place.path(), format);
        let holder = Holder::open(&path, format, &[]);
        let who = format!("qemu-io (process {})", holder.process.id());
        let folder = HostFolder::open(place.path(), Caching::PageCache).unwrap();
        for access in [Access::Read, Access::Write] {
            for error in [
                open(&path, access).unwrap_err(),
                folder.open(&format!("image.{format}"), access).err().unwrap(),
            ] {
                assert!(matches!(error.cause(), Cause::InUse { holder } if *holder == who), "{error}");
            }
        }
        drop(holder);
        open(&path, Access::Write).unwrap();
    }
}

#[test]
fn what_qemu_reads_we_can_read_but_not_write() {
    let folder = tempfile::tempdir().unwrap();
    for format in FORMATS {
        let path = image(folder.path(), format);
        let _holder = Holder::open(&path, format, &["-r"]);
        open(&path, Access::Read).unwrap();
        assert!(matches!(open(&path, Access::Write).unwrap_err().cause(), Cause::InUse { .. }));
    }
}
