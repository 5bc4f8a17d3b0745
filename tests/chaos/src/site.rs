//! A master target and a source agent that can be broken and mended.

use crate::{Load, Random, free_port, programs};
use anyhow::{Context, Result, ensure};
use control_api::{AlertKind, ItemState, RetentionState};
use rig::tools::{compare, copy, run};
use rig::{Rig, Source, SourceOptions, Target, TargetDisk, TargetOptions, wait_for};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Id of the one disk.
pub const DISK: &str = "disk0";
/// Longer than anything takes.
pub const LONGEST: Duration = Duration::from_secs(120);

/// How the two will be run.
pub struct Plan {
    /// Folder, programs, certificates.
    pub rig: Rig,
    /// Of the master target.
    pub target: TargetOptions,
    /// Of the source agent.
    pub source: SourceOptions,
    /// More text in the configuration of `mtd`.
    pub more: String,
}

impl Plan {
    /// A disk of `size` bytes, half full of random bytes, to be replicated into a sparse VMDK.
    pub fn new(folder: &Path, size: u64) -> Result<Plan> {
        let rig = Rig::new(folder, programs()?)?;
        let raw = rig.folder.join("source.img");
        std::fs::write(&raw, Random::new(1).bytes((size / 2) as usize))?;
        std::fs::File::options().write(true).open(&raw)?.set_len(size)?;
        let disk = TargetDisk {
            id: DISK.into(),
            path: rig.folder.join("replica.vmdk"),
            format: "monolithicSparse".into(),
            size,
        };
        let port = free_port()?;
        let target = TargetOptions { port, disks: vec![disk] };
        let disks = vec![(DISK.into(), raw)];
        let source = SourceOptions { port, disks, backlog_mib: 1024, more: String::new() };
        Ok(Plan { rig, target, source, more: String::new() })
    }

    /// Runs both and waits until the replica is level.
    pub fn start(self) -> Result<Site> {
        let target = Target::start_with(&self.rig, &self.target, &self.more)?;
        let source = Source::start(&self.rig, &self.source)?;
        let mut site = Site { plan: self, target, source };
        site.wait_until_level()?;
        Ok(site)
    }
}

/// Both, running.
pub struct Site {
    /// How they are run.
    pub plan: Plan,
    /// The master target.
    pub target: Target,
    /// The source agent.
    pub source: Source,
}

impl Site {
    /// The disk that is replicated.
    pub fn raw(&self) -> &Path {
        &self.plan.source.disks[0].1
    }

    /// Kills `mtd` and starts it again.
    pub fn kill_target(&mut self) -> Result<()> {
        self.target.process().kill()?;
        let Plan { rig, target, more, .. } = &self.plan;
        self.target = Target::start_with(rig, target, more).context("mtd after a kill")?;
        Ok(())
    }

    /// Stops `mtd` in order and starts it again.
    pub fn restart_target(&mut self) -> Result<()> {
        self.target.process().stop()?;
        let Plan { rig, target, more, .. } = &self.plan;
        self.target = Target::start_with(rig, target, more).context("mtd after a stop")?;
        Ok(())
    }

    /// Kills `mt-source` and starts it again.
    pub fn kill_source(&mut self) -> Result<()> {
        self.source.process().kill()?;
        self.source = Source::start(&self.plan.rig, &self.plan.source).context("mt-source after a kill")?;
        Ok(())
    }

    /// Starts to write all over the disk, at so many MiB a second.
    pub fn load(&self, rate: u64, seed: u64) -> Result<Load> {
        let size = self.plan.target.disks[0].size;
        Load::start(&self.source.uri(DISK), 0..size, rate, seed, &self.plan.rig.folder)
    }

