//! The virtual-machine laboratory: scripts that run inside a guest which looks like a master target on VMware.
//!
//! Disks that appear and vanish, two paths to one disk, udev, multipathd and LVM that reach for whatever comes: these
//! exist only in a whole system. So each scenario gets one, booted from a throw-away layer over an image that is built
//! once (`guest`), with the packages as they are delivered (`payload`, `installed`). What the scenario's script needs is declared in
//! its header (`scenario`), which decides the machine (`machine`). While the script runs in the guest, it can ask the
//! world outside to change its disks or to cut its power (`protocol`, `host`). `run` is one such run, and `report` what
//! is said of it. How to write a scenario is told in `tests/vm/README.md`.

mod guest;
mod host;
mod installed;
mod kernel;
mod lines;
mod machine;
mod payload;
mod protocol;
mod qmp;
mod report;
mod run;
mod scenario;

use crate::command::{target, workspace};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use machine::Files;
use report::Outcome;
use run::Mode;
use scenario::Scenario;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

#[derive(Args)]
pub(crate) struct Options {
    /// Scenarios; all without any.
    scenarios: Vec<String>,
    /// Keep the disks of the runs; with --shell, enter a run that was kept.
    #[arg(long)]
    keep: bool,
    /// Boot the machine of one scenario, with a shell on the console instead of its script.
    #[arg(long, conflicts_with = "list")]
    shell: bool,
    /// List the scenarios.
    #[arg(long)]
    list: bool,
    /// How many machines run at the same time.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    jobs: u8,
}

/// What all runs have in common.
struct Laboratory {
    cache: PathBuf,
    image: PathBuf,
    payload: PathBuf,
    /// The image with the packages.
    installed: PathBuf,
    keep: bool,
}

impl Options {
    /// Every scenario that there is.
    pub(crate) fn all() -> Options {
        Options { scenarios: Vec::new(), keep: false, shell: false, list: false, jobs: 2 }
    }
}

/// Runs the scenarios; one that fails, or cannot run, is an error.
pub(crate) fn run(options: &Options) -> Result<()> {
    let scenarios = chosen(&options.scenarios)?;
    if options.list {
        for scenario in &scenarios {
            println!("{:20} {}", scenario.name, scenario.about);
        }
        return Ok(());
    }
    let cache = target().join("vm");
    fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    let _lock = lock(&cache)?;
    let image = guest::image(&cache)?;
    let payload = payload::payload(&cache, &target())?;
    let installed = installed::image(&image.join(guest::ROOT), &payload.join(payload::PACKAGES), &cache)?;
    let laboratory = Laboratory { image, payload, installed, keep: options.keep, cache };
    if options.shell {
        let [scenario] = scenarios.as_slice() else { bail!("--shell needs the name of one scenario") };
        return laboratory.shell(scenario);
    }
    let outcomes = laboratory.run_all(&scenarios, options.jobs);
    print!("{}", report::table(&outcomes));
    let failed = outcomes.iter().filter(|one| one.failure.is_some()).count();
    ensure!(failed == 0, "{failed} of {} scenarios failed", outcomes.len());
    Ok(())
}

fn chosen(names: &[String]) -> Result<Vec<Scenario>> {
    let mut scenarios = scenario::read_all(&workspace().join("tests/vm/scenarios"))?;
    let known: Vec<&str> = scenarios.iter().map(|one| one.name.as_str()).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
        bail!("there is no scenario {unknown}; there are {}", known.join(", "));
    }
    scenarios.retain(|one| names.is_empty() || names.contains(&one.name));
    Ok(scenarios)
}

/// Runs of one target folder would get into each other's way.
fn lock(cache: &Path) -> Result<File> {
    let file = File::create(cache.join("lock")).context("cannot create the laboratory's lock")?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            println!("waiting for another vm-test with the same target folder");
            file.lock().context("cannot lock the laboratory")?;
        }
        Err(TryLockError::Error(error)) => return Err(error).context("cannot lock the laboratory"),
    }
    Ok(file)
}

impl Laboratory {
    fn run_all(&self, scenarios: &[Scenario], jobs: u8) -> Vec<Outcome> {
        let waiting = Mutex::new(scenarios.iter());
        let finished = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..jobs {
                scope.spawn(|| {
                    loop {
                        let next = waiting.lock().expect("no panic while it is held").next();
                        let Some(scenario) = next else { break };
                        let outcome = self.run_one(scenario);
                        outcome.say();
                        finished.lock().expect("no panic while it is held").push(outcome);
                    }
                });
            }
        });
        let mut outcomes = finished.into_inner().expect("no panic while it is held");
        outcomes.sort_by(|one, other| one.name.cmp(&other.name));
        outcomes
    }

    fn run_one(&self, scenario: &Scenario) -> Outcome {
        let begun = Instant::now();
        let files = self.files(scenario);
        let result = run::prepare(scenario, &files).and_then(|()| run::run(scenario, &files, Mode::Script));
        let result = result.and(self.clear(scenario, &files));
        Outcome {
            name: scenario.name.clone(),
            failure: result.err().map(|error| format!("{error:#}")),
            time: begun.elapsed(),
            results: files.results,
        }
    }

    fn shell(&self, scenario: &Scenario) -> Result<()> {
        let files = self.files(scenario);
        if !(self.keep && files.root_disk().exists()) {
            run::prepare(scenario, &files)?;
        }
        println!("the shell is on the machine's console; exit ends the machine, and so does Ctrl-A X");
        run::run(scenario, &files, Mode::Shell)?;
        self.clear(scenario, &files)
    }

    /// Removes the disks, or says how to get at them.
    fn clear(&self, scenario: &Scenario, files: &Files) -> Result<()> {
        if self.keep {
            println!("{0}: kept; enter it with: cargo xtask vm-test --shell --keep {0}", scenario.name);
            return Ok(());
        }
        fs::remove_dir_all(&files.disks).with_context(|| format!("cannot remove {}", files.disks.display()))
    }

    fn files(&self, scenario: &Scenario) -> Files {
        let sockets = format!("mt-vm-{}-{}", std::process::id(), scenario.name);
        let root = if scenario.packages { self.installed.clone() } else { self.image.join(guest::ROOT) };
        Files {
            image: self.image.clone(),
            root,
            payload: self.payload.clone(),
            results: self.cache.join("runs").join(&scenario.name),
            disks: self.cache.join("disks").join(&scenario.name),
            sockets: std::env::temp_dir().join(sockets),
        }
    }
}
