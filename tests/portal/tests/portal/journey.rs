//! A machine is brought home, and away and home again, by somebody who only clicks. Behind the portal are a real master
//! target and a real source agent; what its pages say is held against the disks, by programs of others.

use crate::site::pictures;
use anyhow::{Result, ensure};
use portal::Person;
use portal::failback::{self, Replica};
use rig::tools::{compare, copy, copy_of_held, run};
use rig::{ConfigurationServer, Rig, Site, wait_for};
use std::path::{Path, PathBuf};
use std::time::Duration;

const DISK: &str = "disk0";
const SIZE: u64 = 32 << 20;
const BOOKMARK: &str = "before-the-upgrade";
const LONGEST: Duration = Duration::from_secs(120);

/// What there is beside the pages.
struct World {
    site: Site,
    raw: PathBuf,
    replica: PathBuf,
    _folder: tempfile::TempDir,
}

impl World {
    fn start() -> Result<World> {
        let programs = rig::build()?;
        let temporary = tempfile::tempdir()?;
        let mut rig = Rig::new(temporary.path(), &programs)?;
        let raw = rig.folder.join("source.img");
        std::fs::File::create(&raw)?.set_len(SIZE)?;
        let server = ConfigurationServer::start_at(&rig, rig::free_port()?, "heartbeat_seconds = 1\n")?;
        Site::register(&mut rig, &server)?;
        let site = Site::start(rig, server, vec![(DISK.into(), raw.clone())])?;
        let replica = site.datastore.join(format!("web01-{DISK}.vmdk"));
        Ok(World { site, raw, replica, _folder: temporary })
    }

    /// An operator who is new here.
    fn operator(&self) -> Result<Person> {
        let server = &self.site.server;
        let password = server.command(&["user", "add", "olga", "--role", "operator", "--generate"])?;
        Person::log_in(&server.url(), "olga", password.trim(), Some(pictures()))
    }

    /// The protected machine writes this byte.
    fn write(&self, byte: u8, place: &str) -> Result<()> {
        let write = format!("write -P {byte} {place}");
        let said = run("qemu-io", &["-f", "raw", "-c", &write, "-c", "flush", &self.site.source.uri(DISK)])?;
        // In some versions it ends well whatever became of the command.
        ensure!(said.contains("wrote"), "{said}");
        Ok(())
    }

    /// A copy of the disk as it is now.
    fn keep(&self) -> Result<PathBuf> {
        let kept = self.site.rig.folder.join("kept.img");
        copy(&self.raw, &kept)?;
        Ok(kept)
    }

    /// Waits until the master target has all that was written.
    fn drain(&self) -> Result<()> {
        let newest = self.site.source.newest_sequence()?;
        wait_for("the master target to have everything", LONGEST, || {
            Ok((self.site.source.durable_sequence()? >= newest).then_some(()))
        })
    }

    /// Whether the VMDK holds the same as an image; both may be in use.
    fn is_at_home(&self, image: &Path) -> Result<()> {
        let copies = self.site.rig.folder.join("copies");
        let (replica, image) = (copy_of_held(&self.replica, &copies)?, copy_of_held(image, &copies)?);
        compare(&replica.to_string_lossy(), "vmdk", &image.to_string_lossy(), "raw")?;
        Ok(std::fs::remove_dir_all(copies)?)
    }

    /// Neither end has anything of the item any more.
    fn is_over(&self) -> Result<()> {
        wait_for("both ends to have let go of it", LONGEST, || {
            let is_kept = !self.site.target.status()?.items.is_empty();
            let is_assigned = self.site.source.status()?["state"] != "not-assigned";
            Ok((!is_kept && !is_assigned).then_some(()))
        })?;
        self.is_at_home(&self.raw)
    }
}

#[test]
fn a_machine_is_brought_home_by_clicks_alone() -> Result<()> {
    let world = World::start()?;
    world.write(0x11, "0 8M")?;
    let person = world.operator()?;
    person.browser.wait_for_text("all connected")?;
    person.look("overview")?;

    failback::reprotect(&person, &Replica::New)?;
    world.drain()?;
    world.is_at_home(&world.raw)?;

    failback::bookmark(&person, BOOKMARK)?;
    let bookmarked = world.keep()?;
    world.write(0x22, "4M 8M")?;
    let view = failback::begin_test(&person)?;
    compare(&view, "raw", &bookmarked.to_string_lossy(), "raw")?;
    run("qemu-io", &["-f", "raw", "-c", "write -P 0x5a 0 64k", &view])?;
    failback::end_test(&person)?;
    let read = run("qemu-io", &["-f", "raw", "-c", "read 0 512", &view]);
    ensure!(read.is_err(), "{view} is still served");

    failback::planned_failover(&person)?;
    ensure!(world.write(0x66, "0 64k").is_err(), "a disk that is at rest took a write");
    world.is_at_home(&world.raw)?;
    failback::change_point(&person, BOOKMARK)?;
    world.is_at_home(&bookmarked)?;
    failback::cancel(&person)?;
    world.write(0x33, "10M 8M")?;
    world.drain()?;
    world.is_at_home(&world.raw)?;

    failback::planned_failover(&person)?;
    failback::commit(&person)?;
    world.is_over()?;

    failback::let_writes_through(&person)?;
    failback::reprotect(&person, &Replica::Existing(&world.replica.to_string_lossy()))?;
    world.write(0x44, "20M 4M")?;
    world.drain()?;
    world.is_at_home(&world.raw)
}
