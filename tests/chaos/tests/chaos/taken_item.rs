//! An item that is taken while the master target runs, by the commands that people type, and that leaves when it is committed.

use anyhow::{Result, ensure};
use chaos::{DISK, LONGEST, Load, Plan, Site};
use control_api::ItemState;
use rig::tools::compare;
use rig::{Source, Target, wait_for};
use std::time::Duration;

const SIZE: u64 = 32 << 20;

#[test]
fn an_item_taken_at_run_time_is_replicated_killed_failed_over_and_gone() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut plan = Plan::new(folder.path(), SIZE)?;
    plan.target.disks.clear();
    let folder = plan.rig.folder.clone();
    let target = Target::start(&plan.rig, &plan.target)?;
    ensure!(target.status()?.items.is_empty());
    let disk = format!("{DISK}={},size={SIZE},format=monolithicSparse", folder.display());
    target.mtctl(&["protect", "web01", "--source", "source.example", "--disk", &disk])?;
    let source = Source::start(&plan.rig, &plan.source)?;
    let mut site = Site { plan, target, source };
    site.wait_until_level()?;
    let load = Load::start(&site.source.uri(DISK), 0..SIZE, 2, 7, &folder)?;
    std::thread::sleep(Duration::from_secs(1));
    site.kill_target()?;
    site.target.mtctl(&["policy", "web01", "--rpo", "5min"])?;
    std::thread::sleep(Duration::from_secs(1));
    load.stop()?;
    site.drain()?;
    let wanted = site.bookmark("level")?;
    site.drain()?;
    site.target.mtctl(&["failover", "web01", "--point", "level", "--yes"])?;
    site.target.wait_for_state(ItemState::FailedOver, LONGEST)?;
    site.target.mtctl(&["commit", "web01", "--yes"])?;
    wait_for("the item to be gone", LONGEST, || Ok(site.target.status()?.items.is_empty().then_some(())))?;
    ensure!(!folder.join("target/retention/items/web01").exists(), "its recovery points are left");
    let replica = folder.join(format!("web01-{DISK}.vmdk"));
    compare(&replica.to_string_lossy(), "vmdk", &wanted.to_string_lossy(), "raw")
}
