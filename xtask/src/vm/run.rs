//! One run of one scenario: its disks, its machine, and attending to it until its script has ended.

use super::host::Host;
use super::lines::Lines;
use super::machine::{Attached, Files, command};
use super::protocol::{Said, Wish, answer, parse};
use super::qmp::Qmp;
use super::scenario::Scenario;
use crate::command::{output, shown};
use anyhow::{Context, Result, bail, ensure};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Until QEMU has made its sockets.
const START_LIMIT: Duration = Duration::from_secs(30);
/// From power-on until the guest says hello. It takes half a minute, and several on a machine that is busy.
const BOOT_LIMIT: Duration = Duration::from_secs(600);
/// From power-on until the kernel has found a disk. It takes 10 s, and a minute on a machine that is very busy.
const KERNEL_LIMIT: Duration = Duration::from_secs(300);
/// What the kernel writes when it finds a disk, which comes before anything of ours can run.
const DISK_FOUND: &str = "logical blocks";
/// How often an emulated machine may stop in its kernel. It is seldom: once in several hundred boots.
const STILLBORN_LIMIT: u32 = 1;
/// The guest stops a script that takes too long, and still collects its logs; then it is stopped itself.
const GRACE: Duration = Duration::from_secs(60);
/// How often to look whether QEMU is still there.
const GLANCE: Duration = Duration::from_secs(1);
/// What `timeout` exits with when it had to end the script.
const TIMED_OUT: i32 = 124;

/// The log of the guest's console, in the folder of results.
const CONSOLE: &str = "console.log";

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
    let outcome = boots(scenario, files, mode);
    fs::remove_dir_all(&files.sockets).context("cannot remove the folder for sockets")?;
    outcome
}

/// Each boot has a QEMU of its own: one that was reset takes twice as long to boot as a new one.
fn boots(scenario: &Scenario, files: &Files, mode: Mode) -> Result<()> {
    let mut attached = scenario.machine.attached_at_first();
    let (mut boot, mut stillborn) = (1, 0);
    let status = loop {
        let mut child = start(scenario, files, mode, &attached)?;
        let course = attend(scenario, files, mode, boot, &attached, &mut child);
        stop(&mut child)?;
        match course? {
            Course::Ended(status) => break status,
            Course::Stillborn if stillborn < STILLBORN_LIMIT => {
                stillborn += 1;
                println!("{}: the kernel stopped before it found a disk; powered on again", scenario.name);
                continue;
            }
            Course::Stillborn => bail!("the kernel stops before it finds a disk"),
            Course::Again(now_attached) => attached = now_attached,
        }
        boot += 1;
    };
    match status {
        0 if mode == Mode::Script && boot < scenario.boots => {
            bail!("the script ended at boot {boot} of {}", scenario.boots)
        }
        0 => Ok(()),
        TIMED_OUT => bail!("it took more than {} s", scenario.limit.as_secs()),
        status => bail!("the script failed with status {status}"),
    }
}

/// Makes the run's folders and fresh disks.
pub(super) fn prepare(scenario: &Scenario, files: &Files) -> Result<()> {
    for folder in [&files.results, &files.disks] {
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let mut create = Command::new("qemu-img");
    create.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]).arg(&files.root).arg(files.root_disk());
    output(&mut create)?;
    for disk in &scenario.machine.disks {
        let file = files.disk(&disk.name);
        let made = File::create(&file).and_then(|file| file.set_len(disk.size));
        made.with_context(|| format!("cannot make {}", file.display()))?;
    }
    Ok(())
}

fn start(scenario: &Scenario, files: &Files, mode: Mode, attached: &Attached) -> Result<Child> {
    let log = File::options().create(true).append(true).open(files.results.join("qemu.log"));
    let mut command = command(&scenario.machine, files, attached, mode == Mode::Shell);
    command.stderr(log.context("cannot open qemu.log")?);
    if mode == Mode::Script {
        command.stdin(Stdio::null()).stdout(Stdio::null());
    }
    command.spawn().with_context(|| format!("cannot start {}", shown(&command)))
}

/// How a boot ended.
enum Course {
    Ended(i32),
    /// There is to be another one, with these paths.
    Again(Attached),
    /// The kernel stopped before it found a disk. Nothing of what is tested has run by then: it is the emulator's fault.
    Stillborn,
}

fn attend(
    scenario: &Scenario,
    files: &Files,
    mode: Mode,
    boot: u32,
    attached: &Attached,
    child: &mut Child,
) -> Result<Course> {
    let (qmp, lines) = connect(files, child)?;
    let host = Host::new(&scenario.machine, files, attached.clone(), qmp);
    let now = Instant::now();
    let console = Console::from_here(&files.results);
    let (deadline, leaving) = (now + BOOT_LIMIT, None);
    let kernel = Some(now + KERNEL_LIMIT);
    let mut attendant = Attendant { scenario, mode, boot, host, lines, deadline, kernel, console, leaving };
    let outcome = attendant.until_the_end(child, &files.results);
    match attendant.leaving {
        // What QEMU has not written yet is lost with it.
        Some(Wish::Crash) => child.kill().context("cannot kill QEMU")?,
        // It may be gone already, and is killed when it does not go.
        _ => drop(attendant.host.quit()),
    }
    outcome
}

