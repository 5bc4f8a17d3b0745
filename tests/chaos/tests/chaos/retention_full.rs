//! A retention volume without room.

use anyhow::{Result, ensure};
use chaos::{LONGEST, Mount, Plan, is_root};
use control_api::AlertKind;
use std::time::Duration;

const MIB: u64 = 1 << 20;

/// Invariant 4: when space runs short the window shrinks or replication waits, and nothing is lost.
#[test]
fn invariant_4_a_full_retention_volume_holds_replication_up_and_loses_nothing() -> Result<()> {
    if !is_root("a test with a small file system of its own") {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let plan = Plan::new(folder.path(), 64 * MIB)?;
    let retention = plan.rig.folder.join("target/retention");
    let volume = Mount::ext4(&plan.rig.folder.join("volume.img"), 160 * MIB, &retention)?;
    let mut site = plan.start()?;
    let load = site.load(16, 1)?;
    std::thread::sleep(Duration::from_secs(2));
    let filler = volume.fill(4 * MIB)?;
    let log = site.plan.rig.folder.join("target/mtd.log");
    rig::wait_for("mtd to say that there is no room", LONGEST, || {
        site.ensure_not_fenced()?;
        let full = std::fs::read_to_string(&log)?.contains("the retention volume is full");
        Ok((full || site.has_alert(AlertKind::WindowShrunk)?).then_some(()))
    })?;
    // Its writer is not held up by that.
    let written = site.source.newest_sequence()?;
    std::thread::sleep(Duration::from_secs(2));
    ensure!(site.source.newest_sequence()? > written, "the writer stands still");
    std::fs::remove_file(filler)?;
    let durable = site.source.durable_sequence()?;
    rig::wait_for("replication to go on", LONGEST, || {
        site.ensure_not_fenced()?;
        Ok((site.source.durable_sequence()? > durable.max(written)).then_some(()))
    })?;
    load.stop()?;
    site.drain()?;
    let bookmark = site.bookmark("with-room-again")?;
    site.drain()?;
    site.compare_point("with-room-again", &bookmark)?;
    ensure!(site.syncs()? == 1, "a full volume made a resync necessary");
    site.finish()?;
    drop(volume);
    Ok(())
}
