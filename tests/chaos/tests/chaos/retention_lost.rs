//! A retention volume on a medium that fails.

use anyhow::{Context, Result, ensure};
use chaos::{FaultyDisk, LONGEST, Mount, Plan, is_root};
use control_api::{AlertKind, ItemState, RetentionState};
use retention_volume::{FileSystemUuid, Place, RetentionVolume};
use rig::tools::run;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

const SIZE: u64 = 256 << 20;

/// A loop device over a file.
struct Loop(String);

impl Loop {
    fn over(disk: &FaultyDisk) -> Result<Loop> {
        Ok(Loop(run("losetup", &["--find", "--show", &disk.path.to_string_lossy()])?.trim().to_owned()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        if let Err(error) = run("losetup", &["--detach", &self.0]) {
            eprintln!("{} stays: {error}", self.0);
        }
    }
}

/// A prepared volume on the device, mounted at `folder`.
fn prepare(device: &Loop, folder: PathBuf) -> Result<Mount> {
    let uuid = FileSystemUuid::new()?;
    run("mkfs.ext4", &["-q", "-F", "-m", "0", "-U", &uuid.to_string(), &device.0])?;
    std::fs::create_dir_all(&folder)?;
    run("mount", &[&device.0, &folder.to_string_lossy()])?;
    let mount = Mount { at: folder.clone() };
    RetentionVolume::mark(&Place { folder, trial: false }, uuid)?;
    Ok(mount)
}

/// Invariants 1 and 6: a medium error stops the item under load, its writer goes on, and when a person has mended the
/// volume it goes on by itself, through crash recovery, without a resync.
#[test]
fn invariant_6_a_retention_volume_that_fails_loses_nothing_acknowledged() -> Result<()> {
    if !is_root("a test of a retention volume that fails, through FUSE") {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let mut plan = Plan::new(&folder.path().join("site"), 64 << 20)?;
    plan.rig.trial_folder = false;
    let disk = FaultyDisk::new(&folder.path().join("faulty"), SIZE)?;
    let device = Loop::over(&disk)?;
    let mount = prepare(&device, plan.rig.folder.join("target/retention"))?;
    let mut site = plan.start()?;
    let load = site.load(8, 1)?;
    std::thread::sleep(Duration::from_secs(2));
    disk.set_broken(true)?;
    // The kernel stops the file system when it cannot write its own journal; one that only loses data goes on. It may
    // have done so already, so nothing may be made there any more.
    let _ = std::fs::write(mount.at.join("new"), "");
    ensure!(run("sync", &["--file-system", &mount.at.to_string_lossy()]).is_err(), "the medium works");
    site.wait_for_volume(RetentionState::Lost)?;
    let item = site.target.wait_for_state(ItemState::Fenced, LONGEST)?;
    let detail = item.detail.context("a fenced item says why")?;
    ensure!(detail.contains("e2fsck -f") && detail.contains("by itself"), "{detail}");
    ensure!(site.has_alert(AlertKind::Fenced)?, "no alert");
    let (durable, written) = (site.source.durable_sequence()?, site.source.newest_sequence()?);
    std::thread::sleep(Duration::from_secs(2));
    ensure!(site.source.newest_sequence()? > written, "the writer stands still");

    disk.set_broken(false)?;
    let at = mount.at.to_string_lossy().into_owned();
    rig::wait_for("the volume to be free", LONGEST, || Ok(run("umount", &[&at]).ok()))?;
    site.wait_for_volume(RetentionState::NotMounted)?;
    let checked = Command::new("e2fsck").args(["-p", &device.0]).output()?;
    ensure!(checked.status.code().is_some_and(|code| code <= 1), "{checked:?}");
    run("mount", &[&device.0, &at])?;
    site.wait_for_volume(RetentionState::Ready)?;
    rig::wait_for("the item to go on", LONGEST, || {
        Ok((site.target.item()?.state == ItemState::Protected).then_some(()))
    })?;
    load.stop()?;
    site.drain()?;
    ensure!(site.source.durable_sequence()? >= durable, "acknowledged writes were lost");
    ensure!(site.syncs()? == 1, "a lost volume made a resync necessary");
    site.finish()?;
    drop(mount);
    Ok(())
}
