//! A running PostgreSQL.

use anyhow::{Context, Result, ensure};
use chaos::LONGEST;
use nix::sys::signal::Signal;
use rig::tools::run;
use rig::{Process, wait_for};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// It refuses to be run by root.
const USER: &str = "postgres";
/// Little memory, so that pages go to the disk all the time; small and short logs, so that there are many checkpoints.
const SETTINGS: [&str; 11] = [
    "listen_addresses=",
    "shared_buffers=4MB",
    "max_wal_size=8MB",
    "min_wal_size=4MB",
    "checkpoint_timeout=30s",
    "bgwriter_delay=20ms",
    "bgwriter_lru_maxpages=1000",
    "wal_writer_delay=20ms",
    "autovacuum_naptime=2s",
    "max_connections=40",
    "log_checkpoints=off",
];

/// A server that listens at a socket of its own. Dropping it ends it at once, as a crash does.
pub(crate) struct Postgres {
    process: Process,
    socket: PathBuf,
}

/// Where Debian has the programs of the newest version that is installed.
fn programs() -> Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").context("PostgreSQL is not installed")?;
    let folders = versions.filter_map(|entry| Some(entry.ok()?.path().join("bin")));
    folders
        .filter(|folder| folder.join("postgres").exists())
        .max()
        .context("no server of PostgreSQL; `cargo xtask setup` installs it")
}

/// A program of the server, run by its own user.
fn server_program(name: &str) -> Result<Command> {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", USER, "--regid", USER, "--init-groups"]).arg(programs()?.join(name));
    command.env("LC_ALL", "C").current_dir("/");
    Ok(command)
}

/// A folder that the server may write to.
fn own_folder(path: &Path) -> Result<()> {
    run("install", &["-d", "-o", USER, "-g", USER, "-m", "700", &path.to_string_lossy()]).map(drop)
}

impl Postgres {
    /// Makes a cluster in the folder `data`, with its write-ahead log in `log` if it is to be elsewhere.
    pub(crate) fn initialize(data: &Path, log: Option<&Path>) -> Result<()> {
        let mut command = server_program("initdb")?;
        command.args(["--auth=trust", "--data-checksums", "--wal-segsize=1", "--encoding=UTF8"]);
        command.arg("--locale=C").arg("--pgdata").arg(data);
        own_folder(data)?;
        if let Some(log) = log {
            own_folder(log)?;
            command.arg("--waldir").arg(log);
        }
        let output = command.output().context("cannot run initdb")?;
        ensure!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Starts the server, and waits until it answers. Its socket and its log are put into `folder`.
    pub(crate) fn start(data: &Path, log: Option<&Path>, folder: &Path) -> Result<Postgres> {
        forget_other_machine(data, log)?;
        let socket = folder.join("postgres");
        own_folder(&socket)?;
        let mut command = server_program("postgres")?;
        command.arg("-D").arg(data).arg("-c").arg(format!("unix_socket_directories={}", socket.display()));
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        let process = Process::start(command, &folder.join("postgres.log"))?;
        let mut server = Postgres { process, socket };
        wait_for("PostgreSQL to accept connections", LONGEST, || {
            server.process.check_running()?;
            Ok(server.sql("select 1").ok())
        })?;
        Ok(server)
    }

    /// A client program that connects to this server's database.
    pub(crate) fn client(&self, program: &str) -> Result<Command> {
        let mut command = Command::new(programs()?.join(program));
        command.arg("--host").arg(&self.socket).args(["--username", USER, "--port", "5432"]);
        Ok(command)
    }

    /// `psql` that reads commands from its standard input, prints rows and nothing else, and ends with the first error.
    pub(crate) fn psql(&self) -> Result<Command> {
        let mut command = self.client("psql")?;
        command.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--field-separator= "]);
        command.args(["--set=ON_ERROR_STOP=1", "--dbname=postgres"]);
        Ok(command)
    }

    /// What a statement gives.
    pub(crate) fn sql(&self, statement: &str) -> Result<String> {
        finish(self.psql()?.arg("--command").arg(statement))
    }

    /// The end of what it says.
    pub(crate) fn log_tail(&self) -> String {
        self.process.log_tail()
    }

    fn end(&mut self) -> Result<()> {
        self.process.signal(Signal::SIGQUIT)?;
        wait_for("PostgreSQL to end", Duration::from_secs(20), || {
            Ok(self.process.check_running().is_err().then_some(()))
        })
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.process.check_running().is_ok()
            && let Err(error) = self.end()
        {
            eprintln!("PostgreSQL is killed: {error}");
        }
    }
}

/// Runs a client program to its end; its failure is an error with what it said. Gives what it printed.
pub(crate) fn finish(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    let said = [output.stdout.as_slice(), &output.stderr].concat();
    ensure!(
        output.status.success(),
        "{} ended with {}: {}",
        command.get_program().to_string_lossy(),
        output.status,
        String::from_utf8_lossy(&said).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What would be true on the machine that the data come from, but not beside it: the number of a process that runs here
/// too, and where the other file system is mounted.
fn forget_other_machine(data: &Path, log: Option<&Path>) -> Result<()> {
    let lock = data.join("postmaster.pid");
    if lock.exists() {
        std::fs::remove_file(lock)?;
    }
    let Some(log) = log else { return Ok(()) };
    let link = data.join("pg_wal");
    if std::fs::read_link(&link)? != log {
        std::fs::remove_file(&link)?;
        symlink(log, &link)?;
    }
    Ok(())
}
