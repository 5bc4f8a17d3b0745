//! A target disk that fails.

use anyhow::{Context, Result, ensure};
use chaos::{DISK, FaultyDisk, LONGEST, Load, Plan, Site, is_root, programs};
use control_api::ItemState;
use rig::tools::compare;
use rig::{Rig, Source, wait_for};
use std::path::Path;
use std::time::Duration;

const SIZE: u64 = 64 << 20;

/// A second item of the same master target, with a sound disk.
const OTHER: &str = "web02";

fn other_item(folder: &Path) -> String {
    format!(
        "[[item]]\nname = \"{OTHER}\"\nsource = \"source.example\"\n[[item.disks]]\nid = \"{DISK}\"\n\
         target = \"{}/other.img\"\nformat = \"raw\"\nsize = \"{SIZE} B\"\n",
        folder.display()
    )
}

fn start_other(site: &Site, folder: &Path) -> Result<Source> {
    let mut rig = Rig::new(folder, programs()?)?;
    rig.item = OTHER.into();
    for file in std::fs::read_dir(site.plan.rig.folder.join("certificates"))? {
        let file = file?;
        std::fs::copy(file.path(), rig.folder.join("certificates").join(file.file_name()))?;
    }
    let mut options = site.plan.source.clone();
    options.disks[0].1 = rig.folder.join("source.img");
    std::fs::copy(site.raw(), &options.disks[0].1)?;
    Source::start(&rig, &options)
}

/// Invariant 6: an I/O error fences the item and only it, and it goes on through crash recovery.
#[test]
fn invariant_6_an_io_error_fences_one_item_until_it_is_resumed() -> Result<()> {
    if !is_root("a test of a target disk that fails, through FUSE") {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let mut plan = Plan::new(&folder.path().join("site"), SIZE)?;
    let disk = FaultyDisk::new(&plan.rig.folder.join("faulty"), SIZE)?;
    plan.target.disks[0].path = disk.path.clone();
    plan.target.disks[0].format = "raw".into();
    plan.more = other_item(&plan.rig.folder);
    let mut site = plan.start()?;
    let mut other = start_other(&site, &folder.path().join("other"))?;
    let bookmark = site.bookmark("before")?;
    site.drain()?;
    wait_for("the other item to be level", LONGEST, || {
        Ok((other.status()?["state"] == "level").then_some(()))
    })?;
    let load = site.load(8, 1)?;
    let other_load = Load::start(&other.uri(DISK), 0..SIZE, 4, 2, folder.path())?;
    std::thread::sleep(Duration::from_secs(1));
    disk.set_broken(true)?;
    let item = site.target.wait_for_state(ItemState::Fenced, LONGEST)?;
    let said = item.detail.context("a fenced item says why")?;
    let path = disk.path.to_string_lossy();
    ensure!(said.contains(&*path) && said.contains("offset"), "it names no disk or offset: {said}");
    ensure!(said.contains("mtctl resume web01"), "it does not say what to do: {said}");
    println!("{said}");
    // The other item goes on.
    let durable = other.durable_sequence()?;
    wait_for("the other item to go on", LONGEST, || {
        Ok((other.durable_sequence()? > durable + 100).then_some(()))
    })?;
    other_load.stop()?;
    // Nobody but an operator knows that the disk can be trusted again.
    disk.set_broken(false)?;
    std::thread::sleep(Duration::from_secs(3));
    ensure!(site.target.item()?.state == ItemState::Fenced, "it was opened again without an order");
    site.target.mtctl(&["resume", "web01"])?;
    site.wait_until_level()?;
    load.stop()?;
    site.drain()?;
    site.compare_point("before", &bookmark)?;
    ensure!(site.syncs()? == 2, "the error made a resync necessary");
    let newest = other.newest_sequence()?;
    wait_for("the other item to have everything", LONGEST, || {
        Ok((other.durable_sequence()? >= newest).then_some(()))
    })?;
    other.process().stop()?;
    let replica = site.plan.rig.folder.join("other.img");
    let other_raw = folder.path().join("other/source.img");
    site.finish()?;
    compare(&replica.to_string_lossy(), "raw", &other_raw.to_string_lossy(), "raw")?;
    drop(disk);
    Ok(())
}
