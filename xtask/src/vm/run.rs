//! One run of one scenario: its disks, its machine, and attending to it until its script has ended.

use super::host::Host;
use super::lines::Lines;
use super::machine::{Files, command};
use super::protocol::{Said, Wish, answer, parse};
use super::qmp::Qmp;
use super::scenario::Scenario;
use crate::command::{output, shown};
use anyhow::{Context, Result, bail, ensure};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Until QEMU has made its sockets.
const START_LIMIT: Duration = Duration::from_secs(30);
/// From power-on until the guest says hello. It takes half a minute, and several on a machine that is busy.
const BOOT_LIMIT: Duration = Duration::from_secs(300);
/// The guest stops a script that takes too long, and still collects its logs; then it is stopped itself.
const GRACE: Duration = Duration::from_secs(60);
/// How often to look whether QEMU is still there.
const GLANCE: Duration = Duration::from_secs(1);
/// What `timeout` exits with when it had to end the script.
const TIMED_OUT: i32 = 124;

/// How to run it.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Mode {
    Script,
    /// A shell on the console instead of the script.
    Shell,
}

/// Runs the scenario once; `Err` is why it failed.
pub(super) fn run(scenario: &Scenario, files: &Files, mode: Mode) -> Result<()> {
    fs::create_dir_all(&files.sockets).context("cannot make a folder for sockets")?;
    let outcome = start(scenario, files, mode).and_then(|mut child| {
        let outcome = attend(scenario, files, mode, &mut child);
        stop(&mut child)?;
        outcome
    });
    fs::remove_dir_all(&files.sockets).context("cannot remove the folder for sockets")?;
    outcome
}

/// Makes the run's folders and fresh disks.
pub(super) fn prepare(scenario: &Scenario, files: &Files) -> Result<()> {
    for folder in [&files.results, &files.disks] {
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let base = files.image.join("base.img");
    let mut create = Command::new("qemu-img");
    create.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]).arg(base).arg(files.root_disk());
    output(&mut create)?;
    for disk in &scenario.machine.disks {
        let file = files.disk(&disk.name);
        let made = File::create(&file).and_then(|file| file.set_len(disk.size));
        made.with_context(|| format!("cannot make {}", file.display()))?;
    }
    Ok(())
}

fn start(scenario: &Scenario, files: &Files, mode: Mode) -> Result<Child> {
    let log = File::create(files.results.join("qemu.log")).context("cannot create qemu.log")?;
    let mut command = command(&scenario.machine, files, mode == Mode::Shell);
    command.stderr(log);
    if mode == Mode::Script {
        command.stdin(Stdio::null()).stdout(Stdio::null());
    }
    command.spawn().with_context(|| format!("cannot start {}", shown(&command)))
}

fn attend(scenario: &Scenario, files: &Files, mode: Mode, child: &mut Child) -> Result<()> {
    let (qmp, lines) = connect(files, child)?;
    let host = Host::new(&scenario.machine, files, qmp);
    let deadline = Instant::now() + BOOT_LIMIT;
    let mut attendant = Attendant { scenario, mode, host, lines, deadline, boots: 0, boots_next: true };
    let status = attendant.until_the_end(child, &files.results);
    // It may be gone already, and is killed when it does not go.
    let _ = attendant.host.quit();
    match status? {
        0 if mode == Mode::Script && attendant.boots < scenario.boots => {
            bail!("the script ended at boot {} of {}", attendant.boots, scenario.boots)
        }
        0 => Ok(()),
        TIMED_OUT => bail!("it took more than {} s", scenario.limit.as_secs()),
        status => bail!("the script failed with status {status}"),
    }
}

fn connect(files: &Files, child: &mut Child) -> Result<(Qmp, Lines)> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().context("cannot look after QEMU")? {
            return Err(ended(status, &files.results));
        }
        if files.qmp().exists() && files.channel().exists() {
            return Ok((Qmp::connect(&files.qmp())?, Lines::connect(&files.channel())?));
        }
        ensure!(begun.elapsed() < START_LIMIT, "QEMU does not start");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn ended(status: ExitStatus, results: &Path) -> anyhow::Error {
    anyhow::anyhow!("QEMU ended by itself ({status}): {}", last_lines(&results.join("qemu.log"), 5))
}

/// Waits until it is gone; kills it when it takes too long.
fn stop(child: &mut Child) -> Result<()> {
    let begun = Instant::now();
    while child.try_wait().context("cannot look after QEMU")?.is_none() {
        if begun.elapsed() > Duration::from_secs(10) {
            child.kill().context("cannot kill QEMU")?;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Talks with the guest.
struct Attendant<'a> {
    scenario: &'a Scenario,
    mode: Mode,
    host: Host<'a>,
    lines: Lines,
    /// Of what it does now: booting, or running the script.
    deadline: Instant,
    boots: u32,
    /// Whether the next thing to hear is that the guest has booted.
    boots_next: bool,
}

impl Attendant<'_> {
    /// The status that the guest ends with.
    fn until_the_end(&mut self, child: &mut Child, results: &Path) -> Result<i32> {
        loop {
            let line = match self.lines.receive(GLANCE) {
                Ok(Some(line)) => line,
                Ok(None) if self.is_overdue() => {
                    let console = last_lines(&results.join("console.log"), 20);
                    bail!("the guest hangs; the end of its console:\n{console}");
                }
                Ok(None) => continue,
                Err(_) => return Err(ended(child.wait().context("cannot wait for QEMU")?, results)),
            };
            match parse(&line) {
                Said::Hello => self.greet()?,
                Said::Call { id, wish } => self.serve(&id, wish)?,
                Said::End { status } => return Ok(status),
                Said::Noise => {}
            }
        }
    }

    fn is_overdue(&self) -> bool {
        self.mode == Mode::Script && Instant::now() > self.deadline
    }

    fn greet(&mut self) -> Result<()> {
        ensure!(self.boots_next || self.mode == Mode::Shell, "the guest rebooted by itself");
        self.boots += 1;
        self.boots_next = false;
        let limit = self.scenario.limit;
        self.deadline = Instant::now() + limit + GRACE;
        let mode = if self.mode == Mode::Shell { "shell" } else { "run" };
        self.lines.send(&format!("{mode} {} {} {}", self.boots, limit.as_secs(), self.scenario.name))
    }

    fn serve(&mut self, id: &str, wish: Result<Wish, String>) -> Result<()> {
        let wish = match wish {
            Ok(wish @ (Wish::Reboot | Wish::Crash)) => {
                self.boots_next = self.may_boot().is_ok();
                if self.boots_next {
                    self.deadline = Instant::now() + BOOT_LIMIT;
                }
                if self.boots_next && wish == Wish::Crash {
                    return self.host.reset();
                }
                self.may_boot().map(|()| wish)
            }
            Ok(wish) => Ok(wish),
            Err(error) => Err(anyhow::anyhow!(error)),
        };
        let outcome = wish.and_then(|wish| self.host.fulfil(&wish));
        self.lines.send(&answer(id, &outcome))
    }

    fn may_boot(&self) -> Result<()> {
        let boots = self.scenario.boots;
        ensure!(
            self.boots < boots || self.mode == Mode::Shell,
            "the header allows {boots} boots: add \"# boots: {}\"",
            boots + 1
        );
        Ok(())
    }
}

/// The end of a log, or of what there is of it.
pub(super) fn last_lines(file: &Path, number: usize) -> String {
    let text = fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(number)..].join("\n")
}