fn connect(files: &Files, child: &mut Child) -> Result<(Qmp, Lines)> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().context("cannot look after QEMU")? {
            return Err(ended(status, &files.results));
        }
        // The sockets of a boot before this one are there until QEMU makes its own.
        if let (Ok(qmp), Ok(lines)) = (Qmp::connect(&files.qmp()), Lines::connect(&files.channel())) {
            return Ok((qmp, lines));
        }
        ensure!(begun.elapsed() < START_LIMIT, "QEMU does not start");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The machine restarts only when it was asked to: a guest that resets itself ends QEMU.
fn ended(status: ExitStatus, results: &Path) -> anyhow::Error {
    let logs = ["qemu.log", CONSOLE].map(|log| last_lines(&results.join(log), 10));
    anyhow::anyhow!("the machine ended by itself ({status}); the ends of its logs:\n{}", logs.join("\n"))
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

/// Talks with the guest during one boot.
struct Attendant<'a> {
    scenario: &'a Scenario,
    mode: Mode,
    boot: u32,
    host: Host<'a>,
    lines: Lines,
    /// Of what it does now: booting, running the script or shutting down.
    deadline: Instant,
    /// When its kernel must have found a disk, until it has.
    kernel: Option<Instant>,
    console: Console,
    /// Once the script has asked for the end of this boot: how.
    leaving: Option<Wish>,
}

impl Attendant<'_> {
    fn until_the_end(&mut self, child: &mut Child, results: &Path) -> Result<Course> {
        while self.leaving != Some(Wish::Crash) {
            let line = match self.lines.receive(GLANCE) {
                Ok(Some(line)) => line,
                Ok(None) if self.is_stillborn() => return Ok(Course::Stillborn),
                Ok(None) if self.is_overdue() => {
                    let console = last_lines(&results.join(CONSOLE), 20);
                    bail!("the guest hangs; the end of its console:\n{console}");
                }
                Ok(None) => continue,
                Err(_) if self.leaving.is_some() => break,
                Err(_) => return Err(ended(child.wait().context("cannot wait for QEMU")?, results)),
            };
            match parse(&line) {
                Said::Hello => self.greet()?,
                Said::Call { id, wish } => self.serve(&id, wish)?,
                Said::End { status } => return Ok(Course::Ended(status)),
                Said::Noise => {}
            }
        }
        Ok(Course::Again(self.host.attached().clone()))
    }

    fn is_overdue(&self) -> bool {
        self.mode == Mode::Script && Instant::now() > self.deadline
    }

    fn is_stillborn(&mut self) -> bool {
        if self.kernel.is_none_or(|deadline| Instant::now() <= deadline) {
            return false;
        }
        self.kernel = None;
        !self.console.text().contains(DISK_FOUND)
    }

    fn greet(&mut self) -> Result<()> {
        self.kernel = None;
        let limit = self.scenario.limit;
        self.deadline = Instant::now() + limit + GRACE;
        let mode = if self.mode == Mode::Shell { "shell" } else { "run" };
        self.lines.send(&format!("{mode} {} {} {}", self.boot, limit.as_secs(), self.scenario.name))
    }

    fn serve(&mut self, id: &str, wish: Result<Wish, String>) -> Result<()> {
        let outcome = match wish {
            Ok(wish @ (Wish::Reboot | Wish::Crash)) => self.may_boot().map(|()| {
                self.deadline = Instant::now() + GRACE;
                self.leaving = Some(wish);
                String::new()
            }),
            Ok(wish) => self.host.fulfil(&wish),
            Err(error) => Err(anyhow::anyhow!(error)),
        };
        // A power cut is not announced.
        if self.leaving == Some(Wish::Crash) {
            return Ok(());
        }
        self.lines.send(&answer(id, &outcome))
    }

    fn may_boot(&self) -> Result<()> {
        let boots = self.scenario.boots;
        ensure!(
            self.boot < boots || self.mode == Mode::Shell,
            "the header allows {boots} boots: add \"# boots: {}\"",
            boots + 1
        );
        Ok(())
    }
}

/// What the guest's console has said in this boot: the boots of a run write one log.
struct Console {
    log: PathBuf,
    begin: usize,
}

impl Console {
    fn from_here(results: &Path) -> Console {
        let log = results.join(CONSOLE);
        let begin = fs::metadata(&log).map_or(0, |log| usize::try_from(log.len()).unwrap_or(usize::MAX));
        Console { log, begin }
    }

    fn text(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(log.get(self.begin..).unwrap_or_default()).into_owned()
    }
}

/// The end of a log, or of what there is of it.
pub(super) fn last_lines(file: &Path, number: usize) -> String {
    let text = fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(number)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn what_an_earlier_boot_has_said_is_not_of_this_one() {
        let results = tempfile::tempdir().unwrap();
        let mut log = File::options().create(true).append(true).open(results.path().join(CONSOLE)).unwrap();
        writeln!(log, "sd 0:0:0:0: [sda] 131072 512-byte {DISK_FOUND}").unwrap();
        let console = Console::from_here(results.path());
        assert!(!console.text().contains(DISK_FOUND));
        writeln!(log, "vmware: Failed to get TSC freq\nsd 0:0:0:0: [sda] 131072 512-byte {DISK_FOUND}")
            .unwrap();
        assert!(console.text().starts_with("vmware") && console.text().contains(DISK_FOUND));
    }
}
