//! Failovers of all kinds.

use super::Trial;
use crate::{Bounds, Layout, Machine};
use anyhow::{Context, Result};
use chaos::LONGEST;
use control_api::TestFailover;
use rig::tools::{copy_of_held, run};
use rig::{TargetDisk, wait_for};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const ITEM: &str = "web01";

impl Trial {
    /// Several at once, while replication and the database go on.
    pub(super) fn test_failovers(&mut self) -> Result<()> {
        let mut chosen = vec![self.some_point(true)?, self.some_point(false)?];
        chosen.append(&mut self.after_syncs);
        let mut running = Vec::new();
        for remembered in &chosen {
            let words = ["test-failover", "start", ITEM, "--json", "--point", &remembered.selector];
            let started: TestFailover = serde_json::from_str(&self.site.target.mtctl(&words)?)?;
            running.push(started);
        }
        for (remembered, test) in chosen.iter().zip(running) {
            let bounds = remembered.bounds(&test.point)?;
            let exports: Vec<Vec<String>> =
                test.exports.iter().map(|export| vec![export.uri.clone()]).collect();
            let folder = self.folder.join(format!("test-{}", test.id));
            let machine = boot(&folder, self.layout, &exports, remembered.at_rest)?;
            self.judge(&machine, bounds, &format!("test failover to {}", remembered.selector))?;
            drop(machine);
            self.site.target.mtctl(&["test-failover", "stop", &test.id.to_string()])?;
        }
        self.ensure_work_goes_on()
    }

    /// The machine is not even stopped before: what it had committed when its disks came to rest is there, all of it.
    pub(super) fn planned_failover(&mut self) -> Result<()> {
        self.site.wait_until_level()?;
        let begun = Instant::now();
        self.bookmark_by(&["quiesce", "--bookmark", "planned", "--yes"], "planned", true)?;
        let everything = Bounds::at(self.ledger.clock().now());
        self.fail_over("latest")?;
        let machine = self.boot_copy("planned", true)?;
        self.note(&format!("planned failover, running after {:.2} s", begun.elapsed().as_secs_f64()));
        self.judge(&machine, everything, "planned failover")?;
        drop(machine);
        self.site.target.mtctl(&["cancel-failover", ITEM])?;
        self.power_off();
        self.site.source.command(&["unquiesce"])?;
        self.power_on()?;
        self.site.drain().context("after a failover that was cancelled")
    }

    /// The source is lost for good.
    pub(super) fn unplanned_failover(&mut self) -> Result<()> {
        std::thread::sleep(self.random.time(Duration::from_secs(2)));
        self.site.source.process().kill()?;
        let lost = self.ledger.clock().now();
        self.power_off();
        let newest = self.listed(&[])?.into_iter().next().context("there is no point")?;
        let mut chosen = [self.latest_at_rest()?, self.some_point(false)?];
        if self.random.below(2) == 0 {
            chosen.reverse();
        }
        for (number, remembered) in chosen.iter().enumerate() {
            let bounds = remembered.bounds(&self.point_of(remembered)?)?;
            self.fail_over(&remembered.selector)?;
            let machine = self.boot_copy(&format!("point-{number}"), remembered.at_rest)?;
            self.judge(&machine, bounds, &format!("failover to {}", remembered.selector))?;
        }
        self.come_home(Bounds { all_before: newest.source_time, none_after: lost })
    }

    /// To the newest point, committed, on the VMDKs themselves.
    fn come_home(&mut self, bounds: Bounds) -> Result<()> {
        let begun = Instant::now();
        self.fail_over("latest")?;
        self.site.target.mtctl(&["commit", ITEM, "--yes"])?;
        let disks = self.site.plan.target.disks.iter().map(|disk| disk.path.clone()).collect::<Vec<_>>();
        let exports: Vec<_> = disks.iter().map(|disk| image_export(disk)).collect();
        let machine = Machine::boot(&self.folder.join("home"), self.layout, &exports)?;
        self.outcome.rto = begun.elapsed();
        let newest = self.judge(&machine, bounds, "failover to latest")?;
        self.outcome.rpo = Duration::from_nanos(bounds.none_after.saturating_sub(newest));
        drop(machine);
        disks.iter().try_for_each(|disk| check_image(disk))
    }

    fn fail_over(&mut self, point: &str) -> Result<()> {
        let begun = Instant::now();
        self.site.target.mtctl(&["failover", ITEM, "--point", point, "--yes"])?;
        self.outcome.commands.push(begun.elapsed());
        Ok(())
    }

    /// A machine on copies of the replicas, which the master target holds.
    fn boot_copy(&self, name: &str, at_rest: bool) -> Result<Machine> {
        let folder = self.folder.join(name);
        let copy = |disk: &TargetDisk| copy_of_held(&disk.path, &folder.join("copies"));
        let copies: Vec<PathBuf> = self.site.plan.target.disks.iter().map(copy).collect::<Result<_>>()?;
        let exports: Vec<_> = copies.iter().map(|copy| image_export(copy)).collect();
        boot(&folder, self.layout, &exports, at_rest)
    }
}

fn boot(folder: &Path, layout: Layout, exports: &[Vec<String>], at_rest: bool) -> Result<Machine> {
    if at_rest {
        Machine::boot_at_rest(folder, layout, exports)
    } else {
        Machine::boot(folder, layout, exports)
    }
}

/// How nbdfuse reaches what is in a VMDK.
fn image_export(image: &Path) -> Vec<String> {
    let image = image.to_string_lossy();
    ["[", "qemu-nbd", "--format=vmdk", &image, "]"].map(str::to_owned).into()
}

fn check_image(image: &Path) -> Result<()> {
    // qemu-nbd ends a moment after its client.
    wait_for("the VMDK to be free", LONGEST, || {
        Ok(run("qemu-img", &["check", "-q", "-f", "vmdk", &image.to_string_lossy()]).ok())
    })
    .map(drop)
}
