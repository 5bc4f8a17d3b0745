//! What `systemctl enable --now UNIT` does, on a machine without systemd: the file says what to start, and as whom.

use crate::Machine;
use anyhow::{Context, Result, bail, ensure};
use rig::Process;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};

/// Longer than a start takes.
const START_LIMIT: Duration = Duration::from_secs(120);

/// A unit that runs. Dropping it kills it.
pub struct Unit {
    /// Its main process.
    pub process: Process,
}

impl Unit {
    /// Starts a unit that lies in `/etc/systemd/system`, and waits until it says that it is ready.
    pub fn start(machine: &Machine, name: &str) -> Result<Unit> {
        let file = format!("/etc/systemd/system/{name}.service");
        let text = std::fs::read_to_string(machine.path(&file))
            .with_context(|| format!("{}: {file} cannot be read", machine.name()))?;
        ensure!(text.contains("\n[Install]\nWantedBy=multi-user.target\n"), "{name} cannot be enabled");
        for before in values(&text, "ExecStartPre") {
            machine.run(before)?;
        }
        let owner = values(&text, "User").next().unwrap_or("root");
        for folder in values(&text, "RuntimeDirectory") {
            machine.run(&format!("install -d -o {owner} /run/{folder}"))?;
        }
        let start = values(&text, "ExecStart").next().with_context(|| format!("{name} starts nothing"))?;
        let notices = Notices::bind(machine, name)?;
        let mut command = service(machine, &text, start);
        command.env("NOTIFY_SOCKET", &notices.name);
        for variable in values(&text, "Environment") {
            let (name, value) = variable.split_once('=').context("a variable has a value")?;
            command.env(name, value);
        }
        let mut process = Process::start(command, &machine.file(&format!("{name}.log")))?;
        ensure!(values(&text, "Type").eq(["notify"]), "{name} does not say when it is ready");
        notices.wait(&mut process)?;
        Ok(Unit { process })
    }
}

/// The program, as the user of the unit, with the capabilities that this is to keep.
fn service(machine: &Machine, text: &str, start: &str) -> Command {
    let words = start.split_whitespace();
    let Some(user) = values(text, "User").next() else {
        let mut words = words;
        let mut command = machine.command(words.next().unwrap_or_default());
        command.args(words);
        return command;
    };
    let mut command = machine.command("setpriv");
    command.arg(format!("--reuid={user}"));
    command.args(values(text, "Group").map(|group| format!("--regid={group}")));
    command.arg("--clear-groups");
    for capability in values(text, "AmbientCapabilities") {
        let capability = capability.trim_start_matches("CAP_").to_lowercase();
        command.arg(format!("--inh-caps=+{capability}")).arg(format!("--ambient-caps=+{capability}"));
    }
    command.arg("--").args(words);
    command
}

/// What a unit says of a key.
fn values<'a>(text: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines().filter_map(move |line| line.strip_prefix(key)?.strip_prefix('='))
}

/// Where a service tells how it is.
struct Notices {
    name: String,
    socket: UnixDatagram,
}

impl Notices {
    fn bind(machine: &Machine, unit: &str) -> Result<Notices> {
        let name = format!("/run/{unit}.notices");
        let path = machine.path(&name);
        // That of the same unit before.
        let _ = std::fs::remove_file(&path);
        let socket =
            UnixDatagram::bind(&path).with_context(|| format!("cannot listen at {}", path.display()))?;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666))?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        Ok(Notices { name, socket })
    }

    fn wait(&self, process: &mut Process) -> Result<()> {
        let (start, mut buffer) = (Instant::now(), [0; 512]);
        while start.elapsed() < START_LIMIT {
            process.check_running()?;
            let Ok(length) = self.socket.recv(&mut buffer) else { continue };
            if String::from_utf8_lossy(&buffer[..length]).lines().any(|line| line == "READY=1") {
                return Ok(());
            }
        }
        bail!(
            "{} did not come in {} s; its log ends with:\n{}",
            self.name,
            START_LIMIT.as_secs(),
            process.log_tail()
        )
    }
}
