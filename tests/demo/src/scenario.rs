//! The story of the demo.

use crate::image::{SourceImage, check_file_system};
use crate::interrupt::Interrupt;
use crate::register;
use crate::report::{Report, duration, rate};
use crate::tour;
use crate::writer::Writer;
use anyhow::{Context, Result, bail};
use control_api::ItemState;
use disk::Bytes;
use rig::tools::{compare, copy, copy_of_held, qemu_format, run as run_tool};
use rig::{Rig, Site};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const ITEM: &str = "web01";
const DISK: &str = "disk0";
const LONGEST: Duration = Duration::from_secs(1800);

struct Demo {
    site: Site,
    report: Report,
    image: SourceImage,
    raw: PathBuf,
    replica: PathBuf,
    create_type: String,
    format: &'static str,
    written: u64,
}

/// What the demo is to show.
pub(crate) struct Order<'a> {
    /// Folder to work in.
    pub(crate) dir: &'a Path,
    /// Where our programs are.
    pub(crate) programs: &'a Path,
    /// Someone's image, if it is not to make a disk.
    pub(crate) image: Option<&'a Path>,
    /// Format of the replica.
    pub(crate) create_type: &'a str,
    /// Leave everything running at the end, until Ctrl-C.
    pub(crate) keep: bool,
}

/// Runs the demo.
pub(crate) fn run(order: &Order<'_>) -> Result<()> {
    let mut demo = Demo::prepare(order)?;
    demo.initial_sync()?;
    let monday = demo.bookmark("monday")?;
    demo.keep_writing("A writer goes on while nobody looks", 2)?;
    let tuesday = demo.bookmark("tuesday")?;
    demo.open_point("monday", &monday)?;
    demo.drain()?;
    demo.export("monday", &monday)?;
    demo.fail_over("monday", &monday)?;
    demo.fail_over("tuesday", &tuesday)?;
    demo.cancel()?;
    if order.keep { demo.keep() } else { demo.finish() }
}

impl Demo {
    fn prepare(order: &Order<'_>) -> Result<Demo> {
        let mut report = Report::new();
        clear(order.dir)?;
        let mut rig = Rig::new(order.dir, order.programs)?;
        let raw = rig.folder.join("source.img");
        let replica = rig.folder.join(format!("{ITEM}-{DISK}.vmdk"));
        let image = disk_to_protect(&mut report, order.image, &raw, &rig.folder)?;
        let configuration_server = register::both(&mut report, &mut rig)?;
        report.step("The master target (mtd) and the source agent (mt-source) start; they talk TLS 1.3");
        let site = Site::start(rig, configuration_server, vec![(DISK.into(), raw.clone())])?;
        report.proved("the configuration server hears the master target");
        let (create_type, format) = (order.create_type.to_owned(), qemu_format(order.create_type));
        Ok(Demo { site, report, image, raw, replica, create_type, format, written: 0 })
    }

    fn uri(&self) -> String {
        self.site.source.uri(DISK)
    }

    fn writer(&self, time: Duration, seed: u32) -> Result<Writer> {
        Writer::start(&self.uri(), self.image.scratch.clone(), time, seed, &self.site.rig.folder)
    }

    fn initial_sync(&mut self) -> Result<()> {
        self.report
            .step("The machine is protected: initial sync, while fio keeps writing through the splitter");
        let started = Instant::now();
        let writer = self.writer(Duration::from_secs(2), 1)?;
        let sizes = [(DISK, self.image.size)];
        for command in self.site.protect(&self.site.rig.folder, &self.create_type, &sizes)? {
            self.report.note(&command);
        }
        self.report.note(&format!("replica: {}", self.replica.display()));
        let item = self.site.target.wait_for_state(ItemState::Protected, LONGEST)?;
        let took = started.elapsed();
        let written = writer.finish()?;
        self.written += written;
        self.report.proved("each let the other in by the certificate that it was given");
        self.report.note(&format!(
            "level after {}; {} received, {} written by fio meanwhile",
            duration(took),
            Bytes(item.received_bytes),
            Bytes(written)
        ));
        self.drain()?;
        self.compare_replica("the replica equals the source")?;
        self.report.figure("initial sync", format!("{} in {}", Bytes(item.received_bytes), duration(took)));
        self.report.figure("initial sync rate", rate(item.received_bytes, took));
        Ok(())
    }

    /// Sets a bookmark on the quiet disk; gives a copy of the disk as it is at this moment.
    fn bookmark(&mut self, name: &str) -> Result<PathBuf> {
        self.report.step(&format!("Bookmark \"{name}\""));
        self.site.source.bookmark(name)?;
        let copied = self.site.rig.folder.join(format!("{name}.img"));
        copy(&self.raw, &copied)?;
        self.report.note(&format!(
            "a copy of the disk at this moment is kept to compare with: {}",
            copied.display()
        ));
        Ok(copied)
    }