    /// Waits until everything that the source wrote is durable in the replica, and nothing is left to compare.
    pub fn drain(&mut self) -> Result<()> {
        let newest = self.source.newest_sequence()?;
        wait_for("the target to have everything", LONGEST, || {
            self.source.process().check_running()?;
            self.target.process().check_running()?;
            self.ensure_not_fenced()?;
            Ok((self.source.durable_sequence()? >= newest && self.is_level()?).then_some(()))
        })
        .with_context(|| format!("the source agent says {:?}", self.source.status()))
    }

    /// Waits until neither end has anything to compare, whatever is being written.
    pub fn wait_until_level(&mut self) -> Result<()> {
        wait_for("the replica to be level", LONGEST, || {
            self.ensure_not_fenced()?;
            Ok(self.is_level()?.then_some(()))
        })
        .with_context(|| format!("the source agent says {:?}", self.source.status()))
    }

    fn is_level(&self) -> Result<bool> {
        Ok(self.source.status()?["state"] == "level" && self.target.item()?.state == ItemState::Protected)
    }

    /// An error with its reason when the item is fenced.
    pub fn ensure_not_fenced(&self) -> Result<()> {
        let item = self.target.item()?;
        ensure!(item.state != ItemState::Fenced, "the item is fenced: {}", item.detail.unwrap_or_default());
        Ok(())
    }

    /// Waits until the retention volume stands so.
    pub fn wait_for_volume(&self, state: RetentionState) -> Result<()> {
        wait_for(&format!("the retention volume to be {state}"), LONGEST, || {
            Ok((self.target.status()?.retention.state == state).then_some(()))
        })
    }

    /// True while the item shows an alert of this kind.
    pub fn has_alert(&self, kind: AlertKind) -> Result<bool> {
        Ok(self.target.item()?.alerts.iter().any(|alert| alert.kind == kind))
    }

    /// A bookmark on the quiet disk, and a copy of the disk as it is there.
    pub fn bookmark(&self, name: &str) -> Result<PathBuf> {
        self.source.bookmark(name)?;
        let copied = self.plan.rig.folder.join(format!("{name}.img"));
        copy(self.raw(), &copied)?;
        Ok(copied)
    }

    /// Compares a recovery point, opened over NBD, with what the disk was there.
    pub fn compare_point(&self, name: &str, wanted: &Path) -> Result<()> {
        let socket = self.plan.rig.folder.join("point.sock");
        let listen = format!("unix:{}", socket.display());
        let started =
            self.target.mtctl(&["test-failover", "start", "web01", "--point", name, "--listen", &listen])?;
        let uri = format!("nbd+unix:///{DISK}?socket={}", socket.display());
        let compared = compare(&uri, "raw", &wanted.to_string_lossy(), "raw");
        let id = started.split(|c: char| !c.is_ascii_digit()).find(|word| !word.is_empty());
        self.target.mtctl(&["test-failover", "stop", id.context("a test failover has a number")?])?;
        compared.with_context(|| format!("recovery point {name}"))
    }

    /// How often a sync has begun since the item was first replicated.
    pub fn syncs(&self) -> Result<usize> {
        let log = std::fs::read_to_string(self.plan.rig.folder.join("target/mtd.log"))?;
        Ok(log.matches("sync started").count())
    }

    /// Waits for the end of what is under way, stops both in order, and compares the replica with the source.
    pub fn finish(mut self) -> Result<()> {
        self.drain()?;
        self.source.process().stop()?;
        self.target.process().stop()?;
        let disk = &self.plan.target.disks[0];
        let (replica, raw) = (disk.path.to_string_lossy(), self.raw().to_string_lossy());
        let format = rig::tools::qemu_format(&disk.format);
        if format == "vmdk" {
            run("qemu-img", &["check", "-q", "-f", format, &replica])?;
        }
        compare(&replica, format, &raw, "raw")
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // Shown by the test harness when the test has failed.
        println!("mtd says:\n{}\n", self.target.process().log_tail());
        println!("mt-source says:\n{}\n", self.source.process().log_tail());
    }
}
