//! The machine that is protected, and the machine that comes out of a failover.

use crate::{BlockDevice, Postgres};
use anyhow::{Context, Result, ensure};
use chaos::Mount;
use rig::tools::run;
use std::path::{Path, PathBuf};

/// Which disks a machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// All on one.
    OneDisk,
    /// The write-ahead log on a second one.
    TwoDisks,
}

impl Layout {
    /// Id and size of each disk.
    pub(crate) fn disks(self) -> &'static [(&'static str, u64)] {
        match self {
            Layout::OneDisk => &[("disk0", 256 << 20)],
            Layout::TwoDisks => &[("disk0", 192 << 20), ("disk1", 96 << 20)],
        }
    }

    /// Where a machine that is run in `folder` mounts each disk.
    pub(crate) fn mount_points(self, folder: &Path) -> Vec<PathBuf> {
        self.disks().iter().map(|(id, _)| folder.join(format!("mnt-{id}"))).collect()
    }

    fn data(self, folder: &Path) -> PathBuf {
        self.mount_points(folder)[0].join("data")
    }

    fn log(self, folder: &Path) -> Option<PathBuf> {
        (self == Layout::TwoDisks).then(|| self.mount_points(folder)[1].join("log"))
    }
}

/// A running database with what it stands on. Dropping it takes all of it down without a word to the database.
pub(crate) struct Machine {
    // In the order in which they go.
    postgres: Postgres,
    _mounts: Vec<Mount>,
    _devices: Vec<BlockDevice>,
}

impl Machine {
    /// Makes file systems and a database on new disks. Of each disk, `exports` has the words by which nbdfuse reaches it.
    pub(crate) fn install(folder: &Path, layout: Layout, exports: &[Vec<String>]) -> Result<Machine> {
        let devices = attach(folder, layout, exports)?;
        for device in &devices {
            run("mkfs.ext4", &["-q", "-b", "4096", "-E", "lazy_itable_init=0", device.path()])?;
        }
        let mounts = mount(folder, layout, &devices)?;
        Postgres::initialize(&layout.data(folder), layout.log(folder).as_deref())?;
        let machine = Machine::start(folder, layout, devices, mounts)?;
        let table =
            "create table ledger (client int, number bigint, filler text, primary key (client, number))";
        machine.postgres.sql(table)?;
        crate::postgres::finish(machine.postgres.client("pgbench")?.args([
            "--initialize",
            "--quiet",
            "postgres",
        ]))?;
        Ok(machine)
    }

    /// Mounts the file systems that are on the disks, as they are, and starts the database on them.
    pub(crate) fn boot(folder: &Path, layout: Layout, exports: &[Vec<String>]) -> Result<Machine> {
        let devices = attach(folder, layout, exports)?;
        let mounts = mount(folder, layout, &devices)?;
        Machine::start(folder, layout, devices, mounts)
    }

    /// The same, for disks whose file systems were at rest: there is nothing in their journals.
    pub(crate) fn boot_at_rest(folder: &Path, layout: Layout, exports: &[Vec<String>]) -> Result<Machine> {
        let devices = attach(folder, layout, exports)?;
        for device in &devices {
            let header = run("dumpe2fs", &["-h", device.path()])?;
            ensure!(!header.contains("needs_recovery"), "a file system was not frozen: {header}");
        }
        let mounts = mount(folder, layout, &devices)?;
        Machine::start(folder, layout, devices, mounts)
    }

    fn start(
        folder: &Path,
        layout: Layout,
        devices: Vec<BlockDevice>,
        mounts: Vec<Mount>,
    ) -> Result<Machine> {
        let postgres = Postgres::start(&layout.data(folder), layout.log(folder).as_deref(), folder)?;
        Ok(Machine { postgres, _mounts: mounts, _devices: devices })
    }

    /// Its database.
    pub(crate) fn postgres(&self) -> &Postgres {
        &self.postgres
    }
}

fn attach(folder: &Path, layout: Layout, exports: &[Vec<String>]) -> Result<Vec<BlockDevice>> {
    std::fs::create_dir_all(folder)?;
    let disks = layout.disks();
    ensure!(exports.len() == disks.len(), "{} exports for {} disks", exports.len(), disks.len());
    let attach = |((id, size), words): (&(&str, u64), &Vec<String>)| {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        BlockDevice::attach(&folder.join(id), &words, *size).with_context(|| format!("disk {id}"))
    };
    disks.iter().zip(exports).map(attach).collect()
}

fn mount(folder: &Path, layout: Layout, devices: &[BlockDevice]) -> Result<Vec<Mount>> {
    let points = layout.mount_points(folder);
    points.iter().zip(devices).map(|(point, device)| Mount::device(device.path(), point)).collect()
}
