//! A source agent that is told where to replicate to while it runs, and two master targets.

use anyhow::{Context, Result, ensure};
use chaos::{DISK, LONGEST, Load, Plan, free_port, programs};
use control_api::ItemState;
use rig::tools::{compare, copy_of_held};
use rig::{Identity, Rig, Source, Target, TargetOptions, wait_for};
use std::path::{Path, PathBuf};

const SIZE: u64 = 48 << 20;

/// The agent's side, and the first master target; a second one has the same authority and another name.
struct Sites {
    plan: Plan,
    source: Source,
}

struct Home {
    rig: Rig,
    options: TargetOptions,
    target: Target,
}

impl Home {
    fn start(rig: Rig, options: TargetOptions) -> Result<Home> {
        let target = Target::start(&rig, &options)?;
        Ok(Home { rig, options, target })
    }

    fn at(&self) -> [String; 6] {
        let port = format!("127.0.0.1:{}", self.options.port);
        ["--item", &self.rig.item, "--target", &port, "--server-name", &self.rig.target.name]
            .map(str::to_owned)
    }

    /// Waits until it has everything, and compares its replica with the source, of which nothing is written meanwhile.
    fn compare(&mut self, source: &Source, raw: &Path) -> Result<()> {
        let newest = source.newest_sequence()?;
        wait_for("the master target to have everything", LONGEST, || {
            let level = source.status()?["state"] == "level" && source.durable_sequence()? >= newest;
            Ok((level && self.target.item()?.state == ItemState::Protected).then_some(()))
        })
        .with_context(|| format!("the source agent says {:?}", source.status()))?;
        let into = self.rig.folder.join("copy");
        let replica = copy_of_held(&self.options.disks[0].path, &into)?;
        let raw = copy_of_held(raw, &into)?;
        compare(&replica.to_string_lossy(), "vmdk", &raw.to_string_lossy(), "raw")
    }

    fn syncs(&self) -> Result<usize> {
        let log = std::fs::read_to_string(self.rig.folder.join("target/mtd.log"))?;
        Ok(log.matches("sync started").count())
    }
}

fn first_home(plan: &Plan) -> Result<Home> {
    let mut rig = Rig::new(&plan.rig.folder.join("first"), programs()?)?;
    (rig.target, rig.source) = (plan.rig.target.clone(), plan.rig.source.clone());
    Home::start(rig, plan.target.clone())
}

fn second_home(plan: &Plan) -> Result<Home> {
    let name = "other-target.example";
    let certificates = &plan.rig.certificates;
    certificates.issue(name)?;
    let mut rig = Rig::new(&plan.rig.folder.join("second"), programs()?)?;
    let (certificate, key) = (certificates.certificate(name), certificates.key(name));
    rig.target = Identity { name: name.into(), certificate, key, ca: certificates.ca() };
    rig.source = plan.rig.source.clone();
    let mut options = TargetOptions { port: free_port()?, ..plan.target.clone() };
    options.disks[0].path = rig.folder.join("replica.vmdk");
    Home::start(rig, options)
}

impl Sites {
    fn start(folder: &Path) -> Result<Sites> {
        let plan = Plan::new(folder, SIZE)?;
        let source = Source::start_unassigned(&plan.rig, &plan.source)?;
        Ok(Sites { plan, source })
    }

    fn raw(&self) -> PathBuf {
        self.plan.source.disks[0].1.clone()
    }

    /// A load that has been writing for a moment, and goes on.
    fn load(&self, seed: u64) -> Result<Load> {
        let load = Load::start(&self.source.uri(DISK), 0..SIZE, 16, seed, &self.plan.rig.folder)?;
        std::thread::sleep(std::time::Duration::from_millis(1500));
        Ok(load)
    }

    /// Has a load write for a moment, and waits until no write is under way.
    fn write(&self, seed: u64) -> Result<()> {
        self.load(seed)?.stop()
    }

    fn replicate(&self, home: &Home) -> Result<String> {
        let place = home.at();
        let words: Vec<&str> = ["replicate"].into_iter().chain(place.iter().map(String::as_str)).collect();
        self.source.command(&words)
    }

    fn kill(&mut self) -> Result<()> {
        self.source.process().kill()?;
        self.source = Source::start_unassigned(&self.plan.rig, &self.plan.source)?;
        Ok(())
    }

    fn is_assigned(&self) -> Result<bool> {
        Ok(self.source.status()?["state"] != "not-assigned")
    }
}

/// Back at a master target that has an old state of the item, what was written meanwhile is found, though it was never
/// numbered: the agent was told to stop before.
#[test]
fn an_agent_is_assigned_moved_and_stopped_under_load() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut sites = Sites::start(folder.path())?;
    ensure!(!sites.is_assigned()?, "{:?}", sites.source.status()?);
    sites.write(1)?;
    let (mut first, mut second) = (first_home(&sites.plan)?, second_home(&sites.plan)?);
    let raw = sites.raw();

    let load = sites.load(2)?;
    let said = sites.replicate(&first)?;
    ensure!(said.contains("has accepted web01"), "{said}");
    load.stop()?;
    first.compare(&sites.source, &raw)?;
    sites.replicate(&first).context("being at it already is fine")?;
    ensure!(first.syncs()? == 1, "nothing was to be compared");

    // What it was assigned is taken up after a kill.
    sites.kill()?;
    sites.write(3)?;
    first.compare(&sites.source, &raw)?;

    let load = sites.load(4)?;
    sites.replicate(&second)?;
    load.stop()?;
    second.compare(&sites.source, &raw)?;
    ensure!(first.target.item()?.state != ItemState::Fenced);

    sites.source.command(&["stop-replicating"])?;
    ensure!(!sites.is_assigned()?);
    sites.kill()?;
    ensure!(!sites.is_assigned()?, "what was forgotten stays so");
    sites.write(5)?;
    sites.replicate(&first)?;
    first.compare(&sites.source, &raw)
}

#[test]
fn a_target_that_stands_in_the_file_stays() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let plan = Plan::new(folder.path(), SIZE)?;
    let mut first = first_home(&plan)?;
    let source = Source::start(&plan.rig, &plan.source)?;
    let refused = |words: &[&str]| -> Result<()> {
        let said = source.command(words).err().context("it was not refused")?.to_string();
        ensure!(said.contains("its target stands in mt-source.toml"), "{said}");
        Ok(())
    };
    refused(&["replicate", "--item", "web02", "--target", "127.0.0.1:1"])?;
    refused(&["stop-replicating"])?;
    first.compare(&source, &plan.source.disks[0].1)
}
