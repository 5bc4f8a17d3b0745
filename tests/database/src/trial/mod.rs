//! One failback from start to finish, driven by a seed.
//!
//! The machine works on its own before there is a master target. Then: initial sync under load; faults and recovery
//! points in an order that the seed chooses; test failovers while replication goes on; a planned failover under load,
//! cancelled; the loss of the source, and the failover that people fear, to several points one after the other, and
//! committed at the newest.

mod events;
mod failover;
mod points;

use crate::work::CLIENTS;
use crate::{Bounds, Clock, Layout, Ledger, Machine, Outcome, Work, judge, ledger_of};
use anyhow::{Context, Result, ensure};
use chaos::{LONGEST, Plan, Proxy, Random, Site};
use control_api::time::Time;
use points::Remembered;
use rig::{ConfigurationServer, Rig, Source, SourceOptions, Target, TargetDisk, TargetOptions};
use rig::{free_port, wait_for};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Everything that runs, and what is known of it.
pub struct Trial {
    layout: Layout,
    random: Random,
    begun: Instant,
    folder: PathBuf,
    ledger: Arc<Ledger>,
    outcome: Outcome,
    points: Vec<Remembered>,
    after_syncs: Vec<Remembered>,
    // In the order in which they go: what works, what it works on, what that stands on.
    work: Option<Work>,
    machine: Option<Machine>,
    site: Site,
    proxy: Proxy,
    server: ConfigurationServer,
}

impl Trial {
    /// The whole story, in a new folder.
    pub fn run(folder: &Path, layout: Layout, random: Random) -> Result<Outcome> {
        let mut trial = Trial::prepare(folder, layout, random)?;
        trial.end_of_sync(0).context("initial sync under load")?;
        trial.note("level");
        trial.faults_and_points()?;
        trial.test_failovers()?;
        trial.planned_failover()?;
        trial.unplanned_failover()?;
        trial.outcome.transactions = trial.ledger.count();
        trial.outcome.took = trial.begun.elapsed();
        Ok(trial.outcome.clone())
    }

    /// A machine that works, an hour ago so to speak, and a master target that has just been told of it.
    fn prepare(folder: &Path, layout: Layout, random: Random) -> Result<Trial> {
        let begun = Instant::now();
        let programs = rig::build()?;
        let mut rig = Rig::new(folder, &programs)?;
        // The user of the database has to come through.
        std::fs::set_permissions(&rig.folder, PermissionsExt::from_mode(0o711))?;
        let server = ConfigurationServer::start(&rig)?;
        server.register_target(&mut rig, "mt01.example")?;
        server.register_source(&mut rig, "db01.example")?;
        let (folder, port) = (rig.folder.clone(), free_port()?);
        let proxy = Proxy::start(port)?;
        proxy.delay(events::SLOW);
        let (target, source) = options(&rig, layout, port, proxy.port)?;
        let agent = Source::start(&rig, &source)?;
        let exports = agent_exports(&agent, layout);
        let ledger = Arc::new(Ledger::new(Clock::start()?, CLIENTS));
        let machine = Machine::install(&folder.join("machine"), layout, &exports)?;
        let work = Work::start(machine.postgres(), &ledger, &folder.join("machine"))?;
        let (plan, daemon) = {
            let daemon = Target::start(&rig, &target)?;
            (Plan { rig, target, source, more: String::new() }, daemon)
        };
        let site = Site { plan, target: daemon, source: agent };
        let (outcome, points) = (Outcome::default(), Vec::new());
        let (work, machine) = (Some(work), Some(machine));
        Ok(Trial {
            layout,
            random,
            begun,
            folder,
            ledger,
            outcome,
            points,
            after_syncs: Vec::new(),
            work,
            machine,
            site,
            proxy,
            server,
        })
    }

    /// A line for whoever reads what a failed test has printed.
    fn note(&self, what: &str) {
        let committed = self.ledger.count();
        println!("{:7.2} s, {committed} committed: {what}", self.begun.elapsed().as_secs_f64());
    }

    /// Waits until it is seen that transactions are still being committed.
    fn ensure_work_goes_on(&self) -> Result<()> {
        let before = self.ledger.count();
        wait_for("transactions to be committed", LONGEST, || {
            let work = self.work.as_ref().context("there is work")?;
            ensure!(
                work.is_going_on(),
                "the database has gone away: {}",
                self.machine()?.postgres().log_tail()
            );
            Ok((self.ledger.count() > before + 2 * CLIENTS).then_some(()))
        })
    }

    fn machine(&self) -> Result<&Machine> {
        self.machine.as_ref().context("the machine runs")
    }

    /// The machine as a power cut leaves it: its disks have gone.
    fn power_off(&mut self) {
        self.work = None;
        self.machine = None;
    }

    /// The machine comes up again on its own disks, has lost nothing, and goes on.
    fn power_on(&mut self) -> Result<()> {
        let exports = agent_exports(&self.site.source, self.layout);
        let machine = Machine::boot(&self.folder.join("machine"), self.layout, &exports)?;
        let everything = Bounds::at(self.ledger.clock().now());
        ledger_of(machine.postgres(), &self.ledger, everything).context("at the source")?;
        self.work = Some(Work::start(machine.postgres(), &self.ledger, &self.folder.join("machine"))?);
        self.machine = Some(machine);
        self.ensure_work_goes_on()
    }

    /// Looks at a result, on disks that nbdfuse reaches so; gives when its newest transaction was committed.
    fn judge(&mut self, machine: &Machine, bounds: Bounds, what: &str) -> Result<Time> {
        let verdict = judge(machine.postgres(), &self.ledger, bounds).with_context(|| what.to_owned())?;
        self.outcome.judged += 1;
        self.note(&format!("{what}: right, with {} transactions", verdict.transactions));
        Ok(verdict.newest)
    }
}

/// Of each disk, how nbdfuse reaches what the splitter serves.
fn agent_exports(agent: &Source, layout: Layout) -> Vec<Vec<String>> {
    layout.disks().iter().map(|(id, _)| vec![agent.uri(id)]).collect()
}

fn options(rig: &Rig, layout: Layout, port: u16, near_port: u16) -> Result<(TargetOptions, SourceOptions)> {
    let (mut replicas, mut originals) = (Vec::new(), Vec::new());
    for (id, size) in layout.disks() {
        let original = rig.folder.join(format!("{id}.img"));
        std::fs::File::create(&original)?.set_len(*size)?;
        originals.push(((*id).to_owned(), original));
        replicas.push(TargetDisk {
            id: (*id).to_owned(),
            path: rig.folder.join(format!("replica-{id}.vmdk")),
            format: "monolithicSparse".into(),
            size: *size,
        });
    }
    let target = TargetOptions { port, disks: replicas };
    let more = hooks(&layout.mount_points(&rig.folder.join("machine")));
    Ok((target, SourceOptions { port: near_port, disks: originals, backlog_mib: 1024, more }))
}

/// Freezes every file system of the machine for an application-consistent bookmark.
fn hooks(mount_points: &[PathBuf]) -> String {
    let each = |verb: &str| {
        let commands: Vec<String> =
            mount_points.iter().map(|point| format!("fsfreeze --{verb} {}", point.display())).collect();
        commands.join(" && ")
    };
    format!(
        "[hooks]\npre = [\"/bin/sh\", \"-c\", {:?}]\npost = [\"/bin/sh\", \"-c\", {:?}]\n",
        each("freeze"),
        each("unfreeze")
    )
}
