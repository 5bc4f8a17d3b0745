//! Clocks that jump, of the master target and of the source.

use anyhow::{Result, ensure};
use chaos::{Plan, programs};
use rig::Clocks;
use std::time::Duration;

/// Invariant 3: recovery points stay, and stay exact, whatever the clocks say.
#[test]
fn invariant_3_no_recovery_point_is_lost_to_a_clock_that_jumps() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut plan = Plan::new(&folder.path().join("site"), 64 << 20)?;
    let clocks = Clocks::make(&folder.path().join("programs"), programs()?, &["mtd", "mt-source"])?;
    plan.rig.programs = clocks.folder().to_owned();
    let mut site = plan.start()?;
    let mut bookmarks = vec![("at-first".to_owned(), site.bookmark("at-first")?)];
    site.drain()?;
    let jumps = [("mtd", "+20h"), ("mt-source", "-1h"), ("mtd", "-3d"), ("mt-source", "+2d"), ("mtd", "+0")];
    for (number, (name, offset)) in jumps.into_iter().enumerate() {
        let load = site.load(8, number as u64)?;
        std::thread::sleep(Duration::from_millis(300));
        // A jump while it runs, then what it does to a program that starts at that time.
        clocks.set(name, offset)?;
        std::thread::sleep(Duration::from_millis(700));
        load.stop()?;
        match name {
            "mtd" => site.kill_target()?,
            _ => site.kill_source()?,
        }
        site.wait_until_level()?;
        let bookmark = format!("{name}-{number}");
        bookmarks.push((bookmark.clone(), site.bookmark(&bookmark)?));
        site.drain()?;
    }
    for (name, image) in &bookmarks {
        site.compare_point(name, image)?;
    }
    ensure!(site.target.item()?.rpo(site.target.status()?.now).is_some(), "it tells no RPO");
    site.finish()
}
