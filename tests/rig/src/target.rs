//! A running master target.

use crate::{Process, Rig, machine, wait_for};
use anyhow::{Context, Result, bail};
use control_api::{API_VERSION, Answer, Call, ItemState, ItemStatus, Reply, Request, Status};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// A target disk of the item.
#[derive(Clone)]
pub struct TargetDisk {
    /// Its id in the change stream.
    pub id: String,
    /// The image, created when missing.
    pub path: PathBuf,
    /// createType, or `raw`.
    pub format: String,
    /// Bytes.
    pub size: u64,
}

/// How to run a master target.
#[derive(Clone)]
pub struct TargetOptions {
    /// Port on the loopback interface.
    pub port: u16,
    /// The item's disks; without any, there is no item in the configuration.
    pub disks: Vec<TargetDisk>,
}

/// A running `mtd`.
pub struct Target {
    process: Process,
    mtctl: PathBuf,
    socket: PathBuf,
}

impl Target {
    /// Starts `mtd` and waits until it answers.
    pub fn start(rig: &Rig, options: &TargetOptions) -> Result<Target> {
        Target::start_with(rig, options, "")
    }

    /// The same, with more text at the end of its configuration, other items for example.
    pub fn start_with(rig: &Rig, options: &TargetOptions, more: &str) -> Result<Target> {
        let folder = rig.folder.join("target");
        for part in ["state", "retention"] {
            std::fs::create_dir_all(folder.join(part))?;
        }
        let socket = folder.join("mtd.sock");
        let configuration = folder.join("mtd.toml");
        std::fs::write(&configuration, Target::configuration(rig, options) + more)?;
        let mut command = machine::command(rig, "mtd")?;
        // As systemd/master-target.service does.
        command.env("MALLOC_ARENA_MAX", "2").arg("--config").arg(&configuration);
        let process = Process::start(command, &folder.join("mtd.log"))?;
        let mut target = Target { process, mtctl: rig.program("mtctl")?, socket };
        wait_for("mtd to answer", Duration::from_secs(60), || {
            target.process.check_running()?;
            let state = target
                .status()
                .ok()
                .map(|status| status.items.iter().all(|i| i.state != ItemState::Starting));
            Ok(state.filter(|ready| *ready))
        })?;
        Ok(target)
    }

    fn configuration(rig: &Rig, options: &TargetOptions) -> String {
        let folder = rig.folder.join("target");
        let folder = folder.display();
        let mut text = format!(
            "listen = \"127.0.0.1:{port}\"\nsocket = \"{folder}/mtd.sock\"\nstate_folder = \"{folder}/state\"\n\
             {tls}[retention]\nfolder = \"{folder}/retention\"\ntrial_folder = {trial}\n",
            trial = rig.trial_folder,
            port = options.port,
            tls = rig.target.section(),
        );
        if !options.disks.is_empty() {
            text += &format!("[[item]]\nname = {:?}\nsource = {:?}\n", rig.item, rig.source.name);
        }
        for TargetDisk { id, path, format, size } in &options.disks {
            let path = path.display();
            text += &format!(
                "[[item.disks]]\nid = \"{id}\"\ntarget = \"{path}\"\nformat = \"{format}\"\nsize = \"{size} B\"\n"
            );
        }
        text
    }

    /// Runs `mtctl` and gives what it printed; its failure is an error with what it said.
    pub fn mtctl(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new(&self.mtctl).arg("--socket").arg(&self.socket).args(arguments).output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("mtctl {} ended with {}: {}", arguments.join(" "), output.status, said.trim());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Everything at a glance, asked for over the local socket.
    pub fn status(&self) -> Result<Status> {
        let mut stream = UnixStream::connect(&self.socket)?;
        let request = Request { api: API_VERSION, call: Call::Status };
        stream.write_all(format!("{}\n", serde_json::to_string(&request)?).as_bytes())?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        match serde_json::from_str(&line).with_context(|| format!("mtd answered {line:?}"))? {
            Reply::Done(Answer::Status(status)) => Ok(*status),
            other => bail!("mtd answered {other:?}"),
        }
    }

    /// The item.
    pub fn item(&self) -> Result<ItemStatus> {
        self.status()?.items.into_iter().next().context("mtd has no item")
    }

    /// Waits until the item is in a state; when it is fenced meanwhile, that is an error that says why.
    pub fn wait_for_state(&mut self, state: ItemState, longest: Duration) -> Result<ItemStatus> {
        wait_for(&format!("the item to be {state}"), longest, || {
            self.process.check_running()?;
            let item = self.item()?;
            if item.state == ItemState::Fenced && state != ItemState::Fenced {
                bail!("the item is fenced: {}", item.detail.unwrap_or_default());
            }
            Ok((item.state == state).then_some(item))
        })
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}