    fn keep_writing(&mut self, what: &str, seed: u32) -> Result<()> {
        self.report.step(what);
        let written = self.writer(Duration::from_secs(2), seed)?.finish()?;
        self.written += written;
        self.report.note(&format!("{} written", Bytes(written)));
        Ok(())
    }

    /// Opens a point over NBD while the writer goes on.
    fn open_point(&mut self, name: &str, wanted: &Path) -> Result<()> {
        self.report.step(&format!("Test failover: \"{name}\" is opened over NBD while replication goes on"));
        let socket = self.site.rig.folder.join("point.sock");
        let listen = format!("unix:{}", socket.display());
        let writer = self.writer(Duration::from_secs(3), 3)?;
        let started = Instant::now();
        self.site.target.mtctl(&[
            "test-failover",
            "start",
            ITEM,
            "--point",
            name,
            "--listen",
            &listen,
            "--json",
        ])?;
        let uri = format!("nbd+unix:///{DISK}?socket={}", socket.display());
        run_tool("qemu-io", &["-r", "-f", "raw", "-c", "read 0 512", &uri])?;
        let opened = started.elapsed();
        compare(&uri, "raw", &wanted.to_string_lossy(), "raw")?;
        self.report.proved(&format!("read over NBD, it equals the disk as it was at \"{name}\""));
        run_tool("qemu-io", &["-f", "raw", "-c", "write -P 0x5a 0 64k", "-c", "read -P 0x5a 0 64k", &uri])?;
        self.report.proved("it can be written to, as a test failover must be");
        self.site.target.mtctl(&["test-failover", "stop", "1"])?;
        self.written += writer.finish()?;
        self.drain()?;
        self.compare_replica("the replica went on meanwhile, untouched by the test failover")?;
        self.report.figure("first byte of an old point", duration(opened));
        Ok(())
    }

    fn export(&mut self, name: &str, wanted: &Path) -> Result<()> {
        self.report.step(&format!("Export of \"{name}\" as a streamOptimized VMDK"));
        let file = self.site.rig.folder.join("export.vmdk");
        let path = file.to_string_lossy().into_owned();
        let format = "streamOptimized";
        self.site
            .target
            .mtctl(&["export", ITEM, "--disk", DISK, "--point", name, "--format", format, "--to", &path])?;
        compare(&path, "vmdk", &wanted.to_string_lossy(), "raw")?;
        self.report.proved(&format!("the export equals the disk as it was at \"{name}\""));
        self.report.figure("export", Bytes(stored_bytes(&file)?).to_string());
        Ok(())
    }

    fn fail_over(&mut self, name: &str, wanted: &Path) -> Result<()> {
        self.report.step(&format!("Failover to \"{name}\""));
        let started = Instant::now();
        self.site.target.mtctl(&["failover", ITEM, "--point", name, "--yes"])?;
        let took = started.elapsed();
        self.with_copy_of_replica(|demo, copied| {
            compare(copied, demo.format, &wanted.to_string_lossy(), "raw")?;
            demo.report.proved(&format!("the replica itself equals the disk as it was at \"{name}\""));
            let Some(offset) = demo.image.file_system else { return Ok(()) };
            let raw = demo.site.rig.folder.join("replica.img");
            run_tool(
                "qemu-img",
                &["convert", "-f", demo.format, "-O", "raw", copied, &raw.to_string_lossy()],
            )?;
            check_file_system(&raw, offset)?;
            demo.report.proved("e2fsck finds nothing wrong with the file system on it");
            Ok(std::fs::remove_file(&raw)?)
        })?;
        self.report.figure(&format!("failover to \"{name}\""), duration(took));
        Ok(())
    }

    fn cancel(&mut self) -> Result<()> {
        self.report.step("The failover is cancelled: forward again, and replication goes on");
        self.site.target.mtctl(&["cancel-failover", ITEM])?;
        self.site.target.wait_for_state(ItemState::Protected, LONGEST)?;
        self.compare_replica("forward again, the replica equals the source")?;
        let written = self.writer(Duration::from_secs(1), 4)?.finish()?;
        self.written += written;
        self.drain()?;
        self.compare_replica(&format!("{} more were written and are in the replica", Bytes(written)))
    }

