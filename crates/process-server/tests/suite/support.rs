//! A running process server.

use anyhow::{Context, Result, bail};
use process_server::status::Status;
use rig::{Process, wait_for};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

/// Longer than anything here takes, on a busy machine too.
pub(crate) const LONGEST: Duration = Duration::from_secs(120);

/// A running `mt-process-server relay`.
pub(crate) struct ProcessServer {
    pub(crate) process: Process,
    pub(crate) port: u16,
    folder: PathBuf,
}

impl ProcessServer {
    /// Starts one that relays to these, name and port each, with more text at the beginning of its configuration.
    pub(crate) fn start(folder: &Path, more: &str, targets: &[(&str, u16)]) -> Result<ProcessServer> {
        std::fs::create_dir_all(folder.join("state"))?;
        let (state, socket) = (folder.join("state"), folder.join("ps.sock"));
        let mut text = format!("state_folder = {state:?}\nsocket = {socket:?}\n{more}");
        for (name, port) in targets {
            text += &format!("[[master_targets]]\nname = {name:?}\naddress = \"127.0.0.1:{port}\"\n");
        }
        let listen = |port: u16| {
            let text = format!("listen = \"127.0.0.1:{port}\"\n{text}");
            std::fs::write(folder.join("process-server.toml"), text)
        };
        listen(0)?;
        let mut server = ProcessServer { process: begin(folder)?, port: 0, folder: folder.to_owned() };
        server.wait_until_it_answers()?;
        let address: SocketAddr = server.status()?.listen.parse()?;
        server.port = address.port();
        // Where it is found when it is started again.
        listen(server.port)?;
        Ok(server)
    }

    /// Starts it again, after it has ended.
    pub(crate) fn start_again(&mut self) -> Result<()> {
        self.process = begin(&self.folder)?;
        self.wait_until_it_answers()
    }

    fn wait_until_it_answers(&mut self) -> Result<()> {
        wait_for("mt-process-server to answer", LONGEST, || {
            self.process.check_running()?;
            Ok(self.status().ok())
        })?;
        Ok(())
    }

    /// Runs `mt-process-server` with these words and its configuration.
    pub(crate) fn command(&self, words: &[&str]) -> Result<Output> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mt-process-server"));
        command.args(words).arg("--config").arg(self.folder.join("process-server.toml"));
        command.output().context("cannot run mt-process-server")
    }

    pub(crate) fn status(&self) -> Result<Status> {
        let output = self.command(&["status", "--json"])?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Waits until its status is like this.
    pub(crate) fn wait_for(&self, what: &str, is_so: impl Fn(&Status) -> bool) -> Result<Status> {
        wait_for(what, LONGEST, || Ok(Some(self.status()?).filter(&is_so)))
    }
}

fn begin(folder: &Path) -> Result<Process> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mt-process-server"));
    command.arg("relay").arg("--config").arg(folder.join("process-server.toml"));
    Process::start(command, &folder.join("mt-process-server.log"))
}
