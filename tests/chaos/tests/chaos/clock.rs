//! Clocks that jump, of the master target and of the source.

use anyhow::{Context, Result, ensure};
use chaos::{Plan, programs};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const PRELOAD: &str = "faketime/libfaketimeMT.so.1";

fn preload() -> Result<PathBuf> {
    let found = std::fs::read_dir("/usr/lib")?
        .filter_map(|entry| Some(entry.ok()?.path().join(PRELOAD)))
        .find(|library| library.exists());
    found.with_context(|| format!("no {PRELOAD}; `cargo xtask setup` installs it"))
}

/// The programs, each with a clock that is read off a file: `mtd.clock` holds `+3d`, for example.
fn programs_with_clocks(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let (library, real) = (preload()?, programs()?);
    for name in ["mtd", "mt-source"] {
        set_clock(folder, name, "+0")?;
        let script = format!(
            "#!/bin/sh\nexport LD_PRELOAD='{}' FAKETIME_TIMESTAMP_FILE='{}' FAKETIME_NO_CACHE=1 \
             FAKETIME_DONT_FAKE_MONOTONIC=1\nexec '{}' \"$@\"\n",
            library.display(),
            folder.join(format!("{name}.clock")).display(),
            real.join(name).display()
        );
        std::fs::write(folder.join(name), script)?;
        std::fs::set_permissions(folder.join(name), PermissionsExt::from_mode(0o755))?;
    }
    std::os::unix::fs::symlink(real.join("mtctl"), folder.join("mtctl"))?;
    Ok(())
}

fn set_clock(folder: &Path, name: &str, offset: &str) -> Result<()> {
    Ok(std::fs::write(folder.join(format!("{name}.clock")), offset)?)
}

/// Invariant 3: recovery points stay, and stay exact, whatever the clocks say.
#[test]
fn invariant_3_no_recovery_point_is_lost_to_a_clock_that_jumps() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut plan = Plan::new(&folder.path().join("site"), 64 << 20)?;
    let clocks = folder.path().join("programs");
    programs_with_clocks(&clocks)?;
    plan.rig.programs = clocks.clone();
    let mut site = plan.start()?;
    let mut bookmarks = vec![("at-first".to_owned(), site.bookmark("at-first")?)];
    site.drain()?;
    let jumps = [("mtd", "+20h"), ("mt-source", "-1h"), ("mtd", "-3d"), ("mt-source", "+2d"), ("mtd", "+0")];
    for (number, (name, offset)) in jumps.into_iter().enumerate() {
        let load = site.load(8, number as u64)?;
        std::thread::sleep(Duration::from_millis(300));
        // A jump while it runs, then what it does to a program that starts at that time.
        set_clock(&clocks, name, offset)?;
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