    fn finish(mut self) -> Result<()> {
        self.report.step("All are stopped in order");
        self.note_figures()?;
        self.site.stop()?;
        let replica = self.replica.to_string_lossy();
        if self.format == "vmdk" {
            run_tool("qemu-img", &["check", "-q", "-f", "vmdk", &replica]).or_else(|error| {
                // qemu-img knows no check for flat images.
                if error.to_string().contains("does not support checks") {
                    Ok(String::new())
                } else {
                    Err(error)
                }
            })?;
        }
        run_tool(
            "qemu-img",
            &["compare", "-f", self.format, "-F", "raw", &replica, &self.raw.to_string_lossy()],
        )?;
        self.report.proved(&format!("{replica} equals the source, and qemu-img check finds nothing"));
        self.report.finish();
        Ok(())
    }

    /// What can be told only while all of them run.
    fn note_figures(&mut self) -> Result<()> {
        let status = self.site.target.status()?;
        let item = status.items.first().context("mtd has no item")?;
        self.report.figure("written by fio in all", Bytes(self.written).to_string());
        self.report.figure("journal", Bytes(item.journal_bytes).to_string());
        if let Some(rpo) = item.rpo(status.now) {
            self.report.figure("RPO at the end", duration(Duration::from_nanos(rpo)));
        }
        let memory = [
            ("mtd", self.site.target.process().peak_memory()?),
            ("mt-source", self.site.source.process().peak_memory()?),
            ("mt-configserver", self.site.server.process().peak_memory()?),
        ];
        for (name, bytes) in memory {
            self.report.figure(&format!("peak memory of {name}"), Bytes(bytes).to_string());
        }
        Ok(())
    }

    /// Leaves everything running until Ctrl-C or SIGTERM, then stops it in order.
    fn keep(mut self) -> Result<()> {
        self.note_figures()?;
        self.report.finish();
        self.site.target.wait_for_state(ItemState::Protected, LONGEST)?;
        let interrupt = Interrupt::expect()?;
        print!("{}", tour::text(&self.site, &self.uri(), self.image.scratch.start)?);
        interrupt.wait()?;
        println!("\nStopping.");
        self.site.stop()?;
        println!("All have ended. What they left is in {}.", self.site.rig.folder.display());
        Ok(())
    }

    /// Waits until everything that the source wrote is durable on the target.
    fn drain(&mut self) -> Result<()> {
        let newest = self.site.source.newest_sequence()?;
        rig::wait_for("the target to have everything", LONGEST, || {
            self.site.source.process().check_running()?;
            Ok((self.site.source.durable_sequence()? >= newest).then_some(()))
        })
    }

    fn compare_replica(&self, proved: &str) -> Result<()> {
        let source = copy_of_held(&self.raw, &self.site.rig.folder.join("copy-of-source"))?;
        self.with_copy_of_replica(|demo, copied| {
            compare(copied, demo.format, &source.to_string_lossy(), "raw")
        })?;
        std::fs::remove_file(source)?;
        self.report.proved(proved);
        Ok(())
    }

    /// Both programs hold their disks locked, against QEMU too: what is looked at while they run is a copy.
    fn with_copy_of_replica(&self, look: impl FnOnce(&Demo, &str) -> Result<()>) -> Result<()> {
        let folder = self.site.rig.folder.join("copy");
        let copied = copy_of_held(&self.replica, &folder)?;
        look(self, &copied.to_string_lossy())?;
        Ok(std::fs::remove_dir_all(&folder)?)
    }
}

fn disk_to_protect(
    report: &mut Report,
    image: Option<&Path>,
    raw: &Path,
    folder: &Path,
) -> Result<SourceImage> {
    report.step("A disk to protect");
    let image = match image {
        Some(path) => SourceImage::copy_of(path, raw)?,
        None => SourceImage::make(raw, folder)?,
    };
    let stored = stored_bytes(raw)?;
    report.note(&format!("{}: {}, {} of it stored", raw.display(), Bytes(image.size), Bytes(stored)));
    if let Some(offset) = image.file_system {
        check_file_system(raw, offset)?;
        report.proved("e2fsck finds nothing wrong with the file system on it");
    }
    Ok(image)
}

/// Removes what an earlier demo left, and nothing else.
fn clear(dir: &Path) -> Result<()> {
    let marker = dir.join("made-by-the-demo");
    if dir.exists() && std::fs::read_dir(dir)?.next().is_some() {
        if !marker.exists() {
            bail!(
                "{} is not empty and was not made by the demo; name another folder with --dir",
                dir.display()
            );
        }
        std::fs::remove_dir_all(dir)?;
    }
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    Ok(std::fs::write(marker, "The demo may remove this folder.\n")?)
}

fn stored_bytes(path: &Path) -> Result<u64> {
    Ok(std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(path)?) * 512)
}
