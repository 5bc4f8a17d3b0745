//! The guest is failed over while it runs.

use anyhow::{Context, Result, ensure};
use boot::{Guest, install};
use chaos::{DISK, Plan, Random, Site};
use rig::tools::run;
use rig::{Source, Target, wait_for};
use std::time::Duration;

const ITEM: &str = "web01";

/// Numbers that a result may have as its newest one.
fn ensure_found(guest: &Guest, numbers: std::ops::RangeInclusive<u32>, what: &str) -> Result<()> {
    let found = guest.found()?;
    println!("{what} has {found}, and may have {numbers:?}");
    ensure!(numbers.contains(&found), "{what} has {found}, and must have one of {numbers:?}");
    guest.wait_until_it_goes_on().with_context(|| format!("on {what}"))
}

#[test]
fn a_guest_that_runs_is_failed_over_and_boots_from_the_vmdk() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut random = Random::from_environment()?;
    let plan = Plan::new(folder.path(), 64 << 20)?;
    install(&plan.source.disks[0].1, folder.path())?;
    let source = Source::start(&plan.rig, &plan.source)?;
    let guest = Guest::boot(&source.uri(DISK), "raw")?;
    ensure!(guest.found()? == 0, "it begins with {}", guest.found()?);
    let target = Target::start(&plan.rig, &plan.target)?;
    let mut site = Site { plan, target, source };
    site.wait_until_level().context("initial sync while it runs")?;
    guest.wait_until_it_goes_on()?;

    let before = guest.newest();
    site.source.bookmark("running")?;
    // One more may be on the disk than was said.
    let numbers = before..=guest.newest() + 1;
    guest.wait_until_it_goes_on()?;
    site.drain()?;
    site.kill_target()?;
    site.wait_until_level()?;
    guest.wait_until_it_goes_on()?;

    let started = site.target.mtctl(&["test-failover", "start", ITEM, "--point", "running", "--json"])?;
    let test: control_api::TestFailover = serde_json::from_str(&started)?;
    let copy = Guest::boot(&test.exports[0].uri, "raw")?;
    ensure_found(&copy, numbers, "the test failover")?;
    drop(copy);
    site.target.mtctl(&["test-failover", "stop", &test.id.to_string()])?;

    std::thread::sleep(random.time(Duration::from_secs(1)));
    let durable = guest.newest();
    site.drain()?;
    site.source.process().kill()?;
    guest.wait_until_it_stops()?;
    let numbers = durable..=guest.newest() + 1;
    drop(guest);
    site.target.mtctl(&["failover", ITEM, "--point", "latest", "--yes"])?;
    site.target.mtctl(&["commit", ITEM, "--yes"])?;
    let replica = site.plan.target.disks[0].path.to_string_lossy().into_owned();
    let home = Guest::boot(&replica, "vmdk")?;
    ensure_found(&home, numbers, "the VMDK")?;
    drop(home);
    wait_for("the VMDK to be free", Duration::from_secs(30), || {
        Ok(run("qemu-img", &["check", "-q", "-f", "vmdk", &replica]).ok())
    })?;
    Ok(())
}
