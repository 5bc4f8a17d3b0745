//! A running source agent.

use crate::{Process, Rig, machine, wait_for};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How to run a source agent.
#[derive(Clone)]
pub struct SourceOptions {
    /// Port of the master target on the loopback interface.
    pub port: u16,
    /// Id and image of each disk; it is a VMDK when its name says so.
    pub disks: Vec<(String, PathBuf)>,
    /// MiB of changes that are kept while the target does not take them.
    pub backlog_mib: u64,
    /// More text at the end of its configuration.
    pub more: String,
}

/// A running `mt-source replicate`.
pub struct Source {
    process: Process,
    program: PathBuf,
    configuration: PathBuf,
    socket: PathBuf,
    nbd: PathBuf,
}

impl Source {
    /// Starts the agent and waits until it answers.
    pub fn start(rig: &Rig, options: &SourceOptions) -> Result<Source> {
        let place = format!(
            "item = \"{}\"\ntarget = \"127.0.0.1:{}\"\nserver_name = \"{}\"\n",
            rig.item, options.port, rig.target.name
        );
        Source::start_with(rig, options, &place)
    }

    /// The same, with nothing in its configuration that says where it replicates to: it is to be assigned.
    pub fn start_unassigned(rig: &Rig, options: &SourceOptions) -> Result<Source> {
        Source::start_with(rig, options, "")
    }

    fn start_with(rig: &Rig, options: &SourceOptions, place: &str) -> Result<Source> {
        let folder = rig.folder.join("source");
        std::fs::create_dir_all(folder.join("state"))?;
        let configuration = folder.join("mt-source.toml");
        std::fs::write(&configuration, Source::configuration(rig, options, place))?;
        let program = rig.program("mt-source")?;
        let mut command = machine::command(rig, "mt-source")?;
        command.arg("replicate").arg("--config").arg(&configuration);
        let process = Process::start(command, &folder.join("mt-source.log"))?;
        let (socket, nbd) = (folder.join("mt-source.sock"), folder.join("nbd.sock"));
        let mut source = Source { process, program, configuration, socket, nbd };
        wait_for("mt-source to answer", Duration::from_secs(60), || {
            source.process.check_running()?;
            Ok(source.status().ok())
        })?;
        Ok(source)
    }

    fn configuration(rig: &Rig, options: &SourceOptions, place: &str) -> String {
        let folder = rig.folder.join("source");
        let folder = folder.display();
        let mut text = format!(
            "{place}state_folder = \"{folder}/state\"\nsocket = \"{folder}/mt-source.sock\"\n\
             {tls}[nbd]\nlisten = \"unix:{folder}/nbd.sock\"\n[limits]\nbacklog_mib = {backlog}\n",
            tls = rig.source.section(),
            backlog = options.backlog_mib,
        );
        for (id, path) in &options.disks {
            text += &format!("[[disks]]\nid = \"{id}\"\npath = \"{}\"\n", path.display());
        }
        text + &options.more
    }

    /// The socket that NBD clients connect to.
    pub fn nbd(&self) -> &Path {
        &self.nbd
    }

    /// What NBD clients connect to for a disk.
    pub fn uri(&self, disk: &str) -> String {
        format!("nbd+unix:///{disk}?socket={}", self.nbd.display())
    }

    /// Sets a bookmark, as an administrator does.
    pub fn bookmark(&self, name: &str) -> Result<()> {
        self.command(&["bookmark", name]).map(drop)
    }

    /// Runs `mt-source` for this agent and gives what it printed; its failure is an error with what it said.
    pub fn command(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.program);
        let output = command.args(words).arg("--config").arg(&self.configuration).output()?;
        if !output.status.success() {
            bail!("mt-source {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// What the agent says about itself, asked for over its socket.
    pub fn status(&self) -> Result<Value> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.write_all(b"{\"command\":\"status\"}\n")?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("mt-source answered {line:?}"))
    }

    fn number(&self, name: &str) -> Result<u64> {
        self.status()?[name].as_u64().with_context(|| format!("mt-source tells no {name}"))
    }

    /// Number of the newest change.
    pub fn newest_sequence(&self) -> Result<u64> {
        Ok(self.number("next_sequence")? - 1)
    }

    /// Number of the newest change that the target has durably.
    pub fn durable_sequence(&self) -> Result<u64> {
        self.number("acknowledged_sequence")
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}
