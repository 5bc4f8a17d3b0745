//! What scripts ask of the world around their machine.

use super::machine::{Attached, Files, device, path_name, top_node};
use super::protocol::Wish;
use super::qmp::Qmp;
use super::scenario::{Controller, Disk, Machine};
use crate::command::output;
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::process::Command;
use std::time::Duration;

/// Until the guest has let go of a device.
const DETACH_LIMIT: Duration = Duration::from_secs(30);
/// What may be read or written in whole: more takes longer than a scenario has.
const MOST_CONTENT: u64 = 4 << 30;
/// PCI device number of controller 1, on which the first paths are.
const FIRST_PATHS_SLOT: u8 = 0x11;

/// The host's side of one running machine.
pub(super) struct Host<'a> {
    machine: &'a Machine,
    files: &'a Files,
    qmp: Qmp,
    attached: Attached,
}

impl<'a> Host<'a> {
    pub(super) fn new(machine: &'a Machine, files: &'a Files, attached: Attached, qmp: Qmp) -> Host<'a> {
        Host { machine, files, qmp, attached }
    }

    pub(super) fn attached(&self) -> &Attached {
        &self.attached
    }

    /// Does what was asked for, except what ends a boot.
    pub(super) fn fulfil(&mut self, wish: &Wish) -> Result<String> {
        match wish {
            Wish::Detach { disk, path } => self.detach(disk, *path),
            Wish::Attach { disk, path } => self.attach(disk, *path),
            Wish::Resize { disk, bytes } => self.resize(disk, *bytes),
            Wish::IoError { disk, path, on } => self.io_error(disk, *path, *on),
            Wish::Pattern { disk, seed } => self.pattern(disk, *seed),
            Wish::Sha256 { disk } => self.sha256(disk),
            Wish::Places { disk, path } => self.places(disk, *path),
            Wish::Reboot | Wish::Crash => Ok(String::new()),
        }
    }

    pub(super) fn quit(&mut self) -> Result<()> {
        self.qmp.execute("quit", json!({})).map(drop)
    }

    fn detach(&mut self, name: &str, path: Option<u8>) -> Result<String> {
        self.may_change()?;
        let (_, disk) = self.disk(name)?;
        let wanted = paths(disk, path)?.into_iter().map(|path| path_name(disk, path));
        let present: Vec<String> = wanted.filter(|path| self.attached.contains(path)).collect();
        ensure!(!present.is_empty(), "{name} is not attached");
        for path in present {
            self.qmp.forget_events();
            self.qmp.execute("device_del", json!({"id": path}))?;
            self.qmp.wait_for(&format!("removal of {path}"), DETACH_LIMIT, |event| {
                event["event"] == "DEVICE_DELETED" && event["data"]["device"] == path.as_str()
            })?;
            self.attached.remove(&path);
        }
        Ok(String::new())
    }

    fn attach(&mut self, name: &str, path: Option<u8>) -> Result<String> {
        self.may_change()?;
        let (index, disk) = self.disk(name)?;
        let absent: Vec<u8> = paths(disk, path)?
            .into_iter()
            .filter(|path| !self.attached.contains(&path_name(disk, *path)))
            .collect();
        ensure!(!absent.is_empty(), "{name} is attached already");
        for path in absent {
            self.qmp.execute("device_add", device(index, disk, path))?;
            self.attached.insert(path_name(disk, path));
        }
        Ok(String::new())
    }

    fn may_change(&self) -> Result<()> {
        let fixed = self.machine.controller == Controller::Mptsas;
        ensure!(!fixed, "disks of QEMU's mptsas cannot come and go: take another controller");
        Ok(())
    }

    fn resize(&mut self, name: &str, bytes: u64) -> Result<String> {
        let (_, disk) = self.disk(name)?;
        // Each path's node must learn of it.
        for path in 0..disk.paths {
            let node = path_name(disk, path);
            self.qmp.execute("block_resize", json!({"node-name": node, "size": bytes}))?;
        }
        Ok(String::new())
    }

    fn io_error(&mut self, name: &str, path: Option<u8>, on: bool) -> Result<String> {
        let (_, disk) = self.disk(name)?;
        for path in paths(disk, path)? {
            let path = path_name(disk, path);
            let (file, failing) = (format!("{path}.file"), format!("{path}.failing"));
            if on {
                // The event "none" happens when the node is made, so the rule holds from then on.
                let rule = json!({"event": "none", "errno": 5, "once": false, "immediately": true});
                let node = json!({
                    "driver": "blkdebug", "node-name": failing, "image": file, "inject-error": [rule],
                });
                self.qmp.execute("blockdev-add", node)?;
            }
            let below = if on { &failing } else { &file };
            self.qmp.execute("blockdev-reopen", json!({"options": [top_node(&path, below)]}))?;
            if !on {
                self.qmp.execute("blockdev-del", json!({"node-name": failing}))?;
            }
        }
        Ok(String::new())
    }

    fn pattern(&mut self, name: &str, seed: u64) -> Result<String> {
        let (file, size) = self.content(name)?;
        let file = File::options().write(true).open(&file).context("cannot open the disk's file")?;
        write_pattern(&mut BufWriter::with_capacity(1 << 20, file), seed, size)
            .context("cannot write the pattern")?;
        Ok(String::new())
    }

    fn sha256(&mut self, name: &str) -> Result<String> {
        let (file, _) = self.content(name)?;
        let text = output(Command::new("sha256sum").arg("--").arg(file))?;
        Ok(text.split_whitespace().next().unwrap_or_default().to_owned())
    }

    fn places(&mut self, name: &str, path: Option<u8>) -> Result<String> {
        let (index, disk) = self.disk(name)?;
        let wanted = paths(disk, path)?.into_iter();
        let attached = wanted.filter(|path| self.attached.contains(&path_name(disk, *path)));
        let places = attached.map(|path| format!("{:02x}:{index}", FIRST_PATHS_SLOT + path));
        Ok(places.collect::<Vec<_>>().join(" "))
    }

    /// A disk's file, when it is small enough to be read or written in whole.
    fn content(&self, name: &str) -> Result<(std::path::PathBuf, u64)> {
        let (_, disk) = self.disk(name)?;
        let file = self.files.disk(&disk.name);
        let size = file.metadata().with_context(|| format!("cannot look at {}", file.display()))?.len();
        ensure!(
            size <= MOST_CONTENT,
            "{name} is too large for that: it has {size} bytes, {MOST_CONTENT} is the most"
        );
        Ok((file, size))
    }

    fn disk(&self, name: &str) -> Result<(usize, &'a Disk)> {
        let mut disks = self.machine.disks.iter().enumerate();
        disks.find(|(_, disk)| disk.name == name).with_context(|| format!("the header has no disk {name}"))
    }
}

/// The path that was asked for, or all.
fn paths(disk: &Disk, path: Option<u8>) -> Result<Vec<u8>> {
    let Some(path) = path else { return Ok((0..disk.paths).collect()) };
    ensure!(path < disk.paths, "{} has no path {path}; the first is 0", disk.name);
    Ok(vec![path])
}

/// Bytes of a xorshift generator.
fn write_pattern(writer: &mut impl Write, seed: u64, bytes: u64) -> std::io::Result<()> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for _ in 0..bytes / 8 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        writer.write_all(&state.to_le_bytes())?;
    }
    writer.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_decides_a_pattern() {
        let pattern = |seed| {
            let mut bytes = Vec::new();
            write_pattern(&mut bytes, seed, 4096).unwrap();
            bytes
        };
        assert_eq!(pattern(1).len(), 4096);
        assert_eq!(pattern(1), pattern(1));
        assert_ne!(pattern(1), pattern(2));
        assert!(pattern(0).iter().any(|byte| *byte != 0));
    }
}
