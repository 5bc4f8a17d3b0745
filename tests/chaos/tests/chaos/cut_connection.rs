//! A connection that is slow, cut, and lost without a word.

use anyhow::{Result, ensure};
use chaos::{LONGEST, Plan, Proxy, Random};
use std::time::Duration;

/// Cuts, most of them in the middle of a frame.
const CUTS: u32 = 12;

#[test]
fn replication_goes_on_by_itself_after_every_cut_and_compares_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut random = Random::from_environment()?;
    let mut plan = Plan::new(folder.path(), 64 << 20)?;
    let proxy = Proxy::start(plan.target.port)?;
    plan.source.port = proxy.port;
    let mut site = plan.start()?;
    let load = site.load(16, random.number())?;
    for _ in 0..CUTS {
        proxy.delay(random.time(Duration::from_millis(5)));
        let (met, durable) = (proxy.connections(), site.source.durable_sequence()?);
        std::thread::sleep(random.time(Duration::from_millis(500)));
        match random.below(3) {
            0 => proxy.cut(),
            1 => proxy.half_open(),
            _ => {
                proxy.lose();
                std::thread::sleep(random.time(Duration::from_secs(1)));
                proxy.cut();
            }
        }
        rig::wait_for("the source to be back", LONGEST, || {
            let back = proxy.connections() > met && site.source.durable_sequence()? > durable;
            Ok((back && site.source.status()?["state"] == "level").then_some(()))
        })?;
    }
    load.stop()?;
    proxy.delay(Duration::ZERO);
    let bookmark = site.bookmark("after-the-cuts")?;
    site.drain()?;
    site.compare_point("after-the-cuts", &bookmark)?;
    ensure!(site.syncs()? == 1, "a cut made a resync necessary");
    site.finish()
}
