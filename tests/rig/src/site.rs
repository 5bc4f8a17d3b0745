//! A site where a machine can be protected: all three programs run, both ends are registered, and nothing is replicated
//! until somebody orders it.

use crate::{ConfigurationServer, Rig, Source, SourceOptions, Target, TargetOptions, free_port, wait_for};
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longer than a host takes to be heard.
const LONGEST: Duration = Duration::from_secs(120);
/// MiB of changes that the source keeps.
const BACKLOG_MIB: u64 = 1024;

/// The three programs and what they work on. They are killed in this order.
pub struct Site {
    /// The protected machine.
    pub source: Source,
    /// Where its disks are replicated to.
    pub target: Target,
    /// What both are registered with.
    pub server: ConfigurationServer,
    /// Folder, programs, identities.
    pub rig: Rig,
    /// Folder in which new replicas are made, as the master target's configuration says.
    pub datastore: PathBuf,
    /// Where the source reaches the master target.
    pub address: String,
}

impl Site {
    /// What the master target is registered as.
    pub const TARGET: &str = "mt01.example";
    /// What the source agent is registered as.
    pub const SOURCE: &str = "web01.example";

    /// Starts master target and source agent, which are registered with this server; `disks` are those of the source, id
    /// and image each. The server has heard the master target when this returns.
    pub fn start(rig: Rig, server: ConfigurationServer, disks: Vec<(String, PathBuf)>) -> Result<Site> {
        let datastore = rig.folder.join("datastore");
        std::fs::create_dir_all(&datastore)?;
        let port = free_port()?;
        let replicas = format!("[replicas]\nfolder = {datastore:?}\n");
        let target = Target::start_with(&rig, &TargetOptions { port, disks: Vec::new() }, &replicas)?;
        let options = SourceOptions { port, disks, backlog_mib: BACKLOG_MIB, more: String::new() };
        let source = Source::start_unassigned(&rig, &options)?;
        let site = Site { source, target, server, rig, datastore, address: format!("127.0.0.1:{port}") };
        wait_for("the configuration server to hear the master target", LONGEST, || {
            Ok(site.target.status()?.link.and_then(|link| link.connected_since))
        })?;
        Ok(site)
    }

    /// Registers the ends of a rig with a server.
    pub fn register(rig: &mut Rig, server: &ConfigurationServer) -> Result<()> {
        server.register_target(rig, Site::TARGET)?;
        server.register_source(rig, Site::SOURCE).map(drop)
    }

    /// Has the master target make disks of this format for those of the source, in this folder, and the source replicate
    /// to them: by the commands that people type, which are given. `sizes` are the ids of the disks and their bytes.
    pub fn protect(&self, folder: &Path, format: &str, sizes: &[(&str, u64)]) -> Result<[String; 2]> {
        let mut take = vec!["protect".to_owned(), self.rig.item.clone()];
        take.extend(["--source", Site::SOURCE].map(str::to_owned));
        for (id, size) in sizes {
            take.extend(["--disk".into(), format!("{id}={},size={size},format={format}", folder.display())]);
        }
        let go =
            ["replicate", "--item", &self.rig.item, "--target", &self.address, "--server-name", Site::TARGET];
        self.target.mtctl(&take.iter().map(String::as_str).collect::<Vec<_>>())?;
        self.source.command(&go)?;
        Ok([format!("mtctl {}", take.join(" ")), format!("mt-source {}", go.join(" "))])
    }

    /// Ends all three in order; one that does not end well is an error.
    pub fn stop(&mut self) -> Result<()> {
        self.source.process().stop()?;
        self.target.process().stop()?;
        self.server.process().stop()
    }
}
