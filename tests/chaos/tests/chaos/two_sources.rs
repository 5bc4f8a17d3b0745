//! Two source agents for one item.

use anyhow::{Result, ensure};
use chaos::{LONGEST, Plan, Site, programs};
use rig::{Rig, Source, wait_for};
use std::path::Path;

/// Another machine's agent that has all it takes to replicate the item: its certificates, and a disk of the same size.
fn second_source(site: &Site, folder: &Path) -> Result<Source> {
    let rig = Rig::new(folder, programs()?)?;
    for file in std::fs::read_dir(site.plan.rig.folder.join("certificates"))? {
        let file = file?;
        std::fs::copy(file.path(), rig.folder.join("certificates").join(file.file_name()))?;
    }
    let mut options = site.plan.source.clone();
    options.disks[0].1 = rig.folder.join("source.img");
    std::fs::copy(site.raw(), &options.disks[0].1)?;
    Source::start(&rig, &options)
}

#[test]
fn the_second_is_refused_by_the_name_of_the_first_and_the_first_goes_on() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let site = Plan::new(&folder.path().join("first"), 64 << 20)?.start()?;
    let load = site.load(10, 1)?;
    let mut second = second_source(&site, &folder.path().join("second"))?;
    let said = wait_for("the second source to be refused", LONGEST, || {
        Ok(second.status()?["why"].as_str().filter(|why| why.contains("Busy")).map(str::to_owned))
    })?;
    ensure!(said.contains("source.example is replicating it already"), "{said}");
    let before = site.source.durable_sequence()?;
    // The second tries again and again.
    std::thread::sleep(std::time::Duration::from_secs(5));
    ensure!(site.source.durable_sequence()? > before, "the first source does not go on");
    ensure!(site.source.status()?["state"] == "level" && second.status()?["state"] != "level");
    second.process().stop()?;
    load.stop()?;
    ensure!(site.syncs()? == 1, "the first source had to compare");
    site.finish()
}
