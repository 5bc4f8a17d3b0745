//! The source's disks are brought to rest for a planned failover, under load and through kills.

use anyhow::{Context, Result, bail, ensure};
use chaos::{DISK, LONGEST, Plan, Random, Site};
use rig::tools::{compare, copy, run};
use rig::wait_for;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const SIZE: u64 = 48 << 20;
const KILLS: u64 = 8;

/// What qemu-io says to a write into the disk as it is served.
fn written(site: &Site) -> Result<()> {
    let said = run("qemu-io", &["-f", "raw", "-c", "write -P 7 8k 4k", &site.source.uri(DISK)])?;
    // It ends well whatever became of the command.
    if said.contains("wrote 4096/4096") { Ok(()) } else { bail!("{said}") }
}

fn refused(site: &Site) -> Result<()> {
    for command in ["write 8k 4k", "write -z 8k 4k", "discard 8k 64k"] {
        let uri = site.source.uri(DISK);
        let output = Command::new("qemu-io").args(["-f", "raw", "-c", command, &uri]).output()?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        ensure!(said.contains("Operation not permitted"), "{command}: {said}");
    }
    run("qemu-io", &["-f", "raw", "-c", "read 8k 4k", &site.source.uri(DISK)]).map(drop)
}

/// `quiesced`, `draining` and so on.
fn standing(site: &Site) -> Result<String> {
    Ok(site.source.status()?["quiescence"]["state"].as_str().unwrap_or("free").to_owned())
}

fn copied(site: &Site, name: &str) -> Result<PathBuf> {
    let copied = site.plan.rig.folder.join(format!("{name}.img"));
    copy(site.raw(), &copied)?;
    Ok(copied)
}

#[test]
fn what_is_quiesced_under_load_is_what_the_bookmark_marks_and_stays_so() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut site = Plan::new(folder.path(), SIZE)?.start()?;
    let mut load = site.load(16, 1)?;
    std::thread::sleep(Duration::from_secs(2));
    let begun = std::time::Instant::now();
    let said = site.source.command(&["quiesce", "--bookmark", "move", "--yes"])?;
    println!("quiesced under load in {:?}", begun.elapsed());
    ensure!(said.contains("up to bookmark move"), "{said}");
    wait_for("the load to end by an error", LONGEST, || Ok((!load.is_running()?).then_some(())))?;
    let wanted = copied(&site, "move")?;
    site.compare_point("move", &wanted)?;
    refused(&site)?;
    let status = site.source.command(&["status"])?;
    ensure!(status.contains("quiesced, with bookmark move"), "{status}");
    site.source.command(&["quiesce", "--bookmark", "move", "--yes"]).context("it is so already")?;
    let other = site.source.command(&["quiesce", "--bookmark", "other", "--yes"]);
    ensure!(other.is_err_and(|error| error.to_string().contains("at rest already")));

    site.kill_source()?;
    refused(&site)?;
    site.wait_until_level()?;
    compare(&wanted.to_string_lossy(), "raw", &copied(&site, "after-kill")?.to_string_lossy(), "raw")?;
    ensure!(site.syncs()? == 1, "a kill of disks at rest leaves nothing uncertain");
    site.compare_point("move", &wanted)?;

    site.source.command(&["unquiesce"])?;
    written(&site)?;
    site.source.command(&["unquiesce"]).context("it is so already")?;
    site.finish()
}

/// Begins to quiesce by the command, which ends when the agent is killed.
fn quiesce(site: &Site, name: &str) -> Result<Child> {
    let mut command = Command::new(site.plan.rig.program("mt-source")?);
    command.args(["quiesce", "--yes", "--bookmark", name, "--socket"]);
    command.arg(site.plan.rig.folder.join("source/mt-source.sock"));
    Ok(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
}

#[test]
fn a_kill_during_a_quiesce_leaves_writes_free_or_everything_at_the_target() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut random = Random::from_environment()?;
    let mut site = Plan::new(folder.path(), SIZE)?.start()?;
    let mut quiesced = 0;
    for kill in 0..KILLS {
        let name = format!("move-{kill}");
        let load = site.load(16, random.number())?;
        std::thread::sleep(random.time(Duration::from_millis(500)));
        let mut client = quiesce(&site, &name)?;
        // Half of them once nothing is written any more, the others at any time.
        if kill % 2 == 0 {
            let file = site.plan.rig.folder.join("source/state/quiescence.json");
            wait_for("the disks to be at rest", LONGEST, || {
                let text = std::fs::read_to_string(&file).unwrap_or_default();
                let there = text.contains("draining") || text.contains("quiesced\"");
                Ok((there && text.contains(&name)).then_some(()))
            })?;
        } else {
            std::thread::sleep(random.time(Duration::from_millis(600)));
        }
        site.kill_source().with_context(|| format!("kill {kill}"))?;
        drop(load);
        client.wait()?;
        let state = wait_for("the quiesce to end", LONGEST, || {
            let state = standing(&site)?;
            Ok((!["beginning", "draining"].contains(&state.as_str())).then_some(state))
        })?;
        if state == "quiesced" {
            quiesced += 1;
            refused(&site)?;
            let wanted = copied(&site, &name)?;
            site.compare_point(&name, &wanted).with_context(|| format!("kill {kill}"))?;
            site.source.command(&["unquiesce"])?;
        }
        written(&site).with_context(|| format!("kill {kill}, {state}"))?;
        site.wait_until_level()?;
    }
    println!("{quiesced} of {KILLS} went on to be quiesced");
    ensure!(quiesced >= KILLS / 2, "those that were killed at rest go on");
    site.finish()
}
